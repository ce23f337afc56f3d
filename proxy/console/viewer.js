// One file, large: a picture at any size, fit and format with the address that gives it; films and sound in a player; and what its
// record says.

import { mediaPath } from "./api.js";
import { Details } from "./details.js";
import { linkOf } from "./gallery.js";
import { byId, copy, icon } from "./page.js";
import { kind } from "./pictures.js";
import { illustrated, player } from "./player.js";
import { facts, sentence, size, typeName } from "./wording.js";

const WIDTHS = [160, 320, 640, 1280, 1920];
const SETTLE_MS = 250;

export class Viewer {
  #api;
  #details;
  #asset = null;
  #name = "";
  #address = "";
  #work = new AbortController();
  #timer = 0;
  #reads = "public";

  constructor(api) {
    this.#api = api;
    this.#details = new Details(api, () => this.#changed(0), (what, name, address) => this.#play(what, name, address));
    const controls = byId("viewer-controls");
    for (const width of [...WIDTHS, null]) byId("viewer-widths").append(this.#chip(width));
    controls.addEventListener("submit", (event) => event.preventDefault());
    controls.addEventListener("input", () => this.#changed(SETTLE_MS));
    byId("viewer-close").addEventListener("click", () => byId("viewer").close());
    byId("viewer").addEventListener("close", () => byId("viewer").open || this.#release()); // it may be open again by now
    byId("viewer-copy").addEventListener("click", () => copy(byId("viewer-url").value, "Link copied."));
    byId("viewer-url").addEventListener("focus", (event) => event.target.select());
  }

  /** Who may read: public, owner or signed. */
  set reads(mode) {
    this.#reads = this.#details.reads = mode;
  }

  /** Something happened to *asset*: its record says what. */
  changed(asset) {
    if (this.#asset?.key !== asset.key) return;
    if (asset.state === this.#asset.state) this.#details.reload();
    else if (byId("viewer").open) this.#open({ ...this.#asset, ...asset, state: asset.state });
  }

  /** A job is as far as *said*. */
  progress(said) {
    this.#details.progress(said);
  }

  /** The file of *key* is not there any more. */
  removed(key) {
    if (this.#asset?.key === key) byId("viewer").close();
  }

  /** Open the dialog on *asset*, called *name*. */
  show(asset, name) {
    this.#name = name;
    byId("viewer-title").textContent = name;
    this.#open(asset);
    byId("viewer").showModal();
  }

  #open(asset) {
    this.#asset = asset;
    const isThere = asset.state !== "quarantined";
    const controls = byId("viewer-controls");
    controls.reset();
    controls.hidden = kind(asset) !== "picture" || !isThere;
    byId("viewer-address").hidden = !isThere;
    controls.elements.w.value = String(Math.min(640, asset.width || 640));
    const open = this.#reads === "public";
    byId("viewer-open").hidden = !open;
    byId("viewer-note").textContent = open
      ? "Anyone who has this address can open it."
      : "This address opens only with your token, sent as an Authorization header.";
    this.#changed(0);
    this.#details.show(asset);
  }

  #chip(width) {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.className = "chip";
    chip.textContent = width === null ? "Original" : String(width);
    if (width !== null) chip.setAttribute("aria-label", `${width} px wide`);
    chip.dataset.width = width === null ? "" : String(width);
    chip.addEventListener("click", () => {
      const { w, h, format } = byId("viewer-controls").elements;
      w.value = chip.dataset.width;
      if (width === null) {
        h.value = "";
        format.value = "source";
      }
      this.#changed(0);
    });
    return chip;
  }

  /** The query of the chosen rendition; empty for the stored bytes. */
  #params() {
    if (kind(this.#asset) !== "picture") return {};
    const { w, h, fit, g, format } = byId("viewer-controls").elements;
    const params = {};
    if (w.value) params.w = w.value;
    if (h.value) params.h = h.value;
    if (w.value && h.value && fit.value !== "inside") params.fit = fit.value;
    if (params.fit === "cover" && g.value !== "center") params.g = g.value;
    if (format.value !== "source") params.format = format.value;
    return params;
  }

  #changed(afterMs) {
    const { w, h, fit, g } = byId("viewer-controls").elements;
    fit.disabled = !(w.value && h.value);
    g.disabled = fit.disabled || fit.value !== "cover";
    const params = this.#params();
    for (const chip of byId("viewer-widths").children) {
      const original = !chip.dataset.width;
      chip.setAttribute("aria-pressed", String(original ? Object.keys(params).length === 0 : w.value === chip.dataset.width));
    }
    const link = new URL(linkOf(this.#asset));
    for (const [name, value] of Object.entries(params)) link.searchParams.set(name, value);
    byId("viewer-url").value = link.href;
    byId("viewer-open").href = link.href;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#render(params), afterMs);
  }

  #render(params) {
    this.#work.abort();
    this.#work = new AbortController();
    const what = kind(this.#asset);
    if (this.#asset.state === "quarantined") this.#withheld(what);
    else if (what === "picture") this.#picture(params, this.#work.signal);
    else if (what === "document" || this.#reads !== "public") this.#still(what);
    else this.#player(what);
  }

  async #picture(params, signal) {
    const stage = byId("viewer-stage");
    stage.setAttribute("aria-busy", "true");
    try {
      const blob = await this.#api.picture(mediaPath(this.#asset.key, params), { openly: this.#reads === "public", signal, cache: "no-cache" });
      if (signal.aborted) return;
      const image = document.createElement("img");
      const address = URL.createObjectURL(blob);
      image.alt = this.#name;
      image.src = address;
      await image.decode().catch(() => null);
      if (signal.aborted) {
        URL.revokeObjectURL(address);
        return;
      }
      this.#replace(image, address);
      const shown = image.naturalWidth > 0;
      this.#say(
        shown
          ? `${image.naturalWidth} × ${image.naturalHeight} · ${typeName(blob.type)} · ${size(blob.size)}`
          : `This browser cannot show ${typeName(blob.type)}. Choose another format.`,
        !shown,
      );
    } catch (problem) {
      if (signal.aborted) return;
      this.#replace(icon("picture"));
      this.#say(sentence(problem), true);
    } finally {
      if (!signal.aborted) stage.removeAttribute("aria-busy");
    }
  }

  #player(what) {
    const failed = () => this.#say("This browser cannot play the file.", true);
    this.#replace(illustrated(player(what, this.#name, mediaPath(this.#asset.key), failed), this.#asset, what));
    this.#say(facts(this.#asset));
  }

  /** Play what was made of the file in its place. */
  #play(what, name, address) {
    const media = player(what, `${this.#name}, ${name}`, address, () => this.#say(`This browser cannot play ${name}.`, true));
    this.#replace(media);
    this.#say(name);
    media.play().catch(() => {}); // it has controls
    media.focus();
  }

  #withheld(what) {
    byId("viewer-stage").removeAttribute("aria-busy");
    this.#replace(icon(what));
    this.#say("It is quarantined: nobody can open it.", true);
  }

  #still(what) {
    this.#replace(icon(what));
    this.#say(facts(this.#asset));
  }

  #replace(element = null, address = "") {
    const player = byId("viewer-stage").querySelector("video, audio");
    if (player) { // a player that is only taken out goes on loading
      player.removeAttribute("src");
      player.load();
    }
    byId("viewer-stage").replaceChildren(...(element ? [element] : []));
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = address;
  }

  #release() {
    clearTimeout(this.#timer);
    this.#work.abort();
    this.#replace();
    this.#say("");
    this.#details.clear();
    this.#asset = null;
  }

  #say(text, problem = false) {
    byId("viewer-result").textContent = text;
    byId("viewer-result").classList.toggle("problem", problem);
  }
}
