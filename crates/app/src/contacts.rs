//! Who subscribed to an agent's presence on XMPP.

use std::sync::Arc;

use aiox_core::{Result, ports::Clock};
use aiox_model::AgentId;
use aiox_store::{Store, agents};

/// Subscriptions, durable, because the XMPP server keeps none for a component.
#[derive(Clone)]
pub struct Contacts {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Contacts {
    /// The subscriptions of a store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Adds a subscriber (bare address).
    ///
    /// # Errors
    /// Database errors.
    pub async fn add(&self, agent: AgentId, jid: &str) -> Result<()> {
        let mut tx = self.store.begin().await?;
        agents::add_contact(&mut tx, agent, jid, self.clock.now()).await?;
        tx.commit().await
    }

    /// Removes a subscriber.
    ///
    /// # Errors
    /// Database errors.
    pub async fn remove(&self, agent: AgentId, jid: &str) -> Result<()> {
        let mut tx = self.store.begin().await?;
        agents::remove_contact(&mut tx, agent, jid).await?;
        tx.commit().await
    }

    /// Subscribers of agents, deleted ones too, in order, after `after`; at most `limit`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn page(&self, after: Option<(AgentId, String)>, limit: u32) -> Result<Vec<(AgentId, String)>> {
        agents::contacts(&mut self.store.read().await?, after, limit).await
    }
}
