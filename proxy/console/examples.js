// A curl command for each operation, and a button that copies it.

import { element } from "./elements.js";
import { resolved } from "./schemas.js";

function sample(parameter) {
  return parameter.example ?? parameter.schema?.example ?? parameter.schema?.examples?.[0];
}

/** A value such as *schema* describes, for an example. */
function value(description, schema) {
  const found = resolved(description, schema);
  if (found.example !== undefined) return found.example;
  if (found.examples) return found.examples[0];
  if (found.default !== undefined) return found.default;
  if (found.enum) return found.enum[0];
  const type = [found.type].flat()[0];
  if (type === "object") {
    const needed = found.required ?? Object.keys(found.properties ?? {});
    return Object.fromEntries(needed.map((name) => [name, value(description, found.properties[name])]));
  }
  if (type === "array") return [value(description, found.items ?? {})];
  return { integer: found.minimum ?? 1, number: 1, boolean: true }[type] ?? "…";
}

/** The command that asks for the operation *told* at *path*. */
export function command(description, path, method, told, shared) {
  const given = [...shared, ...(told.parameters ?? [])].map((each) => resolved(description, each));
  let place = path;
  for (const each of given.filter((one) => one.in === "path")) place = place.replace(`{${each.name}}`, String(sample(each) ?? each.name.toUpperCase()));
  const query = given.filter((each) => each.in === "query" && (each.required || each.example !== undefined));
  const asked = query.map((each) => `${each.name}=${encodeURIComponent(String(sample(each) ?? "…"))}`).join("&");
  const words = ["curl"];
  const isRead = method === "get";
  if (method === "head") words.push("-I");
  else if (!isRead) words.push("-X", method.toUpperCase());
  const needsToken = (told.security ?? description.security ?? []).length > 0 && (told.security ?? []).every((scheme) => Object.keys(scheme).length);
  if (needsToken) words.push('-H "Authorization: Bearer $TOKEN"');
  for (const each of given.filter((one) => one.in === "header" && one.required)) words.push(`-H "${each.name}: ${sample(each) ?? "…"}"`);
  const content = told.requestBody?.content ?? {};
  const [type] = Object.keys(content);
  if (type === "application/json") {
    words.push(`-H "Content-Type: ${type}"`, `-d '${JSON.stringify(content[type].example ?? value(description, content[type].schema))}'`);
  } else if (type === "multipart/form-data") {
    words.push("-F file=@photo.jpg");
  } else if (type && told.requestBody.required) {
    words.push(`-H "Content-Type: ${type === "*/*" ? "image/jpeg" : type}"`, "--data-binary @photo.jpg");
  }
  words.push(`"${location.origin}${place}${asked && `?${asked}`}"`);
  return words.join(" ");
}

/** *text* as code, with a button that puts it on the clipboard. */
export function copied(text) {
  const button = element("button", "Copy", { type: "button" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Press Ctrl+C";
    }
  });
  return element("div", "", { class: "example" }, element("pre", "", { tabindex: "0" }, element("code", text)), button);
}
