// The finished transcript as files, as the command line writes them: one cue a segment, in integer milliseconds.

function stamp(milliseconds, marker, hours) {
  const pad = (number, size = 2) => String(number).padStart(size, "0");
  const hour = Math.floor(milliseconds / 3600000);
  const rest = `${pad(Math.floor(milliseconds / 60000) % 60)}:${pad(Math.floor(milliseconds / 1000) % 60)}${marker}${pad(milliseconds % 1000, 3)}`;
  return hours || hour ? `${pad(hour)}:${rest}` : rest;
}

function cues(segments) {
  let earliest = 0;
  return segments.map(({ start, end, text }) => {
    const begin = Math.max(Math.round(1000 * start), earliest);
    earliest = Math.max(Math.round(1000 * end), begin + 1);
    return { begin, end: earliest, text };
  });
}

const escapeCue = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const WRITERS = {
  txt: transcript => transcript.segments.map(segment => `${segment.text}\n`).join(""),
  srt: transcript => cues(transcript.segments).map(({ begin, end, text }, n) =>
    `${n + 1}\n${stamp(begin, ",", true)} --> ${stamp(end, ",", true)}\n${text}\n\n`).join(""),
  vtt: transcript => `WEBVTT\n\n${cues(transcript.segments).map(({ begin, end, text }) =>
    `${stamp(begin, ".")} --> ${stamp(end, ".")}\n${escapeCue(text)}\n\n`).join("")}`,
  json: transcript => `${JSON.stringify(transcript, null, 2)}\n`,
};
const TYPES = { txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt", json: "application/json" };

function save(format, transcript, name) {
  const address = URL.createObjectURL(new Blob([WRITERS[format](transcript)], { type: TYPES[format] }));
  el("a", { href: address, download: `${name.replace(/\.[^.]*$/, "") || "transcript"}.${format}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
