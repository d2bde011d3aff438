//! Values that a hub makes once and keeps.

use aiox_core::Result;

use crate::{
    AsDb, Tx,
    db::{exec, row},
};

/// The value of a name.
///
/// # Errors
/// Database errors.
pub async fn get(db: &mut impl AsDb, name: &str) -> Result<Option<String>> {
    Ok(row!(db, (String,), "SELECT value FROM hub_facts WHERE name = $1", name)?.map(|found| found.0))
}

/// Sets the value of a name.
///
/// # Errors
/// Database errors.
pub async fn put(tx: &mut Tx, name: &str, value: &str) -> Result<()> {
    exec!(tx, "INSERT INTO hub_facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
        .map(drop)
}
