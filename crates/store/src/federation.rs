//! Envelopes on their way out and as they came in.

use std::collections::BTreeMap;

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    dialect,
    journal::{Accepted, Inbound, Outbound},
    rows::{signed, unsigned},
};

/// An envelope that waits for a peer.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    /// The envelope's id.
    pub id: Uuid,
    /// Domain of the peer.
    pub peer: String,
    /// Its conversation; delivery is first in, first out within one.
    pub conv: String,
    /// Its place there, from 1.
    pub seq: u64,
    /// The run that it carries.
    pub run: Option<Uuid>,
    /// Envelope type.
    pub kind: String,
    /// The signed envelope (JSON).
    pub envelope: String,
    /// Attempts so far.
    pub attempts: u32,
    /// Not to be sent before.
    pub next_at: Ts,
    /// When delivery stops.
    pub expires_at: Ts,
}

/// Records an envelope as received. `None`: it is new; otherwise what was answered first.
///
/// # Errors
/// Database errors.
pub async fn receive(tx: &mut Tx, inbound: &Inbound, at: Ts) -> Result<Option<Accepted>> {
    let made = exec!(
        tx,
        "INSERT INTO fed_inbox (origin, id, digest, envelope, verdict, received_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        &inbound.origin,
        inbound.id,
        &inbound.digest,
        &inbound.envelope,
        &inbound.verdict,
        at.micros()
    )?;
    if made == 1 {
        return Ok(None);
    }
    Ok(received(tx, &inbound.origin, inbound.id).await?.map(|(digest, verdict)| Accepted::Seen { digest, verdict }))
}

/// Digest and verdict (JSON) of an envelope received before.
///
/// # Errors
/// Database errors.
pub async fn received(db: &mut impl AsDb, origin: &str, id: Uuid) -> Result<Option<(String, String)>> {
    row!(db, (String, String), "SELECT digest, verdict FROM fed_inbox WHERE origin = $1 AND id = $2", origin, id)
}

/// Gives an envelope its place in its conversation, has it signed, and keeps it for delivery.
///
/// # Errors
/// Database errors, and those of signing.
pub async fn enqueue(tx: &mut Tx, outbound: &Outbound, run: Option<Uuid>, at: Ts) -> Result<()> {
    // Two writers must not take one place.
    dialect::serialize_on(tx, 0x0A10_F0B0).await?;
    let last = row!(
        tx,
        (i64, String),
        "SELECT seq, digest FROM fed_outbox WHERE peer = $1 AND conv = $2 ORDER BY seq DESC LIMIT 1",
        &outbound.peer,
        &outbound.conv
    )?;
    let (seq, prev) = last.map_or((1, None), |(seq, digest)| (unsigned(seq) + 1, Some(digest)));
    let sealed = (outbound.seal)(seq, prev.as_deref())?;
    exec!(
        tx,
        "INSERT INTO fed_outbox (id, peer, conv, seq, run_id, kind, envelope, digest, state, attempts, next_at, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'queued', 0, $9, $9, $10)",
        outbound.id,
        &outbound.peer,
        &outbound.conv,
        signed(seq),
        run,
        outbound.kind,
        &sealed.envelope,
        &sealed.digest,
        at.micros(),
        outbound.expires.micros()
    )
    .map(drop)
}

type Stored = (Uuid, String, String, i64, Option<Uuid>, String, String, i64, i64, i64);

/// Envelopes for a peer that may be sent now: the oldest waiting one of each conversation first, then its successors, in order;
/// a conversation whose first envelope has to wait holds its later ones back. At most `limit`.
///
/// # Errors
/// Database errors.
pub async fn due(db: &mut impl AsDb, peer: &str, now: Ts, limit: u32) -> Result<Vec<OutboxRow>> {
    Ok(rows!(
        db,
        Stored,
        "SELECT id, peer, conv, seq, run_id, kind, envelope, attempts, next_at, expires_at FROM fed_outbox o \
         WHERE peer = $1 AND state = 'queued' AND NOT EXISTS (SELECT 1 FROM fed_outbox b WHERE b.peer = o.peer AND b.conv = o.conv \
         AND b.state = 'queued' AND b.seq <= o.seq AND b.next_at > $2) ORDER BY created_at, conv, seq LIMIT $3",
        peer,
        now.micros(),
        i64::from(limit)
    )?
    .into_iter()
    .map(|(id, peer, conv, seq, run, kind, envelope, attempts, next_at, expires_at)| OutboxRow {
        id,
        peer,
        conv,
        seq: unsigned(seq),
        run,
        kind,
        envelope,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        next_at: Ts::from_micros(next_at),
        expires_at: Ts::from_micros(expires_at),
    })
    .collect())
}

/// The earliest time at which something for a peer is due; `None` when nothing waits.
///
/// # Errors
/// Database errors.
pub async fn next_due(db: &mut impl AsDb, peer: &str) -> Result<Option<Ts>> {
    let found = row!(db, (Option<i64>,), "SELECT MIN(next_at) FROM fed_outbox WHERE peer = $1 AND state = 'queued'", peer)?;
    Ok(found.and_then(|found| found.0).map(Ts::from_micros))
}

/// How many envelopes wait for a peer.
///
/// # Errors
/// Database errors.
pub async fn waiting(db: &mut impl AsDb, peer: &str) -> Result<u64> {
    let found = row!(db, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM fed_outbox WHERE peer = $1 AND state = 'queued'", peer)?;
    Ok(unsigned(found.map_or(0, |found| found.0)))
}

/// When the oldest envelope that waits for a peer was made.
///
/// # Errors
/// Database errors.
pub async fn oldest(db: &mut impl AsDb, peer: &str) -> Result<Option<Ts>> {
    let found = row!(db, (Option<i64>,), "SELECT MIN(created_at) FROM fed_outbox WHERE peer = $1 AND state = 'queued'", peer)?;
    Ok(found.and_then(|found| found.0).map(Ts::from_micros))
}

/// Ends the waiting of an envelope: `delivered`, `refused` or `expired`. Its run and type, if it waited and carries one.
///
/// # Errors
/// Database errors.
pub async fn finish(tx: &mut Tx, id: Uuid, state: &str, reason: Option<&str>, at: Ts) -> Result<Option<(Uuid, String)>> {
    let done = row!(
        tx,
        (Option<Uuid>, String),
        "UPDATE fed_outbox SET state = $2, reason = $3, done_at = $4 WHERE id = $1 AND state = 'queued' RETURNING run_id, kind",
        id,
        state,
        reason,
        at.micros()
    )?;
    Ok(done.and_then(|(run, kind)| run.map(|run| (run, kind))))
}

/// Notes on the run of an envelope that an attempt to deliver it has begun.
///
/// # Errors
/// Database errors.
pub async fn mark_sent(tx: &mut Tx, id: Uuid) -> Result<()> {
    exec!(
        tx,
        "UPDATE runs SET delivery = 'sent' WHERE delivery = 'queued' AND id = (SELECT run_id FROM fed_outbox WHERE id = $1 AND kind = 'run.create')",
        id
    )
    .map(drop)
}

/// Counts a failed attempt and says when the next may be.
///
/// # Errors
/// Database errors.
pub async fn postpone(tx: &mut Tx, id: Uuid, next_at: Ts, reason: &str) -> Result<()> {
    exec!(
        tx,
        "UPDATE fed_outbox SET attempts = attempts + 1, next_at = $2, reason = $3 WHERE id = $1 AND state = 'queued'",
        id,
        next_at.micros(),
        reason
    )
    .map(drop)
}

/// Makes everything for a peer due at once, for instance because it has just been heard of.
///
/// # Errors
/// Database errors.
pub async fn flush(tx: &mut Tx, peer: &str, now: Ts) -> Result<u64> {
    exec!(tx, "UPDATE fed_outbox SET next_at = $2 WHERE peer = $1 AND state = 'queued' AND next_at > $2", peer, now.micros())
}

/// Puts what a peer has lost back into its queue: envelopes of a conversation that it had confirmed before `before` and that are
/// above its mark. What has expired is left out, for no peer would take it. How many there were.
///
/// # Errors
/// Database errors.
pub async fn send_again(tx: &mut Tx, peer: &str, conv: &str, mark: u64, before: Ts, now: Ts) -> Result<u64> {
    exec!(
        tx,
        "UPDATE fed_outbox SET state = 'queued', attempts = 0, reason = 'lost', next_at = $5, done_at = NULL \
         WHERE peer = $1 AND conv = $2 AND seq > $3 AND state = 'delivered' AND done_at < $4 AND expires_at > $5",
        peer,
        conv,
        signed(mark),
        before.micros(),
        now.micros()
    )
}

/// Of a peer's marks, the conversations in which it has confirmed, before `before`, more than it has.
///
/// # Errors
/// Database errors.
pub async fn lost(db: &mut impl AsDb, peer: &str, marks: &BTreeMap<String, u64>, before: Ts, now: Ts) -> Result<Vec<String>> {
    let mut lost = Vec::new();
    for (conv, mark) in marks {
        let found = row!(
            db,
            (i64,),
            "SELECT seq FROM fed_outbox WHERE peer = $1 AND conv = $2 AND seq > $3 AND state = 'delivered' AND done_at < $4 \
             AND expires_at > $5 LIMIT 1",
            peer,
            conv,
            signed(*mark),
            before.micros(),
            now.micros()
        )?;
        if found.is_some() {
            lost.push(conv.clone());
        }
    }
    Ok(lost)
}
