//! From any name of an agent to the agent, before anything else is decided.

use std::sync::Arc;

use aiox_core::{
    Caller, Door, Error, Principal, Result,
    access::{self, Access, Subject},
};
use aiox_model::{
    AgentId, BareJid,
    agent::{AgentCard, GranteeKind},
};
use aiox_store::{AsDb, Remembered, Store, agents, agents::AgentRow, peers};

use crate::{HubNames, names::agents_domain};

/// A name of an agent, as a caller gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentRef {
    /// `agt_…` or a UUID.
    Id(AgentId),
    /// A readable name on this hub.
    Handle(String),
    /// `agent-<uuid>@agents.<domain>` or `<handle>@agents.<domain>`, of this or another hub.
    Jid(BareJid),
}

impl AgentRef {
    /// Reads any form of name. `None`: it cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(id) = text.parse() {
            return Some(Self::Id(id));
        }
        if let Some(rest) = text.strip_prefix("spiffe://") {
            let (domain, id) = rest.split_once("/agent/")?;
            return format!("agent-{id}@agents.{domain}").parse().ok().map(Self::Jid);
        }
        if text.contains('@') {
            return text.parse().ok().map(Self::Jid);
        }
        let text = text.to_lowercase();
        aiox_core::agent::names_an_agent(&text).then_some(Self::Handle(text))
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Target {
    /// An agent of this hub, and what the caller may do with it.
    Local(Arc<AgentRow>, Access),
    /// An agent of a peer hub.
    Remote {
        /// Domain of the peer.
        peer: String,
        /// Its address there, as far as it is known: by id if the directory has told, else as given.
        jid: String,
        /// Its card, if the directory has told.
        card: Option<Box<AgentCard>>,
    },
}

/// Resolves names and decides what the caller may do.
#[derive(Clone)]
pub struct Directory {
    store: Store,
    remembered: Remembered,
    names: HubNames,
}

const MISSING: Error = Error::NotFound("agent");

impl Directory {
    /// A directory of this hub's agents and of its peers'.
    #[must_use]
    pub fn new(store: Store, names: HubNames) -> Self {
        Self { remembered: Remembered::new(store.clone()), store, names }
    }

    /// Names of this hub.
    #[must_use]
    pub const fn names(&self) -> &HubNames {
        &self.names
    }

    /// The agent that a caller may at least use.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown, deleted and forbidden agents alike; database errors.
    pub async fn resolve(&self, caller: &Caller, agent: &AgentRef) -> Result<Target> {
        match self.find(agent).await? {
            // At `/v1` nothing of another tenant exists, not even what its owner opened to everybody.
            Found::Local(row) if caller.door == Door::V1 && row.tenant != caller.tenant => Err(MISSING),
            Found::Local(row) => match decide(caller, &row, &[], &[]) {
                Access::None => {
                    let access = self.access(&mut self.store.read().await?, caller, &row).await?;
                    if access == Access::None { Err(MISSING) } else { Ok(Target::Local(row, access)) }
                }
                access => Ok(Target::Local(row, access)),
            },
            Found::Remote { peer, jid, card } => {
                // Peers' agents are for accounts of this hub: nobody is relayed to a third party.
                if matches!(caller.principal, Principal::Remote { .. }) { Err(MISSING) } else { Ok(Target::Remote { peer, jid, card }) }
            }
            Found::Nothing => Err(MISSING),
        }
    }

    /// The living local agent of a name, whoever asks.
    ///
    /// # Errors
    /// [`Error::NotFound`], database errors.
    pub async fn local(&self, agent: &AgentRef) -> Result<AgentRow> {
        match self.find(agent).await? {
            Found::Local(row) => Ok(Arc::unwrap_or_clone(row)),
            _ => Err(MISSING),
        }
    }

    /// What a caller may do with an agent.
    ///
    /// # Errors
    /// Database errors.
    pub async fn access(&self, db: &mut impl AsDb, caller: &Caller, row: &AgentRow) -> Result<Access> {
        let plain = decide(caller, row, &[], &[]);
        if plain != Access::None {
            return Ok(plain);
        }
        let peers = match caller.principal {
            Principal::Remote { .. } => peers::active_domains(db).await?,
            Principal::User { .. } => Vec::new(),
        };
        let grants: Vec<_> = agents::grants(db, row.id).await?.into_iter().map(|grant| (grant.kind, grant.grantee)).collect();
        Ok(decide(caller, row, &grants, &peers))
    }

    async fn find(&self, agent: &AgentRef) -> Result<Found> {
        let row = match agent {
            AgentRef::Id(id) => self.remembered.agent(*id).await?,
            AgentRef::Handle(name) => self.remembered.agent_by_name(name).await?,
            AgentRef::Jid(jid) if jid.domain() == self.names.agents_domain() => match id_of(jid.local()) {
                Some(id) => self.remembered.agent(id).await?,
                None => self.remembered.agent_by_name(jid.local()).await?,
            },
            AgentRef::Jid(jid) => return remote(&mut self.store.read().await?, jid).await,
        };
        Ok(row.filter(|row| row.deleted_at.is_none()).map_or(Found::Nothing, Found::Local))
    }
}

enum Found {
    Local(Arc<AgentRow>),
    Remote { peer: String, jid: String, card: Option<Box<AgentCard>> },
    Nothing,
}

async fn remote(db: &mut impl AsDb, jid: &BareJid) -> Result<Found> {
    let active = peers::active_domains(db).await?;
    let Some(peer) = active.into_iter().find(|peer| agents_domain(peer) == jid.domain()) else {
        return Ok(Found::Nothing);
    };
    let known = peers::agent(db, &peer, jid.as_str(), jid.local()).await?;
    let (jid, card) = match known {
        Some((jid, card)) => (jid, serde_json::from_str(&card).ok().map(Box::new)),
        None => (jid.to_string(), None),
    };
    Ok(Found::Remote { peer, jid, card })
}

fn decide(caller: &Caller, row: &AgentRow, grants: &[(GranteeKind, String)], peers: &[String]) -> Access {
    access::decide(caller, &Subject { tenant: row.tenant, owner: row.owner, visibility: row.visibility, grants, peers })
}

/// The agent id in the local part of an address: `agent-<uuid>` or the `agt_…` form in either case.
fn id_of(local: &str) -> Option<AgentId> {
    match local.strip_prefix("agent-") {
        Some(id) => id.parse().ok(),
        None => local.get(4..).filter(|_| local.starts_with("agt_")).and_then(|rest| format!("agt_{}", rest.to_uppercase()).parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_name_is_read() {
        let id: AgentId = "0190f5fe-7c00-7000-8000-000000000001".parse().unwrap();
        assert_eq!(AgentRef::parse(&id.to_string()), Some(AgentRef::Id(id)));
        assert_eq!(AgentRef::parse("0190f5fe-7c00-7000-8000-000000000001"), Some(AgentRef::Id(id)));
        assert_eq!(AgentRef::parse("Helper"), Some(AgentRef::Handle("helper".into())));
        let jid = AgentRef::Jid("agent-0190f5fe-7c00-7000-8000-000000000001@agents.hub-b.example".parse().unwrap());
        assert_eq!(AgentRef::parse("spiffe://hub-b.example/agent/0190f5fe-7c00-7000-8000-000000000001"), Some(jid));
        assert_eq!(AgentRef::parse("agt_demo"), Some(AgentRef::Handle("agt_demo".into())));
        assert_eq!(AgentRef::parse("agt_other"), None);
        assert_eq!(AgentRef::parse("a b"), None);
        assert_eq!(AgentRef::parse(""), None);
    }

    #[test]
    fn ids_in_addresses_are_found_in_both_forms() {
        let id: AgentId = "0190f5fe-7c00-7000-8000-000000000001".parse().unwrap();
        assert_eq!(id_of("agent-0190f5fe-7c00-7000-8000-000000000001"), Some(id));
        assert_eq!(id_of(&id.to_string().to_lowercase()), Some(id));
        assert_eq!(id_of("helper"), None);
    }
}
