// What one has uploaded, newest first: thumbnails, copy-link, delete, and the next page when it is asked for.

import { announce, byId, copy, fromTemplate, icon } from "./page.js";
import { kind } from "./pictures.js";
import { facts, sentence, shownName } from "./wording.js";

const PAGE = 24;

export class Gallery {
  #api;
  #session;
  #thumbnails;
  #viewer;
  #cards = new Map(); // key -> {element, image}
  #cursor = null;
  #owner = null;
  #loading = null;
  #doomed = null; // the asset that the delete dialog is about

  constructor(api, session, thumbnails, viewer) {
    this.#api = api;
    this.#session = session;
    this.#thumbnails = thumbnails;
    this.#viewer = viewer;
    byId("more").addEventListener("click", () => this.#more());
    byId("refresh").addEventListener("click", () => this.#reload());
    byId("confirm-no").addEventListener("click", () => byId("confirm").close());
    byId("confirm-yes").addEventListener("click", () => this.#delete());
  }

  /** Follow the session: show the caller's files, or none. */
  sessionChanged() {
    const { subject } = this.#session;
    byId("gallery").hidden = subject === null;
    if (subject === this.#owner) return;
    this.#owner = subject;
    this.#empty();
    if (subject !== null) this.#more();
  }

  /** Put a file that has just arrived in the first place. */
  add(asset) {
    if (this.#session.subject === null || this.#cards.has(asset.key)) return;
    byId("cards").prepend(this.#card(asset));
    this.#say("");
  }

  #reload() {
    this.#empty();
    this.#more();
  }

  #empty() {
    this.#loading?.abort();
    this.#loading = null;
    this.#cursor = null;
    for (const key of [...this.#cards.keys()]) this.#drop(key);
    byId("more").hidden = true;
  }

  async #more() {
    if (this.#loading) return;
    const loading = new AbortController();
    this.#loading = loading;
    const more = byId("more");
    const hadFocus = document.activeElement === more;
    byId("cards").setAttribute("aria-busy", "true");
    this.#say("Loading");
    try {
      const page = await this.#api.assets(PAGE, this.#cursor, loading.signal);
      if (loading.signal.aborted) return;
      const fresh = page.assets.filter((asset) => !this.#cards.has(asset.key));
      const cards = fresh.map((asset) => this.#card(asset));
      byId("cards").append(...cards);
      this.#cursor = page.nextCursor;
      more.hidden = this.#cursor === null;
      more.textContent = "Load more";
      this.#say(this.#cards.size ? "" : "Nothing here yet. What you upload appears here.");
      if (hadFocus && cards.length) cards[0].querySelector("button").focus();
    } catch (problem) {
      if (loading.signal.aborted) return;
      this.#say(problem.status === 401 ? "" : sentence(problem), true);
      more.textContent = "Try again";
      more.hidden = problem.status === 401;
    } finally {
      if (this.#loading === loading) this.#loading = null;
      byId("cards").removeAttribute("aria-busy");
    }
  }

  #card(asset) {
    const { element, parts } = fromTemplate("gallery-card");
    const name = shownName(asset.filename || asset.key.split("/").pop());
    const what = kind(asset);
    let image = null;
    if (what === "picture" || what === "film") {
      image = this.#thumbnails.image(asset, name, () => {
        this.#thumbnails.release(image);
        image.replaceWith(...tile(what, name));
      });
      parts.open.append(image);
      if (what === "film") parts.open.append(icon("film"));
    } else {
      parts.open.append(...tile(what, name));
    }
    parts.open.dataset.kind = what;
    parts.name.textContent = name;
    parts.name.title = name;
    parts.facts.textContent = facts(asset);
    parts.open.addEventListener("click", () => this.#viewer.show(asset, name));
    parts.copy.setAttribute("aria-label", `Copy link to ${name}`);
    parts.copy.addEventListener("click", () => copy(linkOf(asset), `Link to ${name} copied.`));
    parts.delete.setAttribute("aria-label", `Delete ${name}`);
    parts.delete.addEventListener("click", () => this.#ask(asset, name));
    this.#cards.set(asset.key, { element, image });
    return element;
  }

  #ask(asset, name) {
    this.#doomed = { asset, name };
    byId("confirm-title").textContent = `Delete ${name}?`;
    byId("confirm-problem").textContent = "";
    byId("confirm").showModal();
  }

  async #delete() {
    const { asset, name } = this.#doomed;
    byId("confirm-yes").disabled = true;
    byId("confirm-problem").textContent = "";
    try {
      await this.#api.remove(asset.key);
    } catch (problem) {
      byId("confirm-problem").textContent = sentence(problem);
      return;
    } finally {
      byId("confirm-yes").disabled = false;
    }
    byId("confirm").close();
    const card = this.#cards.get(asset.key)?.element;
    const neighbour = card?.nextElementSibling ?? card?.previousElementSibling;
    this.#drop(asset.key);
    (neighbour?.querySelector("button") ?? byId("gallery-title")).focus();
    announce(`${name} is deleted.`);
    if (this.#cards.size === 0 && this.#cursor === null) this.#say("Nothing here yet. What you upload appears here.");
  }

  #drop(key) {
    const card = this.#cards.get(key);
    if (!card) return;
    if (card.image) this.#thumbnails.release(card.image);
    card.element.remove();
    this.#cards.delete(key);
  }

  #say(text, problem = false) {
    byId("gallery-state").textContent = text;
    byId("gallery-state").classList.toggle("problem", problem);
  }
}

/** The address of *asset* to hand on, absolute. */
export function linkOf(asset) {
  return new URL(asset.url, document.baseURI).href;
}

function tile(what, name) {
  const label = document.createElement("span");
  label.className = "unseen";
  label.textContent = name;
  return [icon(what), label];
}
