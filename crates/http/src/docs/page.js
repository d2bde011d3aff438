"use strict";
const DOCUMENTS = [["Hub", "/openapi/node.json"], ["Federation", "/openapi/federation.json"]];
const METHODS = ["get", "post", "put", "patch", "delete"];
const byId = (id) => document.getElementById(id);
let api = null;

/** An element; texts are always texts, never markup. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) if (value != null) element.setAttribute(key, value);
  element.append(...children.flat().filter((child) => child != null && child !== ""));
  return element;
}

/** Inline words: `code` and **strong**. */
function inline(text) {
  return String(text).split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) =>
    part.startsWith("`") && part.length > 1 ? make("code", {}, part.slice(1, -1)) : part.startsWith("**") ? make("strong", {}, part.slice(2, -2)) : part);
}

/** Paragraphs and lists of a description. */
function words(text) {
  return String(text || "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) =>
    /^\s*- /.test(part)
      ? make("ul", {}, part.split(/\n(?=\s*- )/).map((item) => make("li", {}, inline(item.replace(/^\s*- /, "")))))
      : make("p", {}, inline(part)));
}

const named = (reference) => reference.split("/").pop();
const resolve = (schema) => (schema && schema.$ref ? api.components.schemas[named(schema.$ref)] || {} : schema || {});

/** What a schema is, in a few words, with links to named ones. */
function kind(schema) {
  if (schema === true || !schema) return ["any"];
  if (schema.$ref) return [make("a", { href: "#schema-" + named(schema.$ref) }, named(schema.$ref))];
  if (schema.const !== undefined) return [make("code", {}, JSON.stringify(schema.const))];
  if (schema.enum) return between(schema.enum.map((value) => make("code", {}, JSON.stringify(value))), " | ");
  const ways = schema.oneOf || schema.anyOf || schema.allOf;
  if (ways) return between(ways.map(kind), schema.allOf ? " and " : " or ");
  const types = [].concat(schema.type || "any");
  return between(types.map((type) => {
    if (type === "array") return ["list of ", ...kind(schema.items)];
    if (type === "object" && schema.additionalProperties && typeof schema.additionalProperties === "object") return ["map to ", ...kind(schema.additionalProperties)];
    return schema.format && type !== "null" ? `${type} (${schema.format})` : type;
  }), " or ");
}

function between(parts, word) {
  return parts.flatMap((part, index) => (index ? [word, part] : [part])).flat();
}

function bounds(schema) {
  const names = { minimum: "at least", maximum: "at most", minLength: "characters at least", maxLength: "characters at most", minItems: "items at least", maxItems: "items at most", pattern: "pattern", default: "default" };
  return Object.entries(names).filter(([name]) => schema[name] !== undefined && schema[name] !== null)
    .map(([name, text]) => make("span", { class: "soft" }, ` ${text} `, make("code", {}, JSON.stringify(schema[name]))));
}

/** The members of an object. */
function members(schema) {
  const needed = schema.required || [];
  const rows = Object.entries(schema.properties || {}).map(([name, member]) =>
    make("tr", {}, make("td", {}, make("code", {}, name), needed.includes(name) ? make("span", { class: "needed", title: "required" }, " *") : ""),
      make("td", {}, kind(member), bounds(member)), make("td", {}, words(member.description))));
  return rows.length ? [make("table", {}, make("tbody", {}, rows))] : [];
}

/** The schema with its alternatives and members. */
function shape(schema) {
  if (schema.$ref) return [make("p", {}, kind(schema))];
  const ways = schema.oneOf || schema.anyOf || schema.allOf || [];
  const parts = members(schema);
  if (ways.length) parts.push(make("ul", {}, ways.map((way) => make("li", {}, kind(way), " ", inline(way.description || ""), members(way)))));
  return parts.length ? parts : [make("p", {}, kind(schema), bounds(schema))];
}

/** An example value of a schema. */
function example(schema, depth = 0) {
  if (!schema || schema === true) return null;
  if (schema.example !== undefined) return schema.example;
  if (Array.isArray(schema.examples)) return schema.examples[0];
  if (schema.$ref) return depth > 4 ? {} : example(resolve(schema), depth + 1);
  if (schema.const !== undefined) return schema.const;
  if (schema.default !== undefined && schema.default !== null) return schema.default;
  if (schema.enum) return schema.enum[0];
  const ways = schema.oneOf || schema.anyOf;
  if (ways && !schema.properties) return example(ways.find((way) => way.type !== "null"), depth + 1);
  const type = [].concat(schema.type || (schema.properties ? "object" : "null"))[0];
  if (type === "object") {
    const needed = schema.required || [];
    return Object.fromEntries(Object.entries(schema.properties || {}).filter(([name]) => needed.includes(name)).map(([name, member]) => [name, example(member, depth + 1)]));
  }
  if (type === "array") return [];
  if (type === "integer" || type === "number") return schema.minimum || 0;
  if (type === "boolean") return false;
  if (type === "string") return { uuid: "00000000-0000-0000-0000-000000000001", "date-time": "2026-01-02T03:04:05.000000Z" }[schema.format] || "…";
  return null;
}

const quoted = (text) => "'" + text.replace(/'/g, "'\\''") + "'";

function curl(path, method, operation) {
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}${quoted(location.origin + path.replace(/\{(\w+)\}/g, (_, name) => name.toUpperCase()))}`];
  if ((operation.security || []).some((way) => Object.keys(way).length)) lines.push('-H "Authorization: Bearer $AIOX_TOKEN"');
  const body = ((operation.requestBody || {}).content || {})["application/json"];
  if (body) lines.push("-H 'Content-Type: application/json'", "-d " + quoted(JSON.stringify(body.example !== undefined ? body.example : example(body.schema))));
  return lines.join(" \\\n  ");
}

function content(media) {
  return Object.entries(media || {}).map(([name, { schema }]) => make("div", {}, make("span", { class: "soft" }, name + " "), shape(schema || {})));
}

function operationCard(path, method, operation) {
  const parts = words(operation.description);
  const ways = (operation.security || []).map((way) => Object.entries(way).map(([name, scopes]) => name + (scopes.length ? ` (${scopes.join(", ")})` : "")).join(" and ") || "none");
  parts.push(make("p", { class: "soft" }, "Credential: " + (ways.join(", or ") || "none")));
  const table = (rows) => make("table", {}, make("tbody", {}, rows));
  const star = (needed) => (needed ? make("span", { class: "needed", title: "required" }, " *") : "");
  const parameters = (operation.parameters || []).map((one) => make("tr", {},
    make("td", {}, make("code", {}, one.name), star(one.required), make("span", { class: "soft" }, " " + one.in)),
    make("td", {}, kind(one.schema), bounds(one.schema || {})),
    make("td", {}, words(one.description))));
  if (parameters.length) parts.push(make("h3", {}, "Parameters"), table(parameters));
  if (operation.requestBody) parts.push(make("h3", {}, "Request"), ...content(operation.requestBody.content));
  const headers = (all) => Object.entries(all || {}).map(([name, header]) => make("p", { class: "soft" }, make("code", {}, name), " ", inline(header.description || "")));
  const answers = Object.entries(operation.responses || {}).map(([status, response]) => make("tr", {},
    make("td", {}, make("code", {}, status)),
    make("td", {}, words(response.description), content(response.content), headers(response.headers))));
  parts.push(make("h3", {}, "Answers"), table(answers));
  const text = curl(path, method, operation);
  const copy = make("button", { type: "button" }, "Copy");
  copy.addEventListener("click", () => navigator.clipboard && navigator.clipboard.writeText(text).then(() => { copy.textContent = "Copied"; }));
  parts.push(make("h3", {}, "Try "), make("pre", {}, make("code", {}, text)), copy);
  return card("operation-" + operation.operationId, parts, make("span", { class: "method " + method }, method.toUpperCase()), make("code", {}, path), make("span", { class: "words" }, operation.summary || ""));
}

function card(id, parts, ...title) {
  return make("details", { class: "card", id }, make("summary", {}, title), make("div", {}, parts));
}

function render(filter) {
  const wanted = filter.trim().toLowerCase();
  const fits = (...texts) => !wanted || texts.some((text) => String(text || "").toLowerCase().includes(wanted));
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) for (const method of METHODS) {
    const operation = item[method];
    if (!operation || !fits(path, operation.summary, operation.operationId, (operation.tags || [])[0])) continue;
    const tag = (operation.tags || ["other"])[0];
    if (!groups.has(tag)) groups.set(tag, []);
    groups.get(tag).push([path, method, operation]);
  }
  const main = [], side = [];
  if (!wanted) main.push(...words(api.info.description));
  for (const [tag, operations] of [...groups].sort()) {
    main.push(make("h2", { class: "group" }, tag), ...operations.map((one) => operationCard(...one)));
    side.push(make("h2", {}, tag), ...operations.map(([path, method, one]) =>
      make("a", { href: "#operation-" + one.operationId, title: `${method.toUpperCase()} ${path}` }, one.summary || path)));
  }
  const schemas = Object.entries(api.components.schemas || {}).filter(([name]) => fits(name)).sort(([a], [b]) => (a < b ? -1 : 1));
  if (schemas.length) {
    main.push(make("h2", { class: "group" }, "schemas"), ...schemas.map(([name, schema]) =>
      card("schema-" + name, [...words(schema.description), ...shape(schema)], make("code", {}, name))));
    side.push(make("h2", {}, "schemas"), ...schemas.map(([name]) => make("a", { href: "#schema-" + name }, name)));
  }
  if (!main.length) main.push(make("p", {}, "Nothing is called like that."));
  byId("main").replaceChildren(...main);
  byId("contents").replaceChildren(...side);
}

/** Opens what the address names. */
function open() {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
}

async function load(place) {
  for (const button of byId("documents").children) button.setAttribute("aria-pressed", button.dataset.place === place);
  const response = await fetch(place);
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  api = await response.json();
  byId("version").textContent = api.info.version;
  render(byId("search").value);
  open();
}

function failed(error) {
  byId("main").replaceChildren(make("p", {}, "The document could not be read: " + error.message));
}

byId("documents").append(...DOCUMENTS.map(([name, place]) => {
  const button = make("button", { type: "button", "data-place": place }, name);
  button.addEventListener("click", () => load(place).catch(failed));
  return button;
}));
byId("search").addEventListener("input", (event) => api && render(event.target.value));
addEventListener("hashchange", open);
addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== byId("search")) { event.preventDefault(); byId("search").focus(); }
});
load(DOCUMENTS[0][1]).catch(failed);
