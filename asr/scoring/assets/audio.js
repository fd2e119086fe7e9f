// Plays an utterance and draws its spectrogram, from audio within the page or a file beside it.

const PLAYER = (() => {
  const audio = $("#player audio"), canvas = $("#spectrogram canvas"), cursor = $("#spectrogram i");
  const message = $("#player-message"), choose = $("#player-choose");
  const picked = new Map(); // file name -> files of that name that the reader chose
  const RATE_HZ = 16000, SIZE = 512;
  let current = null, span = [0, 0], objectUrl = null, fragment = "", elsewhere = false;

  const address = path => path.split("/").map(encodeURIComponent).join("/");

  function pickedFile(path) {
    const parts = path.split("/").reverse();
    const shared = file => {
      const names = (file.webkitRelativePath || file.name).split("/").reverse();
      let same = 0;
      while (same < names.length && names[same] === parts[same]) same++;
      return same;
    };
    const files = picked.get(parts[0]) ?? [];
    return files.reduce((best, file) => best === null || shared(file) > shared(best) ? file : best, null);
  }

  async function open(u) {
    current = u;
    const [file, offset, duration] = UTTERANCES[u][2];
    const { path, base64, type } = DATA.audio[file];
    $("#player").hidden = false;
    $("#player-id").textContent = UTTERANCES[u][0];
    $("#spectrogram").hidden = choose.hidden = true;
    message.textContent = "";
    document.body.style.paddingBottom = "16rem";
    if (objectUrl) URL.revokeObjectURL(objectUrl);
    objectUrl = null;
    const blob = base64 ? new Blob([bytes(base64)], { type }) : pickedFile(path);
    const source = blob ? objectUrl = URL.createObjectURL(blob) : address(path);
    fragment = offset || duration !== null ? `#t=${offset}${duration === null ? "" : `,${offset + duration}`}` : "";
    elsewhere = Boolean(blob);
    audio.src = source + fragment;
    audio.play().catch(() => {}); // a browser may want a second press; the controls are there
    let data = null;
    try {
      if (blob) data = await blob.arrayBuffer();
      else if (location.protocol !== "file:") data = await (await fetch(source)).arrayBuffer();
    } catch {} // said below
    if (current !== u) return;
    if (data === null) {
      message.textContent = "A browser keeps a page that was opened from a file from reading other files, so there is no spectrogram yet. " +
        "Choose the folder with the audio, or make the page with --embed-audio.";
      choose.hidden = false;
      return;
    }
    try {
      const decoded = await new OfflineAudioContext(1, 1, RATE_HZ).decodeAudioData(data);
      if (current === u) draw(decoded, offset, duration);
    } catch {
      if (current === u) message.textContent = `The browser cannot decode ${path}.`;
    }
  }

  function bytes(base64) {
    const text = atob(base64), data = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) data[i] = text.charCodeAt(i);
    return data;
  }

  function draw(decoded, offset, duration) {
    const samples = decoded.getChannelData(0).subarray(Math.round(offset * RATE_HZ), duration === null ? undefined : Math.round((offset + duration) * RATE_HZ));
    span = [offset, samples.length / RATE_HZ];
    const [width, height] = [canvas.width, canvas.height];
    const window_ = Float32Array.from({ length: SIZE }, (_, i) => .5 - .5 * Math.cos(2 * Math.PI * i / SIZE));
    const bins = SIZE / 2;
    const powers = new Float32Array(width * bins);
    const real = new Float32Array(SIZE), imaginary = new Float32Array(SIZE);
    let loudest = 0, loudestAbove = 0; // above 4 kHz
    for (let x = 0; x < width; x++) {
      const start = Math.round((x + .5) * samples.length / width - SIZE / 2);
      for (let i = 0; i < SIZE; i++) real[i] = (samples[start + i] ?? 0) * window_[i];
      imaginary.fill(0);
      fft(real, imaginary);
      for (let bin = 0; bin < bins; bin++) {
        const power = real[bin] ** 2 + imaginary[bin] ** 2;
        powers[x * bins + bin] = power;
        if (power > loudest) loudest = power;
        if (bin > bins * .52 && power > loudestAbove) loudestAbove = power;
      }
    }
    // Telephone speech, at 8 kHz, has nothing in the upper half.
    const perLine = loudestAbove < loudest * 1e-6 ? bins / 2 / height : bins / height;
    $(".hz.top").textContent = perLine * height === bins ? "8 kHz" : "4 kHz";
    const image = new ImageData(width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const bin = (height - 1 - y) * perLine;
        let power = 0;
        for (let k = 0; k < perLine; k++) power = Math.max(power, powers[x * bins + bin + k]);
        const color = heat(1 + Math.log10(power / loudest + 1e-12) / 7); // 70 dB
        image.data.set([...color, 255], 4 * (y * width + x));
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    canvas.dataset.utterance = UTTERANCES[current][0];
    $("#spectrogram").hidden = false;
    move();
  }

  function heat(level) {
    const stops = [[0, 0, 8], [66, 15, 104], [165, 44, 96], [245, 125, 21], [252, 255, 180]];
    const at = Math.max(0, Math.min(.9999, level)) * (stops.length - 1);
    const low = Math.floor(at);
    return [0, 1, 2].map(c => stops[low][c] + (at - low) * (stops[low + 1][c] - stops[low][c]));
  }

  // In place, radix 2 (Cooley and Tukey, 1965).
  function fft(real, imaginary) {
    const n = real.length;
    for (let i = 1, j = 0; i < n; i++) {
      let bit = n >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) { [real[i], real[j]] = [real[j], real[i]]; [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]]; }
    }
    for (let length = 2; length <= n; length *= 2) {
      for (let k = 0; k < length / 2; k++) {
        const cos = Math.cos(2 * Math.PI * k / length), sin = -Math.sin(2 * Math.PI * k / length);
        for (let a = k; a < n; a += length) {
          const b = a + length / 2;
          const re = real[b] * cos - imaginary[b] * sin, im = real[b] * sin + imaginary[b] * cos;
          real[b] = real[a] - re; imaginary[b] = imaginary[a] - im;
          real[a] += re; imaginary[a] += im;
        }
      }
    }
  }

  function move() {
    const share = span[1] ? (audio.currentTime - span[0]) / span[1] : 0;
    cursor.style.left = `${100 * Math.max(0, Math.min(1, share))}%`;
    if (!audio.paused) requestAnimationFrame(move);
  }

  audio.addEventListener("play", move);
  audio.addEventListener("seeked", move);
  audio.addEventListener("error", () => {
    if (current === null) return;
    const { path } = DATA.audio[UTTERANCES[current][2][0]];
    if (!elsewhere) { // perhaps the page was moved: look from where it was made
      elsewhere = true;
      audio.src = DATA.folder + address(path) + fragment;
      audio.play().catch(() => {});
    } else if (objectUrl) {
      message.textContent = `The browser cannot play ${path}.`;
    } else {
      message.textContent = `${path} was not found from here, or the browser cannot play it. Choose the folder with the audio.`;
      choose.hidden = false;
    }
  });
  $("#spectrogram").addEventListener("click", event => {
    const box = canvas.getBoundingClientRect();
    audio.currentTime = span[0] + span[1] * (event.clientX - box.left) / box.width;
  });
  choose.querySelector("input").addEventListener("change", event => {
    for (const file of event.target.files) picked.set(file.name, [...(picked.get(file.name) ?? []), file]);
    if (pickedFile(DATA.audio[UTTERANCES[current][2][0]].path)) open(current);
    else message.textContent = "The audio of this utterance is not in that folder.";
  });
  $("#player-close").addEventListener("click", () => {
    current = null;
    audio.removeAttribute("src");
    audio.load();
    $("#player").hidden = true;
    document.body.style.paddingBottom = "";
  });
  return { open };
})();
