//! The usage ledger: one row for each call of a model, written before the call and closed after it.

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row},
    rows::signed,
};

/// A call that is about to be made.
#[derive(Debug, Clone)]
pub struct NewCall {
    /// Its id.
    pub id: Uuid,
    /// The tenant that pays.
    pub tenant: Uuid,
    /// Key of the verified principal.
    pub principal: String,
    /// The request's own id.
    pub request_id: String,
    /// `chat` or `embed`.
    pub operation: &'static str,
    /// What was asked for.
    pub model_ref: String,
    /// `allowed` or `redacted`.
    pub decision: &'static str,
    /// Tokens that are reserved for it.
    pub reserved_tokens: u64,
    /// Micro-dollars that are reserved for it.
    pub reserved_cost: u64,
    /// Idempotency key and digest of the canonical request.
    pub idempotency: Option<(String, Vec<u8>)>,
    /// Correlation id.
    pub trace: String,
    /// Now.
    pub at: Ts,
}

/// How a call ended.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// Id of the model that answered, or that failed last.
    pub model: Option<String>,
    /// Its provider.
    pub provider: Option<String>,
    /// Whether it stood in for the one that was preferred.
    pub fallback: bool,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Micro-dollars, if the price is known.
    pub cost: Option<u64>,
    /// Milliseconds from the first attempt to the end.
    pub latency_ms: u64,
    /// Code of the failure. A failed call keeps no idempotency key, so that it can be tried again.
    pub error: Option<String>,
    /// What a repetition with the same idempotency key is answered with (JSON).
    pub answer: Option<String>,
}

/// An earlier call with the same idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Digest of its canonical request.
    pub digest: Vec<u8>,
    /// Its answer (JSON); `None` while it goes on.
    pub answer: Option<String>,
}

/// Adds a call. `false`: the principal has used this idempotency key already, and nothing is written.
///
/// # Errors
/// Database errors.
pub async fn open(tx: &mut Tx, call: &NewCall) -> Result<bool> {
    let (key, digest) = call.idempotency.as_ref().map(|(key, digest)| (key.as_str(), digest.as_slice())).unzip();
    let written = exec!(
        tx,
        "INSERT INTO model_calls (id, tenant_id, principal, request_id, operation, model_ref, state, decision, fallback, reserved_tokens, \
         reserved_cost, input_tokens, output_tokens, idem_key, idem_digest, trace, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, 'open', $7, 0, $8, $9, 0, 0, $10, $11, $12, $13) ON CONFLICT DO NOTHING",
        call.id,
        call.tenant,
        &call.principal,
        &call.request_id,
        call.operation,
        &call.model_ref,
        call.decision,
        signed(call.reserved_tokens),
        signed(call.reserved_cost),
        key,
        digest,
        &call.trace,
        call.at.micros(),
    )?;
    Ok(written == 1)
}

/// Closes a call. `false`: it was closed before.
///
/// # Errors
/// Database errors.
pub async fn close(tx: &mut Tx, id: Uuid, ended: &Ended, at: Ts) -> Result<bool> {
    let written = exec!(
        tx,
        "UPDATE model_calls SET state = CASE WHEN CAST($2 AS TEXT) IS NULL THEN 'done' ELSE 'failed' END, error = $2, model = $3, provider = $4, \
         fallback = $5, input_tokens = $6, output_tokens = $7, cost = $8, latency_ms = $9, answer = $10, ended_at = $11, \
         idem_key = CASE WHEN CAST($2 AS TEXT) IS NULL THEN idem_key ELSE NULL END WHERE id = $1 AND state = 'open'",
        id,
        ended.error.as_deref(),
        ended.model.as_deref(),
        ended.provider.as_deref(),
        i64::from(ended.fallback),
        signed(ended.input_tokens),
        signed(ended.output_tokens),
        ended.cost.map(signed),
        signed(ended.latency_ms),
        ended.answer.as_deref(),
        at.micros(),
    )?;
    Ok(written == 1)
}

/// The call that a principal made with an idempotency key.
///
/// # Errors
/// Database errors.
pub async fn earlier(db: &mut impl AsDb, tenant: Uuid, principal: &str, key: &str) -> Result<Option<Earlier>> {
    let found = row!(
        db,
        (Vec<u8>, Option<String>),
        "SELECT idem_digest, answer FROM model_calls WHERE tenant_id = $1 AND principal = $2 AND idem_key = $3",
        tenant,
        principal,
        key
    )?;
    Ok(found.map(|(digest, answer)| Earlier { digest, answer }))
}

/// Closes calls that a process left open when it died. What was reserved for them stays charged: it may have been used. How many.
///
/// # Errors
/// Database errors.
pub async fn interrupt(tx: &mut Tx, before: Ts, at: Ts) -> Result<u64> {
    exec!(
        tx,
        "UPDATE model_calls SET state = 'failed', error = 'interrupted', idem_key = NULL, ended_at = $2 WHERE state = 'open' AND created_at < $1",
        before.micros(),
        at.micros()
    )
}

/// Forgets idempotency keys of calls from before a time, and the answers that were kept for them. How many.
///
/// # Errors
/// Database errors.
pub async fn forget_keys(tx: &mut Tx, before: Ts) -> Result<u64> {
    exec!(tx, "UPDATE model_calls SET idem_key = NULL, answer = NULL WHERE idem_key IS NOT NULL AND created_at < $1", before.micros())
}
