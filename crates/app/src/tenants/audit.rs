//! The audit log as administrators read it.

use aiox_core::{Caller, Error, Result, Role, Scope};
use aiox_model::{AgentId, ApiKeyId, AuditId, RunId, TenantId, Ts, UserId, v1::tenants::AuditRecord};
use aiox_store::audit::{self, AuditRow, Link, Search};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Tenants;
use crate::accounts::hex_of;

/// Names under which `/v1` shows what is kept under another one.
const ACTIONS: [(&str, &str); 2] = [("run.accepted", "runs.create"), ("run.canceled", "runs.cancel")];

/// Which records; absent members do not narrow.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this principal: `usr_…`, an address, or `peer:<domain>`.
    pub principal: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// `allowed` or `denied`.
    pub outcome: Option<String>,
    /// Not before.
    pub from: Option<Ts>,
    /// Before.
    pub to: Option<Ts>,
    /// Older than where the last page ended.
    pub cursor: Option<String>,
    /// Most records.
    pub limit: u32,
}

/// Records for a sink.
#[derive(Debug, Default)]
pub struct AuditBatch {
    /// The records, those of each tenant in the order of its chain.
    pub records: Vec<AuditRecord>,
    /// The last one of each tenant.
    reached: Vec<(Uuid, u64)>,
}

impl Tenants {
    /// Records, newest first, and where to go on. A platform admin sees those of every tenant, others those of their own.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope, [`Error::NotFound`] for a tenant that is not the caller's, [`Error::Invalid`] for a wrong
    /// member; database errors.
    pub async fn audit(&self, caller: &Caller, query: AuditQuery) -> Result<(Vec<AuditRecord>, Option<String>)> {
        const ACTION: &str = "audit.read";
        caller.require(Scope::TenantsAdmin)?;
        let tenant = match &query.tenant {
            Some(text) => Some(self.of_audit(caller, ACTION, text).await?),
            None if caller.role == Role::PlatformAdmin => None,
            None => Some(caller.tenant),
        };
        if query.outcome.as_deref().is_some_and(|outcome| outcome != "allowed" && outcome != "denied") {
            return Err(Error::invalid("outcome", "must be allowed or denied"));
        }
        let before = match &query.cursor {
            Some(text) => Some(text.parse::<AuditId>().map_err(|_| Error::invalid("cursor", "is none of this hub"))?.uuid()),
            None => None,
        };
        let action = query.action.map(|action| match ACTIONS.iter().find(|(_, shown)| *shown == action) {
            Some((kept, _)) => (*kept).to_owned(),
            None => action,
        });
        let search = Search {
            tenant: tenant.map(TenantId::uuid),
            actor: query.principal.as_deref().map(actor),
            action,
            outcome: query.outcome,
            from: query.from,
            to: query.to,
            before,
        };
        let limit = query.limit.clamp(1, 1000);
        let mut found = audit::search(&mut self.store.read().await?, &search, limit + 1).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|(row, _)| AuditId(row.id).to_string());
        let mut records = Vec::with_capacity(found.len());
        for (row, link) in found {
            let tenant = self.book.text(row.tenant.into()).await?;
            records.push(audit_record(row, link, tenant));
        }
        Ok((records, next))
    }

    /// The next records that a sink does not have, of every tenant, those of each in the order of its chain. A new sink begins at the
    /// first record of each chain.
    ///
    /// # Errors
    /// Database errors.
    pub async fn audit_for(&self, sink: &str, limit: u32) -> Result<AuditBatch> {
        let mut db = self.store.read().await?;
        let mut batch = AuditBatch::default();
        for (tenant, after) in audit::behind(&mut db, sink).await? {
            let room = limit.saturating_sub(u32::try_from(batch.records.len()).unwrap_or(u32::MAX));
            if room == 0 {
                break;
            }
            let name = self.book.text(tenant.into()).await?;
            let found = audit::following(&mut db, tenant, after, room).await?;
            if let Some((_, last)) = found.last() {
                batch.reached.push((tenant, last.seq));
            }
            batch.records.extend(found.into_iter().map(|(row, link)| audit_record(row, Some(link), name.clone())));
        }
        Ok(batch)
    }

    /// Notes that a sink has a batch for certain.
    ///
    /// # Errors
    /// Database errors; the batch is given again then.
    pub async fn audit_kept(&self, sink: &str, batch: &AuditBatch) -> Result<()> {
        let mut tx = self.store.begin().await?;
        for (tenant, seq) in &batch.reached {
            audit::reached(&mut tx, sink, *tenant, *seq).await?;
        }
        tx.commit().await
    }

    /// Records outlive their tenant: a platform admin reads those of deleted ones too.
    async fn of_audit(&self, caller: &Caller, action: &'static str, text: &str) -> Result<TenantId> {
        if caller.role == Role::PlatformAdmin {
            return self.book.find(text).await?.ok_or(Error::NotFound("tenant"));
        }
        Ok(self.mine(caller, action, text).await?.id)
    }
}

/// The key that a principal is kept under.
fn actor(principal: &str) -> String {
    match principal.parse::<UserId>() {
        Ok(id) => format!("user:{}", id.uuid()),
        Err(_) if principal.contains('@') && !principal.contains(':') => format!("jid:{principal}"),
        Err(_) => principal.to_owned(),
    }
}

/// A record as `/v1` and the sinks show it. `tenant_id` is the tenant's name.
#[must_use]
pub fn audit_record(row: AuditRow, link: Option<Link>, tenant_id: String) -> AuditRecord {
    let (kind, name) = row.actor.split_once(':').unwrap_or(("", &row.actor));
    let principal_id = match kind {
        "user" => name.parse::<UserId>().ok().map(|id| id.to_string()),
        "jid" => Some(name.to_owned()),
        // Nobody was verified, and a peer is no principal.
        "unverified" | "peer" => None,
        _ => Some(row.actor.clone()),
    };
    let peer_id = (kind == "peer").then(|| name.to_owned());
    let action = ACTIONS.iter().find(|(kept, _)| *kept == row.action).map_or(row.action.as_str(), |(_, shown)| shown).to_owned();
    let mut meta = Map::new();
    meta.insert("record_id".into(), json!(AuditId(row.id).to_string()));
    meta.insert("severity".into(), json!(row.severity));
    for (name, value) in [("detail", row.detail), ("ip_address", row.address)] {
        if let Some(value) = value {
            meta.insert(name.into(), Value::String(value));
        }
    }
    AuditRecord {
        time: row.at,
        tenant_id,
        principal_id,
        peer_id,
        action,
        resource: resource(row.resource_type.as_deref(), row.resource_id),
        outcome: row.outcome,
        correlation_id: Some(row.trace),
        meta: Some(meta),
        seq: link.as_ref().map(|link| link.seq),
        prev_hash: link.as_ref().map(|link| hex_of(link.prev)),
        hash: link.map(|link| hex_of(link.hash)),
    }
}

/// `kind/id`, with ids as `/v1` writes them.
fn resource(kind: Option<&str>, id: Option<String>) -> String {
    let kind = kind.unwrap_or_default();
    let Some(id) = id.filter(|id| !id.is_empty()) else { return kind.to_owned() };
    let uuid = Uuid::try_parse(&id).ok();
    let id = match (kind, uuid) {
        ("run", Some(id)) => RunId(id).to_string(),
        ("agent", Some(id)) => AgentId(id).to_string(),
        ("user", Some(id)) => UserId(id).to_string(),
        ("api_key", Some(id)) => ApiKeyId(id).to_string(),
        _ => id,
    };
    format!("{kind}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_and_resources_are_written_as_v1_does() {
        let id = UserId(Uuid::from_u128(7));
        assert_eq!(actor(&id.to_string()), format!("user:{}", id.uuid()));
        assert_eq!(actor("alice@hub-b.example"), "jid:alice@hub-b.example");
        assert_eq!(actor("peer:hub-b.example"), "peer:hub-b.example");
        assert_eq!(resource(Some("run"), Some(Uuid::from_u128(7).to_string())), format!("run/{}", RunId(Uuid::from_u128(7))));
        assert_eq!(resource(Some("tenant"), Some("tnt_demo".into())), "tenant/tnt_demo");
        assert_eq!(resource(Some("tenant"), Some(String::new())), "tenant");
        assert_eq!(resource(None, None), "");
    }
}
