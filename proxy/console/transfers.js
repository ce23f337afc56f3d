// How one file gets to the server: a small one in one request, a large one in as many as it takes, also from page to page.

import { Problem, UPLOADS } from "./api.js";
import { announce } from "./page.js";
import { Pace } from "./pace.js";
import { Resumable, end } from "./tus.js";
import { fingerprint, kept, looksLike, note, strike } from "./unfinished.js";
import { interruption } from "./wording.js";

const RESUMABLE_BYTES = 8 * 2 ** 20; // below, one request is quicker

export const isLarge = ({ size }) => size > RESUMABLE_BYTES;

export class SmallTransfer {
  #api;
  #file;
  #row;
  #show;
  #idempotencyKey = minted();

  /** The way of *file*, shown in *row*; *show* is called with its state as that changes. */
  constructor(api, file, row, show) {
    this.#api = api;
    this.#file = file;
    this.#row = row;
    this.#show = show;
  }

  /** Whether it is the upload *id*. */
  is(id) {
    return id === this.#idempotencyKey;
  }

  /** Send the file; gives its record. */
  async run(signal) {
    this.#show("sending");
    const sent = (share) => (share < 1 ? this.#row.progress(share * this.#file.size) : this.#show("checking"));
    return this.#api.upload(this.#file, this.#idempotencyKey, { sent, signal });
  }
}

export class LargeTransfer {
  #api;
  #file;
  #entry;
  #row;
  #show;
  #pace = new Pace();
  #isMoving = false;
  #release = null;
  #addresses = new Set(); // all that there were: what is told of them may come late

  /** The way of *file*, shown in *row*, or of what *entry* notes (see unfinished.js), where *file* is null until it is chosen. */
  constructor(api, file, row, show, entry = null) {
    this.#api = api;
    this.#file = file;
    this.#entry = entry ?? { address: null, name: file.name, size: file.size, lastModified: file.lastModified };
    this.#addresses.add(this.#entry.address);
    this.#row = row;
    this.#show = show;
  }

  /** Whether it is, or was, the upload *id*. */
  is(id) {
    return this.#addresses.has(UPLOADS + id);
  }

  get address() {
    return this.#entry.address;
  }

  /** Whether there is a file to send. */
  get hasFile() {
    return this.#file instanceof File;
  }

  /** Whether *file* looks like the one that this began with; `take` looks closer. */
  looksLike(file) {
    return looksLike(this.#entry, file);
  }

  /** Go on with *file*; whether it is the same. */
  async take(file) {
    if (!this.looksLike(file)) return false;
    const print = await fingerprint(file).catch(() => null);
    if (print === null || print !== (this.#entry.fingerprint ?? print)) return false;
    this.#file = file;
    return true;
  }

  /**
   * Bring the file to its end for *owner*; gives its record. What the server has stays when that fails or is aborted. Raises
   * Problem, with the codes "unreadable" and "elsewhere" too.
   */
  async run(signal, owner) {
    this.#isMoving = false;
    this.#show("sending");
    this.#entry.owner ??= owner;
    this.#entry.fingerprint ??= await fingerprint(this.#file).catch(() => {
      throw new Problem(0, { code: "unreadable" });
    });
    if (this.address !== null) await this.#hold(signal);
    const record = await new Resumable(this.#api, this.#file, this.address, this.#listener(signal)).run(signal);
    this.forget();
    return record;
  }

  /** Have the server drop what it has; gives the record if the file had come to its end before. */
  async end() {
    const { address } = this;
    this.forget();
    return address === null ? null : end(this.#api, address);
  }

  /** Never go on with what has begun; another run begins anew. */
  forget() {
    this.letGo();
    if (this.address !== null) strike(this.address);
    this.#entry = { ...this.#entry, address: null };
  }

  /** Leave it to whichever tab goes on with it. */
  letGo() {
    this.#release?.();
    this.#release = null;
  }

  async #hold(signal) {
    this.#release ??= await kept(this.address);
    if (this.#release === null) throw new Problem(0, { code: "elsewhere" });
    if (signal.aborted) this.letGo();
  }

  #listener(signal) {
    return {
      begun: async (address) => {
        this.#entry.address = address;
        this.#addresses.add(address);
        await this.#hold(signal);
      },
      kept: (expires) => {
        this.#entry.expires = expires ?? this.#entry.expires;
        note(this.#entry);
      },
      moved: (bytes) => {
        if (bytes >= this.#entry.size) {
          this.#show("checking");
          return;
        }
        if (!this.#isMoving) {
          this.#isMoving = true;
          this.#show("sending");
          this.#pace.start(bytes);
        }
        this.#pace.moved(bytes);
        this.#row.progress(bytes, this.#pace.bytesPerS);
      },
      waits: (problem, seconds) => {
        this.#isMoving = false;
        this.#show("waiting", `${interruption(problem)} Goes on in ${seconds} s.`);
      },
      anew: () => {
        this.forget();
        if (!this.hasFile) throw new Problem(0, { code: "unreadable" });
        announce(`The server has no part of ${this.#row.name} any more: it begins anew.`);
      },
    };
  }
}

/** A key no two files share. randomUUID is there only on https and on localhost. */
function minted() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
