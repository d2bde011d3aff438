//! Why a worker cannot start or lost its hub.

use std::path::PathBuf;

/// A fault of the worker itself. What a task fails with is a
/// [`Failure`](crate::failure::Failure).
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The configuration is wrong.
    #[error("worker configuration: {0}")]
    Config(String),
    /// A key, certificate or token file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The hub cannot be reached.
    #[error("cannot connect to the hub")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The hub does not take the registration; its words.
    #[error("the hub refused the registration: {0}")]
    Refused(String),
    /// The session ended.
    #[error("the session with the hub ended")]
    Session(#[source] Box<tonic::Status>),
    /// The hub was silent where it must answer.
    #[error("the hub did not answer in time: {0}")]
    Silent(&'static str),
}

impl From<tonic::Status> for WorkerError {
    fn from(status: tonic::Status) -> Self {
        Self::Session(Box::new(status))
    }
}
