//! One stream of one worker, from its registration to its end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aiox_app::gateway::lines::{Line, LineOrder};
use aiox_app::{Notice, Task, TaskEvent as Step, TaskOutcome, WorkerSession};
use aiox_core::{Error, Result as AppResult};
use aiox_crypto::worker_token::Proof;
use aiox_proto::WORKER_PROTOCOL;
use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::{
    CancelModel, CancelTask, Drain, RegisterAck, ResultAck, ServerMessage, TaskEvent, TaskResponse, WorkerMessage,
};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::auth::WorkerIdentity;
use crate::live::Present;
use crate::service::Shared;
use crate::wire::{self, Told};

/// Longest time from the opening of a stream to its registration.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages kept for a worker that does not read; at the bound nothing more is read from it.
const MAX_WAITING: usize = 256;
/// Results of a worker that are being stored; at the bound nothing more is read from it.
const MAX_STORING: usize = 256;
/// Steps of one run; the worker's later ones are dropped.
const MAX_EVENTS: u32 = 256;
/// Largest step, in bytes of JSON.
const MAX_EVENT_BYTES: usize = 64 * 1024;
/// First pause before a result is stored again; it doubles up to `MAX_STORE_PAUSE`.
const STORE_PAUSE: Duration = Duration::from_millis(100);
const MAX_STORE_PAUSE: Duration = Duration::from_secs(5);
/// Runs of one worker that are being taken at once. Taking one ends with a durable commit, and
/// commits that wait together are done together.
const MAX_TAKERS: u32 = 16;
/// Stopped runs that are remembered, for a stop may overtake the run itself.
const MAX_STOPPED: usize = 64;
/// Pause after a run could not be taken.
const TAKE_PAUSE: Duration = Duration::from_millis(500);
/// Time to tell a worker why its session has ended.
const TELL_AFTER_END: Duration = Duration::from_secs(5);
/// Time that results get to be stored after their worker has gone.
const STORE_AFTER_END: Duration = Duration::from_secs(5);

type Out = mpsc::Sender<Result<ServerMessage, Status>>;

/// Why a session ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The worker closed the stream or its connection broke.
    Gone,
    /// The hub's use case closed it.
    Closed(&'static str),
    /// It did not read for the stall timeout.
    Stalled,
    /// It gave no sign of life.
    Silent,
    /// Everything is drained, or the time for it is over.
    Drained,
    /// It gave a run back though it had room for it.
    Overcommitted,
    /// What it proved itself with is no longer good; the words are told to it.
    Unproven(String),
}

/// Serves a worker's stream.
pub(crate) async fn serve(shared: Arc<Shared>, identity: WorkerIdentity, mut incoming: Streaming<WorkerMessage>, out: Out) {
    let (session, line) = match admit(&shared, &identity, &mut incoming).await {
        Ok((session, line)) => (Arc::new(session), line),
        Err(refusal) => {
            tracing::info!(refusal, "a worker was refused");
            let ack = RegisterAck { accepted: false, message: refusal, ..RegisterAck::default() };
            let _ = timeout(shared.options.stall_timeout, out.send(Ok(message(FromHub::RegisterAck(ack))))).await;
            return;
        }
    };
    let worker = session.info().worker_id.clone();
    let newer = session.info().protocol >= 2;
    let ack = RegisterAck {
        accepted: true,
        message: "registered".into(),
        protocol: if newer { WORKER_PROTOCOL } else { 0 },
        heartbeat_interval_ms: if newer { u32::try_from(shared.options.heartbeat_interval.as_millis()).unwrap_or(0) } else { 0 },
    };
    let pump = Pump {
        present: shared.live.enter(&session, &identity),
        revoked: revoked(&shared, identity.proof),
        takers: (0..session.info().max_concurrent.min(MAX_TAKERS)).map(|_| next_task(&session, Duration::ZERO)).collect(),
        notice: next_notice(&session),
        session,
        line,
        newer,
        shared,
        held: HashMap::new(),
        stopped: VecDeque::new(),
        waiting: VecDeque::from([FromHub::RegisterAck(ack)]),
        storing: FuturesUnordered::new(),
        taking: true,
        draining: false,
        overcommitted: false,
    };
    metrics::gauge!("aiox_python_worker_health", "worker" => worker.clone()).set(1.0);
    let end = pump.run(&mut incoming, &out).await;
    metrics::gauge!("aiox_python_worker_health", "worker" => worker.clone()).set(0.0);
    tracing::info!(worker, ?end, "a worker's session ended");
    if let End::Unproven(why) = end {
        let _ = timeout(TELL_AFTER_END, out.send(Err(Status::unauthenticated(why)))).await;
    }
}

/// Reads the registration and decides about it; the error is told to the worker.
async fn admit(
    shared: &Shared,
    identity: &WorkerIdentity,
    incoming: &mut Streaming<WorkerMessage>,
) -> Result<(WorkerSession, Line), String> {
    let first = timeout(HANDSHAKE_TIMEOUT, incoming.message()).await;
    let Ok(Ok(Some(WorkerMessage { payload: Some(ToHub::Register(register)) }))) = first else {
        return Err("first message must be RegisterWorker".into());
    };
    if !identity.may_be(&register.worker_id) {
        return Err("worker_id does not belong to the credential".into());
    }
    if shared.drain.is_cancelled() {
        return Err("the hub is shutting down".into());
    }
    let served = wire::served(&register);
    let session = shared.dispatch.register(wire::worker(register)).map_err(|error| error.to_string())?;
    Ok((session, shared.dispatch.open_line(served)))
}

/// A run at the worker.
struct Held {
    provider: String,
    since: Instant,
    /// Steps that the worker told of it.
    events: u32,
}

struct Stored {
    run: Uuid,
    lease_id: String,
    stored: bool,
}

/// The session at work. Fields that hold the session come before it goes: when the last one is
/// dropped, its leases go back.
struct Pump {
    shared: Arc<Shared>,
    present: Present,
    session: Arc<WorkerSession>,
    line: Line,
    newer: bool,
    takers: FuturesUnordered<BoxFuture<'static, AppResult<Task>>>,
    notice: BoxFuture<'static, Notice>,
    /// Ends when the worker's credential is revoked.
    revoked: BoxFuture<'static, Status>,
    /// The runs at the worker.
    held: HashMap<Uuid, Held>,
    /// The runs that were stopped last.
    stopped: VecDeque<Uuid>,
    /// Messages for the worker, in order.
    waiting: VecDeque<FromHub>,
    storing: FuturesUnordered<BoxFuture<'static, Stored>>,
    /// Whether the worker is given further runs.
    taking: bool,
    draining: bool,
    overcommitted: bool,
}

impl Pump {
    async fn run(mut self, incoming: &mut Streaming<WorkerMessage>, out: &Out) -> End {
        let end = self.work(incoming, out).await;
        // What has arrived is kept, though its worker has gone.
        let _ = timeout(STORE_AFTER_END, async { while self.storing.next().await.is_some() {} }).await;
        end
    }

    async fn work(&mut self, incoming: &mut Streaming<WorkerMessage>, out: &Out) -> End {
        let options = self.shared.options;
        let drain = self.shared.drain.clone();
        let silent_after = if self.newer { options.silent_after } else { options.silent_after_first };
        let mut moved = Instant::now();
        let mut idle = true;
        let mut drain_by = Instant::now();
        loop {
            // The worker has the whole time for the first message after a quiet while too.
            if std::mem::replace(&mut idle, self.waiting.is_empty()) {
                moved = Instant::now();
            }
            if idle {
                if self.draining && self.held.is_empty() && self.storing.is_empty() && self.line.is_idle() {
                    return End::Drained;
                }
                if self.overcommitted {
                    return End::Overcommitted;
                }
            }
            let room = self.waiting.len() < MAX_WAITING && self.storing.len() < MAX_STORING;
            let silent_at = self.present.last_heard() + silent_after;
            let until = self.present.until();
            tokio::select! {
                read = incoming.message(), if room => match read {
                    Ok(Some(WorkerMessage { payload })) => {
                        self.present.heard();
                        self.session.heard();
                        if let Some(payload) = payload {
                            self.take(payload).await;
                        }
                    }
                    Ok(None) | Err(_) => return End::Gone,
                },
                permit = out.reserve(), if !self.waiting.is_empty() => {
                    let Ok(permit) = permit else { return End::Gone };
                    if let Some(payload) = self.waiting.pop_front() {
                        permit.send(Ok(message(payload)));
                        moved = Instant::now();
                    }
                }
                Some(task) = self.takers.next(), if self.taking => self.taken(task),
                order = self.line.next() => self.waiting.push_back(match order {
                    LineOrder::Call(order) => FromHub::ModelRequest(Box::new(wire::model(*order))),
                    LineOrder::Cancel(call) => {
                        FromHub::CancelModel(CancelModel { request_id: call.to_string(), reason: "canceled".into() })
                    }
                }),
                notice = &mut self.notice => match notice {
                    Notice::Cancel { run, reason } => {
                        self.held.remove(&run);
                        self.stopped.push_back(run);
                        if self.stopped.len() > MAX_STOPPED {
                            self.stopped.pop_front();
                        }
                        if self.newer {
                            self.waiting.push_back(FromHub::CancelTask(CancelTask {
                                request_id: run.to_string(),
                                reason: reason.into(),
                            }));
                        }
                        self.notice = next_notice(&self.session);
                    }
                    Notice::Close(reason) => return End::Closed(reason),
                },
                Some(stored) = self.storing.next() => self.stored(stored),
                () = sleep_until(moved + options.stall_timeout), if !self.waiting.is_empty() => {
                    return End::Stalled;
                }
                () = sleep_until(silent_at) => {
                    // A heartbeat may have come meanwhile.
                    if self.present.last_heard() + silent_after <= Instant::now() {
                        return End::Silent;
                    }
                }
                () = sleep_until(until.unwrap_or(silent_at)), if until.is_some() => {
                    // A heartbeat may have brought a younger token meanwhile.
                    if self.present.until().is_some_and(|until| until <= Instant::now()) {
                        return End::Unproven("worker token expired".into());
                    }
                }
                refusal = &mut self.revoked => return End::Unproven(refusal.message().to_owned()),
                () = drain.cancelled(), if !self.draining => {
                    self.draining = true;
                    self.taking = false;
                    drain_by = Instant::now() + options.drain_timeout.saturating_sub(Duration::from_secs(1));
                    if self.newer {
                        self.waiting.push_back(FromHub::Drain(Drain {}));
                    }
                }
                () = sleep_until(drain_by), if self.draining => return End::Drained,
            }
        }
    }

    fn taken(&mut self, task: AppResult<Task>) {
        let pause = match task {
            Ok(task) => {
                if !self.stopped.contains(&task.run) {
                    let held = Held { provider: task.provider.clone(), since: Instant::now(), events: 0 };
                    self.held.insert(task.run, held);
                    self.waiting.push_back(FromHub::TaskRequest(Box::new(wire::task(task))));
                }
                Duration::ZERO
            }
            // The notice that the session is closed comes by itself.
            Err(error) if error.code() == "session_closed" => return,
            Err(error) => {
                tracing::warn!(error = %error.chain(), "no run could be taken");
                TAKE_PAUSE
            }
        };
        self.takers.push(next_task(&self.session, pause));
    }

    async fn take(&mut self, payload: ToHub) {
        match payload {
            ToHub::TaskResponse(response) => self.result(response),
            ToHub::TaskDelta(delta) => {
                if let Ok(run) = delta.request_id.parse() {
                    self.session.delta(run, delta.text).await;
                }
            }
            ToHub::TaskEvent(event) => self.event(event).await,
            ToHub::ModelDelta(delta) => {
                if let Ok(call) = delta.request_id.parse() {
                    self.line.delta(call, delta.text);
                }
            }
            ToHub::ModelResponse(response) => {
                if let Ok(call) = response.request_id.parse() {
                    self.line.ended(call, wire::answered(response));
                }
            }
            ToHub::DrainNotice(_) => {
                self.taking = false;
                self.line.leave();
            }
            // Its leases last as long as its session: any message keeps them.
            ToHub::LeaseRenew(_) => {}
            ToHub::Register(_) => tracing::debug!("a second registration is ignored"),
        }
    }

    fn result(&mut self, response: TaskResponse) {
        let lease_id = response.lease_id.clone();
        let Ok(run) = response.request_id.parse::<Uuid>() else {
            tracing::warn!(worker = self.session.info().worker_id, "a result of no run was refused");
            return;
        };
        if let Some(held) = self.held.get(&run) {
            let seconds = Duration::from_millis(response.duration_ms.max(0).unsigned_abs().into());
            metrics::histogram!("aiox_llm_inference_time", "provider" => held.provider.clone()).record(seconds);
            metrics::histogram!("aiox_grpc_request_duration", "method" => "task").record(held.since.elapsed());
        }
        match wire::told(response) {
            Told::End(outcome) => {
                let session = Arc::clone(&self.session);
                self.storing.push(store(session, run, lease_id, outcome).boxed());
            }
            // Others may have it at once. Only of a worker that leaves: any other one has room for what it was given.
            Told::HandedBack if !self.taking => {
                self.held.remove(&run);
                let stored = self.session.hand_back(run);
                self.acknowledge(Stored { run, lease_id, stored });
            }
            // The run goes back with the session.
            Told::HandedBack | Told::Busy => {
                self.overcommitted |= self.taking;
                self.held.remove(&run);
                self.acknowledge(Stored { run, lease_id, stored: true });
            }
        }
    }

    fn stored(&mut self, stored: Stored) {
        self.held.remove(&stored.run);
        self.acknowledge(stored);
    }

    fn acknowledge(&mut self, stored: Stored) {
        if self.newer {
            self.waiting.push_back(FromHub::ResultAck(ResultAck {
                request_id: stored.run.to_string(),
                lease_id: stored.lease_id,
                stored: stored.stored,
            }));
        }
    }

    /// A step for the run's log. A worker may tell of its tools; the run's own states are not its
    /// to write.
    async fn event(&mut self, event: TaskEvent) {
        let Ok(run) = event.request_id.parse::<Uuid>() else {
            return;
        };
        let within = self.held.get_mut(&run).is_none_or(|held| {
            held.events += 1;
            held.events <= MAX_EVENTS
        });
        let kind = match event.r#type.as_str() {
            "tool.call" => Some(Step::ToolCall),
            "tool.result" => Some(Step::ToolResult),
            _ => None,
        };
        let Some(kind) = kind.filter(|_| within && event.payload_json.len() <= MAX_EVENT_BYTES) else {
            tracing::warn!(%run, kind = event.r#type, "a worker's event was dropped");
            return;
        };
        let payload = serde_json::from_str(&event.payload_json).unwrap_or_default();
        if let Err(error) = self.session.event(run, kind, payload).await {
            tracing::warn!(%run, error = %error.chain(), "a worker's event was not stored");
        }
    }
}

fn next_task(session: &Arc<WorkerSession>, pause: Duration) -> BoxFuture<'static, AppResult<Task>> {
    let session = Arc::clone(session);
    async move {
        // Even a sleep of no length waits for the timer's next tick.
        if !pause.is_zero() {
            sleep(pause).await;
        }
        session.next().await
    }
    .boxed()
}

fn revoked(shared: &Arc<Shared>, proof: Proof) -> BoxFuture<'static, Status> {
    let admission = shared.admission.clone();
    async move { admission.revoked(proof).await }.boxed()
}

fn next_notice(session: &Arc<WorkerSession>) -> BoxFuture<'static, Notice> {
    let session = Arc::clone(session);
    async move { session.notice().await }.boxed()
}

/// Stores a result, however often it takes: until it is durable, or refused, or the session ends.
async fn store(session: Arc<WorkerSession>, run: Uuid, lease_id: String, outcome: TaskOutcome) -> Stored {
    let mut pause = STORE_PAUSE;
    let stored = loop {
        match session.complete(run, outcome.clone()).await {
            Ok(stored) => break stored,
            Err(error) if error.retryable() || matches!(error, Error::Internal(_)) => {
                tracing::warn!(%run, error = %error.chain(), "a result is not stored yet");
                sleep(pause).await;
                pause = (pause * 2).min(MAX_STORE_PAUSE);
            }
            Err(error) => {
                tracing::warn!(%run, error = %error.chain(), "a result was refused");
                break false;
            }
        }
    };
    Stored { run, lease_id, stored }
}

fn message(payload: FromHub) -> ServerMessage {
    ServerMessage { payload: Some(payload) }
}
