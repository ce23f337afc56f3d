// Waiting that ends early for a good reason.

/** Whether the line came back within *ms*; raises the reason of *signal*. */
export function isBack(ms, signal = new AbortController().signal) {
  return new Promise((resolve, reject) => {
    const over = new AbortController();
    const end = (settle, value) => {
      clearTimeout(timer);
      over.abort();
      settle(value);
    };
    const timer = setTimeout(end, ms, resolve, false);
    addEventListener("online", () => end(resolve, true), { signal: over.signal });
    signal.addEventListener("abort", () => end(reject, signal.reason), { signal: over.signal });
    if (signal.aborted) end(reject, signal.reason);
  });
}
