// Sends a file; the words come back while the rest is still being recognised (server-sent events).

const UPLOAD = (() => {
  let request = null;

  function send(file) {
    TRANSCRIPT.reset(file.name);
    PLAYER.load(file);
    if (file.size > SERVER.maxBytes) return setState("error", `${file.name} has ${Math.ceil(file.size / 1e6)} MB; this server takes up to ${SERVER.maxBytes / 1e6} MB.`);
    TIMELINE.decode(file);
    const form = new FormData();
    form.append("response_format", "verbose_json");
    form.append("timestamp_granularities[]", "word");
    form.append("timestamp_granularities[]", "segment");
    form.append("stream", "true");
    form.append("model", SERVER.model);
    form.append("file", file);
    const begun = performance.now();
    let read = 0, ended = false;
    request = new XMLHttpRequest();
    request.open("POST", SERVER.transcriptions);
    if ($("#token").value) request.setRequestHeader("Authorization", `Bearer ${$("#token").value}`);

    function take() {
      if (request.status !== 200) return;
      for (let end; (end = request.responseText.indexOf("\n\n", read)) >= 0; read = end + 2) {
        const event = request.responseText.slice(read, end);
        if (event.startsWith("data: ")) handle(JSON.parse(event.slice(6)));
      }
    }

    function handle(event) {
      if (event.error) return fail(event.error.message);
      if (event.type === "transcript.text.delta") {
        TRANSCRIPT.add(event.words);
        const total = PLAYER.duration();
        setState("transcribing", total ? `Transcribed ${clock(event.seconds)} of ${clock(total)}` : `Transcribed ${clock(event.seconds)}`, total ? Math.min(1, event.seconds / total) : null);
      } else {
        ended = true;
        TRANSCRIPT.finish(event);
        const seconds = (performance.now() - begun) / 1000;
        setState("done", `${TRANSCRIPT.count()} words in ${event.duration.toFixed(1)} s of audio, after ${seconds.toFixed(1)} s.`);
      }
    }

    function fail(message) {
      ended = true;
      setState("error", message);
    }

    request.upload.addEventListener("progress", event => {
      if (event.lengthComputable && event.loaded < event.total) setState("uploading", `Uploading: ${Math.floor(100 * event.loaded / event.total)}%`, event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => setState("transcribing", "Waiting for the first words …"));
    request.addEventListener("progress", take);
    request.addEventListener("load", () => {
      take();
      if (request.status !== 200) fail(reason(request));
      else if (!ended) fail("The server broke off; try again.");
    });
    request.addEventListener("error", () => ended || fail("The connection to the server broke; is it still running?"));
    request.addEventListener("abort", () => setState("idle", "Cancelled."));
    setState("uploading", "Uploading …", 0);
    request.send(form);
  }

  function reason({ status, responseText }) {
    try {
      return JSON.parse(responseText).error.message;
    } catch {
      return `The server answered with status ${status}.`;
    }
  }

  $("#cancel").addEventListener("click", () => request?.abort());

  return { send };
})();
