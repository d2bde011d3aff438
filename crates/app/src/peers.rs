//! Peer records as the store keeps them, and what is known of peers' agents.

mod listed;
mod plain;

use aiox_core::{Error, Result, forward::Candidate};
use aiox_model::{
    Ts,
    agent::AgentCard,
    federation::{PeerRecord, PeerState},
    v1::federation::Stack,
};
use aiox_store::{Store, conformance, federation, peers, peers::PeerRow};

pub use self::{
    listed::Imported,
    plain::{PlainAsk, PlainCaller, PlainMade, PlainWire},
};
use crate::audit;

/// A peer for which something has waited for longer is not counted as healthy.
const LATE_SECONDS: i64 = 10;

/// The peers of this hub.
#[derive(Clone)]
pub struct PeerBook {
    store: Store,
    audit_tenant: uuid::Uuid,
    clock: std::sync::Arc<dyn aiox_core::ports::Clock>,
    ids: std::sync::Arc<dyn aiox_core::ports::Ids>,
    /// Absent = this hub talks to no plain nodes.
    plain: Option<std::sync::Arc<dyn PlainWire>>,
    /// When each plain node was last looked at and well.
    seen: std::sync::Arc<plain::Seen>,
}

impl PeerBook {
    /// The book of a store. What peers do is audited under `audit_tenant`, the hub's own tenant.
    #[must_use]
    pub fn new(
        store: Store,
        audit_tenant: uuid::Uuid,
        clock: std::sync::Arc<dyn aiox_core::ports::Clock>,
        ids: std::sync::Arc<dyn aiox_core::ports::Ids>,
    ) -> Self {
        Self { store, audit_tenant, clock, ids, plain: None, seen: std::sync::Arc::default() }
    }

    /// Every record, by domain.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the peer whose record cannot be read; database errors.
    pub async fn all(&self) -> Result<Vec<PeerRecord>> {
        let rows = peers::all(&mut self.store.read().await?).await?;
        rows.into_iter()
            .map(|row| serde_json::from_str(&row.record).map_err(|_| Error::Corrupt { table: "peers", column: "record", id: row.domain }))
            .collect()
    }

    /// Writes a record, new or changed.
    ///
    /// # Errors
    /// Database errors.
    pub async fn put(&self, record: &PeerRecord) -> Result<()> {
        let state = serde_json::to_value(record.state).ok().and_then(|state| state.as_str().map(str::to_owned)).unwrap_or_default();
        let row = PeerRow {
            domain: record.domain.clone(),
            state,
            fingerprint: record.fingerprint.clone(),
            url: record.trust_url.clone(),
            node_id: record.document["nodes"][0]["id"].as_str().unwrap_or_default().to_owned(),
            sequence: record.document["sequence"].as_u64().unwrap_or(0),
            document: record.document.to_string(),
            record: serde_json::to_string(record).map_err(Error::internal)?,
            created_at: record.created_at,
            updated_at: record.updated_at,
        };
        let mut tx = self.store.begin().await?;
        peers::put(&mut tx, &row).await?;
        tx.commit().await
    }

    /// Notes that a peer was in contact.
    ///
    /// # Errors
    /// Database errors.
    pub async fn saw(&self, domain: &str, at: Ts) -> Result<()> {
        let mut tx = self.store.begin().await?;
        peers::saw(&mut tx, domain, at).await?;
        tx.commit().await
    }

    /// When a peer was last in contact, to the minute. `None`: never.
    ///
    /// # Errors
    /// Database errors.
    pub async fn last_seen(&self, domain: &str) -> Result<Option<Ts>> {
        peers::last_seen(&mut self.store.read().await?, domain).await
    }

    /// The conformance result that this hub publishes, as it is served.
    ///
    /// # Errors
    /// Database errors.
    pub async fn conformance(&self, domain: &str) -> Result<Option<String>> {
        conformance::published(&mut self.store.read().await?, domain).await
    }

    /// Replaces it.
    ///
    /// # Errors
    /// Database errors.
    pub async fn publish_conformance(&self, domain: &str, document: &str) -> Result<()> {
        let mut tx = self.store.begin().await?;
        conformance::publish(&mut tx, domain, document, self.clock.now()).await?;
        tx.commit().await
    }

    /// Removes a record and what is known of the peer's agents. `false`: there was none.
    ///
    /// # Errors
    /// Database errors.
    pub async fn remove(&self, domain: &str) -> Result<bool> {
        let mut tx = self.store.begin().await?;
        let removed = peers::remove(&mut tx, domain).await?;
        tx.commit().await?;
        Ok(removed)
    }

    /// Replaces what is known of a peer's agents.
    ///
    /// # Errors
    /// Database errors.
    pub async fn put_agents(&self, domain: &str, cards: &[AgentCard], at: Ts) -> Result<()> {
        let rows = cards
            .iter()
            .map(|card| Ok((card.jid.clone(), card.handle.clone(), serde_json::to_string(card).map_err(Error::internal)?)))
            .collect::<Result<Vec<_>>>()?;
        let mut tx = self.store.begin().await?;
        peers::replace_agents(&mut tx, domain, &rows, at).await?;
        tx.commit().await
    }

    /// Known agents of active peers; at most `limit`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn agents(&self, limit: u32) -> Result<Vec<AgentCard>> {
        let rows = peers::agents(&mut self.store.read().await?, limit).await?;
        Ok(rows.into_iter().filter_map(|(_, card)| serde_json::from_str(&card).ok()).collect())
    }

    /// Every peer as somebody who forwards a run sees it, by domain.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub async fn candidates(&self) -> Result<Vec<(Candidate, PeerRecord)>> {
        let records = self.all().await?;
        let mut db = self.store.read().await?;
        let late = self.clock.now().plus_seconds(-LATE_SECONDS);
        let mut all = Vec::with_capacity(records.len());
        for record in records {
            let told = serde_json::from_value(record.document["stack"].clone()).ok();
            let oldest = federation::oldest(&mut db, &record.domain).await?;
            let active = record.state == PeerState::Active;
            let candidate = Candidate {
                stack: told.unwrap_or_else(|| Stack::untold(&record.domain)),
                domain: record.domain.clone(),
                active,
                healthy: active && oldest.is_none_or(|oldest| oldest > late),
                waiting: federation::waiting(&mut db, &record.domain).await?,
                plain: false,
                last_seen_at: peers::last_seen(&mut db, &record.domain).await?,
            };
            all.push((candidate, record));
        }
        Ok(all)
    }

    /// Whether a domain is an active peer.
    ///
    /// # Errors
    /// Database errors.
    pub async fn is_active(&self, domain: &str) -> Result<bool> {
        Ok(self.all().await?.iter().any(|record| record.domain == domain && record.state == PeerState::Active))
    }

    /// Records what a peer did or was refused. `reason` stays on this hub.
    ///
    /// # Errors
    /// Database errors.
    pub async fn record(&self, peer: &str, action: &str, outcome: &str, reason: &str) -> Result<()> {
        let row = audit::of_peer(&*self.clock, &*self.ids, self.audit_tenant, peer, action, outcome, reason);
        let mut tx = self.store.begin().await?;
        aiox_store::audit::note(&mut tx, &row).await?;
        tx.commit().await
    }
}
