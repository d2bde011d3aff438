//! Every document that another program reads from or writes to a hub, defined once.
//!
//! This crate is the wire contract in Rust: REST bodies, run events, federation documents, ids and times.
//! It knows serde and schemars and nothing else: no IO, no database, no HTTP. Internal state that must not
//! leave the process lives in `aiox-core`, whose types are deliberately not serializable.
//!
//! ```
//! use aiox_model::{RunId, Ts};
//! let id: RunId = "run_00000000000000000000000001".parse()?;
//! assert_eq!(id.to_string(), "run_00000000000000000000000001");
//! let at: Ts = "2026-01-02T03:04:05.123456Z".parse()?;
//! assert_eq!(at.to_string(), "2026-01-02T03:04:05.123456Z");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod account;
pub mod agent;
pub mod answers;
pub mod body;
pub mod conformance;
pub mod documents;
pub mod federation;
mod id;
pub mod jid;
pub mod objects;
pub mod operations;
pub mod run;
mod time;
pub mod v1;

pub use id::{
    AgentId, ApiKeyId, AuditId, ConversationId, EnvelopeId, EventId, GrantId, IdError, InviteId, MessageId, RequestId, RunId, SessionId,
    StepId, TenantId, TraceId, UserId,
};
pub use jid::BareJid;
pub use time::{Ts, TsError};
