//! Service tokens: API keys that an administrator issued to a service of a tenant. They authenticate as every API key does
//! ([`crate::accounts::key_by_hash`]).

use aiox_core::{Result, Role};
use aiox_model::{ApiKeyId, TenantId, Ts, UserId};
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    accounts::ApiKeyRow,
    db::{exec, rows},
    error::corrupt,
};

/// A service token without its secret.
#[derive(Debug, Clone)]
pub struct ServiceTokenRow {
    /// The key.
    pub key: ApiKeyRow,
    /// Standing of the service that it acts for.
    pub role: Role,
    /// When its secret was last changed.
    pub rotated_at: Option<Ts>,
}

type Stored = (Uuid, Uuid, String, String, i64, Option<i64>, Option<i64>, String);

fn token((id, user, name, scopes, created, expires, rotated, role): Stored) -> Result<ServiceTokenRow> {
    Ok(ServiceTokenRow {
        key: ApiKeyRow {
            id: id.into(),
            user: user.into(),
            name,
            scopes,
            created_at: Ts::from_micros(created),
            expires_at: expires.map(Ts::from_micros),
        },
        role: Role::parse(&role).ok_or_else(|| corrupt("users", "role", user))?,
        rotated_at: rotated.map(Ts::from_micros),
    })
}

macro_rules! tokens_where {
    ($db:expr, $tail:literal $(, $bind:expr)* $(,)?) => {
        rows!($db, Stored, concat!(
            "SELECT k.id, k.user_id, k.name, k.scopes, k.created_at, k.expires_at, k.rotated_at, u.role FROM api_keys k \
             JOIN users u ON u.id = k.user_id WHERE k.issued_by IS NOT NULL AND k.revoked_at IS NULL AND ", $tail) $(, $bind)*)
    };
}

/// Adds a token; only the hash of its secret is kept. `issuer` is the key of the principal who issues it.
///
/// # Errors
/// Database errors.
pub async fn insert(tx: &mut Tx, tenant: TenantId, key: &ApiKeyRow, secret_hash: &[u8], issuer: &str) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO api_keys (id, tenant_id, user_id, name, secret_hash, scopes, created_at, expires_at, issued_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        key.id.uuid(),
        tenant.uuid(),
        key.user.uuid(),
        &key.name,
        secret_hash,
        &key.scopes,
        key.created_at.micros(),
        key.expires_at.map(Ts::micros),
        issuer,
    )
    .map(drop)
}

/// A token of a tenant that was not revoked.
///
/// # Errors
/// Database errors.
pub async fn of_tenant(db: &mut impl AsDb, tenant: TenantId, id: ApiKeyId) -> Result<Option<ServiceTokenRow>> {
    let found = tokens_where!(db, "k.tenant_id = $1 AND k.id = $2", tenant.uuid(), id.uuid())?;
    found.into_iter().next().map(token).transpose()
}

/// The tokens of a tenant that were not revoked, newest first.
///
/// # Errors
/// Database errors.
pub async fn list(db: &mut impl AsDb, tenant: TenantId, limit: u32) -> Result<Vec<ServiceTokenRow>> {
    let found = tokens_where!(db, "k.tenant_id = $1 ORDER BY k.created_at DESC, k.id DESC LIMIT $2", tenant.uuid(), i64::from(limit))?;
    found.into_iter().map(token).collect()
}

/// Whether an account was made for tokens: its own are all issued ones.
///
/// # Errors
/// Database errors.
pub async fn is_service(db: &mut impl AsDb, tenant: TenantId, user: UserId) -> Result<bool> {
    let found = rows!(
        db,
        (Uuid,),
        "SELECT id FROM api_keys WHERE tenant_id = $1 AND user_id = $2 AND issued_by IS NOT NULL LIMIT 1",
        tenant.uuid(),
        user.uuid()
    )?;
    Ok(!found.is_empty())
}

/// Gives a token another secret: the one before is dead at once. `false`: the tenant has no such living token.
///
/// # Errors
/// Database errors.
pub async fn rotate(tx: &mut Tx, tenant: TenantId, id: ApiKeyId, secret_hash: &[u8], at: Ts) -> Result<bool> {
    Ok(exec!(
        tx,
        "UPDATE api_keys SET secret_hash = $3, rotated_at = $4 \
         WHERE tenant_id = $1 AND id = $2 AND issued_by IS NOT NULL AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4)",
        tenant.uuid(),
        id.uuid(),
        secret_hash,
        at.micros()
    )? == 1)
}

/// Ends a token. `false`: the tenant has no such living token.
///
/// # Errors
/// Database errors.
pub async fn revoke(tx: &mut Tx, tenant: TenantId, id: ApiKeyId, at: Ts) -> Result<bool> {
    Ok(exec!(
        tx,
        "UPDATE api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND id = $2 AND issued_by IS NOT NULL AND revoked_at IS NULL",
        tenant.uuid(),
        id.uuid(),
        at.micros()
    )? == 1)
}

/// Ends every API key of a tenant, issued ones and those of its accounts.
///
/// # Errors
/// Database errors.
pub async fn revoke_all(tx: &mut Tx, tenant: TenantId, at: Ts) -> Result<u64> {
    exec!(tx, "UPDATE api_keys SET revoked_at = $2 WHERE tenant_id = $1 AND revoked_at IS NULL", tenant.uuid(), at.micros())
}
