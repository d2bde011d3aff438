//! Small reads: hello, capabilities, directory, history.

use std::{collections::BTreeMap, sync::Arc};

use aiox_crypto::jws;
use aiox_model::{
    BareJid,
    federation::{Capabilities, Directory, Hello, History, MAX_BATCH_BYTES, MAX_BATCH_ITEMS, PROFILE_V1},
};
use axum::{
    Extension, Json,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{Shared, failed, not_found, problem, read_body};
use crate::{envelope::speaks_for, tls::PeerIdentity, token::Operation};

type Identity = Option<Extension<PeerIdentity>>;

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
    let door = &shared.door;
    Json(Hello { node: door.local.id.clone(), time: door.clock.now(), profiles: vec![PROFILE_V1.to_owned()], marks: BTreeMap::new() })
        .into_response()
}

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

#[derive(Deserialize)]
pub(super) struct HistoryQuery {
    /// Who: a user of the peer's domain.
    principal: BareJid,
    /// With which agent: any of its names.
    agent: String,
    #[serde(default = "default_limit")]
    limit: u32,
    #[serde(default)]
    offset: u64,
}

const fn default_limit() -> u32 {
    100
}

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
