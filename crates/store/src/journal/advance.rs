//! Moving a run on: to a worker, back to the queue, through its events, to its end.

use aiox_core::Result;
use aiox_model::{Ts, run::RunStatus};
use uuid::Uuid;

use super::insert::{EventRow, MessageRow, ReplyRow, Rows};
use crate::{
    Tx,
    audit::AuditRow,
    db::row,
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
    /// Given by the executing peer hub; absent = the next one here. An event that is not the next one is refused (`None`).
    pub sequence: Option<u64>,
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
    /// Its event; every change has one.
    pub event: NewEvent,
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

#[derive(sqlx::FromRow)]
struct Moved {
    last_seq: i64,
    conversation_id: Uuid,
    principal: String,
    reserved_tokens: i64,
    created_at: i64,
    tenant_id: Uuid,
    budget_window: Option<String>,
}

pub(super) async fn apply(tx: &mut Tx, advance: &Advance, rows: &mut Rows) -> Result<Option<u64>> {
    let ending = advance.ending.as_ref();
    let status = ending.map(|end| end.status).or(advance.status);
    let started = status == Some(RunStatus::Running);
    let moved = row!(
        tx,
        Moved,
        "UPDATE runs SET last_seq = last_seq + 1, status = COALESCE($2, status), worker_id = COALESCE($3, worker_id), \
         attempt = attempt + $4, started_at = COALESCE(started_at, $5), completed_at = $6, output = $7, error = $8, \
         model_used = COALESCE($9, model_used), input_tokens = $10, output_tokens = $11 \
         WHERE id = $1 AND status IN ('queued', 'running') AND last_seq + 1 = COALESCE($12, last_seq + 1) \
         RETURNING last_seq, conversation_id, principal, reserved_tokens, created_at, tenant_id, budget_window",
        advance.run,
        status.map(RunStatus::as_str),
        advance.worker.as_deref(),
        advance.attempts,
        started.then_some(advance.at.micros()),
        ending.map(|_| advance.at.micros()),
        ending.and_then(|end| end.output.as_deref()),
        ending.and_then(|end| end.error.as_deref()),
        ending.and_then(|end| end.model_used.as_deref()),
        signed(ending.map_or(0, |end| end.input_tokens)),
        signed(ending.map_or(0, |end| end.output_tokens)),
        advance.event.sequence.map(signed),
    )?;
    let Some(moved) = moved else { return Ok(None) };
    let sequence = unsigned(moved.last_seq);
    let event = &advance.event;
    rows.events.push(EventRow {
        run: advance.run,
        seq: sequence,
        id: event.id,
        kind: event.kind.clone(),
        at: event.at,
        payload: event.payload.clone(),
    });
    if let Some(end) = ending {
        let used = end.input_tokens + end.output_tokens;
        let accepted_at = Ts::from_micros(moved.created_at);
        let settle = Settle { principal: &moved.principal, accepted_at, reserved: unsigned(moved.reserved_tokens), used };
        quotas::settle(tx, &settle).await?;
        if let Some(window) = &moved.budget_window {
            tenant_use::settle(tx, moved.tenant_id, window, signed(used) - moved.reserved_tokens, 0).await?;
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
    }
    rows.audit.extend(advance.audit.clone());
    Ok(Some(sequence))
}
