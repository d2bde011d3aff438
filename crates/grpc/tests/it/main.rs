//! The workers' door with the hub's real dispatcher and store behind it, and with real clients in
//! front of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod entry;
mod liveness;
mod pki;
mod ports;
mod runs;
mod stranger;
mod whole;
mod world;
