//! Peers that a peers file names, and those that an operator lets in without mutual TLS.

use aiox_core::Result;
use aiox_model::Ts;

use crate::{
    AsDb, Tx,
    db::{exec, rows},
};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRow {
    /// What programs name it by.
    pub stack_id: String,
    /// What is said of it (JSON).
    pub document: String,
    /// Whether an operator lets it in without mutual TLS.
    pub insecure: bool,
}

/// Every one, by its id.
///
/// # Errors
/// Database errors.
pub async fn all(db: &mut impl AsDb) -> Result<Vec<ListedRow>> {
    let found = rows!(db, (String, String, bool), "SELECT stack_id, document, insecure FROM listed_peers ORDER BY stack_id")?;
    Ok(found.into_iter().map(|(stack_id, document, insecure)| ListedRow { stack_id, document, insecure }).collect())
}

/// Writes one, new or changed.
///
/// # Errors
/// Database errors.
pub async fn put(tx: &mut Tx, row: &ListedRow, at: Ts) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO listed_peers (stack_id, document, insecure, updated_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (stack_id) DO UPDATE SET document = excluded.document, insecure = excluded.insecure, updated_at = excluded.updated_at",
        &row.stack_id,
        &row.document,
        row.insecure,
        at.micros(),
    )
    .map(drop)
}

/// Removes one. `false`: there was none.
///
/// # Errors
/// Database errors.
pub async fn remove(tx: &mut Tx, stack_id: &str) -> Result<bool> {
    exec!(tx, "DELETE FROM listed_peers WHERE stack_id = $1", stack_id).map(|removed| removed == 1)
}
