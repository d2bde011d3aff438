//! Database errors in the domain's words.

use aiox_core::Error;

/// Maps by kind, never by a constraint's name or text.
pub(crate) fn map(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(db) if db.is_unique_violation() => Error::conflict("conflict", "it exists already"),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => {
            tracing::warn!(error = %error, "database unavailable");
            Error::unavailable("dependency_unavailable", "the database is not reachable")
        }
        _ => Error::internal(error),
    }
}

/// A stored value that does not parse.
pub(crate) fn corrupt(table: &'static str, column: &'static str, id: impl ToString) -> Error {
    Error::Corrupt { table, column, id: id.to_string() }
}
