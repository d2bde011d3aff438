//! Small reads: hello, capabilities, directory, history.

use std::{sync::Arc, time::Duration};

use aiox_crypto::jws;
use aiox_model::{
    BareJid,
    federation::{Capabilities, Directory, Hello, History, MAX_BATCH_BYTES, MAX_BATCH_ITEMS, PROFILE_V1, Problem},
};
use axum::{
    Extension, Json,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{Shared, failed, not_found, problem, read_body, wait};
use crate::{
    documented::{PeerBody, PeerHidden, Peered},
    envelope::speaks_for,
    order::bounded,
    tls::PeerIdentity,
    token::Operation,
};

/// A receipt may overtake a hello by this much.
const SETTLED_SECONDS: i64 = 30;
/// Hellos with marks that are looked at of one peer; a further one is refused with 429.
const MARKS_PER_SECOND: u32 = 10;

type Identity = Option<Extension<PeerIdentity>>;

/// Say hello
///
/// Both sides tell their node id, their clock, the federation profiles that they speak, and in `marks` the highest `seq` that they have of the other's conversations: of up to
/// 1,000, first those that wait for an envelope, then those that moved last. Who has lost something gets it again. The token needs the scope `hello`.
#[utoipa::path(
    post,
    path = "/fed/v1/hello",
    tag = "federation",
    operation_id = "say_hello",
    security(("request_token" = [])),
    request_body = Hello,
    responses(
        (status = 200, description = "The other side.", body = Hello),
        (status = 401, description = "The token is missing or refused, or the peer is not active. No body; `WWW-Authenticate: Bearer`."),
        Peered,
        PeerBody,
        (status = 409, description = "No profile in common (`version_mismatch`).", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn hello(State(shared): State<Arc<Shared>>, identity: Identity, headers: HeaderMap, body: Body) -> Response {
    let who = match shared.authenticate(identity, &headers, Operation::Hello).await {
        Ok(who) => who,
        Err(response) => return response,
    };
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let theirs = jws::read_strict(&body).ok().and_then(|value| serde_json::from_value::<Hello>(value).ok());
    let Some(theirs) = theirs.filter(|hello| hello.node == who.identity.node) else {
        return problem(StatusCode::BAD_REQUEST, "invalid_request");
    };
    if !theirs.profiles.iter().any(|profile| profile == PROFILE_V1) {
        return problem(StatusCode::CONFLICT, "version_mismatch");
    }
    let (door, now) = (&shared.door, shared.door.clock.now());
    let domain = who.identity.node.domain();
    // Each mark is a look into the outbox. Who is told to wait says hello again.
    if !theirs.marks.is_empty()
        && let Err(wait_for) = door.limiter.check(&format!("fed-marks:{domain}"), MARKS_PER_SECOND, Duration::from_secs(1)).await
    {
        return wait(StatusCode::TOO_MANY_REQUESTS, "rate_limited", wait_for.as_secs());
    }
    // What was confirmed just now can be younger than these marks.
    let refilled = door.outbox.refill(domain, &bounded(theirs.marks), now.plus_seconds(-SETTLED_SECONDS)).await;
    let marks = match refilled {
        Ok(_) => door.order.marks(&who.identity.node).await,
        Err(error) => Err(error),
    };
    match marks {
        Ok(marks) => Json(Hello { node: door.local.id.clone(), time: now, profiles: vec![PROFILE_V1.to_owned()], marks }).into_response(),
        Err(error) => failed(&error),
    }
}

/// Read what this peer may do
///
/// As its record at this hub says. The token needs the scope `hello`.
#[utoipa::path(
    get,
    path = "/fed/v1/capabilities",
    tag = "federation",
    operation_id = "get_capabilities",
    security(("request_token" = [])),
    responses(
        (status = 200, description = "What it may do, and the bounds of a batch.", body = Capabilities),
        (status = 401, description = "The token is missing or refused, or the peer is not active. No body; `WWW-Authenticate: Bearer`."),
        Peered
    )
)]
pub(super) async fn capabilities(State(shared): State<Arc<Shared>>, identity: Identity, headers: HeaderMap) -> Response {
    let who = match shared.authenticate(identity, &headers, Operation::Hello).await {
        Ok(who) => who,
        Err(response) => return response,
    };
    let allowed = who.peer.record.operations;
    let names =
        [(allowed.send, "run.create"), (allowed.cancel, "run.cancel"), (allowed.stream, "stream"), (allowed.directory, "directory")];
    Json(Capabilities {
        node: shared.door.local.id.clone(),
        profiles: vec![PROFILE_V1.to_owned()],
        capabilities: names.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_owned()).collect(),
        max_batch_items: MAX_BATCH_ITEMS,
        max_batch_bytes: MAX_BATCH_BYTES,
        max_hop: who.peer.record.quotas.max_hop,
    })
    .into_response()
}

/// Read the directory
///
/// The agents of this hub that the peer may see and call. Entries that were learnt from other hubs are never passed on. The token needs the scope `directory`.
#[utoipa::path(
    get,
    path = "/fed/v1/directory",
    tag = "federation",
    operation_id = "get_directory",
    security(("request_token" = [])),
    responses(
        (status = 200, description = "The entries.", body = Directory),
        (status = 401, description = "The token is missing or refused, or the peer is not active. No body; `WWW-Authenticate: Bearer`."),
        Peered,
        PeerHidden
    )
)]
pub(super) async fn directory(State(shared): State<Arc<Shared>>, identity: Identity, headers: HeaderMap) -> Response {
    let who = match shared.authenticate(identity, &headers, Operation::Directory).await {
        Ok(who) => who,
        Err(response) => return response,
    };
    if let Err(response) = shared.permit(&who, |operations| operations.directory, "federation.directory").await {
        return response;
    }
    match shared.door.agents.visible(&who.peer.record.domain).await {
        Ok(agents) => {
            let allowed = agents.into_iter().filter(|(names, _)| who.peer.may_use_agent(names.iter().map(String::as_str)));
            Json(Directory { node: shared.door.local.id.clone(), agents: allowed.map(|(_, entry)| entry).collect() }).into_response()
        }
        Err(error) => failed(&error),
    }
}

/// Whose messages with whom.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Who: a user of the peer's domain.
    #[param(value_type = String)]
    principal: BareJid,
    /// With which agent: any of its names.
    agent: String,
    /// Most messages, 1 to 500.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: u32,
    /// Messages to leave out.
    #[serde(default)]
    offset: u64,
}

const fn default_limit() -> u32 {
    100
}

/// Read the history of one principal with one agent
///
/// Oldest first. The principal must be of the peer's own domain. The token needs the scope `history`.
#[utoipa::path(
    get,
    path = "/fed/v1/conversations",
    tag = "federation",
    operation_id = "get_history",
    security(("request_token" = [])),
    params(HistoryQuery),
    responses(
        (status = 200, description = "The messages.", body = History),
        (status = 401, description = "The token is missing or refused, or the peer is not active. No body; `WWW-Authenticate: Bearer`."),
        Peered,
        PeerHidden,
        (status = 400, description = "The query is wrong (`invalid_request`).", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn conversations(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    headers: HeaderMap,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Response {
    let who = match shared.authenticate(identity, &headers, Operation::History).await {
        Ok(who) => who,
        Err(response) => return response,
    };
    if let Err(response) = shared.permit(&who, |operations| operations.stream, "federation.history").await {
        return response;
    }
    let Ok(Query(query)) = query else { return problem(StatusCode::BAD_REQUEST, "invalid_request") };
    if query.limit == 0 || query.limit > 500 {
        return problem(StatusCode::BAD_REQUEST, "invalid_request");
    }
    if !speaks_for(query.principal.as_str(), &who.identity.node) {
        shared.denied(&who, "federation.history", "principal of another domain").await;
        return not_found();
    }
    let names = match shared.door.agents.names(&query.agent).await {
        Ok(names) => names,
        Err(error) => return failed(&error),
    };
    if !names.is_some_and(|names| who.peer.may_use_agent(names.iter().map(String::as_str))) {
        return not_found();
    }
    match shared.door.feed.history(&query.principal, &query.agent, query.limit, query.offset).await {
        Ok(messages) => Json(History { messages }).into_response(),
        Err(error) => failed(&error),
    }
}
