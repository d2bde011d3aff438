//! Allowances: what a principal may use in a minute and in a calendar day (UTC).

use aiox_model::Ts;

/// Limits of one principal. They are checked when a run is accepted, with the tokens that it may use at most reserved, and
/// settled to the real use when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tokens in a calendar day.
    pub tokens_day: u64,
    /// Tokens in a minute.
    pub tokens_minute: u64,
    /// Requests in a calendar day.
    pub requests_day: u64,
}
impl Default for Limits {
    fn default() -> Self {
        Self { tokens_day: 100_000, tokens_minute: 10_000, requests_day: 1_000 }
    }
}

/// Name of the calendar day (UTC) that `at` falls into.
#[must_use]
pub fn day(at: Ts) -> String {
    format!("d{}", at.seconds().div_euclid(86_400))
}

/// Name of the minute that `at` falls into.
#[must_use]
pub fn minute(at: Ts) -> String {
    format!("m{}", at.seconds().div_euclid(60))
}

/// Seconds from `at` to the next minute and to the next day, for `Retry-After`.
#[must_use]
pub fn seconds_to_next(at: Ts) -> (u64, u64) {
    let left = |span: i64| u64::try_from(span - at.seconds().rem_euclid(span)).unwrap_or(1);
    (left(60), left(86_400))
}

/// Upper estimate of the tokens of a text: four bytes of UTF-8 make about one token; the answer's cap is added.
#[must_use]
pub fn reserve(input: &str, max_tokens: u32) -> u64 {
    (input.len() as u64).div_ceil(4) + u64::from(max_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_change_at_the_boundary() {
        let last: Ts = "2026-03-01T23:59:59.999999Z".parse().unwrap();
        let first: Ts = "2026-03-02T00:00:00Z".parse().unwrap();
        assert_ne!(day(last), day(first));
        assert_ne!(minute(last), minute(first));
        assert_eq!(seconds_to_next(last), (1, 1));
        assert_eq!(seconds_to_next(first), (60, 86_400));
    }
}
