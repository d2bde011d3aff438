//! What a case works with: calls that are recorded, and the shared world.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use reqwest::{Client, Method, Url, header::HeaderMap};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    case::Stop,
    document::Seen,
    exchange::{Answer, Exchange, shown},
    stream::{Cutter, Frame},
    world::{ANSWER, Account, World},
};

/// Most exchanges that a case keeps for the report: the first ones and the last.
const KEPT: usize = 40;
/// How often a call that comes too fast is sent again.
const PATIENCE: usize = 12;
/// Runs that are canceled at once.
const CANCELS: usize = 8;
/// Most bytes of a body that a case reads.
const LARGEST: usize = 8 * 1024 * 1024;

/// One case at work.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) world: Arc<World>,
    pub(crate) record: Arc<Mutex<Vec<Exchange>>>,
    /// Runs that it has made.
    runs: Arc<Mutex<Vec<Made>>>,
}

/// A run that a case has made.
struct Made {
    /// The `Authorization` that made it.
    credential: Vec<u8>,
    /// Where it is canceled.
    path: String,
}

impl Scene {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, record: Arc::default(), runs: Arc::default() }
    }

    /// A call to a hub.
    pub(crate) fn call_at(&self, hub: &Url, method: Method, path: &str) -> Call {
        Call {
            scene: self.clone(),
            client: self.world.common.clone(),
            url: hub.join(path).map_err(|error| error.to_string()),
            method,
            headers: Vec::new(),
            body: Body::None,
        }
    }

    /// `GET` as an account.
    pub(crate) async fn get(&self, who: &Account, path: &str) -> Result<Answer, Stop> {
        self.call(Method::GET, path).bearer(&who.access).send().await
    }

    /// `POST` of JSON as an account.
    pub(crate) async fn post(&self, who: &Account, path: &str, body: &Value) -> Result<Answer, Stop> {
        self.call(Method::POST, path).bearer(&who.access).json(body).send().await
    }

    /// Remembers the run that an answer tells of.
    fn opened(&self, call: &Call, status: u16, json: &Value) {
        let Some((_, credential)) = call.headers.iter().find(|(name, _)| name == "authorization") else { return };
        let path = match (status, json.pointer("/run/run_id"), json.pointer("/data/id")) {
            (201, Some(Value::String(id)), _) => format!("/v1/runs/{id}:cancel"),
            (202, _, Some(Value::String(id))) => format!("/api/v1/runs/{id}/cancel"),
            _ => return,
        };
        if let Ok(mut runs) = self.runs.lock() {
            runs.push(Made { credential: credential.clone(), path });
        }
    }

    /// Cancels the runs that a case has left open when it stopped half-way: waiting runs count against their tenant's.
    pub(crate) async fn cancel_runs(&self) {
        let runs = self.runs.lock().map(|mut runs| std::mem::take(&mut *runs)).unwrap_or_default();
        let cancels = runs.into_iter().filter_map(|Made { credential, path }| {
            let request = self.world.common.post(self.world.home.join(&path).ok()?).header("authorization", credential);
            Some(request.header("content-type", "application/json").body("{}").timeout(ANSWER).send())
        });
        // Those that have ended already say so, and nothing is wrong with that.
        futures::stream::iter(cancels).buffer_unordered(CANCELS).for_each(|_| std::future::ready(())).await;
    }

    /// Puts an exchange into the record.
    pub(crate) fn keep(&self, exchange: Exchange) {
        if let Ok(mut record) = self.record.lock() {
            if record.len() >= KEPT {
                record.remove(KEPT / 2);
            }
            record.push(exchange);
        }
    }
}

#[derive(Clone)]
enum Body {
    None,
    Bytes(Vec<u8>, &'static str),
    /// Sent in chunks, without a length.
    Chunked(Vec<u8>, &'static str),
}

/// A request being built.
#[derive(Clone)]
pub(crate) struct Call {
    scene: Scene,
    client: Client,
    method: Method,
    url: Result<Url, String>,
    headers: Vec<(String, Vec<u8>)>,
    body: Body,
}

impl Call {
    /// With a bearer credential.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With a header.
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        self.header_bytes(name, value.as_bytes())
    }

    /// With a header of any bytes.
    pub(crate) fn header_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    /// With a JSON body.
    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = Body::Bytes(body.to_string().into_bytes(), "application/json");
        self
    }

    /// With a body of any bytes that says it is JSON.
    pub(crate) fn raw(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Bytes(body.into(), "application/json");
        self
    }

    /// With a body that does not tell its length.
    pub(crate) fn chunked(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Chunked(body.into(), "application/json");
        self
    }

    /// From another client, for instance one with another address.
    pub(crate) fn from(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    fn request(&self) -> Result<reqwest::RequestBuilder, Stop> {
        let url = self.url.clone().map_err(Stop::Harness)?;
        let mut request = self.client.request(self.method.clone(), url);
        for (name, value) in &self.headers {
            request = request.header(name, value.as_slice());
        }
        Ok(match &self.body {
            Body::None => request,
            Body::Bytes(bytes, kind) => request.header("content-type", *kind).body(bytes.clone()),
            Body::Chunked(bytes, kind) => {
                let parts: Vec<Result<Vec<u8>, std::io::Error>> = bytes.chunks(16 * 1024).map(|part| Ok(part.to_vec())).collect();
                request.header("content-type", *kind).body(reqwest::Body::wrap_stream(futures::stream::iter(parts)))
            }
        })
    }

    fn what(&self) -> String {
        let path = self.url.as_ref().map(|url| url[url::Position::BeforePath..].to_owned()).unwrap_or_default();
        format!("{} {path}", self.method)
    }

    fn exchange(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Exchange {
        let secret = |name: &str| matches!(name, "authorization" | "x-api-key" | "cookie");
        Exchange {
            request: format!("{} {}", self.method, self.url.as_ref().map(Url::as_str).unwrap_or_default()),
            request_headers: self
                .headers
                .iter()
                .map(|(name, value)| {
                    let value = if secret(name) { "…".into() } else { String::from_utf8_lossy(value).into_owned() };
                    (name.clone(), value)
                })
                .collect(),
            request_body: match &self.body {
                Body::None => String::new(),
                Body::Bytes(bytes, _) | Body::Chunked(bytes, _) => shown(&without_secrets(bytes)),
            },
            status,
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            body: shown(&without_secrets(body)),
        }
    }

    /// Sends it and reads the whole answer. A hub that says to come back in a moment is believed: its rates are not what most cases
    /// are about, and [`send_once`](Self::send_once) is for those that are.
    pub(crate) async fn send(self) -> Result<Answer, Stop> {
        for _ in 0..PATIENCE {
            let answer = self.clone().send_once().await?;
            let wait: u64 = answer.header("retry-after").parse().unwrap_or(u64::MAX);
            if answer.status != 429 || answer.code() != "rate_limited" || wait > 5 {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_secs(wait)).await;
        }
        self.send_once().await
    }

    /// Sends it and reads the whole answer, whatever it is.
    pub(crate) async fn send_once(self) -> Result<Answer, Stop> {
        let what = self.what();
        let work = async {
            let answer = self.request()?.send().await.map_err(|error| Stop::Harness(format!("{what}: no answer: {}", chain(&error))))?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let mut bytes = bytes::BytesMut::new();
            let mut stream = answer.bytes_stream();
            while let Some(part) = stream.next().await {
                let part = part.map_err(|error| Stop::Harness(format!("{what}: the answer broke off: {}", chain(&error))))?;
                bytes.extend_from_slice(&part);
                if bytes.len() > LARGEST {
                    return Err(Stop::Failed(format!("{what}: the answer is larger than {LARGEST} bytes")));
                }
            }
            Ok((status, headers, bytes.freeze()))
        };
        let done =
            tokio::time::timeout(ANSWER, work).await.unwrap_or_else(|_| Err(Stop::Harness(format!("{what}: no answer within {ANSWER:?}"))));
        let (status, headers, bytes) = match done {
            Ok(done) => done,
            Err(stop) => {
                self.scene.keep(self.exchange(0, &HeaderMap::new(), &[]));
                return Err(stop);
            }
        };
        self.scene.keep(self.exchange(status, &headers, &bytes));
        self.hold(status, &headers, &bytes);
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        self.scene.opened(&self, status, &json);
        Ok(Answer { what, status, headers, bytes, json })
    }

    /// Holds an answer of the target against the documents.
    fn hold(&self, status: u16, headers: &HeaderMap, body: &[u8]) {
        let world = &self.scene.world;
        let (Some(documents), Ok(url)) = (world.documents.get(), &self.url) else { return };
        if url.origin() != world.options.target.origin() {
            return;
        }
        let media = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        documents.check(Seen { method: self.method.as_str(), path: url.path(), status, media, body });
    }

    /// Sends it and leaves the answer open.
    pub(crate) async fn open(self) -> Result<Live, Stop> {
        let what = self.what();
        let sent = tokio::time::timeout(ANSWER, self.request()?.send()).await;
        let answer = sent
            .map_err(|_| Stop::Harness(format!("{what}: no answer within {ANSWER:?}")))?
            .map_err(|error| Stop::Harness(format!("{what}: no answer: {}", chain(&error))))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let stream = Box::pin(answer.bytes_stream());
        Ok(Live { what, status, headers, call: self, stream, cutter: Cutter::default(), ready: Vec::new(), raw: Vec::new(), ended: false })
    }
}

/// An open stream of server-sent events.
pub(crate) struct Live {
    pub(crate) what: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    call: Call,
    stream: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    cutter: Cutter,
    ready: Vec<Frame>,
    /// Every byte that came.
    pub(crate) raw: Vec<u8>,
    /// Whether the hub has closed it.
    pub(crate) ended: bool,
}

impl Live {
    /// The next frame; `None` when the hub closed the stream or the time is over ([`ended`](Self::ended) says which).
    pub(crate) async fn next(&mut self, within: Duration) -> Result<Option<Frame>, Stop> {
        let until = Instant::now() + within;
        loop {
            if !self.ready.is_empty() {
                return Ok(Some(self.ready.remove(0)));
            }
            if self.ended {
                return Ok(None);
            }
            match tokio::time::timeout_at(until, self.stream.next()).await {
                Err(_) => return Ok(None),
                Ok(None) => self.ended = true,
                Ok(Some(Ok(part))) => {
                    self.raw.extend_from_slice(&part);
                    if self.raw.len() > LARGEST {
                        return Err(Stop::Failed(format!("{}: the stream is larger than {LARGEST} bytes", self.what)));
                    }
                    self.ready = self.cutter.push(&part);
                }
                Ok(Some(Err(error))) => return Err(Stop::Harness(format!("{}: the stream broke off: {}", self.what, chain(&error)))),
            }
        }
    }

    /// The next frame that carries an event.
    pub(crate) async fn next_event(&mut self, within: Duration) -> Result<Option<Frame>, Stop> {
        let until = Instant::now() + within;
        while let Some(frame) = self.next(until.saturating_duration_since(Instant::now())).await? {
            if frame.is_event() {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Every event until the hub closes the stream.
    pub(crate) async fn read_to_end(&mut self, within: Duration) -> Result<Vec<Frame>, Stop> {
        let until = Instant::now() + within;
        let mut frames = Vec::new();
        while let Some(frame) = self.next_event(until.saturating_duration_since(Instant::now())).await? {
            frames.push(frame);
        }
        self.note();
        if !self.ended {
            return Err(Stop::Failed(format!(
                "{}: the hub did not close the stream within {within:?}; it had sent {} events",
                self.what,
                frames.len()
            )));
        }
        Ok(frames)
    }

    /// Puts what came into the record.
    pub(crate) fn note(&self) {
        let exchange = self.call.exchange(self.status, &self.headers, &self.raw);
        self.call.scene.keep(exchange);
    }
}

/// Replaces the values of members that are secrets in a JSON text, for the report.
fn without_secrets(bytes: &[u8]) -> Vec<u8> {
    const SECRETS: [&str; 7] = ["password", "old_password", "new_password", "access_token", "refresh_token", "secret", "token"];
    fn walk(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    if SECRETS.contains(&name.as_str()) && value.is_string() { *value = Value::from("…") } else { walk(value) }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return bytes.to_vec() };
    walk(&mut value);
    value.to_string().into_bytes()
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
