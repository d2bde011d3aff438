//! Events of runs of other hubs that programs brought in. They are a record of their own: nothing of this hub's runs changes.

use aiox_core::Result;
use aiox_model::Ts;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    rows::{signed, unsigned},
};
use uuid::Uuid;

/// An event that was brought in.
#[derive(Debug, Clone)]
pub struct IngestedRow {
    /// The tenant that it was brought into.
    pub tenant: Uuid,
    /// The hub that it is of, as its sender named it.
    pub source: String,
    /// The run, as that hub names it.
    pub run: String,
    /// The event's id.
    pub event: String,
    /// Its place in the run.
    pub sequence: u64,
    /// The event (JSON).
    pub document: String,
    /// Now.
    pub at: Ts,
}

/// Adds an event. `false`: it was brought in before from that source, or another event of the run has its sequence.
///
/// # Errors
/// Database errors.
pub async fn insert(tx: &mut Tx, event: &IngestedRow) -> Result<bool> {
    let other = row!(
        tx,
        (String,),
        "SELECT event_id FROM ingested_events WHERE tenant_id = $1 AND run_id = $2 AND seq = $3 AND event_id <> $4 LIMIT 1",
        event.tenant,
        &event.run,
        signed(event.sequence),
        &event.event,
    )?;
    if other.is_some() {
        return Ok(false);
    }
    let made = exec!(
        tx,
        "INSERT INTO ingested_events (tenant_id, source, run_id, event_id, seq, event, at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT DO NOTHING",
        event.tenant,
        &event.source,
        &event.run,
        &event.event,
        signed(event.sequence),
        &event.document,
        event.at.micros(),
    )?;
    Ok(made == 1)
}

/// Events of a run after a sequence, in order, each once whichever sources brought it: (sequence, JSON); at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn events(db: &mut impl AsDb, tenant: Uuid, run: &str, after: u64, limit: u32) -> Result<Vec<(u64, String)>> {
    let found = rows!(
        db,
        (i64, String),
        "SELECT seq, MIN(event) FROM ingested_events WHERE tenant_id = $1 AND run_id = $2 AND seq > $3 GROUP BY seq ORDER BY seq LIMIT $4",
        tenant,
        run,
        signed(after),
        i64::from(limit),
    )?;
    Ok(found.into_iter().map(|(sequence, event)| (unsigned(sequence), event)).collect())
}
