// The queue of files on their way: at most three at a time, each with its bar, each to be cancelled or tried again.

import { announce, byId, fromTemplate } from "./page.js";
import { counted, sentence, shownName, size } from "./wording.js";

const AT_ONCE = 3;
const MOST_LISTED = 500;
const STATES = {
  signin: "Waits for sign-in",
  queued: "Waits its turn",
  sending: "Uploading",
  checking: "Checking",
  done: "Uploaded",
  cancelled: "Cancelled",
};
const GOING = new Set(["signin", "queued", "sending", "checking"]);

export class Uploads {
  #api;
  #session;
  #stored;
  #items = [];
  #owner = null; // whose files these are: they never go out under another subject

  /** *stored* is called with the record of each file that arrived. */
  constructor(api, session, stored) {
    this.#api = api;
    this.#session = session;
    this.#stored = stored;
    byId("clear-finished").addEventListener("click", () => this.#clearFinished());
    addEventListener("beforeunload", (event) => {
      if (this.#items.some((item) => GOING.has(item.state))) event.preventDefault();
    });
  }

  /** Take *files* into the queue. Without a token they wait for the sign-in. */
  add(files) {
    const room = MOST_LISTED - this.#items.length;
    if (files.length > room) announce(`The list takes ${MOST_LISTED} files at a time; ${files.length - room} were left out.`);
    for (const file of files.slice(0, Math.max(room, 0))) this.#list(file);
    this.#owner ??= this.#session.subject;
    this.#advance();
    this.#summarize();
  }

  /** Follow the session: go on after a sign-in, forget the files if somebody else signed in. */
  sessionChanged() {
    const { subject } = this.#session;
    if (subject !== null && this.#owner !== null && subject !== this.#owner) this.clear();
    if (subject !== null) {
      this.#owner = this.#items.length ? subject : null;
      for (const item of this.#items.filter((each) => each.state === "signin")) this.#show(item, "queued");
    }
    this.#advance();
    this.#summarize();
  }

  /** Stop everything and empty the list. */
  clear() {
    for (const item of this.#items) {
      item.stop.abort();
      item.row.remove();
    }
    this.#items = [];
    this.#owner = null;
    this.#summarize();
  }

  #list(file) {
    const { element, parts } = fromTemplate("queue-row");
    const item = { file, row: element, parts, state: "queued", stop: new AbortController(), idempotencyKey: minted() };
    const name = shownName(file.name);
    parts.name.textContent = name;
    parts.size.textContent = size(file.size);
    parts.bar.setAttribute("aria-label", `Progress of ${name}`);
    parts.again.addEventListener("click", () => (GOING.has(item.state) ? this.#cancel(item) : this.#again(item)));
    parts.drop.textContent = "Remove";
    parts.drop.setAttribute("aria-label", `Remove ${name} from the list`);
    parts.drop.addEventListener("click", () => this.#remove(item));
    this.#items.push(item);
    byId("queue").append(element);
    this.#show(item, "queued");
  }

  #advance() {
    const signedIn = this.#session.token !== null;
    let free = AT_ONCE - this.#items.filter((item) => item.state === "sending" || item.state === "checking").length;
    for (const item of this.#items) {
      if (item.state !== "queued") continue;
      if (!signedIn) this.#show(item, "signin");
      else if (free > 0) {
        free -= 1;
        this.#send(item);
      }
    }
  }

  async #send(item) {
    item.stop = new AbortController();
    const { signal } = item.stop;
    this.#show(item, "sending");
    try {
      const asset = await this.#api.upload(item.file, item.idempotencyKey, { sent: (share) => this.#progress(item, share), signal });
      this.#show(item, "done");
      this.#stored(asset);
    } catch (error) {
      if (signal.aborted) return; // whoever aborted has shown why
      if (error.status === 401) this.#show(item, "signin");
      else this.#show(item, passing(error) ? "failed" : "refused", sentence(error));
    } finally {
      if (!signal.aborted) {
        this.#advance();
        this.#summarize();
      }
    }
  }

  #progress(item, share) {
    if (item.state !== "sending") return;
    if (share >= 1) {
      this.#show(item, "checking");
      return;
    }
    const percent = Math.floor(share * 100);
    item.parts.bar.value = percent;
    item.parts.state.textContent = `${STATES.sending}, ${percent} %`;
  }

  #show(item, state, problem = "") {
    item.state = state;
    item.row.dataset.state = state;
    const { bar, again, drop, name, state: words } = item.parts;
    words.textContent = problem || STATES[state];
    words.classList.toggle("problem", Boolean(problem));
    bar.hidden = !GOING.has(state);
    if (state === "checking") bar.removeAttribute("value"); // how long that takes is not known
    else if (state !== "sending") bar.value = 0;
    const label = GOING.has(state) ? "Cancel" : "Try again";
    again.textContent = label;
    again.setAttribute("aria-label", `${label}: ${name.textContent}`);
    drop.hidden = GOING.has(state);
    if ((state === "done" || state === "refused") && document.activeElement === again) drop.focus();
    again.hidden = state === "done" || state === "refused";
  }

  #cancel(item) {
    item.stop.abort();
    this.#show(item, "cancelled");
    this.#advance();
    this.#summarize();
  }

  #again(item) {
    this.#show(item, "queued");
    this.#advance();
    this.#summarize();
  }

  #remove(item) {
    const next = item.row.nextElementSibling ?? item.row.previousElementSibling;
    item.row.remove();
    this.#items.splice(this.#items.indexOf(item), 1);
    this.#summarize();
    (next ?? byId("choose")).focus();
  }

  #clearFinished() {
    for (const item of this.#items.filter((each) => each.state === "done" || each.state === "cancelled")) item.row.remove();
    this.#items = this.#items.filter((item) => item.row.isConnected);
    this.#summarize();
    byId("choose").focus();
  }

  #summarize() {
    const count = (...states) => this.#items.filter((item) => states.includes(item.state)).length;
    const words = [
      [count("signin"), "waiting for sign-in"],
      [count("queued", "sending", "checking"), "on the way"],
      [count("done"), "uploaded"],
      [count("failed", "refused"), "failed"],
      [count("cancelled"), "cancelled"],
    ].filter(([number]) => number).map(([number, what]) => `${number} ${what}`);
    const text = words.length ? `${counted(this.#items.length, "file")}: ${words.join(", ")}` : "";
    const summary = byId("upload-summary");
    if (summary.textContent !== text) summary.textContent = text;
    byId("clear-finished").hidden = count("done", "cancelled") === 0;
    if (this.#items.length === 0) this.#owner = null;
  }
}

/** Whether the same file may pass later: what the server says of the file itself stays true. */
function passing({ status }) {
  return status === 0 || [408, 409, 429].includes(status) || status >= 500;
}

/** A key no two files share. randomUUID is there only on https and on localhost. */
function minted() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
