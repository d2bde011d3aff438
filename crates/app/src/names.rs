//! Names that a hub gives, all derived from its one domain setting.

use aiox_model::{AgentId, BareJid};

/// The names of this hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubNames {
    domain: String,
}

impl HubNames {
    /// The names of the hub that owns `domain`, for instance `hub-a.example`.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self { domain: domain.to_lowercase() }
    }
    /// The hub's domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }
    /// The domain of its agents' addresses: `agents.<domain>`.
    #[must_use]
    pub fn agents_domain(&self) -> String {
        agents_domain(&self.domain)
    }
    /// An agent's address: `agent-<uuid>@agents.<domain>`.
    #[must_use]
    pub fn agent_jid(&self, agent: AgentId) -> String {
        format!("agent-{}@agents.{}", agent.uuid(), self.domain)
    }
    /// An agent's SPIFFE id.
    #[must_use]
    pub fn agent_spiffe(&self, agent: AgentId) -> String {
        format!("spiffe://{}/agent/{}", self.domain, agent.uuid())
    }
    /// A user's address: `<username>@<domain>`. `None` if the name is no localpart.
    #[must_use]
    pub fn user_jid(&self, username: &str) -> Option<BareJid> {
        format!("{username}@{}", self.domain).parse().ok()
    }
}

/// The domain of the agents of the hub that owns `domain`.
#[must_use]
pub fn agents_domain(domain: &str) -> String {
    format!("agents.{domain}")
}
