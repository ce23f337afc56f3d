// Elements of a page, made of texts: nothing that a description says becomes markup.

/** An element called *name* with *text*, *attributes* and then *children*, texts or elements. */
export function element(name, text = "", attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  if (text) made.append(text);
  made.append(...children);
  return made;
}

/** A description: what stands between backticks is code. */
export function prose(text) {
  const made = document.createDocumentFragment();
  text.split("`").forEach((part, place) => made.append(place % 2 ? element("code", part) : part));
  return made;
}
