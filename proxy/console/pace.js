// How fast bytes go, calm enough to be read.

const STEP_MS = 250;
const MEMORY_MS = 5_000; // what was longer ago counts little
const SURE_MS = 1_000; // before, what the system takes into its buffers looks like speed

export class Pace {
  #begun = 0;
  #at = 0;
  #atBytes = 0;
  #ms = 0;
  #bytes = 0;

  /** Begin to measure: *bytes* are out already. */
  start(bytes) {
    this.#begun = this.#at = performance.now();
    this.#atBytes = bytes;
    this.#ms = this.#bytes = 0;
  }

  /** *bytes* are out now. */
  moved(bytes) {
    if (bytes < this.#atBytes) this.start(bytes); // something was lost, and is sent again
    const passed = performance.now() - this.#at;
    if (passed < STEP_MS) return;
    const fading = Math.exp(-passed / MEMORY_MS);
    this.#ms = this.#ms * fading + passed;
    this.#bytes = this.#bytes * fading + bytes - this.#atBytes;
    this.#at += passed;
    this.#atBytes = bytes;
  }

  /** Null until it can be told. */
  get bytesPerS() {
    return this.#at - this.#begun < SURE_MS ? null : (this.#bytes / this.#ms) * 1000;
  }
}
