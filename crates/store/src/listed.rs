//! Peers that a peers file names, and those that an operator lets in without mutual TLS.

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
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

/// A run that was forwarded to a plain node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainRunRow {
    /// The tenant that asked.
    pub tenant: Uuid,
    /// The run, as the node names it.
    pub run: String,
    /// Key of the principal that asked.
    pub principal: String,
    /// The node.
    pub stack_id: String,
    /// Where its events are there, as the node said.
    pub events_url: String,
}

/// Notes where a run is. `false`: it was noted before.
///
/// # Errors
/// Database errors.
pub async fn note_run(tx: &mut Tx, run: &PlainRunRow, at: Ts) -> Result<bool> {
    let made = exec!(
        tx,
        "INSERT INTO plain_runs (tenant_id, run_id, principal, stack_id, events_url, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT DO NOTHING",
        run.tenant,
        &run.run,
        &run.principal,
        &run.stack_id,
        &run.events_url,
        at.micros(),
    )?;
    Ok(made == 1)
}

/// Where a run of a tenant is.
///
/// # Errors
/// Database errors.
pub async fn run(db: &mut impl AsDb, tenant: Uuid, run: &str) -> Result<Option<PlainRunRow>> {
    let found = row!(
        db,
        (String, String, String),
        "SELECT principal, stack_id, events_url FROM plain_runs WHERE tenant_id = $1 AND run_id = $2",
        tenant,
        run,
    )?;
    Ok(found.map(|(principal, stack_id, events_url)| PlainRunRow { tenant, run: run.to_owned(), principal, stack_id, events_url }))
}

/// Forgets where runs of before a time are; how many.
///
/// # Errors
/// Database errors.
pub async fn forget_runs(tx: &mut Tx, before: Ts) -> Result<u64> {
    exec!(tx, "DELETE FROM plain_runs WHERE created_at < $1", before.micros())
}
