//! An agent as a model: each call is a run.

use std::time::Duration;

use aiox_app::{AgentRef, Bounds, CallFailure, NewRun, gateway::PolicyOutcome};
use aiox_core::{Caller, Error, ports::Signal, run::Priority};
use aiox_model::{
    RunId,
    run::{Run, RunError, RunStatus},
};
use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use uuid::Uuid;

use crate::{
    HttpState,
    error::{Failure, Result},
    state::App,
};

/// Time to make a run durable.
const ACCEPT: Duration = Duration::from_secs(15);
/// The run's own time limit answers first; this much later its waiting client gives up.
const GRACE: Duration = Duration::from_secs(2);

/// Makes the run durable, with what the content policy leaves of the text.
pub(super) async fn submit(
    app: &HttpState,
    caller: &Caller,
    (model, agent): (&str, AgentRef),
    text: &str,
    conversation: Option<Uuid>,
    headers: &HeaderMap,
) -> Result<(Run, PolicyOutcome)> {
    let (input, policy) = app.gateway.screen(caller, text).await?;
    let idempotency_key = match headers.get("idempotency-key") {
        Some(key) => Some(key.to_str().map_err(|_| Error::invalid("Idempotency-Key", "must be ASCII text"))?.to_owned()),
        None => None,
    };
    let new = NewRun {
        agent,
        input,
        conversation,
        idempotency_key,
        reply: None,
        priority: Priority::Normal,
        timeout_ms: None,
        bounds: Bounds::default(),
        asked: None,
    };
    let submitted = tokio::time::timeout(ACCEPT, app.runs.submit(caller, new)).await.map_err(|_| Failure::Slow)?;
    match submitted {
        Ok(submitted) => Ok((submitted.run, policy)),
        Err(Error::NotFound("agent")) => Err(CallFailure::NotFound(model.to_owned()).into()),
        Err(Error::NotFound("conversation")) => {
            Err(Error::invalid("previous_response_id", "the response that it names was given by another agent").into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The run once it has ended well.
pub(super) async fn answer(app: &HttpState, run: &Run) -> Result<Run> {
    match tokio::time::timeout(app.options.run_timeout + GRACE, app.runs.wait(RunId(run.id))).await {
        Ok(ended) => completed(ended?),
        Err(_) => Err(Failure::Waiting(run.id)),
    }
}

fn completed(run: Run) -> Result<Run> {
    if run.status == RunStatus::Completed {
        return Ok(run);
    }
    let canceled = || RunError { code: "canceled".into(), message: "the run was canceled".into(), retryable: false };
    Err(Failure::Run(run.id, run.error.unwrap_or_else(canceled)))
}

/// A step of an agent's answer.
pub(super) enum Step {
    /// Text to append.
    Delta(String),
    /// The end: the run, or why there is no answer.
    End(Result<Box<Run>>),
}

/// The answer as it grows. Live text is only a preview of the stored answer: what of it was missed, or begun anew by another worker,
/// comes with the end, so that the pieces together always end with the whole answer. What was sent here cannot be taken back: a piece
/// that does not follow what was sent, or does not say where it belongs because the peer hub that executes the run does not tell, ends
/// the preview, and the rest comes in one piece.
pub(super) fn progress(app: App, caller: Caller, run: RunId) -> impl Stream<Item = Step> + Send + 'static {
    async_stream::stream! {
        let id = run;
        let mut said = String::new();
        let mut live = true;
        let mut signals = std::pin::pin!(app.runs.follow(id, 0, true));
        while let Some(signal) = signals.next().await {
            match signal {
                Ok(Signal::Delta(delta)) if live && delta.offset == Some(said.len() as u64) => {
                    said.push_str(&delta.text);
                    yield Step::Delta(delta.text);
                }
                Ok(Signal::Delta(_)) => live = false,
                Ok(Signal::Event(event)) if event.kind == "run.retried" => live = false,
                Ok(_) => {}
                Err(error) => {
                    yield Step::End(Err(error.into()));
                    return;
                }
            }
        }
        match app.runs.get(&caller, id).await.map_err(Failure::from).and_then(completed) {
            Ok(run) => {
                let whole = run.output.clone().unwrap_or_default();
                let rest = match whole.strip_prefix(&said) {
                    Some(rest) => rest.to_owned(),
                    None => format!("\n\n{whole}"),
                };
                if !rest.is_empty() {
                    yield Step::Delta(rest);
                }
                yield Step::End(Ok(Box::new(run)));
            }
            Err(failure) => yield Step::End(Err(failure)),
        }
    }
}
