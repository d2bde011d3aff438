//! From the stored run to what others see of it.

use aiox_model::run::{Run, RunError};
use aiox_store::runs::RunRow;
use uuid::Uuid;

use crate::{Reply, ReplyTo};

/// The document of a run.
pub(crate) fn view(row: RunRow) -> Run {
    Run {
        id: row.id,
        agent_jid: row.agent_jid,
        conversation_id: row.conversation,
        door: row.door,
        status: row.status,
        peer: row.peer,
        delivery: row.delivery,
        input: row.input,
        output: row.output,
        error: row.error,
        model_used: row.model_used,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        attempt: row.attempt,
        worker_id: row.worker,
        created_at: row.created_at,
        started_at: row.started_at,
        completed_at: row.completed_at,
    }
}

/// Outbox row (id, JSON) of the XMPP reply of a run that ends now; `None` if nobody waits for one there.
pub(crate) fn reply_for(row: &RunRow, id: Uuid, result: Result<&str, &RunError>) -> Option<(Uuid, String)> {
    let to: ReplyTo = serde_json::from_str(row.reply.as_deref()?).ok()?;
    let (text, error) = match result {
        Ok(text) => (text.to_owned(), None),
        Err(error) => (error_text(error), Some(error.code.clone())),
    };
    let reply = Reply { id, run: row.id, to, text, error };
    serde_json::to_string(&reply).ok().map(|payload| (id, payload))
}

/// The texts of the published contract for a chat window.
fn error_text(error: &RunError) -> String {
    match error.code.as_str() {
        "timeout" => "Sorry, the request timed out. Please try again.".into(),
        "canceled" => "The request was canceled.".into(),
        "internal_error" => "Internal error processing your message".into(),
        _ => format!("Error processing your message: {}", error.message),
    }
}
