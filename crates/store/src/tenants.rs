//! Tenants.

use aiox_core::{Result, tenant::Status};
use aiox_model::{
    TenantId, Ts,
    v1::tenants::{Entitlements, ModelPolicy, Quotas},
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    error::corrupt,
    rows::{json, text},
};

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantRow {
    /// Its id.
    pub id: TenantId,
    /// The name that it is found by, unique for ever.
    pub name: String,
    /// Its name for people.
    pub display: String,
    /// Whether its credentials work.
    pub status: Status,
    /// What its users pay for.
    pub plan_tier: String,
    /// Policy of its runs.
    pub default_policy_id: Option<String>,
    /// What it may use.
    pub entitlements: Entitlements,
    /// How much it may use.
    pub quotas: Quotas,
    /// Models that it allows and denies.
    pub policy: ModelPolicy,
    /// What its administrators remember.
    pub metadata: Map<String, Value>,
    /// When it was made.
    pub created_at: Ts,
    /// When it was last changed.
    pub updated_at: Ts,
}

#[derive(sqlx::FromRow)]
struct Stored {
    id: Uuid,
    name: String,
    display: String,
    status: String,
    plan_tier: String,
    default_policy_id: Option<String>,
    entitlements: String,
    quotas: String,
    policy: String,
    metadata: String,
    created_at: i64,
    updated_at: i64,
}
impl TryFrom<Stored> for TenantRow {
    type Error = aiox_core::Error;
    fn try_from(row: Stored) -> Result<Self> {
        let id = row.id;
        Ok(Self {
            id: id.into(),
            name: row.name,
            display: row.display,
            status: Status::parse(&row.status).ok_or_else(|| corrupt("tenants", "status", id))?,
            plan_tier: row.plan_tier,
            default_policy_id: row.default_policy_id,
            entitlements: json("tenants", "entitlements", id, &row.entitlements)?,
            quotas: json("tenants", "quotas", id, &row.quotas)?,
            policy: json("tenants", "policy", id, &row.policy)?,
            metadata: json("tenants", "metadata", id, &row.metadata)?,
            created_at: Ts::from_micros(row.created_at),
            updated_at: Ts::from_micros(row.updated_at),
        })
    }
}

macro_rules! tenants_where {
    ($db:expr, $tail:literal $(, $bind:expr)* $(,)?) => {
        rows!($db, Stored, concat!(
            "SELECT id, name, display, status, plan_tier, default_policy_id, entitlements, quotas, policy, metadata, created_at, updated_at \
             FROM tenants ", $tail) $(, $bind)*)
    };
}

fn one(found: Vec<Stored>) -> Result<Option<TenantRow>> {
    found.into_iter().next().map(TenantRow::try_from).transpose()
}

/// Adds a tenant unless one with its name exists.
///
/// # Errors
/// Database errors.
pub async fn ensure(tx: &mut Tx, id: Uuid, name: &str, at: Ts) -> Result<Uuid> {
    exec!(
        tx,
        "INSERT INTO tenants (id, name, display, status, created_at, updated_at) VALUES ($1, $2, $2, 'active', $3, $3) ON CONFLICT DO NOTHING",
        id,
        name,
        at.micros()
    )?;
    let found = row!(tx, (Uuid,), "SELECT id FROM tenants WHERE name = $1", name)?;
    Ok(found.map_or(id, |found| found.0))
}

/// The id of the tenant with a name.
///
/// # Errors
/// Database errors.
pub async fn by_name(db: &mut impl AsDb, name: &str) -> Result<Option<Uuid>> {
    Ok(row!(db, (Uuid,), "SELECT id FROM tenants WHERE name = $1", name)?.map(|found| found.0))
}

/// The tenant with an id, whatever its status.
///
/// # Errors
/// Database errors.
pub async fn by_id(db: &mut impl AsDb, id: Uuid) -> Result<Option<TenantRow>> {
    one(tenants_where!(db, "WHERE id = $1", id)?)
}

/// Tenants whose names follow `after`, by name, deleted ones too.
///
/// # Errors
/// Database errors.
pub async fn page(db: &mut impl AsDb, after: &str, limit: u32) -> Result<Vec<TenantRow>> {
    let found = tenants_where!(db, "WHERE name > $1 ORDER BY name LIMIT $2", after, i64::from(limit))?;
    found.into_iter().map(TenantRow::try_from).collect()
}

/// Tenants whose names follow `after`, by name, without the deleted ones.
///
/// # Errors
/// Database errors.
pub async fn living(db: &mut impl AsDb, after: &str, limit: u32) -> Result<Vec<TenantRow>> {
    let found = tenants_where!(db, "WHERE name > $1 AND status <> 'deleted' ORDER BY name LIMIT $2", after, i64::from(limit))?;
    found.into_iter().map(TenantRow::try_from).collect()
}

/// Adds a tenant. `false`: its id or its name is, or once was, another one's.
///
/// # Errors
/// Database errors.
pub async fn insert(tx: &mut Tx, tenant: &TenantRow) -> Result<bool> {
    let made = exec!(
        tx,
        "INSERT INTO tenants (id, name, display, status, plan_tier, default_policy_id, entitlements, quotas, policy, metadata, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
        tenant.id.uuid(),
        &tenant.name,
        &tenant.display,
        tenant.status.as_str(),
        &tenant.plan_tier,
        tenant.default_policy_id.as_deref(),
        text(&tenant.entitlements)?,
        text(&tenant.quotas)?,
        text(&tenant.policy)?,
        text(&tenant.metadata)?,
        tenant.created_at.micros(),
        tenant.updated_at.micros(),
    )?;
    Ok(made == 1)
}

/// Writes everything of a tenant but its id, its name and when it was made.
///
/// # Errors
/// Database errors.
pub async fn update(tx: &mut Tx, tenant: &TenantRow) -> Result<()> {
    exec!(
        tx,
        "UPDATE tenants SET display = $2, status = $3, plan_tier = $4, default_policy_id = $5, entitlements = $6, quotas = $7, policy = $8, \
         metadata = $9, updated_at = $10 WHERE id = $1",
        tenant.id.uuid(),
        &tenant.display,
        tenant.status.as_str(),
        &tenant.plan_tier,
        tenant.default_policy_id.as_deref(),
        text(&tenant.entitlements)?,
        text(&tenant.quotas)?,
        text(&tenant.policy)?,
        text(&tenant.metadata)?,
        tenant.updated_at.micros(),
    )
    .map(drop)
}
