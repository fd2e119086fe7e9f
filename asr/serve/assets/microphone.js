// The microphone to the server over a WebSocket, and the words as they become certain.

const MICROPHONE = (() => {
  let context = null, stream = null, socket = null, chunks = [], rate = 0, segments = [], broken = false;

  async function start() {
    if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode)
      return setState("error", "The browser gives no microphone to this page: open it as localhost or over https.");
    [chunks, segments, broken] = [[], [], false];
    setState("finishing", "Waiting for the microphone …");
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false } });
    } catch (error) {
      return setState("error", error.name === "NotAllowedError" ? "The browser was told not to let this page listen." : "There is no microphone.");
    }
    context = new AudioContext();
    rate = context.sampleRate;
    const module_ = URL.createObjectURL(new Blob([$("#worklet").textContent], { type: "text/javascript" }));
    await context.audioWorklet.addModule(module_);
    URL.revokeObjectURL(module_);
    TRANSCRIPT.reset(`Recording of ${new Date().toLocaleString()}`);
    PLAYER.load(null);
    connect();
  }

  function connect() {
    const token = $("#token").value;
    const encoded = btoa(String.fromCharCode(...new TextEncoder().encode(token))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    const address = new URL(`${SERVER.live}?sample_rate=${rate}`, location.href.replace(/^http/, "ws"));
    socket = new WebSocket(address, token ? [SERVER.liveProtocol, `asr.token.${encoded}`] : [SERVER.liveProtocol]);
    socket.addEventListener("message", event => handle(JSON.parse(event.data)));
    socket.addEventListener("close", () => {
      release();
      if (busy()) fail("The server closed the connection: a wrong token, too many live streams, or it is stopping.");
    });
  }

  function handle(message) {
    if (message.type === "ready") listen(message);
    else if (message.type === "error") fail(message.error.message);
    else if (message.type === "update") {
      TRANSCRIPT.add(message.words);
      TRANSCRIPT.setPartial(message.partial);
      segments.push(...message.segments);
      TIMELINE.follow();
    } else if (message.type === "done") {
      release();
      PLAYER.load(wav());
      TRANSCRIPT.finish({ text: message.text, duration: message.duration, segments });
      setState("done", `${TRANSCRIPT.count()} words in ${message.duration.toFixed(1)} s of speech.`);
    }
  }

  function listen({ delay }) {
    const node = new AudioWorkletNode(context, "collector", { channelCount: 1, channelCountMode: "explicit" });
    node.port.addEventListener("message", ({ data }) => {
      if (document.body.dataset.state !== "listening") return;
      chunks.push(data);
      socket.send(data);
      TIMELINE.add(Float32Array.from(data, sample => sample / 32768), rate);
      TIMELINE.follow();
    });
    node.port.start();
    context.createMediaStreamSource(stream).connect(node);
    setState("listening", delay === null ? "Listening. Words are final after a pause." : `Listening. Words are final after ${delay.toFixed(1)} s.`);
  }

  function stop() {
    setState("finishing", "Finishing …");
    socket.send(JSON.stringify({ type: "finish" }));
  }

  function fail(message) {
    release();
    socket.close();
    if (chunks.length) PLAYER.load(wav());
    setState("error", message);
  }

  function release() {
    stream?.getTracks().forEach(track => track.stop());
    context?.close();
    stream = context = null;
  }

  // What was spoken, to be heard again: 16-bit samples behind a RIFF header.
  function wav() {
    const size = 2 * chunks.reduce((sum, chunk) => sum + chunk.length, 0), header = new DataView(new ArrayBuffer(44));
    const text = (at, letters) => [...letters].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF"); header.setUint32(4, 36 + size, true); text(8, "WAVEfmt ");
    header.setUint32(16, 16, true); header.setUint16(20, 1, true); header.setUint16(22, 1, true);
    header.setUint32(24, rate, true); header.setUint32(28, 2 * rate, true);
    header.setUint16(32, 2, true); header.setUint16(34, 16, true); text(36, "data"); header.setUint32(40, size, true);
    return new Blob([header, ...chunks], { type: "audio/wav" });
  }

  $("#speak").addEventListener("click", () => document.body.dataset.state === "listening" ? stop() : busy() || start());
})();
