//! What can go wrong between a client and its hub.

use std::time::Duration;

use aiox_model::{body::ErrorBody, v1};
use reqwest::{Response, header};

/// Result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client itself is set up wrongly.
    #[error("{0}")]
    Setting(&'static str),
    /// The hub cannot be reached, or the connection broke.
    #[error("the hub does not answer")]
    Connection(#[from] reqwest::Error),
    /// The hub refused or failed, in its own words.
    #[error("{message} ({code}{})", after_comma(correlation_id))]
    Hub {
        /// HTTP status.
        status: u16,
        /// Stable code of the hub.
        code: String,
        /// For people.
        message: String,
        /// Joins it to the hub's log; empty when something else than a hub answered.
        correlation_id: String,
        /// Whether the same call may succeed later.
        retryable: bool,
        /// When to try again, if the hub said so.
        retry_after: Option<Duration>,
    },
    /// Something answered, but not as a hub does.
    #[error("the hub's answer cannot be read: {0}")]
    Answer(&'static str),
}

fn after_comma(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", {text}") }
}

impl Error {
    /// The hub's code, if the hub answered.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Hub { code, .. } => Some(code),
            _ => None,
        }
    }

    pub(crate) fn of_body(status: u16, body: ErrorBody, retry_after: Option<Duration>) -> Self {
        Self::Hub {
            status,
            code: body.code,
            message: body.error,
            correlation_id: body.correlation_id,
            retryable: body.retryable,
            retry_after,
        }
    }
}

fn plain(body: v1::error::ErrorBody) -> ErrorBody {
    let v1::error::ErrorDetail { code, message, retryable, .. } = body.error;
    ErrorBody { error: message, code, correlation_id: body.correlation_id, retryable, run_id: None }
}

/// The response, if it is a success.
pub(crate) async fn successful(response: Response) -> Result<Response> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = wait.map(Duration::from_secs);
    let body = crate::bytes(response).await?;
    // `/api/v1` and `/v1` have a form of their own each.
    let body = serde_json::from_slice(&body).or_else(|_| serde_json::from_slice(&body).map(plain)).unwrap_or_else(|_| ErrorBody {
        error: format!("HTTP {status}"),
        code: "unknown".into(),
        correlation_id: String::new(),
        retryable: status.is_server_error(),
        run_id: None,
    });
    Err(Error::of_body(status.as_u16(), body, retry_after))
}
