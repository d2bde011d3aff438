//! One task: from its request to its result, whatever happens on the way.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aiox_proto::worker::v1::worker_message::Payload;
use aiox_proto::worker::v1::{TaskDelta, TaskEvent, TaskRequest, TaskResponse, WorkerMessage};
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failure::{ErrorCode, Failure};
use crate::prompt;
use crate::provider::{FinishReason, ProviderEvent, Providers, Usage};

/// The way to the hub while there is a connection.
#[derive(Clone)]
pub(crate) struct Link {
    /// Messages in order; a full window of the hub slows the sender down, not the others.
    pub(crate) out: mpsc::Sender<WorkerMessage>,
    /// What the hub speaks.
    pub(crate) protocol: u32,
}

/// The handle of a running task.
#[derive(Clone, Default)]
pub(crate) struct Handle {
    lease: Arc<Mutex<String>>,
    stopped: CancellationToken,
    why: Arc<OnceLock<ErrorCode>>,
}

impl Handle {
    pub(crate) fn new(lease: &str) -> Self {
        let handle = Self::default();
        handle.set_lease(lease);
        handle
    }

    /// The lease under which the run is done; a reconnect may bring a new one.
    pub(crate) fn set_lease(&self, lease: &str) {
        let mut held = self.lease.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        lease.clone_into(&mut held);
    }

    pub(crate) fn lease(&self) -> String {
        self.lease.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Waits until it is stopped.
    pub(crate) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Why it was stopped.
    pub(crate) fn why(&self) -> ErrorCode {
        self.why.get().copied().unwrap_or(ErrorCode::Canceled)
    }

    /// Stops the task; only the first reason counts.
    pub(crate) fn stop(&self, why: ErrorCode) {
        let _ = self.why.set(why);
        self.stopped.cancel();
    }
}

/// What every task of a worker shares.
pub(crate) struct Bench {
    pub(crate) worker_id: String,
    pub(crate) providers: Providers,
    pub(crate) default_provider: String,
    pub(crate) task_timeout: Duration,
    pub(crate) max_answer_bytes: usize,
    pub(crate) link: watch::Sender<Option<Link>>,
}

impl Bench {
    /// Tells the hub something that matters only now; without a connection it is dropped.
    pub(crate) async fn tell(&self, payload: Payload) {
        let link = self.link.borrow().clone();
        if let Some(link) = link.filter(|link| link.protocol >= 2) {
            let _ = link.out.send(WorkerMessage { payload: Some(payload) }).await;
        }
    }
}

/// What is known of an answer so far.
#[derive(Default)]
struct Answer {
    text: String,
    usage: Usage,
    model: String,
    finish: Option<FinishReason>,
}

/// Runs a task. Always gives a result: a stop, a passed deadline and a panic are results too.
pub(crate) async fn run(task: TaskRequest, handle: Handle, bench: Arc<Bench>) -> TaskResponse {
    let started = Instant::now();
    let limit = match task.timeout_ms {
        0 => bench.task_timeout,
        limit => Duration::from_millis(limit),
    };
    let mut answer = Answer::default();
    let result = tokio::select! {
        biased;
        () = handle.stopped() => Err(Failure::new(handle.why(), "stopped")),
        done = tokio::time::timeout(
            limit,
            AssertUnwindSafe(make(&task, &handle, &bench, &mut answer)).catch_unwind(),
        ) => match done {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(Failure::new(ErrorCode::WorkerError, "panic")),
            Err(_elapsed) => Err(Failure::new(ErrorCode::Timeout, "deadline")),
        },
    };
    let duration = started.elapsed();
    let mut response = TaskResponse {
        request_id: task.request_id,
        worker_id: bench.worker_id.clone(),
        tokens_used: narrow(answer.usage.input_tokens + answer.usage.output_tokens),
        duration_ms: narrow(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        model_used: answer.model,
        input_tokens: answer.usage.input_tokens,
        output_tokens: answer.usage.output_tokens,
        lease_id: handle.lease(),
        ..TaskResponse::default()
    };
    match result {
        Ok(finish) => {
            response.response_text = answer.text;
            response.finish_reason = finish.as_str().into();
        }
        Err(failure) => fail(&mut response, &failure),
    }
    response
}

/// The result of a task that was not begun.
pub(crate) fn refused(task: &TaskRequest, worker_id: &str, code: ErrorCode) -> TaskResponse {
    let mut response = TaskResponse {
        request_id: task.request_id.clone(),
        worker_id: worker_id.to_owned(),
        lease_id: task.lease_id.clone(),
        ..TaskResponse::default()
    };
    fail(&mut response, &Failure::new(code, "not begun"));
    response
}

fn fail(response: &mut TaskResponse, failure: &Failure) {
    tracing::debug!(
        run = %response.request_id,
        code = %failure.code,
        detail = %failure.detail,
        "task failed"
    );
    response.error_code = failure.code.as_str().into();
    response.error_message = failure.code.message().into();
    response.retryable = failure.code.retryable();
}

async fn make(task: &TaskRequest, handle: &Handle, bench: &Bench, answer: &mut Answer) -> Result<FinishReason, Failure> {
    let (provider, request) = prompt::plan(task, &bench.providers, &bench.default_provider)?;
    answer.model.clone_from(&request.model);
    let mut events = provider.chat(request);
    let mut tools_wanted = false;
    while let Some(event) = events.next().await {
        match event? {
            ProviderEvent::TextDelta(mut text) => {
                let room = bench.max_answer_bytes.saturating_sub(answer.text.len());
                let full = text.len() > room;
                if full {
                    text.truncate(text.floor_char_boundary(room));
                }
                answer.text.push_str(&text);
                if task.stream && !text.is_empty() {
                    bench.tell(Payload::TaskDelta(TaskDelta { request_id: task.request_id.clone(), lease_id: handle.lease(), text })).await;
                }
                if full {
                    return Ok(FinishReason::Length);
                }
            }
            ProviderEvent::ToolCall(call) => {
                tools_wanted = true;
                let payload = serde_json::json!({
                    "call_id": call.id, "name": call.name, "arguments": call.arguments,
                });
                bench
                    .tell(Payload::TaskEvent(TaskEvent {
                        request_id: task.request_id.clone(),
                        lease_id: handle.lease(),
                        r#type: "tool.call".into(),
                        payload_json: payload.to_string(),
                    }))
                    .await;
            }
            ProviderEvent::Usage(usage) => answer.usage = usage,
            ProviderEvent::Done(reason) => answer.finish = Some(reason),
        }
    }
    if tools_wanted {
        return Err(Failure::new(ErrorCode::ToolsUnavailable, "nobody runs tools"));
    }
    answer.finish.ok_or_else(|| Failure::new(ErrorCode::ProviderUnavailable, "the answer has no end"))
}

fn narrow(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use futures::stream::{self, BoxStream};

    use super::*;
    use crate::provider::{ChatRequest, EmbedRequest, Embedded, Provider};

    struct Broken;

    impl Provider for Broken {
        fn chat(&self, _: ChatRequest) -> BoxStream<'static, Result<ProviderEvent, Failure>> {
            stream::iter([7_usize, 0]).map(|divisor| Ok(ProviderEvent::TextDelta((1 / divisor).to_string()))).boxed()
        }

        fn embed(&self, _: EmbedRequest) -> BoxFuture<'static, Result<Embedded, Failure>> {
            async { Err(Failure::new(ErrorCode::ModelNotFound, "broken")) }.boxed()
        }

        fn embeds(&self) -> bool {
            false
        }

        fn default_model(&self) -> Option<&str> {
            Some("broken")
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error_result() {
        let bench = Arc::new(Bench {
            worker_id: "w1".into(),
            providers: Providers::from([("broken".into(), Arc::new(Broken) as Arc<_>)]),
            default_provider: "broken".into(),
            task_timeout: Duration::from_secs(60),
            max_answer_bytes: 100,
            link: watch::Sender::new(None),
        });
        let task = TaskRequest { request_id: "r1".into(), ..TaskRequest::default() };
        let response = run(task, Handle::new("lease-1"), bench).await;
        assert_eq!(response.error_code, "worker_error");
        assert_eq!(response.lease_id, "lease-1");
        assert!(response.retryable);
        assert!(!response.error_message.contains("zero"));
    }
}
