//! Whether an OpenAPI document is whole and can be read by somebody who has nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::openapi::{Operation, operations};

/// What is wrong, one line for each.
#[must_use]
pub fn problems(document: &Value, codes: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    references(document, document, "#", &mut found);
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    let all: Vec<Operation<'_>> = operations(document).collect();
    for operation in &all {
        let name = operation.name();
        if let Some(other) = ids.insert(operation.id(), name.clone()) {
            found.push(format!("{name}: its operationId {} is that of {other} too", operation.id()));
        }
        let problems = [words(operation), parameters(operation), security(document, operation), responses(operation, codes)];
        found.extend(problems.into_iter().flatten().map(|problem| format!("{name}: {problem}")));
    }
    found
}

fn references(root: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(target) = members.get("$ref").and_then(Value::as_str)
                && target.strip_prefix('#').is_none_or(|pointer| root.pointer(pointer).is_none())
            {
                found.push(format!("{place}: {target} does not exist; is the type listed in crates/model/src/documents.rs?"));
            }
            members.iter().for_each(|(name, value)| references(root, value, &format!("{place}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| references(root, value, &format!("{place}/{index}"), found))
        }
        _ => {}
    }
}

fn is_id(id: &str) -> bool {
    let words: Vec<&str> = id.split('_').collect();
    words.len() >= 2 && words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

fn words(operation: &Operation<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let value = operation.value;
    if !is_id(operation.id()) {
        found.push(format!("operationId {:?} is not verb_resource in lower case", operation.id()));
    }
    match value["summary"].as_str() {
        None | Some("") => found.push("no summary: the first line of the handler's doc comment".into()),
        Some(summary) if summary.ends_with('.') || summary.chars().count() > 80 => {
            found.push("the summary is one line of at most 80 characters without a full stop".into());
        }
        Some(_) => {}
    }
    if value["description"].as_str().is_none_or(|text| text.trim().len() < 10) {
        found.push("no description: what follows the first line of the handler's doc comment".into());
    }
    if value["tags"].as_array().is_none_or(|tags| tags.len() != 1) {
        found.push("exactly one tag".into());
    }
    found
}

fn parameters(operation: &Operation<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let list = operation.value["parameters"].as_array().cloned().unwrap_or_default();
    let mut seen = BTreeSet::new();
    for parameter in &list {
        let (name, kind) = (parameter["name"].as_str().unwrap_or_default(), parameter["in"].as_str().unwrap_or_default());
        if !seen.insert((kind, name)) {
            found.push(format!("the {kind} parameter {name} stands there twice"));
        }
        if parameter["description"].as_str().is_none_or(str::is_empty) {
            found.push(format!("the {kind} parameter {name} has no description"));
        }
        if kind == "path" && !operation.path.contains(&format!("{{{name}}}")) {
            found.push(format!("the path has no {{{name}}}"));
        }
        if kind == "path" && parameter["required"] != true {
            found.push(format!("the path parameter {name} is not required"));
        }
    }
    for name in operation.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        if !seen.contains(&("path", name)) {
            found.push(format!("the path parameter {name} is not declared"));
        }
    }
    found
}

/// Whether the operation needs a credential.
fn gated(operation: &Operation<'_>) -> bool {
    operation.value["security"].as_array().is_some_and(|ways| ways.iter().all(|way| way.as_object().is_some_and(|way| !way.is_empty())))
}

fn security(document: &Value, operation: &Operation<'_>) -> Vec<String> {
    let Some(ways) = operation.value["security"].as_array() else {
        return vec!["says nothing about security; security(()) if it needs no credential".into()];
    };
    let names = ways.iter().filter_map(Value::as_object).flat_map(|way| way.keys());
    names
        .filter(|name| document["components"]["securitySchemes"].get(name.as_str()).is_none())
        .map(|name| format!("the security scheme {name} does not exist"))
        .collect()
}

fn responses(operation: &Operation<'_>, codes: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let Some(all) = operation.value["responses"].as_object() else { return vec!["no responses".into()] };
    if !all.keys().any(|status| status.starts_with('2') || status == "101") {
        found.push("no answer of success".into());
    }
    if gated(operation) && !all.contains_key("401") {
        found.push("needs a credential and has no 401".into());
    }
    if operation.value["requestBody"].is_object() && !(all.contains_key("400") || all.contains_key("422")) {
        found.push("takes a body and has no 400".into());
    }
    if operation.path.contains('{') && !(all.contains_key("404") || all.contains_key("400")) {
        found.push("names something and has neither 400 nor 404".into());
    }
    for (status, response) in all {
        let text = response["description"].as_str().unwrap_or_default();
        if text.is_empty() {
            found.push(format!("{status} has no description"));
        }
        if !(status.starts_with('4') || status.starts_with('5')) || response["content"].is_null() {
            continue;
        }
        let is_health = operation.value["tags"][0] == "health" && status == "503";
        let named: Vec<&str> = named(text);
        if named.is_empty() && !is_health {
            found.push(format!("{status} names no error code"));
        }
        found.extend(
            named
                .iter()
                .filter(|code| !codes.contains(**code))
                .map(|code| format!("{status} names `{code}`, which is not in spec/errors.md")),
        );
    }
    found
}

/// What stands in backticks within parentheses: the error codes of a description.
#[must_use]
pub fn named(text: &str) -> Vec<&str> {
    let inside = text.split('(').skip(1).filter_map(|rest| rest.split(')').next());
    let code = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    inside.flat_map(|part| part.split('`').skip(1).step_by(2)).filter(code).collect()
}

/// The error codes of `spec/errors.md`: the first cell of a row, in backticks, and those that stand beside the statuses of `/v1`.
#[must_use]
pub fn codes(text: &str) -> BTreeSet<String> {
    let first = |line: &str| line.strip_prefix("| `")?.split_once("` |").map(|(code, _)| code.to_owned());
    let mut found: BTreeSet<String> = text.lines().filter_map(first).collect();
    for line in text.lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let status = cells.next().is_some_and(|cell| cell.len() == 3 && cell.bytes().all(|b| b.is_ascii_digit()));
        let words = cells.next().filter(|_| status).into_iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
        found.extend(words.filter(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).map(str::to_owned));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fine() -> Value {
        json!({
            "openapi": "3.1.0",
            "paths": { "/a/{id}": { "get": {
                "operationId": "get_a", "summary": "Read it", "description": "The whole of it.", "tags": ["a"],
                "security": [{ "bearer": [] }],
                "parameters": [{ "name": "id", "in": "path", "required": true, "description": "Which.", "schema": { "type": "string" } }],
                "responses": {
                    "200": { "description": "It.", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/A" } } } },
                    "401": { "description": "Who? (`unauthorized`)", "content": {} },
                    "404": { "description": "Not there (`not_found`).", "content": {} }
                }
            } } },
            "components": { "schemas": { "A": {} }, "securitySchemes": { "bearer": {} } }
        })
    }

    fn of(document: &Value) -> Vec<String> {
        problems(document, &["unauthorized", "not_found"].map(str::to_owned).into())
    }

    #[test]
    fn a_whole_document_has_no_problems_and_each_hole_is_named() {
        assert_eq!(of(&fine()), [""; 0]);
        let operation = "/paths/~1a~1{id}/get";
        for (pointer, value, words) in [
            ("/operationId", json!("getA"), "verb_resource"),
            ("/summary", json!("Read it."), "full stop"),
            ("/summary", json!(""), "no summary"),
            ("/description", json!(""), "no description"),
            ("/tags", json!([]), "exactly one tag"),
            ("/security", json!(null), "says nothing about security"),
            ("/security", json!([{ "other": [] }]), "other does not exist"),
            ("/parameters", json!([]), "not declared"),
            ("/parameters/0/description", json!(""), "has no description"),
            ("/parameters/0/name", json!("x"), "the path has no {x}"),
            ("/parameters/0/required", json!(false), "is not required"),
            ("/responses/200/description", json!(""), "200 has no description"),
            ("/responses/200/content/application~1json/schema/$ref", json!("#/components/schemas/B"), "documents.rs"),
            ("/responses/404/description", json!("Not there."), "names no error code"),
            ("/responses/404/description", json!("Not there (`gone`)."), "`gone`, which is not in"),
            ("/responses", json!({ "401": { "description": "x", "content": null } }), "no answer of success"),
            ("/responses", json!({ "200": { "description": "x" }, "404": { "description": "x" } }), "no 401"),
        ] {
            let mut document = fine();
            *document.pointer_mut(&format!("{operation}{pointer}")).unwrap() = value;
            let found = of(&document);
            assert!(found.iter().any(|problem| problem.contains(words)), "{pointer}: {found:?}");
        }
        let mut twice = fine();
        twice["paths"]["/b/{id}"] = twice["paths"]["/a/{id}"].clone();
        assert!(of(&twice).iter().any(|problem| problem.contains("is that of")));
    }

    #[test]
    fn codes_are_read_from_rows_and_from_descriptions() {
        assert_eq!(codes("| Code | HTTP |\n| --- | --- |\n| `a_b` | 404 |\ntext `c`\n"), BTreeSet::from(["a_b".to_owned()]));
        assert_eq!(codes("| 400 | `a`, `b_c`: no `D` |\n| 4 | `d` |\n"), BTreeSet::from(["a", "b_c"].map(str::to_owned)));
        assert_eq!(named("It is wrong (`a_b`, `c`); `d` names it (see `E`)."), ["a_b", "c"]);
    }
}
