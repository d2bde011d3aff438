//! The suite's own peer listener: what the target calls back, what it sent, and scripted answers.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier, version::TLS13};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    ids,
    jose::{self, Key, RECEIPT, sha256},
    link::provider,
    pki::Leaf,
};
use crate::{case::Stop, tamper::Call, world::World};

const LARGEST: usize = 2 * 1024 * 1024;

/// What the suite's peer says to envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    /// `accepted`, with a receipt that holds.
    Accept,
    /// `refused` with this code.
    Refuse(&'static str),
    /// `retry`.
    Retry,
    /// `accepted`, without a receipt.
    WithoutReceipt,
    /// `accepted`, with a receipt that somebody else signed.
    WithForgedReceipt,
    /// A success without any verdict.
    Nothing,
}

/// What the peer does.
pub(crate) struct Script {
    pub(crate) envelopes: Say,
    /// Whether an accepted run is answered; else it stays open.
    pub(crate) answers: bool,
    /// After this many events a stream is cut.
    pub(crate) cut: Option<usize>,
    /// Entries of the directory.
    pub(crate) agents: Vec<Value>,
}

pub(super) struct State {
    pub(super) node: String,
    /// Where a mutant may change what the target sends.
    world: Arc<World>,
    pub(super) script: Mutex<Script>,
    pub(super) document: Mutex<Value>,
    seen: Mutex<Vec<Call>>,
    runs: Mutex<HashMap<String, Vec<Value>>>,
    /// Paths asked of the listener that serves the trust document.
    fetched: Mutex<Vec<String>>,
    failed: AtomicUsize,
    changed: watch::Sender<u64>,
    /// Connections of an older number are cut; at an odd number none is taken.
    era: watch::Sender<u64>,
    receipts: Arc<Key>,
    forger: Key,
}

impl State {
    fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.changed.send_modify(|count| *count += 1);
    }
}

/// The listener and its record. Dropping it closes both ports.
pub(crate) struct Door {
    pub(super) state: Arc<State>,
    /// Port of the peer listener.
    pub(crate) port: u16,
    /// Port of the listener that serves the trust document.
    pub(crate) document_port: u16,
    _tasks: JoinSet<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn harness(error: impl std::fmt::Display) -> Stop {
    Stop::Harness(format!("the suite's peer listener: {error}"))
}

impl Door {
    /// Opens both listeners on this machine. `hub_roots`: who may call.
    pub(super) async fn open(
        world: Arc<World>,
        node: &str,
        leaf: &Leaf,
        receipts: Arc<Key>,
        hub_roots: &[CertificateDer<'static>],
    ) -> Result<Self, Stop> {
        let mut roots = RootCertStore::empty();
        for root in hub_roots {
            roots.add(root.clone()).map_err(harness)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().map_err(harness)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(harness)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.certificate.clone()], leaf.key())
            .map_err(harness)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (peers, documents) = (listener().await?, listener().await?);
        let (port, document_port) = (peers.local_addr().map_err(harness)?.port(), documents.local_addr().map_err(harness)?.port());
        let script = Script { envelopes: Say::Accept, answers: true, cut: None, agents: Vec::new() };
        let state = Arc::new(State {
            node: node.to_owned(),
            world,
            script: Mutex::new(script),
            document: Mutex::default(),
            seen: Mutex::default(),
            runs: Mutex::default(),
            fetched: Mutex::default(),
            failed: AtomicUsize::new(0),
            changed: watch::channel(0).0,
            era: watch::channel(0).0,
            receipts,
            forger: Key::generate()?,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(peers, state.clone(), TlsAcceptor::from(Arc::new(config))));
        tasks.spawn(serve_document(documents, state.clone()));
        Ok(Self { state, port, document_port, _tasks: tasks })
    }

    /// Changes what the peer does.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut lock(&self.state.script));
    }

    /// Ends all connections, and takes no further one until [`back`](Self::back).
    pub(crate) fn away(&self) {
        self.state.era.send_modify(|era| *era += 1 + *era % 2);
    }

    /// Ends all connections and takes new ones.
    pub(crate) fn back(&self) {
        self.state.era.send_modify(|era| *era += 2 - *era % 2);
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Call> {
        lock(&self.state.seen).clone()
    }

    /// Every path that was asked of the listener of the trust document.
    pub(crate) fn fetched(&self) -> Vec<String> {
        lock(&self.state.fetched).clone()
    }

    /// How many connections did not come to be: the target broke off the handshake, or the peer was away.
    pub(crate) fn failed_handshakes(&self) -> usize {
        self.state.failed.load(Ordering::Relaxed)
    }

    /// Waits until what was recorded gives something.
    pub(crate) async fn until<T>(&self, what: &str, within: Duration, mut look: impl FnMut(&Self) -> Option<T>) -> Result<T, Stop> {
        let mut changes = self.state.changed.subscribe();
        let end = tokio::time::Instant::now() + within;
        loop {
            changes.mark_unchanged();
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if tokio::time::timeout_at(end, changes.changed()).await.is_err() {
                let asked: Vec<String> = self.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
                return Err(Stop::Failed(format!("{what}: not within {within:?}; the target asked the suite's peer {asked:?}")));
            }
        }
    }

    /// Every envelope that the target sent, in order, each time it came.
    pub(crate) fn envelopes(&self) -> Vec<Value> {
        let batches = self.seen().into_iter().filter(|seen| seen.path == "/fed/v1/envelopes");
        batches.flat_map(|seen| seen.body["envelopes"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// The log of a run that the target sent here, as this peer has it from sequence 2 on.
    pub(crate) fn log(&self, run: &str) -> Vec<Value> {
        lock(&self.state.runs).get(&run.to_lowercase()).cloned().unwrap_or_default()
    }
}

async fn listener() -> Result<TcpListener, Stop> {
    TcpListener::bind(("127.0.0.1", 0)).await.map_err(harness)
}

async fn serve(listener: TcpListener, state: Arc<State>, acceptor: TlsAcceptor) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((tcp, _)) = accepted {
                connections.spawn(connection(tcp, state.clone(), acceptor.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(tcp: TcpStream, state: Arc<State>, acceptor: TlsAcceptor) {
    let mut era = state.era.subscribe();
    if *era.borrow_and_update() % 2 == 1 {
        return state.failed();
    }
    let _ = tcp.set_nodelay(true);
    let tls = match acceptor.accept(tcp).await {
        Ok(tls) => tls,
        Err(_) => return state.failed(),
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|der| sha256(der)).unwrap_or_default();
    let handler = service_fn(|request| {
        let (state, certificate) = (state.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(answer(&state, certificate, request).await) }
    });
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), handler);
    tokio::select! {
        served = serving => if served.is_err() {
            // A client of TLS 1.3 refuses a server's certificate after the server's handshake is done.
            state.failed();
        },
        _ = era.changed() => {}
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
    response
}

fn json(body: &Value) -> Response<Full<Bytes>> {
    reply(StatusCode::OK, "application/json", body.to_string())
}

async fn answer(state: &State, certificate: String, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let bytes = Limited::new(body, LARGEST).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path().to_owned();
    let after = head.uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("after=")?.parse().ok()).unwrap_or(0);
    let mut seen = Call {
        method: head.method.to_string(),
        path: path.clone(),
        after,
        authorization: head.headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned),
        certificate,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    };
    let body = seen.body.clone();
    if state.world.tamper.call(&mut seen) {
        lock(&state.seen).push(seen);
    }
    state.changed.send_modify(|count| *count += 1);
    match path.as_str() {
        "/fed/v1/hello" => json(&json!({ "node": state.node, "time": ids::now(), "profiles": ["aiox-federation/1"] })),
        "/fed/v1/capabilities" => json(&json!({
            "node": state.node, "profiles": ["aiox-federation/1"], "capabilities": ["run.create", "run.cancel", "stream", "directory"],
            "max_batch_items": 100, "max_batch_bytes": 1_048_576, "max_hop": 8,
        })),
        "/fed/v1/directory" => json(&json!({ "node": state.node, "agents": lock(&state.script).agents.clone() })),
        "/fed/v1/envelopes" => json(&verdicts(state, &body)),
        _ => match path.strip_prefix("/fed/v1/runs/").and_then(|rest| rest.strip_suffix("/events")) {
            Some(run) => stream(state, run, after),
            None => reply(StatusCode::NOT_FOUND, "application/problem+json", json!({ "status": 404, "code": "not_found" }).to_string()),
        },
    }
}

fn verdicts(state: &State, body: &Value) -> Value {
    let (say, answers) = {
        let script = lock(&state.script);
        (script.envelopes, script.answers)
    };
    if say == Say::Nothing {
        return json!({});
    }
    let all = body["envelopes"].as_array().cloned().unwrap_or_default();
    json!({ "verdicts": all.iter().map(|envelope| verdict(state, envelope, say, answers)).collect::<Vec<_>>() })
}

fn verdict(state: &State, envelope: &Value, say: Say, answers: bool) -> Value {
    let id = &envelope["id"];
    let bytes = jose::without(envelope, &["payload", "signature"]).unwrap_or_default();
    let receipt = json!({ "digest": sha256(&bytes), "id": id, "node": state.node, "at": ids::now() });
    let sealed = |key: &Key| key.seal(RECEIPT, receipt.clone(), &["signature"]).unwrap_or_default();
    match say {
        Say::Refuse(code) => json!({ "id": id, "verdict": "refused", "code": code }),
        Say::Retry | Say::Nothing => json!({ "id": id, "verdict": "retry", "code": "busy", "retry_after": 1 }),
        Say::WithoutReceipt => json!({ "id": id, "verdict": "accepted" }),
        Say::WithForgedReceipt => {
            let mut forged = sealed(&state.forger);
            // Under the right `kid`, so that only the signature itself is wrong.
            let right = sealed(&state.receipts);
            let head = |value: &Value| value["signature"].as_str().and_then(|jws| jws.split('.').next()).unwrap_or_default().to_owned();
            let tail = forged["signature"].as_str().and_then(|jws| jws.rsplit('.').next()).unwrap_or_default().to_owned();
            forged["signature"] = format!("{}..{tail}", head(&right)).into();
            json!({ "id": id, "verdict": "accepted", "receipt": forged })
        }
        Say::Accept => {
            if answers && envelope["type"] == "run.create" {
                begin(state, envelope);
            }
            json!({ "id": id, "verdict": "accepted", "receipt": sealed(&state.receipts) })
        }
    }
}

/// Makes the log of a run that was handed over here, once.
fn begin(state: &State, envelope: &Value) {
    let payload: Value = envelope["payload"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let run = payload["run_id"].as_str().unwrap_or_default().to_lowercase();
    let Some(uuid) = ids::uuid_of(&run) else { return };
    let event = |sequence: u64, kind: &str, payload: Value| json!({ "id": uuid::Uuid::now_v7(), "run_id": uuid, "sequence": sequence, "type": kind, "time": ids::now(), "payload": payload });
    lock(&state.runs).entry(run).or_insert_with(|| {
        let text = format!("scripted: {}", payload["input"].as_str().unwrap_or_default());
        let usage = json!({ "input_tokens": 3, "output_tokens": 4 });
        vec![
            event(2, "run.started", json!({ "attempt": 1 })),
            event(
                3,
                "tool.call",
                json!({ "name": "look-up", "note": "caf\u{e9} \u{1f600}\u{2028}", "depth": { "numbers": [1, 2.5, -3] } }),
            ),
            event(
                4,
                "run.completed",
                json!({ "status": "completed", "output": { "type": "text", "text": text }, "usage": usage, "model": "echo/echo" }),
            ),
        ]
    });
}

fn stream(state: &State, run: &str, after: u64) -> Response<Full<Bytes>> {
    let cut = lock(&state.script).cut;
    let runs = lock(&state.runs);
    let Some(events) = runs.get(&run.to_lowercase()) else {
        return reply(StatusCode::NOT_FOUND, "application/problem+json", json!({ "status": 404, "code": "not_found" }).to_string());
    };
    let due = events.iter().filter(|event| event["sequence"].as_u64() > Some(after)).take(cut.unwrap_or(usize::MAX));
    let text: String = due.map(|event| format!("id: {}\nevent: event\ndata: {event}\n\n", event["sequence"])).collect();
    if text.is_empty() {
        reply(StatusCode::NO_CONTENT, "text/event-stream", text)
    } else {
        reply(StatusCode::OK, "text/event-stream", text)
    }
}

async fn serve_document(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((tcp, _)) = accepted {
                let state = state.clone();
                connections.spawn(async move {
                    let handler = service_fn(|request: Request<Incoming>| {
                        lock(&state.fetched).push(request.uri().path().to_owned());
                        let document = lock(&state.document).clone();
                        async move { Ok::<_, Infallible>(json(&document)) }
                    });
                    let serving = hyper::server::conn::http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(tcp), handler);
                    // A reader that breaks off harms nobody.
                    let _ = serving.await;
                });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
