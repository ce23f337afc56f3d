// Thumbnails: responsive where an <img> may read by itself, fetched with the token where it may not.

import { mediaPath } from "./api.js";

export const WIDTHS = [160, 320, 480, 640, 960];
const TRIES = 4;
const LONGEST_WAIT_S = 10;

/** What the record is to the reader: "picture", "film", "sound" or "document". */
export function kind(asset) {
  return { image: "picture", video: "film", audio: "sound" }[asset.contentType.split("/")[0]] ?? "document";
}

/** The srcset of *asset*: no width beyond the first that covers the picture, for the server does not enlarge. */
export function srcset(asset) {
  const enough = WIDTHS.findIndex((width) => width >= (asset.width ?? Infinity));
  const widths = enough < 0 ? WIDTHS : WIDTHS.slice(0, enough + 1);
  return widths.map((width) => `${thumbnail(asset, width)} ${Math.min(width, asset.width ?? width)}w`).join(", ");
}

const thumbnail = (asset, width) => mediaPath(asset.key, { w: String(width), format: "auto" });

export class Thumbnails {
  #api;
  #jobs = new WeakMap(); // image -> what is under way or held for it
  #near = new IntersectionObserver((entries) => this.#came(entries), { rootMargin: "200px" });
  openly = true;

  constructor(api) {
    this.#api = api;
  }

  /** An <img> of *asset* that keeps its place from the start; calls *failed* if no picture can be had. */
  image(asset, alt, failed) {
    const image = document.createElement("img");
    image.alt = alt;
    image.loading = "lazy";
    image.decoding = "async";
    image.width = asset.width || 4;
    image.height = asset.height || 3;
    image.style.setProperty("--w", String(image.width));
    image.style.setProperty("--h", String(image.height));
    const job = { asset, failed, address: "", stop: new AbortController() };
    this.#jobs.set(image, job);
    if (this.openly) {
      image.addEventListener("error", () => this.#fetched(image, job), { once: true });
      image.sizes = "auto, (max-width: 40rem) 45vw, 15rem";
      image.srcset = srcset(asset);
      image.src = thumbnail(asset, 320);
    } else {
      this.#near.observe(image);
    }
    return image;
  }

  /** Give back what *image* holds. */
  release(image) {
    const job = this.#jobs.get(image);
    if (!job) return;
    this.#near.unobserve(image);
    job.stop.abort();
    if (job.address) URL.revokeObjectURL(job.address);
    this.#jobs.delete(image);
  }

  #came(entries) {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      this.#near.unobserve(target);
      const job = this.#jobs.get(target);
      if (job) this.#fetched(target, job);
    }
  }

  async #fetched(image, job) {
    const wanted = image.clientWidth * devicePixelRatio;
    const path = thumbnail(job.asset, WIDTHS.find((width) => width >= wanted) ?? WIDTHS.at(-1));
    const { signal } = job.stop;
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      try {
        const blob = await this.#api.picture(path, { openly: this.openly, signal });
        if (signal.aborted) return;
        job.address = URL.createObjectURL(blob);
        image.removeAttribute("srcset");
        image.addEventListener("error", job.failed, { once: true });
        image.src = job.address;
        return;
      } catch (problem) {
        if (signal.aborted) return;
        if (attempt === TRIES || ![0, 429, 503].includes(problem.status)) {
          job.failed();
          return;
        }
        await pause(Math.min(Math.max(problem.retryAfterS ?? 0, attempt), LONGEST_WAIT_S), signal);
      }
    }
  }
}

function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
