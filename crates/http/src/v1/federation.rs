//! Federation for programs: who this hub and its peers are, runs for agents of peers, and events of other hubs.

use std::sync::Arc;

use aiox_app::{AgentRef, Asked as AskedFor, NewRun, ingest::Brought, peers::PlainCaller};
use aiox_core::{
    Caller, Error, Scope, agentos,
    forward::{Chosen, NoTarget, choose},
    gateway::Tier,
};
use aiox_model::{
    RunId,
    run::RunStatus,
    v1::{
        event::Event,
        federation::{
            CapabilitiesBody, ForwardBody, Forwarded, ForwardedBody, IngestBody, IngestedBody, PeerBody, PeerList, TargetSelector,
        },
    },
};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ask, events,
    gate::{Tenant, narrowed},
    lenient::{At, Reader},
    runs::{REPLAYED, key, run_id},
};
use crate::{
    HttpState,
    auth::Signed,
    bound::Streams,
    documented::{V1Conflicting, V1Gated, V1Invalid, V1NotFound, V1Sized},
    error::{Failure, Refusal, Result},
    frames,
    names::{Names, TRACEPARENT},
    read::{Asked, Body, Place},
    state::App,
};

/// Events that one call brings in at most.
const MOST: usize = 1000;
/// Most bytes of an id of another hub.
const ID: usize = 255;

pub(super) fn quick() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(peer))
        .routes(routes!(peer_alias))
        .routes(routes!(capabilities))
        .routes(routes!(capabilities_alias))
        .routes(routes!(peers))
        .routes(routes!(forward))
        .routes(routes!(ingest))
}

pub(super) fn slow() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Read what this hub is
///
/// Its id is what other hubs' programs name it by.
#[utoipa::path(
    get,
    path = "/v1/federation/peer",
    tag = "federation",
    operation_id = "get_own_peer",
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "This hub.", body = PeerBody), V1Gated)
)]
pub(super) async fn peer(State(app): State<App>, _caller: Signed, names: Names) -> Json<PeerBody> {
    Json(PeerBody { peer: app.options.v1.stack.peer.clone(), correlation_id: names.correlation.to_string() })
}

/// Read what this hub is, by its other name
///
/// The same as `GET /v1/federation/peer`.
#[utoipa::path(
    get,
    path = "/v1/peer/info",
    tag = "federation",
    operation_id = "get_peer_info",
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "This hub.", body = PeerBody), V1Gated)
)]
pub(super) async fn peer_alias(state: State<App>, signed: Signed, names: Names) -> Json<PeerBody> {
    peer(state, signed, names).await
}

/// Read what this hub can do for others
///
/// A peer compares these with the `required_capabilities` of a run before it forwards the run here.
#[utoipa::path(
    get,
    path = "/v1/federation/peer/capabilities",
    tag = "federation",
    operation_id = "get_peer_capabilities",
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "What it can do.", body = CapabilitiesBody), V1Gated)
)]
pub(super) async fn capabilities(State(app): State<App>, _caller: Signed, names: Names) -> Json<CapabilitiesBody> {
    Json(CapabilitiesBody { capabilities: app.options.v1.stack.capabilities.clone(), correlation_id: names.correlation.to_string() })
}

/// Read what this hub can do for others, by its other name
///
/// The same as `GET /v1/federation/peer/capabilities`.
#[utoipa::path(
    get,
    path = "/v1/peer/capabilities",
    tag = "federation",
    operation_id = "get_capabilities",
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "What it can do.", body = CapabilitiesBody), V1Gated)
)]
pub(super) async fn capabilities_alias(state: State<App>, signed: Signed, names: Names) -> Json<CapabilitiesBody> {
    capabilities(state, signed, names).await
}

/// List peers
///
/// Each with what it tells of itself in its trust document, and how it is; then those that this hub's peers file names and no operator has
/// confirmed, as `proposed`. What a peer may do stands in this hub's records alone.
#[utoipa::path(
    get,
    path = "/v1/federation/peers",
    tag = "federation",
    operation_id = "list_stacks",
    security(("bearer" = ["runs:forward"]), ("api_key" = ["runs:forward"])),
    responses((status = 200, description = "The peers: those with a record by their domains, then the others by their ids.", body = PeerList), V1Gated)
)]
pub(super) async fn peers(State(app): State<App>, Signed(caller): Signed, names: Names) -> Result<Json<PeerList>> {
    caller.require(Scope::RunsForward)?;
    let peers = app.peers.stacks().await?.into_iter().map(|candidate| candidate.stack.peer).collect();
    Ok(Json(PeerList { peers, correlation_id: names.correlation.to_string() }))
}

/// Forward a run to a peer
///
/// The run is made for the caller, and executed by the hub that `target_selector` names: with `stack_id` that hub and no other (the own
/// id runs it here), else the first of those in the `region` with all `required_capabilities`. The call waits until the peer has the
/// run, and answers within 10 s. If the peer did not take it by then, it is 503, and a cancel follows the run: a late delivery has no
/// effect. The run's id is the same on both hubs. A plain node, which this hub's operator has let in without mutual TLS, gets the run as
/// a request of its own `/v1` with the caller's tenant and principal, and the run has the id that it has there. An idempotency key counts
/// as for `POST /v1/agents/{agent_id}/runs`.
#[utoipa::path(
    post,
    path = "/v1/federation/runs:forward",
    tag = "federation",
    operation_id = "forward_run",
    security(("bearer" = ["runs:forward", "runs:create"]), ("api_key" = ["runs:forward", "runs:create"])),
    request_body(content = ForwardBody, example = json!({ "forward": {
        "agent_id": "writer", "target_selector": { "stack_id": "stk_hub-b.example" }, "run": { "input": { "type": "text", "text": "What is a hub?" } } } })),
    responses(
        (status = 200, description = "The peer has it.", body = ForwardedBody),
        (status = 404, description = "No such peer (`peer_not_found`), or no such agent there (`not_found`).", body = aiox_model::v1::error::ErrorBody),
        (status = 409, description = "No peer meets the selector: `details.missing` names capabilities, `details.region` the region (`conflict`).",
            body = aiox_model::v1::error::ErrorBody),
        V1Gated, V1Invalid, V1Sized
    )
)]
pub(super) async fn forward(
    State(app): State<App>,
    Signed(caller): Signed,
    Tenant(tenant): Tenant,
    names: Names,
    headers: HeaderMap,
    Body(body): Body<Value>,
) -> Result<Response> {
    let mut reader = Reader::default();
    let asked = forward_of(&mut reader, &body, &headers);
    reader.finish(app.options.v1.strict_ingress)?;
    let asked = asked.ok_or_else(|| Error::internal("a forward that was read without a fault is not there"))?;
    let mut caller = narrowed(&app, &caller, &asked.run.auth).await?;
    caller.require(Scope::RunsForward)?;
    if !headers.contains_key(TRACEPARENT)
        && let Some(trace) = asked.trace.as_deref().and_then(agentos::parse_traceparent)
    {
        caller.trace = trace;
    }
    let candidates = app.peers.stacks().await?;
    let own = &app.options.v1.stack.peer.stack_id;
    let chosen = choose(&asked.selector, own, &candidates).map_err(refused)?;
    let key = key(&headers, asked.run.key.clone())?;
    let new = new_run(&asked, key, body)?;
    let (stack, run, status, replayed) = match &chosen {
        Chosen::Own => {
            let made = app.runs.submit(&caller, new).await?;
            (own.clone(), RunId(made.run.id).to_string(), made.run.status, made.replayed)
        }
        Chosen::Peer(peer) if peer.plain => {
            let stack = &peer.stack.peer.stack_id;
            let made = app.runs.forward_plain(&caller, &tenant, &app.peers, (stack, &asked.agent), &new).await?;
            (stack.clone(), made.run, made.status, made.replayed)
        }
        Chosen::Peer(peer) => {
            let made = app.runs.forward(&caller, &peer.domain, &asked.agent, new).await?;
            (peer.stack.peer.stack_id.clone(), RunId(made.run.id).to_string(), made.run.status, made.replayed)
        }
    };
    let status = match status {
        RunStatus::Canceled => RunStatus::Failed,
        other => other,
    };
    let forwarded = Forwarded {
        tenant_id: tenant.to_string(),
        remote_stack_id: stack,
        remote_events_url: format!("/v1/federation/runs/{run}/events"),
        remote_run_id: run,
        status: status.as_str().into(),
    };
    let mut response = Json(ForwardedBody { forwarded, correlation_id: names.correlation.to_string() }).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED, http::HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A forward as a body asks for it.
struct AskedForward {
    agent: String,
    selector: TargetSelector,
    run: ask::AskedRun,
    trace: Option<String>,
}

fn forward_of(reader: &mut Reader, body: &Value, headers: &HeaderMap) -> Option<AskedForward> {
    let outer = reader.body(body);
    let at = if outer.has("forward") {
        reader.object(&outer, "forward")
    } else {
        reader.required::<()>(&outer, "forward");
        return None;
    };
    let agent = reader.name(&at, "agent_id", ID);
    if !at.has("agent_id") {
        reader.required::<()>(&at, "agent_id");
    }
    let selector = selector(reader, &at);
    let trace = reader.text(&at, "traceparent").filter(|_| !headers.contains_key(TRACEPARENT));
    let run = ["run", "run_create", "request"].into_iter().find(|name| at.has(name));
    let run = match run {
        Some(name) => {
            let inner = reader.object(&at, name);
            let mut run = ask::run(reader, &inner)?;
            // Who asks, and the key, may stand beside the run.
            if at.has("auth") {
                run.auth = ask::auth(reader, &at);
            } else if outer.has("auth") {
                run.auth = ask::auth(reader, &outer);
            }
            run.key = run.key.or_else(|| reader.name(&at, "idempotency_key", 256));
            run
        }
        None => ask::run(reader, &at)?,
    };
    Some(AskedForward { agent: agent?, selector, run, trace })
}

fn selector(reader: &mut Reader, at: &At<'_>) -> TargetSelector {
    let selector = reader.object(at, "target_selector");
    TargetSelector {
        stack_id: reader.name(&selector, "stack_id", ID),
        region: reader.name(&selector, "region", ID),
        required_capabilities: reader.texts(&selector, "required_capabilities").unwrap_or_default(),
        preferred_model_tier: reader.name(&selector, "preferred_model_tier", ID),
    }
}

fn new_run(asked: &AskedForward, key: Option<String>, mut body: Value) -> Result<NewRun> {
    for place in ["/forward", "/forward/run", "/forward/run_create", "/forward/request"] {
        if let Some(Value::Object(object)) = body.pointer_mut(place) {
            object.shift_remove("idempotency_key");
        }
    }
    let run = &asked.run;
    let mut options = run.options.clone();
    let mut bounds = run.bounds.clone();
    if let (None, Some(wish)) = (&options.model_tier, asked.selector.preferred_model_tier.as_deref().and_then(Tier::parse)) {
        options.model_tier = Some(wish.as_str().to_owned());
        (bounds.tier, bounds.tier_is_a_wish) = (options.model_tier.clone(), true);
    }
    Ok(NewRun {
        agent: AgentRef::parse(&asked.agent).ok_or(Error::NotFound("agent"))?,
        input: run.input.clone(),
        conversation: None,
        idempotency_key: key,
        reply: None,
        priority: run.priority,
        timeout_ms: Some(options.timeout_ms),
        bounds,
        asked: Some(AskedFor { options, body, session: run.session.clone() }),
    })
}

fn refused(why: NoTarget) -> Failure {
    let mut details = Map::new();
    let (status, code, message) = match why {
        NoTarget::Unknown => (StatusCode::NOT_FOUND, "peer_not_found", "no peer has this stack_id".to_owned()),
        NoTarget::Down(id) => (StatusCode::SERVICE_UNAVAILABLE, "dependency_unavailable", format!("the peer {id} cannot be reached")),
        NoTarget::Unmet { missing, region, version } => {
            if !missing.is_empty() {
                details.insert("missing".into(), json!(missing));
            }
            if let Some(region) = region {
                details.insert("region".into(), json!(region));
            }
            if version {
                details.insert("version_mismatch".into(), json!(true));
            }
            (StatusCode::CONFLICT, "conflict", "no peer meets the selector".to_owned())
        }
    };
    Failure::Refused(Box::new(Refusal { status, code, message, details }))
}

/// Follow the events of a forwarded run
///
/// As `GET /v1/runs/{run_id}/events`, with the ids and sequences of the hub that executes the run. While that hub is away, what is known
/// here is shown, and the stream goes on when it is back. Events of runs that were brought in are read here too.
#[utoipa::path(
    get,
    path = "/v1/federation/runs/{run_id}/events",
    tag = "federation",
    operation_id = "follow_forwarded_run",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(
        ("run_id" = String, Path, description = "The run: `run_…`, UUID, or as another hub names it."),
        events::From,
        ("Last-Event-ID" = Option<u64>, Header, description = "As `after_sequence`, which wins."),
    ),
    responses(
        (status = 200, description = "The events.", body = aiox_model::v1::event::EventEnvelope, content_type = "text/event-stream"),
        (status = 204, description = "The run has ended, and the reader has its last event."),
        V1Gated, V1Invalid, V1NotFound
    )
)]
pub(super) async fn follow(
    State(app): State<App>,
    Extension(streams): Extension<Arc<Streams>>,
    Signed(caller): Signed,
    Tenant(tenant): Tenant,
    Place(run): Place<String>,
    Asked(from): Asked<events::From>,
    headers: HeaderMap,
) -> Result<Response> {
    let own = match run_id(&run) {
        Ok(id) => match app.runs.detail(&caller, id).await {
            Ok(detail) => Some(detail),
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        },
        Err(_) => None,
    };
    if let Some(detail) = own {
        return events::stream(&app, &streams, &caller, &tenant, &detail, &from, &headers);
    }
    if let Some(found) = app.peers.plain_run(&caller, &run).await? {
        let (after, place) = (from.cursor(&headers)?, streams.enter(&caller)?);
        let follow = app.peers.follow_plain(found, PlainCaller::of(&caller, &tenant), after).await?;
        return Ok(follow.map_or_else(|| StatusCode::NO_CONTENT.into_response(), |events| sent(events, place)));
    }
    if !app.ingest.knows(&caller, &run).await? {
        return Err(Error::NotFound("run").into());
    }
    let after = from.cursor(&headers)?;
    if app.ingest.end(&caller, &run).await?.is_some_and(|end| after >= end) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = streams.enter(&caller)?;
    Ok(sent(app.ingest.follow(&caller, &run, after), place))
}

/// Events of another hub's run as a stream. `place` is held for as long as it is read.
fn sent(events: impl Stream<Item = aiox_core::Result<Event>> + Send + 'static, place: impl Send + 'static) -> Response {
    frames::respond(events.scan(place, |_, event| {
        let event = event.inspect_err(|error| tracing::error!(error = error.chain(), "a run can no longer be followed")).ok();
        std::future::ready(event.map(|event| events::frame(&event)))
    }))
}

/// Bring in events of another hub
///
/// Each event is judged for itself: it is dropped if it has no `event_id`, `run_id` or `sequence`, was brought in before from that source for
/// that run, names another tenant, or has the sequence of another event of the run. They may come in any order, and are read back in
/// order by `GET /v1/federation/runs/{run_id}/events`. Nothing of this hub's own runs changes.
#[utoipa::path(
    post,
    path = "/v1/federation/events:ingest",
    tag = "federation",
    operation_id = "ingest_events",
    security(("bearer" = ["events:ingest"]), ("api_key" = ["events:ingest"])),
    request_body = IngestBody,
    responses((status = 200, description = "How many were kept, also if none was.", body = IngestedBody), V1Gated, V1Invalid, V1Sized, V1Conflicting)
)]
pub(super) async fn ingest(
    State(app): State<App>,
    Signed(caller): Signed,
    Tenant(tenant): Tenant,
    names: Names,
    Body(body): Body<Value>,
) -> Result<Json<IngestedBody>> {
    let mut reader = Reader::default();
    let at = reader.body(&body);
    let auth = if at.has("auth") { ask::auth(&mut reader, &at) } else { ask::Auth::default() };
    let source = source(&mut reader, &at);
    let list = reader.list(&at, "events");
    if !at.has("events") {
        reader.required::<()>(&at, "events");
    }
    if list.is_some_and(|list| list.len() > MOST) {
        reader.wrong::<()>(&at, "events", "must have at most 1000 entries", "value");
    }
    // There are three documented forms of this body: none of them is a deviation.
    reader.finish(false)?;
    let caller = narrowed(&app, &caller, &auth).await?;
    caller.require(Scope::EventsIngest)?;
    let source = source.ok_or_else(|| Error::internal("a source that was read without a fault is not there"))?;
    if !app.options.v1.open_ingest && !registered(&app, &source).await? {
        return Err(Error::forbidden("forbidden", "the source is no registered peer").into());
    }
    let mut brought = Vec::new();
    for event in list.unwrap_or_default() {
        brought.push(brought_in(&app, &caller, &tenant, event).await?);
    }
    let counts = app.ingest.take(&caller, &source, brought).await?;
    Ok(Json(IngestedBody { accepted: counts.accepted, rejected: counts.rejected, correlation_id: names.correlation.to_string() }))
}

fn source(reader: &mut Reader, at: &At<'_>) -> Option<String> {
    let (ingest, peer) = (reader.object(at, "ingest"), reader.object(at, "peer"));
    let source = reader.name(&ingest, "source_stack_id", ID).or_else(|| reader.name(&peer, "stack_id", ID));
    let source = source.or_else(|| reader.name(at, "peer_id", ID));
    if source.is_none() {
        reader.required::<()>(&ingest, "source_stack_id");
    }
    source
}

async fn registered(app: &HttpState, source: &str) -> Result<bool> {
    let all = app.peers.stacks().await?;
    Ok(all.iter().any(|candidate| candidate.active && candidate.stack.peer.stack_id == source))
}

/// An event in its canonical form, bare or in its envelope.
async fn brought_in(app: &HttpState, caller: &Caller, tenant: &str, given: &Value) -> Result<Brought> {
    let given = given.get("event").filter(|inner| inner.is_object()).unwrap_or(given);
    if let Some(named) = given["tenant_id"].as_str()
        && named != tenant
        && app.tenants.book().find(named).await? != Some(caller.tenant)
    {
        return Ok(Brought::Foreign);
    }
    let trace = || agentos::trace(caller.trace, caller.trace.uuid());
    Ok(agentos::read(given, tenant, trace).map_or(Brought::Unreadable, |event| Brought::Event(Box::new(event))))
}
