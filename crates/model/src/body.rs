//! Envelopes of `/api/v1` responses and the one error body.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `{"data": …}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Data")]
pub struct Data<T> {
    /// The object or list asked for.
    pub data: T,
}

/// `{"data": […]}`: a short list that is given whole.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct List<T> {
    /// The items; never absent, possibly empty.
    pub data: Vec<T>,
}

/// `{"message": "…"}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// What was done.
    pub message: String,
}

/// One page of a list, with the total over all pages.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The page's items; never absent, possibly empty.
    pub data: Vec<T>,
    /// Items over all pages.
    pub total_count: u64,
    /// The page's number, from 1.
    pub page: u32,
    /// Items a page holds at most, 1 to 100.
    pub page_size: u32,
}

/// The error body of `/api/v1`: the contract's `error` text plus what a program needs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// For people; the texts of the published contract.
    pub error: String,
    /// Stable machine code, one of `spec/errors.md`.
    pub code: String,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The run concerned, where there is one: it can be read and followed by this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
}
