//! The worker from outside: its providers against doubles on the wire, the whole worker against a
//! hub double.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod bench;
mod connection;
mod double;
mod hub;
mod providers;
mod tasks;
