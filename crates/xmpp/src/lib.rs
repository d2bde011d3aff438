//! The XMPP door: agents as contacts of any XMPP client, by an external component (XEP-0114).
//!
//! - `link` keeps the connection to the XMPP server up for ever, whatever a stanza contains.
//! - `incoming`, `outgoing`, `disco`, `fault` are pure: stanzas to meaning and meaning to stanzas.
//! - `door` calls the hub's use cases and answers. `door::relay` empties the durable outbox of replies; `confirm` knows which of
//!   them the server has taken.
//!
//! What must not be lost is durable before it is acknowledged, and stays in the hub's outbox until the server has confirmed it.
//! Everything else here, brakes, devices, live messages, is memory that may go.
//!
//! Knows the use cases of `aiox-app`; knows no other door. Nobody else names the XMPP libraries.
#![cfg_attr(test, expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed unwrap or panic is a failed test"))]

mod clients;
mod confirm;
mod denials;
mod disco;
mod door;
mod fault;
mod guard;
mod hub;
mod incoming;
mod lanes;
mod link;
mod options;
mod outgoing;
mod picture;
mod runner;
mod stanza;
#[cfg(test)]
mod tests;
mod text;
mod wire;

pub use guard::Brakes;
pub use link::LinkState;
pub use options::{OptionsError, XmppOptions};
pub use runner::XmppDoor;
pub use wire::UseCases;
