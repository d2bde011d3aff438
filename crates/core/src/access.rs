//! Who may use an agent. One decision for every door.

use aiox_model::agent::{GranteeKind, Visibility};

use crate::{Caller, Principal, Role};

/// The facts about an agent that decide.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The agent's tenant.
    pub tenant: aiox_model::TenantId,
    /// Its owner.
    pub owner: aiox_model::UserId,
    /// Its visibility.
    pub visibility: Visibility,
    /// Its grants.
    pub grants: &'a [(GranteeKind, String)],
    /// Domains of active peer hubs.
    pub peers: &'a [String],
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// May read and change the configuration.
    Own,
    /// May talk to it and see its card.
    Use,
    /// Looks exactly like a missing one.
    None,
}

/// Decides. Default deny: whatever is not named here is [`Access::None`].
#[must_use]
pub fn decide(caller: &Caller, agent: &Subject<'_>) -> Access {
    let same_tenant = caller.tenant == agent.tenant;
    match &caller.principal {
        Principal::User { id, jid, .. } => {
            if same_tenant && (*id == agent.owner || caller.role >= Role::Manager) {
                return Access::Own;
            }
            let by_visibility = match agent.visibility {
                Visibility::Private | Visibility::Shared => false,
                Visibility::Tenant | Visibility::Mesh => same_tenant,
                Visibility::Public => true,
            };
            let granted = agent.grants.iter().any(|(kind, grantee)| match kind {
                GranteeKind::User => same_tenant && (*grantee == id.uuid().to_string() || *grantee == jid.local()),
                GranteeKind::Role => same_tenant && *grantee == caller.role.as_str(),
                GranteeKind::Jid => grantee == jid.as_str(),
                GranteeKind::Domain => grantee == jid.domain(),
                GranteeKind::Peer => false,
            });
            if by_visibility || granted { Access::Use } else { Access::None }
        }
        Principal::Remote { jid } => {
            let from_peer = agent.peers.iter().any(|peer| peer == jid.domain());
            let by_visibility = match agent.visibility {
                Visibility::Private | Visibility::Shared | Visibility::Tenant => false,
                Visibility::Mesh => from_peer,
                Visibility::Public => true,
            };
            let granted = agent.grants.iter().any(|(kind, grantee)| match kind {
                GranteeKind::User | GranteeKind::Role => false,
                GranteeKind::Jid => grantee == jid.as_str(),
                GranteeKind::Domain => grantee == jid.domain(),
                GranteeKind::Peer => from_peer && grantee == jid.domain(),
            });
            if by_visibility || granted { Access::Use } else { Access::None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Door, Scope, quota::Limits};
    use aiox_model::{TenantId, TraceId, UserId};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn caller(tenant: u128, principal: Principal) -> Caller {
        Caller {
            tenant: TenantId(Uuid::from_u128(tenant)),
            principal,
            role: Role::User,
            scopes: Scope::ALL.to_vec(),
            limits: Limits::default(),
            trace: TraceId(Uuid::nil()),
            correlation: None,
            door: Door::Rest,
            address: None,
        }
    }
    fn user(id: u128) -> Principal {
        Principal::User { id: UserId(Uuid::from_u128(id)), jid: format!("u{id}@hub-a.example").parse().unwrap(), key: None }
    }
    fn remote(jid: &str) -> Principal {
        Principal::Remote { jid: jid.parse().unwrap() }
    }
    fn subject<'a>(visibility: Visibility, grants: &'a [(GranteeKind, String)], peers: &'a [String]) -> Subject<'a> {
        Subject { tenant: TenantId(Uuid::from_u128(1)), owner: UserId(Uuid::from_u128(7)), visibility, grants, peers }
    }

    #[test]
    fn a_private_agent_is_its_owners_alone() {
        let agent = subject(Visibility::Private, &[], &[]);
        assert_eq!(decide(&caller(1, user(7)), &agent), Access::Own);
        assert_eq!(decide(&caller(1, user(8)), &agent), Access::None);
        assert_eq!(decide(&caller(2, user(7)), &agent), Access::None);
        assert_eq!(decide(&caller(1, remote("x@hub-b.example")), &agent), Access::None);
    }

    #[test]
    fn mesh_needs_an_active_peer() {
        let peers = ["hub-b.example".to_owned()];
        assert_eq!(decide(&caller(1, remote("x@hub-b.example")), &subject(Visibility::Mesh, &[], &peers)), Access::Use);
        assert_eq!(decide(&caller(1, remote("x@hub-c.example")), &subject(Visibility::Mesh, &[], &peers)), Access::None);
        assert_eq!(decide(&caller(1, remote("x@hub-b.example")), &subject(Visibility::Mesh, &[], &[])), Access::None);
        assert_eq!(decide(&caller(1, remote("x@hub-b.example")), &subject(Visibility::Tenant, &[], &peers)), Access::None);
    }

    #[test]
    fn each_kind_of_grant_opens_just_its_grantee() {
        let peers = ["hub-b.example".to_owned()];
        let cases = [
            (GranteeKind::User, "u8", caller(1, user(8)), caller(1, user(9))),
            (GranteeKind::Role, "user", caller(1, user(8)), caller(2, user(8))),
            (GranteeKind::Jid, "x@hub-b.example", caller(1, remote("x@hub-b.example")), caller(1, remote("y@hub-b.example"))),
            (GranteeKind::Domain, "hub-z.example", caller(1, remote("x@hub-z.example")), caller(1, remote("x@hub-b.example"))),
            (GranteeKind::Peer, "hub-b.example", caller(1, remote("x@hub-b.example")), caller(1, remote("x@hub-z.example"))),
        ];
        for (kind, grantee, yes, no) in cases {
            let grants = [(kind, grantee.to_owned())];
            let agent = subject(Visibility::Private, &grants, &peers);
            assert_eq!(decide(&yes, &agent), Access::Use, "{kind:?}");
            assert_eq!(decide(&no, &agent), Access::None, "{kind:?}");
        }
    }

    proptest! {
        #[test]
        fn a_remote_principal_never_owns(domain in "[a-z]{1,8}\\.example", public: bool) {
            let visibility = if public { Visibility::Public } else { Visibility::Private };
            let agent = subject(visibility, &[], &[]);
            prop_assert_ne!(decide(&caller(1, remote(&format!("u7@{domain}"))), &agent), Access::Own);
        }
    }
}
