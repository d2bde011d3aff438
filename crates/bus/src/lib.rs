//! Work queue and live events in process: the embedded engine's adapters of [`aiox_core::ports::WorkQueue`] and
//! [`aiox_core::ports::Events`].
//!
//! Nothing here is durable: the store is, and offers unfinished runs again at start. Knows `aiox-core`; knows no database.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod events;
mod queue;

pub use events::MemoryEvents;
pub use queue::MemoryQueue;
