//! One connection of one worker.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aiox_core::{
    Error, Result,
    agent::is_name,
    agentos,
    ports::{Offers, Signal},
    quota,
    steps::{Asked, End, Open},
};
use aiox_model::{
    BareJid, RunId,
    run::{RunDelta, RunError, RunStatus},
};
use aiox_store::{Advance, Remembered, Store, conversations, runs, runs::RunRow};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Allowed, Connected, Heartbeat, Inner, Lease, Lost, Notice, Step, Task, TaskEvent, TaskOutcome, WorkerInfo};
use crate::{
    agent_config::{Setup, parse_config},
    bounds::Bounds,
    vault::prompt_place,
    whole::whole,
};

/// Models, and tools, that one worker may announce.
const MOST_OFFERS: usize = 1_000;

/// A connected worker. Dropped, its leases go back to the queue.
pub struct WorkerSession {
    inner: Arc<Inner>,
    worker: Arc<Connected>,
    notices: AsyncMutex<mpsc::UnboundedReceiver<Notice>>,
}

pub(super) fn register(inner: &Arc<Inner>, info: WorkerInfo) -> Result<WorkerSession> {
    let id = &info.worker_id;
    if id.is_empty() || id.len() > 200 || id.chars().any(char::is_control) {
        return Err(Error::invalid("worker_id", "must have 1 to 200 characters"));
    }
    if !(1..=1024).contains(&info.max_concurrent) {
        return Err(Error::invalid("max_concurrent", "must be from 1 to 1024"));
    }
    check_offers(&info)?;
    let (notices, receiver) = mpsc::unbounded_channel();
    let worker = Arc::new(Connected {
        id: inner.ids.uuid(),
        offers: Offers {
            providers: info.providers.iter().map(|name| name.to_lowercase()).collect(),
            models: info.models.clone(),
            pool: info.pool.clone(),
            tools: info.tools.clone(),
            labels: info.labels.clone(),
        },
        slots: Arc::new(Semaphore::new(info.max_concurrent as usize)),
        notices,
        closed: CancellationToken::new(),
        beat: Mutex::new((Instant::now(), Heartbeat::default())),
        info: info.clone(),
    });
    match inner.workers.entry(info.worker_id.clone()) {
        dashmap::Entry::Occupied(held) if !held.get().closed.is_cancelled() => {
            return Err(Error::conflict("worker_id_taken", "worker_id already registered"));
        }
        dashmap::Entry::Occupied(mut held) => drop(held.insert(worker.clone())),
        dashmap::Entry::Vacant(free) => drop(free.insert(worker.clone())),
    }
    inner.crew_changed();
    metrics::gauge!("aiox_worker_pool_connected").increment(1.0);
    tracing::info!(worker = info.worker_id, slots = info.max_concurrent, providers = ?worker.offers.providers, "worker connected");
    Ok(WorkerSession { inner: inner.clone(), worker, notices: AsyncMutex::new(receiver) })
}

fn check_offers(info: &WorkerInfo) -> Result<()> {
    if !info.pool.is_empty() && !is_name(&info.pool) {
        return Err(Error::invalid("pool", "must have 1 to 100 of A-Z a-z 0-9 . _ -"));
    }
    if info.tools.len() > MOST_OFFERS || !info.tools.iter().all(|tool| is_name(tool)) {
        return Err(Error::invalid("tools", format!("at most {MOST_OFFERS} names of 1 to 100 of A-Z a-z 0-9 . _ -")));
    }
    let model = |name: &String| name.len() <= 400 && name.split_once('/').is_some_and(|(one, two)| !one.is_empty() && !two.is_empty());
    if info.models.len() > MOST_OFFERS || !info.models.iter().all(model) {
        return Err(Error::invalid("models", format!("at most {MOST_OFFERS} of the form provider/model")));
    }
    Ok(())
}

impl WorkerSession {
    /// Who it is.
    #[must_use]
    pub fn info(&self) -> &WorkerInfo {
        &self.worker.info
    }

    /// Waits until a slot is free and a run is there that this worker can serve. Cancel-safe: a run that has been taken or leased
    /// when this is dropped goes back to the queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the session is closed; database errors.
    pub async fn next(&self) -> Result<Task> {
        loop {
            let slot = self.worker.slots.clone().acquire_owned().await.map_err(|_| closed())?;
            let waiting = tokio::select! {
                () = self.worker.closed.cancelled() => return Err(closed()),
                waiting = self.inner.queue.take(&self.worker.offers) => waiting?,
            };
            let mut taken = Taken { inner: &self.inner, run: Some(waiting.run), lease: None };
            let prepared = self.prepare(waiting.run, slot, &mut taken).await;
            taken.run = None;
            match prepared {
                Ok(Some(task)) => return Ok(task),
                Ok(None) => self.inner.queue.done(waiting.run).await?,
                Err(error) => {
                    tracing::error!(run = %waiting.run, error = %error.chain(), "a run could not be prepared");
                    Box::pin(self.spoil(waiting.run, &error)).await?;
                }
            }
        }
    }

    /// A run that cannot be prepared: transient faults let it wait again, damaged data ends it.
    async fn spoil(&self, run: RunId, error: &Error) -> Result<()> {
        let inner = &self.inner;
        if matches!(error, Error::Unavailable { .. }) {
            // The database is away: a short wait keeps this from becoming a busy loop.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return inner.queue.give_back(run).await;
        }
        let row = runs::by_id(&mut inner.store.read().await?, run.uuid()).await?;
        let Some(row) = row else { return inner.queue.done(run).await };
        let error = RunError { code: "internal_error".into(), message: "Internal error processing your message".into(), retryable: false };
        inner.end(&row, TaskOutcome::failed(error), None).await.map(drop)
    }

    /// Loads what the worker needs and leases the run to it. `None`: the run has ended meanwhile.
    async fn prepare(&self, run: RunId, slot: OwnedSemaphorePermit, taken: &mut Taken<'_>) -> Result<Option<Task>> {
        let inner = &self.inner;
        let row = match inner.journal.fresh(run.uuid()) {
            Some(row) => Some(row),
            None => runs::by_id(&mut inner.store.read().await?, run.uuid()).await?,
        };
        let Some(row) = row else { return Ok(None) };
        if row.status.is_final() {
            return Ok(None);
        }
        let agent = row.agent.ok_or_else(|| Error::internal("a run of a peer's agent was dispatched here"))?;
        let agent = inner.remembered.agent(agent.into()).await?.filter(|agent| agent.deleted_at.is_none());
        let Some(agent) = agent else {
            let error = RunError { code: "agent_deleted".into(), message: "the agent was deleted".into(), retryable: false };
            Box::pin(inner.end(&row, TaskOutcome::failed(error), None)).await?;
            return Ok(None);
        };
        let config = parse_config(&agent)?;
        let place = prompt_place(agent.id.uuid());
        let prompt = match inner.vault.open_known(agent.tenant, &place, &agent.prompt_sealed)? {
            Some(prompt) => prompt,
            None => inner.vault.open(&mut inner.store.read().await?, agent.tenant, &place, &agent.prompt_sealed).await?,
        };
        let prompt = String::from_utf8(prompt.to_vec()).map_err(Error::internal)?;
        let recent = recent(&inner.store, &row, &config.memory, inner.clock.now()).await?;
        let from_jid = sender(&inner.remembered, &row, &inner.names).await?;

        let mut llm = config.llm.clone();
        if config.governance.max_tokens_per_request > 0 {
            llm.max_tokens = llm.max_tokens.min(config.governance.max_tokens_per_request);
        }
        // The answer may have what was reserved for it, whatever the agent's configuration says by now.
        let answer = row.reserved.saturating_sub(quota::reserve(&row.input, 0));
        llm.max_tokens = llm.max_tokens.min(u32::try_from(answer).unwrap_or(u32::MAX)).max(1);
        let bounds = Bounds::stored(row.bounds.as_deref(), row.id)?;
        let setup = Setup::of(&config, &agent.config.tools, &inner.options.default_provider, &bounds);
        if bounds.model.is_some() {
            (llm.provider, llm.model) = (Some(setup.provider.clone()), setup.model.clone());
        }
        let allowed = Allowed { max_steps: bounds.max_steps, tools: setup.tools.keys().cloned().collect() };
        let lease = inner.ids.uuid();
        // The question with them.
        let messages = recent.len() + 1;
        let task = Task {
            run: row.id,
            lease,
            agent: agent.id.uuid(),
            owner: agent.owner.uuid(),
            agent_jid: row.agent_jid.clone(),
            agent_name: agent.name.clone(),
            from_jid,
            message: row.input.clone(),
            system_prompt: with_traits(prompt, &agent.config.traits).into(),
            model: setup.model,
            llm_config_json: serde_json::to_string(&llm).map_err(Error::internal)?,
            provider: setup.provider,
            memory_context_json: json!({ "recent_messages": recent, "relevant_memories": [] }).to_string(),
            memory_config_json: serde_json::to_string(&config.memory).map_err(Error::internal)?,
            tools_json: Value::Object(setup.tools).to_string(),
            max_steps: bounds.max_steps,
            conversation: row.conversation,
            attempt: row.attempt + 1,
            timeout_ms: row.timeout_ms,
            trace: row.trace.clone(),
        };
        let deadline = Instant::now() + Duration::from_millis(row.timeout_ms);
        let holding = inner.options.urgency.holding(row.tenant);
        let former = row.attempt > 0;
        let step = Step::default();
        let has_tools = !allowed.tools.is_empty();
        let held = Lease {
            worker: self.worker.clone(),
            id: lease,
            row: Arc::new(row),
            deadline,
            said: 0,
            step: step.clone(),
            allowed: Arc::new(allowed),
            _slot: slot,
            _holding: holding,
        };
        // Leased before anything is awaited: whoever has the lease from here on gives the run back.
        inner.leases.insert(task.run, held);
        taken.lease = Some(lease);
        let asked = Asked { provider: &task.provider, model: task.model.as_deref(), messages, has_tools };
        if !self.begin(&task, former, &asked, &step).await? {
            inner.leases.remove(&task.run);
            return Ok(None);
        }
        metrics::counter!("aiox_tasks_dispatched_total").increment(1);
        Ok(Some(task))
    }

    /// Makes durable that the worker has the run now. `false`: it has ended meanwhile.
    async fn begin(&self, task: &Task, former: bool, asked: &Asked<'_>, step: &Step) -> Result<bool> {
        let inner = &self.inner;
        let mut step = step.lock().await;
        let mut events = Vec::new();
        // A hub that was killed left its step open.
        if former {
            let (open, _) = inner.log.open(task.run).await?;
            if let Some(attempt) = open.attempt() {
                events = open.close(End::Retried);
                events.push(("run.retried", json!({ "reason": "hub_restarted", "attempt": attempt })));
            }
        }
        let mut open = Open::default();
        let worker = self.worker.info.worker_id.clone();
        events.push(("run.started", json!({ "status": "running", "worker_id": worker, "attempt": task.attempt })));
        events.push(("model.requested", open.begin(task.attempt, asked)));
        let change = Advance { status: Some(RunStatus::Running), worker: Some(worker), attempts: 1, ..inner.change(task.run) };
        let begun = inner.log.add(change, events).await?;
        *step = Some(open).filter(|_| begun);
        Ok(begun)
    }

    /// Waits for something to tell the worker.
    pub async fn notice(&self) -> Notice {
        match self.notices.lock().await.recv().await {
            Some(notice) => notice,
            None => Notice::Close("the session has ended"),
        }
    }

    /// A live piece of the answer. Ignored when the lease is not this session's: late deltas are of no use.
    pub async fn delta(&self, run: Uuid, text: String) {
        let mine = self.inner.leases.get_mut(&run).filter(|lease| lease.worker.id == self.worker.id);
        let offset = mine.map(|mut lease| {
            let offset = lease.said;
            lease.said += text.len() as u64;
            offset
        });
        if offset.is_some() {
            self.inner.events.publish(RunId(run), Signal::Delta(RunDelta { run_id: run, text, offset })).await;
        }
    }

    /// A call of a tool by the worker of a run, or its result. `false`: the run has ended meanwhile.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when the lease is not this session's; [`Error::Invalid`] for a call under an id that is in use, and for
    /// the result of a call that nobody waits for.
    pub async fn event(&self, run: Uuid, event: TaskEvent, mut payload: Map<String, Value>) -> Result<bool> {
        let inner = &self.inner;
        let mine = |lease: &Lease| lease.worker.id == self.worker.id;
        let held = inner.leases.get(&run).filter(|lease| mine(lease)).map(|lease| (lease.step.clone(), lease.allowed.clone()));
        let Some((step, allowed)) = held else {
            return Err(inner.refuse(&self.worker.info.worker_id, run, "event").await);
        };
        let mut step = step.lock().await;
        let Some(open) = step.as_mut().filter(|_| self.holds(run)) else { return Ok(false) };
        let attempt = open.attempt();
        match event {
            TaskEvent::ToolCall => {
                let (id, tool) = agentos::tool_called(inner.ids.uuid(), &Value::Object(payload.clone()));
                if open.waits(&id) {
                    return Err(Error::invalid("tool_call_id", "is the id of a call that has no result yet"));
                }
                if allowed.max_steps.is_some_and(|most| open.steps() >= most) {
                    drop(step);
                    return inner.exceed(run, self.worker.id).await.map(|()| false);
                }
                payload.insert("attempt".into(), attempt.into());
                payload.insert("tool_call_id".into(), id.clone().into());
                let mut events = vec![("tool.call", Value::Object(payload))];
                let may = allowed.tools.contains(&tool) || tool.strip_prefix("tool.").is_some_and(|name| allowed.tools.contains(name));
                if !may {
                    // The worker was not given this tool. What it does all the same is not taken for a result.
                    let error = json!({ "code": "tool_not_allowed", "message": "the run may not use this tool" });
                    let refused = json!({ "attempt": attempt, "tool_call_id": id, "tool_id": tool, "status": "error", "error": error });
                    events.push(("tool.result", refused));
                }
                let added = inner.log.add(inner.change(run), events).await?;
                open.called(id.clone(), tool);
                if !may {
                    open.returned(&id);
                }
                Ok(added)
            }
            TaskEvent::ToolResult => {
                let payload = Value::Object(payload);
                let id = agentos::tool_call_id(&payload).unwrap_or_default();
                let mut after = open.clone();
                let tool = after.returned(&id).ok_or_else(|| Error::invalid("tool_call_id", "is of no call that waits for a result"))?;
                let status = if payload["error"].is_null() { "ok" } else { "error" };
                let result = json!({
                    "attempt": attempt,
                    "tool_call_id": id,
                    "tool_id": tool,
                    "status": status,
                    "output": payload["output"],
                    "error": payload["error"],
                    "duration_ms": payload["duration_ms"].as_u64().unwrap_or(0),
                });
                let added = inner.log.add(inner.change(run), vec![("tool.result", result)]).await?;
                *open = after;
                Ok(added)
            }
        }
    }

    /// The result of a run. Durable when this returns. `false`: the run had ended already, and the result is dropped.
    ///
    /// A worker that lost its connection may send a result again: it is taken if the run was last given to this worker and nobody
    /// else has it now.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when the run is not this worker's; database errors, after which the worker may send it again.
    pub async fn complete(&self, run: Uuid, outcome: TaskOutcome) -> Result<bool> {
        let inner = &self.inner;
        let held = inner.leases.get(&run).map(|lease| (lease.worker.id, lease.row.clone(), lease.step.clone()));
        let mut step = Step::default();
        let row = match held {
            Some((holder, row, begun)) if holder == self.worker.id => {
                step = begun;
                row
            }
            Some(_) => return Err(inner.refuse(&self.worker.info.worker_id, run, "result").await),
            None => match runs::by_id(&mut inner.store.read().await?, run).await? {
                Some(row) if row.worker.as_deref() == Some(self.worker.info.worker_id.as_str()) => Arc::new(row),
                _ => return Err(inner.refuse(&self.worker.info.worker_id, run, "result").await),
            },
        };
        let ended = inner.clone();
        let done = whole(async move {
            let open = step.lock().await;
            ended.end(&row, outcome, open.clone()).await
        })
        .await?;
        inner.leases.remove_if(&run, |_, lease| lease.worker.id == self.worker.id);
        Ok(done)
    }

    /// Gives a run back that this worker has not begun or cannot finish because it leaves: the run waits again, and the attempt does
    /// not count. `false`: the run is not this session's.
    pub fn hand_back(&self, run: Uuid) -> bool {
        let lease = self.inner.leases.remove_if(&run, |_, lease| lease.worker.id == self.worker.id);
        let Some((_, lease)) = lease else { return false };
        self.inner.lost.send(Lost::HandedBack(lease)).is_ok()
    }

    /// Takes a heartbeat.
    pub fn heartbeat(&self, beat: Heartbeat) {
        if let Ok(mut last) = self.worker.beat.lock() {
            *last = (Instant::now(), beat);
        }
    }

    /// Notes that the worker has been heard of, by whatever message.
    pub fn heard(&self) {
        if let Ok(mut last) = self.worker.beat.lock() {
            last.0 = Instant::now();
        }
    }

    /// Resolves when the hub has closed this session.
    pub async fn closed(&self) {
        self.worker.closed.cancelled().await;
    }

    fn holds(&self, run: Uuid) -> bool {
        self.inner.leases.get(&run).is_some_and(|lease| lease.worker.id == self.worker.id)
    }
}

impl Drop for WorkerSession {
    fn drop(&mut self) {
        self.worker.closed.cancel();
        self.worker.slots.close();
        self.inner.workers.remove_if(&self.worker.info.worker_id, |_, worker| worker.id == self.worker.id);
        self.inner.crew_changed();
        metrics::gauge!("aiox_worker_pool_connected").decrement(1.0);
        let mine: Vec<Uuid> =
            self.inner.leases.iter().filter(|lease| lease.worker.id == self.worker.id).map(|lease| *lease.key()).collect();
        for run in mine {
            if let Some((_, lease)) = self.inner.leases.remove_if(&run, |_, lease| lease.worker.id == self.worker.id) {
                tracing::debug!(run = %RunId(run), lease = %lease.id, "lease ended with its session");
                let _ = self.inner.lost.send(Lost::Lease(lease));
            }
        }
        tracing::info!(worker = self.worker.info.worker_id, "worker disconnected");
    }
}

/// A run on its way from the queue to the worker: dropped before it arrives, it goes back.
struct Taken<'a> {
    inner: &'a Inner,
    run: Option<RunId>,
    /// The lease that it has got meanwhile.
    lease: Option<Uuid>,
}
impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(run) = self.run else { return };
        let leased = self.lease.and_then(|id| self.inner.leases.remove_if(&run.uuid(), |_, lease| lease.id == id));
        let _ = self.inner.lost.send(match leased {
            Some((_, lease)) => Lost::Lease(lease),
            None if self.lease.is_some() => return,
            None => Lost::Taken(run),
        });
    }
}

fn closed() -> Error {
    Error::unavailable("session_closed", "the worker session is closed")
}

fn with_traits(prompt: String, traits: &[String]) -> String {
    if traits.is_empty() { prompt } else { format!("{prompt}\n\nPersonality: {}.", traits.join(", ")) }
}

/// What was said lately, as workers get it.
async fn recent(store: &Store, row: &RunRow, memory: &aiox_model::agent::MemoryConfig, now: aiox_model::Ts) -> Result<Vec<Value>> {
    let recent = if memory.enabled && memory.short_term_enabled {
        let since = now.plus_seconds(-i64::from(memory.short_term_ttl_sec));
        conversations::latest(&mut store.read().await?, row.conversation, row.id, since, memory.max_short_term_msgs).await?
    } else {
        Vec::new()
    };
    let shown =
        recent.into_iter().map(|message| json!({ "role": message.role, "content": message.content, "timestamp": message.created_at }));
    Ok(shown.collect())
}

/// The bare address of whoever asked.
async fn sender(remembered: &Remembered, row: &RunRow, names: &crate::HubNames) -> Result<String> {
    if let Some(jid) = row.principal.strip_prefix("jid:") {
        return Ok(jid.to_owned());
    }
    let id: Option<Uuid> = row.principal.strip_prefix("user:").and_then(|id| id.parse().ok());
    let Some(id) = id else { return Ok(row.principal.clone()) };
    let user = remembered.account(id.into()).await?;
    let jid: Option<BareJid> = user.and_then(|user| names.user_jid(&user.username));
    Ok(jid.map_or_else(|| row.principal.clone(), |jid| jid.to_string()))
}
