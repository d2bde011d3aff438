//! Use cases, by aggregate. Every door calls these and nothing below them.
//!
//! Knows `aiox-core`, `aiox-store` and `aiox-crypto`; knows no door and no wire protocol. A use case authorises, decides, and
//! writes in one transaction; it does not call a sibling use case. Each takes the dependencies that it names, built once by the
//! composition root:
//!
//! - [`Accounts`]: register, sign in, keys; turns credentials and XMPP addresses into a [`aiox_core::Caller`].
//! - [`Agents`]: create, read, change, delete, grant; [`Agents::card`] is what a stranger may see.
//! - [`Runs`]: the one path of a message, [`Runs::submit`], and everything that watches it.
//! - [`Dispatch`]: runs to workers and back.
//! - [`ModelGateway`]: calls of models that belong to no agent.
//! - [`Replies`]: durable answers that wait for the XMPP door.
//! - [`Contacts`]: who subscribed to an agent's presence.
//! - [`Tenants`]: what administrators do with tenants. [`TenantBook`]: what every door asks of a tenant, and its limits.
//! - [`Federated`]: runs that come from, or go to, a peer hub. [`PeerBook`]: those peers. [`Ingest`]: events that programs bring in.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod accounts;
mod agent_config;
pub mod agents;
mod audit;
mod bounds;
mod contacts;
mod directory;
pub mod dispatch;
pub mod federated;
pub mod gateway;
pub mod ingest;
mod log;
mod names;
mod narrowed;
pub mod peers;
mod remote;
mod replies;
pub mod runs;
mod same;
pub mod samples;
mod tenant_book;
pub mod tenants;
mod urgency;
mod vault;
mod whole;
mod worker_credentials;

pub use accounts::{Accounts, AccountsOptions, SignUp};
pub use agents::Agents;
pub use bounds::{Bounds, ChosenModel};
pub use contacts::Contacts;
pub use directory::{AgentRef, Directory, Target};
pub use dispatch::{Dispatch, DispatchOptions, Heartbeat, Notice, Task, TaskEvent, TaskOutcome, WorkerInfo, WorkerSession};
pub use federated::Federated;
pub use gateway::{CallFailure, GatewayOptions, ModelGateway};
pub use ingest::Ingest;
pub use names::HubNames;
pub use peers::PeerBook;
pub use replies::{Replies, Reply, ReplyTo};
pub use runs::{Asked, Detail, NewRun, Runs, RunsOptions, Submitted};
pub use tenant_book::{Known, Reservation, TenantBook};
pub use tenants::{Answered, AuditBatch, AuditQuery, Repeatable, Tenants, audit_record};
pub use urgency::Urgency;
pub use vault::Vault;
pub use worker_credentials::{KnownCredentials, ListedCredential, WorkerCredentials};
