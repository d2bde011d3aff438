//! The store: SQLite (embedded) and Postgres (cluster) behind one set of queries.
//!
//! Knows `sqlx`; nobody else does. Each statement is written once and expanded per backend by `each_db!`, so both run the same
//! text. Reading and writing are types: [`Store::read`] gives a [`Reader`], [`Store::begin`] a [`Tx`]. Inside a `Tx`, read
//! through it; never hold a `Reader` across `begin()`, nor a `Tx` across a network call. Hot writes go through the
//! [`Journal`], which commits many of them in one transaction.
//!
//! To add a query: write a function in the aggregate's file, taking `&mut impl AsDb` (or `&mut Tx` if it writes), and give it a
//! test with `both_dbs!` in `tests/`.

mod changes;
mod db;
mod dialect;
mod error;
mod hold;
mod journal;
mod many;
mod remembered;
mod rows;

pub mod accounts;
pub mod agents;
pub mod audit;
pub mod conformance;
pub mod conversations;
pub mod federation;
pub mod idempotency;
pub mod ingested;
pub mod keys;
pub mod ledger;
pub mod listed;
pub mod order;
pub mod outbox;
pub mod peers;
pub mod quotas;
pub mod responses;
pub mod runs;
pub mod service_tokens;
pub mod tenant_use;
pub mod tenants;
pub mod worker_credentials;

pub use db::{AsDb, Backend, Db, Reader, Store, StoreOptions, Tx};
pub use journal::{Accept, Accepted, Advance, Ending, Inbound, Journal, JournalStats, NewEvent, Outbound, Seal, Sealed};
pub use quotas::Exhausted;
pub use remembered::Remembered;
