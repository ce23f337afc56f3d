// Films and sound in a player: above a strip of scenes or the shape of the sound, in which a click leads to that moment.

import { mediaPath } from "./api.js";

const DARK = "(prefers-color-scheme: dark)";
const WAVE = { light: "8f4c00", dark: "ffb54d" }; // the amber of console.css
const SCENES = { sprite: "8x1", w: "120", format: "auto" };

/** A player of *what*, a film or a sound, called *name*; *failed* is called if this browser cannot play it. */
export function player(what, name, address, failed) {
  const media = document.createElement(what === "film" ? "video" : "audio");
  media.controls = true;
  media.preload = "metadata";
  media.playsInline = true;
  media.setAttribute("aria-label", name);
  media.src = address;
  media.addEventListener("error", failed);
  return media;
}

/** *media* with what can be seen of *asset*, whose bytes it plays: the poster and scenes of a film, the cover and shape of a sound. */
export function illustrated(media, asset, what) {
  const frame = document.createElement("div");
  frame.className = "player";
  frame.dataset.kind = what;
  if (what === "film") media.poster = mediaPath(asset.key, { w: "960", format: "auto" });
  else if (asset.thumbhash) frame.append(drawing("cover", mediaPath(asset.key, { w: "480", format: "auto" })));
  frame.append(media);
  if (asset.duration) {
    const wave = { waveform: matchMedia(DARK).matches ? WAVE.dark : WAVE.light, w: "960", h: "96", format: "auto" };
    frame.append(strip(media, mediaPath(asset.key, what === "film" ? SCENES : wave), asset.duration));
  }
  return frame;
}

/** A picture of the whole length; the controls of *media* do the same for the keyboard, so it is for the pointer alone. */
function strip(media, address, lengthS) {
  const box = document.createElement("div");
  box.className = "strip";
  const mark = document.createElement("i");
  const follow = () => box.style.setProperty("--at", String(Math.min(media.currentTime / lengthS, 1)));
  for (const type of ["timeupdate", "seeked"]) media.addEventListener(type, follow);
  box.addEventListener("click", (event) => {
    const { left, width } = box.getBoundingClientRect();
    media.currentTime = ((event.clientX - left) / width) * lengthS;
  });
  box.append(drawing("", address, () => box.remove()), mark);
  return box;
}

function drawing(name, address, failed = () => image.remove()) {
  const image = document.createElement("img");
  image.className = name;
  image.alt = "";
  image.draggable = false;
  image.addEventListener("error", failed); // where the operator does not offer it
  image.src = address;
  return image;
}
