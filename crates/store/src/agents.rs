//! Agents, their names and their grants.

use aiox_core::Result;
use aiox_model::{
    AgentId, GrantId, TenantId, Ts, UserId,
    agent::{GranteeKind, Visibility},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    error::corrupt,
    rows::{json, signed, text, unsigned},
};

/// The configuration objects as they were given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredConfig {
    /// `personality_traits`.
    #[serde(default)]
    pub traits: Vec<String>,
    /// `llm_config`.
    #[serde(default)]
    pub llm: Map<String, Value>,
    /// `memory_config`.
    #[serde(default)]
    pub memory: Map<String, Value>,
    /// `capabilities`.
    #[serde(default)]
    pub capabilities: Map<String, Value>,
    /// `governance`.
    #[serde(default)]
    pub governance: Map<String, Value>,
    /// `tools`.
    #[serde(default)]
    pub tools: Map<String, Value>,
}

/// An agent.
#[derive(Debug, Clone)]
pub struct AgentRow {
    /// Its id.
    pub id: AgentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its owner.
    pub owner: UserId,
    /// The readable name that it goes by now.
    pub handle: Option<String>,
    /// Display name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// System prompt, sealed under the tenant's key.
    pub prompt_sealed: Vec<u8>,
    /// Configuration objects.
    pub config: StoredConfig,
    /// Who sees it.
    pub visibility: Visibility,
    /// Rises by one with each change.
    pub version: u64,
    /// When it was made.
    pub created_at: Ts,
    /// When it was changed last.
    pub updated_at: Ts,
    /// When it was deleted.
    pub deleted_at: Option<Ts>,
}

#[derive(sqlx::FromRow)]
struct Stored {
    id: Uuid,
    tenant_id: Uuid,
    owner_id: Uuid,
    handle: Option<String>,
    name: String,
    description: String,
    prompt_sealed: Vec<u8>,
    config: String,
    visibility: String,
    version: i64,
    created_at: i64,
    updated_at: i64,
    deleted_at: Option<i64>,
}
impl TryFrom<Stored> for AgentRow {
    type Error = aiox_core::Error;
    fn try_from(row: Stored) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            tenant: row.tenant_id.into(),
            owner: row.owner_id.into(),
            handle: row.handle,
            name: row.name,
            description: row.description,
            prompt_sealed: row.prompt_sealed,
            config: json("agents", "config", row.id, &row.config)?,
            visibility: Visibility::parse(&row.visibility).ok_or_else(|| corrupt("agents", "visibility", row.id))?,
            version: unsigned(row.version),
            created_at: Ts::from_micros(row.created_at),
            updated_at: Ts::from_micros(row.updated_at),
            deleted_at: row.deleted_at.map(Ts::from_micros),
        })
    }
}

macro_rules! agents_where {
    ($db:expr, $tail:literal $(, $bind:expr)* $(,)?) => {
        rows!($db, Stored, concat!(
            "SELECT a.id, a.tenant_id, a.owner_id, a.handle, a.name, a.description, a.prompt_sealed, a.config, a.visibility, a.version, \
             a.created_at, a.updated_at, a.deleted_at FROM agents a ", $tail) $(, $bind)*)
        .and_then(|found| found.into_iter().map(AgentRow::try_from).collect::<Result<Vec<_>>>())
    };
}

/// Adds an agent.
///
/// # Errors
/// Database errors.
pub async fn insert(tx: &mut Tx, agent: &AgentRow) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO agents (id, tenant_id, owner_id, handle, name, description, prompt_sealed, config, visibility, version, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        agent.id.uuid(),
        agent.tenant.uuid(),
        agent.owner.uuid(),
        agent.handle.as_deref(),
        &agent.name,
        &agent.description,
        agent.prompt_sealed.as_slice(),
        text(&agent.config)?,
        agent.visibility.as_str(),
        signed(agent.version),
        agent.created_at.micros(),
        agent.updated_at.micros(),
    )
    .map(drop)
}

/// Gives an agent a readable name, for ever. `false`: the name belongs, or belonged, to another agent.
///
/// # Errors
/// Database errors.
pub async fn claim_name(tx: &mut Tx, name: &str, agent: AgentId, at: Ts) -> Result<bool> {
    exec!(
        tx,
        "INSERT INTO aliases (name, agent_id, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        name,
        agent.uuid(),
        at.micros()
    )?;
    let holder = row!(tx, (Uuid,), "SELECT agent_id FROM aliases WHERE name = $1", name)?;
    Ok(holder.is_some_and(|holder| holder.0 == agent.uuid()))
}

/// The agent with an id, deleted or not.
///
/// # Errors
/// Database errors.
pub async fn by_id(db: &mut impl AsDb, id: AgentId) -> Result<Option<AgentRow>> {
    Ok(agents_where!(db, "WHERE a.id = $1", id.uuid())?.pop())
}

/// The agent with a readable name, deleted or not.
///
/// # Errors
/// Database errors.
pub async fn by_name(db: &mut impl AsDb, name: &str) -> Result<Option<AgentRow>> {
    Ok(agents_where!(db, "JOIN aliases n ON n.agent_id = a.id WHERE n.name = $1", name)?.pop())
}

/// Living agents of an owner, newest first, with the count over all pages.
///
/// # Errors
/// Database errors.
pub async fn of_owner(db: &mut impl AsDb, owner: UserId, limit: u32, offset: u64) -> Result<(Vec<AgentRow>, u64)> {
    let found = agents_where!(
        db,
        "WHERE a.owner_id = $1 AND a.deleted_at IS NULL ORDER BY a.created_at DESC, a.id DESC LIMIT $2 OFFSET $3",
        owner.uuid(),
        i64::from(limit),
        signed(offset)
    )?;
    let count = row!(db, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM agents WHERE owner_id = $1 AND deleted_at IS NULL", owner.uuid())?;
    Ok((found, unsigned(count.map_or(0, |count| count.0))))
}

/// Living agents that are not private, or that one of these grants names; whether the caller may use each is decided by the rules.
/// At most `limit`, newest first.
///
/// # Errors
/// Database errors.
pub async fn candidates(db: &mut impl AsDb, grantees: [(GranteeKind, &str); 4], limit: u32) -> Result<Vec<AgentRow>> {
    let [a, b, c, d] = grantees;
    agents_where!(
        db,
        "WHERE a.deleted_at IS NULL AND (a.visibility IN ('tenant', 'mesh', 'public') OR a.id IN (SELECT agent_id FROM grants \
         WHERE (kind = $1 AND grantee = $2) OR (kind = $3 AND grantee = $4) OR (kind = $5 AND grantee = $6) OR (kind = $7 AND grantee = $8))) \
         ORDER BY a.created_at DESC, a.id DESC LIMIT $9",
        a.0.as_str(),
        a.1,
        b.0.as_str(),
        b.1,
        c.0.as_str(),
        c.1,
        d.0.as_str(),
        d.1,
        i64::from(limit)
    )
}

/// Writes an agent's changed members if its stored version is still `expected`. `false`: it is not.
///
/// # Errors
/// Database errors.
pub async fn update(tx: &mut Tx, agent: &AgentRow, expected: u64) -> Result<bool> {
    Ok(exec!(
        tx,
        "UPDATE agents SET handle = $3, name = $4, description = $5, prompt_sealed = $6, config = $7, visibility = $8, version = $9, updated_at = $10 \
         WHERE id = $1 AND version = $2 AND deleted_at IS NULL",
        agent.id.uuid(),
        signed(expected),
        agent.handle.as_deref(),
        &agent.name,
        &agent.description,
        agent.prompt_sealed.as_slice(),
        text(&agent.config)?,
        agent.visibility.as_str(),
        signed(agent.version),
        agent.updated_at.micros(),
    )? == 1)
}

/// Replaces the sealed prompt only, for key rotation.
///
/// # Errors
/// Database errors.
pub async fn reseal(tx: &mut Tx, id: AgentId, old: &[u8], new: &[u8]) -> Result<bool> {
    Ok(exec!(tx, "UPDATE agents SET prompt_sealed = $3 WHERE id = $1 AND prompt_sealed = $2", id.uuid(), old, new)? == 1)
}

/// Agents of a tenant with a sealed prompt, deleted or not, in order of id after `after`; at most `limit`: (id, sealed prompt).
///
/// # Errors
/// Database errors.
pub async fn sealed(db: &mut impl AsDb, tenant: TenantId, after: Uuid, limit: u32) -> Result<Vec<(Uuid, Vec<u8>)>> {
    rows!(
        db,
        (Uuid, Vec<u8>),
        "SELECT id, prompt_sealed FROM agents WHERE tenant_id = $1 AND id > $2 AND prompt_sealed <> $3 ORDER BY id LIMIT $4",
        tenant.uuid(),
        after,
        [0u8; 0].as_slice(),
        i64::from(limit)
    )
}

/// Marks an agent as deleted; its names stay taken.
///
/// # Errors
/// Database errors.
pub async fn delete(tx: &mut Tx, id: AgentId, at: Ts) -> Result<bool> {
    Ok(exec!(
        tx,
        "UPDATE agents SET deleted_at = $2, updated_at = $2, version = version + 1 WHERE id = $1 AND deleted_at IS NULL",
        id.uuid(),
        at.micros()
    )? == 1)
}

/// Brings a deleted agent back.
///
/// # Errors
/// Database errors.
pub async fn restore(tx: &mut Tx, id: AgentId, at: Ts) -> Result<bool> {
    Ok(exec!(
        tx,
        "UPDATE agents SET deleted_at = NULL, updated_at = $2, version = version + 1 WHERE id = $1 AND deleted_at IS NOT NULL",
        id.uuid(),
        at.micros()
    )? == 1)
}

/// Empties agents deleted before `before`: prompt and configuration go, the row stays as a tombstone. How many.
///
/// # Errors
/// Database errors.
pub async fn purge(tx: &mut Tx, before: Ts) -> Result<u64> {
    exec!(
        tx,
        "UPDATE agents SET prompt_sealed = $2, config = '{}', description = '', name = '' WHERE deleted_at < $1 AND name <> ''",
        before.micros(),
        [0u8; 0].as_slice()
    )
}

/// A grant.
#[derive(Debug, Clone)]
pub struct GrantRow {
    /// Its id.
    pub id: GrantId,
    /// The agent.
    pub agent: AgentId,
    /// Kind of grantee.
    pub kind: GranteeKind,
    /// Who.
    pub grantee: String,
    /// When it was given.
    pub created_at: Ts,
}

fn kind_of(text: &str, id: Uuid) -> Result<GranteeKind> {
    [GranteeKind::User, GranteeKind::Role, GranteeKind::Jid, GranteeKind::Domain, GranteeKind::Peer]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| corrupt("grants", "kind", id))
}

/// Grants of an agent.
///
/// # Errors
/// Database errors.
pub async fn grants(db: &mut impl AsDb, agent: AgentId) -> Result<Vec<GrantRow>> {
    rows!(
        db,
        (Uuid, Uuid, String, String, i64),
        "SELECT id, agent_id, kind, grantee, created_at FROM grants WHERE agent_id = $1 ORDER BY created_at, id",
        agent.uuid()
    )?
    .into_iter()
    .map(|(id, agent, kind, grantee, at)| {
        Ok(GrantRow { id: id.into(), agent: agent.into(), kind: kind_of(&kind, id)?, grantee, created_at: Ts::from_micros(at) })
    })
    .collect()
}

/// Adds a grant. `false`: it exists already.
///
/// # Errors
/// Database errors.
pub async fn insert_grant(tx: &mut Tx, grant: &GrantRow, by: UserId) -> Result<bool> {
    Ok(exec!(
        tx,
        "INSERT INTO grants (id, agent_id, kind, grantee, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        grant.id.uuid(),
        grant.agent.uuid(),
        grant.kind.as_str(),
        &grant.grantee,
        by.uuid(),
        grant.created_at.micros()
    )? == 1)
}

/// Removes a grant. `false`: the agent has no such grant.
///
/// # Errors
/// Database errors.
pub async fn delete_grant(tx: &mut Tx, agent: AgentId, grant: GrantId) -> Result<bool> {
    Ok(exec!(tx, "DELETE FROM grants WHERE id = $1 AND agent_id = $2", grant.uuid(), agent.uuid())? == 1)
}

/// Adds a subscriber of an agent's presence.
///
/// # Errors
/// Database errors.
pub async fn add_contact(tx: &mut Tx, agent: AgentId, jid: &str, at: Ts) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO xmpp_contacts (agent_id, jid, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        agent.uuid(),
        jid,
        at.micros()
    )
    .map(drop)
}

/// Removes a subscriber.
///
/// # Errors
/// Database errors.
pub async fn remove_contact(tx: &mut Tx, agent: AgentId, jid: &str) -> Result<()> {
    exec!(tx, "DELETE FROM xmpp_contacts WHERE agent_id = $1 AND jid = $2", agent.uuid(), jid).map(drop)
}

/// Subscribers of agents, deleted ones too, after `after`, in order of (agent, jid); at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn contacts(db: &mut impl AsDb, after: Option<(AgentId, String)>, limit: u32) -> Result<Vec<(AgentId, String)>> {
    let (agent, jid) = after.unwrap_or((AgentId(Uuid::nil()), String::new()));
    Ok(rows!(
        db,
        (Uuid, String),
        "SELECT agent_id, jid FROM xmpp_contacts WHERE (agent_id, jid) > ($1, $2) ORDER BY agent_id, jid LIMIT $3",
        agent.uuid(),
        &jid,
        i64::from(limit)
    )?
    .into_iter()
    .map(|(agent, jid)| (agent.into(), jid))
    .collect())
}
