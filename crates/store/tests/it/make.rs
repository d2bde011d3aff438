//! Rows.

use aiox_core::{Role, quota::Limits};
use aiox_model::{AgentId, TenantId, Ts, UserId, agent::Visibility, run::RunStatus};
use aiox_store::{
    Accept, Advance, Ending, NewEvent, Store, accounts, accounts::UserRow, agents, agents::AgentRow, agents::StoredConfig, audit::AuditRow,
    tenants,
};
use uuid::Uuid;

/// Noon.
pub const NOW: Ts = Ts::from_seconds(1_772_452_830);
/// An allowance that nothing here uses up.
pub const PLENTY: Limits = Limits { tokens_day: 1 << 40, tokens_minute: 1 << 40, requests_day: 1 << 40 };

pub fn at(seconds: i64) -> Ts {
    NOW.plus_seconds(seconds)
}

pub fn id() -> Uuid {
    Uuid::now_v7()
}

pub async fn tenant(store: &Store) -> TenantId {
    let mut tx = store.begin().await.unwrap();
    let tenant = tenants::ensure(&mut tx, id(), "default", NOW).await.unwrap();
    tx.commit().await.unwrap();
    tenant.into()
}

pub fn user_row(tenant: TenantId, name: &str) -> UserRow {
    UserRow {
        id: UserId(id()),
        tenant,
        email: format!("{name}@mail.example"),
        username: name.into(),
        password_hash: "hash".into(),
        role: Role::User,
        active: true,
        scram_sealed: vec![1, 2, 3],
        quota: "{}".into(),
        tokens_valid_after: at(-10),
        created_at: NOW,
    }
}

pub async fn user(store: &Store, tenant: TenantId, name: &str) -> UserRow {
    let row = user_row(tenant, name);
    let mut tx = store.begin().await.unwrap();
    assert!(accounts::insert_user(&mut tx, &row).await.unwrap());
    tx.commit().await.unwrap();
    row
}

pub fn agent_row(owner: &UserRow, name: &str) -> AgentRow {
    AgentRow {
        id: AgentId(id()),
        tenant: owner.tenant,
        owner: owner.id,
        handle: None,
        name: name.into(),
        description: "what it is for".into(),
        prompt_sealed: vec![9, 8, 7],
        config: StoredConfig { traits: vec!["calm".into()], ..StoredConfig::default() },
        visibility: Visibility::Private,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
        deleted_at: None,
    }
}

pub async fn agent(store: &Store, owner: &UserRow, name: &str) -> AgentRow {
    let row = agent_row(owner, name);
    let mut tx = store.begin().await.unwrap();
    agents::insert(&mut tx, &row).await.unwrap();
    tx.commit().await.unwrap();
    row
}

pub fn audit_row(at: Ts, action: &str) -> AuditRow {
    AuditRow {
        id: id(),
        tenant: id(),
        owner: None,
        actor: "user:x".into(),
        action: action.into(),
        outcome: "allowed".into(),
        severity: "info".into(),
        resource_type: None,
        resource_id: None,
        detail: None,
        address: None,
        trace: "t".into(),
        at,
    }
}

pub fn accept(principal: &str) -> Accept {
    Accept {
        run: id(),
        tenant: id(),
        agent: None,
        agent_jid: "agent-x@agents.hub-a.example".into(),
        peer: None,
        origin: None,
        conversation: id(),
        principal: principal.into(),
        door: "rest",
        priority: 1,
        input: "hello".into(),
        reserved: 10,
        limits: PLENTY,
        tenant_limits: aiox_core::tenant::Limits::default(),
        idempotency: None,
        reply: None,
        timeout_ms: 1000,
        bounds: None,
        trace: "t".into(),
        at: NOW,
        event: id(),
        event_at: NOW,
        event_payload: "{\"status\":\"queued\"}".into(),
        message: id(),
        audit: audit_row(NOW, "run.accepted"),
        inbound: None,
        outbound: None,
    }
}

pub fn event(kind: &str, at: Ts) -> NewEvent {
    NewEvent { id: id(), kind: kind.into(), payload: "{}".into(), at }
}

pub fn advance(run: Uuid, kind: &str) -> Advance {
    Advance { events: vec![event(kind, at(1))], ..Advance::new(run, at(1)) }
}

pub fn ending(output: &str) -> Ending {
    Ending {
        status: RunStatus::Completed,
        output: Some(output.into()),
        error: None,
        model_used: Some("echo/1".into()),
        input_tokens: 2,
        output_tokens: 3,
        message: id(),
        reply: Some((id(), "{\"text\":\"reply\"}".into())),
    }
}
