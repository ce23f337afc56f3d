// Server-sent events (WHATWG HTML, section 9.2) of a body that fetch gave: EventSource itself cannot send a token.

const MOST_CHARS = 2 ** 20;

/** Call *heard* with each {id, type, data} of *body* until it ends; id is null where none is said. *alive* is called for each piece. */
export async function hear(body, heard, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let message = fresh();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line !== "") take(message, line);
      else {
        if (message.data.length) heard({ ...message, data: message.data.join("\n") });
        message = fresh();
      }
    }
    if (rest.length + message.chars > MOST_CHARS) {
      await reader.cancel();
      throw new TypeError("a message without an end");
    }
  }
}

function fresh() {
  return { id: null, type: "message", data: [], chars: 0 };
}

function take(message, line) {
  const colon = line.indexOf(":");
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  message.chars += line.length;
  if (name === "data") message.data.push(value);
  else if (name === "event") message.type = value;
  else if (name === "id") message.id = value;
}
