// The point of a picture that every crop keeps: seen on it, set by a click or by two numbers.

import { mediaPath } from "./api.js";
import { announce, byId } from "./page.js";
import { kind } from "./pictures.js";
import { sentence } from "./wording.js";

const WIDTH = 480;

export class Focal {
  #api;
  #saved;
  #stale;
  #asset = null;
  #tag = null;
  #address = "";
  #work = new AbortController();
  openly = true;

  /** *saved* is called with the record and its tag when the point was changed here; *stale* when it was changed elsewhere before. */
  constructor(api, saved, stale) {
    this.#api = api;
    this.#saved = saved;
    this.#stale = stale;
    byId("focal").addEventListener("submit", (event) => {
      event.preventDefault();
      const point = this.#chosen();
      if (point !== null) this.#save(point);
    });
    byId("focal").addEventListener("input", () => this.#mark(this.#chosen()));
    byId("focal-clear").addEventListener("click", () => this.#save(null));
    byId("focal-picture").addEventListener("click", (event) => {
      const box = event.target.getBoundingClientRect();
      this.#fill([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((part) => Math.min(Math.max(part, 0), 1)));
      byId("focal-save").focus();
    });
  }

  /** Show the point of *asset*, a record whose state is called *tag*; nothing for what is no picture, or cannot be opened. */
  show(asset, tag) {
    const isNew = this.#asset?.key !== asset.key;
    this.#tag = tag;
    byId("focal").hidden = kind(asset) !== "picture" || asset.state === "quarantined";
    if (byId("focal").hidden) {
      this.clear();
      return;
    }
    // What somebody is about to set is not taken away by what comes in.
    if (isNew || String(asset.focal) !== String(this.#asset.focal)) this.#fill(asset.focal ?? null);
    this.#asset = asset;
    byId("focal-clear").hidden = !asset.focal;
    byId("viewer-centre").textContent = asset.focal ? "Focal point" : "Centre"; // what a crop goes by that says nothing else
    if (isNew) this.#load();
  }

  /** Show nothing. */
  clear() {
    this.#work.abort();
    this.#asset = null;
    byId("viewer-centre").textContent = "Centre";
    byId("focal").hidden = true;
    byId("focal-problem").textContent = "";
    byId("focal-picture").removeAttribute("src");
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = "";
  }

  async #load() {
    this.#work.abort();
    this.#work = new AbortController();
    const { signal } = this.#work;
    const picture = byId("focal-picture");
    byId("focal-problem").textContent = "";
    picture.width = this.#asset.width || 4;
    picture.height = this.#asset.height || 3;
    try {
      const blob = await this.#api.picture(mediaPath(this.#asset.key, { w: String(WIDTH), format: "auto" }), { openly: this.openly, signal });
      if (signal.aborted) return;
      if (this.#address) URL.revokeObjectURL(this.#address);
      this.#address = URL.createObjectURL(blob);
      picture.src = this.#address;
    } catch {
      // The two numbers do without it.
    }
  }

  async #save(point) {
    const { signal } = this.#work;
    const buttons = byId("focal").querySelectorAll("button");
    byId("focal-problem").textContent = "";
    for (const button of buttons) button.disabled = true;
    try {
      const [record, tag] = await this.#api.change(this.#asset.key, { focal: point }, this.#tag, signal);
      if (signal.aborted) return;
      announce(point === null ? "Crops go by the centre again." : "Crops keep this point from now on.");
      this.#saved(record, tag);
    } catch (problem) {
      if (signal.aborted) return;
      byId("focal-problem").textContent = sentence(problem);
      if (problem.status === 412) this.#stale();
    } finally {
      for (const button of buttons) button.disabled = false;
      this.#mark(this.#chosen());
    }
    if (!signal.aborted && document.activeElement === document.body) byId("focal-left").focus();
  }

  /** The two numbers as parts of one, null where they are not two. */
  #chosen() {
    const [left, top] = [byId("focal-left"), byId("focal-top")];
    if (!left.value || !top.value || !left.validity.valid || !top.validity.valid) return null;
    return [left, top].map((field) => Math.round(Number(field.value) * 100) / 10_000);
  }

  #fill(point) {
    const texts = (point ?? ["", ""]).map((part) => (part === "" ? "" : String(Math.round(part * 1000) / 10)));
    [byId("focal-left").value, byId("focal-top").value] = texts;
    this.#mark(point);
  }

  #mark(point) {
    const mark = byId("focal-mark");
    mark.hidden = point === null;
    byId("focal-save").disabled = point === null;
    if (point === null) return;
    mark.style.left = `${point[0] * 100}%`;
    mark.style.top = `${point[1] * 100}%`;
  }
}
