//! Steps that must follow one another even if the caller goes away.

use aiox_core::{Error, Result};

/// Runs `work` to its end, whether or not the caller still waits. A client that disconnects drops its request's future; what
/// comes after a commit (offering the run, telling the watchers) must happen all the same.
pub(crate) fn whole<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> impl Future<Output = Result<T>> + Send {
    // At once, so that the caller's future does not have the work in it.
    let task = tokio::spawn(work);
    async move { task.await.map_err(Error::internal)? }
}
