//! One request and its answer, as the report shows them.

use serde::Serialize;
use serde_json::Value;

use crate::case::{Outcome, Stop, ensure};

/// Most bytes of a body that the report keeps.
const SHOWN: usize = 4096;

/// A request and what came back.
#[derive(Debug, Clone, Serialize)]
pub struct Exchange {
    /// `POST https://hub-a.example/v1/agents/agt_demo/runs`.
    pub request: String,
    /// The request's headers; credentials are replaced.
    pub request_headers: Vec<(String, String)>,
    /// The request's body, cut.
    pub request_body: String,
    /// The status; 0 where no answer came.
    pub status: u16,
    /// The answer's headers.
    pub headers: Vec<(String, String)>,
    /// The answer's body, cut.
    pub body: String,
}

/// Cuts a text for the report.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
    if bytes.len() > SHOWN { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `GET /v1/runs/…`, for messages.
    pub what: String,
    /// The status.
    pub status: u16,
    /// Its headers.
    pub headers: reqwest::header::HeaderMap,
    /// Its body.
    pub bytes: bytes::Bytes,
    /// The body as JSON; `Null` where it is none.
    pub json: Value,
}

impl Answer {
    /// A header as text; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The member at a JSON pointer.
    #[must_use]
    pub fn at(&self, pointer: &str) -> &Value {
        self.json.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The text at a JSON pointer; empty when it is none.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// Fails unless the status is this one.
    pub(crate) fn expect(&self, status: u16) -> Outcome {
        ensure!(self.status == status, "{}: expected status {status}, got {} with {}", self.what, self.status, shown(&self.bytes));
        Ok(())
    }

    /// The stable code of an error of either surface.
    #[must_use]
    pub fn code(&self) -> &str {
        if self.at("/error").is_object() { self.text("/error/code") } else { self.text("/code") }
    }

    /// Fails unless it is this error.
    pub(crate) fn refused(&self, status: u16, code: &str) -> Outcome {
        self.expect(status)?;
        ensure!(self.code() == code, "{}: expected the code `{code}`, got `{}` in {}", self.what, self.code(), shown(&self.bytes));
        Ok(())
    }

    /// Fails unless the member at a JSON pointer is this value.
    pub(crate) fn equals(&self, pointer: &str, wanted: &Value) -> Outcome {
        let found = self.at(pointer);
        ensure!(found == wanted, "{}: expected {wanted} at {pointer}, got {found}", self.what);
        Ok(())
    }

    /// Fails unless the text at a JSON pointer is there and not empty; returns it.
    pub(crate) fn some_text(&self, pointer: &str) -> Result<String, Stop> {
        let found = self.text(pointer);
        ensure!(!found.is_empty(), "{}: expected a text at {pointer}, got {}", self.what, self.at(pointer));
        Ok(found.to_owned())
    }

    /// The list at a JSON pointer, or a failure.
    pub(crate) fn list(&self, pointer: &str) -> Result<&Vec<Value>, Stop> {
        self.at(pointer)
            .as_array()
            .ok_or_else(|| Stop::Failed(format!("{}: expected a list at {pointer}, got {}", self.what, self.at(pointer))))
    }

    /// Fails unless the object at a pointer has these members and, where `closed`, no other.
    pub(crate) fn members(&self, pointer: &str, wanted: &[&str], optional: Option<&[&str]>) -> Outcome {
        has_members(&self.what, self.at(pointer), wanted, optional)
    }
}

/// Fails unless an object has the wanted members; with `optional`, none besides those two lists.
pub(crate) fn has_members(what: &str, value: &Value, wanted: &[&str], optional: Option<&[&str]>) -> Outcome {
    let Some(object) = value.as_object() else { return Err(Stop::Failed(format!("{what}: expected an object, got {value}"))) };
    for name in wanted {
        ensure!(object.contains_key(*name), "{what}: the member `{name}` is missing in {value}");
    }
    if let Some(optional) = optional {
        for name in object.keys() {
            let known = wanted.contains(&name.as_str()) || optional.contains(&name.as_str());
            ensure!(known, "{what}: the closed object has the member `{name}`: {value}");
        }
    }
    Ok(())
}
