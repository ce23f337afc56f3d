// The words of the page: sizes, facts and failures, as sentences for the reader.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"]; // as limits are set and documented

/** *bytes* in three digits at most: "812 B", "3.4 MiB". */
export function size(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toLocaleString([], { maximumFractionDigits: digits })} ${UNITS[unit]}`;
}

/** *seconds* as "0:07" or "1:02:03". */
export function duration(seconds) {
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** *seconds* that something still takes, no finer than it can be known: "25 s left", "4 min left". */
export function left(seconds) {
  if (seconds < 10) return "a few seconds left";
  if (seconds < 55) return `${Math.ceil(seconds / 5) * 5} s left`;
  const minutes = Math.max(Math.round(seconds / 60), 1);
  if (minutes < 60) return `${minutes} min left`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min left` : `${Math.round(minutes / 1440)} days left`;
}

const TYPE_NAMES = { "audio/mpeg": "MP3", "audio/mp4": "M4A", "video/quicktime": "MOV", "video/x-matroska": "MKV", "text/plain": "Text" };

/** "JPEG" of image/jpeg, "MP4" of video/mp4. */
export function typeName(contentType) {
  if (Object.hasOwn(TYPE_NAMES, contentType)) return TYPE_NAMES[contentType];
  const name = contentType.split(";")[0].split("/").pop().replace(/^x-/, "").replace(/\+.*$/, "");
  return name.length > 12 ? "File" : name.toUpperCase();
}

/** One line about a record: type, measures, length, size. */
export function facts(asset) {
  return [
    typeName(asset.contentType),
    asset.width && asset.height ? `${asset.width} × ${asset.height}` : "",
    asset.duration ? duration(asset.duration) : "",
    size(asset.size),
  ].filter(Boolean).join(" · ");
}

/** A file's name as it may stand in a sentence: no line breaks, and no direction marks that would turn the rest around. */
export function shownName(name) {
  return plain(name) || "Unnamed file";
}

/** Text of anybody's as one line of its own: as `shownName`, and nothing where nothing is left. */
export function plain(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\s]+/gu, " ").trim();
}

/** *date* as the reader's clock and calendar say it, to the second. */
export function moment(date) {
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}

/** "1 file", "3 files". */
export function counted(count, noun) {
  return `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;
}

const SENTENCES = {
  "unreachable": "The server did not answer. Check the connection and try again.",
  "stalled": "Nothing moved for a while, so the upload was stopped. Try again.",
  "unsupported-type": "This type of file is not accepted.",
  "too-large": "The file is too large.",
  "undecodable": "The file is damaged.",
  "too-costly": "The picture is too large to work on.",
  "unauthorized": "Sign in to go on.",
  "forbidden": "Your token does not allow this.",
  "not-offered": "This size or form is not offered here: try one of the common widths.",
  "busy": "The server is busy. Try again in a moment.",
  "rate-limited": "That was too much in a short time. Try again in a moment.",
  "unavailable": "A part of the server does not answer. Try again in a moment.",
  "precondition-failed": "This was changed elsewhere meanwhile: what it says now is shown.",
  "quota-exceeded": "You have no room left for this.",
  "storage-full": "The server has no space left.",
  "too-many-requests": "That was too much at once. Try again in a moment.",
  "unreadable": "The file cannot be read any more: it was changed or moved. Choose the same file again to go on.",
  "elsewhere": "This upload goes on in another tab.",
  "idempotency-key-reused": "The file changed since the first try. Remove it here and choose it again.",
};

const INTERRUPTIONS = {
  0: "The server does not answer.",
  408: "The line is too slow just now.",
  423: "The server is still at work on this file.",
  429: "That was much in a short time.",
  507: "The server has no space left just now.",
};

/** What keeps an upload from going on, for the reader, where it goes on by itself. */
export function interruption({ status }) {
  return INTERRUPTIONS[status] ?? "The server cannot take it just now.";
}

/** What went wrong, for the reader: our sentence for the kind, then what the server says about this case. */
export function sentence(problem) {
  const kind = SENTENCES[problem.code] ?? SENTENCES[{ 401: "unauthorized", 403: "forbidden", 413: "too-large" }[problem.status]];
  const detail = ended(problem.detail).replace(/(\d{4,}) bytes/, (_, bytes) => size(Number(bytes)));
  if (!kind) return [ended(problem.title || "Something went wrong"), detail === ended(problem.title) ? "" : detail].join(" ").trim();
  return problem.status === 401 || problem.status === 412 ? kind : `${kind} ${detail}`.trim();
}

function ended(text) {
  if (!text) return "";
  const capital = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
