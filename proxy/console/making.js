// What is made of a film or a sound: ordered here, followed as it is made, and opened when it is done.

import { announce, byId, copy, fromTemplate } from "./page.js";
import { kind } from "./pictures.js";
import { plain, sentence } from "./wording.js";

const MOST_JOBS = 20;
const LOOK_MS = 5_000; // progress that nobody tells is looked at; a worker elsewhere may have no way to tell it
const OPEN = ["waiting", "running"];
const CLASSIFIED = "classify"; // makes nothing: what it says is in the record
const SOUND = /\.(m4a|ogg)$/;
const STATES = { waiting: "Waiting for a worker", done: "Ready", canceled: "Canceled" };

export class Making {
  #api;
  #play;
  #asset = null;
  #jobs = new Map(); // id -> {job, parts, element}
  #work = new AbortController();
  #timer = 0;
  openly = true;

  /** *play* is called with what a result is, film or sound, its name and its address, to be played in place of the file. */
  constructor(api, play) {
    this.#api = api;
    this.#play = play;
    byId("make").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#order(byId("make-profile").value);
    });
  }

  /** Show what is made of *asset*, and what could be; nothing for what is no film and no sound. */
  show(asset) {
    this.clear();
    if (!["film", "sound"].includes(kind(asset)) || asset.state === "quarantined" || asset.source) return;
    this.#asset = asset;
    this.#begin();
  }

  /** Show nothing, and ask for nothing. */
  clear() {
    clearTimeout(this.#timer);
    this.#work.abort();
    this.#work = new AbortController();
    this.#asset = null;
    this.#jobs.clear();
    byId("making").hidden = true;
    byId("make-jobs").replaceChildren();
    byId("make-profile").replaceChildren();
    this.#say("");
  }

  /** A job is as far as *said*. */
  progress(said) {
    if (said.key !== this.#asset?.key) return;
    const known = this.#jobs.get(said.id);
    // How it ended, and what has begun elsewhere, the list tells in full.
    if (known && said.state === "running") this.#fill({ ...known.job, state: said.state, percent: said.percent });
    else this.#look();
  }

  async #begin() {
    const { signal } = this.#work;
    try {
      const names = await this.#api.profiles(this.#asset.contentType, signal);
      if (signal.aborted) return;
      byId("make-profile").append(...names.map((name) => new Option(plain(name), name)));
      byId("make").hidden = names.length === 0;
      await this.#look();
      if (!signal.aborted) byId("making").hidden = names.length === 0 && this.#jobs.size === 0;
    } catch (problem) {
      if (!signal.aborted) this.#failed(problem);
    }
  }

  /** Ask how far all of them are. */
  async #look() {
    clearTimeout(this.#timer);
    const { signal } = this.#work;
    try {
      const jobs = await this.#api.jobs(this.#asset.key, MOST_JOBS, signal);
      if (signal.aborted) return;
      for (const job of jobs.reverse()) if (job.profile !== CLASSIFIED) this.#fill(job);
    } catch (problem) {
      if (!signal.aborted) this.#failed(problem);
    }
    this.#watch();
  }

  #watch() {
    clearTimeout(this.#timer);
    const { signal } = this.#work;
    if (signal.aborted || ![...this.#jobs.values()].some(({ job }) => OPEN.includes(job.state))) return;
    this.#timer = setTimeout(() => (document.hidden ? this.#watch() : this.#look()), LOOK_MS);
  }

  async #order(profile) {
    await this.#ask(byId("make-order"), () => this.#api.order(this.#asset.key, profile, this.#work.signal));
  }

  /** Do *what*, which gives a job or nothing, by *button*. */
  async #ask(button, what) {
    const { signal } = this.#work;
    button.disabled = true;
    this.#say("");
    try {
      const job = await what();
      if (signal.aborted) return;
      if (job) this.#fill(job);
      await this.#look();
    } catch (problem) {
      if (!signal.aborted) this.#failed(problem);
    } finally {
      button.disabled = false;
    }
  }

  #fill(job) {
    const known = this.#jobs.get(job.id) ?? this.#added(job.id);
    const before = known.job?.state;
    const { element, parts } = known;
    known.job = job;
    const isOpen = OPEN.includes(job.state);
    element.dataset.state = { running: "sending", done: "done", failed: "refused" }[job.state] ?? "waiting";
    const name = plain(job.profile);
    parts.name.textContent = name;
    parts.bar.hidden = !isOpen;
    if (job.state === "running") parts.bar.value = job.percent;
    else parts.bar.removeAttribute("value");
    parts.bar.setAttribute("aria-label", `Progress of ${name}`);
    parts.state.textContent = job.state === "running" ? `${Math.floor(job.percent)} %` : this.#outcome(job);
    parts.state.classList.toggle("problem", job.state === "failed");
    const result = job.state === "done" ? job.results[0] : undefined;
    const isStream = result?.key.endsWith(".m3u8");
    this.#act(parts.stop, isOpen, `Cancel ${name}`);
    this.#act(parts.again, ["failed", "canceled"].includes(job.state), `Make ${name} again`);
    this.#act(parts.play, result !== undefined && this.openly && !isStream, `Play ${name}`);
    this.#act(parts.copy, result !== undefined, `Copy link to ${name}`);
    if (before !== undefined && before !== job.state && !isOpen) announce(`${name}: ${parts.state.textContent}`);
    this.#watch();
  }

  #outcome(job) {
    if (job.state === "failed") return sentence({ title: "It could not be made", ...job.problem, status: 0 });
    return STATES[job.state] ?? plain(job.state);
  }

  #added(id) {
    const { element, parts } = fromTemplate("make-row");
    const known = { element, parts, job: undefined };
    const result = () => new URL(known.job.results[0].url, document.baseURI).href;
    parts.stop.addEventListener("click", () => this.#ask(parts.stop, () => this.#api.cancel(id, this.#work.signal)));
    parts.again.addEventListener("click", () => this.#ask(parts.again, () => this.#api.retry(id, this.#work.signal)));
    parts.play.addEventListener("click", () => {
      this.#play(SOUND.test(known.job.results[0].key) ? "sound" : "film", plain(known.job.profile), result());
    });
    parts.copy.addEventListener("click", () => copy(result(), `Link to ${plain(known.job.profile)} copied.`));
    this.#jobs.set(id, known);
    byId("make-jobs").prepend(element);
    return known;
  }

  #act(button, isThere, label) {
    if (!isThere && button === document.activeElement) byId("make-profile").focus();
    button.hidden = !isThere;
    button.setAttribute("aria-label", label);
  }

  #failed(problem) {
    byId("making").hidden = false;
    this.#say(sentence(problem), true);
  }

  #say(text, problem = false) {
    byId("make-state").textContent = text;
    byId("make-state").classList.toggle("problem", problem);
  }
}
