//! Why a task failed, as the hub and the user may know it: a stable code and a fixed sentence.

use std::fmt;

/// A stable failure code. Its text never holds what a provider said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The provider refused the worker's key.
    ProviderUnauthorized,
    /// The provider asks to slow down.
    ProviderRateLimited,
    /// The provider cannot be reached, is overloaded, or broke off its answer.
    ProviderUnavailable,
    /// The provider stayed silent for too long.
    ProviderTimeout,
    /// The provider does not know the model.
    ModelNotFound,
    /// The prompt does not fit the model.
    ContextTooLong,
    /// The provider refused the request for another reason.
    ProviderError,
    /// This worker does not have the provider that the task names.
    ProviderNotConfigured,
    /// The model asked for a tool and nobody runs tools.
    ToolsUnavailable,
    /// The task cannot be read.
    InvalidTask,
    /// The task's own time is over.
    Timeout,
    /// The hub canceled the task.
    Canceled,
    /// The worker is leaving.
    WorkerDraining,
    /// The worker has no free place for the task.
    WorkerBusy,
    /// A fault of the worker.
    WorkerError,
}

impl ErrorCode {
    /// The code on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProviderUnauthorized => "provider_unauthorized",
            Self::ProviderRateLimited => "provider_rate_limited",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::ProviderTimeout => "provider_timeout",
            Self::ModelNotFound => "model_not_found",
            Self::ContextTooLong => "context_too_long",
            Self::ProviderError => "provider_error",
            Self::ProviderNotConfigured => "provider_not_configured",
            Self::ToolsUnavailable => "tools_unavailable",
            Self::InvalidTask => "invalid_task",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::WorkerDraining => "worker_draining",
            Self::WorkerBusy => "worker_busy",
            Self::WorkerError => "worker_error",
        }
    }

    /// The sentence that goes with it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::ProviderUnauthorized => "the provider refused the worker's credentials",
            Self::ProviderRateLimited => "the provider's rate limit is reached",
            Self::ProviderUnavailable => "the provider is unavailable",
            Self::ProviderTimeout => "the provider did not answer in time",
            Self::ModelNotFound => "the provider does not know the model",
            Self::ContextTooLong => "the conversation is too long for the model",
            Self::ProviderError => "the provider refused the request",
            Self::ProviderNotConfigured => "the worker does not have this provider",
            Self::ToolsUnavailable => "the model asked for a tool and tools are not available",
            Self::InvalidTask => "the task is malformed",
            Self::Timeout => "the time of the task is over",
            Self::Canceled => "the task was canceled",
            Self::WorkerDraining => "the worker is shutting down",
            Self::WorkerBusy => "the worker has no free place",
            Self::WorkerError => "the worker failed",
        }
    }

    /// Whether another attempt, perhaps by another worker, may succeed.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::ProviderRateLimited
                | Self::ProviderUnavailable
                | Self::ProviderTimeout
                | Self::ProviderNotConfigured
                | Self::WorkerDraining
                | Self::WorkerBusy
                | Self::WorkerError
        )
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with the detail for the worker's own log.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}")]
pub struct Failure {
    /// What the hub is told.
    pub code: ErrorCode,
    /// What happened, secrets stripped. For the debug log only.
    pub detail: String,
}

impl Failure {
    /// A failure with its detail.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&self.code).finish()
    }
}
