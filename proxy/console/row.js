// One file in the list of uploads, as it is seen: name, state, bar, pace, and what can be done with it now.

import { byId, fromTemplate } from "./page.js";
import { left, shownName, size } from "./wording.js";

const WORDS = {
  signin: "Waits for sign-in",
  queued: "Waits its turn",
  sending: "Uploading",
  checking: "Checking",
  paused: "Paused",
  unfinished: "Choose the same file again to go on",
  ending: "Cancelling",
  done: "Uploaded",
  cancelled: "Cancelled",
};
const STEERED = { signin: "Pause", queued: "Pause", sending: "Pause", waiting: "Pause", paused: "Resume", unfinished: "Choose file" };
const OPEN_ENDED = new Set(["checking", "ending"]); // how long they take is not known
const OVER = new Set(["done", "refused", "failed", "cancelled"]);
const TEXT_MS = 500; // figures that change faster cannot be read

export class Row {
  #element;
  #parts;
  #total;
  #isLarge;
  #state = "";
  #bytes = 0;
  #toldAt = 0;

  /** A row at the end of the list for the file called *name*, of *total* bytes. Its buttons call *does*: steer, end, drop. */
  constructor(name, total, isLarge, does) {
    const { element, parts } = fromTemplate("queue-row");
    this.#element = element;
    this.#parts = parts;
    this.#total = total;
    this.#isLarge = isLarge;
    this.name = shownName(name);
    element.toggleAttribute("data-large", isLarge);
    parts.name.textContent = this.name;
    parts.size.textContent = size(total);
    parts.bar.setAttribute("aria-label", `Progress of ${this.name}`);
    parts.steer.addEventListener("click", does.steer);
    parts.again.addEventListener("click", does.end);
    parts.drop.addEventListener("click", does.drop);
    parts.drop.textContent = "Remove";
    parts.drop.setAttribute("aria-label", `Remove ${this.name} from the list`);
    byId("queue").append(element);
  }

  /** Show *state*, with *words* of its own where there are some; as a fault if it is one. */
  show(state, words = "", isFault = false) {
    const { bar, again, drop, steer, state: told, pace } = this.#parts;
    this.#state = state;
    this.#element.dataset.state = state;
    told.textContent = words || WORDS[state];
    told.classList.toggle("problem", isFault);
    bar.hidden = OVER.has(state);
    if (state === "cancelled" || (!this.#isLarge && state !== "sending")) this.#bytes = bar.value = 0;
    if (state !== "sending") this.#tell(null);
    if (OPEN_ENDED.has(state)) for (const name of ["value", "aria-valuetext"]) bar.removeAttribute(name);
    pace.hidden = !this.#isLarge || OVER.has(state) || OPEN_ENDED.has(state);
    this.#call(again, OVER.has(state) ? "Try again" : "Cancel");
    this.#call(steer, STEERED[state] ?? "Pause");
    const held = document.activeElement;
    again.hidden = state === "done" || state === "refused" || state === "ending";
    steer.hidden = !this.#isLarge || !(state in STEERED);
    drop.hidden = !OVER.has(state);
    if (held?.hidden && this.#element.contains(held)) ([again, drop].find((one) => !one.hidden) ?? this.#element).focus();
  }

  /** Show that *bytes* are out, at a speed of *bytesPerS*, null where it is not known or the file stands still. */
  progress(bytes, bytesPerS = null) {
    const { bar, state } = this.#parts;
    this.#bytes = bytes;
    bar.value = this.#percent;
    const isSending = this.#state === "sending";
    if (isSending) state.textContent = `${WORDS.sending}, ${this.#percent} %`;
    if (!isSending || performance.now() - this.#toldAt >= TEXT_MS) this.#tell(bytesPerS);
  }

  /** Take it off the page. With *isHeld* the focus goes to its neighbour. */
  remove(isHeld = false) {
    const next = this.#element.nextElementSibling ?? this.#element.previousElementSibling;
    this.#element.remove();
    if (isHeld) (next ?? byId("choose")).focus();
  }

  get #percent() {
    return Math.floor((this.#bytes / this.#total) * 100);
  }

  #tell(bytesPerS) {
    if (!this.#isLarge) return;
    const rest = bytesPerS ? left((this.#total - this.#bytes) / bytesPerS) : "";
    const speed = bytesPerS === null ? "" : `${size(bytesPerS)}/s`;
    this.#toldAt = performance.now();
    this.#parts.pace.textContent = [`${size(this.#bytes)} of ${size(this.#total)}`, speed, rest].filter(Boolean).join(" · ");
    this.#parts.bar.setAttribute("aria-valuetext", [`${this.#percent} %`, rest].filter(Boolean).join(", "));
  }

  #call(button, label) {
    button.textContent = label;
    button.setAttribute("aria-label", `${label}: ${this.name}`);
  }
}
