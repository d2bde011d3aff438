//! Accounts and agents that were read lately, so that not every message reads them again.
//!
//! A change acts on the very next look: every transaction of [`Store::begin`] makes all that is remembered void when it ends,
//! whatever it changed. What another process changes in the same database (an operator's command) acts after [`AGE`] at the latest.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aiox_core::Result;
use aiox_model::{AgentId, UserId};

use crate::{
    Store,
    accounts::{self, UserRow},
    agents::{self, AgentRow},
    changes::Changes,
};

/// How long a row may be used without being read again.
const AGE: Duration = Duration::from_secs(1);
/// Rows of one kind that are kept; then all are forgotten.
const MOST: usize = 4096;

/// Accounts and agents of a store, remembered. Cheap to clone; clones remember together.
#[derive(Clone)]
pub struct Remembered {
    store: Store,
    rows: Arc<Kinds>,
}

#[derive(Default)]
struct Kinds {
    agents: Rows<AgentId, AgentRow>,
    handles: Rows<String, AgentRow>,
    accounts: Rows<UserId, UserRow>,
    names: Rows<String, UserRow>,
}

struct Rows<K, V>(Mutex<Held<K, V>>);

struct Held<K, V> {
    /// Of this number of changes.
    changes: u64,
    since: Instant,
    rows: HashMap<K, Arc<V>>,
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Held { changes: 0, since: Instant::now(), rows: HashMap::new() }))
    }
}

impl<K: Hash + Eq, V> Rows<K, V> {
    /// With what is void forgotten.
    fn current<T>(&self, changes: u64, look: impl FnOnce(&mut Held<K, V>) -> T) -> T {
        // Every change leaves it whole.
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.changes != changes || held.since.elapsed() >= AGE || held.rows.len() >= MOST {
            held.rows.clear();
            (held.changes, held.since) = (changes, Instant::now());
        }
        look(&mut held)
    }

    async fn get(&self, changes: &Changes, key: K, read: impl Future<Output = Result<Option<V>>>) -> Result<Option<Arc<V>>> {
        // Looked at before reading: a row that was read while something changed is not kept.
        let before = changes.count();
        if let Some(row) = self.current(before, |held| held.rows.get(&key).cloned()) {
            return Ok(Some(row));
        }
        let Some(row) = read.await?.map(Arc::new) else { return Ok(None) };
        let now = changes.count();
        if now == before {
            self.current(now, |held| held.rows.insert(key, Arc::clone(&row)));
        }
        Ok(Some(row))
    }
}

impl Remembered {
    /// Nothing remembered yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, rows: Arc::default() }
    }

    /// The agent with an id, deleted or not, as of the last change by this process.
    ///
    /// # Errors
    /// Database errors.
    pub async fn agent(&self, id: AgentId) -> Result<Option<Arc<AgentRow>>> {
        let read = async { agents::by_id(&mut self.store.read().await?, id).await };
        self.rows.agents.get(self.store.changes(), id, read).await
    }

    /// The agent with a readable name, deleted or not, as of the last change by this process.
    ///
    /// # Errors
    /// Database errors.
    pub async fn agent_by_name(&self, name: &str) -> Result<Option<Arc<AgentRow>>> {
        let read = async { agents::by_name(&mut self.store.read().await?, name).await };
        self.rows.handles.get(self.store.changes(), name.to_owned(), read).await
    }

    /// The account with an id, as of the last change by this process.
    ///
    /// # Errors
    /// Database errors.
    pub async fn account(&self, id: UserId) -> Result<Option<Arc<UserRow>>> {
        let read = async { accounts::user(&mut self.store.read().await?, id).await };
        self.rows.accounts.get(self.store.changes(), id, read).await
    }

    /// The account with an XMPP name, as of the last change by this process.
    ///
    /// # Errors
    /// Database errors.
    pub async fn account_by_name(&self, name: &str) -> Result<Option<Arc<UserRow>>> {
        let read = async { accounts::user_by_name(&mut self.store.read().await?, name).await };
        self.rows.names.get(self.store.changes(), name.to_owned(), read).await
    }
}
