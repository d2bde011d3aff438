//! Reading bodies leniently: other forms than the documented one are taken for it and noted. With strict ingress on, what was noted
//! refuses the request.

use serde_json::{Map, Value};

use crate::error::{Failure, Issue, Result};

/// Reads one body. Every member at fault is told, not the first one alone.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    issues: Vec<Issue>,
    /// What was taken although it is not the documented form.
    deviations: Vec<Issue>,
}

/// An object in a body, with its JSON pointer.
#[derive(Debug, Clone)]
pub(crate) struct At<'a> {
    object: Option<&'a Map<String, Value>>,
    place: String,
}

impl<'a> At<'a> {
    /// The member, unless it is absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object?.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn is_there(&self) -> bool {
        self.object.is_some()
    }

    fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.place, name.replace('~', "~0").replace('/', "~1"))
    }
}

impl Reader {
    /// The body, which has to be an object.
    pub(crate) fn body<'a>(&mut self, body: &'a Value) -> At<'a> {
        if !body.is_object() {
            self.issues.push(Issue { path: String::new(), message: "must be an object".into(), kind: "type" });
        }
        At { object: body.as_object(), place: String::new() }
    }

    /// An inner object. An absent one reads like an empty one.
    pub(crate) fn object<'a>(&mut self, at: &At<'a>, name: &str) -> At<'a> {
        let value = at.get(name);
        if value.is_some_and(|value| !value.is_object()) {
            self.wrong::<()>(at, name, "must be an object", "type");
        }
        At { object: value.and_then(Value::as_object), place: at.pointer(name) }
    }

    pub(crate) fn text(&mut self, at: &At<'_>, name: &str) -> Option<String> {
        match at.get(name)? {
            Value::String(text) => Some(text.clone()),
            _ => self.wrong(at, name, "must be a text", "type"),
        }
    }

    /// A text of 1 to `most` bytes.
    pub(crate) fn name(&mut self, at: &At<'_>, name: &str, most: usize) -> Option<String> {
        let text = self.text(at, name)?;
        if (1..=most).contains(&text.len()) { Some(text) } else { self.wrong(at, name, &format!("must have 1 to {most} bytes"), "value") }
    }

    /// A whole number of at least 1.
    pub(crate) fn count(&mut self, at: &At<'_>, name: &str) -> Option<u64> {
        let value = at.get(name)?;
        // 5.0 is the whole number 5: JSON has one kind of number.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, positive and exact")]
        let whole = |number: f64| (number.fract() == 0.0 && (0.0..9.0e15).contains(&number)).then_some(number as u64);
        match value.as_u64().or_else(|| value.as_f64().and_then(whole)) {
            Some(0) => self.wrong(at, name, "must be at least 1", "value"),
            Some(number) => Some(number),
            None if value.is_number() => self.wrong(at, name, "must be a whole number of at least 1", "value"),
            None => self.wrong(at, name, "must be a whole number", "type"),
        }
    }

    pub(crate) fn flag(&mut self, at: &At<'_>, name: &str) -> Option<bool> {
        match at.get(name)? {
            Value::Bool(flag) => Some(*flag),
            _ => self.wrong(at, name, "must be true or false", "type"),
        }
    }

    pub(crate) fn choice(&mut self, at: &At<'_>, name: &str, choices: &[&str]) -> Option<String> {
        let text = self.text(at, name)?;
        if choices.contains(&text.as_str()) {
            return Some(text);
        }
        self.wrong(at, name, &format!("must be one of {}", choices.join(", ")), "value")
    }

    pub(crate) fn list<'a>(&mut self, at: &At<'a>, name: &str) -> Option<&'a [Value]> {
        match at.get(name)? {
            Value::Array(list) => Some(list),
            _ => self.wrong(at, name, "must be a list", "type"),
        }
    }

    pub(crate) fn texts(&mut self, at: &At<'_>, name: &str) -> Option<Vec<String>> {
        let list = self.list(at, name)?;
        let texts: Option<Vec<String>> = list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        texts.or_else(|| self.wrong(at, name, "must be a list of texts", "type"))
    }

    /// Notes a member that is wrong.
    pub(crate) fn wrong<T>(&mut self, at: &At<'_>, name: &str, message: &str, code: &'static str) -> Option<T> {
        self.issues.push(Issue { path: at.pointer(name), message: message.into(), kind: code });
        None
    }

    /// Notes a member that must be there.
    pub(crate) fn required<T>(&mut self, at: &At<'_>, name: &str) -> Option<T> {
        self.wrong(at, name, "is required", "required")
    }

    /// Notes that something was taken which is not the documented form.
    pub(crate) fn deviates(&mut self, at: &At<'_>, name: &str, message: &str, code: &'static str) {
        self.deviations.push(Issue { path: at.pointer(name), message: message.into(), kind: code });
    }

    /// Notes which of these members are missing.
    pub(crate) fn expects(&mut self, at: &At<'_>, names: &[&str]) {
        for name in names.iter().filter(|name| !at.has(name)) {
            self.deviates(at, name, "is required", "required");
        }
    }

    /// Notes members that are not among these.
    pub(crate) fn knows(&mut self, at: &At<'_>, names: &[&str]) {
        for name in at.object.into_iter().flatten().map(|(name, _)| name).filter(|name| !names.contains(&name.as_str())) {
            self.deviates(at, name, "is not known", "unknown");
        }
    }

    /// Refuses the request if anything is wrong, or with strict ingress if anything was taken that is not the documented form.
    pub(crate) fn finish(mut self, strict: bool) -> Result<()> {
        if strict {
            self.issues.append(&mut self.deviations);
        }
        if self.issues.is_empty() { Ok(()) } else { Err(Failure::Issues(self.issues)) }
    }
}
