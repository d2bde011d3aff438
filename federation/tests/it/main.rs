//! Two and three hubs in one process, over real TLS, with in-memory doubles for the durable side.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap or panic is a failed test")]

mod admin;
mod conformance;
mod delivery;
mod doubles;
mod envelopes;
mod follow;
mod forward;
mod handshake;
mod hub;
mod mesh;
mod mesh_hub;
mod order;
mod peers;
mod plain;
mod tokens;
mod vectors;
mod vectors_made;
