//! The peer door: authenticates a request, asks the peer record, hands over to the ports.
//!
//! Unknown and forbidden are one answer with one body. A refused token answers 401 with a bare challenge; the reason is for the log.

mod envelopes;
mod reads;
mod stream;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aiox_core::{
    Error,
    ports::{Clock, RateLimiter, ReplayGuard},
};
use aiox_model::federation::{MAX_BATCH_BYTES, PeerOperations, Problem};
use axum::{
    Extension, Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::FromRef,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::timeout;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    local::LocalNode,
    order::Order,
    ports::{Agents, AuditTrail, Inbox, Outbox, RunFeed},
    roster::{Peer, Roster},
    tls::PeerIdentity,
    token::{self, Operation},
};

/// SSE event name of a numbered event.
pub(crate) const EVENT: &str = "event";
/// SSE event name of a live piece of text. It has no `id:`, because it cannot be resumed from.
pub(crate) const DELTA: &str = "delta";

/// Time for a request body to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Everything that the peer door needs.
pub struct Door {
    /// This hub.
    pub local: Arc<LocalNode>,
    /// The active peers.
    pub roster: Arc<Roster>,
    /// Takes envelopes.
    pub inbox: Arc<dyn Inbox>,
    /// The order of what comes in.
    pub order: Arc<Order>,
    /// What goes out: a hello of the peer may show that it lacks something.
    pub outbox: Arc<dyn Outbox>,
    /// Knows the local agents.
    pub agents: Arc<dyn Agents>,
    /// Reads runs.
    pub feed: Arc<dyn RunFeed>,
    /// Remembers used tokens.
    pub guard: Arc<dyn ReplayGuard>,
    /// Counts requests per peer.
    pub limiter: Arc<dyn RateLimiter>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The audit log.
    pub audit: Arc<dyn AuditTrail>,
    /// Tolerated clock difference, in seconds.
    pub skew: i64,
    /// How long a reader of an event stream may leave a frame unread before it is cut.
    pub stall: Duration,
}

struct Shared {
    door: Door,
    /// Open event streams per peer.
    streams: Mutex<HashMap<String, usize>>,
}

#[derive(Clone)]
struct Handle(Arc<Shared>);

impl FromRef<Handle> for Arc<Shared> {
    fn from_ref(handle: &Handle) -> Self {
        Arc::clone(&handle.0)
    }
}

/// The routes of the peer listener. Served only by [`crate::listener::serve`], which adds the peer's identity to each request.
pub fn routes(door: Door) -> Router {
    let handle = Handle(Arc::new(Shared { door, streams: Mutex::default() }));
    let routes = documented().with_state(handle).split_for_parts().0;
    routes.fallback(|| async { problem(StatusCode::NOT_FOUND, "not_found") })
}

/// The document of these routes.
pub fn operations() -> OpenApi {
    documented().into_openapi()
}

fn documented() -> OpenApiRouter<Handle> {
    OpenApiRouter::new()
        .routes(routes!(reads::hello))
        .routes(routes!(reads::capabilities))
        .routes(routes!(reads::directory))
        .routes(routes!(reads::conversations))
        .routes(routes!(stream::events))
        .routes(routes!(envelopes::envelopes))
}

/// An error body (RFC 9457) with a stable code and nothing else.
fn problem(status: StatusCode, code: &str) -> Response {
    let body = Problem {
        kind: "about:blank".into(),
        title: status.canonical_reason().unwrap_or("Error").into(),
        status: status.as_u16(),
        code: code.into(),
    };
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "not_found")
}

fn wait(status: StatusCode, code: &str, seconds: u64) -> Response {
    let mut response = problem(status, code);
    response.headers_mut().insert(header::RETRY_AFTER, seconds.max(1).into());
    response
}

/// The answer to a failed port call. Internal text stays in the log.
fn failed(error: &Error) -> Response {
    match error {
        Error::NotFound(_) | Error::Forbidden { .. } | Error::Unauthenticated(_) => not_found(),
        Error::Limited { code, retry_after, .. } => wait(StatusCode::TOO_MANY_REQUESTS, code, retry_after.as_secs()),
        Error::Spent(_) => problem(StatusCode::TOO_MANY_REQUESTS, error.code()),
        Error::Unavailable { code, .. } => wait(StatusCode::SERVICE_UNAVAILABLE, code, 1),
        Error::Invalid { .. } => problem(StatusCode::BAD_REQUEST, error.code()),
        Error::TooLarge { .. } => problem(StatusCode::PAYLOAD_TOO_LARGE, error.code()),
        Error::Conflict { code, .. } => problem(StatusCode::CONFLICT, code),
        _ => {
            tracing::error!(error = %error.chain(), "federation request failed");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "internal_error")
        }
    }
}

/// An authenticated request.
struct Authenticated {
    peer: Arc<Peer>,
    identity: PeerIdentity,
}

impl Shared {
    /// Authenticates a request: a peer that is active now, within its rate, with a fresh token of this connection for this operation.
    async fn authenticate(
        &self,
        identity: Option<Extension<PeerIdentity>>,
        headers: &HeaderMap,
        operation: Operation,
    ) -> Result<Authenticated, Response> {
        // Without an identity this router is served by something that is not the peer listener.
        let Some(Extension(identity)) = identity else { return Err(challenge()) };
        let door = &self.door;
        let domain = identity.node.domain();
        let Some(peer) = door.roster.peer(domain) else { return Err(challenge()) };
        let rate = peer.record.quotas.requests_per_second.max(1);
        // Before the signature is verified: the connection already names the peer, and verifying is what a flood would buy.
        if let Err(wait_for) = door.limiter.check(&format!("fed:{domain}"), rate, Duration::from_secs(1)).await {
            return Err(wait(StatusCode::TOO_MANY_REQUESTS, "rate_limited", wait_for.as_secs()));
        }
        let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
        let authorization = match (authorizations.next(), authorizations.next()) {
            (Some(one), None) => one.to_str().ok(),
            _ => None,
        };
        let (local, now) = (&door.local.id, door.clock.now());
        let judge = token::Judge { local, connection: &identity, peer: &peer, operation, now, skew: door.skew, guard: door.guard.as_ref() };
        match judge.verify(authorization).await {
            Ok(age) => {
                metrics::gauge!("aiox_federation_clock_difference_seconds", "peer" => domain.to_owned()).set(age as f64);
                door.roster.hear(domain);
                door.roster.saw(domain, now);
                Ok(Authenticated { peer, identity })
            }
            Err(reason) => {
                tracing::warn!(peer = %identity.node, %reason, "request token refused");
                metrics::counter!("aiox_federation_refused_total", "peer" => domain.to_owned(), "what" => "token").increment(1);
                door.audit.record(domain, "federation.authenticate", "denied", &reason.to_string()).await;
                Err(challenge())
            }
        }
    }

    /// Asks the peer record whether an operation is allowed. Forbidden looks like not there.
    async fn permit(&self, who: &Authenticated, allowed: impl Fn(&PeerOperations) -> bool, action: &'static str) -> Result<(), Response> {
        if allowed(&who.peer.record.operations) {
            return Ok(());
        }
        self.denied(who, action, "operation is off in the peer record").await;
        Err(not_found())
    }

    async fn denied(&self, who: &Authenticated, action: &'static str, reason: &str) {
        tracing::warn!(peer = %who.identity.node, action, reason, "peer refused");
        self.door.audit.record(who.identity.node.domain(), action, "denied", reason).await;
    }

    /// Takes one of the peer's stream places; it comes back when the guard is dropped.
    fn stream_place(self: &Arc<Self>, peer: &Peer) -> Option<StreamPlace> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(peer.record.domain.clone()).or_default();
        if *open >= peer.record.quotas.open_streams as usize {
            return None;
        }
        *open += 1;
        Some(StreamPlace { shared: Arc::clone(self), domain: peer.record.domain.clone() })
    }
}

struct StreamPlace {
    shared: Arc<Shared>,
    domain: String,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&self.domain) {
            *open = open.saturating_sub(1);
        }
    }
}

/// Reads a request body, after its sender was authenticated.
///
/// Bounds: 1 MiB and [`BODY_WAIT`]; beyond them the request is refused.
async fn read_body(body: Body) -> Result<Bytes, Response> {
    match timeout(BODY_WAIT, to_bytes(body, MAX_BATCH_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large")),
        Err(_) => Err(problem(StatusCode::REQUEST_TIMEOUT, "timeout")),
    }
}

fn challenge() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response()
}
