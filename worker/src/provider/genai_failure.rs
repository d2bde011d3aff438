//! From what went wrong at a provider to a stable code.

use std::error::Error as StdError;

use genai::Error;
use secrecy::{ExposeSecret, SecretString};

use crate::failure::{ErrorCode, Failure};

/// Longest detail kept for the debug log, in characters.
const DETAIL_CHARS: usize = 500;

/// The provider broke off its answer.
pub(super) fn cut() -> Failure {
    Failure::new(ErrorCode::ProviderUnavailable, "the answer ended before it was complete")
}

/// The code of a failed call. The text of the provider stays in the detail, without `secret`.
pub(super) fn classify(error: &Error, secret: Option<&SecretString>) -> Failure {
    let text = error.to_string();
    let code = match error {
        Error::WebStream { error: cause, .. } => match cause.downcast_ref::<Error>() {
            Some(inner) => return classify(inner, secret),
            None => transport(cause.as_ref()),
        },
        Error::ChatResponse { body, .. } => told(&body.to_string()),
        Error::StreamParse { .. } | Error::JsonValueExt(_) | Error::SerdeJson(_) => ErrorCode::ProviderUnavailable,
        Error::RequiresApiKey { .. } | Error::NoAuthData { .. } => ErrorCode::ProviderUnauthorized,
        _ => match error.status() {
            Some(status) => answered(status.as_u16(), &text),
            None => ErrorCode::ProviderError,
        },
    };
    Failure::new(code, stripped(&text, secret))
}

/// The code of an answer with an HTTP error status.
fn answered(status: u16, body: &str) -> ErrorCode {
    match status {
        401 | 403 => ErrorCode::ProviderUnauthorized,
        404 => ErrorCode::ModelNotFound,
        408 => ErrorCode::ProviderTimeout,
        413 => ErrorCode::ContextTooLong,
        429 => ErrorCode::ProviderRateLimited,
        500..=599 => ErrorCode::ProviderUnavailable,
        _ => match told(body) {
            code @ (ErrorCode::ContextTooLong | ErrorCode::ModelNotFound) => code,
            _ => ErrorCode::ProviderError,
        },
    }
}

/// The code of an error that a provider tells in words, in the middle of an answer for example.
fn told(body: &str) -> ErrorCode {
    let body = body.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| body.contains(word));
    if says(&["context_length_exceeded", "prompt is too long", "maximum context", "context window"]) {
        ErrorCode::ContextTooLong
    } else if says(&["model_not_found", "not_found_error"]) {
        ErrorCode::ModelNotFound
    } else if says(&["rate_limit", "insufficient_quota"]) {
        ErrorCode::ProviderRateLimited
    } else if says(&["authentication_error", "invalid_api_key", "permission_error"]) {
        ErrorCode::ProviderUnauthorized
    } else if says(&["overloaded", "server_error", "api_error", "unavailable"]) {
        ErrorCode::ProviderUnavailable
    } else {
        ErrorCode::ProviderError
    }
}

/// The code of a connection that failed.
fn transport(error: &(dyn StdError + 'static)) -> ErrorCode {
    let mut next = Some(error);
    while let Some(cause) = next {
        let silent = cause.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout)
            || cause.downcast_ref::<genai::webc::StreamTimeout>().is_some();
        if silent {
            return ErrorCode::ProviderTimeout;
        }
        next = cause.source();
    }
    ErrorCode::ProviderUnavailable
}

/// `text` without the key, without anything that looks like one, and not too long.
fn stripped(text: &str, secret: Option<&SecretString>) -> String {
    let mut text = text.to_owned();
    if let Some(secret) = secret
        && !secret.expose_secret().is_empty()
    {
        text = text.replace(secret.expose_secret(), "[redacted]");
    }
    let boundary = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '.'));
    text.split_inclusive(boundary)
        .map(|word| if word.starts_with("sk-") || word.starts_with("eyJ") { "[redacted] " } else { word })
        .flat_map(str::chars)
        .take(DETAIL_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_holds_no_key() {
        let secret = SecretString::from("local-key-1234");
        let detail = stripped("Incorrect API key provided: sk-abc***xyz. local-key-1234 \"eyJhbGciOi.x.y\"", Some(&secret));
        assert!(!detail.contains("abc"), "{detail}");
        assert!(!detail.contains("local-key"), "{detail}");
        assert!(!detail.contains("eyJ"), "{detail}");
        assert!(detail.starts_with("Incorrect API key provided: [redacted]"));
        assert_eq!(stripped(&"x".repeat(10_000), None).len(), DETAIL_CHARS);
    }

    #[test]
    fn statuses_and_words_have_their_codes() {
        assert_eq!(answered(401, ""), ErrorCode::ProviderUnauthorized);
        assert_eq!(answered(403, ""), ErrorCode::ProviderUnauthorized);
        assert_eq!(answered(404, ""), ErrorCode::ModelNotFound);
        assert_eq!(answered(413, ""), ErrorCode::ContextTooLong);
        assert_eq!(answered(429, ""), ErrorCode::ProviderRateLimited);
        assert_eq!(answered(529, ""), ErrorCode::ProviderUnavailable);
        assert_eq!(answered(400, r#"{"error":{"code":"context_length_exceeded"}}"#), ErrorCode::ContextTooLong);
        assert_eq!(answered(400, "rate_limit"), ErrorCode::ProviderError);
        assert_eq!(told(r#"{"type":"overloaded_error"}"#), ErrorCode::ProviderUnavailable);
        assert_eq!(told("no idea"), ErrorCode::ProviderError);
    }
}
