// Uploads that outlive the page: what must be known to go on when the same file is chosen again. Never the token.

import { UPLOADS } from "./api.js";

const PLACE = "media.upload.";
const SAMPLE = 64 * 1024;
const MOST = 100;
const DAY_MS = 86_400_000;

/** Note what {address, owner, name, size, lastModified, fingerprint, expires} says of an upload, in place of what was noted. */
export function note(entry) {
  try {
    localStorage.setItem(PLACE + entry.address, JSON.stringify(entry));
  } catch {
    // Storage is full or switched off: the upload then lives as long as the page.
  }
}

/** Strike the upload at *address* off the list. */
export function strike(address) {
  try {
    localStorage.removeItem(PLACE + address);
  } catch {
    // As above.
  }
}

/** What *owner* has not brought to its end, at most 100. Whatever expired yesterday, of anybody, is struck off. */
export function noted(owner) {
  const found = [];
  for (const [place, entry] of all()) {
    if (entry === null || Date.parse(entry.expires) + DAY_MS < Date.now()) localStorage.removeItem(place);
    else if (entry.owner === owner && found.length < MOST) found.push(entry);
  }
  return found;
}

/** Call *heard* with the address of each upload that another tab strikes off. */
export function onStruck(heard) {
  addEventListener("storage", ({ key, newValue }) => {
    if (newValue === null && key?.startsWith(PLACE)) heard(key.slice(PLACE.length));
  });
}

/** Whether *file* may be the one that *entry* tells of; its bytes are not looked at. */
export function looksLike(entry, file) {
  return entry.name === file.name && entry.size === file.size && entry.lastModified === file.lastModified;
}

/** A number, as text, that differs for files that differ near their start, middle or end (FNV-1a, two lanes). */
export async function fingerprint(file) {
  const middle = Math.floor(file.size / 2);
  const samples = new Blob([file.slice(0, SAMPLE), file.slice(middle, middle + SAMPLE), file.slice(-SAMPLE)]);
  let [one, other] = [0x811c9dc5, 0x01000193];
  for (const byte of new Uint8Array(await samples.arrayBuffer())) { // crypto.subtle is there only on https and on localhost
    one = Math.imul(one ^ byte, 0x01000193);
    other = Math.imul(other ^ byte, 0x0100018d);
  }
  return [one, other].map((lane) => (lane >>> 0).toString(16).padStart(8, "0")).join("");
}

/**
 * Keep the upload at *address* to this tab until what is given is called. With *isPatient* after whoever has it now, else null
 * when another tab has it. Where the browser has no locks (plain http) every tab gets it, and the server lets the newest go on.
 */
export function kept(address, { isPatient = false, signal } = {}) {
  if (!navigator.locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    const options = isPatient ? { signal } : { ifAvailable: true };
    navigator.locks.request(PLACE + address, options, (lock) => {
      if (lock === null) return resolve(null);
      return new Promise((release) => resolve(release));
    }).catch(reject);
  });
}

function all() {
  try {
    return Object.keys(localStorage).filter((place) => place.startsWith(PLACE + UPLOADS)).map((place) => [place, parsed(place)]);
  } catch {
    return []; // storage is switched off
  }
}

function parsed(place) {
  try {
    const entry = JSON.parse(localStorage.getItem(place));
    const isOne = PLACE + entry.address === place && Number.isFinite(Date.parse(entry.expires)) && entry.size > 0;
    return isOne && typeof entry.name === "string" ? entry : null;
  } catch {
    return null; // not of our hand
  }
}
