//! Calls to one peer: one HTTP/2 connection, opened when needed, with a fresh token for each request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::{Duration, Instant},
};

use aiox_core::ports::{Clock, Ids};
use aiox_model::federation::NodeId;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::de::DeserializeOwned;
use tokio::{
    net::TcpStream,
    sync::{Mutex, watch},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Url;

use crate::{
    local::LocalNode,
    roster::{Peer, Roster},
    tls::{PeerServerVerifier, client_config, speaks_h2},
    token::{self, Operation},
};

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_WAIT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Why a call did not bring an answer. What the peer sent is never quoted.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer is not active.
    #[error("peer is not active")]
    NotActive,
    /// The endpoint in its trust document is not an `https` URL with a host.
    #[error("endpoint is not usable")]
    Endpoint,
    /// No connection, or it broke.
    #[error("peer is not reachable")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("peer did not answer in time")]
    TimedOut,
    /// Another status than the one expected.
    #[error("peer answered {status}")]
    Status {
        /// The status.
        status: StatusCode,
        /// `Retry-After`, if it sent one.
        retry_after: Option<Duration>,
    },
    /// The answer is not the document it should be.
    #[error("peer sent an unusable answer")]
    Answer,
    /// A token could not be made.
    #[error("request token could not be made")]
    Token(#[source] aiox_crypto::jws::JwsError),
}

fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LinkError {
    LinkError::Unreachable(error.into())
}

struct Connection {
    node: NodeId,
    endpoint: String,
    thumbprint: String,
    sender: http2::SendRequest<Full<Bytes>>,
}

/// The place of a peer's connection.
#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// When opening it last failed: whoever waited meanwhile shares that failure instead of trying one after the other.
    failed_at: Option<Instant>,
}

/// The links to all peers.
pub struct Links {
    local: Arc<LocalNode>,
    roster: Arc<Roster>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    open: SyncMutex<HashMap<String, Arc<Mutex<Slot>>>>,
}

impl Links {
    /// No connection is opened yet.
    #[must_use]
    pub fn new(local: Arc<LocalNode>, roster: Arc<Roster>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { local, roster, clock, ids, open: SyncMutex::default() }
    }

    /// The active peers.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// Sends a request and gives the response head; its body follows. Any status is a success here.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        domain: &str,
        method: Method,
        path: &str,
        operation: Operation,
        body: Bytes,
    ) -> Result<Response<Incoming>, LinkError> {
        let answered = self.ask(domain, method, path, operation, body).await;
        if answered.is_ok() {
            self.roster.saw(domain, self.clock.now());
        }
        answered.inspect_err(|error| self.noted(domain, error))
    }

    /// Notes a failed contact: a hello follows, so that a link that comes back is noticed.
    pub(crate) fn noted(&self, domain: &str, error: &LinkError) {
        let failed = match error {
            LinkError::Unreachable(_) | LinkError::TimedOut => true,
            LinkError::Status { status, .. } => status.is_server_error(),
            LinkError::NotActive | LinkError::Endpoint | LinkError::Answer | LinkError::Token(_) => false,
        };
        if failed {
            self.roster.want_hello(domain);
        }
    }

    async fn ask(
        &self,
        domain: &str,
        method: Method,
        path: &str,
        operation: Operation,
        body: Bytes,
    ) -> Result<Response<Incoming>, LinkError> {
        let peer = self.roster.peer(domain).ok_or(LinkError::NotActive)?;
        let (mut sender, node, thumbprint) = self.connection(&peer).await?;
        // The connection first, then the token for its certificate: after a rotation an old connection may live on.
        let token =
            token::mint(&self.local, &node, &thumbprint, operation, self.clock.now(), self.ids.as_ref()).map_err(LinkError::Token)?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{domain}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(|_| LinkError::Endpoint)?;
        let answer = timeout(ANSWER, async {
            sender.ready().await?;
            sender.send_request(request).await
        });
        answer.await.map_err(|_| LinkError::TimedOut)?.map_err(unreachable)
    }

    /// Sends a request and reads its JSON answer of at most 4 MiB.
    ///
    /// # Errors
    /// When there is no answer, its status is not a success, or its body is not the expected document.
    pub async fn call<T: DeserializeOwned>(
        &self,
        domain: &str,
        method: Method,
        path: &str,
        operation: Operation,
        body: Bytes,
    ) -> Result<T, LinkError> {
        let response = self.send(domain, method, path, operation, body).await?;
        read(response).await.inspect_err(|error| self.noted(domain, error))
    }

    async fn connection(&self, peer: &Peer) -> Result<(http2::SendRequest<Full<Bytes>>, NodeId, String), LinkError> {
        let target = peer.document.nodes.first().ok_or(LinkError::Endpoint)?;
        let slot = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(open.entry(peer.record.domain.clone()).or_default())
        };
        let asked_at = Instant::now();
        // Held while connecting, so that many callers open one connection.
        let mut slot = slot.lock().await;
        let usable = |c: &Connection| !c.sender.is_closed() && c.node == target.id && c.endpoint == target.endpoint;
        if let Some(connection) = slot.connection.as_ref().filter(|connection| usable(connection)) {
            return Ok((connection.sender.clone(), connection.node.clone(), connection.thumbprint.clone()));
        }
        slot.connection = None;
        if slot.failed_at.is_some_and(|at| at >= asked_at) {
            return Err(unreachable("an attempt made meanwhile failed"));
        }
        let opened = timeout(CONNECT, self.open(&target.id, &target.endpoint)).await.map_err(|_| LinkError::TimedOut).flatten();
        slot.failed_at = opened.is_err().then(Instant::now);
        let opened = opened?;
        let parts = (opened.sender.clone(), opened.node.clone(), opened.thumbprint.clone());
        slot.connection = Some(opened);
        Ok(parts)
    }

    async fn open(&self, node: &NodeId, endpoint: &str) -> Result<Connection, LinkError> {
        let url =
            Url::parse(endpoint).ok().filter(|url| url.scheme() == "https" && url.username().is_empty()).ok_or(LinkError::Endpoint)?;
        let host = url.host_str().ok_or(LinkError::Endpoint)?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().ok_or(LinkError::Endpoint)?;
        let changes = self.roster.changes();
        let verifier = Arc::new(PeerServerVerifier::new(Arc::clone(&self.roster), node.clone()));
        let config = client_config(&self.local, Arc::clone(&verifier)).map_err(unreachable)?;
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(host).map_err(|_| LinkError::Endpoint)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(unreachable)?;
        let session = stream.get_ref().1;
        if !speaks_h2(session.alpn_protocol()) {
            return Err(unreachable("peer does not speak h2"));
        }
        let chain: Vec<_> = session.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(unreachable)?;
        tokio::spawn(drive(connection, verifier, chain, changes, node.clone()));
        Ok(Connection { node: node.clone(), endpoint: endpoint.to_owned(), thumbprint: self.local.thumbprint.clone(), sender })
    }
}

async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, LinkError> {
    if !response.status().is_success() {
        return Err(status_error(&response));
    }
    let body = timeout(ANSWER, Limited::new(response.into_body(), MAX_ANSWER).collect()).await.map_err(|_| LinkError::TimedOut)?;
    let bytes = body.map_err(unreachable)?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|_| LinkError::Answer)
}

/// Runs a connection until it ends, its last user is gone, or its peer is no longer believed.
async fn drive<C>(
    connection: C,
    verifier: Arc<PeerServerVerifier>,
    chain: Vec<CertificateDer<'static>>,
    mut changes: watch::Receiver<u64>,
    node: NodeId,
) where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::pin!(connection);
    loop {
        tokio::select! {
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(peer = %node, %error, "connection to peer ended");
                }
                return;
            }
            changed = changes.changed() => {
                if changed.is_err() || verifier.judge(&chain, UnixTime::now()).is_err() {
                    tracing::warn!(peer = %node, "connection to a peer that is no longer believed is closed");
                    return;
                }
            }
        }
    }
}

/// The error for a status that is not the expected one.
pub(crate) fn status_error<B>(response: &Response<B>) -> LinkError {
    let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    LinkError::Status { status: response.status(), retry_after: seconds.map(|seconds| Duration::from_secs(seconds.min(3600))) }
}
