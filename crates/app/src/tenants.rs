//! What administrators do with tenants: make, read, change, switch off and on, delete.
//!
//! A platform admin sees and changes every tenant. A tenant admin sees the own one alone, everything else looks like a missing one, and
//! changes of it what is not about what the tenant may use. Each change leaves one audit record, and so does each denial: those that the
//! answer says (401, 403) are recorded by the door, those that it hides or calls otherwise (404, 400, 409) here.
//!
//! A delete is soft: the tenant and everybody in it are unknown from then on and its keys are revoked, while agents, runs,
//! conversations and audit records stay in the database, sealed as before and unreachable at every door. Its id and the names of its
//! accounts and agents are never used again.

mod audit;
mod once;
mod tokens;

use std::sync::Arc;

use aiox_core::{
    Caller, Error, Result, Role, Scope,
    ports::{Clock, Ids},
    tenant::{self, Status},
};
use aiox_model::{
    TenantId, Ts,
    objects::Objects,
    v1::tenants::{Tenant, TenantCreate},
};
use aiox_store::{
    Store, Tx, service_tokens,
    tenants::{self as rows, TenantRow},
};
use serde::Deserialize as _;
use serde_json::{Map, Value};

pub use self::{
    audit::{AuditBatch, AuditQuery, audit_record},
    once::{Answered, Repeatable},
};
use crate::{TenantBook, Vault, audit as records, whole::whole};

/// What a resource that is a tenant is called in audit records.
const KIND: &str = "tenant";

/// The tenants of a hub.
#[derive(Clone)]
pub struct Tenants {
    store: Store,
    vault: Vault,
    book: TenantBook,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// Domain of the addresses that the accounts of services are filed under.
    domain: String,
    /// The tenant that nobody may switch off: its administrators run the hub.
    default: TenantId,
}

impl Tenants {
    /// Tenants over the given ports.
    #[must_use]
    pub fn new(
        store: Store,
        vault: Vault,
        book: TenantBook,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        names: &crate::HubNames,
        default: TenantId,
    ) -> Self {
        Self { store, vault, book, clock, ids, domain: names.domain().to_owned(), default }
    }

    /// What every door asks of a tenant.
    #[must_use]
    pub const fn book(&self) -> &TenantBook {
        &self.book
    }

    /// Tenants that the caller administers, by the names that they are found by, and the name to go on from.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope; database errors.
    pub async fn list(&self, caller: &Caller, after: &str, limit: u32) -> Result<(Vec<Tenant>, Option<String>)> {
        caller.require(Scope::TenantsAdmin)?;
        if caller.role != Role::PlatformAdmin {
            let own = self.living(caller.tenant).await?;
            let own = own.filter(|row| row.name.as_str() > after);
            return Ok((own.iter().map(view).collect(), None));
        }
        let mut found = rows::living(&mut self.store.read().await?, after, limit.saturating_add(1)).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|row| row.name.clone());
        Ok((found.iter().map(view).collect(), next))
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope, [`Error::NotFound`] for unknown ones and for those of others alike; database errors.
    pub async fn read(&self, caller: &Caller, id: &str) -> Result<Tenant> {
        Ok(view(&self.mine(caller, "tenants.read", id).await?))
    }

    /// Makes a tenant, once for a request that may come again.
    ///
    /// # Errors
    /// [`Error::Forbidden`] unless the caller administers the platform, [`Error::Invalid`] for a wrong member, [`Error::Conflict`] for an
    /// id that is, or once was, another one's, and for a key that was used for another request; database errors.
    pub async fn create(&self, caller: &Caller, new: TenantCreate, repeatable: Option<Repeatable>) -> Result<Answered<Tenant>> {
        const ACTION: &str = "tenants.create";
        self.require_platform(caller, ACTION, None).await?;
        tenant::check(&new)?;
        let now = self.clock.now();
        let (id, name) = match &new.tenant_id {
            // An id in the form of a UUID's is that UUID's, or one text would name two tenants.
            Some(text) => (text.parse().unwrap_or_else(|_| TenantId(self.ids.uuid())), text.clone()),
            None => {
                let id = TenantId(self.ids.uuid());
                (id, id.to_string())
            }
        };
        let blank = TenantRow {
            id,
            display: name.clone(),
            name,
            status: Status::Active,
            plan_tier: String::new(),
            default_policy_id: None,
            entitlements: aiox_model::v1::tenants::Entitlements::default(),
            quotas: aiox_model::v1::tenants::Quotas::default(),
            policy: aiox_model::v1::tenants::ModelPolicy::default(),
            metadata: Map::new(),
            created_at: now,
            updated_at: now,
        };
        let row = TenantRow { updated_at: now, ..becoming(&blank, new, now) };
        let mut tx = self.store.begin().await?;
        if let Some(first) = self.first(&mut tx, caller, ACTION, repeatable.as_ref(), &view(&row)).await? {
            return Ok(first);
        }
        if !rows::insert(&mut tx, &row).await? {
            return Err(Error::conflict("conflict", "this tenant_id is, or once was, the id of another tenant"));
        }
        self.commit(tx, caller, ACTION, row).await.map(Answered::now)
    }

    /// Replaces what a tenant is: absent members get their defaults.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::Forbidden`] for a tenant admin who changes what the tenant may use, [`Error::Invalid`] for a
    /// wrong member, [`Error::Conflict`] for the status of the hub's own tenant.
    pub async fn replace(&self, caller: &Caller, id: &str, new: TenantCreate) -> Result<Tenant> {
        self.change(caller, "tenants.update", id, |_| Ok(new)).await
    }

    /// Changes members of a tenant by a merge patch (RFC 7396): `null` resets a member, absent ones stay.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub async fn patch(&self, caller: &Caller, id: &str, patch: Map<String, Value>) -> Result<Tenant> {
        self.change(caller, "tenants.update", id, |row| merged(row, patch)).await
    }

    /// Switches a tenant on or off. Switched off, its credentials are refused at every door from the next request on; its runs that are
    /// under way come to their end. Doing it again changes nothing.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::Forbidden`] unless the caller administers the platform, [`Error::Conflict`] for the hub's own
    /// tenant.
    pub async fn set_enabled(&self, caller: &Caller, id: &str, enabled: bool) -> Result<Tenant> {
        let (action, status) = if enabled { ("tenants.enable", "active") } else { ("tenants.disable", "disabled") };
        self.require_platform(caller, action, Some(id)).await?;
        self.change(caller, action, id, |row| Ok(TenantCreate { status: Some(status.into()), ..editable(row) })).await
    }

    /// Deletes a tenant, see the text of this module. `confirm` has to repeat its id.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::Forbidden`] unless the caller administers the platform, [`Error::Invalid`] without the
    /// confirmation, [`Error::Conflict`] for the hub's own tenant.
    pub async fn delete(&self, caller: &Caller, id: &str, confirm: Option<&str>) -> Result<()> {
        const ACTION: &str = "tenants.delete";
        self.require_platform(caller, ACTION, Some(id)).await?;
        let row = self.mine(caller, ACTION, id).await?;
        let text = tenant::text(&row.name, row.id);
        if row.id == self.default {
            self.denied(caller, ACTION, &text, "the hub's own tenant").await;
            return Err(own_tenant());
        }
        if confirm != Some(text.as_str()) {
            self.denied(caller, ACTION, &text, "not confirmed").await;
            return Err(Error::invalid("confirm", format!("a delete has to be confirmed: add ?confirm={text}")));
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        // What was found may have been changed since: the transaction decides.
        let row = rows::by_id(&mut tx, row.id.uuid()).await?.filter(|row| row.status != Status::Deleted).ok_or(Error::NotFound(KIND))?;
        let row = TenantRow { status: Status::Deleted, updated_at: after(&row, now), ..row };
        rows::update(&mut tx, &row).await?;
        service_tokens::revoke_all(&mut tx, row.id, now).await?;
        self.commit(tx, caller, ACTION, row).await.map(drop)
    }

    async fn change(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        edit: impl FnOnce(&TenantRow) -> Result<TenantCreate>,
    ) -> Result<Tenant> {
        let found = self.mine(caller, action, id).await?;
        let mut tx = self.store.begin().await?;
        // What was found may have been changed since: the transaction decides.
        let current = rows::by_id(&mut tx, found.id.uuid()).await?.filter(|row| row.status != Status::Deleted);
        let current = current.ok_or(Error::NotFound(KIND))?;
        let text = tenant::text(&current.name, current.id);
        let wanted = edit(&current)?;
        tenant::check(&wanted)?;
        if wanted.tenant_id.as_ref().is_some_and(|wanted| *wanted != text && *wanted != current.id.to_string()) {
            return Err(Error::invalid("tenant_id", "cannot be changed"));
        }
        let row = becoming(&current, wanted, self.clock.now());
        if row.status != current.status && row.id == self.default {
            drop(tx);
            self.denied(caller, action, &text, "the hub's own tenant").await;
            return Err(own_tenant());
        }
        if caller.role != Role::PlatformAdmin && allowance(&row) != allowance(&current) {
            return Err(Error::forbidden(
                "forbidden",
                "only an administrator of the platform changes status, plan, entitlements and quotas",
            ));
        }
        rows::update(&mut tx, &row).await?;
        self.commit(tx, caller, action, row).await
    }

    /// Records the change, makes it durable, and lets every door know.
    async fn commit(&self, mut tx: Tx, caller: &Caller, action: &'static str, row: TenantRow) -> Result<Tenant> {
        let text = tenant::text(&row.name, row.id);
        let mut record = records::record(&*self.clock, &*self.ids, caller, action, Some((KIND, text)));
        // The record is the tenant's own: its administrators see it too.
        record.tenant = row.id.uuid();
        aiox_store::audit::insert(&mut tx, &record).await?;
        let book = self.book.clone();
        whole(async move {
            tx.commit().await?;
            let tenant = view(&row);
            book.put(row);
            Ok(tenant)
        })
        .await
    }

    /// The tenant that a caller names, if it is the caller's to administer.
    async fn mine(&self, caller: &Caller, action: &'static str, id: &str) -> Result<TenantRow> {
        caller.require(Scope::TenantsAdmin)?;
        let found = match self.book.find(id).await? {
            Some(id) => self.living(id).await?,
            None => None,
        };
        match found {
            Some(row) if caller.role == Role::PlatformAdmin || row.id == caller.tenant => Ok(row),
            Some(_) => {
                self.denied(caller, action, id, "another tenant").await;
                Err(Error::NotFound(KIND))
            }
            None => Err(Error::NotFound(KIND)),
        }
    }

    async fn living(&self, id: TenantId) -> Result<Option<TenantRow>> {
        let found = self.book.get(id).await?;
        Ok(found.map(|known| TenantRow::clone(&known.row)).filter(|row| row.status != Status::Deleted))
    }

    async fn require_platform(&self, caller: &Caller, action: &'static str, id: Option<&str>) -> Result<()> {
        caller.require(Scope::TenantsAdmin)?;
        if caller.role == Role::PlatformAdmin {
            return Ok(());
        }
        // Whoever may not even know the tenant is told that it does not exist.
        if let Some(id) = id {
            self.mine(caller, action, id).await?;
        }
        Err(Error::forbidden("forbidden", "this needs an administrator of the platform"))
    }

    /// Records a denial that the answer does not show as one. The door records the others.
    async fn denied(&self, caller: &Caller, action: &str, id: &str, why: &str) {
        let resource = Some((KIND, id.chars().take(128).collect()));
        let record = records::record(&*self.clock, &*self.ids, caller, action, resource);
        records::write(&self.store, &records::denial(record, why)).await;
    }
}

fn own_tenant() -> Error {
    Error::conflict("conflict", "the hub's own tenant can be neither disabled nor deleted: its administrators run the hub")
}

/// What only an administrator of the platform changes.
fn allowance(row: &TenantRow) -> impl PartialEq {
    (row.status, row.plan_tier.clone(), row.entitlements.clone(), row.quotas.clone())
}

/// The row with everything that may be changed replaced; absent members get their defaults.
fn becoming(row: &TenantRow, wanted: TenantCreate, now: Ts) -> TenantRow {
    TenantRow {
        display: wanted.name.unwrap_or_else(|| tenant::text(&row.name, row.id)),
        status: wanted.status.and_then(|status| Status::parse(&status)).unwrap_or(row.status),
        plan_tier: wanted.plan_tier.unwrap_or_else(|| "standard".into()),
        default_policy_id: wanted.default_policy_id,
        entitlements: wanted.entitlements.unwrap_or_default(),
        quotas: wanted.quotas.unwrap_or_default(),
        policy: wanted.policy.unwrap_or_default(),
        metadata: wanted.metadata.unwrap_or_default(),
        updated_at: after(row, now),
        ..row.clone()
    }
}

/// When a change is said to have happened: later than the one before, whatever the clocks say, so that it is known which is newer.
fn after(row: &TenantRow, now: Ts) -> Ts {
    now.max(Ts::from_micros(row.updated_at.micros().saturating_add(1)))
}

/// What of a row may be changed.
fn editable(row: &TenantRow) -> TenantCreate {
    TenantCreate {
        tenant_id: Some(tenant::text(&row.name, row.id)),
        name: Some(row.display.clone()),
        status: Some(row.status.as_str().into()),
        plan_tier: Some(row.plan_tier.clone()),
        default_policy_id: row.default_policy_id.clone(),
        entitlements: Some(row.entitlements.clone()),
        quotas: Some(row.quotas.clone()),
        policy: Some(row.policy.clone()),
        metadata: Some(row.metadata.clone()),
    }
}

fn merged(row: &TenantRow, patch: Map<String, Value>) -> Result<TenantCreate> {
    let mut current = serde_json::to_value(editable(row)).map_err(Error::internal)?;
    let names: Vec<String> = patch.keys().cloned().collect();
    merge(&mut current, Value::Object(patch));
    // One member at a time, so that a wrong one is named.
    for name in names {
        let alone = current.get(&name).map(|value| Value::Object([(name.clone(), value.clone())].into_iter().collect()));
        if alone.is_some_and(|alone| TenantCreate::deserialize(Objects(&alone)).is_err()) {
            return Err(Error::invalid(name, "does not have the form that a tenant's has"));
        }
    }
    TenantCreate::deserialize(Objects(&current)).map_err(|_| Error::invalid("tenant", "does not have the form of a tenant"))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn view(row: &TenantRow) -> Tenant {
    Tenant {
        tenant_id: tenant::text(&row.name, row.id),
        name: row.display.clone(),
        status: row.status.as_str().into(),
        plan_tier: row.plan_tier.clone(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        default_policy_id: row.default_policy_id.clone(),
        entitlements: row.entitlements.clone(),
        quotas: row.quotas.clone(),
        policy: row.policy.clone(),
        metadata: row.metadata.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_changes_what_it_names() {
        let mut target = json!({ "a": { "b": 1, "c": 2 }, "d": 3, "e": [1, 2] });
        merge(&mut target, json!({ "a": { "b": null, "f": { "g": null, "h": 5 } }, "d": { "x": 1 }, "e": [3] }));
        assert_eq!(target, json!({ "a": { "c": 2, "f": { "h": 5 } }, "d": { "x": 1 }, "e": [3] }));
    }
}
