//! One call at a time for each idempotency key of a principal.

use std::sync::Arc;

use aiox_core::Caller;
use aiox_model::TenantId;
use dashmap::DashMap;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How long a key is remembered.
pub(super) const TTL_SECONDS: i64 = 24 * 3600;

type Key = (TenantId, String, String);

/// The keys whose calls go on. A second call with the same key waits for the first one and then finds its answer. Bounded by the
/// requests that are open.
#[derive(Default)]
pub(super) struct Keys(Arc<DashMap<Key, Arc<Mutex<()>>>>);

/// A key that is this call's alone until it is dropped.
pub(super) struct Held {
    key: Key,
    all: Arc<DashMap<Key, Arc<Mutex<()>>>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Keys {
    pub(super) async fn hold(&self, caller: &Caller, key: &str) -> Held {
        let key = (caller.tenant, caller.principal.key(), key.to_owned());
        let lock = self.0.entry(key.clone()).or_default().clone();
        let mut held = Held { key, all: self.0.clone(), guard: None };
        held.guard = Some(lock.lock_owned().await);
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guard = None;
        // Nobody else holds it or waits for it.
        self.all.remove_if(&self.key, |_, lock| Arc::strong_count(lock) == 1);
    }
}
