//! Whether a changed OpenAPI document still keeps what the old one promised.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::schema::{self, Breach, Direction};

/// The methods of a path item that are operations.
pub const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// One operation of a document.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// Its path.
    pub path: &'a str,
    /// Its method in lower case.
    pub method: &'a str,
    /// The operation object.
    pub value: &'a Value,
}
impl<'a> Operation<'a> {
    /// `GET /path`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }
    /// Its `operationId`.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.value["operationId"].as_str().unwrap_or_default()
    }
}

/// Every operation, in the order of the document.
pub fn operations(document: &Value) -> impl Iterator<Item = Operation<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.filter(|(method, _)| METHODS.contains(&method.as_str())).map(move |(method, value)| Operation { path, method, value })
    })
}

/// What a document breaks of the promises of an older one. Additions break nothing.
#[must_use]
pub fn compatible(old: &Value, new: &Value) -> Vec<Breach> {
    let now: BTreeMap<(&str, &str), Operation<'_>> = operations(new).map(|one| ((one.path, one.method), one)).collect();
    let mut found = Vec::new();
    for before in operations(old) {
        match now.get(&(before.path, before.method)) {
            None => found.push(breach(&before.name(), "operation-removed", "the operation is gone")),
            Some(after) => Pair { old, new, place: before.name() }.operation(before.value, after.value, &mut found),
        }
    }
    found
}

fn breach(place: &str, rule: &'static str, what: impl Into<String>) -> Breach {
    Breach { place: place.to_owned(), rule, what: what.into() }
}

struct Pair<'a> {
    old: &'a Value,
    new: &'a Value,
    place: String,
}

impl Pair<'_> {
    fn operation(&self, old: &Value, new: &Value, found: &mut Vec<Breach>) {
        if old["operationId"] != new["operationId"] {
            found.push(breach(&self.place, "operation-id", format!("it was {} and is {}", old["operationId"], new["operationId"])));
        }
        self.parameters(old, new, found);
        self.body(&old["requestBody"], &new["requestBody"], found);
        self.responses(&old["responses"], &new["responses"], found);
        self.security(&old["security"], &new["security"], found);
    }

    fn schema(&self, place: &str, old: &Value, new: &Value, direction: Direction, found: &mut Vec<Breach>) {
        found.extend(schema::compatible(place, (self.old, old), (self.new, new), direction));
    }

    fn parameters(&self, old: &Value, new: &Value, found: &mut Vec<Breach>) {
        let by_name = |operation: &Value| -> BTreeMap<(String, String), Value> {
            let list = operation["parameters"].as_array().into_iter().flatten();
            list.map(|one| ((text(&one["in"]), text(&one["name"])), one.clone())).collect()
        };
        let (before, now) = (by_name(old), by_name(new));
        for (key @ (kind, name), parameter) in &before {
            let place = format!("{}, {kind} parameter {name}", self.place);
            let Some(changed) = now.get(key) else {
                found.push(breach(&place, "parameter-removed", "the parameter is gone"));
                continue;
            };
            if changed["required"] == true && parameter["required"] != true {
                found.push(breach(&place, "required", "clients must send it now"));
            }
            self.schema(&place, &parameter["schema"], &changed["schema"], Direction::Request, found);
        }
        for ((kind, name), parameter) in &now {
            if parameter["required"] == true && !before.contains_key(&(kind.clone(), name.clone())) {
                found.push(breach(&format!("{}, {kind} parameter {name}", self.place), "required", "clients must send it now"));
            }
        }
    }

    fn body(&self, old: &Value, new: &Value, found: &mut Vec<Breach>) {
        let place = format!("{}, request", self.place);
        match (old.is_object(), new.is_object()) {
            (false, true) if new["required"] == true => found.push(breach(&place, "required", "clients must send a body now")),
            (true, false) => found.push(breach(&place, "body-removed", "no body is taken any more")),
            (true, true) => {
                if new["required"] == true && old["required"] != true {
                    found.push(breach(&place, "required", "clients must send a body now"));
                }
                self.content(&place, old, new, Direction::Request, found);
            }
            _ => {}
        }
    }

    fn content(&self, place: &str, old: &Value, new: &Value, direction: Direction, found: &mut Vec<Breach>) {
        for (media, before) in object(&old["content"]) {
            match new["content"].get(media) {
                None => found.push(breach(place, "media-type-removed", format!("{media} is gone"))),
                Some(now) if before.get("schema").is_some() => {
                    self.schema(
                        &format!("{place}: "),
                        &before["schema"],
                        now.get("schema").unwrap_or(&Value::Bool(true)),
                        direction,
                        found,
                    );
                }
                Some(_) => {}
            }
        }
    }

    fn responses(&self, old: &Value, new: &Value, found: &mut Vec<Breach>) {
        for (status, before) in object(old) {
            let place = format!("{}, response {status}", self.place);
            let Some(now) = new.get(status) else {
                found.push(breach(&place, "status-removed", "the status is gone"));
                continue;
            };
            for name in object(&before["headers"]).keys() {
                if now["headers"].get(name).is_none() {
                    found.push(breach(&place, "header-removed", format!("the header {name} is gone")));
                }
            }
            self.content(&place, before, now, Direction::Response, found);
        }
    }

    /// Each way to be allowed must still do.
    fn security(&self, old: &Value, new: &Value, found: &mut Vec<Breach>) {
        let ways = |value: &Value| -> Vec<BTreeMap<String, BTreeSet<String>>> {
            let list = value.as_array().cloned().unwrap_or_else(|| vec![Value::Object(Map::new())]);
            let scopes = |all: &Value| all.as_array().into_iter().flatten().map(text).collect();
            list.iter().map(|way| object(way).iter().map(|(scheme, all)| (scheme.clone(), scopes(all))).collect()).collect()
        };
        let now = ways(new);
        for way in ways(old) {
            let enough = |asked: &BTreeMap<String, BTreeSet<String>>| {
                asked.iter().all(|(scheme, scopes)| way.get(scheme).is_some_and(|had| scopes.is_subset(had)))
            };
            if !now.iter().any(enough) {
                found.push(breach(&self.place, "security", "what was enough to be allowed is no longer enough"));
                return;
            }
        }
    }
}

static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or(&NOTHING)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Who writes each schema of a document's components: by the requests and responses that reach it.
#[must_use]
pub fn directions(document: &Value) -> BTreeMap<String, Direction> {
    let mut found = BTreeMap::new();
    for operation in operations(document) {
        for media in object(&operation.value["requestBody"]["content"]).values() {
            mark(document, &media["schema"], Direction::Request, &mut found);
        }
        for response in object(&operation.value["responses"]).values() {
            for media in object(&response["content"]).values() {
                mark(document, &media["schema"], Direction::Response, &mut found);
            }
        }
    }
    found
}

fn mark(document: &Value, schema: &Value, direction: Direction, found: &mut BTreeMap<String, Direction>) {
    match schema {
        Value::Object(members) => {
            if let Some(name) = members.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/components/schemas/"))
            {
                let known = found.get(name).copied();
                let joined = known.map_or(direction, |known| if known == direction { known } else { Direction::Both });
                if known != Some(joined) {
                    found.insert(name.to_owned(), joined);
                    mark(document, &document["components"]["schemas"][name], joined, found);
                }
            }
            members.values().for_each(|value| mark(document, value, direction, found));
        }
        Value::Array(items) => items.iter().for_each(|value| mark(document, value, direction, found)),
        _ => {}
    }
}
