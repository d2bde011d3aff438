//! Uses of keys, by the generic cell rate algorithm.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use aiox_core::ports::RateLimiter;
use async_trait::async_trait;
use governor::{DefaultDirectRateLimiter, Quota, clock::Clock as _};
use moka::sync::Cache;

/// Keys that are remembered; the one used longest ago is forgotten first.
const KEYS: u64 = 100_000;

/// In-process adapter.
pub struct MemoryLimiter {
    clock: governor::clock::DefaultClock,
    keys: Cache<(String, u32, Duration), Arc<DefaultDirectRateLimiter>>,
}

impl Default for MemoryLimiter {
    fn default() -> Self {
        Self {
            clock: governor::clock::DefaultClock::default(),
            keys: Cache::builder().max_capacity(KEYS).time_to_idle(Duration::from_secs(3600)).build(),
        }
    }
}

#[async_trait]
impl RateLimiter for MemoryLimiter {
    async fn check(&self, key: &str, burst: u32, period: Duration) -> Result<(), Duration> {
        let Some(size) = NonZeroU32::new(burst) else { return Err(period) };
        let limiter = self.keys.get_with((key.to_owned(), burst, period), || {
            let every = (period / burst).max(Duration::from_nanos(1));
            let quota = Quota::with_period(every).unwrap_or_else(|| Quota::per_second(size)).allow_burst(size);
            Arc::new(DefaultDirectRateLimiter::direct(quota))
        });
        limiter.check().map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_burst_passes_then_the_wait_is_told_and_keys_are_independent() {
        let limiter = MemoryLimiter::default();
        for _ in 0..20 {
            assert!(limiter.check("a", 20, Duration::from_secs(60)).await.is_ok());
        }
        let wait = limiter.check("a", 20, Duration::from_secs(60)).await.unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(3), "{wait:?}");
        assert!(limiter.check("b", 20, Duration::from_secs(60)).await.is_ok());
        assert!(limiter.check("c", 0, Duration::from_secs(60)).await.is_err());
    }
}
