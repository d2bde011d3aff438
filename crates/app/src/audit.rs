//! Audit records as use cases make them.

use aiox_core::{
    Caller,
    ports::{Clock, Ids},
};
use aiox_model::{AgentId, BareJid, TenantId, UserId};
use aiox_store::{Store, audit::AuditRow};
use uuid::Uuid;

/// A record of something a caller did or was denied.
pub(crate) fn record(clock: &dyn Clock, ids: &dyn Ids, caller: &Caller, action: &str, resource: Option<(&str, String)>) -> AuditRow {
    let (resource_type, resource_id) = resource.map(|(kind, id)| (kind.to_owned(), id)).unzip();
    AuditRow {
        id: ids.uuid(),
        tenant: caller.tenant.uuid(),
        owner: caller.principal.user().map(|user| user.uuid()),
        actor: caller.principal.key(),
        action: action.into(),
        outcome: "allowed".into(),
        severity: "info".into(),
        resource_type,
        resource_id,
        detail: None,
        address: caller.address.map(|address| address.to_string()),
        trace: caller.correlation(),
        at: clock.now(),
    }
}

/// The record of something that the caller was denied.
pub(crate) fn denial(mut record: AuditRow, why: &str) -> AuditRow {
    record.outcome = "denied".into();
    record.severity = "warn".into();
    record.detail = Some(why.into());
    record
}

/// Writes a record of something that was denied. That it could not be written does not change the answer.
pub(crate) async fn write(store: &Store, record: &AuditRow) {
    let write = async {
        let mut tx = store.begin().await?;
        aiox_store::audit::note(&mut tx, record).await?;
        tx.commit().await
    };
    if let Err(error) = write.await {
        tracing::error!(error = %error.chain(), action = record.action, "a denial could not be recorded");
    }
}

/// Adds the name of whoever sees the record besides its actor.
pub(crate) fn owned_by(mut record: AuditRow, owner: Option<Uuid>) -> AuditRow {
    record.owner = record.owner.or(owner);
    record
}

/// A record of something a peer hub did or was refused.
pub(crate) fn of_peer(clock: &dyn Clock, ids: &dyn Ids, tenant: Uuid, peer: &str, action: &str, outcome: &str, reason: &str) -> AuditRow {
    AuditRow {
        id: ids.uuid(),
        tenant,
        owner: None,
        actor: format!("peer:{peer}"),
        action: action.into(),
        outcome: outcome.into(),
        severity: if outcome == "denied" { "warn" } else { "info" }.into(),
        resource_type: Some("peer".into()),
        resource_id: Some(peer.into()),
        detail: (!reason.is_empty()).then(|| reason.into()),
        address: None,
        trace: ids.uuid().to_string(),
        at: clock.now(),
    }
}

/// A record of somebody who was denied an agent at the XMPP door, for the agent's owner.
pub(crate) fn denied(clock: &dyn Clock, ids: &dyn Ids, agent_of: (TenantId, UserId), stranger: &BareJid, agent: AgentId) -> AuditRow {
    let (tenant, owner) = agent_of;
    AuditRow {
        id: ids.uuid(),
        tenant: tenant.uuid(),
        owner: Some(owner.uuid()),
        actor: format!("jid:{stranger}"),
        action: "auth.denied".into(),
        outcome: "denied".into(),
        severity: "warn".into(),
        resource_type: Some("agent".into()),
        resource_id: Some(agent.uuid().to_string()),
        detail: Some(format!("{stranger} by XMPP")),
        address: None,
        trace: ids.uuid().to_string(),
        at: clock.now(),
    }
}

/// A record of a worker that spoke of a run that is not its own.
pub(crate) fn of_worker(clock: &dyn Clock, ids: &dyn Ids, tenant: Uuid, worker: &str, run: Uuid, what: &str) -> AuditRow {
    AuditRow {
        id: ids.uuid(),
        tenant,
        owner: None,
        actor: format!("worker:{worker}"),
        action: format!("worker.{what}"),
        outcome: "denied".into(),
        severity: "warn".into(),
        resource_type: Some("run".into()),
        resource_id: Some(run.to_string()),
        detail: Some("foreign_lease".into()),
        address: None,
        trace: ids.uuid().to_string(),
        at: clock.now(),
    }
}
