//! What a hub for trying out has from the start: a tenant and two agents that need no provider outside.

use aiox_core::{
    Door, Result,
    ports::{Clock, Ids},
    tenant::Status,
};
use aiox_model::{TenantId, TraceId};
use aiox_store::{Store, tenants};

use crate::{
    Accounts, Agents,
    accounts::{Named, Origin},
};

/// Its tenant.
pub const TENANT: &str = "tnt_demo";
/// Who owns its agents: whoever names this principal at `/v1`.
const OWNER: &str = "usr_tnt_demo_admin";

/// Makes them unless they are there. What an administrator has changed, disabled or deleted since stays so.
///
/// # Errors
/// Database errors.
pub async fn make(store: &Store, accounts: &Accounts, agents: &Agents, clock: &dyn Clock, ids: &dyn Ids) -> Result<()> {
    let mut tx = store.begin().await?;
    let id = tenants::ensure(&mut tx, ids.uuid(), TENANT, clock.now()).await?;
    let deleted = tenants::by_id(&mut tx, id).await?.is_none_or(|tenant| tenant.status == Status::Deleted);
    tx.commit().await?;
    if deleted {
        return Ok(());
    }
    let named = Named { tenant: TenantId(id), principal: OWNER, service: false };
    let owner = accounts.named(named, Origin { address: None, trace: TraceId(ids.uuid()) }, Door::Hub).await?;
    agents.make_samples(&owner).await
}
