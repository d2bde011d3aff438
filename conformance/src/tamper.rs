//! A request and an answer on their way between the suite and a hub, and what changes them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use aiox_probe::Event;
use aiox_proto::worker::v1::server_message::Payload as FromHub;
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use crate::stream::Frame;

/// What a mutant does to an answer.
pub(crate) type OnAnswer = fn(&Ask, &mut Reply, &mut Memory);

/// What it does to a frame of a stream of the peer listener; `false` drops it.
pub(crate) type OnFeed = fn(&mut Frame) -> bool;
/// What it does to a message of the workers' door.
pub(crate) type OnOrder = fn(&mut FromHub);
/// What it does to a stanza; `false` drops it.
pub(crate) type OnStanza = fn(&mut Event) -> bool;

/// What is changed at doors that no proxy can read: inside of the suite's own connections.
#[derive(Clone, Copy)]
pub(crate) struct Doors {
    /// Answers of the peer listener.
    pub(crate) link: Option<OnAnswer>,
    /// Its streams.
    pub(crate) feed: Option<OnFeed>,
    /// The workers' door.
    pub(crate) order: Option<OnOrder>,
    /// XMPP.
    pub(crate) stanza: Option<OnStanza>,
}

impl Doors {
    pub(crate) const UNTOUCHED: Self = Self { link: None, feed: None, order: None, stanza: None };
}

/// Changes what comes through the doors of one hub.
pub(crate) struct Tamper {
    pub(crate) doors: Doors,
    memory: Mutex<Memory>,
}

impl Tamper {
    pub(crate) fn new(doors: Doors) -> Self {
        Self { doors, memory: Mutex::default() }
    }

    /// Changes an answer of the peer listener.
    pub(crate) fn answer(&self, ask: &Ask, reply: &mut Reply) {
        if let Some(change) = self.doors.link {
            change(ask, reply, &mut self.memory.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// What a mutant remembers between requests.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Texts by a name of the mutant's choice.
    pub(crate) texts: HashMap<String, String>,
    /// Answers by a name of the mutant's choice.
    pub(crate) answers: HashMap<String, Reply>,
    /// Counts requests or frames.
    pub(crate) count: usize,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Without the query.
    pub(crate) path: String,
    /// Without the question mark; empty when there is none.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    /// Whether it is this call; a `*` in the pattern stands for one segment.
    pub(crate) fn is(&self, method: &str, pattern: &str) -> bool {
        let (mut have, mut want) = (self.path.split('/'), pattern.split('/'));
        let fits = |have: &str, want: &str| match want.split_once('*') {
            Some((start, end)) => have.len() >= start.len() + end.len() && have.starts_with(start) && have.ends_with(end),
            None => have == want,
        };
        self.method.as_str() == method
            && loop {
                match (have.next(), want.next()) {
                    (None, None) => break true,
                    (Some(have), Some(want)) if fits(have, want) => {}
                    _ => break false,
                }
            }
    }

    /// Whether it makes a run below `/v1`.
    pub(crate) fn makes_run(&self) -> bool {
        self.is("POST", "/v1/agents/*/runs")
    }

    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
    }

    pub(crate) fn drop_header(&mut self, name: &str) {
        self.headers.remove(name);
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Changes the JSON body.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        if let Ok(mut body) = serde_json::from_slice::<Value>(&self.body) {
            change(&mut body);
            self.body = body.to_string().into_bytes();
        }
    }

    /// The bearer token.
    pub(crate) fn token(&self) -> String {
        self.header("authorization").split_once(' ').map(|(_, token)| token.to_owned()).unwrap_or_default()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A JSON answer of the mutant's own.
    pub(crate) fn new(status: u16, body: &Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Changes the JSON body.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        if let Ok(mut body) = serde_json::from_slice::<Value>(&self.body) {
            change(&mut body);
            self.body = body.to_string().into_bytes();
        }
    }

    /// Changes the object at a pointer.
    pub(crate) fn edit_at(&mut self, pointer: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        self.edit(|body| {
            if let Some(object) = body.pointer_mut(pointer).and_then(Value::as_object_mut) {
                change(object);
            }
        });
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
    }
}
