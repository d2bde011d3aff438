//! Stanza errors: one mapping from the hub's errors to RFC 6120 section 8.3, with the texts that clients of the published
//! contract know.

use std::time::Duration;

use aiox_core::Error;
use xmpp_parsers::stanza_error::{DefinedCondition as Condition, ErrorType};

/// What an error stanza says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub(crate) type_: ErrorType,
    pub(crate) condition: Condition,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(type_: ErrorType, condition: Condition, text: impl Into<String>) -> Self {
        Self { type_, condition, text: text.into() }
    }
    /// For everything addressed to an agent that does not exist, or that the sender may not know of.
    pub(crate) fn no_agent() -> Self {
        Self::new(ErrorType::Cancel, Condition::ItemNotFound, "Error: Agent not found")
    }
    /// For requests that nobody here understands.
    pub(crate) fn unsupported() -> Self {
        Self::new(ErrorType::Cancel, Condition::ServiceUnavailable, "")
    }
    /// For senders that send too fast: when they may send again.
    pub(crate) fn too_fast(wait: Duration) -> Self {
        let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        let text = format!(
            "Error: Too many messages. Please wait {seconds} s and send this one again; until then further ones are dropped without a word."
        );
        Self::new(ErrorType::Wait, Condition::PolicyViolation, text)
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let processing = || format!("Error processing your message: {error}");
        match error {
            Error::NotFound("agent") => Self::no_agent(),
            Error::NotFound(what) => Self::new(ErrorType::Cancel, Condition::ItemNotFound, format!("Error: {what} not found")),
            Error::Conflict { .. } => Self::new(ErrorType::Cancel, Condition::Conflict, processing()),
            Error::Invalid { .. } => Self::new(ErrorType::Modify, Condition::BadRequest, processing()),
            Error::TooLarge { .. } => Self::new(ErrorType::Modify, Condition::PolicyViolation, processing()),
            Error::Unauthenticated(_) => Self::new(ErrorType::Auth, Condition::NotAuthorized, "Error: Message not authorized"),
            Error::Forbidden { .. } => Self::new(ErrorType::Auth, Condition::Forbidden, "Error: Message not authorized"),
            Error::Limited { message, .. } => {
                let reason = message.strip_prefix("Quota exceeded: ").unwrap_or(message);
                Self::new(ErrorType::Wait, Condition::ResourceConstraint, format!("Error: Quota exceeded: {reason}"))
            }
            // Waiting for a moment does not help, but the text says what would.
            Error::Spent(_) => Self::new(ErrorType::Wait, Condition::ResourceConstraint, format!("Error: Quota exceeded: {error}")),
            Error::Unavailable { code: "timeout", .. } => {
                Self::new(ErrorType::Wait, Condition::RemoteServerTimeout, "Sorry, the request timed out. Please try again.")
            }
            Error::Unavailable { .. } => Self::new(ErrorType::Wait, Condition::RecipientUnavailable, processing()),
            // The type is open to additions; what this door does not know yet is not the sender's fault.
            Error::Corrupt { .. } | Error::Internal(_) | _ => {
                Self::new(ErrorType::Cancel, Condition::InternalServerError, "Internal error processing your message")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_condition_and_its_contract_text() {
        let cases = [
            (Error::NotFound("agent"), ErrorType::Cancel, Condition::ItemNotFound, "Error: Agent not found"),
            (Error::NotFound("run"), ErrorType::Cancel, Condition::ItemNotFound, "Error: run not found"),
            (Error::conflict("c", "busy"), ErrorType::Cancel, Condition::Conflict, "Error processing your message: busy"),
            (Error::invalid("f", "m"), ErrorType::Modify, Condition::BadRequest, "Error processing your message: f: m"),
            (
                Error::TooLarge { what: "message", limit: 5 },
                ErrorType::Modify,
                Condition::PolicyViolation,
                "Error processing your message: message is larger than 5 bytes",
            ),
            (Error::Unauthenticated("who"), ErrorType::Auth, Condition::NotAuthorized, "Error: Message not authorized"),
            (Error::forbidden("c", "secret rule"), ErrorType::Auth, Condition::Forbidden, "Error: Message not authorized"),
            (
                Error::Limited { code: "quota", message: "1000 requests a day".into(), retry_after: Duration::from_secs(1) },
                ErrorType::Wait,
                Condition::ResourceConstraint,
                "Error: Quota exceeded: 1000 requests a day",
            ),
            (
                Error::unavailable("timeout", "t"),
                ErrorType::Wait,
                Condition::RemoteServerTimeout,
                "Sorry, the request timed out. Please try again.",
            ),
            (
                Error::unavailable("store", "the store is down"),
                ErrorType::Wait,
                Condition::RecipientUnavailable,
                "Error processing your message: the store is down",
            ),
            (
                Error::Corrupt { table: "t", column: "c", id: "1".into() },
                ErrorType::Cancel,
                Condition::InternalServerError,
                "Internal error processing your message",
            ),
            (
                Error::internal("password=hunter2"),
                ErrorType::Cancel,
                Condition::InternalServerError,
                "Internal error processing your message",
            ),
        ];
        for (error, type_, condition, text) in cases {
            assert_eq!(Fault::from(&error), Fault::new(type_, condition, text), "{error:?}");
        }
    }
}
