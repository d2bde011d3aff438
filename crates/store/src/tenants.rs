//! Tenants.

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row},
};

/// Adds a tenant unless one with its name exists.
///
/// # Errors
/// Database errors.
pub async fn ensure(tx: &mut Tx, id: Uuid, name: &str, at: Ts) -> Result<Uuid> {
    exec!(
        tx,
        "INSERT INTO tenants (id, name, status, created_at) VALUES ($1, $2, 'active', $3) ON CONFLICT DO NOTHING",
        id,
        name,
        at.micros()
    )?;
    let found = row!(tx, (Uuid,), "SELECT id FROM tenants WHERE name = $1", name)?;
    Ok(found.map_or(id, |found| found.0))
}

/// The tenant with a name.
///
/// # Errors
/// Database errors.
pub async fn by_name(db: &mut impl AsDb, name: &str) -> Result<Option<Uuid>> {
    Ok(row!(db, (Uuid,), "SELECT id FROM tenants WHERE name = $1", name)?.map(|found| found.0))
}
