//! Runs to workers and back.
//!
//! A worker connection is a [`WorkerSession`]. It takes runs that it can serve from the queue, one lease per run; only the holder of
//! a lease may answer. When a session ends, its leases go back to the queue under the same run ids; a run that has been lost
//! [`MAX_ATTEMPTS`] times fails. What a worker gives back as it leaves, and what it has when the hub stops, is not lost in this
//! sense. Time limits, silent workers and runs that no worker can serve are watched by [`Watch::run`].

mod session;
mod stranded;
mod task;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aiox_core::{
    Door, Error, Result,
    ports::{Clock, Events, Ids, Offers, Stranded, Waiting, WorkQueue, missing},
    run::{MAX_ATTEMPTS, Priority},
    steps::{End, Open},
};
use aiox_model::{
    RunId, Ts,
    run::{RunError, RunStatus},
};
use aiox_store::{Advance, Ending, Journal, Remembered, Store, agents, quotas, runs, runs::RunRow};
use dashmap::DashMap;
use serde_json::json;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use session::WorkerSession;
pub use task::{Task, TaskEvent, TaskOutcome};

use crate::{
    Replies, Vault,
    agent_config::{Setup, parse_config},
    bounds::Bounds,
    gateway::lines::{Line, Lines, Served},
    log::Log,
    runs::is_dry,
    urgency::{Candidate, Crew, Holding, Urgency},
};

/// How often time limits are looked at.
const TICK: Duration = Duration::from_millis(100);
/// A worker that has been silent for so long is disconnected; the contract's heartbeat is every 30 s.
const SILENCE: Duration = Duration::from_secs(95);
/// Latest ends of runs that make the reputation of agents after a start.
const REMEMBERED_ENDS: u32 = 2_000;

/// Who a worker says it is; its identity has been authenticated by the door.
#[derive(Debug, Clone, Default)]
pub struct WorkerInfo {
    /// Its id.
    pub worker_id: String,
    /// Tasks that it takes at once; 1 to 1,024.
    pub max_concurrent: u32,
    /// Provider names in lower case.
    pub providers: Vec<String>,
    /// Models as `provider/model`. A provider without any here serves every model.
    pub models: BTreeSet<String>,
    /// Pool that it belongs to; empty is the default pool.
    pub pool: String,
    /// Names of tools that it is able to run.
    pub tools: BTreeSet<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Version of the protocol that it speaks: 1 for the first one.
    pub protocol: u32,
}

/// What a worker says of itself every now and then.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heartbeat {
    /// Tasks at work.
    pub active_tasks: u32,
    /// Megabytes of memory.
    pub memory_usage_mb: u32,
    /// Milliseconds that a task takes on average.
    pub avg_latency_ms: u32,
}

/// What a session has to tell its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Stop working on a run.
    Cancel {
        /// The run.
        run: Uuid,
        /// `canceled`, `timeout` or `max_steps`.
        reason: &'static str,
    },
    /// The hub wants the connection closed: silent for too long, taken over, or shutting down.
    Close(&'static str),
}

/// What the composition root decides.
#[derive(Clone)]
pub struct DispatchOptions {
    /// Provider of agents that name none.
    pub default_provider: String,
    /// Order in the queue, shared with the runs' door.
    pub urgency: Urgency,
}

struct Lease {
    worker: Arc<Connected>,
    /// Distinguishes two leases of one run.
    id: Uuid,
    row: Arc<RunRow>,
    deadline: Instant,
    /// Bytes of live text that its worker has told.
    said: u64,
    step: Step,
    /// What its step may do.
    allowed: Arc<Allowed>,
    /// Gives the slot back when the lease ends.
    _slot: tokio::sync::OwnedSemaphorePermit,
    /// The tenant's share of the workers.
    _holding: Holding,
}

/// What the step of a leased run may do.
struct Allowed {
    /// Most answers of the model and calls of tools together.
    max_steps: Option<u64>,
    /// Names of tools.
    tools: BTreeSet<String>,
}

/// What the log of a leased run has begun. Absent until that is durable: then the log has to be asked. Who adds to the log of a
/// leased run, or ends it, holds the lock.
type Step = Arc<Mutex<Option<Open>>>;

struct Connected {
    /// Distinguishes two connections of one worker.
    id: Uuid,
    info: WorkerInfo,
    offers: Offers,
    slots: Arc<Semaphore>,
    notices: mpsc::UnboundedSender<Notice>,
    closed: CancellationToken,
    beat: std::sync::Mutex<(Instant, Heartbeat)>,
}

struct Inner {
    store: Store,
    remembered: Remembered,
    journal: Journal,
    log: Log,
    queue: Arc<dyn WorkQueue>,
    events: Arc<dyn Events>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    vault: Vault,
    replies: Replies,
    names: crate::HubNames,
    options: DispatchOptions,
    workers: DashMap<String, Arc<Connected>>,
    leases: DashMap<Uuid, Lease>,
    /// To workers that serve calls of models.
    lines: Lines,
    /// What sessions that have ended held. Bounded by the slots of all workers.
    lost: mpsc::UnboundedSender<Lost>,
    /// The hub is stopping: what its workers have is not held against them.
    closing: AtomicBool,
}

enum Lost {
    /// A leased run, and its worker with it.
    Lease(Lease),
    /// A leased run that its worker gave back.
    HandedBack(Lease),
    /// A run that had been taken from the queue and was not leased yet.
    Taken(RunId),
    /// A run whose worker was told to stop.
    Stopped(RunId),
}

/// The dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct Dispatch {
    inner: Arc<Inner>,
}

/// Keeps time limits and gives lost runs back. Made with [`Dispatch::new`], supervised by the composition root. Clones are the same
/// watch: one of them works at a time, and another goes on where it ended.
#[derive(Clone)]
pub struct Watch {
    inner: Arc<Inner>,
    lost: Arc<Mutex<mpsc::UnboundedReceiver<Lost>>>,
}

impl Dispatch {
    /// A dispatcher over the given ports, and what has to run beside it.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each dependency is named once, by the composition root alone")]
    pub fn new(
        store: Store,
        journal: Journal,
        queue: Arc<dyn WorkQueue>,
        events: Arc<dyn Events>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        vault: Vault,
        replies: Replies,
        names: crate::HubNames,
        options: DispatchOptions,
    ) -> (Self, Watch) {
        let (lost, back) = mpsc::unbounded_channel();
        let log = Log { store: store.clone(), journal: journal.clone(), watchers: events.clone(), ids: ids.clone() };
        let inner = Arc::new(Inner {
            remembered: Remembered::new(store.clone()),
            log,
            store,
            journal,
            queue,
            events,
            clock,
            ids,
            vault,
            replies,
            names,
            options,
            workers: DashMap::new(),
            leases: DashMap::new(),
            lines: Lines::default(),
            lost,
            closing: AtomicBool::new(false),
        });
        (Self { inner: inner.clone() }, Watch { inner, lost: Arc::new(Mutex::new(back)) })
    }

    /// Puts every run that the last process left unfinished back into the queue, and learns how the latest ones ended. Call once,
    /// before workers connect. How many wait.
    ///
    /// # Errors
    /// Database errors.
    pub async fn recover(&self) -> Result<usize> {
        let inner = &self.inner;
        for (agent, completed) in runs::latest_ends(&mut inner.store.read().await?, REMEMBERED_ENDS).await?.into_iter().rev() {
            inner.options.urgency.ended(agent, completed);
        }
        let mut after = (Ts::from_micros(i64::MIN), Uuid::nil());
        let mut count = 0;
        loop {
            let page = runs::unfinished(&mut inner.store.read().await?, after, 500).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = (last.created_at, last.id);
            for row in page.into_iter().filter(|row| row.peer.is_none()) {
                if inner.end_if_dry(&row).await? {
                    continue;
                }
                inner.offer(&row).await?;
                count += 1;
            }
        }
    }

    /// Connects a worker.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a worker with this id is connected and alive, [`Error::Invalid`] for a bad registration.
    pub fn register(&self, info: WorkerInfo) -> Result<WorkerSession> {
        session::register(&self.inner, info)
    }

    /// Lines to the connected workers that serve calls of models.
    #[must_use]
    pub fn lines(&self) -> &Lines {
        &self.inner.lines
    }

    /// Opens the line of a worker for calls of models, for as long as its session lasts.
    #[must_use]
    pub fn open_line(&self, served: Served) -> Line {
        self.inner.lines.open(self.inner.ids.uuid(), served)
    }

    /// Connected workers: registration, free slots, last heartbeat.
    #[must_use]
    pub fn workers(&self) -> Vec<(WorkerInfo, usize, Heartbeat)> {
        let mut all: Vec<_> = self
            .inner
            .workers
            .iter()
            .map(|worker| {
                let beat = worker.beat.lock().map(|beat| beat.1).unwrap_or_default();
                let busy = self.inner.leases.iter().filter(|lease| lease.worker.id == worker.id).count();
                (worker.info.clone(), (worker.info.max_concurrent as usize).saturating_sub(busy), beat)
            })
            .collect();
        all.sort_by(|a, b| a.0.worker_id.cmp(&b.0.worker_id));
        all
    }

    /// Runs that wait, and how many of them no connected worker can serve.
    pub async fn waiting(&self) -> (usize, usize) {
        let stranded = self.stranded().await;
        (self.inner.queue.depth().await, stranded.iter().map(|(lane, _)| lane.runs.len()).sum())
    }

    /// Runs that wait and that no connected worker can serve, by what they need, each with what is [`missing`].
    pub async fn stranded(&self) -> Vec<(Stranded, Vec<&'static str>)> {
        let workers = self.inner.offers();
        let found = self.inner.queue.stranded(&workers).await;
        let with_missing = |lane: Stranded| {
            let missing = missing(&lane.needs, &workers);
            (lane, missing)
        };
        found.into_iter().map(with_missing).collect()
    }

    /// Tells the worker of a run to stop; whether one has it.
    pub fn stop(&self, run: RunId, reason: &'static str) -> bool {
        self.inner.stop(run, reason)
    }

    /// The hub is stopping: from now on a session that ends has not lost its runs, they wait for the next start.
    pub fn closing(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
    }

    /// Asks every worker to disconnect, for a clean shutdown: their runs go back to the queue.
    pub fn close_all(&self) {
        self.closing();
        for worker in &self.inner.workers {
            let _ = worker.notices.send(Notice::Close("the hub is shutting down"));
            worker.closed.cancel();
        }
    }
}

impl Watch {
    /// Runs until `shutdown`, and then gives back what has been lost until then.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut lost = self.lost.lock().await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stranded = stranded::Stranded::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(lost) = lost.recv() => self.inner.recover(lost).await,
                // Without a lease it is just being prepared, and finds out itself that it has ended.
                run = self.inner.queue.revoked() => { self.inner.stop(run, "canceled"); }
                _ = tick.tick() => {
                    self.inner.expire().await;
                    self.inner.evict_silent();
                    stranded.look(&self.inner).await;
                }
            }
        }
        while let Ok(lost) = lost.try_recv() {
            self.inner.recover(lost).await;
        }
    }
}

impl Inner {
    fn offers(&self) -> Vec<Offers> {
        self.workers.iter().filter(|worker| !worker.closed.is_cancelled()).map(|worker| worker.offers.clone()).collect()
    }

    /// Workers have come or gone.
    fn crew_changed(&self) {
        self.options.urgency.crew(|| {
            let mut crew = Crew::default();
            for worker in self.workers.iter().filter(|worker| !worker.closed.is_cancelled()) {
                crew.places = crew.places.saturating_add(worker.info.max_concurrent);
                crew.tools.extend(worker.offers.tools.iter().cloned());
            }
            crew
        });
    }

    async fn recover(&self, lost: Lost) {
        match lost {
            Lost::Lease(lease) => {
                let counts = !self.closing.load(Ordering::Relaxed);
                self.give_back(lease, counts).await;
            }
            Lost::HandedBack(lease) => self.give_back(lease, false).await,
            Lost::Taken(run) => {
                if let Err(error) = self.queue.give_back(run).await {
                    tracing::error!(%run, error = %error.chain(), "a run could not be given back now; it will be at the next start");
                }
            }
            Lost::Stopped(run) => {
                if let Err(error) = self.queue.done(run).await {
                    tracing::error!(%run, error = %error.chain(), "the conversation of a stopped run goes on at the next start only");
                }
            }
        }
    }

    fn stop(&self, run: RunId, reason: &'static str) -> bool {
        // The lease ends here: what the worker still says about this run is of no use to anybody.
        let Some((_, lease)) = self.leases.remove(&run.uuid()) else { return false };
        let _ = lease.worker.notices.send(Notice::Cancel { run: run.uuid(), reason });
        let _ = self.lost.send(Lost::Stopped(run));
        true
    }

    /// Completes a run that only was to say what would be done. `true`: it was one.
    async fn end_if_dry(&self, row: &RunRow) -> Result<bool> {
        if ![Door::V1.as_str(), Door::Federation.as_str()].contains(&row.door.as_str()) {
            return Ok(false);
        }
        let mut db = self.store.read().await?;
        let first = runs::events(&mut db, row.id, 0, 1).await?;
        if !first.first().is_some_and(|event| is_dry(&event.payload.to_string())) {
            return Ok(false);
        }
        let agent = match row.agent {
            Some(agent) => agents::by_id(&mut db, agent.into()).await?,
            None => None,
        };
        drop(db);
        let agent = agent.ok_or_else(|| Error::internal("a dry run without its agent"))?;
        let config = parse_config(&agent)?;
        let bounds = Bounds::stored(row.bounds.as_deref(), row.id)?;
        let text = Setup::of(&config, &agent.config.tools, &self.options.default_provider, &bounds).plan(&agent, &config);
        self.end(row, TaskOutcome { text, ..TaskOutcome::default() }, None).await?;
        Ok(true)
    }

    async fn offer(&self, row: &RunRow) -> Result<()> {
        let Some(agent) = row.agent else { return Ok(()) };
        let found = agents::by_id(&mut self.store.read().await?, agent.into()).await?;
        // A run of an agent that has gone or become unreadable is still given to a worker-less lane's end: it fails when it is prepared.
        let config = found.as_ref().and_then(|agent| parse_config(agent).ok()).unwrap_or_default();
        let tools = found.map(|agent| agent.config.tools).unwrap_or_default();
        let bounds = Bounds::stored(row.bounds.as_deref(), row.id).unwrap_or_default();
        let needs = Setup::of(&config, &tools, &self.options.default_provider, &bounds).needs(&config);
        let order = self.options.urgency.order(&Candidate {
            accepted: row.created_at,
            priority: Priority::from_number(row.priority),
            tenant: row.tenant,
            agent,
            owner: config.capabilities.priority_weight,
            tools: &needs.tools,
        });
        self.queue
            .offer(Waiting {
                run: RunId(row.id),
                tenant: row.tenant.into(),
                conversation: row.conversation.into(),
                needs,
                order,
                patience: Duration::from_millis(row.timeout_ms),
            })
            .await
    }

    fn change(&self, run: Uuid) -> Advance {
        Advance::new(run, self.clock.now())
    }

    /// Ends a run durably, and first in its log what it has begun; then frees what it held. `false`: it had ended already.
    async fn end(&self, row: &RunRow, outcome: TaskOutcome, open: Option<Open>) -> Result<bool> {
        let at = self.clock.now();
        let (ok, model, duration_ms) = (outcome.error.is_none(), outcome.model_used.clone(), outcome.duration_ms);
        let (ending, kind, payload) = task::ending(row, outcome, self.ids.uuid(), self.ids.uuid());
        let replies = ending.reply.is_some();
        let (status, tokens) = (ending.status, (ending.input_tokens, ending.output_tokens));
        let used = tokens.0 + tokens.1;
        let answered = End::Answered { ok, model: Some(model.as_str()).filter(|name| !name.is_empty()), tokens, duration_ms };
        let change = Advance { ending: Some(ending), ..Advance::new(row.id, at) };
        let done = self.log.close(change, open, answered, (kind, payload)).await?;
        self.queue.remove(RunId(row.id)).await?;
        self.queue.done(RunId(row.id)).await?;
        if !done && used > 0 {
            // The answer came too late to be one, and was paid for all the same.
            let mut tx = self.store.begin().await?;
            quotas::charge_late(&mut tx, row.id, tokens.0, tokens.1, at).await?;
            tx.commit().await?;
        }
        if done {
            if let Some(agent) = row.agent {
                self.options.urgency.ended(agent, status == RunStatus::Completed);
            }
            if replies {
                self.replies.added();
            }
            metrics::counter!("aiox_tasks_completed_total", "status" => if status == RunStatus::Completed { "completed" } else { "error" })
                .increment(1);
            metrics::counter!("aiox_tokens_used_total", "direction" => "in").increment(tokens.0);
            metrics::counter!("aiox_tokens_used_total", "direction" => "out").increment(tokens.1);
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of one run")]
            metrics::histogram!("aiox_latency_seconds").record(at.millis_since(row.created_at) as f64 / 1000.0);
        }
        Ok(done)
    }

    /// A session has ended, or gives a run back: the run waits again, or has been lost too often. An attempt that does not count is
    /// taken back.
    async fn give_back(&self, lease: Lease, counts: bool) {
        let (run, row, step) = (lease.row.id, lease.row.clone(), lease.step.clone());
        let worker = lease.worker.info.worker_id.clone();
        drop(lease);
        let open = step.lock().await.clone();
        let result = async {
            let current = runs::by_id(&mut self.store.read().await?, run).await?;
            let Some(current) = current.filter(|current| !current.status.is_final()) else {
                return self.queue.done(RunId(run)).await;
            };
            if counts && current.attempt >= MAX_ATTEMPTS {
                let error = RunError { code: "worker_lost".into(), message: "the worker was lost too often".into(), retryable: true };
                return self.end(&row, TaskOutcome::failed(error), open).await.map(drop);
            }
            let reason = if counts { "worker_lost" } else { "worker_draining" };
            tracing::warn!(run = %RunId(run), worker, attempt = current.attempt, reason, "a run waits again");
            let retried = json!({ "reason": reason, "attempt": current.attempt });
            let attempts = if counts { 0 } else { -1 };
            let change = Advance { status: Some(RunStatus::Queued), attempts, ..self.change(run) };
            self.log.close(change, open, End::Retried, ("run.retried", retried)).await?;
            self.queue.give_back(RunId(run)).await
        };
        if let Err(error) = result.await {
            tracing::error!(run = %RunId(run), error = %error.chain(), "a lost run could not be given back now; it will be at the next start");
        }
    }

    /// Ends runs whose time is up.
    async fn expire(&self) {
        let now = Instant::now();
        let late: Vec<Uuid> = self.leases.iter().filter(|lease| lease.deadline <= now).map(|lease| *lease.key()).collect();
        for run in late {
            let Some((_, lease)) = self.leases.remove_if(&run, |_, lease| lease.deadline <= now) else { continue };
            let _ = lease.worker.notices.send(Notice::Cancel { run, reason: "timeout" });
            let error = RunError { code: "timeout".into(), message: "the run took longer than its time limit".into(), retryable: true };
            let open = lease.step.lock().await.clone();
            if let Err(error) = self.end(&lease.row, TaskOutcome::failed(error), open).await {
                tracing::error!(run = %RunId(run), error = %error.chain(), "a late run could not be ended");
            }
        }
    }

    /// Ends a run whose worker goes on beyond its bound of steps, and stops the worker.
    async fn exceed(&self, run: Uuid, worker: Uuid) -> Result<()> {
        let Some((_, lease)) = self.leases.remove_if(&run, |_, lease| lease.worker.id == worker) else { return Ok(()) };
        let _ = lease.worker.notices.send(Notice::Cancel { run, reason: "max_steps" });
        let message = "the run needed more steps than its max_steps".into();
        let error = RunError { code: "max_steps_exceeded".into(), message, retryable: false };
        let open = lease.step.lock().await.clone();
        self.end(&lease.row, TaskOutcome::failed(error), open).await.map(drop)
    }

    /// Disconnects workers that have not been heard of.
    fn evict_silent(&self) {
        for worker in &self.workers {
            let silent = worker.beat.lock().is_ok_and(|beat| beat.0.elapsed() > SILENCE);
            if silent && !worker.closed.is_cancelled() {
                tracing::warn!(worker = worker.info.worker_id, "no heartbeat; the worker is disconnected and its runs go back");
                let _ = worker.notices.send(Notice::Close("no heartbeat"));
                worker.closed.cancel();
            }
        }
    }

    /// Records that a worker spoke of a run that is not its own.
    async fn refuse(&self, worker: &str, run: Uuid, what: &'static str) -> Error {
        tracing::warn!(worker, run = %RunId(run), what, "a worker spoke of a run that is not its own");
        metrics::counter!("aiox_policy_violations_total", "kind" => "foreign_lease").increment(1);
        let written = async {
            let tenant = runs::by_id(&mut self.store.read().await?, run).await?.map_or_else(Uuid::nil, |row| row.tenant);
            let row = crate::audit::of_worker(&*self.clock, &*self.ids, tenant, worker, run, what);
            let mut tx = self.store.begin().await?;
            aiox_store::audit::note(&mut tx, &row).await?;
            tx.commit().await
        };
        if let Err(error) = written.await {
            tracing::error!(error = %error.chain(), "a refusal could not be recorded");
        }
        Error::forbidden("foreign_lease", "this run is not leased to this worker")
    }
}

fn ending_base(status: RunStatus, message: Uuid) -> Ending {
    Ending { status, output: None, error: None, model_used: None, input_tokens: 0, output_tokens: 0, message, reply: None }
}
