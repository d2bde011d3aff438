//! From what went wrong to status and body: the one place where it is decided.

use std::time::Duration;

use aiox_core::Error;
use aiox_model::{TraceId, body::ErrorBody, run::RunError};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A use case refused or failed.
    App(Error),
    /// The run ended without an answer.
    Run(Uuid, RunError),
    /// The run goes on, but nobody waits for it any more.
    Waiting(Uuid),
    /// A body or query that cannot be read at all.
    BadRequest,
    /// An id in the path that is none.
    BadId(&'static str),
    /// No credential, or none that can be read.
    NoCredential,
    /// No such route.
    NoRoute,
    /// The route has no such method.
    NoMethod,
    /// Too many sign-in attempts of one client.
    TooMany,
    /// The request took too long.
    Slow,
    /// A handler panicked.
    Panic,
}

/// Result of a handler.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::App(error)
    }
}

/// What the client gets to see. Waits in the response's extensions until the correlation id is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) retryable: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) run: Option<Uuid>,
}

/// The error body, with the run where there is one.
#[derive(Serialize)]
pub(crate) struct FullBody {
    #[serde(flatten)]
    body: ErrorBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<Uuid>,
}

impl Failure {
    pub(crate) fn shown(&self) -> Shown {
        let plain = |status: StatusCode, code: &str, text: &str, retryable: bool| Shown {
            status,
            code: code.to_owned(),
            text: text.to_owned(),
            retryable,
            retry_after: None,
            run: None,
        };
        match self {
            Self::App(error) => shown(error),
            Self::Run(run, error) => {
                Shown { run: Some(*run), ..plain(run_status(&error.code), &error.code, &error.message, error.retryable) }
            }
            Self::Waiting(run) => Shown {
                run: Some(*run),
                ..plain(StatusCode::GATEWAY_TIMEOUT, "wait_timeout", "no answer yet; the run goes on and can be read by its id", true)
            },
            Self::BadRequest => plain(StatusCode::BAD_REQUEST, "invalid_request", "bad request", false),
            Self::BadId(text) => plain(StatusCode::BAD_REQUEST, "invalid_request", text, false),
            Self::NoCredential => plain(StatusCode::UNAUTHORIZED, "unauthorized", "unauthorized", false),
            Self::NoRoute => plain(StatusCode::NOT_FOUND, "not_found", "not found", false),
            Self::NoMethod => plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed", false),
            Self::TooMany => Shown {
                // The published contract says 60, whatever the bucket would allow.
                retry_after: Some(Duration::from_secs(60)),
                ..plain(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests", true)
            },
            Self::Slow => plain(StatusCode::SERVICE_UNAVAILABLE, "request_timeout", "the request took too long", true),
            Self::Panic => plain(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "internal server error", false),
        }
    }
}

fn shown(error: &Error) -> Shown {
    let (status, retry_after) = match error {
        Error::NotFound(_) => (StatusCode::NOT_FOUND, None),
        Error::Conflict { .. } => (StatusCode::CONFLICT, None),
        Error::Invalid { .. } => (StatusCode::BAD_REQUEST, None),
        Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
        Error::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, None),
        Error::Forbidden { .. } => (StatusCode::FORBIDDEN, None),
        Error::Limited { retry_after, .. } => (StatusCode::TOO_MANY_REQUESTS, Some(*retry_after)),
        Error::Spent(_) => (StatusCode::TOO_MANY_REQUESTS, None),
        Error::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(5))),
        Error::Corrupt { .. } | Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        // `Error` is not exhaustive: what is not known here is nothing that a client may see.
        _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
    };
    let text = if status == StatusCode::INTERNAL_SERVER_ERROR { "internal server error".to_owned() } else { error.to_string() };
    Shown { status, code: error.code().to_owned(), text, retryable: error.retryable(), retry_after, run: None }
}

/// The status of a waiting call whose run ended with this code. Codes of workers and peers are an open set.
fn run_status(code: &str) -> StatusCode {
    match code {
        "timeout" | "expired" => StatusCode::GATEWAY_TIMEOUT,
        "canceled" => StatusCode::CONFLICT,
        "not_found" | "agent_deleted" => StatusCode::NOT_FOUND,
        "quota_exceeded" | "rate_limited" => StatusCode::TOO_MANY_REQUESTS,
        "worker_lost" | "no_capable_worker" | "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        "internal_error" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_GATEWAY,
    }
}

impl Shown {
    pub(crate) fn body(self, trace: TraceId) -> FullBody {
        FullBody {
            body: ErrorBody { error: self.text, code: self.code, correlation_id: trace.to_string(), retryable: self.retryable },
            run_id: self.run,
        }
    }

    pub(crate) fn response(self, trace: TraceId) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = (status, Json(self.body(trace))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = retry_after {
            // Rounded up: whoever comes back at that second must not be too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let shown = self.shown();
        if let Self::App(error) = &self
            && shown.status.is_server_error()
        {
            tracing::error!(error = error.chain(), "a request failed");
        }
        let mut response = shown.status.into_response();
        response.extensions_mut().insert(shown);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_text_never_reaches_a_client() {
        let secret = "password=hunter2";
        for error in
            [Error::internal(std::io::Error::other(secret)), Error::Corrupt { table: "agents", column: "config", id: secret.into() }]
        {
            let shown = Failure::App(error).shown();
            assert_eq!((shown.status, shown.text.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "internal server error"));
            assert!(!format!("{shown:?}").contains(secret));
        }
    }

    #[test]
    fn every_kind_has_its_status() {
        let wait = Duration::from_millis(1500);
        for (error, status) in [
            (Error::NotFound("agent"), 404),
            (Error::conflict("x", "y"), 409),
            (Error::invalid("name", "must be there"), 400),
            (Error::TooLarge { what: "body", limit: 1 }, 413),
            (Error::Unauthenticated("x"), 401),
            (Error::forbidden("x", "y"), 403),
            (Error::Limited { code: "quota_exceeded", message: "x".into(), retry_after: wait }, 429),
            (Error::unavailable("x", "y"), 503),
        ] {
            assert_eq!(shown(&error).status.as_u16(), status, "{error:?}");
        }
        let limited = Failure::App(Error::Limited { code: "x", message: "y".into(), retry_after: wait });
        assert_eq!(limited.shown().response(TraceId(Uuid::nil())).headers()[header::RETRY_AFTER], "2");
    }
}
