//! Keys that the hub gave to single workers, and client certificates that it takes back.

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, rows},
};

/// A key of a worker, or a revoked certificate of one.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct CredentialRow {
    /// Its id.
    pub id: Uuid,
    /// The worker.
    pub worker_id: String,
    /// `key` or `certificate`.
    pub kind: String,
    /// SHA-256 of the key, or of the certificate (DER).
    pub digest: Vec<u8>,
    /// When it was made, or became known.
    pub created_at: i64,
    /// When it was taken back. A certificate is here only then.
    pub revoked_at: Option<i64>,
}

/// Adds a key of a worker, good from now on.
///
/// # Errors
/// Database errors.
pub async fn insert_key(tx: &mut Tx, id: Uuid, worker_id: &str, digest: &[u8], at: Ts) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO worker_credentials (id, worker_id, kind, digest, created_at) VALUES ($1, $2, 'key', $3, $4)",
        id,
        worker_id,
        digest,
        at.micros()
    )
    .map(drop)
}

/// Takes every key of a worker back. How many were good.
///
/// # Errors
/// Database errors.
pub async fn revoke_keys(tx: &mut Tx, worker_id: &str, at: Ts) -> Result<u64> {
    exec!(
        tx,
        "UPDATE worker_credentials SET revoked_at = $2 WHERE worker_id = $1 AND kind = 'key' AND revoked_at IS NULL",
        worker_id,
        at.micros()
    )
}

/// Takes a certificate back. `false`: it was already.
///
/// # Errors
/// Database errors.
pub async fn revoke_certificate(tx: &mut Tx, id: Uuid, worker_id: &str, digest: &[u8], at: Ts) -> Result<bool> {
    let added = exec!(
        tx,
        "INSERT INTO worker_credentials (id, worker_id, kind, digest, created_at, revoked_at) VALUES ($1, $2, 'certificate', $3, $4, $4) \
         ON CONFLICT (digest) DO NOTHING",
        id,
        worker_id,
        digest,
        at.micros()
    )?;
    Ok(added > 0)
}

/// All of them, by worker and age.
///
/// # Errors
/// Database errors.
pub async fn all(db: &mut impl AsDb) -> Result<Vec<CredentialRow>> {
    rows!(
        db,
        CredentialRow,
        "SELECT id, worker_id, kind, digest, created_at, revoked_at FROM worker_credentials ORDER BY worker_id, created_at, id"
    )
}
