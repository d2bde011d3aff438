//! Runs: make, read, cancel.

use std::time::Duration;

use aiox_app::{AgentRef, Asked, Detail, NewRun, Submitted};
use aiox_core::{Caller, Error, agentos};
use aiox_model::{
    RunId,
    v1::run::{Run, RunBody, RunFailure, RunOutput},
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ask::{self, AskedRun},
    gate::{Tenant, narrowed},
    lenient::Reader,
};
use crate::{
    HttpState,
    auth::Signed,
    documented::{V1Conflicting, V1Gated, V1Invalid, V1NotFound, V1Sized},
    error::{Failure, Result},
    names::Names,
    read::{Body, Place},
    state::App,
};

/// Time to make a run durable.
const ACCEPT: Duration = Duration::from_secs(15);
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(show)).routes(routes!(cancel))
}

/// Make a run
///
/// When this answers, the run is durable and its first event can be read; it ends by itself, whoever looks. The agent is named by its
/// `agt_` id, its UUID, its handle or its address; with the address of an agent of a peer hub the run is executed there.
///
/// The documented body is read, and besides it: `input` as a text or without `type`; `auth` flat (`principal_id`, `subject_type`,
/// `api_key_id`), without `policy_context` or `scopes`, or absent; `tooling` absent or with `tools`; `run_options` absent or in parts;
/// `context` absent. Members that are not known are ignored. A hub with strict ingress refuses all of that with 400. A `traceparent`
/// that is malformed is ignored.
///
/// With an idempotency key, in the header or in the body, the same request makes one run: the second one is answered with 200, the run
/// as it is by then and the header `Idempotency-Replayed: true`; another body under that key is 409. Keys are those of one principal with one agent.
/// Runs of one principal with one agent are worked on one after the other; those of another `context.session_id` beside them.
#[utoipa::path(
    post,
    path = "/v1/agents/{agent_id}/runs",
    tag = "runs",
    operation_id = "create_run",
    security(("bearer" = ["runs:create"]), ("api_key" = ["runs:create"])),
    params(
        ("agent_id" = String, Path, description = "The agent: `agt_…`, UUID, handle, or address.", example = "agt_demo"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 256 bytes; the same as `idempotency_key` of the body."),
    ),
    request_body(content = aiox_model::v1::run::RunCreate, example = json!({ "input": { "type": "text", "text": "What is a hub?" } })),
    responses(
        (status = 201, description = "The run.", body = RunBody),
        (status = 200, description = "The run that the first request with this key made.", body = RunBody,
            headers(("Idempotency-Replayed" = bool, description = "`true`."))),
        V1Gated, V1Invalid, V1Sized, V1NotFound, V1Conflicting
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    Signed(caller): Signed,
    Tenant(tenant): Tenant,
    names: Names,
    Place(agent): Place<String>,
    headers: HeaderMap,
    Body(body): Body<Value>,
) -> Result<Response> {
    let mut reader = Reader::default();
    let at = reader.body(&body);
    let asked = ask::run(&mut reader, &at);
    reader.finish(app.options.v1.strict_ingress)?;
    let asked = asked.ok_or_else(|| Error::internal("a run that was read without a fault is not there"))?;
    let caller = narrowed(&app, &caller, &asked.auth).await?;
    // What cannot be the name of an agent is none.
    let agent = AgentRef::parse(&agent).ok_or(Error::NotFound("agent"))?;
    let key = key(&headers, asked.key.clone())?;
    let submitted = submit(&app, &caller, agent, asked, key, body).await?;
    let detail = app.runs.outcome(&caller, RunId(submitted.run.id)).await?;
    Ok(made(&tenant, detail, submitted.replayed, &names))
}

/// The answer to a request that made a run, now or the first time.
fn made(tenant: &str, detail: Detail, replayed: bool, names: &Names) -> Response {
    let status = if replayed { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = (status, body(tenant, detail, names)).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The idempotency key of header and body, which have to agree.
pub(super) fn key(headers: &HeaderMap, body: Option<String>) -> Result<Option<String>> {
    let bad = |message: &str| Error::invalid("Idempotency-Key", message);
    let Some(header) = headers.get("idempotency-key") else { return Ok(body) };
    let header = header.to_str().map_err(|_| bad("must be ASCII text"))?;
    if !(1..=256).contains(&header.len()) {
        return Err(bad("must have 1 to 256 bytes").into());
    }
    if body.is_some_and(|body| body != header) {
        return Err(bad("is another one than idempotency_key of the body").into());
    }
    Ok(Some(header.to_owned()))
}

/// Makes the run durable.
pub(super) async fn submit(
    app: &HttpState,
    caller: &Caller,
    agent: AgentRef,
    asked: AskedRun,
    key: Option<String>,
    mut body: Value,
) -> Result<Submitted> {
    if let Some(body) = body.as_object_mut() {
        // In the header or in the body, it is the same key.
        body.shift_remove("idempotency_key");
    }
    let new = NewRun {
        agent,
        input: asked.input,
        conversation: None,
        idempotency_key: key,
        reply: None,
        priority: asked.priority,
        timeout_ms: Some(asked.options.timeout_ms),
        bounds: asked.bounds,
        asked: Some(Asked { options: asked.options, body, session: asked.session }),
    };
    let submitted = tokio::time::timeout(ACCEPT, app.runs.submit(caller, new)).await;
    Ok(submitted.map_err(|_| Failure::Slow)??)
}

/// Read a run
///
/// Runs of other principals, and of other tenants, are not found.
#[utoipa::path(
    get,
    path = "/v1/runs/{run_id}",
    tag = "runs",
    operation_id = "get_v1_run",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(("run_id" = String, Path, description = "The run: `run_…` or UUID.")),
    responses((status = 200, description = "The run.", body = RunBody), V1Gated, V1NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    Signed(caller): Signed,
    Tenant(tenant): Tenant,
    names: Names,
    Place(run): Place<String>,
) -> Result<Json<RunBody>> {
    let detail = app.runs.detail(&caller, run_id(&run)?).await?;
    Ok(body(&tenant, detail, &names))
}

/// Cancel a run
///
/// A run that waits ends at once, one that is worked on is stopped at its worker, one at a peer hub by a message to that hub. Of a run
/// that has ended nothing changes: that is 409 `invalid_state_transition`.
#[utoipa::path(
    post,
    path = "/v1/runs/{run_id}/~cancel",
    tag = "runs",
    operation_id = "cancel_v1_run",
    security(("bearer" = ["runs:cancel"]), ("api_key" = ["runs:cancel"])),
    params(("run_id" = String, Path, description = "The run: `run_…` or UUID.")),
    responses((status = 200, description = "The run, canceled.", body = RunBody), V1Gated, V1NotFound, V1Conflicting)
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Signed(caller): Signed,
    Tenant(tenant): Tenant,
    names: Names,
    Place(run): Place<String>,
) -> Result<Json<RunBody>> {
    let run = run_id(&run)?;
    app.runs.cancel(&caller, run).await?;
    let detail = app.runs.outcome(&caller, run).await?;
    Ok(body(&tenant, detail, &names))
}

/// What can be no id of a run is none.
pub(super) fn run_id(text: &str) -> Result<RunId> {
    text.parse().map_err(|_| Error::NotFound("run").into())
}

fn body(tenant: &str, detail: Detail, names: &Names) -> Json<RunBody> {
    Json(RunBody { run: shown(tenant, detail), correlation_id: names.correlation.to_string() })
}

/// A run as `/v1` shows it.
fn shown(tenant: &str, detail: Detail) -> Run {
    let run = detail.run;
    let id = RunId(run.id);
    Run {
        tenant_id: tenant.to_owned(),
        agent_id: detail.agent,
        run_id: id.to_string(),
        status: run.status.as_str().to_owned(),
        created_at: run.created_at,
        events_url: format!("/v1/runs/{id}/events"),
        started_at: run.started_at,
        completed_at: run.completed_at,
        run_options: detail.options,
        summary: Some(detail.summary),
        output: run.output.map(|text| RunOutput { kind: "text".into(), text, artifacts: Vec::new() }),
        error: run.error.map(|error| {
            let (code, details) = agentos::cause(&error.code);
            RunFailure { code: code.to_owned(), message: error.message, details }
        }),
    }
}
