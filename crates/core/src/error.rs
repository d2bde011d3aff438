//! One error for every use case, cut by what the caller can do about it.

use std::time::Duration;

/// Result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a use case did not do what was asked. `Display` is safe to show to a client; sources and details go to the log only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not exist, or the caller may not know that it does.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The stored state does not allow it.
    #[error("{message}")]
    Conflict {
        /// Stable code.
        code: &'static str,
        /// For people.
        message: String,
    },
    /// The input is wrong.
    #[error("{field}: {message}")]
    Invalid {
        /// The member at fault, as the client named it.
        field: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The input is too large.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The most it may be, in bytes.
        limit: u64,
    },
    /// Nobody, or nobody that this hub knows.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// Known, and not allowed.
    #[error("{message}")]
    Forbidden {
        /// Stable code.
        code: &'static str,
        /// For people.
        message: String,
    },
    /// Too much, for now.
    #[error("{message}")]
    Limited {
        /// Stable code.
        code: &'static str,
        /// For people.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The budget of the caller's tenant is used up; the same request succeeds only in another window, or with a larger budget.
    #[error("the budget of this tenant for the {} is used up", .0.window.as_str())]
    Spent(Box<crate::tenant::Spent>),
    /// Something that is needed is down.
    #[error("{message}")]
    Unavailable {
        /// Stable code.
        code: &'static str,
        /// For people; names the part.
        message: String,
    },
    /// Stored data that cannot be read.
    #[error("stored data is damaged")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// The row's key.
        id: String,
    },
    /// A defect or an operating fault.
    #[error("internal server error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps an operating fault. Its text goes to the log, never to a client.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }
    /// The input member `field` is wrong.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }
    /// The stored state does not allow it.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::Conflict { code, message: message.into() }
    }
    /// Known, and not allowed.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::Forbidden { code, message: message.into() }
    }
    /// A needed part is down.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::Unavailable { code, message: message.into() }
    }

    /// The stable machine code, the same at every door.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Invalid { .. } => "invalid_request",
            Self::TooLarge { .. } => "too_large",
            Self::Unauthenticated(_) => "unauthorized",
            Self::Spent(_) => "quota_exceeded",
            Self::Conflict { code, .. } | Self::Forbidden { code, .. } | Self::Limited { code, .. } | Self::Unavailable { code, .. } => {
                code
            }
            Self::Corrupt { .. } | Self::Internal(_) => "internal_error",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Limited { .. } | Self::Unavailable { .. })
    }

    /// The whole chain of causes in one line, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        use std::error::Error as _;
        let mut text = self.to_string();
        if let Self::Corrupt { table, column, id } = self {
            text.push_str(&format!(": {table}.{column} of {id}"));
        }
        let mut source = self.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
