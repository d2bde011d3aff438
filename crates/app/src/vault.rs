//! Sealing of tenants' secrets under their data keys.

use std::sync::Arc;

use aiox_core::{
    Error, Result,
    ports::{Clock, Ids},
};
use aiox_crypto::seal::{self, Key};
use aiox_model::TenantId;
use aiox_store::{AsDb, Store, accounts, agents, keys};
use dashmap::DashMap;
use secrecy::zeroize::Zeroizing;
use uuid::Uuid;

/// Values that a rotation reads at once.
const ROTATED_AT_ONCE: u32 = 100;

/// Opens and seals values of tenants. Data keys are kept in memory once opened; the master key never leaves this type.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    master: Arc<Key>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    current: Arc<DashMap<TenantId, Key>>,
    known: Arc<DashMap<Uuid, Key>>,
}

impl Vault {
    /// A vault under the hub's master key.
    #[must_use]
    pub fn new(store: Store, master: [u8; 32], clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        let master = Arc::new(Key::new(Uuid::nil(), master));
        Self { store, master, clock, ids, current: Arc::default(), known: Arc::default() }
    }

    /// Seals a value of a tenant. `place` names the object and member that it belongs to; opening needs the same.
    ///
    /// # Errors
    /// Database errors, [`Error::Corrupt`] when the tenant's key does not open under the master key.
    pub async fn seal(&self, tenant: TenantId, place: &str, clear: &[u8]) -> Result<Vec<u8>> {
        let key = match self.current.get(&tenant) {
            Some(key) => key.clone(),
            None => self.current_key(tenant).await?,
        };
        key.seal(&context(tenant, place), clear)
    }

    /// Opens a value of a tenant.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it was sealed for another place, with an unknown key, or is damaged.
    pub async fn open(&self, db: &mut impl AsDb, tenant: TenantId, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        if let Some(clear) = self.open_known(tenant, place, sealed)? {
            return Ok(clear);
        }
        let corrupt = || Error::Corrupt { table: "sealed", column: "value", id: place.to_owned() };
        let id = seal::key_id(sealed).ok_or_else(corrupt)?;
        let row = keys::by_id(db, id).await?.filter(|row| row.tenant_id == tenant.uuid()).ok_or_else(corrupt)?;
        self.unwrap(&row)?.open(&context(tenant, place), sealed).ok_or_else(corrupt)
    }

    /// As [`open`](Self::open), if the key is in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_known(&self, tenant: TenantId, place: &str, sealed: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let corrupt = || Error::Corrupt { table: "sealed", column: "value", id: place.to_owned() };
        let id = seal::key_id(sealed).ok_or_else(corrupt)?;
        let known = self.known.get(&id).map(|key| key.clone());
        known.map(|key| key.open(&context(tenant, place), sealed).ok_or_else(corrupt)).transpose()
    }

    /// Tenants that have a data key.
    ///
    /// # Errors
    /// Database errors.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        Ok(keys::tenants(&mut self.store.read().await?).await?.into_iter().map(TenantId).collect())
    }

    /// Makes a new data key for a tenant and seals with it what is sealed: agents' prompts and accounts' verifiers. Readers go on
    /// throughout, because each value names its key; a value that changes meanwhile is left to whoever changed it. How many values
    /// were sealed anew.
    ///
    /// # Errors
    /// Database errors; what was sealed anew by then stays so. A value that does not open is left as it is and logged.
    pub async fn rotate(&self, tenant: TenantId) -> Result<usize> {
        let key = self.new_key(tenant).await?;
        let mut done = 0;
        let mut after = Uuid::nil();
        loop {
            let page = agents::sealed(&mut self.store.read().await?, tenant, after, ROTATED_AT_ONCE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (id, old) in page {
                let Some(new) = self.sealed_anew(&key, tenant, &prompt_place(id), &old).await? else { continue };
                let mut tx = self.store.begin().await?;
                done += usize::from(agents::reseal(&mut tx, id.into(), &old, &new).await?);
                tx.commit().await?;
            }
        }
        after = Uuid::nil();
        loop {
            let page = accounts::sealed(&mut self.store.read().await?, tenant, after, ROTATED_AT_ONCE).await?;
            let Some((last, _)) = page.last() else { return Ok(done) };
            after = *last;
            for (id, old) in page {
                let Some(new) = self.sealed_anew(&key, tenant, &scram_place(id), &old).await? else { continue };
                let mut tx = self.store.begin().await?;
                done += usize::from(accounts::reseal(&mut tx, id.into(), &old, &new).await?);
                tx.commit().await?;
            }
        }
    }

    async fn sealed_anew(&self, key: &Key, tenant: TenantId, place: &str, old: &[u8]) -> Result<Option<Vec<u8>>> {
        let opened = self.open(&mut self.store.read().await?, tenant, place, old).await;
        match opened {
            Ok(clear) => key.seal(&context(tenant, place), &clear).map(Some),
            Err(Error::Corrupt { .. }) => {
                tracing::error!(place, "a sealed value does not open; it stays as it is");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn current_key(&self, tenant: TenantId) -> Result<Key> {
        let stored = keys::current(&mut self.store.read().await?, tenant.uuid()).await?;
        match stored {
            Some(row) => {
                let key = self.unwrap(&row)?;
                self.current.insert(tenant, key.clone());
                Ok(key)
            }
            None => self.new_key(tenant).await,
        }
    }

    async fn new_key(&self, tenant: TenantId) -> Result<Key> {
        let key = Key::new(self.ids.uuid(), self.ids.secret());
        let sealed = self.master.seal(&key_context(tenant, key.id()), key.bytes())?;
        let mut tx = self.store.begin().await?;
        keys::insert(&mut tx, &keys::SealedKey { id: key.id(), tenant_id: tenant.uuid(), sealed }, self.clock.now()).await?;
        keys::retire_others(&mut tx, tenant.uuid(), key.id(), self.clock.now()).await?;
        tx.commit().await?;
        self.known.insert(key.id(), key.clone());
        self.current.insert(tenant, key.clone());
        Ok(key)
    }

    fn unwrap(&self, row: &keys::SealedKey) -> Result<Key> {
        let corrupt = || Error::Corrupt { table: "tenant_keys", column: "sealed", id: row.id.to_string() };
        let clear = self.master.open(&key_context(row.tenant_id.into(), row.id), &row.sealed).ok_or_else(corrupt)?;
        let bytes: [u8; 32] = clear.as_slice().try_into().map_err(|_| corrupt())?;
        let key = Key::new(row.id, bytes);
        self.known.insert(row.id, key.clone());
        Ok(key)
    }
}

fn context(tenant: TenantId, place: &str) -> String {
    format!("{tenant}/{place}")
}

fn key_context(tenant: TenantId, key: Uuid) -> String {
    format!("{tenant}/key/{key}")
}

/// Where an agent's prompt belongs.
pub(crate) fn prompt_place(agent: Uuid) -> String {
    format!("agents/{agent}/system_prompt")
}

/// Where an account's SCRAM verifier belongs.
pub(crate) fn scram_place(user: Uuid) -> String {
    format!("users/{user}/scram")
}
