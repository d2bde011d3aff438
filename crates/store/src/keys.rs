//! Data keys of tenants, sealed under the hub's master key.

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
};

/// A sealed data key.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SealedKey {
    /// The key's id.
    pub id: Uuid,
    /// Its tenant.
    pub tenant_id: Uuid,
    /// The key, sealed.
    pub sealed: Vec<u8>,
}

/// Adds a key; it becomes the one that writes use.
///
/// # Errors
/// Database errors.
pub async fn insert(tx: &mut Tx, key: &SealedKey, at: Ts) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO tenant_keys (id, tenant_id, sealed, created_at) VALUES ($1, $2, $3, $4)",
        key.id,
        key.tenant_id,
        key.sealed.as_slice(),
        at.micros()
    )
    .map(drop)
}

/// The key that writes use.
///
/// # Errors
/// Database errors.
pub async fn current(db: &mut impl AsDb, tenant: Uuid) -> Result<Option<SealedKey>> {
    row!(
        db,
        SealedKey,
        "SELECT id, tenant_id, sealed FROM tenant_keys WHERE tenant_id = $1 AND retired_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 1",
        tenant
    )
}

/// A key by its id.
///
/// # Errors
/// Database errors.
pub async fn by_id(db: &mut impl AsDb, id: Uuid) -> Result<Option<SealedKey>> {
    row!(db, SealedKey, "SELECT id, tenant_id, sealed FROM tenant_keys WHERE id = $1", id)
}

/// Marks all keys of a tenant but one as retired: they still open what they sealed.
///
/// # Errors
/// Database errors.
pub async fn retire_others(tx: &mut Tx, tenant: Uuid, keep: Uuid, at: Ts) -> Result<u64> {
    exec!(tx, "UPDATE tenant_keys SET retired_at = $3 WHERE tenant_id = $1 AND id <> $2 AND retired_at IS NULL", tenant, keep, at.micros())
}

/// Every tenant that has a key.
///
/// # Errors
/// Database errors.
pub async fn tenants(db: &mut impl AsDb) -> Result<Vec<Uuid>> {
    Ok(rows!(db, (Uuid,), "SELECT DISTINCT tenant_id FROM tenant_keys")?.into_iter().map(|row| row.0).collect())
}
