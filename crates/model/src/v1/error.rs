//! The one error body of `/v1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Body of every 4xx and 5xx answer below `/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1ErrorBody", deny_unknown_fields)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Error", deny_unknown_fields)]
pub struct ErrorDetail {
    /// Stable machine code, one of `spec/errors.md`.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// More, by code: `issues` of a validation error, `missing` capabilities, the `limit` of a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Map<String, Value>>,
}
