//! The rules, through the use cases, on a real database.
//!
//! `cargo test -p aiox-app` is complete for SQLite; `scripts/with-postgres.sh cargo test -p aiox-app` adds Postgres.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap or panic is a failed test")]

mod accounts;
mod agents;
mod cancel;
mod ingest;
mod peers;
mod runs;
mod samples;
mod secrets;
mod steps;
mod tenants;
mod worker_credentials;
mod workers;
