//! Why a call of a model has no answer.

use aiox_core::{
    Error,
    gateway::{Ask, Reference, Refusal},
};

/// Why a call has no answer. `Display` is safe to show to a client.
#[derive(Debug, thiserror::Error)]
pub enum CallFailure {
    /// As every use case fails.
    #[error(transparent)]
    App(#[from] Error),
    /// 404 `model_not_found`: the catalogue has no such model.
    #[error("the model {0} does not exist")]
    NotFound(String),
    /// 403 `policy_blocked`: the content, or the tenant's entitlements; why.
    #[error("blocked by policy: {}", .0.join(", "))]
    Blocked(Vec<String>),
    /// 409 `conflict`: no allowed model meets the requirements; which.
    #[error("no model meets {}", .0.join(", "))]
    Unmet(Vec<&'static str>),
    /// 400 `invalid_request`: the model refused the request itself; the code of its worker.
    #[error("{}", refused(.0))]
    Refused(String),
    /// 503 `dependency_unavailable`, retryable: every allowed model is down; the code of the last one.
    #[error("no model can answer now")]
    Unavailable(String),
    /// 503 `timeout`, retryable.
    #[error("the model took longer than its time limit")]
    Timeout,
}

fn refused(code: &str) -> &'static str {
    match code {
        "context_too_long" => "the conversation is too long for the model",
        _ => "the model's provider refused the request",
    }
}

impl CallFailure {
    pub(super) fn of(refusal: Refusal, ask: &Ask) -> Self {
        let name = || match &ask.reference {
            Reference::Tier(tier) => format!("tier:{}", tier.as_str()),
            Reference::Id(id) => id.clone(),
        };
        match refusal {
            Refusal::NotFound => Self::NotFound(name()),
            Refusal::WrongOperation => Self::App(Error::invalid("model", format!("{} cannot {}", name(), ask.operation.as_str()))),
            Refusal::NotEntitled(reasons) => Self::Blocked(reasons),
            // The question does not fit the model: nothing that another model of the same request would change.
            Refusal::Unmet(unmet) if unmet == ["context_window"] => Self::Refused("context_too_long".into()),
            Refusal::Unmet(unmet) => Self::Unmet(unmet),
            Refusal::Unavailable => Self::Unavailable("no_worker".into()),
        }
    }

    /// The stable machine code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::App(error) => error.code(),
            Self::NotFound(_) => "model_not_found",
            Self::Blocked(_) => "policy_blocked",
            Self::Unmet(_) => "conflict",
            Self::Refused(_) => "invalid_request",
            Self::Unavailable(_) => "dependency_unavailable",
            Self::Timeout => "timeout",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::App(error) => error.retryable(),
            Self::Unavailable(_) | Self::Timeout => true,
            Self::NotFound(_) | Self::Blocked(_) | Self::Unmet(_) | Self::Refused(_) => false,
        }
    }
}
