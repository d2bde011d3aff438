//! Waiting times between connection attempts.

use std::time::Duration;

/// Doubles from `first` to `last`, each time with a random part, so that hubs which lost one server do not return together.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, attempt: 0 }
    }

    /// The next wait: between half of the current step and all of it. `random` is any number.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let step = self.first.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(self.last);
        self.attempt = self.attempt.saturating_add(1).min(31);
        let half = step / 2;
        let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_millis(random % spread)
    }

    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_wait_is_within_its_bounds_and_the_limit(randoms in proptest::collection::vec(any::<u64>(), 1..100)) {
            let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
            for (index, random) in randoms.iter().enumerate() {
                let wait = backoff.next(*random);
                let step = Duration::from_millis(200).saturating_mul(1 << index.min(20)).min(Duration::from_secs(30));
                prop_assert!(wait >= step / 2 && wait <= step, "{index}: {wait:?}");
            }
        }
    }

    #[test]
    fn a_reset_starts_again() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        for _ in 0..40 {
            backoff.next(1);
        }
        assert!(backoff.next(0) >= Duration::from_secs(15));
        backoff.reset();
        assert!(backoff.next(0) <= Duration::from_millis(200));
    }
}
