//! Operators' view of the peers, for the product listener: `/api/v1/admin/peers`. Needs the scope `peers:admin`.

use std::{net::SocketAddr, sync::Arc};

use aiox_app::{Accounts, Federated, accounts::Origin};
use aiox_core::{Caller, Door, Error, Scope};
use aiox_model::{TraceId, body::ErrorBody, federation::PeerRecord};
use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
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

/// The routes.
pub fn routes(admin: PeerAdmin) -> Router {
    Router::new()
        .route("/api/v1/admin/peers", get(list).post(propose))
        .route("/api/v1/admin/peers/self", get(own))
        .route("/api/v1/admin/peers/{domain}", get(show).delete(remove))
        .route("/api/v1/admin/peers/{domain}/confirm", post(confirm))
        .route("/api/v1/admin/peers/{domain}/suspend", post(suspend))
        .route("/api/v1/admin/peers/{domain}/resume", post(resume))
        .with_state(admin)
}

struct Refused(Error, TraceId);
impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(error, trace) = self;
        let status = match &error {
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Invalid { .. } => StatusCode::BAD_REQUEST,
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
        let body = ErrorBody {
            error: error.to_string(),
            code: error.code().to_owned(),
            correlation_id: trace.to_string(),
            retryable: error.retryable(),
        };
        (status, Json(body)).into_response()
    }
}

type Answer = Result<Json<Value>, Refused>;

impl PeerAdmin {
    async fn caller(&self, headers: &HeaderMap, address: Option<SocketAddr>) -> Result<Caller, Refused> {
        let trace = TraceId(self.ids.uuid());
        let refused = |error| Refused(error, trace);
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
        let token = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let key = headers.get("x-api-key").and_then(|value| value.to_str().ok());
        let credential = token.or(key).ok_or_else(|| refused(Error::Unauthenticated("unauthorized")))?;
        let origin = Origin { address: address.map(|address| address.ip()), trace };
        let caller = self.accounts.authenticate(credential, origin, Door::Rest).await.map_err(refused)?;
        caller.require(Scope::PeersAdmin).map_err(refused)?;
        Ok(caller)
    }

    async fn view(&self, record: PeerRecord, caller: &Caller) -> Answer {
        let waiting = self.federated.waiting(&record.domain).await.map_err(|error| Refused(error, caller.trace))?;
        let mut view = serde_json::to_value(&record).map_err(|error| Refused(Error::internal(error), caller.trace))?;
        view["waiting"] = json!(waiting);
        Ok(Json(json!({ "data": view })))
    }
}

fn failed(caller: &Caller) -> impl Fn(PeerError) -> Refused + use<> {
    let trace = caller.trace;
    move |error| Refused(error.into(), trace)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Propose {
    domain: String,
    url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirm {
    fingerprint: String,
}

type Address = Option<axum::Extension<ConnectInfo<SocketAddr>>>;
fn address(info: Address) -> Option<SocketAddr> {
    info.map(|axum::Extension(ConnectInfo(address))| address)
}

async fn body<T: serde::de::DeserializeOwned>(request: Request, caller: &Caller) -> Result<T, Refused> {
    let bytes = axum::body::to_bytes(request.into_body(), 64 * 1024).await;
    let bytes = bytes.map_err(|_| Refused(Error::TooLarge { what: "body", limit: 64 * 1024 }, caller.trace))?;
    serde_json::from_slice(&bytes).map_err(|error| Refused(Error::invalid("body", error.to_string()), caller.trace))
}

async fn own(State(admin): State<PeerAdmin>, info: Address, headers: HeaderMap) -> Answer {
    let caller = admin.caller(&headers, address(info)).await?;
    let failed = |error: aiox_crypto::jws::JwsError| Refused(Error::internal(error), caller.trace);
    let fingerprint = admin.publisher.fingerprint().map_err(failed)?;
    let document = admin.publisher.document().map_err(failed)?;
    Ok(Json(json!({ "data": { "fingerprint": fingerprint, "document": document } })))
}

async fn list(State(admin): State<PeerAdmin>, info: Address, headers: HeaderMap) -> Answer {
    let caller = admin.caller(&headers, address(info)).await?;
    let mut all = Vec::new();
    for record in admin.peers.list().await.map_err(failed(&caller))? {
        let Json(mut view) = admin.view(record, &caller).await?;
        all.push(view["data"].take());
    }
    Ok(Json(json!({ "data": all })))
}

async fn propose(State(admin): State<PeerAdmin>, info: Address, headers: HeaderMap, request: Request) -> Answer {
    let caller = admin.caller(&headers, address(info)).await?;
    let wanted: Propose = body(request, &caller).await?;
    let record = admin.peers.propose(&wanted.domain, &wanted.url).await.map_err(failed(&caller))?;
    admin.view(record, &caller).await
}

async fn show(State(admin): State<PeerAdmin>, info: Address, headers: HeaderMap, Path(domain): Path<String>) -> Answer {
    let caller = admin.caller(&headers, address(info)).await?;
    let record = admin.peers.show(&domain).await.map_err(failed(&caller))?;
    admin.view(record, &caller).await
}

async fn confirm(
    State(admin): State<PeerAdmin>,
    info: Address,
    headers: HeaderMap,
    Path(domain): Path<String>,
    request: Request,
) -> Answer {
    let caller = admin.caller(&headers, address(info)).await?;
    let typed: Confirm = body(request, &caller).await?;
    let record = admin.peers.confirm(&domain, &typed.fingerprint, Allowances::everything()).await.map_err(failed(&caller))?;
    admin.view(record, &caller).await
}

async fn suspend(State(admin): State<PeerAdmin>, info: Address, headers: HeaderMap, Path(domain): Path<String>) -> Answer {
    let caller = admin.caller(&headers, address(info)).await?;
    let record = admin.peers.suspend(&domain).await.map_err(failed(&caller))?;
    admin.view(record, &caller).await
}

async fn resume(State(admin): State<PeerAdmin>, info: Address, headers: HeaderMap, Path(domain): Path<String>) -> Answer {
    let caller = admin.caller(&headers, address(info)).await?;
    let record = admin.peers.resume(&domain).await.map_err(failed(&caller))?;
    admin.view(record, &caller).await
}

async fn remove(State(admin): State<PeerAdmin>, info: Address, headers: HeaderMap, Path(domain): Path<String>) -> Answer {
    let caller = admin.caller(&headers, address(info)).await?;
    admin.peers.remove(&domain).await.map_err(failed(&caller))?;
    Ok(Json(json!({ "message": "peer removed" })))
}
