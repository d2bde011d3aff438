//! What went wrong, as a client may know it: decided in [`error`](crate::error), written by [`shape`](crate::shape).

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};
use uuid::Uuid;

/// What the client gets to see. Waits in the response's extensions until the correlation id is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) retryable: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) run: Option<Uuid>,
    /// The member at fault.
    pub(crate) param: Option<String>,
    /// More, by code.
    pub(crate) details: Option<Map<String, Value>>,
}
