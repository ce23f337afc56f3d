// What every part of the page uses of the document: templates, the live region, copying and icons.

const SVG = "http://www.w3.org/2000/svg";
const SHOWN_MS = 6000;
const DRAWINGS = {
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  film: "M4 5h16v14H4zM8 5v14M16 5v14M4 9.5h4M4 14.5h4M16 9.5h4M16 14.5h4",
  sound: "M9 18V6l10-2v12M9 18a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM19 16a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z",
  document: "M6 3h8l4 4v14H6zM14 3v4h4M9 12h6M9 16h6",
};

export const byId = (id) => document.getElementById(id);

/** A copy of the template *id*: its element, and its parts by their data-part. */
export function fromTemplate(id) {
  const element = byId(id).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const part of element.querySelectorAll("[data-part]")) parts[part.dataset.part] = part;
  return { element, parts };
}

/** A drawing of *kind*, for the eye only. */
export function icon(kind) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", DRAWINGS[kind]);
  svg.append(path);
  return svg;
}

let fading = 0;

/** Say *text* aloud and show it for a while. In an open dialog its own region speaks: what lies outside is inert then. */
export function announce(text) {
  const region = document.querySelector("dialog[open] [data-status]") ?? byId("announcement");
  clearTimeout(fading);
  region.textContent = "";
  requestAnimationFrame(() => { // the same sentence twice is announced twice only if it went away in between
    region.textContent = text;
  });
  fading = setTimeout(() => {
    region.textContent = "";
  }, SHOWN_MS);
}

/** Put *text* on the clipboard, or, where the browser has none for us (plain http), show it selected. */
export async function copy(text, done) {
  if (await copied(text)) {
    announce(done);
    return;
  }
  const dialog = byId("by-hand");
  const field = byId("by-hand-url");
  field.value = text;
  dialog.showModal();
  field.focus();
  field.select();
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedTheOldWay(text);
  }
}

function copiedTheOldWay(text) {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.readOnly = true;
  area.className = "unseen";
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  let worked = false;
  try {
    worked = document.execCommand("copy");
  } catch {
    // Not there either: the caller shows the text.
  }
  area.remove();
  before?.focus();
  return worked;
}
