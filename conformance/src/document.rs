//! OPS-008: answers against the documents that describe them: this suite's own `openapi/node.json`, and the one that the hub serves.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

/// What a hub of this version has to answer.
const OWN: &str = include_str!("../../openapi/node.json");
/// Under which the document stands in its registry.
const BASE: &str = "urn:aiox:node";
/// Most breaches that are kept.
const KEPT: usize = 200;

/// One answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) method: &'a str,
    /// Without the query.
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    /// The header `Content-Type`; empty when it is absent.
    pub(crate) media: &'a str,
    pub(crate) body: &'a [u8],
}

/// The documents that answers are held against, and what came of it.
#[derive(Default)]
pub(crate) struct Documents {
    all: Vec<Document>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    checked: usize,
    breaches: BTreeSet<String>,
}

impl Documents {
    /// The suite's own document, and the hub's where it has one that differs.
    ///
    /// # Errors
    /// What is wrong with the hub's document.
    pub(crate) fn new(served: Option<&[u8]>) -> Result<Self, String> {
        let own: Value = serde_json::from_str(OWN).map_err(|error| format!("openapi/node.json: {error}"))?;
        let mut all = Vec::new();
        if let Some(served) = served {
            let served: Value =
                serde_json::from_slice(served).map_err(|error| format!("the hub's openapi/node.json is no JSON: {error}"))?;
            if served != own {
                all.push(Document::new("the hub's openapi/node.json", served)?);
            }
        }
        all.push(Document::new("openapi/node.json", own)?);
        Ok(Self { all, found: Mutex::default() })
    }

    /// Holds an answer against every document. Answers of routes that none describes say nothing.
    pub(crate) fn check(&self, seen: Seen<'_>) {
        let verdicts: Vec<_> = self.all.iter().filter_map(|document| document.check(seen).transpose()).collect();
        if verdicts.is_empty() {
            return;
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.checked += 1;
        for problem in verdicts.into_iter().filter_map(Result::err) {
            if found.breaches.len() < KEPT {
                found.breaches.insert(problem);
            }
        }
    }

    /// How many answers were described, and every breach.
    pub(crate) fn found(&self) -> (usize, Vec<String>) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        (found.checked, found.breaches.iter().cloned().collect())
    }
}

struct Document {
    name: &'static str,
    text: Value,
    registry: Registry<'static>,
    operations: Vec<Operation>,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

struct Operation {
    method: String,
    segments: Vec<String>,
    pointer: String,
}

impl Document {
    fn new(name: &'static str, text: Value) -> Result<Self, String> {
        let unusable = |error: &dyn std::fmt::Display| format!("{name}: {error}");
        let paths = text["paths"].as_object().ok_or_else(|| unusable(&"it has no paths"))?;
        let mut operations = Vec::new();
        for (path, item) in paths {
            for method in item.as_object().into_iter().flat_map(serde_json::Map::keys) {
                operations.push(Operation {
                    method: method.to_uppercase(),
                    segments: path.split('/').map(str::to_owned).collect(),
                    pointer: format!("/paths/{}/{method}", escaped(path)),
                });
            }
        }
        // A fixed word is a better match than a parameter.
        operations.sort_by_key(|one| one.segments.iter().filter(|segment| segment.contains('{')).count());
        let registry = Registry::new().add(BASE, text.clone()).and_then(jsonschema::RegistryBuilder::prepare);
        let registry = registry.map_err(|error| unusable(&error))?;
        Ok(Self { name, text, registry, operations, validators: Mutex::default() })
    }

    /// `None`: this document does not describe such an answer.
    fn check(&self, seen: Seen<'_>) -> Result<Option<()>, String> {
        let Some(operation) = self.operation(seen.method, seen.path) else { return Ok(None) };
        let wrong =
            |problem: &dyn std::fmt::Display| format!("{} {} {}: {problem} ({})", seen.method, shape(seen.path), seen.status, self.name);
        let responses = format!("{}/responses", operation.pointer);
        let status = seen.status.to_string();
        let names = [status.clone(), format!("{}XX", &status[..1]), "default".to_owned()];
        let found = names.iter().map(|name| format!("{responses}/{name}")).find(|pointer| self.text.pointer(pointer).is_some());
        let Some(mut pointer) = found else { return Err(wrong(&"the document does not have this status")) };
        if let Some(place) = self.text.pointer(&pointer).and_then(|found| found["$ref"].as_str()?.strip_prefix('#')) {
            pointer = place.to_owned();
        }
        let content = self.text.pointer(&pointer).and_then(|response| response["content"].as_object());
        let media = seen.media.split(';').next().unwrap_or_default().trim();
        let Some(content) = content else {
            return if seen.body.is_empty() { Ok(Some(())) } else { Err(wrong(&"the document has no body for this status")) };
        };
        if !content.contains_key(media) {
            return Err(wrong(&format!("the document does not have the media type `{media}`")));
        }
        if !media.ends_with("json") {
            return Ok(Some(()));
        }
        let body: Value = serde_json::from_slice(seen.body).map_err(|error| wrong(&format!("the body is no JSON: {error}")))?;
        let validator = self.validator(&format!("{pointer}/content/{}/schema", escaped(media)))?;
        match validator.iter_errors(&body).next() {
            None => Ok(Some(())),
            Some(error) => Err(wrong(&format!("{} at `{}`", error, error.instance_path()))),
        }
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Operation> {
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let given: Vec<&str> = path.split('/').collect();
        self.operations.iter().find(|one| {
            let all_fit = || one.segments.iter().zip(&given).all(|(wanted, given)| fits(wanted, given));
            one.method == method && one.segments.len() == given.len() && all_fit()
        })
    }

    fn validator(&self, pointer: &str) -> Result<Arc<Validator>, String> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = validators.get(pointer) {
            return Ok(made.clone());
        }
        let schema = match self.text.pointer(pointer) {
            // Braces cannot stand in a URI as they are.
            Some(_) => json!({ "$ref": format!("{BASE}#{}", pointer.replace('{', "%7B").replace('}', "%7D")) }),
            None => Value::Bool(true),
        };
        let options = jsonschema::draft202012::options().should_validate_formats(true).with_registry(&self.registry);
        let made = Arc::new(options.build(&schema).map_err(|error| format!("{}: the schema at {pointer}: {error}", self.name))?);
        validators.insert(pointer.to_owned(), made.clone());
        Ok(made)
    }
}

/// `{name}` matches what is not empty; `{name}:verb` what ends with the verb.
fn fits(wanted: &str, given: &str) -> bool {
    match wanted.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((_, suffix)) => given.len() > suffix.len() && given.ends_with(suffix),
        None => wanted == given,
    }
}

/// A path without its ids, so that one breach is told once.
fn shape(path: &str) -> String {
    let id = |part: &str| part.len() >= 20 && part.contains(|c: char| c.is_ascii_digit());
    let shaped = |part: &str| match part.split_once(':') {
        Some((name, verb)) if id(name) => format!("…:{verb}"),
        _ if id(part) => "…".to_owned(),
        _ => part.to_owned(),
    };
    path.split('/').map(shaped).collect::<Vec<_>>().join("/")
}

/// A part of a JSON pointer.
fn escaped(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(method: &'a str, path: &'a str, status: u16, body: &'a str) -> Seen<'a> {
        let media = if body.is_empty() { "" } else { "application/json; charset=utf-8" };
        Seen { method, path, status, media, body: body.as_bytes() }
    }

    fn breach(one: Seen<'_>) -> (usize, Vec<String>) {
        let documents = Documents::new(None).unwrap();
        documents.check(one);
        documents.found()
    }

    #[test]
    fn a_described_answer_that_validates_is_counted() {
        let good = r#"{"error":{"code":"not_found","message":"x","retryable":false},"correlation_id":"x"}"#;
        assert_eq!(breach(seen("GET", "/v1/runs/run_00000000000000000000000000", 404, good)), (1, vec![]));
        assert_eq!(breach(seen("POST", "/v1/runs/run_00000000000000000000000000:cancel", 404, good)), (1, vec![]));
        assert_eq!(breach(seen("GET", "/v1/nothing-of-this-name", 404, "{}")), (0, vec![]));
    }

    #[test]
    fn what_the_document_does_not_say_is_a_breach() {
        for (one, words) in [
            (seen("GET", "/v1/agents", 200, r#"{"agents":7,"correlation_id":"x"}"#), "/agents"),
            (seen("GET", "/v1/agents", 200, "{}"), "required"),
            (seen("GET", "/v1/agents", 299, "{}"), "status"),
            (seen("GET", "/v1/agents", 200, "{"), "no JSON"),
            (Seen { media: "text/html", ..seen("GET", "/v1/agents", 200, "x") }, "media type"),
        ] {
            let (checked, breaches) = breach(one);
            assert_eq!((checked, breaches.len()), (1, 1), "{one:?}");
            assert!(breaches[0].contains(words), "{one:?}: {breaches:?}");
        }
    }

    #[test]
    fn the_hubs_own_document_counts_beside_the_suites() {
        let mut other: Value = serde_json::from_str(OWN).unwrap();
        other["paths"] = json!({ "/v1/more": { "get": { "responses": { "200": { "$ref": "#/components/responses/More" } } } } });
        other["components"]["responses"] =
            json!({ "More": { "description": "x", "content": { "application/json": { "schema": { "type": "object" } } } } });
        let documents = Documents::new(Some(other.to_string().as_bytes())).unwrap();
        documents.check(seen("GET", "/v1/more", 200, "[]"));
        documents.check(seen("GET", "/v1/agents", 200, "{}"));
        let (checked, breaches) = documents.found();
        assert_eq!((checked, breaches.len()), (2, 2), "{breaches:?}");
        assert_eq!(Documents::new(Some(OWN.as_bytes())).unwrap().all.len(), 1);
        assert!(Documents::new(Some(b"{")).is_err() && Documents::new(Some(b"{}")).is_err());
    }
}
