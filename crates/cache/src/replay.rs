//! Single-use values.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use aiox_core::{
    Error, Result,
    ports::{Clock, ReplayGuard},
};
use aiox_model::Ts;
use async_trait::async_trait;

/// Values that are remembered at most. Beyond it the guard refuses: forgetting one early would let it be used again.
const BOUND: usize = 500_000;

/// In-process adapter.
pub struct MemoryReplayGuard {
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    values: HashSet<Arc<str>>,
    by_end: BTreeSet<(Ts, Arc<str>)>,
}

impl MemoryReplayGuard {
    /// A guard that forgets by this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seen: Mutex::default() }
    }
}

#[async_trait]
impl ReplayGuard for MemoryReplayGuard {
    async fn first_use(&self, issuer: &str, value: &str, until: Ts) -> Result<bool> {
        let now = self.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, key)) = seen.by_end.first().filter(|(end, _)| *end < now).cloned() {
            seen.by_end.pop_first();
            seen.values.remove(&key);
        }
        // The length keeps two different pairs from making one key.
        let key: Arc<str> = format!("{}\n{issuer}\n{value}", issuer.len()).into();
        if seen.values.contains(&key) {
            return Ok(false);
        }
        if seen.values.len() >= BOUND {
            return Err(Error::unavailable("replay_guard_full", "too many tokens are in use"));
        }
        seen.values.insert(key.clone());
        seen.by_end.insert((until, key));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    struct Hand(AtomicI64);
    impl Clock for Hand {
        fn now(&self) -> Ts {
            Ts::from_seconds(self.0.load(Ordering::Relaxed))
        }
    }

    #[tokio::test]
    async fn a_value_is_new_once_per_issuer_until_its_end() {
        let clock = Arc::new(Hand(AtomicI64::new(0)));
        let guard = MemoryReplayGuard::new(clock.clone());
        let until = Ts::from_seconds(60);
        assert!(guard.first_use("a", "x", until).await.unwrap());
        assert!(!guard.first_use("a", "x", until).await.unwrap());
        assert!(guard.first_use("b", "x", until).await.unwrap());
        clock.0.store(60, Ordering::Relaxed);
        assert!(!guard.first_use("a", "x", until).await.unwrap());
        clock.0.store(61, Ordering::Relaxed);
        assert!(guard.first_use("a", "x", Ts::from_seconds(120)).await.unwrap());
        assert_eq!(guard.seen.lock().unwrap().values.len(), 1);
    }
}
