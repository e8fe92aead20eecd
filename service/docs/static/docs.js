// The OpenAPI document for people: what each request takes and what it is answered with, by example.
import { el, table } from "/console/dom.js";

const view = document.getElementById("view");

const exampleOf = (content) => content.example ?? Object.values(content.examples ?? {})[0]?.value;

function shown(media, content) {
  const value = exampleOf(content);
  if (value === undefined) return [el("p", { class: "dim" }, media)];
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return [el("p", { class: "dim" }, media), el("pre", {}, text)];
}

const contents = (described) => Object.entries(described?.content ?? {}).flatMap(([media, content]) => shown(media, content));

function parameters(found) {
  if (!found?.length) return null;
  return table(
    [
      { title: "Parameter", of: (parameter) => parameter.name },
      { title: "In", of: (parameter) => parameter.in },
      { title: "", of: (parameter) => (parameter.required ? "required" : "") },
      { title: "", of: (parameter) => parameter.description ?? parameter.schema?.description ?? "" },
    ],
    found,
  );
}

// Every problem of a request is a line; only what it succeeds with is shown in full.
function answers(responses) {
  return Object.entries(responses).flatMap(([status, response]) => [
    el("p", {}, el("strong", {}, status), ` ${response.description}`),
    ...(status.startsWith("2") ? contents(response) : []),
  ]);
}

function operation(method, path, found) {
  const [about, ...more] = (found.description ?? "").split("\n\n");
  return el(
    "details",
    { id: found.operationId },
    el("summary", {}, el("code", {}, `${method.toUpperCase()} ${path}`), ` ${about}`),
    more.map((paragraph) => el("p", {}, paragraph)),
    parameters(found.parameters),
    found.requestBody && el("h3", {}, "Request"),
    found.requestBody && contents(found.requestBody),
    el("h3", {}, "Answers"),
    answers(found.responses),
  );
}

const answer = await fetch("/openapi.json");
const document_ = await answer.json();
const byTag = new Map();
for (const [path, methods] of Object.entries(document_.paths))
  for (const [method, found] of Object.entries(methods)) {
    const [tag = "other"] = found.tags ?? [];
    byTag.set(tag, [...(byTag.get(tag) ?? []), operation(method, path, found)]);
  }
view.replaceChildren(...[...byTag].map(([tag, operations]) => el("section", {}, el("h2", {}, tag), operations)));
