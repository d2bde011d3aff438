//! Cryptography of a hub: passwords, user tokens, sealing at rest, SCRAM verifiers, and signatures between hubs.
//!
//! Knows `aiox-core` and `aiox-model`. Everything here is a pure computation over its inputs, save [`system`], which is the one
//! home of the operating system's clock and random generator. Secrets are wrapped in `secrecy` types and never printed.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod issuer;
pub mod jws;
pub mod password;
pub mod scram;
pub mod seal;
pub mod system;
pub mod tokens;
pub mod worker_token;

/// SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

/// Whether two byte strings are equal, in a time that depends on their lengths only.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
