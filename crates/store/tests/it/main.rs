//! The store on both databases: every public function, what a group commit promises, and that the schemas are one.
//!
//! `cargo test -p aiox-store` is complete for SQLite; `scripts/with-postgres.sh cargo test -p aiox-store` adds Postgres.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod accounts;
mod agents;
mod chain;
mod federation;
mod journal;
mod load;
mod make;
mod models;
mod remembered;
mod runs;
mod schema;
mod small;
mod tenants;
