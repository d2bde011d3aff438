//! A message to an agent: wait for the answer, watch it come, or only hand it over.

use std::{sync::Arc, time::Duration};

use aiox_app::{Bounds, NewRun, Submitted};
use aiox_core::{Caller, Error, run::Priority};
use aiox_model::{
    RunId,
    body::{Data, ErrorBody},
    run::{ChatReply, ChatRequest, Run, RunStatus},
};
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response, sse::Event},
};
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::{App, agent_ref};
use crate::{
    HttpState,
    auth::Signed,
    bound::{self, Streams},
    documented::{Gated, Invalid, Sized},
    error::{Failure, Result},
    frames,
    read::{Body, Place, data},
};

type ChatReplyData = Data<ChatReply>;
type RunData = Data<Run>;

/// Time to make a run durable.
const ACCEPT: Duration = Duration::from_secs(15);
/// The run's own time limit answers first; this much later its waiting client gives up.
const GRACE: Duration = Duration::from_secs(2);
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Send a message to an agent
///
/// It becomes a run, which is durable before anything is answered. Three ways to have its answer:
///
/// - Wait (the default): the answer is one object, or the error of the run.
/// - `stream`: server-sent events. `accepted` `{run_id, conversation_id, status}` comes first; then the run's numbered events (`run.event`, a `RunEvent`, with its sequence as `id`)
///   and its live text (`run.delta`, a `RunDelta`, without an `id`) as they happen; last `done` (a `ChatReply`) or `error` (an `ErrorBody`). A comment comes every 15 seconds.
/// - `detach`: 202 with the run at once. It is read at `/api/v1/runs/{run}` and followed at `/api/v1/runs/{run}/events`.
///
/// A waiting call that gives up (504, `wait_timeout`) does not stop the run. The agent may be one of a peer hub.
#[utoipa::path(
    post,
    path = "/api/v1/agents/{agent}/chat",
    tag = "chat",
    operation_id = "send_message",
    security(("bearer" = ["runs:create"]), ("api_key" = ["runs:create"])),
    params(("agent" = String, Path, description = "Any name of the agent: its UUID, its prefixed id (`agt_…`), its handle, or its address, also of an agent of a peer hub."), ("Idempotency-Key" = Option<String>, Header, description = "1 to 256 bytes. The same key with the same request has one effect and one answer.")),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer, or with `stream` its frames. `Idempotent-Replayed: true` when the key had been used before: nothing new was made.", content((ChatReplyData = "application/json"), (String = "text/event-stream")), headers(("Idempotent-Replayed" = bool, description = "Present, as `true`, when the run had been made before with this key."))),
        (status = 202, description = "With `detach`: the run, as it became durable.", body = RunData, headers(("Location" = String, description = "Where the run can be read."), ("Idempotent-Replayed" = bool, description = "Present, as `true`, when the run had been made before with this key."))),
        Gated,
        Invalid,
        Sized,
        (status = 403, description = "Not allowed (`forbidden`), or the agent's governance refuses (`agent_blocked`, `domain_not_allowed`, `provider_not_allowed`).", body = ErrorBody),
        (status = 404, description = "No such agent or conversation, or the caller may not know that it exists (`not_found`); or the agent was deleted before its turn (`agent_deleted`).", body = ErrorBody),
        (status = 409, description = "The key was used for another request (`idempotency_conflict`), or the run was canceled (`canceled`).", body = ErrorBody),
        (status = 429, description = "The allowance is used up (`quota_exceeded`), too many requests (`rate_limited`), too many open streams (`too_many_streams`), or too much waits for that peer (`outbox_full`).", body = ErrorBody, headers(("Retry-After" = u64, description = "Seconds to wait before the same request can succeed."))),
        (status = 502, description = "The run failed at its provider or at its peer hub; the code is the run's (for instance `provider_unavailable`, `model_not_found`, `peer_error`).", body = ErrorBody),
        (status = 503, description = "A part of the hub is not available (`dependency_unavailable`, `shutting_down`, `request_timeout`), no worker can have the agent's provider (`unknown_provider`), the workers were lost with the run (`worker_lost`), no connected worker can serve it (`no_capable_worker`), or the peer hub cannot be reached (`peer_inactive`, `federation_off`).", body = ErrorBody, headers(("Retry-After" = u64, description = "Seconds to wait before the same request can succeed."))),
        (status = 504, description = "No answer in time: the run goes on (`wait_timeout`), or it took longer than its limit (`timeout`), or its envelope expired (`expired`).", body = ErrorBody)
    )
)]
pub(super) async fn post(
    State(app): State<App>,
    Extension(streams): Extension<Arc<Streams>>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    headers: HeaderMap,
    Body(request): Body<ChatRequest>,
) -> Result<Response> {
    let key = match headers.get("idempotency-key") {
        Some(key) => Some(key.to_str().map_err(|_| Error::invalid("Idempotency-Key", "must be ASCII text"))?.to_owned()),
        None => None,
    };
    let (detach, stream, timeout) = (request.detach, request.stream, request.timeout_ms);
    // Before the run is made: whoever is refused a stream must not be charged for a run.
    let open = if stream && !detach { Some(streams.enter(&caller)?) } else { None };
    let Submitted { run, replayed } = submit(&app, &caller, &agent, request, key).await?;
    let mut response = if detach {
        handed_over(run)
    } else if let Some(open) = open {
        frames::respond(progress(app, caller, run, open))
    } else {
        let most = app.options.run_timeout;
        let wait = timeout.map_or(most, |millis| Duration::from_millis(millis).min(most)) + GRACE;
        data(answer(&app, &run, wait).await?).into_response()
    };
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Makes the run durable.
pub(super) async fn submit(app: &HttpState, caller: &Caller, agent: &str, request: ChatRequest, key: Option<String>) -> Result<Submitted> {
    let new = NewRun {
        agent: agent_ref(agent)?,
        input: request.message,
        conversation: request.conversation_id,
        idempotency_key: key,
        reply: None,
        priority: request.priority.as_deref().map_or(Ok(Priority::Normal), Priority::parse)?,
        // At this door the usual time is the longest too.
        timeout_ms: request.timeout_ms.map(|millis| millis.min(u64::try_from(app.options.run_timeout.as_millis()).unwrap_or(u64::MAX))),
        bounds: Bounds::default(),
        asked: None,
    };
    let submitted = tokio::time::timeout(ACCEPT, app.runs.submit(caller, new)).await;
    Ok(submitted.map_err(|_| Failure::Slow)??)
}

fn handed_over(run: Run) -> Response {
    let place = HeaderValue::try_from(format!("/api/v1/runs/{}", run.id));
    let mut response = (StatusCode::ACCEPTED, data(run)).into_response();
    if let Ok(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

async fn answer(app: &HttpState, run: &Run, wait: Duration) -> Result<ChatReply> {
    match tokio::time::timeout(wait, app.runs.wait(RunId(run.id))).await {
        Ok(ended) => reply(ended?),
        Err(_) => Err(Failure::Waiting(run.id)),
    }
}

/// The answer of a run that has ended.
pub(super) fn reply(run: Run) -> Result<ChatReply> {
    if run.status != RunStatus::Completed {
        let canceled = || aiox_model::run::RunError { code: "canceled".into(), message: "the run was canceled".into(), retryable: false };
        return Err(Failure::Run(run.id, run.error.unwrap_or_else(canceled)));
    }
    Ok(ChatReply {
        request_id: run.id,
        run_id: run.id,
        conversation_id: run.conversation_id,
        response: run.output.unwrap_or_default(),
        model_used: run.model_used.unwrap_or_default(),
        tokens_used: run.input_tokens + run.output_tokens,
        duration_ms: run.completed_at.map_or(0, |end| end.millis_since(run.created_at)),
    })
}

/// `accepted`, then the events and live text of the run as `/runs/{id}/events` sends them, then `done` or `error`.
fn progress(app: App, caller: Caller, run: Run, open: bound::Place) -> impl Stream<Item = Event> + Send + 'static {
    async_stream::stream! {
        let _open = open;
        let id = RunId(run.id);
        yield frames::opening();
        yield frames::plain("accepted", &json!({ "run_id": run.id, "conversation_id": run.conversation_id, "status": run.status }));
        let mut signals = std::pin::pin!(app.runs.follow(id, 0, true));
        while let Some(signal) = signals.next().await {
            match signal {
                Ok(signal) => yield frames::signal(&signal),
                Err(error) => {
                    yield frames::plain("error", &Failure::App(error).shown().body(&caller.trace.to_string()));
                    return;
                }
            }
        }
        match app.runs.get(&caller, id).await.map_err(Failure::from).and_then(reply) {
            Ok(reply) => yield frames::plain("done", &reply),
            Err(failure) => yield frames::plain("error", &failure.shown().body(&caller.trace.to_string())),
        }
    }
}
