//! The order of a peer's envelopes: how far each conversation has come, and the cancels that came before their runs.

use std::collections::BTreeMap;

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    dialect,
    rows::{signed, unsigned},
};

/// Longest name of a conversation whose order is kept, in bytes. Longer ones are taken as they come.
pub const MAX_CONV: usize = 255;
/// Cancels of one node that may wait for their runs.
const MAX_CANCELS: i64 = 10_000;

fn ordered(conv: &str) -> bool {
    // No database keeps a NUL in a text.
    (1..=MAX_CONV).contains(&conv.len()) && !conv.contains('\0')
}

/// The highest `seq` that is here of a conversation of a node; 0 when nothing is. `None`: its order is not kept.
///
/// # Errors
/// Database errors.
pub async fn mark(db: &mut impl AsDb, origin: &str, conv: &str) -> Result<Option<u64>> {
    if !ordered(conv) {
        return Ok(None);
    }
    let found = row!(db, (i64,), "SELECT seq FROM fed_marks WHERE origin = $1 AND conv = $2", origin, conv)?;
    Ok(Some(found.map_or(0, |found| unsigned(found.0))))
}

/// Raises the mark of a conversation; it never falls.
///
/// # Errors
/// Database errors.
pub async fn raise(tx: &mut Tx, origin: &str, conv: &str, seq: u64, at: Ts) -> Result<()> {
    if !ordered(conv) {
        return Ok(());
    }
    exec!(
        tx,
        "INSERT INTO fed_marks (origin, conv, seq, at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (origin, conv) DO UPDATE SET seq = excluded.seq, at = excluded.at WHERE fed_marks.seq < excluded.seq",
        origin,
        conv,
        signed(seq),
        at.micros()
    )
    .map(drop)
}

/// The marks of a node's conversations, those that moved last; at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn latest(db: &mut impl AsDb, origin: &str, limit: u32) -> Result<BTreeMap<String, u64>> {
    let found = rows!(
        db,
        (String, i64),
        "SELECT conv, seq FROM fed_marks WHERE origin = $1 ORDER BY at DESC LIMIT $2 + 0",
        origin,
        i64::from(limit)
    )?;
    Ok(found.into_iter().map(|(conv, seq)| (conv, unsigned(seq))).collect())
}

/// Lets a create and a cancel of one run look at each other one after the other, until the transaction ends.
///
/// # Errors
/// Database errors.
pub async fn one_at_a_time(tx: &mut Tx) -> Result<()> {
    dialect::serialize_on(tx, 0x0A10_F0B1).await
}

/// Keeps a cancel for a run that has not come. `false`: too many of this node wait already.
///
/// # Errors
/// Database errors.
pub async fn await_run(tx: &mut Tx, origin: &str, run: Uuid, until: Ts, now: Ts) -> Result<bool> {
    exec!(tx, "DELETE FROM fed_cancels WHERE origin = $1 AND until <= $2", origin, now.micros())?;
    let waiting = row!(tx, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM fed_cancels WHERE origin = $1 AND run_id <> $2", origin, run)?;
    if waiting.is_some_and(|waiting| waiting.0 >= MAX_CANCELS) {
        return Ok(false);
    }
    exec!(
        tx,
        "INSERT INTO fed_cancels (origin, run_id, until) VALUES ($1, $2, $3) \
         ON CONFLICT (origin, run_id) DO UPDATE SET until = excluded.until WHERE fed_cancels.until < excluded.until",
        origin,
        run,
        until.micros()
    )?;
    Ok(true)
}

/// Takes the cancel that waits for a run, if there is one.
pub(crate) async fn take_cancel(tx: &mut Tx, origin: &str, run: Uuid, now: Ts) -> Result<bool> {
    let taken = row!(tx, (i64,), "DELETE FROM fed_cancels WHERE origin = $1 AND run_id = $2 RETURNING until", origin, run)?;
    Ok(taken.is_some_and(|taken| taken.0 > now.micros()))
}

/// Cancels of a node that wait for their runs.
///
/// # Errors
/// Database errors.
pub async fn waiting_cancels(db: &mut impl AsDb, origin: &str) -> Result<u64> {
    let found = row!(db, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM fed_cancels WHERE origin = $1", origin)?;
    Ok(unsigned(found.map_or(0, |found| found.0)))
}
