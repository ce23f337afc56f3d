// One large file on its way by tus 1.0 (tus.io/protocols/resumable-upload): in slices, again after every fault, from where the
// server says that it stands.

import { Problem, UPLOADS } from "./api.js";
import { isBack } from "./pause.js";

const MIB = 2 ** 20;
const LEAST_SLICE = MIB; // what nginx lets through if nobody has told it otherwise
const FIRST_SLICE = 8 * MIB;
const MOST_SLICE = 64 * MIB; // some services in between take 100 MB at most
const SLICE_S = 8; // a fault costs at most this where something in between keeps a request until it is whole
const FIRST_WAIT_MS = 1_000;
const MOST_WAIT_MS = 30_000;
const MOST_ASKED_MS = 300_000; // what a server may ask for by Retry-After
const END_TRIES = 3;
const MOST_REFUSALS = 10; // in a row, without a byte acknowledged in between
const BYTES = "application/offset+octet-stream";
const VERSION = { "Tus-Resumable": "1.0.0" };

/** Whether what failed may work later: what the server says of the file itself stays true. */
export function passing({ status }) {
  return status === 0 || [408, 409, 423, 425, 429].includes(status) || status >= 500;
}

/** What the server says of the upload at *address*, exactly: whoever still sends to it is stopped. */
export function look(api, address, signal) {
  return api.authorized(address, { method: "HEAD", headers: VERSION, cache: "no-store", signal }, (answer) => answer.headers);
}

/** End the upload at *address*, and have the server drop what it has. Gives the record if it had become an object before. */
export async function end(api, address) {
  for (let tries = 1; ; tries += 1) {
    try {
      const { key } = await api.standing(address);
      if (key) return await api.asset(key);
      await api.authorized(address, { method: "DELETE", headers: VERSION }, () => null);
      return null;
    } catch (problem) {
      if (problem.status === 404) return null;
      if (tries === END_TRIES || !passing(problem)) throw problem;
      await isBack(FIRST_WAIT_MS * tries);
    }
  }
}

export class Resumable {
  #api;
  #file;
  #address;
  #told;
  #slice = FIRST_SLICE;
  #offset = 0; // acknowledged
  #key = null;
  #isSure = false; // whether #offset is what the server has

  /**
   * The way of *file*; *address* is that of an upload that has begun already. *told* hears of it: begun(address) which is waited
   * for, kept(expires) when bytes are acknowledged, moved(bytes that are out), waits(problem, seconds), anew().
   */
  constructor(api, file, address, told) {
    this.#api = api;
    this.#file = file;
    this.#address = address;
    this.#told = told;
  }

  /**
   * Go on until the file is an object; gives its record, null if it was deleted meanwhile. Waits and tries again while that may
   * help; raises Problem when it does not, or for a new token (401). Aborting *signal* raises an AbortError; what the server has
   * stays, for the next run.
   */
  async run(signal) {
    let furthest = this.#offset;
    let failures = 0;
    let refusals = 0;
    let isAnew = false;
    for (;;) {
      signal.throwIfAborted();
      try {
        return await this.#onwards(signal);
      } catch (problem) {
        signal.throwIfAborted();
        if (!(problem instanceof Problem)) throw problem;
        this.#isSure = false;
        if (problem.status === 404 && this.#address !== null && !isAnew) {
          isAnew = true;
          this.#forget();
          continue;
        }
        if (this.#goesSmaller(problem)) continue;
        if (!passing(problem)) throw problem;
        if (problem.status === 0 && !(await this.#readable())) throw new Problem(0, { code: "unreadable" });
        if (this.#offset > furthest) [furthest, failures, refusals] = [this.#offset, 0, 0];
        failures += 1;
        if (problem.status !== 0 && problem.status !== 423) refusals += 1;
        if (refusals > MOST_REFUSALS) throw problem;
        this.#slice = Math.max(this.#slice / 2, LEAST_SLICE);
        await this.#wait(problem, failures, signal);
      }
    }
  }

  async #onwards(signal) {
    if (this.#address === null) await this.#begin(signal);
    if (!this.#isSure) await this.#look(signal);
    while (this.#key === null) await this.#append(signal);
    return this.#api.asset(this.#key, signal);
  }

  async #begin(signal) {
    const { name, type, size } = this.#file;
    const metadata = [["filename", name || "file"], ...(type ? [["filetype", type]] : [])];
    const headers = {
      ...VERSION,
      "Upload-Length": String(size),
      "Upload-Metadata": metadata.map(([field, value]) => `${field} ${base64(value)}`).join(","),
    };
    const given = await this.#api.authorized(UPLOADS.slice(0, -1), { method: "POST", headers, signal }, (answer) => answer.headers);
    // Only the last part of Location counts: behind a proxy the service may call itself by another address than this page's.
    const id = (given.get("Location") ?? "").split("/").pop();
    if (!id) throw new Problem(502);
    this.#address = UPLOADS + id;
    this.#isSure = true;
    await this.#told.begun(this.#address);
    this.#told.kept(given.get("Upload-Expires"));
  }

  async #look(signal) {
    let given;
    try {
      given = await look(this.#api, this.#address, signal);
    } catch (problem) {
      // An answer to HEAD has no body: why a file was refused stands in the answer to GET.
      if (problem.status < 400 || problem.status === 401 || passing(problem)) throw problem;
      const { refusal } = await this.#api.standing(this.#address, signal);
      throw refusal ? new Problem(422, refusal) : problem;
    }
    if (given.get("Upload-Length") !== String(this.#file.size)) throw new Problem(404); // not of this file
    this.#acknowledged((name) => given.get(name));
    this.#isSure = true;
  }

  async #append(signal) {
    signal.throwIfAborted();
    const from = this.#offset;
    const body = this.#file.slice(from, from + this.#slice);
    const begun = performance.now();
    this.#told.moved(from);
    const answer = await this.#api.send("PATCH", this.#address, {
      headers: { ...VERSION, "Content-Type": BYTES, "Upload-Offset": String(from) },
      body,
      sent: (bytes) => this.#told.moved(from + bytes),
      signal,
    });
    this.#acknowledged((name) => answer.getResponseHeader(name));
    if (this.#key === null && this.#offset === from) throw new Problem(502); // neither moved nor done: not again at once
    const inTime = (body.size / Math.max(performance.now() - begun, 1)) * 1000 * SLICE_S;
    this.#slice = Math.round(Math.min(Math.max(inTime, this.#slice / 2, LEAST_SLICE), this.#slice * 2, MOST_SLICE));
  }

  #acknowledged(header) {
    const offset = Number.parseInt(header("Upload-Offset") ?? "", 10);
    if (!(offset >= 0 && offset <= this.#file.size)) throw new Problem(502);
    this.#offset = offset;
    const key = header("X-Media-Key");
    this.#key = key === null ? null : decodeURIComponent(key);
    this.#told.kept(header("Upload-Expires"));
  }

  #forget() {
    this.#address = null;
    this.#offset = 0;
    this.#told.anew();
  }

  /** Whether smaller requests may do: something in between, which knows nothing of our problems, finds them too large. */
  #goesSmaller({ status, code }) {
    if (status !== 413 || code !== "unknown" || this.#slice <= LEAST_SLICE || this.#address === null) return false;
    this.#slice = LEAST_SLICE;
    return true;
  }

  async #readable() {
    try {
      await this.#file.slice(this.#offset, this.#offset + 1).arrayBuffer();
      return true;
    } catch {
      return false; // changed, moved or on a drive that is gone: what the browser holds is of the file as it was
    }
  }

  async #wait(problem, failures, signal) {
    const own = Math.min(FIRST_WAIT_MS * 2 ** (failures - 1), MOST_WAIT_MS) * (0.5 + Math.random() / 2);
    const end = performance.now() + Math.max(own, Math.min(problem.retryAfterS * 1000, MOST_ASKED_MS));
    for (let left = end - performance.now(); left > 0; left = end - performance.now()) {
      this.#told.waits(problem, Math.ceil(left / 1000));
      if (await isBack(Math.min(left, 1000), signal)) return;
    }
  }
}

function base64(text) {
  return btoa(String.fromCodePoint(...new TextEncoder().encode(text)));
}
