//! Which denials have been recorded: one for each stranger, agent and hour, however often the stranger knocks.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

/// Length of the period in which a denial is recorded once.
const PERIOD: Duration = Duration::from_secs(3600);
/// Pairs that are remembered in one period. At the bound further denials are counted and not recorded: a flood of invented addresses
/// must not fill the audit log.
const MAX_PAIRS: usize = 10_000;

/// The pairs (stranger, agent), both bare, of the running period.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    began: Option<Instant>,
    seen: HashSet<(String, String)>,
}

impl Denials {
    /// Whether this denial is to be recorded.
    pub(crate) fn first(&mut self, stranger: &str, agent: &str, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= PERIOD) {
            self.began = Some(now);
            self.seen.clear();
        }
        self.seen.len() < MAX_PAIRS && self.seen.insert((stranger.to_owned(), agent.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_recorded_once_in_an_hour_and_the_memory_is_bounded() {
        let (mut denials, start) = (Denials::default(), Instant::now());
        assert!(denials.first("eve", "bot", start));
        assert!(!denials.first("eve", "bot", start + PERIOD / 2));
        assert!(denials.first("eve", "other", start) && denials.first("mallory", "bot", start));
        assert!(denials.first("eve", "bot", start + PERIOD));
        for index in 0..MAX_PAIRS * 2 {
            denials.first(&format!("u{index}"), "bot", start + PERIOD);
        }
        assert_eq!(denials.seen.len(), MAX_PAIRS);
        assert!(denials.first("eve", "bot", start + PERIOD * 2));
    }
}
