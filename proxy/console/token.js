// Who is signed in: one JSON Web Token, kept for this tab. Its claims are read for display; only the server verifies them.

const PLACE = "media.token";
const LONGEST_TIMER_MS = 2 ** 31 - 1; // setTimeout counts in 32 bits

export class BadToken extends Error {}

/** What *text* says of itself: {token, subject, expires (Date)}. Raises BadToken with a sentence for the reader. */
export function decoded(text) {
  const token = text.trim().replace(/^bearer\s+/i, "").replace(/\s+/g, "");
  if (!token) throw new BadToken("Paste a token first.");
  const parts = token.split(".");
  let claims = null;
  try {
    const bytes = Uint8Array.from(atob(parts[1].replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));
    claims = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    // The one sentence below covers every way of not being a token.
  }
  if (parts.length !== 3 || claims === null || typeof claims !== "object") {
    throw new BadToken("This is not an access token. A token has three parts with dots between them.");
  }
  if (typeof claims.sub !== "string" || !claims.sub) throw new BadToken("This token names nobody: it has no subject.");
  if (typeof claims.exp !== "number") throw new BadToken("This token has no expiry, and the server takes none without.");
  return { token, subject: claims.sub, expires: new Date(claims.exp * 1000) };
}

/** The token in the address after #, or null. It is taken out of the address bar and the history entry at once. */
export function takenFromAddress() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const token = fields.get("token");
  if (token === null) return null;
  fields.delete("token");
  const rest = fields.toString();
  history.replaceState(history.state, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
  return token;
}

/** The signed-in state. Dispatches "change"; *reason* is the sentence to show when it ended by itself. */
export class Session extends EventTarget {
  #current = null;
  #timer = 0;
  skewMs = 0; // the server's clock minus ours, so that a wrong clock here does not end a good token
  reason = "";

  get token() {
    this.#expire();
    return this.#current?.token ?? null;
  }

  get subject() {
    return this.#current?.subject ?? null;
  }

  get expires() {
    return this.#current?.expires ?? null;
  }

  /** Take up the token *fresh*, or else the one this tab kept; one that does not hold leaves its reason. */
  restore(fresh) {
    const kept = fresh ?? stored();
    if (kept === null) return;
    try {
      this.signIn(kept);
    } catch (error) {
      if (!(error instanceof BadToken)) throw error;
      this.#end(error.message);
    }
  }

  /** Use *text* from now on. Raises BadToken if it is none, or is no longer valid. */
  signIn(text) {
    const next = decoded(text);
    if (next.expires.getTime() <= Date.now() + this.skewMs) {
      throw new BadToken(`This token expired ${when(next.expires)}. Paste a new one.`);
    }
    this.#current = next;
    this.reason = "";
    store(next.token);
    this.#watch();
    this.dispatchEvent(new Event("change"));
  }

  signOut() {
    this.#end("");
  }

  /** The server refused *token*: *detail* is its reason. One that has been replaced meanwhile ends nothing. */
  refused(token, detail) {
    if (this.#current?.token === token) this.#end(`The server did not accept the token. ${detail}`.trim());
  }

  #end(reason) {
    clearTimeout(this.#timer);
    this.#current = null;
    this.reason = reason;
    store(null);
    this.dispatchEvent(new Event("change"));
  }

  #expire() {
    const expires = this.#current?.expires;
    if (expires && expires.getTime() <= Date.now() + this.skewMs) {
      this.#end(`Your token expired ${when(expires)}. Paste a new one to go on.`);
    }
  }

  #watch() {
    clearTimeout(this.#timer);
    const left = this.#current.expires.getTime() - Date.now() - this.skewMs;
    this.#timer = setTimeout(() => {
      this.#expire();
      if (this.#current !== null) this.#watch();
    }, Math.min(Math.max(left, 0) + 50, LONGEST_TIMER_MS));
  }
}

/** *moment* as the reader's clock shows it, with the day when that is another one. */
export function when(moment) {
  const today = moment.toDateString() === new Date().toDateString();
  const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return today ? `at ${time}` : `on ${moment.toLocaleDateString([], { dateStyle: "medium" })}, ${time}`;
}

function stored() {
  try {
    return sessionStorage.getItem(PLACE);
  } catch {
    return null; // storage is switched off: the token then lives as long as the page
  }
}

function store(token) {
  try {
    if (token === null) sessionStorage.removeItem(PLACE);
    else sessionStorage.setItem(PLACE, token);
  } catch {
    // As above.
  }
}
