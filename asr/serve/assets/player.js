// Plays the whole recording or one word of it, and tells where it is.

const PLAYER = (() => {
  const audio = $("#audio"), watchers = [];
  let address = null, stopAt = null, frame = 0;

  function load(blob) {
    audio.pause();
    if (address) URL.revokeObjectURL(address);
    address = blob && URL.createObjectURL(blob);
    audio.hidden = !blob;
    if (blob) audio.src = address;
    else audio.removeAttribute("src");
  }

  function play(start, end = null) {
    if (!address) return;
    audio.currentTime = start;
    stopAt = end;
    audio.play().catch(() => {}); // a browser may want a second press; the controls are there
  }

  function follow() {
    if (stopAt !== null && audio.currentTime >= stopAt) audio.pause();
    for (const watcher of watchers) watcher(audio.currentTime);
    frame = audio.paused ? 0 : requestAnimationFrame(follow);
  }

  audio.addEventListener("play", () => { frame ||= requestAnimationFrame(follow); });
  audio.addEventListener("pause", () => { stopAt = null; });
  audio.addEventListener("seeked", () => watchers.forEach(watcher => watcher(audio.currentTime)));
  audio.addEventListener("error", () => {
    if (address) $("#hint").textContent = "The browser cannot play this kind of file; the words and their times are right all the same.";
  });

  return { load, play, watch: watcher => watchers.push(watcher), duration: () => Number.isFinite(audio.duration) ? audio.duration : 0 };
})();
