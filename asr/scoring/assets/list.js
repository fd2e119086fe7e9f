// The utterances. Only those in view are elements; the heights of the others are estimated until they are seen.

const LIST = (() => {
  const MOST = 100000; // browsers limit how high a page can be
  const PRINTED = 100;
  const place = $("#list");
  let found = [], heights = new Float64Array(0), tops = new Float64Array(1);
  const drawn = new Map(); // row -> element

  function estimate(u, width) {
    const wrong = ALL.some(s => UTTERANCES[u][FIRST + s] !== 0);
    const lines = Math.ceil((UTTERANCES[u][1].length * 9 + 20) / width);
    return wrong ? 45 + lines * (26 * (SYSTEMS.length + 1) + 5) : 45 + lines * 23;
  }

  function layOut() {
    tops = new Float64Array(found.length + 1);
    for (let row = 0; row < found.length; row++) tops[row + 1] = tops[row] + heights[row];
    place.style.height = `${tops[found.length]}px`;
  }

  function rowAt(y) {
    let low = 0, high = found.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (tops[middle + 1] <= y) low = middle + 1; else high = middle;
    }
    return low;
  }

  // What is drawn may turn out lower than estimated, and leave room for more.
  function draw() {
    for (let round = 0; round < 5 && drawOnce(); round++);
  }

  function drawOnce() {
    const from = -place.getBoundingClientRect().top; // of the window, in the list
    const first = Math.min(rowAt(from - 400), Math.max(0, found.length - 1));
    const last = Math.min(found.length, rowAt(from + window.innerHeight + 400) + 1);
    for (const [row, element] of drawn) {
      if (row < first || row >= last) { element.remove(); drawn.delete(row); }
    }
    let fresh = false;
    for (let row = first; row < last; row++) {
      if (drawn.has(row)) continue;
      const element = article(found[row]);
      drawn.set(row, element);
      place.append(element);
      fresh = true;
    }
    const changed = fresh && measure(rowAt(from));
    for (const [row, element] of drawn) element.style.top = `${tops[row]}px`;
    return changed;
  }

  // Take the true heights, keep what is at the top of the window where it is, and tell whether any changed.
  function measure(anchor) {
    const before = tops[anchor];
    let changed = false;
    for (const [row, element] of drawn) {
      const height = element.offsetHeight;
      if (heights[row] !== height) { heights[row] = height; changed = true; }
    }
    if (!changed) return false;
    layOut();
    const shift = tops[anchor] - before;
    if (Math.abs(shift) >= 1 && place.getBoundingClientRect().top < 0) window.scrollBy(0, shift);
    return true;
  }

  function set(rows) {
    found = rows.slice(0, MOST);
    const width = Math.max(200, place.clientWidth);
    heights = Float64Array.from(found, u => estimate(u, width));
    drawn.forEach(element => element.remove());
    drawn.clear();
    layOut();
    draw();
  }

  let waiting = false;
  const later = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };
  window.addEventListener("scroll", later, { passive: true });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return later();
    width = window.innerWidth;
    set(found);
  });
  // On paper nothing scrolls: the first ones stand one below the other.
  window.addEventListener("beforeprint", () => {
    const rest = found.length - PRINTED;
    place.classList.add("printed");
    place.style.height = "";
    place.replaceChildren(...found.slice(0, PRINTED).map(article), rest > 0 ? `and ${count(rest)} more` : "");
  });
  window.addEventListener("afterprint", () => {
    place.classList.remove("printed");
    place.replaceChildren();
    set(found);
  });
  return { set, MOST };
})();

function article(u) {
  const [id, , audio] = UTTERANCES[u];
  const facts = DATA.fields.filter(field => field.shown).map(field => el("span", { dir: "auto" }, field.groups[field.members[u]]));
  if (DATA.durations && DATA.durations[u] !== null) facts.push(el("span", {}, seconds(DATA.durations[u])));
  SYSTEMS.forEach((system, s) => facts.push(el("span", {}, several ? `${system.name}: ${verdict(s, u)}` : verdict(s, u))));
  if (audio) {
    const open = () => PLAYER.open(u);
    facts.push(el("button", { type: "button", class: "play", "aria-label": `Play ${id}`, onclick: open }, "▶ audio"));
  }
  const head = el("div", { class: "head" }, el("b", { dir: "auto" }, id), facts);
  const same = ALL.every(s => UTTERANCES[u][FIRST + s] === 0);
  const text = plain(UTTERANCES[u][1]) || "(nothing said, nothing recognised)";
  const body = same ? el("p", { class: "words", dir: "auto" }, text) : blocks(u);
  return el("article", { class: DATA.unit === "word" ? null : "characters", "data-id": id }, head, body);
}

function verdict(s, u) {
  const errors = numErrors(s, u);
  return errors ? `${count(errors)} ${errors === 1 ? "error" : "errors"}, ${percent(errorRate(s, u))}` : "correct";
}

// One block with a line for the reference and one for each system, or a block for each system where these took
// different alternatives of the reference.
function blocks(u) {
  const cells = ALL.map(s => alignment(s, u));
  const said = cells.map(list => list.filter(cell => cell[0] !== "I").map(cell => cell[1]).join("\n"));
  if (said.every(text => text === said[0])) return block(cells, ALL);
  return ALL.map(s => block([cells[s]], [s]));
}

function block(alignments, systems) {
  const labels = el("div", { class: "labels", "aria-hidden": "true" }, el("span", {}, several ? "reference" : "REF"),
    systems.map(s => el("span", { title: SYSTEMS[s].name }, several ? ending(SYSTEMS[s].name) : "HYP")));
  // A column holds a reference token, or the k-th insertion before it in each system.
  const at = alignments.map(() => 0);
  const columns = [];
  const length = alignments[0].filter(cell => cell[0] !== "I").length;
  for (let r = 0; r <= length; r++) {
    for (let k = 0, any = true; any; k++) {
      const inserted = alignments.map((list, s) => list[at[s]]?.[0] === "I" ? list[at[s]++] : null);
      any = inserted.some(Boolean);
      if (any) columns.push(column("", inserted));
    }
    if (r < length) columns.push(column(alignments[0][at[0]][1], alignments.map((list, s) => list[at[s]++])));
  }
  return el("div", { class: "aligned" }, labels, el("div", { class: "cells", dir: "auto" }, columns));
}

// Names differ at the end more often than at the beginning.
const ending = name => name.length > 16 ? `…${name.slice(-15)}` : name;
const NAMES = { S: "substituted", D: "deleted", I: "inserted" };

function column(reference, cells) {
  // A text without spaces is one long word, and may be broken to be seen whole.
  const long = reference.length > 24 || cells.some(cell => cell !== null && cell[2].length > 24) ? " long" : "";
  return el("span", {}, el("i", { class: long || null }, visible(reference)),
    cells.map(cell => el("i", cell === null ? {} : { class: cell[0] + long, title: NAMES[cell[0]] }, cell === null ? null : visible(cell[2]))));
}
