//! Peers that a peers file names. Being named gives nothing: what is trusted stands in a record.

use aiox_core::{Error, Result, forward::Candidate};
use aiox_model::{
    federation::PeerState,
    v1::federation::{PeerHealth, PeerInfo, Stack},
};
use aiox_store::listed::{self, ListedRow};

use super::PeerBook;
use crate::audit;

/// What an import changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Peers that are new, or of which the file says something else than before.
    pub changed: usize,
    /// Peers that the file does not name any more.
    pub removed: usize,
    /// Peers that an operator lets in without mutual TLS, of which the file says something else than their record. The record counts.
    pub kept: Vec<String>,
}

impl PeerBook {
    /// Takes over what a peers file says, in one transaction. A peer that an operator has let in without mutual TLS is left as its record
    /// has it.
    ///
    /// # Errors
    /// Database errors; nothing is changed then.
    pub async fn import(&self, peers: &[PeerInfo]) -> Result<Imported> {
        let (now, mut imported) = (self.clock.now(), Imported::default());
        let mut tx = self.store.begin().await?;
        let known = listed::all(&mut tx).await?;
        let mut records = Vec::new();
        for peer in peers {
            let document = serde_json::to_string(peer).map_err(Error::internal)?;
            match known.iter().find(|row| row.stack_id == peer.stack_id) {
                Some(row) if row.document == document => {}
                Some(row) if row.insecure => imported.kept.push(peer.stack_id.clone()),
                _ => {
                    listed::put(&mut tx, &ListedRow { stack_id: peer.stack_id.clone(), document, insecure: false }, now).await?;
                    records.push((peer.stack_id.as_str(), "peer.import"));
                    imported.changed += 1;
                }
            }
        }
        for row in known.iter().filter(|row| !row.insecure && !peers.iter().any(|peer| peer.stack_id == row.stack_id)) {
            listed::remove(&mut tx, &row.stack_id).await?;
            records.push((row.stack_id.as_str(), "peer.remove"));
            imported.removed += 1;
        }
        for (peer, action) in records {
            let row = audit::of_peer(&*self.clock, &*self.ids, self.audit_tenant, peer, action, "allowed", "peers file");
            aiox_store::audit::insert(&mut tx, &row).await?;
        }
        tx.commit().await?;
        Ok(imported)
    }

    /// Every peer as programs see it, with how it is: those with a record by domain, then those that are named in a peers file alone.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub async fn stacks(&self) -> Result<Vec<Candidate>> {
        let mut all = Vec::new();
        for (mut candidate, record) in self.candidates().await? {
            let status = match record.state {
                PeerState::Active if candidate.healthy => "healthy",
                PeerState::Active => "unreachable",
                PeerState::Proposed => "proposed",
                PeerState::Reviewed => "reviewed",
                PeerState::Suspended => "suspended",
                PeerState::Stale => "stale",
                PeerState::Terminated => "terminated",
            };
            candidate.stack.peer.health = Some(PeerHealth { status: status.into(), last_seen_at: candidate.last_seen_at });
            all.push(candidate);
        }
        let recorded = all.len();
        for row in listed::all(&mut self.store.read().await?).await? {
            // A record says more, and is what counts.
            if all[..recorded].iter().any(|candidate| candidate.stack.peer.stack_id == row.stack_id) {
                continue;
            }
            all.push(self.listed(&row)?);
        }
        Ok(all)
    }

    fn listed(&self, row: &ListedRow) -> Result<Candidate> {
        let active = row.insecure && self.plain.is_some();
        let seen = self.seen.get(&row.stack_id).map(|seen| *seen);
        let healthy = active && seen.is_some_and(|seen| seen.well);
        let status = match (row.insecure, active) {
            (false, _) => "proposed",
            (true, false) => "suspended",
            (true, true) if healthy => "healthy",
            (true, true) => "unreachable",
        };
        let last_seen_at = seen.filter(|_| active).and_then(|seen| seen.last);
        let health = PeerHealth { status: status.into(), last_seen_at };
        let stack = Stack { peer: PeerInfo { health: Some(health), ..document(row)? }, ..Stack::untold("") };
        Ok(Candidate { domain: String::new(), stack, active, healthy, waiting: 0, plain: active, last_seen_at })
    }
}

pub(super) fn document(row: &ListedRow) -> Result<PeerInfo> {
    let damaged = |_| Error::Corrupt { table: "listed_peers", column: "document", id: row.stack_id.clone() };
    serde_json::from_str(&row.document).map_err(damaged)
}
