//! The XMPP door.
#![cfg_attr(test, expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap or panic is a failed test"))]

mod confirm;
mod disco;
mod fault;
mod guard;
mod incoming;
mod lanes;
mod link;
mod outgoing;
mod stanza;
mod text;

pub use link::LinkState;
