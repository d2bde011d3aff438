//! From what went wrong to status and body: the one place where it is decided.

use std::time::Duration;

use aiox_app::CallFailure;
use aiox_core::Error;
use aiox_model::{body::ErrorBody, run::RunError};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    shape::{self, Shape},
    shown::Shown,
};

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A use case refused or failed.
    App(Error),
    /// A call of a model has no answer.
    Call(CallFailure),
    /// The run ended without an answer.
    Run(Uuid, RunError),
    /// The run goes on, but nobody waits for it any more.
    Waiting(Uuid),
    /// A path or query that cannot be read at all.
    BadRequest,
    /// A body that is not JSON.
    NoJson,
    /// Members of a body that are wrong, each for itself.
    Issues(Vec<Issue>),
    /// Two sources of the request name different tenants.
    OtherTenant,
    /// Something named that `/v1` has a code of its own for.
    Refused(Box<Refusal>),
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

/// What is wrong with one member of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Issue {
    /// JSON pointer (RFC 6901) of the member; empty = the whole body.
    pub(crate) path: String,
    pub(crate) message: String,
    /// `required`, `type`, `value` or `unknown`.
    #[serde(rename = "code")]
    pub(crate) kind: &'static str,
}

/// A refusal with its details.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) details: Map<String, Value>,
}

/// Result of a handler.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::App(error)
    }
}

impl From<CallFailure> for Failure {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::App(error) => Self::App(error),
            other => Self::Call(other),
        }
    }
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
            param: None,
            details: None,
        };
        match self {
            Self::App(error) => shown(error),
            Self::Call(failure) => called(failure),
            Self::Run(run, error) => {
                Shown { run: Some(*run), ..plain(run_status(&error.code), &error.code, &error.message, error.retryable) }
            }
            Self::Waiting(run) => Shown {
                run: Some(*run),
                ..plain(StatusCode::GATEWAY_TIMEOUT, "wait_timeout", "no answer yet; the run goes on and can be read by its id", true)
            },
            Self::BadRequest => plain(StatusCode::BAD_REQUEST, "invalid_request", "bad request", false),
            Self::NoJson => plain(StatusCode::BAD_REQUEST, "invalid_json", "bad request", false),
            Self::Issues(issues) => {
                let text = issues.first().map_or_else(String::new, |first| format!("{}: {}", first.path, first.message));
                let details = Some(shape::issues(issues));
                let param = issues.first().map(|first| first.path.clone());
                Shown { details, param, ..plain(StatusCode::BAD_REQUEST, "invalid_request", &text, false) }
            }
            Self::OtherTenant => {
                plain(StatusCode::BAD_REQUEST, "tenant_mismatch", "the request names another tenant than the one it runs in", false)
            }
            Self::Refused(refusal) => {
                let retryable = refusal.status == StatusCode::SERVICE_UNAVAILABLE;
                let retry_after = retryable.then_some(Duration::from_secs(5));
                let details = (!refusal.details.is_empty()).then(|| refusal.details.clone());
                Shown { details, retry_after, ..plain(refusal.status, refusal.code, &refusal.message, retryable) }
            }
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

fn called(failure: &CallFailure) -> Shown {
    let (status, param, details) = match failure {
        CallFailure::App(error) => return shown(error),
        CallFailure::NotFound(_) => (StatusCode::NOT_FOUND, Some("model"), None),
        CallFailure::Blocked(reasons) => (StatusCode::FORBIDDEN, None, Some(shape::details("reasons", reasons))),
        CallFailure::Unmet(unmet) => (StatusCode::CONFLICT, None, Some(shape::details("unmet", unmet))),
        CallFailure::Refused(_) => (StatusCode::BAD_REQUEST, None, None),
        CallFailure::Unavailable(_) | CallFailure::Timeout => (StatusCode::SERVICE_UNAVAILABLE, None, None),
    };
    Shown {
        status,
        code: failure.code().to_owned(),
        text: failure.to_string(),
        retryable: failure.retryable(),
        retry_after: failure.retryable().then_some(Duration::from_secs(1)),
        run: None,
        param: param.map(str::to_owned),
        details,
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
    let (param, details) = match error {
        Error::Invalid { field, message } => {
            let issue = Issue { path: shape::pointer(field), message: message.clone(), kind: "value" };
            (Some(field.clone()), Some(shape::issues(&[issue])))
        }
        Error::Spent(spent) => (None, Some(spent.details())),
        _ => (None, None),
    };
    Shown { status, code: error.code().to_owned(), text, retryable: error.retryable(), retry_after, run: None, param, details }
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
    /// The body on `/api/v1`.
    pub(crate) fn body(self, correlation: &str) -> ErrorBody {
        let code = if self.code == "invalid_json" { "invalid_request".to_owned() } else { self.code };
        ErrorBody { error: self.text, code, correlation_id: correlation.to_owned(), retryable: self.retryable, run_id: self.run }
    }

    pub(crate) fn response(self, shape: Shape, correlation: &str) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = match shape {
            Shape::Api => (status, Json(self.body(correlation))).into_response(),
            Shape::V1 => shape::v1(self, correlation).into_response(),
            Shape::OpenAi => shape::openai(self).into_response(),
        };
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
        assert_eq!(limited.shown().response(Shape::V1, "c").headers()[header::RETRY_AFTER], "2");
    }
}
