//! What a worker has in hand, across connections: running tasks and results without an
//! acknowledgement.

use std::collections::HashMap;
use std::sync::Arc;

use aiox_proto::worker::v1::worker_message::Payload;
use aiox_proto::worker::v1::{HeldTask, ModelRequest, ModelResponse, TaskRequest, TaskResponse};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::WorkerError;
use crate::call;
use crate::config::WorkerConfig;
use crate::failure::ErrorCode;
use crate::provider::provider;
use crate::task::{self, Bench, Handle, Link};

/// Most results kept for a hub that does not acknowledge them; the oldest goes first.
const MAX_UNACKED: usize = 256;

/// The work in hand.
pub(crate) struct Desk {
    pub(crate) config: WorkerConfig,
    bench: Arc<Bench>,
    running: HashMap<String, Handle>,
    tasks: JoinSet<Done>,
    /// Calls of models at work.
    calls: HashMap<String, Handle>,
    unacked: Vec<TaskResponse>,
    mean_latency_ms: f64,
    leaving: bool,
}

/// What has come to its end.
enum Done {
    Task(TaskResponse),
    Call(ModelResponse),
}

impl Desk {
    pub(crate) fn new(config: WorkerConfig) -> Result<Self, WorkerError> {
        let providers = config
            .providers
            .iter()
            .map(|(name, settings)| Ok((name.to_lowercase(), provider(settings)?)))
            .collect::<Result<_, WorkerError>>()?;
        let bench = Arc::new(Bench {
            worker_id: config.worker_id.clone(),
            providers,
            default_provider: config.default_provider.clone(),
            task_timeout: config.task_timeout,
            max_answer_bytes: config.max_answer_bytes,
            link: watch::Sender::new(None),
        });
        Ok(Self {
            config,
            bench,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            calls: HashMap::new(),
            unacked: Vec::new(),
            mean_latency_ms: 0.0,
            leaving: false,
        })
    }

    /// Gives the running tasks a way to the hub, or takes it from them. Calls of models end with the connection: nobody waits for
    /// them any more.
    pub(crate) fn set_link(&self, link: Option<Link>) {
        if link.is_none() {
            self.calls.values().for_each(|call| call.stop(ErrorCode::Canceled));
        }
        self.bench.link.send_replace(link);
    }

    /// Takes no further tasks.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Starts a task, unless it is known already: a hub that lost the connection offers the run
    /// again, and work that is under way or done is not done twice. Some: the result is there
    /// already.
    pub(crate) fn offer(&mut self, task: TaskRequest) -> Option<TaskResponse> {
        if let Some(handle) = self.running.get(&task.request_id) {
            handle.set_lease(&task.lease_id);
            return None;
        }
        if let Some(at) = self.position(&task.request_id) {
            let mut known = self.unacked.remove(at);
            // A new attempt after a failure is really new.
            if known.error_code.is_empty() {
                known.lease_id.clone_from(&task.lease_id);
                return Some(self.keep(known));
            }
        }
        let refusal = if self.leaving {
            Some(ErrorCode::WorkerDraining)
        } else if self.active() >= self.config.max_concurrent as usize {
            Some(ErrorCode::WorkerBusy)
        } else {
            None
        };
        if let Some(code) = refusal {
            let response = task::refused(&task, &self.config.worker_id, code);
            return Some(self.keep(response));
        }
        let handle = Handle::new(&task.lease_id);
        self.running.insert(task.request_id.clone(), handle.clone());
        let bench = Arc::clone(&self.bench);
        self.tasks.spawn(async move { Done::Task(task::run(task, handle, bench).await) });
        None
    }

    /// Starts a call of a model. Some: it cannot be made here.
    pub(crate) fn call(&mut self, request: ModelRequest) -> Option<ModelResponse> {
        let refusal = if self.leaving {
            ErrorCode::WorkerDraining
        } else if self.calls.len() >= self.config.max_model_calls as usize {
            ErrorCode::WorkerBusy
        } else if self.calls.contains_key(&request.request_id) {
            ErrorCode::InvalidTask
        } else {
            let handle = Handle::new("");
            self.calls.insert(request.request_id.clone(), handle.clone());
            let bench = Arc::clone(&self.bench);
            self.tasks.spawn(async move { Done::Call(call::run(request, handle, bench).await) });
            return None;
        };
        Some(call::refused(&request.request_id, refusal))
    }

    /// Stops a call of a model; its result follows.
    pub(crate) fn stop_call(&self, request: &str, why: ErrorCode) {
        if let Some(handle) = self.calls.get(request) {
            handle.stop(why);
        }
    }

    /// Those of the providers that make embeddings.
    pub(crate) fn embedding_providers(&self) -> Vec<String> {
        self.bench.providers.iter().filter(|(_, provider)| provider.embeds()).map(|(name, _)| name.clone()).collect()
    }

    /// The models, as `provider/model`, that the configuration names.
    pub(crate) fn named_models(&self) -> Vec<String> {
        let named = self.bench.providers.iter().filter_map(|(name, provider)| Some(format!("{name}/{}", provider.default_model()?)));
        named.collect()
    }

    /// Stops a task; its result follows.
    pub(crate) fn stop(&self, run: &str, why: ErrorCode) {
        if let Some(handle) = self.running.get(run) {
            handle.stop(why);
        }
    }

    /// Stops every task.
    pub(crate) fn stop_all(&self, why: ErrorCode) {
        for handle in self.running.values().chain(self.calls.values()) {
            handle.stop(why);
        }
    }

    /// The next result, for the hub. Waits for ever when nothing runs.
    pub(crate) async fn finished(&mut self) -> Payload {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Done::Task(response))) => {
                    self.running.remove(&response.request_id);
                    self.mean_latency_ms += (f64::from(response.duration_ms) - self.mean_latency_ms) / 10.0;
                    return Payload::TaskResponse(self.keep(response));
                }
                Some(Ok(Done::Call(response))) => {
                    self.calls.remove(&response.request_id);
                    return Payload::ModelResponse(response);
                }
                // A task catches its own panics and nobody aborts it.
                Some(Err(error)) => tracing::error!(%error, "a task was lost"),
                None => std::future::pending().await,
            }
        }
    }

    fn keep(&mut self, response: TaskResponse) -> TaskResponse {
        if self.unacked.len() >= MAX_UNACKED {
            let dropped = self.unacked.remove(0);
            tracing::warn!(run = %dropped.request_id, "a result was never acknowledged, dropped");
        }
        self.unacked.push(response.clone());
        response
    }

    /// The hub needs this result no longer. An empty lease means whichever it is.
    pub(crate) fn acknowledged(&mut self, run: &str, lease: &str) {
        self.unacked.retain(|kept| kept.request_id != run || !(lease.is_empty() || kept.lease_id == lease));
    }

    fn position(&self, run: &str) -> Option<usize> {
        self.unacked.iter().position(|kept| kept.request_id == run)
    }

    /// The results that wait for an acknowledgement, oldest first.
    pub(crate) fn unacked(&self) -> &[TaskResponse] {
        &self.unacked
    }

    /// Everything in hand, with its lease.
    pub(crate) fn held(&self) -> Vec<HeldTask> {
        let running = self.running.iter().map(|(run, handle)| HeldTask { request_id: run.clone(), lease_id: handle.lease() });
        let done = self.unacked.iter().map(|kept| HeldTask { request_id: kept.request_id.clone(), lease_id: kept.lease_id.clone() });
        running.chain(done).collect()
    }

    /// Tasks at work. A stopped one has left its place, though its result is still to come.
    pub(crate) fn active(&self) -> usize {
        self.running.values().filter(|handle| !handle.is_stopped()).count()
    }

    pub(crate) fn mean_latency_ms(&self) -> i32 {
        self.mean_latency_ms as i32
    }

    /// Whether nothing runs and nothing waits for an acknowledgement.
    pub(crate) fn is_clear(&self) -> bool {
        self.running.is_empty() && self.unacked.is_empty() && self.calls.is_empty()
    }
}
