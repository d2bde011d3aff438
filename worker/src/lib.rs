//! The worker: it dials a hub, takes tasks, asks providers, and sends the answers back.
//!
//! A worker knows the protocol ([`aiox_proto`]) and nothing else of the hub. It decides nothing
//! about policy, keeps nothing after a task, and tells the hub only stable failure codes, never
//! what a provider said.
//!
//! One task is `task`; what it asks is built in `prompt`; who answers is a
//! [`provider::Provider`]. A call of a model that belongs to no run is `call`. `desk` holds the work in hand across connections, `session` is one
//! connection. To add a provider, give it a [`config::ProviderKind`] and a [`provider::Provider`];
//! the suite in `tests/it/providers.rs` says how it must behave.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod backoff;
mod call;
pub mod config;
mod connection;
mod desk;
mod error;
pub mod failure;
mod prompt;
pub mod provider;
mod session;
mod task;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use config::{Credential, IdentityFiles, ProviderConfig, ProviderKind, TlsFiles, WorkerConfig};
pub use error::WorkerError;

use backoff::Backoff;
use desk::Desk;
use session::End;

/// Works for the hub until `shutdown`, reconnecting for ever. On shutdown it takes no further
/// tasks, finishes what runs or hands it back, and returns within `drain_timeout`.
///
/// # Errors
/// Only before the first connection: a wrong configuration, or a file that cannot be read.
pub async fn run(config: WorkerConfig, shutdown: CancellationToken) -> Result<(), WorkerError> {
    config.validate()?;
    connection::check(&config).await?;
    let drain_timeout = config.drain_timeout;
    let mut desk = Desk::new(config)?;
    tokio::select! {
        () = work(&mut desk, &shutdown) => {}
        () = overdue(&shutdown, drain_timeout) => {
            tracing::warn!("left with work in hand; its leases go back to the hub");
        }
    }
    Ok(())
}

async fn work(desk: &mut Desk, shutdown: &CancellationToken) {
    let mut backoff = Backoff::new(desk.config.reconnect_delay);
    loop {
        match session::serve(desk, &mut backoff, shutdown).await {
            Ok(End::Drained) => return,
            Ok(End::Closed) => tracing::info!("the hub closed the session"),
            Err(error) => {
                // A hub that still holds the dead connection of this worker lets go of it soon.
                if matches!(error, WorkerError::Refused(_)) {
                    backoff.reset();
                }
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "no session with the hub");
            }
        }
        desk.set_link(None);
        let pause = tokio::time::sleep(backoff.delay());
        tokio::pin!(pause);
        loop {
            if shutdown.is_cancelled() && desk.is_clear() {
                return;
            }
            tokio::select! {
                () = &mut pause => break,
                () = shutdown.cancelled(), if !shutdown.is_cancelled() => {}
                // Kept for the next session.
                _ = desk.finished() => {}
            }
        }
    }
}

async fn overdue(shutdown: &CancellationToken, patience: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(patience).await;
}
