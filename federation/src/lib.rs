//! Hub-to-hub federation: mutually authenticated TLS, request tokens, signed envelopes, durable delivery, live event streams.
//!
//! The durable side (outbox, inbox, peer records, run logs) comes in through the traits in [`ports`]; [`durable`] is those traits
//! over the use cases of `aiox-app`, and [`service`] puts everything together for the composition root. Nothing here knows XMPP,
//! REST or a database.
//!
//! Trust is layered, and each layer is checked on its own: the certificate names the peer ([`tls`]), the token binds one request to
//! that certificate ([`token`]), the envelope carries the origin's own proof ([`envelope`]), and what the peer may do is only what
//! its local record allows ([`roster`]).
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod admin;
mod backoff;
pub mod conformance;
pub mod delivery;
mod documented;
pub mod door;
pub mod durable;
pub mod envelope;
pub mod fetch;
pub mod follow;
mod leaf;
pub mod link;
pub mod listener;
pub mod local;
pub mod order;
pub mod peers;
pub mod plain;
pub mod ports;
pub mod publish;
pub mod roster;
pub mod service;
mod sse;
pub mod tls;
pub mod token;
pub mod trust;
mod wire;
