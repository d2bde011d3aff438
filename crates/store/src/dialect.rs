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

/// A statement of SQLite's over many rows for a transaction that is given up as a whole if it fails. By default SQLite copies each
/// page before it changes it, so that it could undo the one statement.
pub(crate) fn keeping_no_way_back(sql: String) -> String {
    for (plain, failing) in [("INSERT INTO ", "INSERT OR FAIL INTO "), ("UPDATE ", "UPDATE OR FAIL ")] {
        if let Some(rest) = sql.strip_prefix(plain) {
            return format!("{failing}{rest}");
        }
    }
    sql
}
