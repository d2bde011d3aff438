//! The REST door as a client sees it: a real listener over a real SQLite file, with a worker of the test's own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap or panic is a failed test")]

mod accounts;
mod agents;
mod audit;
mod chat;
mod documents;
mod hub;
mod manners;
mod model_worker;
mod models;
mod openai;
mod socket;
mod streams;
mod tenants;
mod v1;
