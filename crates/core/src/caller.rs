//! Who asks. Built by a door from what it has authenticated, never from a body or an unauthenticated header.

use std::net::IpAddr;

use aiox_model::{ApiKeyId, BareJid, TenantId, TraceId, UserId};

use crate::quota::Limits;

/// The way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// REST, SSE, WebSocket.
    Rest,
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
        use Scope::{AccountsAdmin, AgentsRead, AgentsWrite, RunsCancel, RunsCreate, RunsRead, TenantRead};
        match self {
            Self::Viewer => vec![AgentsRead, RunsRead],
            Self::User | Self::Service => vec![AgentsRead, AgentsWrite, RunsCreate, RunsRead, RunsCancel],
            Self::Operator => vec![AgentsRead, RunsRead, RunsCancel, TenantRead],
            Self::Manager => vec![AgentsRead, AgentsWrite, RunsCreate, RunsRead, RunsCancel, TenantRead],
            Self::TenantAdmin => vec![AgentsRead, AgentsWrite, RunsCreate, RunsRead, RunsCancel, TenantRead, AccountsAdmin],
            Self::PlatformAdmin => Scope::ALL.to_vec(),
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
    /// Read what belongs to the whole tenant: workers, audit, queue.
    TenantRead,
    /// Manage users, invitations and roles of the tenant.
    AccountsAdmin,
    /// Manage peer hubs.
    PeersAdmin,
}
impl Scope {
    /// Every scope.
    pub const ALL: [Self; 8] = [
        Self::AgentsRead,
        Self::AgentsWrite,
        Self::RunsCreate,
        Self::RunsRead,
        Self::RunsCancel,
        Self::TenantRead,
        Self::AccountsAdmin,
        Self::PeersAdmin,
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
            Self::TenantRead => "tenant:read",
            Self::AccountsAdmin => "accounts:admin",
            Self::PeersAdmin => "peers:admin",
        }
    }
    /// The scope of a text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
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
    /// Correlation id.
    pub trace: TraceId,
    /// The way in.
    pub door: Door,
    /// Network address of the client, where the door knows it.
    pub address: Option<IpAddr>,
}
impl Caller {
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
