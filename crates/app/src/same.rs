//! When two bodies are the same request.

use serde_json::Value;

/// What two bodies are compared by: their canonical form (RFC 8785), or for what has none (integers beyond 2^53) how they were written.
pub(crate) fn form(body: &Value) -> Vec<u8> {
    aiox_crypto::jws::canonical(body).unwrap_or_else(|_| body.to_string().into_bytes())
}
