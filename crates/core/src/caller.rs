//! Who asks. Built by a door from what it has authenticated, never from a body or an unauthenticated header.

use std::{net::IpAddr, sync::Arc};

use aiox_model::{ApiKeyId, BareJid, TenantId, TraceId, UserId};

use crate::quota::Limits;

/// The way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// REST, SSE, WebSocket: `/api/v1`.
    Rest,
    /// `/v1` and the OpenAI-compatible endpoints. The node's default limits of tenants hold here alone.
    V1,
    /// An XMPP stanza.
    Xmpp,
    /// A peer hub's envelope.
    Federation,
    /// The hub itself, for instance at start.
    Hub,
}
impl Door {
    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::V1 => "v1",
            Self::Xmpp => "xmpp",
            Self::Federation => "federation",
            Self::Hub => "hub",
        }
    }
}

/// Standing of an account (capabilities A-06).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Reads only.
    Viewer,
    /// Uses and owns agents.
    User,
    /// A program.
    Service,
    /// Sees the operation of the tenant.
    Operator,
    /// Manages others' agents of the tenant.
    Manager,
    /// Manages the tenant.
    TenantAdmin,
    /// Manages the hub.
    PlatformAdmin,
}
impl Role {
    /// Every role.
    pub const ALL: [Self; 7] =
        [Self::Viewer, Self::User, Self::Service, Self::Operator, Self::Manager, Self::TenantAdmin, Self::PlatformAdmin];
    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Service => "service",
            Self::Operator => "operator",
            Self::Manager => "manager",
            Self::TenantAdmin => "tenant_admin",
            Self::PlatformAdmin => "platform_admin",
        }
    }
    /// The role of a stored text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
    /// What the role may do at most.
    #[must_use]
    pub fn scopes(self) -> Vec<Scope> {
        use Scope::{AccountsAdmin, AgentsRead, AgentsWrite, ModelsList, RunsCancel, RunsRead, TenantRead, TenantsAdmin};
        let more = |more: &[Scope]| [&Scope::USE[..], &[AgentsWrite], more].concat();
        match self {
            Self::Viewer => vec![AgentsRead, RunsRead, ModelsList],
            Self::User | Self::Service => more(&[]),
            Self::Operator => vec![AgentsRead, RunsRead, RunsCancel, ModelsList, TenantRead],
            Self::Manager => more(&[TenantRead]),
            Self::TenantAdmin => more(&[TenantRead, AccountsAdmin, TenantsAdmin]),
            Self::PlatformAdmin => Scope::ALL.to_vec(),
        }
    }
    /// What `/v1` calls it: there are four standings.
    #[must_use]
    pub const fn standing(self) -> &'static str {
        match self {
            Self::PlatformAdmin => "platform_admin",
            Self::TenantAdmin => "tenant_admin",
            Self::Service => "tenant_service",
            Self::Viewer | Self::User | Self::Operator | Self::Manager => "tenant_user",
        }
    }
    /// The role of a standing of `/v1`, or of a role's own name.
    #[must_use]
    pub fn of_standing(text: &str) -> Option<Self> {
        match text {
            "tenant_user" => Some(Self::User),
            "tenant_service" => Some(Self::Service),
            other => Self::parse(other),
        }
    }
}

/// One thing that a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Read agents.
    AgentsRead,
    /// Create, change, delete and grant own agents.
    AgentsWrite,
    /// Send messages.
    RunsCreate,
    /// Read runs, events and history.
    RunsRead,
    /// Cancel runs.
    RunsCancel,
    /// Send runs to a peer hub by its name.
    RunsForward,
    /// Bring in events of another hub.
    EventsIngest,
    /// Call a model.
    ModelsInvoke,
    /// See which models there are.
    ModelsList,
    /// Ask what the content policy says of a text.
    PolicyCheck,
    /// Call tools.
    ToolsInvoke,
    /// Read what belongs to the whole tenant: workers, audit, queue.
    TenantRead,
    /// Manage users, invitations and roles of the tenant.
    AccountsAdmin,
    /// Manage peer hubs.
    PeersAdmin,
    /// Manage tenants: the own one, or with the role of a platform admin every one. Only a credential gives it, never a header.
    TenantsAdmin,
}
impl Scope {
    /// Every scope.
    pub const ALL: [Self; 15] = [
        Self::AgentsRead,
        Self::AgentsWrite,
        Self::RunsCreate,
        Self::RunsRead,
        Self::RunsCancel,
        Self::RunsForward,
        Self::EventsIngest,
        Self::ModelsInvoke,
        Self::ModelsList,
        Self::PolicyCheck,
        Self::ToolsInvoke,
        Self::TenantRead,
        Self::AccountsAdmin,
        Self::PeersAdmin,
        Self::TenantsAdmin,
    ];
    /// The scopes of `/v1` except `tenants:admin`: what its tenant users have, and the most that an identity without a credential has.
    pub const USE: [Self; 10] = [
        Self::RunsCreate,
        Self::RunsRead,
        Self::RunsCancel,
        Self::RunsForward,
        Self::EventsIngest,
        Self::AgentsRead,
        Self::ModelsInvoke,
        Self::ModelsList,
        Self::PolicyCheck,
        Self::ToolsInvoke,
    ];
    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentsRead => "agents:read",
            Self::AgentsWrite => "agents:write",
            Self::RunsCreate => "runs:create",
            Self::RunsRead => "runs:read",
            Self::RunsCancel => "runs:cancel",
            Self::RunsForward => "runs:forward",
            Self::EventsIngest => "events:ingest",
            Self::ModelsInvoke => "models:invoke",
            Self::ModelsList => "models:list",
            Self::PolicyCheck => "policy:check",
            Self::ToolsInvoke => "tools:invoke",
            Self::TenantRead => "tenant:read",
            Self::AccountsAdmin => "accounts:admin",
            Self::PeersAdmin => "peers:admin",
            Self::TenantsAdmin => "tenants:admin",
        }
    }
    /// The scope of a text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
    /// The scopes that a text names: one, or several by an alias of `/v1`. Empty: it names none.
    #[must_use]
    pub fn named(text: &str) -> Vec<Self> {
        match text {
            "runs:write" => vec![Self::RunsCreate, Self::RunsCancel, Self::RunsForward],
            "events:read" => vec![Self::RunsRead],
            "events:write" => vec![Self::EventsIngest],
            other => Self::parse(other).into_iter().collect(),
        }
    }
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// An account of this hub, whatever it signed in with.
    User {
        /// The account.
        id: UserId,
        /// Its XMPP address on this hub.
        jid: BareJid,
        /// Set when an API key acts for it.
        key: Option<ApiKeyId>,
    },
    /// Somebody whom another domain vouches for: its XMPP server through s2s, or its hub through a signed envelope.
    Remote {
        /// Their address.
        jid: BareJid,
    },
}
impl Principal {
    /// Key of conversations, quotas and idempotency. An account has one, whatever door and credential it uses.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::User { id, .. } => format!("user:{}", id.uuid()),
            Self::Remote { jid } => format!("jid:{jid}"),
        }
    }
    /// The address that other people know it by.
    #[must_use]
    pub const fn jid(&self) -> &BareJid {
        match self {
            Self::User { jid, .. } | Self::Remote { jid } => jid,
        }
    }
    /// The local account, if it is one.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::User { id, .. } => Some(*id),
            Self::Remote { .. } => None,
        }
    }
}

/// An authenticated request: exactly one tenant, one principal, the scopes it has here and now.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant that the request runs in. A remote principal runs in the tenant of the agent it addresses.
    pub tenant: TenantId,
    /// Who acts.
    pub principal: Principal,
    /// Standing in the tenant.
    pub role: Role,
    /// What it may do; a key's or token's scopes never exceed the role's.
    pub scopes: Vec<Scope>,
    /// Allowance of the principal.
    pub limits: Limits,
    /// The trace that the request belongs to.
    pub trace: TraceId,
    /// What the client calls the request by, where it is not the trace. It is what audit records show.
    pub correlation: Option<Arc<str>>,
    /// The way in.
    pub door: Door,
    /// Network address of the client, where the door knows it.
    pub address: Option<IpAddr>,
}
impl Caller {
    /// The id that joins answers, log lines and audit records of the request.
    #[must_use]
    pub fn correlation(&self) -> String {
        self.correlation.as_deref().map_or_else(|| self.trace.to_string(), str::to_owned)
    }

    /// Fails unless the caller holds `scope`.
    ///
    /// # Errors
    /// [`crate::Error::Forbidden`] naming the scope.
    pub fn require(&self, scope: Scope) -> crate::Result<()> {
        if self.scopes.contains(&scope) {
            Ok(())
        } else {
            Err(crate::Error::forbidden("forbidden", format!("this needs the scope {}", scope.as_str())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_and_role_has_one_name_that_reads_back() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
            assert_eq!(Scope::named(scope.as_str()), [scope]);
        }
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
            assert_eq!(Role::of_standing(role.as_str()), Some(role));
            assert_eq!(Role::of_standing(role.standing()).map(Role::standing), Some(role.standing()));
        }
    }

    #[test]
    fn aliases_name_what_they_stand_for_and_nothing_else_names_anything() {
        assert_eq!(Scope::named("runs:write"), [Scope::RunsCreate, Scope::RunsCancel, Scope::RunsForward]);
        assert_eq!(Scope::named("events:read"), [Scope::RunsRead]);
        assert_eq!(Scope::named("events:write"), [Scope::EventsIngest]);
        for bad in ["", "runs", "runs:*", "Runs:create", "tenants:admin "] {
            assert!(Scope::named(bad).is_empty(), "{bad}");
        }
    }

    #[test]
    fn only_administrators_administer_and_nobody_has_more_than_the_platform_admin() {
        for role in Role::ALL {
            let scopes = role.scopes();
            let admin = matches!(role, Role::TenantAdmin | Role::PlatformAdmin);
            assert_eq!(scopes.contains(&Scope::TenantsAdmin), admin, "{role:?}");
            assert_eq!(scopes.contains(&Scope::PeersAdmin), role == Role::PlatformAdmin, "{role:?}");
            let distinct: std::collections::BTreeSet<_> = scopes.iter().collect();
            assert_eq!(distinct.len(), scopes.len(), "{role:?} has a scope twice");
        }
        assert!(!Scope::USE.contains(&Scope::TenantsAdmin));
        assert_eq!(Role::User.scopes(), Role::Service.scopes());
    }
}
