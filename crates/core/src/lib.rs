//! The rules of a hub: who may do what, in which order work is taken, which state follows which, and the ports through which
//! the rest of the world is reached.
//!
//! Knows `aiox-model`. Does no IO, reads no clock, draws no randomness: times and ids come in through [`ports::Clock`] and
//! [`ports::Ids`]. Its types do not implement `Serialize`, so a door cannot leak one by accident.
#![cfg_attr(test, expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap or panic is a failed test"))]

pub mod access;
pub mod agent;
pub mod agentos;
pub mod caller;
mod error;
pub mod forward;
pub mod gateway;
pub mod policy;
pub mod ports;
pub mod quota;
pub mod run;
pub mod steps;
pub mod tenant;

pub use caller::{Caller, Door, Principal, Role, Scope};
pub use error::{Error, Result};
