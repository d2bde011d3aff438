//! From the stored run to what others see of it.

use aiox_model::run::Run;
use aiox_store::runs::RunRow;

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
