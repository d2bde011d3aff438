//! How often what is in the store may have changed: for those who remember what they read.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts transactions that have ended. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes(Arc<AtomicU64>);

impl Changes {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// A transaction that begins; counted when this is dropped.
    pub(crate) fn begin(&self) -> Change {
        Change(self.clone())
    }
}

/// A transaction under way.
pub(crate) struct Change(Changes);

impl Drop for Change {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }
}
