//! Idempotency keys of administration, with the first answer of each. Runs keep their keys themselves, and so do calls of models.

use aiox_core::Result;
use aiox_model::Ts;

use crate::{
    Tx,
    db::{exec, row},
};

/// A request with a key.
#[derive(Debug, Clone)]
pub struct Keyed<'a> {
    /// Key of the verified principal.
    pub principal: &'a str,
    /// What is asked of what: another operation under the same key is another request.
    pub operation: &'a str,
    /// The idempotency key.
    pub key: &'a str,
    /// Digest of the canonical request.
    pub digest: &'a [u8],
    /// Now.
    pub at: Ts,
}

/// What was asked first under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Digest of the canonical request.
    pub digest: Vec<u8>,
    /// Its answer (JSON).
    pub answer: String,
}

/// Takes a key for a request and its answer, in the transaction of what the request does: both are there, or neither is. If the key is
/// taken, what was asked first; a request at the same time is waited for.
///
/// # Errors
/// Database errors.
pub async fn claim(tx: &mut Tx, keyed: &Keyed<'_>, answer: &str) -> Result<Option<Earlier>> {
    let claimed = exec!(
        tx,
        "INSERT INTO idempotency_keys (principal, operation, idem_key, digest, answer, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT DO NOTHING",
        keyed.principal,
        keyed.operation,
        keyed.key,
        keyed.digest,
        answer,
        keyed.at.micros(),
    )?;
    if claimed == 1 {
        return Ok(None);
    }
    let found = row!(
        tx,
        (Vec<u8>, String),
        "SELECT digest, answer FROM idempotency_keys WHERE principal = $1 AND operation = $2 AND idem_key = $3",
        keyed.principal,
        keyed.operation,
        keyed.key,
    )?;
    Ok(found.map(|(digest, answer)| Earlier { digest, answer }))
}

/// Forgets the keys from before a time. How many.
///
/// # Errors
/// Database errors.
pub async fn forget(tx: &mut Tx, before: Ts) -> Result<u64> {
    exec!(tx, "DELETE FROM idempotency_keys WHERE created_at < $1", before.micros())
}
