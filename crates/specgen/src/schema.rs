//! Whether a changed JSON Schema still keeps what the old one promised.
//!
//! What is right depends on who writes. What clients send (a request) may become wider and never narrower; what a hub sends (a
//! response) may gain members and never lose what readers rely on. A document that travels both ways keeps both.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

/// Who writes a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Clients write it: the new schema takes whatever the old one took.
    Request,
    /// A hub writes it: whoever reads by the old schema can read what the new one allows.
    Response,
    /// Both.
    Both,
}

/// A promise that a change breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Where, for instance `POST /api/v1/agents, request: name`.
    pub place: String,
    /// Which rule.
    pub rule: &'static str,
    /// What changed.
    pub what: String,
}
impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.place, self.what, self.rule)
    }
}

/// Compares two schemas. `#/…` references are looked up in the roots, which may be whole OpenAPI documents.
#[must_use]
pub fn compatible(place: &str, old: (&Value, &Value), new: (&Value, &Value), direction: Direction) -> Vec<Breach> {
    let mut found = Vec::new();
    let one = |direction, found: &mut Vec<Breach>| {
        Comparison { old_root: old.0, new_root: new.0, reads: direction, seen: BTreeSet::new(), found }.compare(place, old.1, new.1);
    };
    match direction {
        Direction::Both => {
            one(Direction::Request, &mut found);
            one(Direction::Response, &mut found);
            found.sort_by(|a, b| (&a.place, a.rule).cmp(&(&b.place, b.rule)));
            found.dedup();
        }
        direction => one(direction, &mut found),
    }
    found
}

/// Follows references inside a document to their end.
#[must_use]
pub fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    // A chain of references is short; a circle of nothing but references means nothing.
    for _ in 0..16 {
        let Some(pointer) = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#')) else { break };
        let Some(next) = root.pointer(pointer) else { break };
        schema = next;
    }
    schema
}

struct Comparison<'a> {
    old_root: &'a Value,
    new_root: &'a Value,
    /// [`Direction::Request`] or [`Direction::Response`].
    reads: Direction,
    seen: BTreeSet<(String, String)>,
    found: &'a mut Vec<Breach>,
}

impl Comparison<'_> {
    fn breach(&mut self, place: &str, rule: &'static str, what: impl Into<String>) {
        self.found.push(Breach { place: place.to_owned(), rule, what: what.into() });
    }

    fn compare(&mut self, place: &str, old: &Value, new: &Value) {
        let names = (old["$ref"].as_str().unwrap_or_default().to_owned(), new["$ref"].as_str().unwrap_or_default().to_owned());
        if !names.0.is_empty() && !names.1.is_empty() && !self.seen.insert(names) {
            return;
        }
        let (old, new) = (resolve(self.old_root, old), resolve(self.new_root, new));
        self.types(place, old, new);
        self.values(place, old, new);
        self.bounds(place, old, new);
        self.members(place, old, new);
        if let Some(items) = old.get("items") {
            self.compare(&format!("{place}[]"), items, new.get("items").unwrap_or(&Value::Bool(true)));
        } else if self.reads == Direction::Request && new.get("items").is_some_and(|items| items != &Value::Bool(true)) {
            self.breach(place, "narrowed", "the items have a type now");
        }
        self.alternatives(place, old, new);
    }

    fn types(&mut self, place: &str, old: &Value, new: &Value) {
        // Who writes must stay within what the reader knows.
        let (written, read) = match self.reads {
            Direction::Request => (old, new),
            _ => (new, old),
        };
        let Some(read) = kinds(read) else { return };
        let fits = |kind: &String| read.contains(kind) || (kind == "integer" && read.contains("number"));
        let written = kinds(written).or_else(|| alternatives(self.writer_root(), written));
        match written {
            Some(written) if written.iter().all(fits) => {}
            Some(written) => self.breach(place, "type", format!("{} is not within {}", list(&written), list(&read))),
            None if const_like(old) || const_like(new) => {}
            None => self.breach(place, "type", format!("any type is not within {}", list(&read))),
        }
    }

    const fn writer_root(&self) -> &Value {
        match self.reads {
            Direction::Request => self.old_root,
            _ => self.new_root,
        }
    }

    fn values(&mut self, place: &str, old: &Value, new: &Value) {
        let (written, read, rule) = match self.reads {
            Direction::Request => (values(old), values(new), "enum-narrowed"),
            _ => (values(new), values(old), "enum-extended"),
        };
        let Some(read) = read else { return };
        match written {
            None => self.breach(place, rule, "any value is not within the listed ones"),
            Some(written) => {
                let strange: Vec<String> = written.iter().filter(|value| !read.contains(value)).map(Value::to_string).collect();
                if !strange.is_empty() {
                    self.breach(place, rule, format!("{} is not listed on the reading side", strange.join(", ")));
                }
            }
        }
    }

    /// Bounds matter where clients write. Formats and patterns are what readers parse by, so they are kept in both directions.
    fn bounds(&mut self, place: &str, old: &Value, new: &Value) {
        if self.reads == Direction::Request {
            for (name, tighter_is_less) in
                [("maximum", true), ("maxLength", true), ("maxItems", true), ("minimum", false), ("minLength", false), ("minItems", false)]
            {
                let Some(bound) = new[name].as_f64() else { continue };
                let tighter = old[name].as_f64().is_none_or(|before| if tighter_is_less { bound < before } else { bound > before });
                if tighter {
                    self.breach(place, "narrowed", format!("{name} is {bound} now"));
                }
            }
        }
        for name in ["pattern", "format"] {
            let (before, now) = (&old[name], &new[name]);
            // Formats of numbers say how wide they are in memory; their bounds are compared above.
            let text = kinds(old).is_none_or(|kinds| kinds.contains("string"));
            let matters = if self.reads == Direction::Request { now } else { before };
            if text && before != now && !matters.is_null() {
                self.breach(place, "narrowed", format!("{name} was {before} and is {now}"));
            }
        }
    }

    fn members(&mut self, place: &str, old: &Value, new: &Value) {
        let empty = serde_json::Map::new();
        let before = old["properties"].as_object().unwrap_or(&empty);
        let now = new["properties"].as_object().unwrap_or(&empty);
        let inner = |name: &str| format!("{place}{}{name}", if place.ends_with(": ") { "" } else { "." });
        for (name, member) in before {
            match now.get(name) {
                None => {
                    self.breach(&inner(name), "member-removed", "the member is gone");
                }
                Some(changed) => self.compare(&inner(name), member, changed),
            }
        }
        let (needed_before, needed_now) = (required(old), required(new));
        match self.reads {
            Direction::Request => {
                for name in needed_now.difference(&needed_before) {
                    self.breach(&inner(name), "required", "clients must send it now");
                }
                if closed(new) && !closed(old) && (old["type"] == "object" || old["properties"].is_object()) {
                    self.breach(place, "narrowed", "unknown members are refused now");
                }
            }
            _ => {
                for name in needed_before.difference(&needed_now).filter(|name| now.contains_key(**name)) {
                    self.breach(&inner(name), "optional", "it may be absent now");
                }
            }
        }
        if let (Some(before @ Value::Object(_)), Some(now @ Value::Object(_))) =
            (old.get("additionalProperties"), new.get("additionalProperties"))
        {
            self.compare(&format!("{place}.*"), before, now);
        }
    }

    /// `oneOf`, `anyOf`: each way in which one side writes must be one that the other side reads.
    fn alternatives(&mut self, place: &str, old: &Value, new: &Value) {
        let ways = |schema: &Value| -> Vec<Value> {
            ["oneOf", "anyOf"].iter().find_map(|name| schema[*name].as_array().cloned()).unwrap_or_default()
        };
        let (before, now) = (ways(old), ways(new));
        if values(old).is_some() || values(new).is_some() {
            return;
        }
        let (written, read) = match self.reads {
            Direction::Request => (&before, &now),
            _ => (&now, &before),
        };
        if read.is_empty() {
            return;
        }
        // A plain schema that became one of several is a single way.
        let whole = [if self.reads == Direction::Request { old.clone() } else { new.clone() }];
        let written = if written.is_empty() { &whole[..] } else { written };
        for way in written {
            let taken = read.iter().any(|other| {
                let (a, b) = if self.reads == Direction::Request { (way, other) } else { (other, way) };
                let mut inside = Vec::new();
                let mut trial = Comparison {
                    old_root: self.old_root,
                    new_root: self.new_root,
                    reads: self.reads,
                    seen: self.seen.clone(),
                    found: &mut inside,
                };
                trial.compare(place, a, b);
                inside.is_empty()
            });
            if !taken {
                let name = way["$ref"].as_str().or(way["title"].as_str()).or(way["type"].as_str()).unwrap_or("one alternative").to_owned();
                self.breach(place, "alternative", format!("{name} has no counterpart on the reading side"));
            }
        }
        // allOf is what schemars makes of nothing that is compared here; its parts are compared in order.
    }
}

/// The types of a schema; `None` where it says none.
fn kinds(schema: &Value) -> Option<BTreeSet<String>> {
    match &schema["type"] {
        Value::String(one) => Some(BTreeSet::from([one.clone()])),
        Value::Array(all) => Some(all.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => None,
    }
}

fn alternatives(root: &Value, schema: &Value) -> Option<BTreeSet<String>> {
    let ways = ["oneOf", "anyOf"].iter().find_map(|name| schema[*name].as_array())?;
    let mut all = BTreeSet::new();
    for way in ways {
        all.extend(kinds(resolve(root, way))?);
    }
    Some(all)
}

fn const_like(schema: &Value) -> bool {
    values(schema).is_some()
}

/// The listed values of a closed set, also when each stands in an alternative of its own.
fn values(schema: &Value) -> Option<Vec<Value>> {
    if let Some(list) = schema["enum"].as_array() {
        return Some(list.clone());
    }
    if let Some(one) = schema.get("const") {
        return Some(vec![one.clone()]);
    }
    let ways = schema["oneOf"].as_array()?;
    let mut all = Vec::new();
    for way in ways {
        match (way.get("const"), way["enum"].as_array()) {
            (Some(one), _) => all.push(one.clone()),
            (None, Some(list)) => all.extend(list.iter().cloned()),
            (None, None) => return None,
        }
    }
    Some(all)
}

fn required(schema: &Value) -> BTreeSet<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn closed(schema: &Value) -> bool {
    schema.get("additionalProperties") == Some(&Value::Bool(false))
}

fn list(kinds: &BTreeSet<String>) -> String {
    kinds.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
}
