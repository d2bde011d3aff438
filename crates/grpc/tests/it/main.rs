//! The workers' door with the hub's real dispatcher and store behind it, and with real clients in
//! front of it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

mod door;
mod ports;
mod stranger;
mod whole;
mod world;
