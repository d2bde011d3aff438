//! Whole processes, seen from outside: `aiox serve` and what stands around it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod audit;
mod integrators;
mod peers_file;
mod plain_peers;
mod process;
mod provider;
mod samples;
mod start;
mod stop;
mod workers;
