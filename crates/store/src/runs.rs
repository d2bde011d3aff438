//! Runs and their events. Changes go through the [`crate::Journal`].

use aiox_core::Result;
use aiox_model::{
    Ts,
    run::{RunError, RunEvent, RunStatus},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    error::corrupt,
    rows::{json, signed, unsigned},
};

/// A run.
#[derive(Debug, Clone)]
pub struct RunRow {
    /// Its id.
    pub id: Uuid,
    /// Its tenant.
    pub tenant: Uuid,
    /// The agent, if it lives here.
    pub agent: Option<Uuid>,
    /// The agent's address.
    pub agent_jid: String,
    /// Domain of the peer hub that executes it.
    pub peer: Option<String>,
    /// Delivery to that peer.
    pub delivery: Option<String>,
    /// Node id of the peer hub that asked for it.
    pub origin: Option<String>,
    /// Its conversation.
    pub conversation: Uuid,
    /// Key of the principal.
    pub principal: String,
    /// The way in.
    pub door: String,
    /// Where it is.
    pub status: RunStatus,
    /// Class of urgency.
    pub priority: i64,
    /// What was asked.
    pub input: String,
    /// The answer.
    pub output: Option<String>,
    /// Why there is none.
    pub error: Option<RunError>,
    /// Provider and model.
    pub model_used: Option<String>,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// How often it was given to a worker.
    pub attempt: u32,
    /// The worker that has or had it.
    pub worker: Option<String>,
    /// Tokens that were reserved for it: those of its question and the most of its answer.
    pub reserved: u64,
    /// Where the answer goes besides the run (JSON).
    pub reply: Option<String>,
    /// Time it may take, in milliseconds.
    pub timeout_ms: u64,
    /// What it is bounded to (JSON), if it is.
    pub bounds: Option<String>,
    /// Sequence of its last event.
    pub last_seq: u64,
    /// Correlation id.
    pub trace: String,
    /// When it became durable.
    pub created_at: Ts,
    /// When a worker first had it.
    pub started_at: Option<Ts>,
    /// When it ended.
    pub completed_at: Option<Ts>,
}

#[derive(sqlx::FromRow)]
struct Stored {
    id: Uuid,
    tenant_id: Uuid,
    agent_id: Option<Uuid>,
    agent_jid: String,
    peer: Option<String>,
    delivery: Option<String>,
    origin: Option<String>,
    conversation_id: Uuid,
    principal: String,
    door: String,
    status: String,
    priority: i64,
    input: String,
    output: Option<String>,
    error: Option<String>,
    model_used: Option<String>,
    input_tokens: i64,
    output_tokens: i64,
    attempt: i64,
    worker_id: Option<String>,
    reserved_tokens: i64,
    reply: Option<String>,
    timeout_ms: i64,
    bounds: Option<String>,
    last_seq: i64,
    trace: String,
    created_at: i64,
    started_at: Option<i64>,
    completed_at: Option<i64>,
}
impl TryFrom<Stored> for RunRow {
    type Error = aiox_core::Error;
    fn try_from(row: Stored) -> Result<Self> {
        Ok(Self {
            id: row.id,
            tenant: row.tenant_id,
            agent: row.agent_id,
            agent_jid: row.agent_jid,
            peer: row.peer,
            delivery: row.delivery,
            origin: row.origin,
            conversation: row.conversation_id,
            principal: row.principal,
            door: row.door,
            status: RunStatus::parse(&row.status).ok_or_else(|| corrupt("runs", "status", row.id))?,
            priority: row.priority,
            input: row.input,
            output: row.output,
            error: row.error.map(|text| json("runs", "error", row.id, &text)).transpose()?,
            model_used: row.model_used,
            input_tokens: unsigned(row.input_tokens),
            output_tokens: unsigned(row.output_tokens),
            attempt: u32::try_from(row.attempt).unwrap_or(0),
            worker: row.worker_id,
            reserved: unsigned(row.reserved_tokens),
            reply: row.reply,
            timeout_ms: unsigned(row.timeout_ms),
            bounds: row.bounds,
            last_seq: unsigned(row.last_seq),
            trace: row.trace,
            created_at: Ts::from_micros(row.created_at),
            started_at: row.started_at.map(Ts::from_micros),
            completed_at: row.completed_at.map(Ts::from_micros),
        })
    }
}

macro_rules! runs_where {
    ($db:expr, $tail:literal $(, $bind:expr)* $(,)?) => {
        rows!($db, Stored, concat!(
            "SELECT id, tenant_id, agent_id, agent_jid, peer, delivery, origin, conversation_id, principal, door, status, priority, input, output, \
             error, model_used, input_tokens, output_tokens, attempt, worker_id, reserved_tokens, reply, timeout_ms, bounds, last_seq, trace, created_at, \
             started_at, completed_at FROM runs ", $tail) $(, $bind)*)
        .and_then(|found| found.into_iter().map(RunRow::try_from).collect::<Result<Vec<_>>>())
    };
}

/// The run with an id.
///
/// # Errors
/// Database errors.
pub async fn by_id(db: &mut impl AsDb, id: Uuid) -> Result<Option<RunRow>> {
    Ok(runs_where!(db, "WHERE id = $1", id)?.pop())
}

/// Runs that have not ended, oldest first, after (`created_at`, `id`); at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn unfinished(db: &mut impl AsDb, after: (Ts, Uuid), limit: u32) -> Result<Vec<RunRow>> {
    runs_where!(
        db,
        "WHERE status IN ('queued', 'running') AND (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3",
        after.0.micros(),
        after.1,
        i64::from(limit)
    )
}

/// The latest runs of local agents that were completed or failed, newest first: (agent, completed); at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn latest_ends(db: &mut impl AsDb, limit: u32) -> Result<Vec<(Uuid, bool)>> {
    let found = rows!(
        db,
        (Uuid, String),
        "SELECT agent_id, status FROM runs WHERE agent_id IS NOT NULL AND status IN ('completed', 'failed') ORDER BY id DESC LIMIT $1",
        i64::from(limit)
    )?;
    Ok(found.into_iter().map(|(agent, status)| (agent, status == RunStatus::Completed.as_str())).collect())
}

/// Runs of an agent, newest first, with the count over all pages.
///
/// # Errors
/// Database errors.
pub async fn of_agent(db: &mut impl AsDb, agent: Uuid, limit: u32, offset: u64) -> Result<(Vec<RunRow>, u64)> {
    let found = runs_where!(
        db,
        "WHERE agent_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3",
        agent,
        i64::from(limit),
        signed(offset)
    )?;
    let count = row!(db, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM runs WHERE agent_id = $1", agent)?;
    Ok((found, unsigned(count.map_or(0, |count| count.0))))
}

/// Runs of a principal with one agent, newest first, with the count over all pages.
///
/// # Errors
/// Database errors.
pub async fn of_principal(db: &mut impl AsDb, principal: &str, agent_jid: &str, limit: u32, offset: u64) -> Result<(Vec<RunRow>, u64)> {
    let found = runs_where!(
        db,
        "WHERE principal = $1 AND agent_jid = $2 ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4",
        principal,
        agent_jid,
        i64::from(limit),
        signed(offset)
    )?;
    let count =
        row!(db, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM runs WHERE principal = $1 AND agent_jid = $2", principal, agent_jid)?;
    Ok((found, unsigned(count.map_or(0, |count| count.0))))
}

/// Runs of a principal, newest first; at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn latest_of_principal(db: &mut impl AsDb, principal: &str, limit: u32) -> Result<Vec<RunRow>> {
    runs_where!(db, "WHERE principal = $1 ORDER BY created_at DESC, id DESC LIMIT $2", principal, i64::from(limit))
}

/// Runs that a peer hub executes and that have not ended, oldest first; at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn at_peer(db: &mut impl AsDb, peer: &str, limit: u32) -> Result<Vec<RunRow>> {
    runs_where!(db, "WHERE status IN ('queued', 'running') AND peer = $1 ORDER BY created_at, id LIMIT $2", peer, i64::from(limit))
}

/// Records how far the delivery to the executing peer has come.
///
/// # Errors
/// Database errors.
pub async fn set_delivery(tx: &mut Tx, run: Uuid, delivery: &str) -> Result<()> {
    exec!(tx, "UPDATE runs SET delivery = $2 WHERE id = $1", run, delivery).map(drop)
}

type StoredEvent = (Uuid, i64, Uuid, String, i64, String);

/// Events of a run after a sequence, in order; at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn events(db: &mut impl AsDb, run: Uuid, after: u64, limit: u32) -> Result<Vec<RunEvent>> {
    rows!(
        db,
        StoredEvent,
        "SELECT run_id, seq, id, kind, at, payload FROM run_events WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        run,
        signed(after),
        i64::from(limit)
    )?
    .into_iter()
    .map(|(run_id, seq, id, kind, at, payload)| {
        let payload: Value = json("run_events", "payload", id, &payload)?;
        Ok(RunEvent { id, run_id, sequence: unsigned(seq), kind, time: Ts::from_micros(at), payload })
    })
    .collect()
}

/// How many events of each type a run has.
///
/// # Errors
/// Database errors.
pub async fn counts(db: &mut impl AsDb, run: Uuid) -> Result<Vec<(String, u64)>> {
    let found = rows!(db, (String, i64), "SELECT kind, CAST(COUNT(*) AS BIGINT) FROM run_events WHERE run_id = $1 GROUP BY kind", run)?;
    Ok(found.into_iter().map(|(kind, count)| (kind, unsigned(count))).collect())
}
