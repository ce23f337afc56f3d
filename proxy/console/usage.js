// What one has, and may have: GET /api/usage, asked again when that changes.

import { byId } from "./page.js";
import { counted, size } from "./wording.js";

const SETTLE_MS = 400;
const GAP_MS = 1_000; // however much happens
const NEAR = 0.8;
const FULL = 1;

export class Usage {
  #api;
  #session;
  #owner = null;
  #work = new AbortController();
  #timer = 0;
  #askedAt = -Infinity;

  constructor(api, session) {
    this.#api = api;
    this.#session = session;
  }

  /** Follow the session: show what the caller has, or nothing. */
  sessionChanged() {
    const { subject } = this.#session;
    if (subject === this.#owner) return;
    this.#owner = subject;
    this.#work.abort();
    this.#work = new AbortController();
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#askedAt = -Infinity;
    const usage = byId("usage");
    usage.hidden = subject === null;
    usage.classList.remove("known"); // it keeps its place until it is known, so that what is below does not move
    byId("usage-bytes-label").textContent = "\u00a0";
    for (const id of ["usage-bytes", "usage-objects"]) byId(id).hidden = true;
    for (const id of ["usage-objects-label", "usage-reserved", "usage-note"]) byId(id).textContent = "";
    if (subject !== null) this.changed();
  }

  /** Something was stored, removed or begun. */
  changed() {
    if (this.#timer || this.#session.subject === null) return;
    const soonest = this.#askedAt + GAP_MS - performance.now();
    this.#timer = setTimeout(() => this.#ask(this.#work.signal), Math.max(soonest, SETTLE_MS));
  }

  async #ask(signal) {
    this.#askedAt = performance.now();
    this.#timer = 0;
    try {
      this.#show(await this.#api.usage(signal));
    } catch {
      if (!signal.aborted) byId("usage").classList.remove("known"); // it is asked again when something changes
    }
  }

  #show({ bytes, objects, reserved, quota }) {
    const room = measure("usage-bytes", bytes + reserved.bytes, quota.bytes, (taken, most) => `${size(taken)}${most} used`, size);
    const files = (number) => counted(number, "file");
    const places = measure("usage-objects", objects + reserved.objects, quota.objects, (taken, most) => (most ? `${taken}${most}` : files(taken)), files);
    byId("usage-reserved").textContent = reserved.bytes ? `${size(reserved.bytes)} of it for unfinished uploads` : "";
    const worst = Math.max(room, places);
    const note = byId("usage-note");
    const words =
      worst >= FULL ? "The quota is used up: delete something to make room." : worst >= NEAR ? "The quota is almost used up." : "";
    if (note.textContent !== words) note.textContent = words;
    note.classList.toggle("problem", worst >= FULL);
    byId("usage").classList.add("known");
    byId("usage").hidden = objects + reserved.objects === 0 && quota.bytes === null && quota.objects === null;
  }
}

/** Show *taken*, of *most* where it is not null, in the words of *said* and *written*; gives the share that is taken. */
function measure(id, taken, most, said, written) {
  const [meter, label] = [byId(id), byId(`${id}-label`)];
  label.textContent = said(taken, most === null ? "" : ` of ${written(most)}`);
  meter.hidden = most === null;
  if (most === null) return 0;
  const share = most === 0 ? FULL : taken / most;
  meter.value = Math.min(share, 1);
  meter.style.setProperty("--share", String(meter.value));
  meter.dataset.level = share >= FULL ? "full" : share >= NEAR ? "near" : "";
  meter.textContent = `${Math.round(share * 100)} %`;
  return share;
}
