//! Whether changes are refused for now.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use aiox_core::{Error, Result};

/// Cheap to clone; clones hold together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold(Arc<AtomicBool>);

impl Hold {
    pub(crate) fn set(&self, held: bool) {
        self.0.store(held, Ordering::Release);
    }

    /// Refuses a change while they are held.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(Error::unavailable("dependency_unavailable", "audit records cannot be written, so nothing is changed for now"));
        }
        Ok(())
    }
}
