//! Principals whom another domain vouches for.

use aiox_core::{Caller, Door, Principal, Role, Scope, quota::Limits};
use aiox_model::{BareJid, TenantId, TraceId};
use uuid::Uuid;

/// The caller that a remote principal is, at any door.
pub(crate) fn remote_caller(jid: BareJid, limits: Limits, trace: TraceId, door: Door) -> Caller {
    Caller {
        // Replaced by the tenant of the agent that is addressed.
        tenant: TenantId(Uuid::nil()),
        principal: Principal::Remote { jid },
        role: Role::User,
        scopes: vec![Scope::RunsCreate, Scope::RunsRead, Scope::RunsCancel],
        limits,
        trace,
        correlation: None,
        door,
        address: None,
    }
}
