//! The XMPP server beside a hub: Prosody or ejabberd.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use super::{
    ejabberd::Ejabberd,
    process::{Status, Stopped},
    prosody::Prosody,
};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Kind {
    /// Small, and the hub's accounts are its accounts.
    #[default]
    Prosody,
    /// For large sites. It asks the hub who may sign in.
    Ejabberd,
}

impl Kind {
    /// Its name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prosody => "prosody",
            Self::Ejabberd => "ejabberd",
        }
    }
}

/// A server, ready to be started.
pub enum Server {
    /// Prosody.
    Prosody(Prosody),
    /// ejabberd.
    Ejabberd(Ejabberd),
}

impl Server {
    /// Starts it and waits until it listens. Does nothing when it runs already.
    pub async fn start(&self) -> Result<()> {
        match self {
            Self::Prosody(server) => server.start().await,
            Self::Ejabberd(server) => server.start().await,
        }
    }
    /// Whether it runs.
    pub fn status(&self) -> Result<Status> {
        match self {
            Self::Prosody(server) => server.status(),
            Self::Ejabberd(server) => server.status(),
        }
    }
    /// Stops it.
    pub async fn stop(&self) -> Result<Stopped> {
        match self {
            Self::Prosody(server) => server.stop().await,
            Self::Ejabberd(server) => server.stop().await,
        }
    }
    /// Its pid file.
    pub fn pid_file(&self) -> PathBuf {
        match self {
            Self::Prosody(server) => server.pid_file(),
            Self::Ejabberd(server) => server.pid_file(),
        }
    }
}
