//! A request and an answer on their way between the suite and a hub, and what changes them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use aiox_probe::Event;
use aiox_proto::worker::v1::{server_message::Payload as FromHub, worker_message::Payload as ToHub};
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use tonic::Status;

use crate::{
    certificate::Said,
    stream::{Frame, SocketFrame},
};

/// What a mutant does to an answer.
pub(crate) type OnAnswer = fn(&Ask, &mut Reply, &mut Memory);

/// What it does to a frame of a stream of the peer listener; `false` drops it.
pub(crate) type OnFeed = fn(&mut Frame) -> bool;
/// What it does to a message of the workers' door.
pub(crate) type OnOrder = fn(&mut FromHub);
/// What it does to a message of a worker, as a hub would that does not read all of it.
pub(crate) type OnReport = fn(&mut ToHub);
/// What it does to the answer of `Heartbeat`.
pub(crate) type OnBeat = fn(KeyShown, &mut Result<bool, Status>);
/// What it does to a stanza; `false` drops it.
pub(crate) type OnStanza = fn(&mut Event) -> bool;
/// What it does to a frame of a WebSocket; `false` drops it.
pub(crate) type OnSocket = fn(&mut SocketFrame) -> bool;
/// What it does to a request of the hub to a peer; `false` drops it.
pub(crate) type OnCall = fn(&mut Call, &mut Memory) -> bool;
/// Whether it takes a server of a peer with this certificate for the right one; the domain is that of the peer.
pub(crate) type OnServer = fn(&Said, &str) -> bool;

/// What a peer listener gets wrong in its handshakes.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// Nothing: what stands before it alone changes.
    Nothing,
    /// TLS 1.2 is good enough.
    OldTls,
    /// No certificate is asked for.
    NoCertificate,
    /// Any protocol is h2.
    AnyProtocol,
    /// A wrong certificate of this kind is let in; the right one comes second.
    Certificate(fn(&Said, &Said) -> bool),
    /// Sessions can be resumed.
    Tickets,
    /// Authorities are named.
    Hints,
}
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").finish_non_exhaustive()
    }
}

/// What a call of a worker carries for a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyShown {
    Right,
    Wrong,
    None,
}

/// A request of a hub to a peer.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    /// `after` of the query, else 0.
    pub(crate) after: u64,
    pub(crate) authorization: Option<String>,
    /// Thumbprint of the certificate that the target showed.
    pub(crate) certificate: String,
    pub(crate) body: Value,
}

/// What is changed at doors that no proxy can read: inside of the suite's own connections.
#[derive(Clone, Copy)]
pub(crate) struct Doors {
    /// Answers of the peer listener.
    pub(crate) link: Option<OnAnswer>,
    /// Its streams.
    pub(crate) feed: Option<OnFeed>,
    /// Its handshakes.
    pub(crate) front: Option<Fault>,
    /// Requests of the hub to a peer.
    pub(crate) call: Option<OnCall>,
    /// Servers that the hub calls.
    pub(crate) server: Option<OnServer>,
    /// What the workers' door says.
    pub(crate) order: Option<OnOrder>,
    /// What it hears.
    pub(crate) report: Option<OnReport>,
    /// Its heartbeats.
    pub(crate) beat: Option<OnBeat>,
    /// XMPP.
    pub(crate) stanza: Option<OnStanza>,
    /// WebSockets.
    pub(crate) socket: Option<OnSocket>,
}

impl Doors {
    pub(crate) const UNTOUCHED: Self = Self {
        link: None,
        feed: None,
        front: None,
        call: None,
        server: None,
        order: None,
        report: None,
        beat: None,
        stanza: None,
        socket: None,
    };
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

    /// Changes a request of the hub to a peer; `false`: it did not come.
    pub(crate) fn call(&self, call: &mut Call) -> bool {
        self.doors.call.is_none_or(|change| change(call, &mut self.memory.lock().unwrap_or_else(PoisonError::into_inner)))
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
