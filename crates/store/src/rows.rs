//! Small conversions between columns and the domain.

use aiox_core::Result;

use crate::error::corrupt;

/// An unsigned number of a column that never holds a negative one.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A number for a column.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// JSON of a text column.
pub(crate) fn json<T: serde::de::DeserializeOwned>(table: &'static str, column: &'static str, id: impl ToString, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| corrupt(table, column, id))
}

/// Text of a JSON value.
pub(crate) fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(aiox_core::Error::internal)
}
