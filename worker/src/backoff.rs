//! How long to wait before the next attempt to reach the hub.

use std::time::Duration;

const CEILING: Duration = Duration::from_secs(30);

/// Doubling delays with jitter, so that the workers of a hub that restarts do not come back all
/// in one moment.
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// The connection was good: the next delay is the first one again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Between a half and the whole of the current delay; the one after is twice as long.
    pub(crate) fn delay(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(CEILING.max(self.first));
        let share = (uuid::Uuid::new_v4().as_u128() % 1000) as f64 / 1000.0;
        whole.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_ceiling_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let mut whole = 5.0;
        for _ in 0..8 {
            let delay = backoff.delay().as_secs_f64();
            assert!(delay >= whole / 2.0 && delay <= whole, "{delay} of {whole}");
            whole = f64::min(whole * 2.0, 30.0);
        }
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_secs(5));
    }
}
