// Files of the same owner that another device, program or tab is sending: how far they are, and what becomes of them.

import { CHUNKED, Problem, UPLOADS } from "./api.js";
import { Pace } from "./pace.js";
import { byId, fromTemplate } from "./page.js";
import { left, sentence, shownName, size } from "./wording.js";

const MOST = 20;
const STILL_MS = 6_000; // told twice a second while bytes come
const CHECKED_MS = 1_500;
const MOST_STILL_MS = 30_000;
const MOST_ASKED = 40; // then, for about 20 minutes, nothing has come
const MOST_PATIENT = 4; // times that an upload in one request, which cannot be asked about, is waited for
const RESUMABLE = /^[0-9a-f]{32}$/; // one that can be asked about

export class Elsewhere {
  #api;
  #isOurs;
  #changed;
  #rows = new Map(); // the id of an upload -> Row

  /** *isOurs* says whether this page itself sends the upload of an id; *changed* is called when one begins or ends. */
  constructor(api, isOurs, changed) {
    this.#api = api;
    this.#isOurs = isOurs;
    this.#changed = changed;
  }

  /** An upload is so far: {id, filename, receivedBytes, totalBytes}, the name and the total null where they are not known. */
  progress(moment) {
    const { id, filename, receivedBytes, totalBytes } = moment;
    if (typeof id !== "string" || this.#isOurs(id)) return;
    let row = this.#rows.get(id);
    if (!row) {
      if (this.#rows.size >= MOST) return;
      row = new Row(filename, {
        still: () => this.#look(id, row, MOST_PATIENT),
        drop: () => this.#drop(id),
      });
      this.#rows.set(id, row);
      byId("elsewhere-list").append(row.element);
      this.#show();
      tell(`${row.name} is being uploaded elsewhere.`);
    }
    row.moved(Number(receivedBytes) || 0, Number(totalBytes) || null);
  }

  /** An upload that was told of as somebody else's may be this page's, of before it was loaded anew: it is shown once. */
  sift() {
    for (const id of [...this.#rows.keys()]) if (this.#isOurs(id)) this.#drop(id);
  }

  /** Something has become of uploads: ask about those whose bytes are all there. */
  settled() {
    for (const [id, row] of this.#rows) if (row.isWhole) this.#look(id, row, -1);
  }

  /** Forget all of them. */
  clear() {
    for (const id of [...this.#rows.keys()]) this.#drop(id);
  }

  /** See what has become of *id*; what cannot be asked about is waited for until it was looked for more than *patience* times. */
  async #look(id, row, patience) {
    if (this.#isOurs(id)) {
      this.#drop(id);
      return;
    }
    let standing = null;
    try {
      standing = await this.#standing(id, row.stop.signal);
    } catch (problem) {
      if (row.stop.signal.aborted) return;
      if (problem.status === 404 && (RESUMABLE.test(id) || row.asked > patience)) this.#drop(id);
      else row.rests();
      return;
    }
    if (this.#rows.get(id) !== row) return;
    const { state, refusal, offset, length } = standing;
    const isPart = state === "receiving" && offset !== undefined && offset === length; // of a file that is put together later
    if (state === "failed") {
      row.refused(sentence({ status: 422, detail: "", ...refusal }));
      this.#changed();
    } else if (state === "done" || isPart) this.#drop(id);
    else row.rests();
  }

  async #standing(id, signal) {
    if (!RESUMABLE.test(id)) throw new Problem(404);
    try {
      return await this.#api.standing(UPLOADS + id, signal);
    } catch (problem) {
      if (problem.status !== 404) throw problem;
      return this.#api.standing(CHUNKED + id, signal);
    }
  }

  #drop(id) {
    const row = this.#rows.get(id);
    if (!row) return;
    const hadFocus = row.element.contains(document.activeElement);
    row.end();
    this.#rows.delete(id);
    this.#show();
    if (hadFocus) byId("choose").focus();
  }

  #show() {
    byId("elsewhere").hidden = this.#rows.size === 0;
    this.#changed();
  }
}

class Row {
  stop = new AbortController();
  asked = 0; // how often it was looked for since it moved
  #parts;
  #still;
  #pace = new Pace();
  #bytes = -1;
  #total = null;
  #timer = 0;
  #isOver = false;

  /** A row for the file called *filename*. It calls *does*: still when nothing comes, drop to be taken off the page. */
  constructor(filename, does) {
    const { element, parts } = fromTemplate("elsewhere-row");
    this.element = element;
    this.#parts = parts;
    this.name = shownName(filename ?? "A file");
    parts.name.textContent = this.name;
    parts.bar.setAttribute("aria-label", `Progress of ${this.name}, elsewhere`);
    parts.drop.setAttribute("aria-label", `Remove ${this.name} from the list`);
    parts.drop.addEventListener("click", does.drop);
    this.#still = () => {
      this.asked += 1;
      (this.asked > MOST_ASKED ? does.drop : does.still)();
    };
  }

  /** Whether all bytes are there. */
  get isWhole() {
    return this.#total !== null && this.#bytes >= this.#total;
  }

  /** *bytes* of *total* (null: not known) are there. */
  moved(bytes, total) {
    if (this.#isOver) return;
    if (this.#bytes < 0) this.#pace.start(bytes);
    this.asked = 0;
    this.#bytes = bytes;
    this.#total = total;
    this.#pace.moved(bytes);
    this.#wait();
    const { bar } = this.#parts;
    const percent = total ? Math.floor(Math.min(bytes / total, 1) * 100) : null;
    if (percent === null || this.isWhole) bar.removeAttribute("value");
    else bar.value = percent;
    if (this.isWhole) this.#say("checking", "Checking", size(bytes));
    else {
      const { bytesPerS } = this.#pace;
      const rest = total && bytesPerS ? left((total - bytes) / bytesPerS) : "";
      const speed = bytesPerS ? `${size(bytesPerS)}/s` : "";
      const reached = total ? `${size(bytes)} of ${size(total)}` : size(bytes);
      this.#say("sending", percent === null ? "Uploading" : `Uploading, ${percent} %`, [reached, speed, rest].filter(Boolean).join(" · "));
    }
  }

  /** Nothing comes just now. */
  rests() {
    if (this.#isOver) return;
    if (!this.isWhole) {
      this.#say("waiting", "Interrupted", this.#total ? `${size(this.#bytes)} of ${size(this.#total)}` : size(this.#bytes));
    }
    this.#wait();
  }

  /** It did not become an object: *words* say why. */
  refused(words) {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#say("refused", words, "");
    this.#parts.state.classList.add("problem");
    this.#parts.bar.hidden = true;
    this.#parts.drop.hidden = false;
    tell(`${this.name}: ${words}`);
  }

  /** Take it off the page. */
  end() {
    this.stop.abort();
    clearTimeout(this.#timer);
    this.element.remove();
  }

  #say(state, words, figures) {
    this.element.dataset.state = state;
    this.#parts.state.textContent = words;
    this.#parts.pace.textContent = figures;
  }

  #wait() {
    clearTimeout(this.#timer);
    const first = this.isWhole ? CHECKED_MS : STILL_MS;
    this.#timer = setTimeout(this.#still, Math.min(first * 2 ** this.asked, MOST_STILL_MS));
  }
}

/** Say *text* to those who do not see the list. */
function tell(text) {
  byId("elsewhere-told").textContent = text;
}
