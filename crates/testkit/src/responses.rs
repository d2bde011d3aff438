//! Judges every HTTP response of a test by the OpenAPI document: its status, its media type, its body.
//!
//! Strict: a member that the document does not name is wrong, unless the schema says that further members may come. What is
//! exercised is noted in files below the target directory; `cargo run -p xtask -- spec exercised` compares them with the documents.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions, create_dir_all},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// One response, as a client sees it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Method of the request, for instance `GET`.
    pub method: &'a str,
    /// Path of the request without its query.
    pub path: &'a str,
    /// The status.
    pub status: u16,
    /// The header `Content-Type`.
    pub media: Option<&'a str>,
    /// The body; `None` for a stream that is not judged.
    pub body: Option<&'a [u8]>,
}

/// Judges responses by OpenAPI documents.
pub struct Judge {
    documents: Vec<Value>,
    operations: Vec<Operation>,
    validators: Mutex<HashMap<(usize, String), Arc<Validator>>>,
    notes: Mutex<Option<File>>,
}

struct Operation {
    document: usize,
    method: String,
    segments: Vec<String>,
    id: String,
    pointer: String,
}

impl Judge {
    /// By documents as `aiox-specgen` makes them.
    #[must_use]
    pub fn new(mut documents: Vec<Value>) -> Self {
        let mut operations = Vec::new();
        let paths =
            documents.iter().enumerate().flat_map(|(index, one)| one["paths"].as_object().unwrap().iter().map(move |item| (index, item)));
        for (document, (path, item)) in paths {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(_, operation)| operation["operationId"].is_string()) {
                operations.push(Operation {
                    document,
                    method: method.to_uppercase(),
                    segments: path.split('/').map(str::to_owned).collect(),
                    id: operation["operationId"].as_str().unwrap().to_owned(),
                    pointer: format!("/paths/{}/{method}", escaped(path)),
                });
            }
        }
        // A fixed word is a better match than a parameter.
        operations.sort_by_key(|one| one.segments.iter().filter(|segment| segment.contains('{')).count());
        for document in &mut documents {
            let schemas = document["components"]["schemas"].as_object_mut().unwrap();
            schemas.values_mut().for_each(|schema| close(schema, true));
        }
        Self { documents, operations, validators: Mutex::default(), notes: Mutex::new(notes()) }
    }

    /// Judges one response.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge(&self, seen: Seen<'_>) -> Result<(), String> {
        self.check(seen).map_err(|problem| format!("{} {} {}: {problem}", seen.method, seen.path, seen.status))
    }

    fn check(&self, seen: Seen<'_>) -> Result<(), String> {
        if seen.method == "OPTIONS" || seen.method == "HEAD" {
            return Ok(());
        }
        let Some(operation) = self.operation(seen.method, seen.path) else {
            // No such path, no such method, or no credential to be told even that.
            let none = matches!(seen.status, 401 | 404 | 405) || !is_surface(seen.path);
            return if none { Ok(()) } else { Err("the operation is not in the document".into()) };
        };
        self.note(&operation.id, seen.status);
        let responses = format!("{}/responses", operation.pointer);
        let response = self.documents[operation.document].pointer(&format!("{responses}/{}", seen.status));
        let Some(response) = response else { return Err(format!("{} does not document this status", operation.id)) };
        let media = seen.media.map(|media| media.split(';').next().unwrap_or_default().trim());
        let Some(content) = response["content"].as_object() else {
            let empty = seen.body.is_none_or(<[u8]>::is_empty);
            return if empty || seen.status == 101 { Ok(()) } else { Err(format!("{} documents no body", operation.id)) };
        };
        let Some(media) = media else { return Err("it has no media type".into()) };
        if !content.contains_key(media) {
            return Err(format!("{} does not document {media}", operation.id));
        }
        let Some(body) = seen.body.filter(|_| media.ends_with("json")) else { return Ok(()) };
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
        let pointer = format!("{responses}/{}/content/{}/schema", seen.status, escaped(media));
        let problems: Vec<String> = self
            .validator(operation.document, &pointer)
            .iter_errors(&body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if !problems.is_empty() {
            return Err(format!("{}\n{body}", problems.join("\n")));
        }
        named(seen.status, &body, response["description"].as_str().unwrap_or_default())
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Operation> {
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let segments: Vec<&str> = path.split('/').collect();
        self.operations.iter().find(|one| {
            let fits = |(wanted, given): (&String, &&str)| matches(wanted, given);
            one.method == method && one.segments.len() == segments.len() && one.segments.iter().zip(&segments).all(fits)
        })
    }

    fn validator(&self, document: usize, pointer: &str) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let made = validators.entry((document, pointer.to_owned())).or_insert_with(|| {
            let document = &self.documents[document];
            let mut schema = document.pointer(pointer).cloned().unwrap_or(Value::Bool(true));
            close(&mut schema, true);
            let whole = json!({ "allOf": [schema], "components": document["components"] });
            Arc::new(jsonschema::draft202012::options().should_validate_formats(true).build(&whole).unwrap())
        });
        made.clone()
    }

    fn note(&self, operation: &str, status: u16) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = notes.as_mut() {
            let _ = writeln!(file, "{}", json!({ "operation": operation, "status": status }));
        }
    }
}

/// Stands around a router and has every response judged. When the last copy goes, what was wrong fails the test.
#[derive(Clone)]
pub struct Witness {
    judge: &'static Judge,
    wrong: Arc<Wrong>,
}

#[derive(Default)]
struct Wrong(Mutex<Vec<String>>);

impl Drop for Wrong {
    fn drop(&mut self) {
        let wrong = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if wrong.is_empty() {
            return;
        }
        let said = format!("rule: a hub answers as openapi/node.json says.\n{}", wrong.join("\n"));
        let failed = std::thread::panicking();
        if failed {
            // The test has failed already, most likely for this.
            tell(&said);
        }
        assert!(failed, "{said}");
    }
}

#[expect(clippy::print_stderr, reason = "a test that fails tells why")]
fn tell(said: &str) {
    eprintln!("{said}");
}

impl Witness {
    /// A witness of one test.
    #[must_use]
    pub fn new(judge: &'static Judge) -> Self {
        Self { judge, wrong: Arc::default() }
    }

    /// The same router, watched.
    pub fn around(&self, router: Router) -> Router {
        let (judge, wrong) = (self.judge, Arc::downgrade(&self.wrong));
        router.layer(from_fn(move |request: Request, next: Next| watch(judge, wrong.clone(), request, next)))
    }
}

async fn watch(judge: &'static Judge, wrong: Weak<Wrong>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (parts, body) = next.run(request).await.into_parts();
    let media = parts.headers.get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = parts.status.as_u16();
    let endless = status == 101 || media.as_deref().is_some_and(|media| media.starts_with("text/event-stream"));
    let (bytes, body) = if endless {
        (None, body)
    } else {
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        (Some(bytes.clone()), Body::from(bytes))
    };
    let seen = Seen { method: method.as_str(), path: &path, status, media: media.as_deref(), body: bytes.as_deref() };
    if let (Err(problem), Some(wrong)) = (judge.judge(seen), wrong.upgrade()) {
        wrong.0.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
    }
    Response::from_parts(parts, body)
}

/// Whether a path is of those that the documents describe.
fn is_surface(path: &str) -> bool {
    ["/api/", "/v1/", "/openai/", "/fed/", "/health", "/metrics", "/openapi/", "/schemas/", "/docs"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

/// The code of an error stands in the description of its status. A description that gives instances names an open set.
fn named(status: u16, body: &Value, description: &str) -> Result<(), String> {
    let code = body["error"]["code"].as_str().or(body["code"].as_str());
    match code.filter(|_| status >= 400 && !description.contains("for instance")) {
        Some(code) if !description.contains(&format!("`{code}`")) => Err(format!("the code {code} is not named: {description}")),
        _ => Ok(()),
    }
}

/// `{name}` matches whatever is not empty; `{name}:verb` what ends with the verb.
fn matches(wanted: &str, given: &str) -> bool {
    match wanted.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((_, suffix)) => given.len() > suffix.len() && given.ends_with(suffix) && (!suffix.is_empty() || !given.is_empty()),
        None => wanted == given,
    }
}

fn escaped(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

/// Refuses members that a schema does not name, unless it says that further ones may come. Parts of a composition see only their own
/// members, so the whole is closed and its parts are not.
fn close(schema: &mut Value, whole: bool) {
    match schema {
        Value::Object(members) => {
            let composed = ["allOf", "anyOf", "oneOf", "if"].iter().any(|name| members.contains_key(*name));
            let named = members.contains_key("properties");
            let open = members.contains_key("additionalProperties")
                || members.contains_key("unevaluatedProperties")
                || members.contains_key("patternProperties");
            inside(members, whole && !(named && composed));
            if whole && named && !open {
                members.insert("unevaluatedProperties".into(), Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| close(item, whole)),
        _ => {}
    }
}

fn inside(members: &mut Map<String, Value>, parts_are_whole: bool) {
    for (name, value) in members.iter_mut() {
        match name.as_str() {
            "allOf" | "anyOf" | "oneOf" | "if" | "then" | "else" => close(value, parts_are_whole),
            "properties" | "patternProperties" | "$defs" => {
                value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(|one| close(one, true))
            }
            "items" | "additionalProperties" | "prefixItems" => close(value, true),
            _ => {}
        }
    }
}

/// The file of this process for its notes.
fn notes() -> Option<File> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let directory = target.join("spec/exercised");
    create_dir_all(&directory).ok()?;
    OpenOptions::new().append(true).create(true).open(directory.join(format!("{}.jsonl", std::process::id()))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge() -> Judge {
        let object = |properties: Value| json!({ "type": "object", "properties": properties });
        let answer_of = |text: &str| json!({ "description": text, "content": { "application/json": { "schema": true } } });
        let answer = |schema: Value| json!({ "description": "x", "content": { "application/json": { "schema": schema } } });
        Judge::new(vec![json!({
            "paths": {
                "/api/things/{id}": { "get": { "operationId": "test_thing", "responses": { "200": answer(json!({ "$ref": "#/components/schemas/A" })), "204": { "description": "x" }, "404": answer_of("Gone (`not_found`).") } } },
                "/api/things/self": { "get": { "operationId": "test_self", "responses": { "200": answer(json!({ "$ref": "#/components/schemas/B" })) } } },
                "/v1/runs/{id}:cancel": { "post": { "operationId": "test_cancel", "responses": { "202": { "description": "x" } } } }
            },
            "components": { "schemas": {
                "A": object(json!({ "id": { "type": "string", "format": "uuid" }, "inner": { "$ref": "#/components/schemas/B" }, "open": { "type": "object", "properties": {}, "additionalProperties": true } })),
                "B": { "type": "object", "properties": { "kind": { "type": "string" } }, "oneOf": [{ "properties": { "a": { "type": "integer" } }, "required": ["a"] }, { "properties": { "b": {} }, "required": ["b"] }] }
            } }
        })])
    }

    fn verdict(path: &str, status: u16, body: &str) -> Result<(), String> {
        let media = (!body.is_empty()).then_some("application/json; charset=utf-8");
        judge().judge(Seen { method: "GET", path, status, media, body: Some(body.as_bytes()) })
    }

    #[test]
    fn what_is_documented_passes() {
        let id = "00000000-0000-0000-0000-000000000001";
        for (path, status, body) in [
            ("/api/things/5", 200, format!(r#"{{"id": "{id}", "inner": {{"kind": "x", "a": 1}}, "open": {{"any": 1}}}}"#)),
            ("/api/things/5/", 200, "{}".into()),
            ("/api/things/5", 204, String::new()),
            ("/api/things/self", 200, r#"{"b": []}"#.into()),
            ("/api/things/5", 404, r#"{"code": "not_found"}"#.into()),
            ("/api/nothing", 404, r#"{"error": "x"}"#.into()),
        ] {
            assert_eq!(verdict(path, status, &body), Ok(()), "{path} {body}");
        }
        assert_eq!(judge().judge(Seen { method: "POST", path: "/v1/runs/r1:cancel", status: 202, media: None, body: Some(b"") }), Ok(()));
    }

    #[test]
    fn what_is_not_documented_is_refused() {
        for (path, status, body, words) in [
            ("/api/things/5", 200, r#"{"id": "5"}"#, "uuid"),
            ("/api/things/5", 200, r#"{"more": 1}"#, "more"),
            ("/api/things/5", 200, r#"{"inner": {"a": 1, "c": 2}}"#, "c"),
            ("/api/things/self", 200, r#"{"kind": "x"}"#, "oneOf"),
            ("/api/things/5", 201, "{}", "status"),
            ("/api/things/5", 204, "{}", "no body"),
            ("/api/things/5", 200, "", "no media type"),
            ("/api/things/5", 200, "{", "no JSON"),
            ("/api/things/5", 404, r#"{"code": "forbidden"}"#, "is not named"),
            ("/api/other", 200, "{}", "not in the document"),
        ] {
            let problem = verdict(path, status, body).unwrap_err();
            assert!(problem.contains(words), "{path} {body}: {problem}");
        }
        let text = Seen { method: "GET", path: "/api/things/5", status: 200, media: Some("text/html"), body: Some(b"x") };
        assert!(judge().judge(text).unwrap_err().contains("text/html"));
    }
}
