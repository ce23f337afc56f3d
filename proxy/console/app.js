// The page put together: who is signed in, what is being uploaded, what is there.

import { Api } from "./api.js";
import { Elsewhere } from "./elsewhere.js";
import { Gallery } from "./gallery.js";
import { Live } from "./live.js";
import { announce, byId } from "./page.js";
import { Thumbnails } from "./pictures.js";
import { BadToken, Session, takenFromAddress, when } from "./token.js";
import { Uploads } from "./uploads.js";
import { Usage } from "./usage.js";
import { Viewer } from "./viewer.js";
import { counted, shownName } from "./wording.js";

const READS = {
  public: "Anyone with a link can open these files.",
  owner: "Only you can open these files.",
  signed: "Only you, and holders of a signed link, can open these files.",
};

const fresh = takenFromAddress(); // before anything is waited for: it is not to stand in the address bar
const session = new Session();
const api = new Api(session);
const thumbnails = new Thumbnails(api);
const viewer = new Viewer(api);
const gallery = new Gallery(api, session, thumbnails, viewer);
const usage = new Usage(api, session);
const uploads = new Uploads(api, session, stored, () => elsewhere.sift());
const elsewhere = new Elsewhere(api, (id) => uploads.isOurs(id), () => usage.changed());
const live = new Live(api, session, { opened, event: happened, state: tellLive });

/** A file of this page has arrived. */
function stored(asset) {
  news.delete(asset.key);
  gallery.add(asset);
  usage.changed();
}

function sessionChanged() {
  const { subject, expires, reason } = session;
  const signedIn = subject !== null;
  const ended = !signedIn && !byId("session").hidden;
  byId("session").hidden = !signedIn;
  byId("sign-in").hidden = signedIn;
  byId("session-subject").textContent = subject ?? "";
  byId("session-expiry").textContent = signedIn ? `until ${when(expires).replace(/^(at|on) /, "")}` : "";
  tellToken(reason);
  if (ended) {
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    byId("token").focus();
  }
  gallery.sessionChanged();
  uploads.sessionChanged();
  usage.sessionChanged();
  if (!signedIn) elsewhere.clear();
  live.sessionChanged();
}

const NEWS_MS = 1_000; // what comes in so short a time is told in one sentence
const news = new Map(); // key -> name, of files that have come from elsewhere
let telling = 0;

/** The stream of events has begun; with *missed*, things may have happened that it does not tell. */
function opened(missed) {
  if (missed) gallery.refresh();
  usage.changed();
}

function happened(type, said) {
  if (type === "upload.progress") {
    elsewhere.progress(said);
    return;
  }
  if (type === "job.progress") {
    viewer.progress(said);
    return;
  }
  const asset = said.data;
  if (typeof asset?.key !== "string") return;
  if (type === "asset.stored") {
    if (gallery.add(asset)) tellSoon(asset);
    viewer.changed(asset);
  } else if (type === "asset.processed") {
    viewer.changed(asset);
  } else if (type === "asset.quarantined") {
    const withheld = { ...asset, state: "quarantined" };
    gallery.add(withheld);
    viewer.changed(withheld);
  } else if (type === "asset.removed") {
    news.delete(asset.key);
    const name = gallery.removed(asset.key);
    viewer.removed(asset.key);
    if (name !== null) announce(`${name} was deleted elsewhere.`);
  } else {
    return;
  }
  elsewhere.settled();
  usage.changed();
}

function tellSoon(asset) {
  news.set(asset.key, shownName(asset.filename || asset.key.split("/").pop()));
  clearTimeout(telling);
  telling = setTimeout(() => {
    const names = [...news.values()];
    news.clear();
    if (names.length) announce(names.length === 1 ? `${names[0]} has arrived.` : `${counted(names.length, "file")} have arrived.`);
  }, NEWS_MS);
}

function tellLive(state, problem) {
  const words = {
    off: "",
    live: "Live",
    waiting: problem?.status === 429 ? "Not live: too many of your pages are open" : "Not live: the line is broken",
    refused: problem?.status === 403 ? "Not live: your token does not allow it" : "Not live",
  }[state];
  const region = byId("live-state");
  region.dataset.state = state;
  if (region.textContent !== words) region.textContent = words;
}

function tellToken(problem) {
  byId("token-problem").textContent = problem;
  byId("token").toggleAttribute("aria-invalid", Boolean(problem));
}

function signIn(text) {
  try {
    session.signIn(text);
  } catch (error) {
    if (!(error instanceof BadToken)) throw error;
    tellToken(error.message);
    byId("token").focus();
    return;
  }
  byId("token").value = "";
  showToken(false);
  announce(`Signed in as ${session.subject}.`);
  byId("choose").focus();
}

function showToken(shown) {
  byId("token").type = shown ? "text" : "password";
  byId("token-show").setAttribute("aria-pressed", String(shown));
}

function take(files) {
  if (files.length === 0) return;
  uploads.add(files);
  if (session.token === null) byId("token").focus();
}

function wireSignIn() {
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(byId("token").value);
  });
  byId("token-show").addEventListener("click", () => showToken(byId("token").type === "password"));
  byId("sign-out").addEventListener("click", () => {
    uploads.clear();
    session.signOut();
    announce("Signed out.");
  });
  addEventListener("hashchange", () => { // the printed address, opened in a tab that is already here
    const token = takenFromAddress();
    if (token !== null) session.restore(token);
  });
}

function wireFiles() {
  const input = byId("files");
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // or the same file could not be chosen again
  });
  byId("choose").addEventListener("click", () => input.click());
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    take(files);
  });
  let depth = 0; // enter and leave come for every element on the way; only their balance says whether we left the page
  const veil = (shown) => {
    byId("veil").hidden = !shown;
    byId("drop").classList.toggle("aimed", shown);
  };
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    veil(true);
  });
  addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    if (depth === 0) veil(false);
  });
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    veil(false);
    const dropped = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const folders = dropped.filter((item) => item.webkitGetAsEntry?.()?.isDirectory);
    take(dropped.filter((item) => !folders.includes(item)).map((item) => item.getAsFile()).filter(Boolean));
    if (folders.length) announce("Folders cannot be uploaded; drop the files in them.");
  });
}

function wireDialogs() {
  byId("by-hand-close").addEventListener("click", () => byId("by-hand").close());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => { // a click on the dialog itself is one on its backdrop: the content covers the rest
      const box = dialog.getBoundingClientRect();
      const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
      if (event.target === dialog && !inside) dialog.close();
    });
  }
}

async function askHealth() {
  try {
    const { status, reads } = await api.health();
    thumbnails.openly = reads === undefined || reads === "public";
    viewer.reads = reads ?? "public";
    byId("read-access").textContent = READS[reads] ?? "";
    byId("service-state").textContent = status === "ok" ? "The service is well." : "A part of the service is down.";
  } catch {
    byId("service-state").textContent = "The service does not answer.";
  }
}

wireSignIn();
wireFiles();
wireDialogs();
await askHealth();
session.restore(fresh);
session.addEventListener("change", sessionChanged);
sessionChanged();
