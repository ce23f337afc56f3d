// Writes the reference page from the API's own description, so that the two cannot differ.

import { command, copied } from "./examples.js";
import { element, prose } from "./elements.js";
import { described, resolved, terms } from "./schemas.js";

const METHODS = ["get", "head", "options", "post", "put", "patch", "delete"];
const PROBLEM = "application/problem+json";
const SAME = "The headers of the same GET";
const PLACES = { path: "in the path", query: "in the query", header: "header" };

/** The operations of *description* by tag, as {path, methods, told, shared}: HEAD with its GET, unless it tells something else. */
function grouped(description) {
  const groups = new Map(description.tags.map((tag) => [tag.name, { tag, operations: [] }]));
  for (const [path, item] of Object.entries(description.paths)) {
    for (const method of METHODS.filter((each) => item[each])) {
      const isShared = item.get && item.head?.summary === SAME;
      if (method === "head" && isShared) continue;
      const methods = method === "get" && isShared ? ["get", "head"] : [method];
      const tag = item[method].tags[0];
      groups.get(tag).operations.push({ path, methods, told: item[method], shared: item.parameters ?? [] });
    }
  }
  return [...groups.values()];
}

function verbs(methods) {
  return methods.map((method) => element("span", method.toUpperCase(), { class: `method ${method}` }));
}

function who(description, told) {
  const schemes = told.security ?? description.security ?? [];
  const names = schemes.flatMap((scheme) => Object.keys(scheme));
  if (!names.length) return "Anybody may ask.";
  const said = [...new Set(names)].map((name) => (name === "token" ? "a token" : name === "hook" ? "a token of the store" : "its password"));
  return `${schemes.some((scheme) => !Object.keys(scheme).length) ? "With or without " : "With "}${said.join(" or ")}.`;
}

function parameters(description, list) {
  return list
    .map((each) => resolved(description, each))
    .map((each) => ({
      name: each.name,
      schema: each.schema ?? {},
      needed: each.required,
      notes: [PLACES[each.in]],
      text: each.description,
    }));
}

function bodies(description, content) {
  return Object.entries(content).map(([type, { schema = {} }]) => {
    const list = described(description, schema);
    return element("div", "", { class: "body" }, element("p", "", {}, type === "*/*" ? "any type" : element("code", type)), ...(list ? [list] : []));
  });
}

function headers(description, given) {
  const list = Object.entries(given ?? {}).map(([name, each]) => {
    const header = resolved(description, each);
    return { name, schema: header.schema ?? {}, notes: ["header"], text: header.description };
  });
  return list.length ? [terms(description, list)] : [];
}

/** What goes well, each answer with its headers and body; and what does not, as one list of codes. */
function answers(description, told) {
  const well = [];
  const wrong = [];
  for (const [status, each] of Object.entries(told.responses)) {
    const answer = resolved(description, each);
    const schema = answer.content?.[PROBLEM]?.schema;
    if (schema) {
      const codes = told["x-problems"]?.[status] ?? resolved(description, schema).properties?.code?.enum ?? [];
      wrong.push(element("li", `${status} `, {}, ...codes.flatMap((code) => [element("a", code, { href: `#${code}` }), " "])));
      continue;
    }
    const head = element("p", "", { class: "answer" }, element("strong", status), " ", prose(answer.description ?? ""));
    well.push(head, ...headers(description, answer.headers), ...bodies(description, answer.content ?? {}));
  }
  if (wrong.length) well.push(element("p", "Problems", { class: "answer" }), element("ul", "", { class: "codes" }, ...wrong));
  return well;
}

function part(title, children) {
  return children.length ? [element("h4", title), ...children] : [];
}

function operation(description, { path, methods, told, shared }) {
  const heading = element("h3", "", {}, ...verbs(methods), element("code", path));
  const summary = element("summary", "", {}, heading, element("span", told.summary, { class: "summary" }));
  const given = parameters(description, [...shared, ...(told.parameters ?? [])]);
  const body = told.requestBody ? bodies(description, told.requestBody.content) : [];
  const text = command(description, path, methods[0], told, shared);
  const section = element(
    "details",
    "",
    { id: told.operationId, class: "operation" },
    summary,
    ...(told.description ? [element("p", "", {}, prose(told.description))] : []),
    element("p", who(description, told), { class: "quiet" }),
    ...part("Parameters", given.length ? [terms(description, given)] : []),
    ...part(told.requestBody?.required ? "Body" : "Body, if any", body),
    ...part("Answers", answers(description, told)),
    ...part("Example", [copied(text)]),
  );
  section.dataset.words = section.textContent.toLowerCase();
  return section;
}

function group(description, { tag, operations }) {
  const id = `tag-${tag.name.toLowerCase().replaceAll(" ", "-")}`;
  return element(
    "section",
    "",
    { id },
    element("h2", tag.name),
    ...(tag.description ? [element("p", "", { class: "quiet" }, prose(tag.description))] : []),
    ...operations.map((each) => operation(description, each)),
  );
}

function schemas(description) {
  const all = Object.entries(description.components.schemas).map(([name, schema]) =>
    element(
      "details",
      "",
      { id: `schema-${name}`, class: "operation" },
      element("summary", "", {}, element("h3", "", {}, element("code", name))),
      ...(schema.description ? [element("p", "", {}, prose(schema.description))] : []),
      described(description, schema, true) ?? "",
    ),
  );
  return element("section", "", { id: "schemas" }, element("h2", "Records and other values"), ...all);
}

function problems(known) {
  const rows = Object.entries(known).sort(([, a], [, b]) => a.status - b.status);
  const list = element("dl", "", { class: "problems" });
  for (const [code, { status, title }] of rows) {
    list.append(element("dt", "", { id: code }, element("code", code)), element("dd", `${status}: ${title}.`));
  }
  const text = "What goes wrong is told as application/problem+json (RFC 9457); code is one of these and does not change.";
  return element("section", "", { id: "problems" }, element("h2", "Problems"), element("p", text, { class: "quiet" }), list);
}

/** A path that may be broken after its slashes. */
function breakable(path) {
  const parts = path.split(/(?<=\/)/);
  return element("span", "", {}, ...parts.flatMap((part, place) => (place ? [element("wbr"), part] : [part])));
}

function index(groups) {
  const entry = (href, ...children) => element("li", "", {}, element("a", "", { href }, ...children));
  const lists = groups.map(({ tag, operations }) => [
    element("h2", tag.name),
    element(
      "ul",
      "",
      {},
      ...operations.map(({ path, methods, told }) =>
        entry(`#${told.operationId}`, element("span", methods[0], { class: `method ${methods[0]}` }), breakable(path.replace(/^\/api/, "") || "/")),
      ),
    ),
  ]);
  const rest = [entry("#schemas", "Records and other values"), entry("#problems", "Problems")];
  return [...lists.flat(), element("h2", "Values"), element("ul", "", {}, ...rest)];
}

/** Open what the address names, and all that it lies in, and bring it into view. */
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let each = target; each; each = each.parentElement) {
    if (each.tagName === "DETAILS") each.open = true;
  }
  target.scrollIntoView();
}

/** Leave what has all *words*; an empty line leaves everything. */
function narrow(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const each of document.querySelectorAll("details[data-words]")) {
    each.hidden = !wanted.every((word) => each.dataset.words.includes(word));
    count += each.hidden ? 0 : 1;
    const link = document.querySelector(`#index a[href="#${each.id}"]`);
    if (link) link.parentElement.hidden = each.hidden;
  }
  for (const section of document.querySelectorAll("main > section")) {
    const within = [...section.querySelectorAll("details[data-words]")];
    section.hidden = within.length ? within.every((each) => each.hidden) : wanted.length > 0;
  }
  for (const list of document.querySelectorAll("#index ul")) {
    const rows = [...list.children];
    const empty = rows.every((row) => row.hidden) || (wanted.length > 0 && !list.querySelector(".method"));
    list.hidden = list.previousElementSibling.hidden = empty;
  }
  document.querySelector("#found").textContent = wanted.length ? `${count} ${count === 1 ? "operation" : "operations"}` : "";
}

async function show(main, about) {
  const answer = await fetch("api/openapi.json", { signal: AbortSignal.timeout(30_000) });
  const description = await answer.json();
  const groups = grouped(description);
  about.replaceChildren(prose(description.info.description));
  document.querySelector("#index").replaceChildren(...index(groups));
  main.append(
    element("p", `Version ${description.info.version}`, { class: "quiet" }),
    ...groups.map((each) => group(description, each)),
    schemas(description),
    problems(description.components.schemas.Problem["x-problems"]),
  );
  const filter = document.querySelector("#filter");
  filter.addEventListener("input", () => narrow(filter.value));
  window.addEventListener("hashchange", reveal);
  reveal();
}

const about = document.querySelector("#about");
show(document.querySelector("#reference"), about).catch(() => {
  about.textContent = "The description cannot be read now. Reload the page to try again.";
});
