// What one has uploaded, newest first: thumbnails, copy-link, delete, and the next page when it is asked for. What happens
// elsewhere is seen here as it happens.

import { announce, byId, copy, fromTemplate, icon } from "./page.js";
import { kind } from "./pictures.js";
import { facts, sentence, shownName } from "./wording.js";

const PAGE = 24;
const QUARANTINED = "quarantined";
const MOST_GONE = 1_000;
const EMPTY = "Nothing here yet. What you upload appears here.";

export class Gallery {
  #api;
  #session;
  #thumbnails;
  #viewer;
  #cards = new Map(); // key -> {element, image, asset, name}
  #gone = new Set(); // keys of what was removed: a list that was asked for before may still name them
  #cursor = null;
  #owner = null;
  #loading = null;
  #life = new AbortController(); // as long as the same list is shown
  #isStale = false; // something may have happened that neither the list nor the events tell
  #doomed = null; // the asset that the delete dialog is about
  #deleting = null; // the key of what is being deleted here

  constructor(api, session, thumbnails, viewer) {
    this.#api = api;
    this.#session = session;
    this.#thumbnails = thumbnails;
    this.#viewer = viewer;
    byId("more").addEventListener("click", () => this.#more());
    byId("refresh").addEventListener("click", () => this.#reload());
    byId("confirm-no").addEventListener("click", () => byId("confirm").close());
    byId("confirm").addEventListener("close", () => {
      if (!byId("confirm").open) this.#doomed = null; // the event comes later than the act: it may be open again
    });
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

  /** Show the file of *asset* in its place, the newest first; whether it was not there before. */
  add(asset) {
    if (this.#session.subject === null || asset.source) return false; // what was made of a file stands at that
    this.#gone.delete(asset.key);
    const known = this.#cards.get(asset.key);
    if (known && known.asset.etag === asset.etag && known.asset.state === asset.state) return false;
    const next = known ? known.element : this.#follower(asset);
    if (next === null && this.#cursor !== null) return false; // its place is on a page that was not asked for
    const element = this.#card(asset);
    if (known) this.#swap(known, element);
    else {
      element.classList.add("arrived");
      byId("cards").insertBefore(element, next);
    }
    this.#say("");
    return !known;
  }

  /** Take what was removed elsewhere off the page; gives the name it had there, null if it was not there. */
  removed(key) {
    if (this.#gone.size >= MOST_GONE) this.#gone.clear();
    this.#gone.add(key);
    const card = this.#cards.get(key);
    if (!card || this.#deleting === key) return null;
    if (this.#doomed?.asset.key === key) byId("confirm").close();
    this.#leave(key);
    return card.name;
  }

  /** Ask for the newest files again, and show what is new and what is not there any more. */
  async refresh() {
    if (this.#loading) {
      this.#isStale = true;
      return;
    }
    const { signal } = this.#life;
    const before = new Map(this.#cards);
    let page;
    try {
      page = await this.#api.assets(PAGE, null, signal);
    } catch {
      return; // what is shown stays, and what happens from now on is told
    }
    if (signal.aborted) return;
    const there = new Set(page.assets.map((asset) => asset.key));
    const oldest = page.nextCursor === null ? "" : (page.assets.at(-1)?.createdAt ?? "");
    // What was told of meanwhile is newer than this list.
    const isAsBefore = (key) => this.#cards.get(key) === before.get(key) && !this.#gone.has(key);
    for (const [key, { asset }] of before) {
      const isMissing = asset.createdAt > oldest && asset.state !== QUARANTINED && !there.has(key);
      if (isMissing && isAsBefore(key)) this.#leave(key);
    }
    for (const asset of page.assets) if (isAsBefore(asset.key)) this.add(asset);
  }

  #follower(asset) {
    for (const element of byId("cards").children) if (element.dataset.created <= asset.createdAt) return element;
    return null;
  }

  #swap(known, element) {
    const hadFocus = known.element.contains(document.activeElement);
    if (known.image) this.#thumbnails.release(known.image);
    known.element.replaceWith(element);
    if (hadFocus) element.querySelector("button").focus();
  }

  #reload() {
    this.#empty();
    this.#more();
  }

  #empty() {
    this.#life.abort();
    this.#life = new AbortController();
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
      const fresh = page.assets.filter((asset) => !asset.source && !this.#cards.has(asset.key) && !this.#gone.has(asset.key));
      const cards = fresh.map((asset) => this.#card(asset));
      byId("cards").append(...cards);
      this.#cursor = page.nextCursor;
      more.hidden = this.#cursor === null;
      more.textContent = "Load more";
      this.#say(this.#cards.size ? "" : EMPTY);
      if (hadFocus && cards.length) cards[0].querySelector("button").focus();
    } catch (problem) {
      if (loading.signal.aborted) return;
      this.#say(problem.status === 401 ? "" : sentence(problem), true);
      more.textContent = "Try again";
      more.hidden = problem.status === 401;
    } finally {
      if (this.#loading === loading) this.#loading = null;
      byId("cards").removeAttribute("aria-busy");
      if (this.#isStale && !this.#loading) {
        this.#isStale = false;
        this.refresh();
      }
    }
  }

  #card(asset) {
    const { element, parts } = fromTemplate("gallery-card");
    const name = shownName(asset.filename || asset.key.split("/").pop());
    const what = kind(asset);
    let image = null;
    if ((what === "picture" || what === "film") && asset.state !== QUARANTINED) {
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
    if (asset.state === QUARANTINED) {
      element.dataset.state = asset.state;
      parts.state.textContent = "Quarantined";
      parts.state.hidden = false;
      parts.copy.hidden = true;
    }
    element.dataset.created = asset.createdAt;
    this.#cards.set(asset.key, { element, image, asset, name });
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
    this.#deleting = asset.key;
    try {
      await this.#api.remove(asset.key);
    } catch (problem) {
      byId("confirm-problem").textContent = sentence(problem);
      return;
    } finally {
      byId("confirm-yes").disabled = false;
      this.#deleting = null;
    }
    byId("confirm").close();
    this.#gone.add(asset.key);
    this.#leave(asset.key, true);
    announce(`${name} is deleted.`);
  }

  /** Take the card of *key* away; the focus, if it had it or *takesFocus*, goes to its neighbour. */
  #leave(key, takesFocus = false) {
    const card = this.#cards.get(key)?.element;
    const neighbour = card?.nextElementSibling ?? card?.previousElementSibling;
    const hadFocus = card?.contains(document.activeElement);
    this.#drop(key);
    if (hadFocus || takesFocus) (neighbour?.querySelector("button") ?? byId("gallery-title")).focus();
    if (this.#cards.size === 0 && this.#cursor === null) this.#say(EMPTY);
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
