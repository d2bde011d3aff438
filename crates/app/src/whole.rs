//! Steps that must follow one another even if the caller goes away.

use aiox_core::{Error, Result};

/// Runs `work` to its end, whether or not the caller still waits. A client that disconnects drops its request's future; what
/// comes after a commit (offering the run, telling the watchers) must happen all the same.
pub(crate) async fn whole<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(Error::internal)?
}
