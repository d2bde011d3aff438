//! The only home of differences between the two databases.

use aiox_core::Result;

use crate::{AsDb, Db, db::exec};

/// Lets one caller at a time pass for the length of the transaction, among all replicas. SQLite has one writer anyway.
///
/// # Errors
/// As every database error.
pub(crate) async fn serialize_on(tx: &mut crate::Tx, key: i64) -> Result<()> {
    match tx.as_db() {
        Db::Pg(_) => exec!(tx, "SELECT pg_advisory_xact_lock($1)", key).map(drop),
        Db::Lite(_) => Ok(()),
    }
}
