//! Peer hubs and their directories.

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    rows::{signed, unsigned},
};

/// A peer hub. Documents are kept as text, as they were received or confirmed.
#[derive(Debug, Clone)]
pub struct PeerRow {
    /// Its trust domain.
    pub domain: String,
    /// `proposed`, `reviewed`, `active`, `suspended`, `stale` or `terminated`.
    pub state: String,
    /// SHA-256 of the trust document that the operator confirmed, lower-case hex.
    pub fingerprint: String,
    /// Where its public documents are.
    pub url: String,
    /// Its node id.
    pub node_id: String,
    /// Sequence of the last accepted trust document.
    pub sequence: u64,
    /// That document (JSON).
    pub document: String,
    /// The allow-list (JSON).
    pub record: String,
    /// When it was proposed.
    pub created_at: Ts,
    /// When it was changed last.
    pub updated_at: Ts,
}
type Stored = (String, String, String, String, String, i64, String, String, i64, i64);
fn peer((domain, state, fingerprint, url, node_id, sequence, document, record, created, updated): Stored) -> PeerRow {
    PeerRow {
        domain,
        state,
        fingerprint,
        url,
        node_id,
        sequence: unsigned(sequence),
        document,
        record,
        created_at: Ts::from_micros(created),
        updated_at: Ts::from_micros(updated),
    }
}

/// Writes a peer, new or changed.
///
/// # Errors
/// Database errors.
pub async fn put(tx: &mut Tx, peer: &PeerRow) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO peers (domain, state, fingerprint, url, node_id, sequence, document, record, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (domain) DO UPDATE SET state = excluded.state, \
         fingerprint = excluded.fingerprint, url = excluded.url, node_id = excluded.node_id, sequence = excluded.sequence, \
         document = excluded.document, record = excluded.record, updated_at = excluded.updated_at",
        &peer.domain,
        &peer.state,
        &peer.fingerprint,
        &peer.url,
        &peer.node_id,
        signed(peer.sequence),
        &peer.document,
        &peer.record,
        peer.created_at.micros(),
        peer.updated_at.micros(),
    )
    .map(drop)
}

/// Every peer, by domain.
///
/// # Errors
/// Database errors.
pub async fn all(db: &mut impl AsDb) -> Result<Vec<PeerRow>> {
    Ok(rows!(
        db,
        Stored,
        "SELECT domain, state, fingerprint, url, node_id, sequence, document, record, created_at, updated_at FROM peers ORDER BY domain"
    )?
    .into_iter()
    .map(peer)
    .collect())
}

/// One peer.
///
/// # Errors
/// Database errors.
pub async fn by_domain(db: &mut impl AsDb, domain: &str) -> Result<Option<PeerRow>> {
    Ok(row!(
        db,
        Stored,
        "SELECT domain, state, fingerprint, url, node_id, sequence, document, record, created_at, updated_at FROM peers WHERE domain = $1",
        domain
    )?
    .map(peer))
}

/// Domains of active peers.
///
/// # Errors
/// Database errors.
pub async fn active_domains(db: &mut impl AsDb) -> Result<Vec<String>> {
    Ok(rows!(db, (String,), "SELECT domain FROM peers WHERE state = 'active' ORDER BY domain")?.into_iter().map(|row| row.0).collect())
}

/// Removes a peer and what is known of its agents. `false`: there was none.
///
/// # Errors
/// Database errors.
pub async fn remove(tx: &mut Tx, domain: &str) -> Result<bool> {
    exec!(tx, "DELETE FROM remote_agents WHERE peer = $1", domain)?;
    exec!(tx, "DELETE FROM peers_seen WHERE domain = $1", domain)?;
    Ok(exec!(tx, "DELETE FROM peers WHERE domain = $1", domain)? == 1)
}

/// Notes that a peer was in contact. What is younger stays.
///
/// # Errors
/// Database errors.
pub async fn saw(tx: &mut Tx, domain: &str, at: Ts) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO peers_seen (domain, at) SELECT domain, CAST($2 AS BIGINT) FROM peers WHERE domain = $1 \
         ON CONFLICT (domain) DO UPDATE SET at = excluded.at WHERE peers_seen.at < excluded.at",
        domain,
        at.micros()
    )
    .map(drop)
}

/// When a peer was last in contact. `None`: never.
///
/// # Errors
/// Database errors.
pub async fn last_seen(db: &mut impl AsDb, domain: &str) -> Result<Option<Ts>> {
    Ok(row!(db, (i64,), "SELECT at FROM peers_seen WHERE domain = $1", domain)?.map(|at| Ts::from_micros(at.0)))
}

/// Replaces what is known of a peer's agents: (address, readable name, card as JSON).
///
/// # Errors
/// Database errors.
pub async fn replace_agents(tx: &mut Tx, peer: &str, agents: &[(String, Option<String>, String)], at: Ts) -> Result<()> {
    exec!(tx, "DELETE FROM remote_agents WHERE peer = $1", peer)?;
    for (jid, handle, card) in agents {
        exec!(
            tx,
            "INSERT INTO remote_agents (jid, handle, peer, card, updated_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            jid,
            handle.as_deref(),
            peer,
            card,
            at.micros()
        )?;
    }
    Ok(())
}

/// Known agents of active peers: (peer, card as JSON); at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn agents(db: &mut impl AsDb, limit: u32) -> Result<Vec<(String, String)>> {
    rows!(
        db,
        (String, String),
        "SELECT r.peer, r.card FROM remote_agents r JOIN peers p ON p.domain = r.peer WHERE p.state = 'active' ORDER BY r.jid LIMIT $1",
        i64::from(limit)
    )
}

/// The known agent of a peer by its address or its readable name there: its address and card.
///
/// # Errors
/// Database errors.
pub async fn agent(db: &mut impl AsDb, peer: &str, jid: &str, handle: &str) -> Result<Option<(String, String)>> {
    row!(db, (String, String), "SELECT jid, card FROM remote_agents WHERE peer = $1 AND (jid = $2 OR handle = $3)", peer, jid, handle)
}

/// Whether this peer node asked for this run: a peer only ever reads runs that it asked for.
///
/// # Errors
/// Database errors.
pub async fn asked_for_run(db: &mut impl AsDb, origin: &str, run: Uuid) -> Result<bool> {
    Ok(row!(db, (Uuid,), "SELECT id FROM runs WHERE id = $1 AND origin = $2", run, origin)?.is_some())
}
