//! Limits and single-use values in process: the embedded engine's adapters of [`aiox_core::ports::RateLimiter`] and
//! [`aiox_core::ports::ReplayGuard`]. Knows `aiox-core`.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod limiter;
mod replay;

pub use limiter::MemoryLimiter;
pub use replay::MemoryReplayGuard;
