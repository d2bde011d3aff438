//! A small XMPP client that looks at a server and its agents from outside, as a person's client would.
//!
//! It speaks the part of RFC 6120 and RFC 6121 that such a look needs: STARTTLS (required), SASL SCRAM-SHA-256 or PLAIN, resource
//! binding, roster, presence, messages with chat states (XEP-0085), receipts (XEP-0184) and corrections (XEP-0308), and IQ.
//! It knows nothing of the other crates, so that it can only see what every client sees.
//!
//! Nothing runs in the background: the connection is read while [`Client::next_event`], [`Client::ask`] or [`Client::iq_get`]
//! waits, and only then are queries from others (service discovery, ping) answered. Every wait has a deadline; whatever the
//! server sends is bounded ([`MAX_STANZA_BYTES`], [`MAX_DEPTH`], [`MAX_PENDING_EVENTS`]) and a breach ends the operation with an
//! error that names the step.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod ask;
mod client;
mod error;
mod event;
mod login;
mod names;
mod scram;
mod stream;
#[cfg(test)]
mod tests;
mod xml;

pub use ask::{SETTLE, Transcript};
pub use client::{Client, MAX_PENDING_EVENTS, WRITE_TIMEOUT};
pub use error::{Cause, ProbeError, StanzaError, Step};
pub use event::{ChatState, Event, Message, MessageKind, Presence, PresenceKind};
pub use login::ConnectOptions;
pub use stream::MAX_STANZA_BYTES;
pub use xml::{Element, MAX_DEPTH, XmlError};
