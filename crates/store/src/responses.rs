//! Stored responses of the OpenAI-compatible endpoints, so that a later one can continue them.

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row},
};

/// Responses that are kept for one principal; the oldest go first.
pub const MOST: i64 = 200;

/// One response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseRow {
    /// Its id, `resp_…`.
    pub id: String,
    /// The tenant.
    pub tenant: Uuid,
    /// Key of the principal.
    pub principal: String,
    /// The response that it continues.
    pub previous: Option<String>,
    /// The agent's conversation that it belongs to; absent for a model.
    pub conversation: Option<Uuid>,
    /// What was asked and answered in this turn (JSON list); empty for an agent, whose conversation is kept elsewhere.
    pub turn: String,
    /// The response as the client got it (JSON).
    pub body: String,
    /// When it was made.
    pub created_at: Ts,
}

type Columns = (String, Uuid, String, Option<String>, Option<Uuid>, String, String, i64);

/// Adds a response and drops the principal's oldest ones above [`MOST`].
///
/// # Errors
/// Database errors.
pub async fn insert(tx: &mut Tx, response: &ResponseRow) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO openai_responses (id, tenant_id, principal, previous_id, conversation_id, turn, body, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &response.id,
        response.tenant,
        &response.principal,
        response.previous.as_deref(),
        response.conversation,
        &response.turn,
        &response.body,
        response.created_at.micros(),
    )?;
    exec!(
        tx,
        "DELETE FROM openai_responses WHERE tenant_id = $1 AND principal = $2 AND id NOT IN \
         (SELECT id FROM openai_responses WHERE tenant_id = $1 AND principal = $2 ORDER BY created_at DESC, id DESC LIMIT $3)",
        response.tenant,
        &response.principal,
        MOST,
    )
    .map(drop)
}

/// A response of a principal.
///
/// # Errors
/// Database errors.
pub async fn get(db: &mut impl AsDb, tenant: Uuid, principal: &str, id: &str) -> Result<Option<ResponseRow>> {
    let found = row!(
        db,
        Columns,
        "SELECT id, tenant_id, principal, previous_id, conversation_id, turn, body, created_at FROM openai_responses \
         WHERE id = $1 AND tenant_id = $2 AND principal = $3",
        id,
        tenant,
        principal
    )?;
    Ok(found.map(|(id, tenant, principal, previous, conversation, turn, body, created_at)| ResponseRow {
        id,
        tenant,
        principal,
        previous,
        conversation,
        turn,
        body,
        created_at: Ts::from_micros(created_at),
    }))
}

/// Deletes a response of a principal. Whether it was there.
///
/// # Errors
/// Database errors.
pub async fn delete(tx: &mut Tx, tenant: Uuid, principal: &str, id: &str) -> Result<bool> {
    let gone = exec!(tx, "DELETE FROM openai_responses WHERE id = $1 AND tenant_id = $2 AND principal = $3", id, tenant, principal)?;
    Ok(gone == 1)
}

/// Deletes responses from before a time. How many.
///
/// # Errors
/// Database errors.
pub async fn purge(tx: &mut Tx, before: Ts) -> Result<u64> {
    exec!(tx, "DELETE FROM openai_responses WHERE created_at < $1", before.micros())
}
