// The words: they come one after the other, and are grouped by the server's segments once it has finished.

const TRANSCRIPT = (() => {
  const PAUSE = .8; // seconds that begin a new line until then
  const place = $("#words");
  let name = "", words = [], segments = [], text = "", duration = 0, buttons = [], now = -1;

  function reset(title) {
    [name, words, segments, text, duration, buttons, now] = [title, [], [], "", 0, [], -1];
    $("#name").textContent = title;
    $("#result").hidden = false;
    place.replaceChildren();
    $("#hint").textContent = "Click a word to hear it. With the keyboard: arrow keys between words, Enter to hear one.";
    TIMELINE.reset();
  }

  function wordButton(word) {
    const button = el("button", { type: "button", tabindex: word.index ? -1 : 0, "data-word": word.index,
      title: `${word.start.toFixed(2)} to ${word.end.toFixed(2)} s, probability ${Math.round(100 * word.probability)}%`,
      class: word.probability < .5 ? "unsure" : null, onclick: () => hear(word.index) }, word.word);
    buttons[word.index] = button;
    return button;
  }

  function line(start) {
    const words_ = el("span");
    place.append(el("p", {}, el("time", {}, clock(start)), words_));
    return words_;
  }

  function clearPartial() {
    const partial = $("#partial"), into = partial?.closest("p");
    partial?.remove();
    if (into && !into.querySelector("button")) into.remove();
  }

  function add(found) {
    clearPartial();
    for (const word of found) {
      const last = words.at(-1);
      word.index = words.length;
      words.push(word);
      const into = !last || word.start - last.end > PAUSE ? line(word.start) : place.lastElementChild.lastElementChild;
      into.append(wordButton(word), " ");
    }
    if (found.length) TIMELINE.show(words);
  }

  function setPartial(heard) {
    clearPartial();
    if (heard) (place.lastElementChild?.lastElementChild ?? line(0)).append(el("span", { id: "partial" }, heard));
  }

  function finish(result) {
    setPartial("");
    ({ segments, text, duration } = result);
    TIMELINE.extend(duration);
    place.replaceChildren();
    let at = 0;
    segments.forEach((segment, s) => {
      const into = line(segment.start);
      for (; at < words.length && (s === segments.length - 1 || words[at].start < segments[s + 1].start); at++) into.append(wordButton(words[at]), " ");
    });
    if (!words.length) place.append(el("p", { id: "none" }, "No words were recognised."));
  }

  function hear(index) {
    const { start, end } = words[index];
    focusOn(index);
    PLAYER.play(start, end + .05);
  }

  // One word of all can be reached with the tab key; the arrow keys choose which.
  function focusOn(index, focus = false) {
    for (const button of place.querySelectorAll('button[tabindex="0"]')) button.tabIndex = -1;
    buttons[index].tabIndex = 0;
    if (focus) buttons[index].focus();
  }

  place.addEventListener("keydown", event => {
    const at = Number(event.target.dataset?.word);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: words.length - 1 }[event.key];
    if (to === undefined || !buttons[to]) return;
    event.preventDefault();
    focusOn(to, true);
  });

  PLAYER.watch(seconds => {
    let low = 0, high = words.length; // the last word that has begun
    while (low < high) {
      const middle = (low + high) >> 1;
      if (words[middle].start <= seconds + 1e-3) low = middle + 1;
      else high = middle;
    }
    const index = low && seconds < words[low - 1].end + .05 ? low - 1 : -1;
    if (index === now) return;
    buttons[now]?.classList.remove("now");
    buttons[index]?.classList.add("now");
    now = index;
    TIMELINE.mark(index);
  });

  const plain = ({ word, start, end, probability }) => ({ word, start, end, probability });
  const content = () => ({ text, duration, model: SERVER.model, segments, words: words.map(plain) });
  for (const button of document.querySelectorAll("[data-format]")) button.addEventListener("click", () => save(button.dataset.format, content(), name));
  $("#copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    $("#status").textContent = "Copied.";
  });

  return { reset, add, setPartial, finish, hear, count: () => words.length };
})();
