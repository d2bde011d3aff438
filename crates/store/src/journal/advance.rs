//! Moving a run on: to a worker, back to the queue, through its events, to its end.

use std::collections::{BTreeMap, HashMap, HashSet};

use aiox_core::Result;
use aiox_model::{Ts, run::RunStatus};
use uuid::Uuid;

use super::insert::{EventRow, MessageRow, ReplyRow, Rows};
use crate::{
    Tx,
    audit::AuditRow,
    many::{Many, rows_many},
    quotas::{self, Settle},
    rows::{signed, unsigned},
    tenant_use,
};

/// An event to add.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Stable id.
    pub id: Uuid,
    /// Type.
    pub kind: String,
    /// JSON.
    pub payload: String,
    /// When it happened.
    pub at: Ts,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// `completed`, `failed` or `canceled`.
    pub status: RunStatus,
    /// The answer.
    pub output: Option<String>,
    /// JSON of the error.
    pub error: Option<String>,
    /// Provider and model.
    pub model_used: Option<String>,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Id of the assistant's message, kept when there is an output.
    pub message: Uuid,
    /// Id and JSON of the reply for the XMPP door.
    pub reply: Option<(Uuid, String)>,
}

/// A change of one run.
#[derive(Debug, Clone)]
pub struct Advance {
    /// The run.
    pub run: Uuid,
    /// Now.
    pub at: Ts,
    /// Its events, in order; every change has one at least.
    pub events: Vec<NewEvent>,
    /// The sequence that the first of them has to get; absent = whatever is next. Another one refuses the change (`None`).
    pub first: Option<u64>,
    /// New status, when it changes without ending.
    pub status: Option<RunStatus>,
    /// Worker that has it now.
    pub worker: Option<String>,
    /// Added to the count of attempts: 1 when it is given to a worker, -1 when that one gave it back as it left.
    pub attempts: i64,
    /// Its end.
    pub ending: Option<Ending>,
    /// The audit record.
    pub audit: Option<AuditRow>,
}
impl Advance {
    /// A change that changes nothing yet.
    #[must_use]
    pub const fn new(run: Uuid, at: Ts) -> Self {
        Self { run, at, events: Vec::new(), first: None, status: None, worker: None, attempts: 0, ending: None, audit: None }
    }

    fn status(&self) -> Option<RunStatus> {
        self.ending.as_ref().map(|end| end.status).or(self.status)
    }
}

#[derive(sqlx::FromRow)]
struct Moved {
    id: Uuid,
    last_seq: i64,
    conversation_id: Uuid,
    principal: String,
    reserved_tokens: i64,
    created_at: i64,
    tenant_id: Uuid,
    budget_window: Option<String>,
}

static RUNS: Many = Many::new(
    "UPDATE runs SET last_seq = last_seq + v.column13, status = COALESCE(v.column2, status), worker_id = COALESCE(v.column3, worker_id), \
     attempt = attempt + v.column4, started_at = COALESCE(started_at, v.column5), completed_at = v.column6, output = v.column7, \
     error = v.column8, model_used = COALESCE(v.column9, model_used), input_tokens = v.column10, output_tokens = v.column11 \
     FROM {rows} WHERE runs.id = v.column1 AND status IN ('queued', 'running') AND last_seq + 1 = COALESCE(v.column12, last_seq + 1) \
     RETURNING runs.id, last_seq, conversation_id, principal, reserved_tokens, created_at, tenant_id, budget_window",
    13,
);

/// Applies all of a batch; the sequence that each got, in order. Changes of one run follow one another, those of different runs go
/// together.
pub(super) async fn apply(tx: &mut Tx, advances: &[&Advance], rows: &mut Rows) -> Result<Vec<Option<u64>>> {
    let mut outcomes = vec![None; advances.len()];
    let mut spent = Spent::default();
    let mut left: Vec<usize> = (0..advances.len()).collect();
    while !left.is_empty() {
        let mut runs = HashSet::with_capacity(left.len());
        let (round, later): (Vec<usize>, Vec<usize>) = left.into_iter().partition(|&index| runs.insert(advances[index].run));
        left = later;
        let changes: Vec<&Advance> = round.iter().map(|&index| advances[index]).collect();
        let mut moved: HashMap<Uuid, Moved> = change(tx, &changes).await?.into_iter().map(|moved| (moved.id, moved)).collect();
        for index in round {
            if let Some(moved) = moved.remove(&advances[index].run) {
                outcomes[index] = Some(unsigned(moved.last_seq));
                keep(advances[index], moved, rows, &mut spent);
            }
        }
    }
    let settles: Vec<Settle<'_>> = spent
        .runs
        .iter()
        .map(|(moved, used)| Settle {
            principal: &moved.principal,
            accepted_at: Ts::from_micros(moved.created_at),
            reserved: unsigned(moved.reserved_tokens),
            used: *used,
        })
        .collect();
    quotas::settle_all(tx, &settles).await?;
    for ((tenant, window), tokens) in spent.budgets {
        tenant_use::settle(tx, tenant, &window, tokens, 0).await?;
    }
    Ok(outcomes)
}

async fn change(tx: &mut Tx, advances: &[&Advance]) -> Result<Vec<Moved>> {
    Ok(rows_many!(tx, Moved, RUNS, advances, |advance| [
        advance.run,
        advance.status().map(RunStatus::as_str),
        advance.worker.as_deref(),
        advance.attempts,
        (advance.status() == Some(RunStatus::Running)).then_some(advance.at.micros()),
        advance.ending.as_ref().map(|_| advance.at.micros()),
        advance.ending.as_ref().and_then(|end| end.output.as_deref()),
        advance.ending.as_ref().and_then(|end| end.error.as_deref()),
        advance.ending.as_ref().and_then(|end| end.model_used.as_deref()),
        signed(advance.ending.as_ref().map_or(0, |end| end.input_tokens)),
        signed(advance.ending.as_ref().map_or(0, |end| end.output_tokens)),
        advance.first.map(signed),
        signed(advance.events.len() as u64),
    ]))
}

/// What runs that ended have really used.
#[derive(Default)]
struct Spent {
    runs: Vec<(Moved, u64)>,
    /// By tenant and window: tokens more than were reserved.
    budgets: BTreeMap<(Uuid, String), i64>,
}

/// Notes what else a change adds.
fn keep(advance: &Advance, moved: Moved, rows: &mut Rows, spent: &mut Spent) {
    let before = unsigned(moved.last_seq).saturating_sub(advance.events.len() as u64);
    for (seq, event) in (before + 1..).zip(&advance.events) {
        rows.events.push(EventRow {
            run: advance.run,
            seq,
            id: event.id,
            kind: event.kind.clone(),
            at: event.at,
            payload: event.payload.clone(),
        });
    }
    rows.audit.extend(advance.audit.clone());
    let Some(end) = &advance.ending else { return };
    let used = end.input_tokens + end.output_tokens;
    if let Some(window) = moved.budget_window.clone() {
        *spent.budgets.entry((moved.tenant_id, window)).or_default() += signed(used) - moved.reserved_tokens;
    }
    if let Some(output) = &end.output {
        rows.messages.push(MessageRow {
            id: end.message,
            conversation: moved.conversation_id,
            run: advance.run,
            role: "assistant",
            content: output.clone(),
            at: advance.at,
        });
    }
    if let Some((id, payload)) = &end.reply {
        rows.replies.push(ReplyRow { id: *id, payload: payload.clone(), at: advance.at });
    }
    spent.runs.push((moved, used));
}
