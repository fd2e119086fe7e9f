// In the browser's audio thread: collects the microphone's samples into messages of a twentieth of a second.
registerProcessor("collector", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Int16Array(Math.round(sampleRate / 20));
    this.count = 0;
  }

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this.samples[this.count++] = Math.round(32767 * Math.max(-1, Math.min(1, sample)));
      if (this.count === this.samples.length) {
        this.port.postMessage(this.samples.slice());
        this.count = 0;
      }
    }
    return true;
  }
});
