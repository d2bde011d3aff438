//! What single workers prove themselves with: keys that the operator gives out, and certificates that are taken back.

use std::{collections::BTreeMap, sync::Arc};

use aiox_core::{
    Error, Result,
    ports::{Clock, Ids},
};
use aiox_crypto::sha256;
use aiox_store::{Store, audit::AuditRow, worker_credentials as rows};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

/// The credentials of workers. Used at the machine of the hub; every change is in its audit log.
#[derive(Clone)]
pub struct WorkerCredentials {
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

/// What is good at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownCredentials {
    /// Workers by the SHA-256 of their keys.
    pub keys: BTreeMap<[u8; 32], String>,
    /// SHA-256 of revoked certificates (DER).
    pub revoked: Vec<[u8; 32]>,
}

/// A credential, as its operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCredential {
    /// The worker.
    pub worker_id: String,
    /// `key` or `certificate`.
    pub kind: String,
    /// First 16 hex digits of its SHA-256.
    pub fingerprint: String,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl WorkerCredentials {
    /// Over the given ports.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { store, clock, ids }
    }

    /// A new key for a worker, told here alone: only its digest is kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that no worker can have; database errors.
    pub async fn issue_key(&self, worker_id: &str) -> Result<SecretString> {
        check(worker_id)?;
        let key: SecretString = format!("wk_{}", hex(&self.ids.secret())).into();
        let mut tx = self.store.begin().await?;
        rows::insert_key(&mut tx, self.ids.uuid(), worker_id, &sha256(key.expose_secret().as_bytes()), self.clock.now()).await?;
        aiox_store::audit::insert(&mut tx, &self.record(worker_id, "worker.key_issued")).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// Takes every key of a worker back; its session ends. How many there were.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the worker has none; database errors.
    pub async fn revoke_keys(&self, worker_id: &str) -> Result<u64> {
        let mut tx = self.store.begin().await?;
        let count = rows::revoke_keys(&mut tx, worker_id, self.clock.now()).await?;
        if count == 0 {
            return Err(Error::NotFound("worker key"));
        }
        aiox_store::audit::insert(&mut tx, &self.record(worker_id, "worker.key_revoked")).await?;
        tx.commit().await?;
        Ok(count)
    }

    /// Takes a certificate back, by the SHA-256 of its DER form; its session ends. `false`: it was already.
    ///
    /// # Errors
    /// Database errors.
    pub async fn revoke_certificate(&self, worker_id: &str, digest: [u8; 32]) -> Result<bool> {
        let mut tx = self.store.begin().await?;
        let changed = rows::revoke_certificate(&mut tx, self.ids.uuid(), worker_id, &digest, self.clock.now()).await?;
        if changed {
            aiox_store::audit::insert(&mut tx, &self.record(worker_id, "worker.certificate_revoked")).await?;
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// All of them.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list(&self) -> Result<Vec<ListedCredential>> {
        let found = rows::all(&mut self.store.read().await?).await?.into_iter();
        Ok(found
            .map(|row| ListedCredential {
                worker_id: row.worker_id,
                kind: row.kind,
                fingerprint: hex(&row.digest).chars().take(16).collect(),
                revoked: row.revoked_at.is_some(),
            })
            .collect())
    }

    /// What is good at the moment.
    ///
    /// # Errors
    /// Database errors; [`Error::Corrupt`] for a digest that is none.
    pub async fn known(&self) -> Result<KnownCredentials> {
        let mut known = KnownCredentials::default();
        for row in rows::all(&mut self.store.read().await?).await? {
            let damaged = |_| Error::Corrupt { table: "worker_credentials", column: "digest", id: row.id.to_string() };
            let digest: [u8; 32] = row.digest.try_into().map_err(damaged)?;
            match (row.kind.as_str(), row.revoked_at) {
                ("key", None) => drop(known.keys.insert(digest, row.worker_id)),
                ("certificate", Some(_)) => known.revoked.push(digest),
                _ => {}
            }
        }
        Ok(known)
    }

    fn record(&self, worker_id: &str, action: &str) -> AuditRow {
        AuditRow {
            id: self.ids.uuid(),
            tenant: Uuid::nil(),
            owner: None,
            actor: "operator".into(),
            action: action.into(),
            outcome: "allowed".into(),
            severity: "info".into(),
            resource_type: Some("worker".into()),
            resource_id: Some(worker_id.into()),
            detail: None,
            address: None,
            trace: self.ids.uuid().to_string(),
            at: self.clock.now(),
        }
    }
}

fn check(worker_id: &str) -> Result<()> {
    if worker_id.is_empty() || worker_id.len() > 200 || worker_id.chars().any(char::is_control) {
        return Err(Error::invalid("worker_id", "must have 1 to 200 characters"));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
