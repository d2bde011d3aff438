//! Rules of a run: its order in the queue and what may follow which state.

use aiox_model::{Ts, run::RunStatus};

/// How often a run is given to a worker before it fails for good.
pub const MAX_ATTEMPTS: u32 = 3;

/// Whether a run may go from one state to another.
#[must_use]
pub const fn may_follow(from: RunStatus, to: RunStatus) -> bool {
    use RunStatus::{Canceled, Completed, Failed, Queued, Running};
    matches!((from, to), (Queued, Running | Failed | Canceled) | (Running, Queued | Running | Completed | Failed | Canceled))
}

/// What a client may ask for, in the order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// After everything else.
    Low,
    /// The default.
    Normal,
    /// Before everything else.
    High,
}
impl Priority {
    /// The priority of a text of the wire.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`].
    pub fn parse(text: &str) -> crate::Result<Self> {
        match text {
            "low" => Ok(Self::Low),
            "normal" => Ok(Self::Normal),
            "high" => Ok(Self::High),
            _ => Err(crate::Error::invalid("priority", "must be low, normal or high")),
        }
    }
    /// The number kept in the store.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Low => 0,
            Self::Normal => 1,
            Self::High => 2,
        }
    }
    /// The priority of a stored number; unknown numbers are normal.
    #[must_use]
    pub const fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Low,
            2 => Self::High,
            _ => Self::Normal,
        }
    }
}

/// Weights of S = αR + βT + γP + δC: reputation, tool availability, the owner's weight, load. Each part is from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// α
    pub reputation: f64,
    /// β
    pub tools: f64,
    /// γ
    pub owner: f64,
    /// δ
    pub load: f64,
}
impl Default for Weights {
    fn default() -> Self {
        Self { reputation: 0.2, tools: 0.2, owner: 0.4, load: 0.2 }
    }
}

/// The parts of a run's score, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// Share of the agent's latest runs that completed; 1 for a new one.
    pub reputation: f64,
    /// Share of its tools that some connected worker offers; 1 without tools.
    pub tools: f64,
    /// `capabilities.priority_weight`.
    pub owner: f64,
    /// Share of the workers' places that its tenant does not hold; 1 when it holds none.
    pub load: f64,
}

/// Seconds of waiting that outweigh one whole class of priority, so that a low run still ends.
const AGEING_SECONDS: f64 = 60.0;

/// The order key of a waiting run: a smaller one is taken first. It is an instant (microseconds), moved earlier by urgency, so a
/// waiting run overtakes newer and more urgent ones by ageing, without ever being scored again.
#[must_use]
pub fn order(accepted: Ts, priority: Priority, weights: Weights, parts: Parts) -> i64 {
    let part = |value: f64| if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
    let score = weights.reputation * part(parts.reputation)
        + weights.tools * part(parts.tools)
        + weights.owner * part(parts.owner)
        + weights.load * part(parts.load);
    #[expect(clippy::cast_precision_loss, reason = "three classes")]
    let class = priority.number() as f64;
    #[expect(clippy::cast_possible_truncation, reason = "a few minutes of microseconds")]
    let lead = ((class + score) * AGEING_SECONDS * 1e6) as i64;
    accepted.micros().saturating_sub(lead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVEN: Parts = Parts { reputation: 1.0, tools: 1.0, owner: 0.5, load: 0.5 };

    #[test]
    fn final_states_are_final() {
        for from in [RunStatus::Completed, RunStatus::Failed, RunStatus::Canceled] {
            for to in [RunStatus::Queued, RunStatus::Running, RunStatus::Completed, RunStatus::Failed, RunStatus::Canceled] {
                assert!(!may_follow(from, to));
            }
        }
    }

    proptest! {
        #[test]
        fn a_higher_class_or_weight_goes_first_at_the_same_time(at in 0i64..1_000_000_000_000_000, low in 0.0f64..0.9) {
            let at = Ts::from_micros(at);
            let key = |priority, owner| order(at, priority, Weights::default(), Parts { owner, ..EVEN });
            prop_assert!(key(Priority::High, low) < key(Priority::Normal, low));
            prop_assert!(key(Priority::Normal, low) < key(Priority::Low, low));
            prop_assert!(key(Priority::Normal, low + 0.1) < key(Priority::Normal, low));
        }
        #[test]
        fn no_part_that_grows_puts_a_run_back(at in 0i64..1_000_000_000_000_000, parts: [f64; 4], more in 0.0f64..1.0, which in 0usize..4) {
            let key = |parts: [f64; 4]| {
                let [reputation, tools, owner, load] = parts;
                order(Ts::from_micros(at), Priority::Normal, Weights::default(), Parts { reputation, tools, owner, load })
            };
            let mut grown = parts.map(|part| if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 });
            let before = key(grown);
            grown[which] += more;
            prop_assert!(key(grown) <= before);
        }
        #[test]
        fn each_part_counts(at in 0i64..1_000_000_000_000_000, low in 0.0f64..0.9) {
            let at = Ts::from_micros(at);
            let key = |parts| order(at, Priority::Normal, Weights::default(), parts);
            let flat = Parts { reputation: low, tools: low, owner: low, load: low };
            for more in [
                Parts { reputation: low + 0.1, ..flat },
                Parts { tools: low + 0.1, ..flat },
                Parts { owner: low + 0.1, ..flat },
                Parts { load: low + 0.1, ..flat },
            ] {
                prop_assert!(key(more) < key(flat));
            }
        }
        #[test]
        fn a_low_run_is_overtaken_for_three_minutes_at_most(at in 0i64..1_000_000_000_000_000) {
            let old = order(Ts::from_micros(at), Priority::Low, Weights::default(), Parts { owner: 0.0, load: 0.0, reputation: 0.0, tools: 0.0 });
            let new = order(Ts::from_micros(at).plus_seconds(181), Priority::High, Weights::default(), EVEN);
            prop_assert!(old < new);
        }
        #[test]
        fn nonsense_parts_do_not_break_the_order(owner: f64) {
            let _ = order(Ts::from_micros(0), Priority::Normal, Weights::default(), Parts { owner, ..EVEN });
        }
    }
}
