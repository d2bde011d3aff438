//! A message to an agent: wait for the answer, watch it come, or only hand it over.

use std::{sync::Arc, time::Duration};

use aiox_app::{NewRun, Submitted};
use aiox_core::{Caller, Error, run::Priority};
use aiox_model::{
    RunId,
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
    error::{Failure, Result},
    frames,
    read::{Body, Place, data},
};

/// Time to make a run durable.
const ACCEPT: Duration = Duration::from_secs(15);
/// The run's own time limit answers first; this much later its waiting client gives up.
const GRACE: Duration = Duration::from_secs(2);
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

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
        timeout_ms: request.timeout_ms,
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
