// What the record of a file says, as a list of terms. Everything in it is text, whoever has written it.

import { mediaPath } from "./api.js";
import { Focal } from "./focal.js";
import { Making } from "./making.js";
import { byId, copy } from "./page.js";
import { kind } from "./pictures.js";
import { counted, duration, moment, plain, sentence, size, typeName } from "./wording.js";

const WIDTHS = [320, 640, 1280, 1920];
const MOST_CHARS = 2_000;
const MOST_ENTRIES = 100;
const STATES = { ready: "Ready", pending: "Being checked", quarantined: "Quarantined: nobody can open it" };
const PROGRESS = { ready: "ready", pending: "being made", failed: "cannot be made" };

export class Details {
  #api;
  #focal;
  #making;
  #key = null;
  #asset = null;
  #work = new AbortController();
  #reads = "public";

  /** *changed* is called when the record was changed here, *play* with what was made and is to be played. */
  constructor(api, changed, play) {
    this.#api = api;
    const saved = (record, tag) => {
      this.#fill(record, tag);
      changed();
    };
    this.#focal = new Focal(api, saved, () => this.reload());
    this.#making = new Making(api, play);
  }

  /** Who may read: public, owner or signed. */
  set reads(mode) {
    this.#reads = mode;
    this.#focal.openly = this.#making.openly = mode === "public";
  }

  /** Show what is known of *asset*, and then all that its record says. */
  show(asset) {
    this.#key = asset.key;
    this.#asset = asset;
    this.#focal.clear();
    this.#fill(asset);
    this.#making.show(asset);
    this.reload();
  }

  /** A job is as far as *said*. */
  progress(said) {
    this.#making.progress(said);
  }

  /** Ask for the record again. */
  async reload() {
    this.#work.abort();
    this.#work = new AbortController();
    const { signal } = this.#work;
    const state = byId("details-state");
    state.textContent = "";
    try {
      const found = await this.#api.record(this.#key, signal);
      if (signal.aborted) return;
      // Of what is quarantined only admins get a record; what happened told the rest.
      if (found !== null) this.#fill({ ...this.#asset, state: undefined, reason: undefined, ...found[0] }, found[1]);
      else if (this.#asset.state !== "quarantined") state.textContent = "There is no record of this file any more.";
    } catch (problem) {
      if (!signal.aborted) state.textContent = sentence(problem);
    }
  }

  /** Show nothing, and ask for nothing. */
  clear() {
    this.#work.abort();
    this.#focal.clear();
    this.#making.clear();
    byId("details").replaceChildren();
    byId("details-state").textContent = "";
  }

  /** Show *asset*; with a *tag*, null or not, it is the record itself, which may be changed. */
  #fill(asset, tag) {
    if (tag !== undefined) this.#focal.show(asset, tag);
    const rows = [
      ["State", stateOf(asset)],
      ["File name", asset.filename ? plain(asset.filename) : null],
      ["Type", `${typeName(asset.contentType)} (${asset.contentType})`],
      ["Size", `${size(asset.size)} (${asset.size.toLocaleString()} bytes)`],
      ["Dimensions", asset.width && asset.height ? `${asset.width} × ${asset.height} px` : null],
      ["Length", asset.duration ? duration(asset.duration) : null],
      ["Tracks", asset.tracks ? tracks(asset.tracks) : null],
      ["Stored", asset.createdAt ? time(asset.createdAt) : null],
      ["Owner", asset.owner ?? asset.key.split("/")[0]],
      ["Key", copied(asset.key, "key")],
      ["SHA-256", asset.sha256 ? copied(asset.sha256, "digest") : null],
      ["Main colour", asset.colour ? colour(asset.colour) : null],
      ["Renditions", asset.state === "quarantined" ? null : this.#renditions(asset)],
      ["Presets", asset.presets ? this.#presets(asset) : null],
      ["Labels", asset.labels ? metadata(percents(asset.labels)) : null],
      ["Metadata", asset.metadata ? metadata(asset.metadata) : null],
      ["In the file", asset.embedded ? metadata(said(asset.embedded)) : null],
    ];
    const list = byId("details");
    const held = list.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    list.replaceChildren(...rows.filter(([, value]) => value !== null).flatMap(([term, value]) => [element("dt", term), element("dd", value)]));
    if (held !== null) [...list.querySelectorAll("button")].find((one) => one.getAttribute("aria-label") === held)?.focus();
  }

  #renditions(asset) {
    const what = kind(asset);
    if (this.#reads !== "public" || (what !== "picture" && what !== "film")) return null;
    const widths = WIDTHS.filter((width) => width < (asset.width ?? Infinity));
    const links = widths.map((width) => rendition(asset.key, { w: String(width), format: "auto" }, `${width} px`));
    return links.length ? listed(links) : null;
  }

  #presets({ key, presets }) {
    const states = Object.entries(presets).slice(0, MOST_ENTRIES);
    const items = states.map(([name, state]) => {
      if (state === "ready" && this.#reads === "public") return rendition(key, { preset: name }, plain(name));
      return element("span", `${plain(name)}: ${PROGRESS[state] ?? plain(state)}`);
    });
    return items.length ? listed(items) : null;
  }
}

/** The film and the sounds of a file, a line each; what is not known is left out. */
function tracks({ video, audio = [] }) {
  const rate = (track) => (track.bitRate ? `${Math.round(track.bitRate / 1000).toLocaleString()} kbit/s` : "");
  const frames = (track) => (track.frameRate ? `${Number(track.frameRate.toFixed(2))} frames/s` : "");
  const lines = video ? [[video.codec, frames(video), video.hdr ? "high dynamic range" : "", rate(video)]] : [];
  for (const track of audio) {
    lines.push([track.codec, counted(track.channels, "channel"), `${track.sampleRate / 1000} kHz`, track.language, rate(track)]);
  }
  const items = lines.slice(0, MOST_ENTRIES).map((line) => element("span", plain(line.filter(Boolean).join(", "))));
  return items.length ? listed(items) : null;
}

function stateOf({ state = "ready", reason }) {
  const words = STATES[state] ?? plain(state);
  const value = element("span", reason ? `${words}. ${plain(reason)}` : words);
  value.classList.toggle("problem", state === "quarantined");
  return value;
}

function rendition(key, params, name) {
  const link = element("a", name);
  link.href = mediaPath(key, params);
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  link.setAttribute("aria-label", `${name}, opens in a new tab`);
  return link;
}

function metadata(entries) {
  const pairs = Object.entries(entries).slice(0, MOST_ENTRIES);
  if (!pairs.length) return null;
  const list = document.createElement("dl");
  for (const [name, value] of pairs) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    list.append(element("dt", plain(name)), element("dd", plain(text).slice(0, MOST_CHARS)));
  }
  return list;
}

/** How sure a model is of what it named. */
function percents(labels) {
  return Object.fromEntries(Object.entries(labels).map(([label, score]) => [label, `${Math.round(score * 100)} %`]));
}

/** What the makers of a file wrote into it, as pairs; what only its owner sees stands last, and says so. */
function said({ private: own = {}, ...open }) {
  const pairs = (part) => Object.entries(part).map(([name, value]) => [spaced(name), phrase(value)]);
  return Object.fromEntries([...pairs(open), ...pairs(own).map(([name, value]) => [`${name} (only you)`, value])]);
}

function phrase(value) {
  if (Array.isArray(value)) return value.join(", ");
  if (value === null || typeof value !== "object") return String(value);
  return Object.entries(value).map(([name, one]) => `${spaced(name)} ${one}`).join(", ");
}

function spaced(name) {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function copied(text, what) {
  const value = element("span", element("code", plain(text)));
  const button = element("button", "Copy");
  button.type = "button";
  button.className = "small";
  button.setAttribute("aria-label", `Copy the ${what}`);
  button.addEventListener("click", () => copy(text, `The ${what} is copied.`));
  value.className = "copied";
  value.append(button);
  return value;
}

function colour(text) {
  const value = element("span", element("code", plain(text)));
  const swatch = document.createElement("i");
  swatch.className = "swatch";
  swatch.style.backgroundColor = text; // what is no colour is ignored
  value.prepend(swatch);
  return value;
}

function time(text) {
  const value = element("time", moment(new Date(text)));
  value.dateTime = text;
  return value;
}

function listed(items) {
  const list = document.createElement("ul");
  list.append(...items.map((item) => element("li", item)));
  return list;
}

function element(name, content) {
  const made = document.createElement(name);
  made.append(content);
  return made;
}
