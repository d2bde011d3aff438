//! What can go wrong with certificates and their files.

use std::{fmt, path::PathBuf};

/// What is wrong with a configured file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileProblem {
    /// It does not exist.
    Missing,
    /// It cannot be read.
    Unreadable,
    /// It holds nothing.
    Empty,
    /// It is larger than any key or certificate file.
    TooLarge,
    /// Its group or others may read it.
    TooOpen,
    /// It is not the PEM text that it should be.
    Unparsable,
    /// The key does not belong to the certificate.
    Mismatch,
    /// It exists and was not to be replaced.
    Exists,
    /// It cannot be written.
    Unwritable,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "does not exist",
            Self::Unreadable => "cannot be read",
            Self::Empty => "is empty",
            Self::TooLarge => "is too large",
            Self::TooOpen => "can be read by its group or by others; make it mode 0600",
            Self::Unparsable => "is not the PEM file it should be",
            Self::Mismatch => "does not belong to the certificate",
            Self::Exists => "exists already",
            Self::Unwritable => "cannot be written",
        })
    }
}

/// A failure to make, read or write a certificate or key. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A configured file is not usable. The process must not go on without it.
    #[error("{setting}: {} {problem}", path.display())]
    File {
        /// Name of the setting that points to the file.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: FileProblem,
        /// The operating system's reason, if it gave one.
        source: Option<std::io::Error>,
    },
    /// A PEM text that does not come from a file is not usable.
    #[error("{0}: not the PEM text it should be")]
    Pem(String),
    /// A key in a setting that belongs to another certificate, or to another key.
    #[error("{0}: does not belong to what it stands beside")]
    Mismatch(String),
    /// A name cannot stand in a certificate.
    #[error("not a name that can stand in a certificate: {0}")]
    Name(String),
    /// The certificate library refused.
    #[error("the certificate could not be made")]
    Issue(#[source] rcgen::Error),
    /// The key library refused.
    #[error("the key could not be made")]
    Key,
}

impl CertError {
    /// What is wrong with the file, when a file is the cause.
    #[must_use]
    pub fn file_problem(&self) -> Option<FileProblem> {
        match self {
            Self::File { problem, .. } => Some(*problem),
            _ => None,
        }
    }
}
