//! Time as the test wants it.

use std::sync::atomic::{AtomicI64, Ordering};

use aiox_core::ports::Clock;
use aiox_model::Ts;

/// A clock that is driven by hand. Each look moves it on by a microsecond, so that no two times are equal.
pub struct HandClock(AtomicI64);

impl HandClock {
    /// Noon of a Monday in 2026: far from every edge of a day or minute.
    #[must_use]
    pub fn noon() -> Self {
        Self(AtomicI64::new(Ts::from_seconds(1_772_452_830).micros()))
    }

    /// Moves the clock on.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Ts {
        Ts::from_micros(self.0.fetch_add(1, Ordering::SeqCst))
    }
}
