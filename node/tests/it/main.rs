//! Whole processes, seen from outside: `aiox serve` and what stands around it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap or panic is a failed test")]

mod process;
mod provider;
mod start;
mod stop;
mod workers;
