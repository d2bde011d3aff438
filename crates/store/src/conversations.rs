//! Conversations and their messages.

use aiox_core::Result;
use aiox_model::{
    Ts,
    run::{Conversation, HistoryMessage},
};
use uuid::Uuid;

use crate::{
    AsDb,
    db::{row, rows},
    rows::{signed, unsigned},
};

type Stored = (Uuid, String, String, i64, i64);
fn conversation((id, agent_jid, principal, created, updated): Stored) -> Conversation {
    Conversation { id, agent_jid, principal, created_at: Ts::from_micros(created), updated_at: Ts::from_micros(updated) }
}

/// The conversation with an id, if it is this principal's.
///
/// # Errors
/// Database errors.
pub async fn of_principal(db: &mut impl AsDb, id: Uuid, principal: &str) -> Result<Option<Conversation>> {
    Ok(row!(
        db,
        Stored,
        "SELECT id, agent_jid, principal, created_at, updated_at FROM conversations WHERE id = $1 AND principal = $2",
        id,
        principal
    )?
    .map(conversation))
}

/// Conversations of a principal, optionally with one agent, the latest first, with the count over all pages.
///
/// # Errors
/// Database errors.
pub async fn list(
    db: &mut impl AsDb,
    principal: &str,
    agent_jid: Option<&str>,
    limit: u32,
    offset: u64,
) -> Result<(Vec<Conversation>, u64)> {
    let found = rows!(
        db,
        Stored,
        "SELECT id, agent_jid, principal, created_at, updated_at FROM conversations WHERE principal = $1 \
         AND (CAST($2 AS TEXT) IS NULL OR agent_jid = $2) ORDER BY updated_at DESC, id DESC LIMIT $3 OFFSET $4",
        principal,
        agent_jid,
        i64::from(limit),
        signed(offset)
    )?;
    let count = row!(
        db,
        (i64,),
        "SELECT CAST(COUNT(*) AS BIGINT) FROM conversations WHERE principal = $1 AND (CAST($2 AS TEXT) IS NULL OR agent_jid = $2)",
        principal,
        agent_jid
    )?;
    Ok((found.into_iter().map(conversation).collect(), unsigned(count.map_or(0, |count| count.0))))
}

fn message((id, run_id, role, content, at): (Uuid, Uuid, String, String, i64)) -> HistoryMessage {
    HistoryMessage { id, run_id, role, content, created_at: Ts::from_micros(at) }
}

/// Messages of a conversation in order, with the count over all pages.
///
/// # Errors
/// Database errors.
pub async fn messages(db: &mut impl AsDb, id: Uuid, limit: u32, offset: u64) -> Result<(Vec<HistoryMessage>, u64)> {
    let found = rows!(
        db,
        (Uuid, Uuid, String, String, i64),
        "SELECT id, run_id, role, content, created_at FROM messages WHERE conversation_id = $1 ORDER BY created_at, id LIMIT $2 OFFSET $3",
        id,
        i64::from(limit),
        signed(offset)
    )?;
    let count = row!(db, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM messages WHERE conversation_id = $1", id)?;
    Ok((found.into_iter().map(message).collect(), unsigned(count.map_or(0, |count| count.0))))
}

/// The last messages of a conversation not older than `since` and not of the run `except`, in order; at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn latest(db: &mut impl AsDb, id: Uuid, except: Uuid, since: Ts, limit: u32) -> Result<Vec<HistoryMessage>> {
    let mut found = rows!(
        db,
        (Uuid, Uuid, String, String, i64),
        "SELECT id, run_id, role, content, created_at FROM messages WHERE conversation_id = $1 AND run_id <> $2 AND created_at >= $3 \
         ORDER BY created_at DESC, id DESC LIMIT $4",
        id,
        except,
        since.micros(),
        i64::from(limit)
    )?;
    found.reverse();
    Ok(found.into_iter().map(message).collect())
}
