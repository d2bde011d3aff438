//! Runs as they were accepted, for whoever takes them next: most are taken at once, and need not be read again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;

use super::Accept;

/// Runs that are kept; then the oldest goes.
const MOST: usize = 1024;
/// Longest input of a run that is kept, in bytes.
const MAX_INPUT: usize = 4096;

#[derive(Default)]
pub(super) struct Fresh(Mutex<Held>);

#[derive(Default)]
struct Held {
    runs: HashMap<Uuid, Arc<Accept>>,
    /// In the order in which they came; those that were taken are still named.
    order: VecDeque<Uuid>,
}

impl Fresh {
    pub(super) fn keep(&self, run: Arc<Accept>) {
        if run.input.len() > MAX_INPUT {
            return;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.order.len() >= MOST
            && let Some(oldest) = held.order.pop_front()
        {
            held.runs.remove(&oldest);
        }
        held.order.push_back(run.run);
        held.runs.insert(run.run, run);
    }

    pub(super) fn take(&self, run: Uuid) -> Option<Arc<Accept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).runs.remove(&run)
    }
}
