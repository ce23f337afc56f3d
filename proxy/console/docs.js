// Writes the reference page from the API's own description, so that the two cannot differ.

const METHODS = ["get", "head", "post", "put", "patch", "delete"];

function element(name, text = "", ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
}

function terms(pairs) {
  const list = element("dl");
  for (const [term, about] of pairs) {
    list.append(element("dt", "", element("code", term)), element("dd", about));
  }
  return list;
}

function operation(path, method, described, shared) {
  const heading = element("h2");
  const verb = element("span", method.toUpperCase());
  verb.className = "method";
  heading.append(verb, element("code", path));
  const section = element("section", "", heading, element("p", described.summary));
  section.id = described.operationId;
  if (described.description) section.append(element("p", described.description));
  const parameters = [...shared, ...(described.parameters ?? [])];
  if (parameters.length) section.append(terms(parameters.map((each) => [each.name, each.description ?? ""])));
  section.append(terms(Object.entries(described.responses).map(([status, each]) => [status, each.description ?? "A problem document"])));
  return section;
}

function problems(known) {
  const section = element("section", "", element("h2", "Problems"));
  section.append(element("p", "What goes wrong is told as application/problem+json (RFC 9457); code is one of these."));
  const list = element("dl");
  for (const [code, { status, title }] of Object.entries(known)) {
    const term = element("dt", "", element("code", code));
    term.id = code;
    list.append(term, element("dd", `${status}: ${title}.`));
  }
  section.append(list);
  return section;
}

async function show(main) {
  const answer = await fetch("api/openapi.json", { signal: AbortSignal.timeout(30_000) });
  const description = await answer.json();
  const sections = Object.entries(description.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => operation(path, method, item[method], item.parameters ?? [])),
  );
  about.textContent = description.info.description;
  main.append(...sections);
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

const main = document.querySelector("#reference");
const about = document.querySelector("#about");
show(main).catch(() => {
  about.textContent = "The description cannot be read now. Reload the page to try again.";
});
