// What happens to one's own files, as it happens: GET /api/events, kept open while the page is looked at.

import { isBack } from "./pause.js";

const FIRST_WAIT_MS = 1_000;
const MOST_WAIT_MS = 30_000;
const MOST_ASKED_S = 300; // what a server may ask for by Retry-After
const STEADY_MS = 10_000; // a stream that lived for so long begins to wait anew
const REFUSALS = [400, 401, 403, 404, 405]; // the same question would get the same answer

export class Live {
  #api;
  #session;
  #told;
  #work = new AbortController();
  #token = null;
  #owner = null;
  #last = null; // the id of the newest event

  /**
   * *told* hears of it: opened(missed) when the stream begins, with whether something may have happened meanwhile that it does not
   * tell; event(type, data); state(name, problem), where name is "off", "live", "waiting" (it tries again) or "refused".
   */
  constructor(api, session, told) {
    this.#api = api;
    this.#session = session;
    this.#told = told;
    document.addEventListener("visibilitychange", () => this.#follow());
  }

  /** Follow the session: listen for whoever is signed in, with their newest token. */
  sessionChanged() {
    const { subject } = this.#session;
    if (subject !== this.#owner) this.#last = null;
    this.#owner = subject;
    this.#follow();
  }

  #follow() {
    // A page that nobody looks at holds no connection; it is told what it has missed when it is looked at again.
    const token = document.hidden ? null : this.#session.token;
    if (token === this.#token) return;
    this.#token = token;
    this.#work.abort();
    this.#work = new AbortController();
    if (token !== null) this.#run(this.#work.signal);
    else if (this.#session.subject === null) this.#told.state("off");
  }

  async #run(signal) {
    for (let failures = 0; ; ) {
      let opened = Infinity;
      let problem = { status: 0, retryAfterS: 0 };
      try {
        await this.#api.listen(this.#last, signal, () => {
          opened = performance.now();
          this.#told.state("live");
          this.#told.opened(this.#last === null);
        }, (message) => this.#take(message));
      } catch (caught) {
        problem = caught;
      }
      if (signal.aborted) return;
      if (REFUSALS.includes(problem.status)) {
        this.#told.state(problem.status === 401 ? "off" : "refused", problem);
        return;
      }
      failures = performance.now() - opened > STEADY_MS ? 1 : failures + 1;
      // One break is mended before anybody has read of it.
      if (failures > 1 || problem.status !== 0) this.#told.state("waiting", problem);
      const own = Math.min(FIRST_WAIT_MS * 2 ** (failures - 1), MOST_WAIT_MS) * (0.5 + Math.random() / 2);
      await isBack(Math.max(own, Math.min(problem.retryAfterS ?? 0, MOST_ASKED_S) * 1000), signal).catch(() => {});
      if (signal.aborted) return;
    }
  }

  #take({ id, type, data }) {
    if (id !== null) this.#last = id;
    let said = null;
    try {
      said = JSON.parse(data);
    } catch {
      return; // none of ours
    }
    if (said !== null && typeof said === "object") this.#told.event(type, said);
  }
}
