//! Runs as they were accepted, for whoever takes them next: most are taken at once, and need not be read again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;

use crate::runs::RunRow;

/// Runs that are kept; then the oldest goes.
const MOST: usize = 1024;
/// Longest input of a run that is kept, in bytes.
const MAX_INPUT: usize = 4096;

#[derive(Default)]
pub(super) struct Fresh(Mutex<Held>);

#[derive(Default)]
struct Held {
    rows: HashMap<Uuid, RunRow>,
    /// In the order in which they came; those that were taken are still named.
    order: VecDeque<Uuid>,
}

impl Fresh {
    pub(super) fn keep(&self, row: RunRow) {
        if row.input.len() > MAX_INPUT {
            return;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.order.len() >= MOST
            && let Some(oldest) = held.order.pop_front()
        {
            held.rows.remove(&oldest);
        }
        held.order.push_back(row.id);
        held.rows.insert(row.id, row);
    }

    pub(super) fn take(&self, run: Uuid) -> Option<RunRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rows.remove(&run)
    }
}
