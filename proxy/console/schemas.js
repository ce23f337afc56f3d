// Schemas in words: what a value may be, and what an object is made of.

import { element, prose } from "./elements.js";

const DEEPEST = 5;

/** What a `$ref` stands for; anything else is itself. Parts of `allOf` are put together. */
export function resolved(description, value) {
  let found = value;
  while (found.$ref) found = found.$ref.slice(2).split("/").reduce((place, name) => place[name.replaceAll("~1", "/")], description);
  if (!found.allOf) return found;
  const parts = found.allOf.map((part) => resolved(description, part));
  return { ...found, properties: Object.assign({}, ...parts.map((part) => part.properties)), type: "object" };
}

function range(schema) {
  const [least, most] = [schema.minimum ?? schema.minLength ?? schema.minItems, schema.maximum ?? schema.maxLength ?? schema.maxItems];
  const unit = schema.maxLength || schema.minLength ? " characters" : schema.maxItems || schema.minItems ? " items" : "";
  if (least !== undefined && most !== undefined) return least === most ? `${least}${unit}` : `${least}–${most}${unit}`;
  if (least !== undefined) return `from ${least}${unit}`;
  return most === undefined ? "" : `up to ${most}${unit}`;
}

/** What a value of *schema* may be, as texts and elements. */
function kind(description, schema) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [element("a", name, { href: `#schema-${name}` })];
  }
  for (const choice of ["oneOf", "anyOf"]) {
    if (schema[choice]) return schema[choice].flatMap((each, place) => [...(place ? [" or "] : []), ...kind(description, each)]);
  }
  if (schema.const !== undefined) return [element("code", String(schema.const))];
  if (schema.enum) return schema.enum.flatMap((each, place) => [...(place ? [", "] : []), element("code", String(each))]);
  const types = [schema.type ?? []].flat();
  if (types.includes("array")) {
    const within = kind(description, schema.items ?? {});
    const bounds = range(schema);
    return [bounds ? `list (${bounds}) of ` : "list of ", ...(within.length ? within : ["any"]), ...(types.includes("null") ? [" or null"] : [])];
  }
  const name = schema.format === "binary" ? "bytes" : [schema.format ?? "", types.filter((type) => type !== "null").join(" or ")].filter(Boolean).join(" ");
  const bounds = range(schema);
  const said = [name, bounds && `${bounds}`].filter(Boolean).join(", ");
  return [types.includes("null") ? `${said} or null` : said].filter(Boolean);
}

/** A list of *entries*, {name, schema, needed, notes, text}: each with what it may be and what it means. */
export function terms(description, entries, depth = 0) {
  const list = element("dl", "", { class: "terms" });
  for (const { name, schema, needed, notes = [], text } of entries) {
    const about = element("dd");
    const said = element("p", "", { class: "kind" }, ...kind(description, schema));
    for (const note of notes) said.append(said.textContent ? ` · ${note}` : note);
    if (needed) said.append(" · ", element("strong", "required"));
    if (schema.default !== undefined) said.append(" · default ", element("code", String(schema.default)));
    about.append(said);
    if (text) about.append(element("p", "", {}, prose(text)));
    const within = depth < DEEPEST && !schema.$ref ? described(description, schema.items && !schema.items.$ref ? schema.items : schema, false, depth + 1) : null;
    if (within) about.append(within);
    list.append(element("dt", "", {}, element("code", name)), about);
  }
  return list;
}

/** The members of an object of *schema*; null where it has none. A schema with a name is told by that name, unless *whole*. */
export function described(description, schema, whole = false, depth = 0) {
  if (schema.$ref && !whole) return element("p", "", { class: "kind" }, ...kind(description, schema));
  const found = resolved(description, schema);
  const needed = new Set(found.required ?? []);
  const entries = Object.entries(found.properties ?? {}).map(([name, each]) => ({
    name,
    schema: each,
    needed: needed.has(name),
    text: each.description,
  }));
  if (entries.length) return terms(description, entries, depth);
  if (depth > 0) return null;
  const said = kind(description, found);
  if (!said.length && found.description) said.push(prose(found.description));
  return said.length ? element("p", "", { class: "kind" }, ...said) : null;
}
