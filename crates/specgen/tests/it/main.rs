//! The rules of the published documents, held on the documents themselves.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap or panic is a failed test")]

mod additive;
mod cases;
mod compatible;
mod drift;
mod examples;
mod valid;
