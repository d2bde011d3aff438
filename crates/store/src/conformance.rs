//! The signed conformance result that a hub publishes.

use aiox_core::Result;
use aiox_model::Ts;

use crate::{
    AsDb, Tx,
    db::{exec, row},
};

/// Replaces the published result of a domain. `document`: JSON, signed.
///
/// # Errors
/// Database errors.
pub async fn publish(tx: &mut Tx, domain: &str, document: &str, at: Ts) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO conformance_results (domain, document, published_at) VALUES ($1, $2, $3) \
         ON CONFLICT (domain) DO UPDATE SET document = excluded.document, published_at = excluded.published_at",
        domain,
        document,
        at.micros(),
    )?;
    Ok(())
}

/// The published result of a domain.
///
/// # Errors
/// Database errors.
pub async fn published(db: &mut impl AsDb, domain: &str) -> Result<Option<String>> {
    Ok(row!(db, (String,), "SELECT document FROM conformance_results WHERE domain = $1", domain)?.map(|row| row.0))
}
