// The wire: every request of this page. Failures come as Problem, whatever went wrong.

import { hear } from "./messages.js";

const HEALTH_MS = 5_000; // the page waits for it
const CALL_MS = 30_000;
const PICTURE_MS = 120_000;
const STALL_MS = 60_000; // the server gives an upload 30 s without a byte
const ANSWER_MS = 180_000; // everything is sent: digest, sync and decoding are left
const SILENCE_MS = 45_000; // the stream of events says every 15 s that it is there
const IMAGE_TYPES = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"; // what <img> asks for

/** Where resumable uploads are, as a path: this page may stand below one. */
export const UPLOADS = new URL("api/uploads/", document.baseURI).pathname;
/** Where uploads in numbered chunks are. */
export const CHUNKED = new URL("api/upload/chunked/", document.baseURI).pathname;

/** A failure, as the problem document says it (RFC 9457). *status* is 0 when no answer came. */
export class Problem extends Error {
  constructor(status, document = {}, retryAfterS = 0) {
    super(document.detail || document.title || "");
    this.status = status;
    this.code = document.code || (status ? "unknown" : "unreachable");
    this.title = document.title || "";
    this.detail = document.detail || "";
    this.requestId = document.requestId || "";
    this.retryAfterS = retryAfterS;
  }
}

/** The address of *key* on this server, with *params* (an object) as its query. */
export function mediaPath(key, params = {}) {
  const query = new URLSearchParams(params).toString();
  return `api/media/${inAddress(key)}${query ? `?${query}` : ""}`;
}

export class Api {
  #session;

  constructor(session) {
    this.#session = session;
  }

  /** {status, reads, …}. Also sets the session's clock by the server's. */
  async health() {
    return this.#fetch("api/health", { ms: HEALTH_MS }, (answer) => {
      const ahead = Date.parse(answer.headers.get("Date") ?? "") - Date.now();
      this.#session.skewMs = Math.abs(ahead) > 5000 ? ahead : 0;
      return answer.json();
    });
  }

  /** A page of the caller's records: {assets, nextCursor}. */
  async assets(limit, cursor, signal) {
    const query = new URLSearchParams({ limit: String(limit), ...(cursor ? { cursor } : {}) });
    return this.authorized(`api/assets?${query}`, { signal }, (answer) => answer.json());
  }

  /** Delete the object; one that is gone already counts as deleted. */
  async remove(key) {
    try {
      await this.authorized(mediaPath(key), { method: "DELETE" }, (answer) => answer.text());
    } catch (problem) {
      if (problem.status !== 404) throw problem;
    }
  }

  /** The bytes of a picture, asked for as <img> does: openly first, unless *openly* is false, then with the token. *cache* is fetch's. */
  async picture(path, { openly = true, signal, cache = "default" } = {}) {
    const options = { headers: { Accept: IMAGE_TYPES }, signal, cache, ms: PICTURE_MS };
    const blob = (answer) => answer.blob();
    if (openly) {
      try {
        return await this.#fetch(path, options, blob);
      } catch (problem) {
        if (![401, 403, 404].includes(problem.status) || this.#session.token === null) throw problem;
      }
    }
    return this.authorized(path, options, blob);
  }

  /**
   * Send *file* in one request; resolves to its record. *idempotencyKey* makes a repeated call give the first answer instead of
   * a second object. *sent* is called with the share that is out, 0 to 1. Aborting *signal* rejects with an AbortError.
   */
  async upload(file, idempotencyKey, { sent, signal }) {
    // The file as the body, not in a form: its type and size stand in the head, so that what is too large is refused there,
    // and its name comes through as it is (forms write %22 for a quotation mark).
    const answer = await this.send("POST", `api/upload?${new URLSearchParams({ filename: file.name || "file" })}`, {
      headers: { "Content-Type": file.type || "application/octet-stream", "Idempotency-Key": idempotencyKey },
      body: file,
      sent: (bytes) => sent(bytes / file.size),
      signal,
    });
    const record = parsed(answer.responseText);
    if (!record.key) throw new Problem(answer.status);
    return record;
  }

  /** The record of *key*; null if there is none any more. */
  async asset(key, signal) {
    try {
      return await this.authorized(`api/assets/${inAddress(key)}`, { signal }, (answer) => answer.json());
    } catch (problem) {
      if (problem.status !== 404) throw problem;
      return null;
    }
  }

  /** The record of *key* and the tag of its state (null: it has none); null if there is no record any more. */
  async record(key, signal) {
    try {
      return await this.authorized(`api/assets/${inAddress(key)}`, { cache: "no-store", signal }, tagged);
    } catch (problem) {
      if (problem.status !== 404) throw problem;
      return null;
    }
  }

  /** Have *changes* made to the record of *key*, if it is still as *tag* says; gives it and its tag. */
  async change(key, changes, tag, signal) {
    const headers = { "Content-Type": "application/json", ...(tag === null ? {} : { "If-Match": tag }) };
    return this.authorized(`api/assets/${inAddress(key)}`, { method: "PATCH", headers, body: JSON.stringify(changes), signal }, tagged);
  }

  /** The names of what can be made of a file of this type. */
  async profiles(contentType, signal) {
    const query = new URLSearchParams({ type: contentType });
    return (await this.authorized(`api/profiles?${query}`, { signal }, (answer) => answer.json())).profiles;
  }

  /** The newest jobs on *key*, newest first. */
  async jobs(key, limit, signal) {
    const query = new URLSearchParams({ key, limit: String(limit) });
    return (await this.authorized(`api/jobs?${query}`, { signal }, (answer) => answer.json())).jobs;
  }

  /** Have *profile* made of *key*; gives the job. */
  async order(key, profile, signal) {
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ profile }), signal };
    return this.authorized(`api/assets/${inAddress(key)}/jobs`, options, (answer) => answer.json());
  }

  /** Order the job *id* again; gives the new one. */
  async retry(id, signal) {
    return this.authorized(`api/jobs/${id}/retry`, { method: "POST", signal }, (answer) => answer.json());
  }

  /** End the job *id*; one that has ended by now is left as it is. */
  async cancel(id, signal) {
    try {
      await this.authorized(`api/jobs/${id}`, { method: "DELETE", signal }, (answer) => answer.text());
    } catch (problem) {
      if (problem.status !== 409) throw problem;
    }
  }

  /** What the caller has, and may have: {bytes, objects, reserved, quota}. */
  async usage(signal) {
    return this.authorized("api/usage", { signal }, (answer) => answer.json());
  }

  /**
   * Listen to what happens to the caller's files, beyond the event *last* or from now on: *opened* is called once, *heard* with
   * each message (see messages.js). Resolves when the server ends it; raises Problem when it breaks or falls silent.
   */
  async listen(last, signal, opened, heard) {
    const headers = last === null ? {} : { "Last-Event-ID": last };
    return this.authorized("api/events", { headers, signal, cache: "no-store", ms: SILENCE_MS }, (answer, alive) => {
      opened();
      return hear(answer.body, heard, alive);
    });
  }

  /** How far the resumable upload at *address* is, without disturbing who sends it: {state, offset, length, refusal, …}. */
  async standing(address, signal) {
    return this.authorized(address, { cache: "no-store", signal }, (answer) => answer.json());
  }

  /**
   * Send *body* with the token; resolves to the XMLHttpRequest of a good answer. *sent* is called with the bytes that are out,
   * the last time when all are. Aborting *signal* rejects with an AbortError.
   */
  send(method, path, { headers, body, sent, signal }) {
    const token = this.#session.token;
    if (token === null) return Promise.reject(new Problem(401, { code: "unauthorized" }));
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest(); // fetch tells nothing about the progress of a body on its way out
      let timer = 0;
      const cut = (code) => {
        reject(new Problem(0, { code }));
        request.abort();
      };
      const watch = (ms, code) => {
        clearTimeout(timer);
        timer = setTimeout(cut, ms, code);
      };
      const abort = () => request.abort();
      request.open(method, path);
      request.setRequestHeader("Authorization", `Bearer ${token}`);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => {
        watch(STALL_MS, "stalled");
        if (event.loaded < body.size) sent(event.loaded);
      };
      request.upload.onload = () => {
        watch(ANSWER_MS, "stalled");
        sent(body.size);
      };
      request.onload = () => {
        if (request.status >= 200 && request.status < 300) {
          resolve(request);
          return;
        }
        const document = parsed(request.responseText);
        const problem = new Problem(request.status, document, seconds(request.getResponseHeader("Retry-After")));
        if (problem.status === 401) this.#session.refused(token, problem.detail);
        reject(problem);
      };
      request.onerror = () => reject(new Problem(0));
      request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
      request.onloadend = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", abort);
      };
      signal.addEventListener("abort", abort);
      watch(STALL_MS, "stalled");
      request.send(body);
    });
  }

  /** What *read* makes of a good answer to a request with the token; *options* are those of fetch, and *ms*. */
  async authorized(path, options, read) {
    const token = this.#session.token;
    if (token === null) throw new Problem(401, { code: "unauthorized" });
    try {
      return await this.#fetch(path, { ...options, headers: { ...options.headers, Authorization: `Bearer ${token}` } }, read);
    } catch (problem) {
      if (problem.status === 401) this.#session.refused(token, problem.detail);
      throw problem;
    }
  }

  /** What *read* makes of a good answer; *ms* is the time for all of it, the body too, and begins anew when *read* calls its second. */
  async #fetch(path, { signal, ms = CALL_MS, ...options }, read) {
    signal?.throwIfAborted();
    const deadline = new AbortController();
    const cut = () => deadline.abort();
    let timer = setTimeout(cut, ms);
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(cut, ms);
    };
    signal?.addEventListener("abort", cut);
    try {
      const answer = await fetch(path, { ...options, signal: deadline.signal, credentials: "omit" });
      if (answer.ok) return await read(answer, alive);
      throw new Problem(answer.status, parsed(await answer.text()), seconds(answer.headers.get("Retry-After")));
    } catch (error) {
      if (error instanceof Problem || signal?.aborted) throw error;
      throw new Problem(0); // no connection, or the deadline
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cut);
    }
  }
}

async function tagged(answer) {
  return [await answer.json(), answer.headers.get("ETag")];
}

function inAddress(key) {
  return key.split("/").map(encodeURIComponent).join("/");
}

function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {}; // a proxy in between answers with a page of its own
  }
}

function seconds(header) {
  const value = Number.parseInt(header ?? "", 10);
  return Number.isNaN(value) ? 0 : value;
}
