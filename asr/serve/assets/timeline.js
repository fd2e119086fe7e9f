// The waveform with the words over it. Only what is in view is drawn, so an hour is as quick as a minute.

const TIMELINE = (() => {
  const RATE = 8000, PER_SECOND = 200; // of the samples drawn, and of the peaks kept, Hz
  const ROWS = 3, ROW = 22, USUAL = 110, MOST = 600; // label rows, their height; pixels a second
  const LARGEST = 80e6; // bytes of a file that is decoded for its picture
  const box = $("#timeline"), track = $("#track"), canvas = $("#track canvas"), labels = $("#labels"), cursor = $("#cursor");
  let peaks = [], loudest = 0, duration = 0, words = [], scale = USUAL, fitted = true, now = -1, scheduled = false, decoding = 0;

  function reset() {
    decoding++;
    [peaks, loudest, duration, words, fitted, now] = [[], 0, 0, [], true, -1];
    cursor.hidden = true;
    $("#no-waveform").hidden = true;
    box.scrollLeft = 0;
    resize();
  }

  async function decode(blob) {
    const own = decoding;
    const say = text => { if (own === decoding) { $("#no-waveform").textContent = text; $("#no-waveform").hidden = false; } };
    if (blob.size > LARGEST) return say("The waveform of so large a file is not drawn.");
    try {
      const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
      if (own !== decoding) return;
      add(decoded.getChannelData(0), RATE);
      track.dataset.drawn = "yes";
    } catch {
      say("The browser cannot read this kind of file, so there is no waveform.");
    }
  }

  // Appends samples: their loudest in each 5 ms.
  const left = { sum: 0, count: 0, peak: 0 };
  function add(samples, rate) {
    if (!peaks.length) Object.assign(left, { count: 0, peak: 0 });
    const size = rate / PER_SECOND;
    for (let i = 0; i < samples.length; i++) {
      left.peak = Math.max(left.peak, Math.abs(samples[i]));
      if (++left.count >= size) {
        peaks.push(left.peak);
        loudest = Math.max(loudest, left.peak);
        left.count -= size;
        left.peak = 0;
      }
    }
    extend(peaks.length / PER_SECOND);
  }

  function extend(seconds) {
    if (seconds > duration) {
      duration = seconds;
      resize();
    }
  }

  function resize() {
    if (fitted) scale = duration ? Math.min(MOST, Math.max(USUAL, box.clientWidth / duration)) : USUAL;
    track.style.width = `${Math.max(box.clientWidth, Math.ceil(duration * scale))}px`;
    layOut();
    draw();
  }

  // Gives each word the first row in which its label does not cover the one before.
  function layOut() {
    const ends = new Array(ROWS).fill(-Infinity);
    for (const word of words) {
      const x = word.start * scale, width = 7.4 * word.word.length + 8;
      let row = ends.findIndex(end => end <= x);
      if (row < 0) row = ends.indexOf(Math.min(...ends));
      word.row = row;
      ends[row] = x + width;
    }
  }

  function show(found) {
    words = found;
    if (words.length) extend(words.at(-1).end);
    layOut();
    draw();
  }

  function follow() { box.scrollLeft = track.offsetWidth; }

  function draw() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => { scheduled = false; paint(); });
  }

  function paint() {
    const [width, height] = [box.clientWidth, track.clientHeight], ratio = devicePixelRatio || 1;
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    const context = canvas.getContext("2d"), style = getComputedStyle(document.body);
    context.scale(ratio, ratio);
    const from = box.scrollLeft, top = ROWS * ROW + 8, bottom = height - 18, middle = (top + bottom) / 2;
    const seen = words.filter(word => word.end * scale >= from - 100 && word.start * scale <= from + width);
    context.fillStyle = style.getPropertyValue("--word");
    for (const word of seen) context.fillRect(word.start * scale - from, top - 4, Math.max(1, (word.end - word.start) * scale - 1), bottom - top + 8);
    context.fillStyle = style.getPropertyValue("--wave");
    for (let x = 0; x < width; x++) {
      const first = Math.floor((from + x) / scale * PER_SECOND), last = Math.max(first + 1, Math.floor((from + x + 1) / scale * PER_SECOND));
      let peak = 0;
      for (let i = first; i < last && i < peaks.length; i++) peak = Math.max(peak, peaks[i]);
      const half = Math.max(.5, (peak / Math.max(loudest, .01)) ** .7 * (bottom - top) / 2); // soft speech shows too
      if (first < peaks.length || !peaks.length) context.fillRect(x, middle - half, 1, 2 * half);
    }
    context.fillStyle = style.getPropertyValue("--muted");
    context.font = "11px system-ui, sans-serif";
    const step = [.5, 1, 2, 5, 10, 30, 60].find(s => s * scale >= 60) ?? 60;
    for (let t = Math.ceil(from / scale / step) * step; t * scale < from + width - 20; t += step)
      context.fillText(step < 1 ? `${t.toFixed(1)}` : clock(t), t * scale - from + 2, height - 5);
    labels.replaceChildren(...seen.map(word => {
      const label = el("button", { type: "button", tabindex: -1, "data-word": word.index, onclick: event => { event.stopPropagation(); TRANSCRIPT.hear(word.index); } }, word.word);
      label.className = word.index === now ? "now" : word.probability < .5 ? "unsure" : "";
      label.style.left = `${word.start * scale}px`;
      label.style.top = `${4 + word.row * ROW}px`;
      return label;
    }));
  }

  function mark(index) {
    now = index;
    for (const label of labels.children) label.classList.toggle("now", Number(label.dataset.word) === index);
  }

  function zoom(factor) {
    const middle = (box.scrollLeft + box.clientWidth / 2) / scale;
    const fit = duration ? box.clientWidth / duration : USUAL;
    fitted = false;
    scale = factor ? Math.min(MOST, Math.max(Math.min(fit, USUAL), scale * factor)) : fit;
    resize();
    box.scrollLeft = middle * scale - box.clientWidth / 2;
  }

  PLAYER.watch(seconds => {
    const x = seconds * scale;
    cursor.hidden = false;
    cursor.style.left = `${x}px`;
    if (x < box.scrollLeft || x > box.scrollLeft + box.clientWidth - 20) box.scrollLeft = x - 40;
  });
  box.addEventListener("scroll", draw);
  track.addEventListener("click", event => PLAYER.play((event.clientX - track.getBoundingClientRect().left) / scale));
  new ResizeObserver(resize).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  $("#zoom-in").addEventListener("click", () => zoom(1.6));
  $("#zoom-out").addEventListener("click", () => zoom(1 / 1.6));
  $("#zoom-fit").addEventListener("click", () => zoom(0));

  return { reset, decode, add, extend, show, follow, mark };
})();
