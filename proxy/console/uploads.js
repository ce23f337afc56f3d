// The queue of files on their way: at most three at a time, each to be cancelled or tried again. Large ones also pause, get over a
// line that breaks, and outlive the page.

import { Problem } from "./api.js";
import { announce, byId } from "./page.js";
import { Row } from "./row.js";
import { LargeTransfer, SmallTransfer, isLarge } from "./transfers.js";
import { look, passing } from "./tus.js";
import { kept, noted, onStruck, strike } from "./unfinished.js";
import { counted, sentence, shownName } from "./wording.js";

const AT_ONCE = 3;
const MOST_LISTED = 500;
const AT_WORK = new Set(["sending", "waiting", "checking"]);
const GOING = new Set(["signin", "queued", ...AT_WORK]);
const STANDING = new Set(["paused", "unfinished"]);
const TO_BE_CHOSEN = new Set(["unreadable", "elsewhere"]);

export class Uploads {
  #api;
  #session;
  #stored;
  #listed;
  #items = [];
  #owner = null; // whose files these are: they never go out under another subject
  #restoring = new AbortController();
  #sought = null; // the item that a file is being chosen for

  /** *stored* is called with the record of each file that arrived, *listed* when a file has come into the list. */
  constructor(api, session, stored, listed) {
    this.#api = api;
    this.#session = session;
    this.#stored = stored;
    this.#listed = listed;
    byId("clear-finished").addEventListener("click", () => this.#clearFinished());
    const input = byId("same-file");
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = "";
      if (file) this.#chosen(this.#sought, file);
    });
    addEventListener("beforeunload", (event) => {
      if (this.#items.some((item) => GOING.has(item.state))) event.preventDefault();
    });
    onStruck((address) => {
      for (const item of this.#items) if (item.state === "unfinished" && item.transfer.address === address) this.#remove(item);
    });
  }

  /** Take *files* into the queue; one that was under way before goes on. Without a token they wait for the sign-in. */
  async add(files) {
    const room = MOST_LISTED - this.#items.length;
    if (files.length > room) announce(`The list takes ${MOST_LISTED} files at a time; ${files.length - room} were left out.`);
    for (const file of files.slice(0, Math.max(room, 0))) {
      const sought = this.#items.find((item) => item.state === "unfinished" && item.transfer.looksLike(file));
      if (sought && (await sought.transfer.take(file))) this.#show(sought, "queued");
      else this.#list(file);
    }
    this.#owner ??= this.#session.subject;
    this.#advance();
  }

  /** Follow the session: go on after a sign-in, forget the files if somebody else signed in. */
  sessionChanged() {
    const { subject } = this.#session;
    if (subject !== null && this.#owner !== null && subject !== this.#owner) this.clear();
    if (subject !== null) {
      this.#owner = this.#items.length ? subject : null;
      for (const item of this.#items.filter((each) => each.state === "signin")) this.#show(item, "queued");
      this.#restoring.abort();
      this.#restoring = new AbortController();
      for (const entry of noted(subject)) this.#restore(entry, this.#restoring.signal);
    }
    this.#advance();
  }

  /** Whether the upload *id* is sent from this page. */
  isOurs(id) {
    return this.#items.some((item) => item.transfer.is(id));
  }

  /** Stop everything and empty the list. What is unfinished stays noted for its owner. */
  clear() {
    this.#restoring.abort();
    for (const item of this.#items) {
      item.stop.abort();
      if (item.isLarge) item.transfer.letGo();
      item.row.remove();
    }
    this.#items = [];
    this.#summarize();
  }

  #list(file, entry = null) {
    const { name, size } = entry ?? file;
    const item = { isLarge: isLarge({ size }), state: "", stop: new AbortController() };
    item.row = new Row(name, size, item.isLarge, {
      steer: () => this.#steer(item),
      end: () => (GOING.has(item.state) || STANDING.has(item.state) ? this.#cancel(item) : this.#again(item)),
      drop: () => this.#drop(item),
    });
    const show = (state, words) => this.#show(item, state, words);
    const Transfer = item.isLarge ? LargeTransfer : SmallTransfer;
    item.transfer = new Transfer(this.#api, file, item.row, show, entry);
    if (item.isLarge) item.row.progress(0);
    this.#items.push(item);
    this.#show(item, "queued");
    this.#listed();
    return item;
  }

  /** List what *entry* notes of an upload of an earlier page, once no other tab is at work on it. */
  async #restore(entry, signal) {
    const isListed = () => this.#items.some((item) => item.transfer.address === entry.address);
    if (isListed()) return;
    let offset = null;
    try {
      (await kept(entry.address, { isPatient: true, signal }))();
      offset = await reached(this.#api, entry, signal);
    } catch (problem) {
      if (signal.aborted || problem.status === 401) return; // it is looked at again after the next sign-in
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 404 || problem.status === 422) {
        strike(entry.address);
        const gone = "The server has no part of it any more. Choose the file again to upload it.";
        announce(`${shownName(entry.name)}: ${problem.status === 404 ? gone : sentence(problem)}`);
        return;
      }
    }
    if (isListed() || !noted(entry.owner).some(({ address }) => address === entry.address)) return;
    // Of a file that is all there nothing is needed any more: its end is waited for with a file without bytes.
    const isWhole = offset === entry.size;
    const item = this.#list(isWhole ? { ...entry, slice: () => new Blob() } : null, entry);
    this.#owner ??= this.#session.subject;
    if (!isWhole) this.#show(item, "unfinished");
    if (offset !== null) item.row.progress(offset);
    this.#advance();
  }

  #advance() {
    const signedIn = this.#session.token !== null;
    let free = AT_ONCE - this.#items.filter((item) => AT_WORK.has(item.state)).length;
    for (const item of this.#items) {
      if (item.state !== "queued") continue;
      if (!signedIn) this.#show(item, "signin");
      else if (free > 0) {
        free -= 1;
        this.#send(item);
      }
    }
    this.#summarize();
  }

  async #send(item) {
    item.stop = new AbortController();
    const { signal } = item.stop;
    try {
      const asset = await item.transfer.run(signal, this.#session.subject);
      this.#arrived(item, asset);
    } catch (error) {
      if (signal.aborted) return; // whoever aborted has shown why
      if (error.status === 401) this.#show(item, "signin");
      else if (TO_BE_CHOSEN.has(error.code)) this.#show(item, "unfinished", sentence(error), true);
      else if (passing(error)) this.#show(item, "failed", sentence(error), true);
      else {
        if (item.isLarge) item.transfer.forget();
        this.#show(item, "refused", sentence(error), true);
      }
    }
    this.#advance();
  }

  #arrived(item, asset) {
    this.#show(item, "done");
    if (asset) this.#stored(asset);
  }

  #show(item, state, words = "", isFault = false) {
    const isNew = item.state !== state;
    item.state = state;
    item.row.show(state, words, isFault);
    if (isNew) this.#summarize();
  }

  #steer(item) {
    if (item.state === "unfinished") {
      this.#sought = item;
      byId("same-file").click();
    } else if (item.state === "paused") {
      this.#show(item, "queued");
    } else {
      item.stop.abort();
      this.#show(item, "paused");
    }
    this.#advance();
  }

  async #chosen(item, file) {
    if (item.state !== "unfinished") return;
    const isSame = await item.transfer.take(file);
    if (isSame) this.#show(item, "queued");
    else this.#show(item, "unfinished", "That is another file, or it was changed. Choose the same file to go on.", true);
    this.#advance();
  }

  async #cancel(item) {
    item.stop.abort();
    if (!item.isLarge || item.transfer.address === null) {
      this.#show(item, "cancelled");
      this.#advance();
      return;
    }
    this.#show(item, "ending");
    this.#advance();
    try {
      const asset = await item.transfer.end();
      if (asset) this.#arrived(item, asset);
      else this.#show(item, "cancelled");
    } catch {
      this.#show(item, "cancelled", "Cancelled. The server could not be told; it drops what it has after some days.");
    }
    if (item.state === "cancelled" && !item.transfer.hasFile) { // there is nothing to try again with
      this.#remove(item, true);
      announce(`The upload of ${item.row.name} is cancelled.`);
    }
  }

  #again(item) {
    this.#show(item, "queued");
    this.#advance();
  }

  #drop(item) {
    if (item.isLarge) item.transfer.end().catch(() => {}); // else the server drops it after some days
    this.#remove(item, true);
  }

  #remove(item, isHeld = false) {
    item.row.remove(isHeld);
    this.#items.splice(this.#items.indexOf(item), 1);
    this.#summarize();
  }

  #clearFinished() {
    const isFinished = (item) => item.state === "done" || item.state === "cancelled";
    for (const item of this.#items.filter(isFinished)) item.row.remove();
    this.#items = this.#items.filter((item) => !isFinished(item));
    this.#summarize();
    byId("choose").focus();
  }

  #summarize() {
    const count = (...states) => this.#items.filter((item) => states.includes(item.state)).length;
    const words = [
      [count("signin"), "waiting for sign-in"],
      [count("queued", "sending", "checking"), "on the way"],
      [count("waiting"), "interrupted"],
      [count("paused"), "paused"],
      [count("unfinished"), "to be chosen again"],
      [count("done"), "uploaded"],
      [count("failed", "refused"), "failed"],
      [count("ending", "cancelled"), "cancelled"],
    ].filter(([number]) => number).map(([number, what]) => `${number} ${what}`);
    const text = words.length ? `${counted(this.#items.length, "file")}: ${words.join(", ")}` : "";
    const summary = byId("upload-summary");
    if (summary.textContent !== text) summary.textContent = text;
    byId("clear-finished").hidden = count("done", "cancelled") === 0;
    if (this.#items.length === 0) this.#owner = null;
  }
}

/** How many bytes of what *entry* notes the server has; raises Problem, also for a file that it had and refused. */
async function reached(api, entry, signal) {
  const { state, offset, refusal } = await api.standing(entry.address, signal);
  if (state === "failed") throw new Problem(422, refusal);
  if (state !== "receiving" || offset === entry.size) return entry.size;
  return Number.parseInt((await look(api, entry.address, signal)).get("Upload-Offset") ?? "", 10);
}
