//! Replies that wait for the XMPP door.

use aiox_core::Result;
use uuid::Uuid;

use crate::{AsDb, db::rows};

/// Replies after `after` (ids are in order of time), oldest first; at most `limit`: (id, JSON).
///
/// # Errors
/// Database errors.
pub async fn due(db: &mut impl AsDb, after: Uuid, limit: u32) -> Result<Vec<(Uuid, String)>> {
    // `+ 0`: SQLite prepares a statement again, each time, whose bare LIMIT is a parameter.
    rows!(db, (Uuid, String), "SELECT id, payload FROM xmpp_outbox WHERE id > $1 ORDER BY id LIMIT $2 + 0", after, i64::from(limit))
}
