//! The one error body of each surface: `/api/v1`, `/v1`, and the OpenAI-compatible endpoints.
//!
//! What went wrong is decided in [`error`](crate::error); here is how it is written.

use aiox_model::v1;
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::{error::Issue, shown::Shown};

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Which surface a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/api/v1` and everything else.
    Api,
    /// `/v1`.
    V1,
    /// `/openai/v1` and its two aliases below `/v1`.
    OpenAi,
}

impl Shape {
    pub(crate) fn of(path: &str) -> Self {
        let below = |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below("/openai") || below("/v1/chat/completions") || below("/v1/embeddings") {
            Self::OpenAi
        } else if below("/v1") {
            Self::V1
        } else {
            Self::Api
        }
    }
}

/// The answer in the shape of `/v1`.
pub(crate) fn v1(shown: Shown, correlation: &str) -> Response {
    (shown.status, Json(v1_body(shown, correlation))).into_response()
}

fn v1_body(shown: Shown, correlation: &str) -> v1::error::ErrorBody {
    let code = v1_code(shown.status, &shown.code).to_owned();
    let retryable = match code.as_str() {
        "rate_limited" | "dependency_unavailable" | "timeout" => true,
        "quota_exceeded" => shown.retryable,
        _ => false,
    };
    let error = v1::error::ErrorDetail { code, message: shown.text, retryable, details: shown.details };
    v1::error::ErrorBody { error, correlation_id: correlation.to_owned() }
}

/// The code of `/v1` for one of this hub: those that its contract does not know become the one of their status.
fn v1_code(status: StatusCode, code: &str) -> &str {
    let known: &[&str] = match status.as_u16() {
        400 => &["invalid_request", "invalid_json", "tenant_mismatch"],
        401 => &["unauthorized"],
        403 => &["forbidden", "tenant_unknown", "policy_blocked"],
        404 => &["not_found", "peer_not_found", "model_not_found"],
        405 => &["method_not_allowed"],
        409 => &["conflict", "invalid_state_transition"],
        413 => &["invalid_request"],
        429 => &["rate_limited", "quota_exceeded"],
        503 => &["dependency_unavailable", "timeout"],
        504 => &["timeout"],
        502 => &["dependency_unavailable"],
        _ => &["internal_error"],
    };
    match code {
        "request_timeout" => "timeout",
        // Rules that the agent's owner made.
        "agent_blocked" | "domain_not_allowed" | "provider_not_allowed" => "policy_blocked",
        code if known.contains(&code) => code,
        _ => known[0],
    }
}

/// The answer in the shape of OpenAI. Its clients repeat a 409, a 429 and every 5xx unless they are told not to.
pub(crate) fn openai(shown: Shown) -> Response {
    let (status, again) = (shown.status, if shown.retryable { "true" } else { "false" });
    let mut response = (status, Json(openai_body(shown))).into_response();
    response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static(again));
    response
}

/// The body in the shape of OpenAI, with the codes of `/v1`.
pub(crate) fn openai_body(shown: Shown) -> v1::openai::ErrorBody {
    let kind = match shown.status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let code = v1_code(shown.status, &shown.code).to_owned();
    let error = v1::openai::ErrorDetail { message: shown.text, kind: kind.to_owned(), param: shown.param, code: Some(code) };
    v1::openai::ErrorBody { error }
}

/// What is wrong with members of a body, as details.
pub(crate) fn issues(issues: &[Issue]) -> Map<String, Value> {
    Map::from_iter([("issues".to_owned(), json!(issues))])
}

/// The JSON pointer (RFC 6901) of a member as `/api/v1` names it: `a.b[2]` is `/a/b/2`.
pub(crate) fn pointer(field: &str) -> String {
    let parts = field.split(['.', '[', ']']).filter(|part| !part.is_empty() && *part != "body");
    parts.fold(String::new(), |mut path, part| {
        path.push('/');
        path.push_str(&part.replace('~', "~0").replace('/', "~1"));
        path
    })
}

/// A list of reasons as details.
pub(crate) fn details<T: Into<Value> + Clone>(name: &str, values: &[T]) -> Map<String, Value> {
    let values: Vec<Value> = values.iter().cloned().map(Into::into).collect();
    Map::from_iter([(name.to_owned(), Value::Array(values))])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aiox_core::Error;

    use super::*;
    use crate::error::Failure;

    fn body_of(shown: Shown) -> v1::error::ErrorBody {
        v1_body(shown, "c")
    }

    #[test]
    fn each_path_has_its_surface() {
        for (path, shape) in [
            ("/api/v1/agents", Shape::Api),
            ("/health", Shape::Api),
            ("/v1", Shape::V1),
            ("/v1/models", Shape::V1),
            ("/v1x", Shape::Api),
            ("/v1/chat/completions", Shape::OpenAi),
            ("/v1/embeddings", Shape::OpenAi),
            ("/v1/embeddings2", Shape::V1),
            ("/openai/v1/models", Shape::OpenAi),
        ] {
            assert_eq!(Shape::of(path), shape, "{path}");
        }
    }

    #[test]
    fn below_v1_the_codes_are_a_closed_set_with_their_retryable() {
        let wait = Duration::from_secs(1);
        for (failure, status, code, retryable) in [
            (Failure::NoJson, 400, "invalid_json", false),
            (Failure::BadRequest, 400, "invalid_request", false),
            (Failure::OtherTenant, 400, "tenant_mismatch", false),
            (Failure::NoCredential, 401, "unauthorized", false),
            (Error::forbidden("agent_blocked", "y").into(), 403, "policy_blocked", false),
            (Error::forbidden("tenant_unknown", "y").into(), 403, "tenant_unknown", false),
            (Error::forbidden("foreign_lease", "y").into(), 403, "forbidden", false),
            (Failure::NoRoute, 404, "not_found", false),
            (Failure::NoMethod, 405, "method_not_allowed", false),
            (Error::conflict("idempotency_conflict", "y").into(), 409, "conflict", false),
            (Error::conflict("invalid_state_transition", "y").into(), 409, "invalid_state_transition", false),
            (Error::TooLarge { what: "body", limit: 1 }.into(), 413, "invalid_request", false),
            (Error::Limited { code: "too_many_streams", message: "x".into(), retry_after: wait }.into(), 429, "rate_limited", true),
            (Error::Limited { code: "quota_exceeded", message: "x".into(), retry_after: wait }.into(), 429, "quota_exceeded", true),
            (Failure::Panic, 500, "internal_error", false),
            (Error::unavailable("shutting_down", "y").into(), 503, "dependency_unavailable", true),
            (Failure::Slow, 503, "timeout", true),
        ] {
            let shown = failure.shown();
            assert_eq!(shown.status.as_u16(), status, "{failure:?}");
            let body = body_of(shown);
            assert_eq!((body.error.code.as_str(), body.error.retryable), (code, retryable), "{failure:?}");
        }
    }

    #[test]
    fn wrong_members_are_named_by_their_pointers() {
        let shown = Failure::App(Error::invalid("llm_config.stops[2]", "must be a text")).shown();
        let body = json!(body_of(shown.clone()));
        let issue = json!({ "path": "/llm_config/stops/2", "message": "must be a text", "code": "value" });
        assert_eq!(body["error"]["details"]["issues"], json!([issue]));
        assert_eq!(json!(openai_body(shown))["error"]["param"], "llm_config.stops[2]");
    }

    #[test]
    fn codes_that_the_contract_does_not_know_become_those_of_their_status() {
        for (status, code, wanted) in [
            (409, "idempotency_conflict", "conflict"),
            (413, "too_large", "invalid_request"),
            (503, "request_timeout", "timeout"),
            (503, "federation_off", "dependency_unavailable"),
            (403, "policy_blocked", "policy_blocked"),
            (403, "agent_blocked", "policy_blocked"),
            (403, "signup_closed", "forbidden"),
            (429, "too_many_streams", "rate_limited"),
            (404, "model_not_found", "model_not_found"),
        ] {
            assert_eq!(v1_code(StatusCode::from_u16(status).unwrap(), code), wanted);
        }
    }
}
