//! Operators' view of the peers, for the product listener: `/api/v1/admin/peers`. Needs the scope `peers:admin`.

use std::{net::SocketAddr, sync::Arc};

use aiox_app::{Accounts, Federated, accounts::Origin};
use aiox_core::{Caller, Door, Error, Scope};
use aiox_model::{
    TraceId,
    body::{Data, ErrorBody, List, Message},
    conformance::{ConformanceResult, ConformanceRule, NewConformanceResult},
    federation::{ConfirmPeer, NewPeer, OwnHub, PeerRecord, PeerView},
    objects::Objects,
};
use axum::{
    Json, Router,
    extract::{ConnectInfo, FromRequestParts, Path, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    documented::{Gated, NotFound, Standing},
    peers::{Allowances, PeerError, Peers},
    publish::Publisher,
};

/// What the routes need.
#[derive(Clone)]
pub struct PeerAdmin {
    /// The peers.
    pub peers: Arc<Peers>,
    /// This hub's own trust document.
    pub publisher: Arc<Publisher>,
    /// Who calls.
    pub accounts: Accounts,
    /// Queues towards peers.
    pub federated: Federated,
    /// Makes correlation ids.
    pub ids: Arc<dyn aiox_core::ports::Ids>,
}

type PeerData = Data<PeerView>;
type PeerList = List<PeerView>;
type OwnHubData = Data<OwnHub>;
type ResultData = Data<ConformanceResult>;

/// The routes.
pub fn routes(admin: PeerAdmin) -> Router {
    documented().with_state(admin).split_for_parts().0
}

/// The document of these routes.
pub fn operations() -> OpenApi {
    documented().into_openapi()
}

fn documented() -> OpenApiRouter<PeerAdmin> {
    OpenApiRouter::new()
        .routes(routes!(list, propose))
        .routes(routes!(own))
        .routes(routes!(show, remove))
        .routes(routes!(confirm))
        .routes(routes!(suspend))
        .routes(routes!(resume))
        .routes(routes!(require, require_nothing))
        .routes(routes!(publish_conformance))
}

struct Refused(Error, TraceId);
impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(error, trace) = self;
        let status = match &error {
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Invalid { .. } => StatusCode::BAD_REQUEST,
            Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Error::Forbidden { .. } => StatusCode::FORBIDDEN,
            Error::Conflict { .. } => StatusCode::CONFLICT,
            Error::Limited { .. } | Error::Spent(_) => StatusCode::TOO_MANY_REQUESTS,
            Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%trace, error = error.chain(), "a peer operation failed");
        }
        let text = if status == StatusCode::INTERNAL_SERVER_ERROR { "internal server error".to_owned() } else { error.to_string() };
        let body = ErrorBody {
            error: text,
            code: error.code().to_owned(),
            correlation_id: trace.to_string(),
            retryable: error.retryable(),
            run_id: None,
        };
        let mut response = (status, Json(body)).into_response();
        let wait = match &error {
            Error::Limited { retry_after, .. } => Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)),
            Error::Unavailable { .. } => Some(5),
            _ => None,
        };
        if let Some(seconds) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Whom a request is from, as the product listener found it out; by itself where these routes stand alone.
fn origin(parts: &Parts, admin: &PeerAdmin) -> Origin {
    let socket = || parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let alone = || Origin { address: socket(), trace: TraceId(admin.ids.uuid()) };
    parts.extensions.get::<Origin>().copied().unwrap_or_else(alone)
}

/// The caller, who may administer peers.
struct Operator(Caller);
impl FromRequestParts<PeerAdmin> for Operator {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, admin: &PeerAdmin) -> Result<Self, Refused> {
        let origin = origin(parts, admin);
        let refused = |error| Refused(error, origin.trace);
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = header("authorization").and_then(|value| value.split_once(' '));
        let token = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let credential = token.or(header("x-api-key")).ok_or_else(|| refused(Error::Unauthenticated("unauthorized")))?;
        let caller = admin.accounts.authenticate(credential, origin, Door::Rest).await.map_err(refused)?;
        caller.require(Scope::PeersAdmin).map_err(refused)?;
        Ok(Self(caller))
    }
}

/// The domain in the path. What cannot be one names no peer.
struct Named(String);
impl FromRequestParts<PeerAdmin> for Named {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, admin: &PeerAdmin) -> Result<Self, Refused> {
        let trace = origin(parts, admin).trace;
        let path = Path::from_request_parts(parts, admin).await;
        path.map(|Path(domain)| Self(domain)).map_err(|_| Refused(Error::NotFound("peer"), trace))
    }
}

type Answer<T = Data<PeerView>> = Result<Json<T>, Refused>;

impl PeerAdmin {
    async fn view(&self, record: PeerRecord, caller: &Caller) -> Result<PeerView, Refused> {
        let waiting = self.federated.waiting(&record.domain).await.map_err(|error| Refused(error, caller.trace))?;
        let last_seen_at = self.federated.last_seen(&record.domain).await.map_err(|error| Refused(error, caller.trace))?;
        Ok(PeerView { record, waiting, last_seen_at })
    }

    async fn shown(&self, record: PeerRecord, caller: &Caller) -> Answer {
        Ok(Json(Data { data: self.view(record, caller).await? }))
    }
}

fn failed(caller: &Caller) -> impl Fn(PeerError) -> Refused + use<> {
    let trace = caller.trace;
    move |error| Refused(error.into(), trace)
}

async fn body<T: serde::de::DeserializeOwned>(request: Request, caller: &Caller) -> Result<T, Refused> {
    body_of(request, caller, 64 * 1024).await
}

async fn body_of<T: serde::de::DeserializeOwned>(request: Request, caller: &Caller, limit: usize) -> Result<T, Refused> {
    let bytes = axum::body::to_bytes(request.into_body(), limit).await;
    let bytes = bytes.map_err(|_| Refused(Error::TooLarge { what: "body", limit: limit as u64 }, caller.trace))?;
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let wrong = |error: serde_json::Error| {
        // In words of the API's own: what serde says repeats what was sent.
        let text = if error.is_data() { "must be the object that the operation documents" } else { "must be JSON" };
        Refused(Error::invalid("body", text), caller.trace)
    };
    let read = T::deserialize(Objects(&mut reader)).map_err(wrong)?;
    reader.end().map_err(wrong)?;
    Ok(read)
}

/// Read what peers are told about this hub
///
/// Its trust document and the fingerprint that the operator of the other hub compares. Peers are administered only where federation is on; elsewhere these paths are 404.
#[utoipa::path(
    get,
    path = "/api/v1/admin/peers/self",
    tag = "peers",
    operation_id = "get_own_hub",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    responses(
        (status = 200, description = "This hub.", body = OwnHubData),
        Gated
    )
)]
async fn own(State(admin): State<PeerAdmin>, Operator(caller): Operator) -> Answer<Data<OwnHub>> {
    let failed = |error: aiox_crypto::jws::JwsError| Refused(Error::internal(error), caller.trace);
    let fingerprint = admin.publisher.fingerprint().map_err(failed)?;
    let document = admin.publisher.document().map_err(failed)?;
    Ok(Json(Data { data: OwnHub { fingerprint, document } }))
}

/// List the peers
///
/// With their trust documents, and what waits to be delivered.
#[utoipa::path(
    get,
    path = "/api/v1/admin/peers",
    tag = "peers",
    operation_id = "list_peers",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    responses(
        (status = 200, description = "The peers.", body = PeerList),
        Gated
    )
)]
async fn list(State(admin): State<PeerAdmin>, Operator(caller): Operator) -> Answer<List<PeerView>> {
    let mut all = Vec::new();
    for record in admin.peers.list().await.map_err(failed(&caller))? {
        all.push(admin.view(record, &caller).await?);
    }
    Ok(Json(List { data: all }))
}

/// Propose a peer
///
/// Fetches its trust document. Nothing is allowed until an operator has confirmed the fingerprint.
#[utoipa::path(
    post,
    path = "/api/v1/admin/peers",
    tag = "peers",
    operation_id = "propose_peer",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    request_body = NewPeer,
    responses(
        (status = 200, description = "The peer, proposed.", body = PeerData),
        Gated,
        (status = 400, description = "A member is wrong (`invalid_request`).", body = ErrorBody),
        (status = 409, description = "The peer is there already (`peer_state`), or its document is refused (`peer_document_refused`).", body = ErrorBody),
        (status = 413, description = "The body is larger than 64 KiB (`too_large`).", body = ErrorBody)
    )
)]
async fn propose(State(admin): State<PeerAdmin>, Operator(caller): Operator, request: Request) -> Answer {
    let wanted: NewPeer = body(request, &caller).await?;
    let record = admin.peers.propose(&wanted.domain, &wanted.url).await.map_err(failed(&caller))?;
    admin.shown(record, &caller).await
}

/// Read a peer
///
/// With its trust document, and what waits to be delivered.
#[utoipa::path(
    get,
    path = "/api/v1/admin/peers/{domain}",
    tag = "peers",
    operation_id = "get_peer",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    params(("domain" = String, Path, description = "The peer's trust domain.")),
    responses(
        (status = 200, description = "The peer.", body = PeerData),
        Gated,
        NotFound
    )
)]
async fn show(State(admin): State<PeerAdmin>, Operator(caller): Operator, Named(domain): Named) -> Answer {
    let record = admin.peers.show(&domain).await.map_err(failed(&caller))?;
    admin.shown(record, &caller).await
}

/// Confirm a peer
///
/// The fingerprint must be that of the fetched document. From then on the peer may do what the visibility and the grants of agents let through.
#[utoipa::path(
    post,
    path = "/api/v1/admin/peers/{domain}/confirm",
    tag = "peers",
    operation_id = "confirm_peer",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    params(("domain" = String, Path, description = "The peer's trust domain.")),
    request_body = ConfirmPeer,
    responses(
        (status = 200, description = "The peer, active.", body = PeerData),
        Gated,
        NotFound,
        Standing,
        (status = 400, description = "It is not the fingerprint of the document, or a member is wrong (`invalid_request`).", body = ErrorBody),
        (status = 413, description = "The body is larger than 64 KiB (`too_large`).", body = ErrorBody)
    )
)]
async fn confirm(State(admin): State<PeerAdmin>, Operator(caller): Operator, Named(domain): Named, request: Request) -> Answer {
    let typed: ConfirmPeer = body(request, &caller).await?;
    let record = admin.peers.confirm(&domain, &typed.fingerprint, Allowances::everything()).await.map_err(failed(&caller))?;
    admin.shown(record, &caller).await
}

/// Suspend a peer
///
/// Its connections end at once. What waits for it stays.
#[utoipa::path(
    post,
    path = "/api/v1/admin/peers/{domain}/suspend",
    tag = "peers",
    operation_id = "suspend_peer",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    params(("domain" = String, Path, description = "The peer's trust domain.")),
    responses(
        (status = 200, description = "The peer, suspended.", body = PeerData),
        Gated,
        NotFound,
        Standing
    )
)]
async fn suspend(State(admin): State<PeerAdmin>, Operator(caller): Operator, Named(domain): Named) -> Answer {
    let record = admin.peers.suspend(&domain).await.map_err(failed(&caller))?;
    admin.shown(record, &caller).await
}

/// Resume a suspended peer
///
/// What waits for it is delivered.
#[utoipa::path(
    post,
    path = "/api/v1/admin/peers/{domain}/resume",
    tag = "peers",
    operation_id = "resume_peer",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    params(("domain" = String, Path, description = "The peer's trust domain.")),
    responses(
        (status = 200, description = "The peer, active.", body = PeerData),
        Gated,
        NotFound,
        Standing
    )
)]
async fn resume(State(admin): State<PeerAdmin>, Operator(caller): Operator, Named(domain): Named) -> Answer {
    let record = admin.peers.resume(&domain).await.map_err(failed(&caller))?;
    admin.shown(record, &caller).await
}

/// Remove a peer
///
/// Its connections end, its agents are forgotten.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/peers/{domain}",
    tag = "peers",
    operation_id = "remove_peer",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    params(("domain" = String, Path, description = "The peer's trust domain.")),
    responses(
        (status = 200, description = "Done.", body = Message),
        Gated,
        NotFound
    )
)]
async fn remove(State(admin): State<PeerAdmin>, Operator(caller): Operator, Named(domain): Named) -> Answer<Message> {
    admin.peers.remove(&domain).await.map_err(failed(&caller))?;
    Ok(Json(Message { message: "peer removed".into() }))
}

/// Ask for a conformance result
///
/// From now on the peer is active only while the result that it publishes at `/.well-known/aiox-conformance.json` satisfies this rule: signed by its keys, of the build that it runs,
/// not older than said, and every MUST of the profiles passed, as this hub knows them. What was not run has not passed. It is looked at now, and whenever the trust document is.
#[utoipa::path(
    put,
    path = "/api/v1/admin/peers/{domain}/conformance",
    tag = "peers",
    operation_id = "require_conformance",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    params(("domain" = String, Path, description = "The peer's trust domain.")),
    request_body = ConformanceRule,
    responses(
        (status = 200, description = "The peer. `conformance.problem` says why it does not satisfy the rule; it is `stale` then.", body = PeerData),
        Gated,
        NotFound,
        (status = 400, description = "The rule is none (`invalid_request`).", body = ErrorBody),
        (status = 413, description = "The body is larger than 64 KiB (`too_large`).", body = ErrorBody)
    )
)]
async fn require(State(admin): State<PeerAdmin>, Operator(caller): Operator, Named(domain): Named, request: Request) -> Answer {
    let rule: ConformanceRule = body(request, &caller).await?;
    let record = admin.peers.require(&domain, Some(rule)).await.map_err(failed(&caller))?;
    admin.shown(record, &caller).await
}

/// Ask for no conformance result any more
///
/// A peer that was `stale` for its result becomes active again when its trust document is read next, which is tried at once.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/peers/{domain}/conformance",
    tag = "peers",
    operation_id = "require_no_conformance",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    params(("domain" = String, Path, description = "The peer's trust domain.")),
    responses(
        (status = 200, description = "The peer.", body = PeerData),
        Gated,
        NotFound
    )
)]
async fn require_nothing(State(admin): State<PeerAdmin>, Operator(caller): Operator, Named(domain): Named) -> Answer {
    let record = admin.peers.require(&domain, None).await.map_err(failed(&caller))?;
    admin.shown(record, &caller).await
}

/// Publish a conformance result of this hub
///
/// The hub adds its domain, the digest of the program that runs and the time, signs it with its envelope key, and serves it at `/.well-known/aiox-conformance.json`. It replaces
/// the one before. `aiox conformance --publish` calls this after judging.
#[utoipa::path(
    put,
    path = "/api/v1/admin/conformance",
    tag = "peers",
    operation_id = "publish_conformance_result",
    security(("bearer" = ["peers:admin"]), ("api_key" = ["peers:admin"])),
    request_body = NewConformanceResult,
    responses(
        (status = 200, description = "The result as it is served.", body = ResultData),
        Gated,
        (status = 400, description = "It is no result (`invalid_request`).", body = ErrorBody),
        (status = 413, description = "The body is larger than 1 MiB (`too_large`).", body = ErrorBody)
    )
)]
async fn publish_conformance(
    State(admin): State<PeerAdmin>,
    Operator(caller): Operator,
    request: Request,
) -> Answer<Data<serde_json::Value>> {
    let found: NewConformanceResult = body_of(request, &caller, 1024 * 1024).await?;
    let signed = admin.peers.publish_conformance(found).await.map_err(failed(&caller))?;
    Ok(Json(Data { data: signed }))
}
