//! Brakes: one bucket of tokens per pair of sender and agent, and a much smaller one for senders that are programs.
//!
//! Two agents, or an agent and an auto-responder, answer each other for ever unless somebody stops. Never answering errors is the
//! first rule; these are the second and the third. Whoever is braked hears it once, with the time to wait: an error for each
//! message would only be the next loop.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::Instant;

/// Pairs that are remembered. At the bound the ones unused for longest are forgotten, half of them at a time.
const MAX_PAIRS: usize = 50_000;
/// An answer to our answer within this time was not typed by a person.
const INSTANT: Duration = Duration::from_secs(1);
/// A sender is told, and the operator reads, that it is braked this often at most.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Longest time to wait that a sender is told.
const LONGEST_HINT: Duration = Duration::from_secs(3600);

/// How much one sender may send to one agent. The sender's quota limits what it costs; this limits how fast a loop turns.
#[derive(Debug, Clone, Copy)]
pub struct Brakes {
    /// Messages a person may send at once.
    pub burst: u32,
    /// Messages a person may send in a second in the long run.
    pub per_second: f64,
    /// Messages a program may send at once.
    pub bot_burst: u32,
    /// Messages a program may send in a minute in the long run.
    pub bot_per_minute: f64,
    /// After this many messages in a row, each sent within a second of our answer, the sender counts as a program.
    pub instant_turns: u32,
}

impl Default for Brakes {
    fn default() -> Self {
        Self { burst: 200, per_second: 20.0, bot_burst: 10, bot_per_minute: 6.0, instant_turns: 200 }
    }
}

impl Brakes {
    /// No brakes for people and their programs, for measuring; those for agents stay.
    #[must_use]
    pub fn off() -> Self {
        Self { burst: u32::MAX, per_second: f64::from(u32::MAX), instant_turns: u32::MAX, ..Self::default() }
    }
}

#[derive(Debug)]
struct Pair {
    tokens: f64,
    bot_tokens: f64,
    refilled: Instant,
    answered: Option<Instant>,
    /// Hash of the last prompt.
    asked: Option<u64>,
    /// Hashes of our last answers.
    answers: [Option<u64>; 4],
    instant_turns: u32,
    /// When each kind of brake was last told of.
    told: [Option<Instant>; 3],
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The sender sends too much.
    Rate,
    /// The sender is a program, or behaves like one, and sends too much for that.
    Program,
    /// It is our own text coming back.
    Loop,
}

impl Why {
    /// For metrics and the log.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Program => "program",
            Self::Loop => "loop",
        }
    }
}

/// What the brakes say about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Brake {
        why: Why,
        /// The first one in a while: worth a line in the log, and an error unless it is a loop. Further ones are dropped quietly.
        first: bool,
        /// When a message passes again.
        wait: Duration,
    },
}

impl Pair {
    fn brake(&mut self, why: Why, wait: Duration, now: Instant) -> Verdict {
        let told = &mut self.told[why as usize];
        let first = told.is_none_or(|at| now.saturating_duration_since(at) >= TELL_AGAIN);
        if first {
            *told = Some(now);
        }
        Verdict::Brake { why, first, wait }
    }
}

/// How long `missing` takes to come back at `rate` a second.
fn until_full(missing: f64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(missing / rate).map_or(LONGEST_HINT, |wait| wait.min(LONGEST_HINT))
}

/// The state of all pairs. Lives in this process only: a brake, not an allowance.
#[derive(Debug)]
pub(crate) struct Guard {
    brakes: Brakes,
    pairs: HashMap<(String, String), Pair>,
}

impl Guard {
    pub(crate) fn new(brakes: Brakes) -> Self {
        Self { brakes, pairs: HashMap::new() }
    }

    /// Judges a message from `sender` to `agent`, both bare. `bot`: the sender is known to be a program.
    pub(crate) fn judge(&mut self, sender: &str, agent: &str, body: &str, bot: bool, now: Instant) -> Verdict {
        let brakes = self.brakes;
        let pair = self.pair(sender, agent, now);
        let elapsed = now.saturating_duration_since(pair.refilled).as_secs_f64();
        pair.refilled = now;
        pair.tokens = (pair.tokens + elapsed * brakes.per_second).min(f64::from(brakes.burst));
        pair.bot_tokens = (pair.bot_tokens + elapsed * brakes.bot_per_minute / 60.0).min(f64::from(brakes.bot_burst));
        let body = hash(body);
        if body.is_some() && pair.answers.contains(&body) {
            return pair.brake(Why::Loop, Duration::ZERO, now);
        }
        pair.asked = body;
        match pair.answered.take() {
            Some(at) if now.saturating_duration_since(at) < INSTANT => pair.instant_turns = pair.instant_turns.saturating_add(1),
            Some(_) => pair.instant_turns = 0,
            None => {}
        }
        if bot || pair.instant_turns >= brakes.instant_turns {
            if pair.bot_tokens < 1.0 {
                return pair.brake(Why::Program, until_full((1.0 - pair.bot_tokens) * 60.0, brakes.bot_per_minute), now);
            }
            pair.bot_tokens -= 1.0;
        }
        if pair.tokens < 1.0 {
            return pair.brake(Why::Rate, until_full(1.0 - pair.tokens, brakes.per_second), now);
        }
        pair.tokens -= 1.0;
        Verdict::Pass
    }

    /// Notes an answer of `agent` to `sender`.
    pub(crate) fn answered(&mut self, sender: &str, agent: &str, body: &str, now: Instant) {
        let pair = self.pair(sender, agent, now);
        pair.answered = Some(now);
        let body = hash(body);
        // An agent that only repeats: the same question again would look like our text coming back.
        if body != pair.asked {
            pair.answers.rotate_right(1);
            pair.answers[0] = body;
        }
    }

    fn pair(&mut self, sender: &str, agent: &str, now: Instant) -> &mut Pair {
        if self.pairs.len() >= MAX_PAIRS {
            let mut times: Vec<Instant> = self.pairs.values().map(|pair| pair.refilled).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            self.pairs.retain(|_, pair| pair.refilled > median);
        }
        let fresh = Pair {
            tokens: f64::from(self.brakes.burst),
            bot_tokens: f64::from(self.brakes.bot_burst),
            refilled: now,
            answered: None,
            asked: None,
            answers: [None; 4],
            instant_turns: 0,
            told: [None; 3],
        };
        self.pairs.entry((sender.to_owned(), agent.to_owned())).or_insert(fresh)
    }
}

/// `None` for short texts, which are not compared: people do say "ok" too.
fn hash(body: &str) -> Option<u64> {
    let body = body.trim();
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    (body.len() >= 16).then(|| hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Brakes = Brakes { burst: 3, per_second: 1.0, bot_burst: 2, bot_per_minute: 6.0, instant_turns: 3 };

    #[test]
    fn a_burst_passes_and_the_rest_waits_for_tokens() {
        let (mut guard, start) = (Guard::new(SLOW), Instant::now());
        let mut say = |text: &str, at| guard.judge("u", "a", text, false, start + Duration::from_millis(at));
        for _ in 0..3 {
            assert_eq!(say("hi", 0), Verdict::Pass);
        }
        assert_eq!(say("hi", 0), Verdict::Brake { why: Why::Rate, first: true, wait: Duration::from_secs(1) });
        assert_eq!(say("hi", 500), Verdict::Brake { why: Why::Rate, first: false, wait: Duration::from_millis(500) });
        assert_eq!(say("hi", 1100), Verdict::Pass);
        assert_eq!(guard.judge("u", "other", "hi", false, start), Verdict::Pass);
    }

    #[test]
    fn a_braked_sender_is_told_again_after_a_minute_and_never_to_wait_for_ever() {
        let never = Brakes { per_second: 0.0, burst: 1, ..SLOW };
        let (mut guard, start) = (Guard::new(never), Instant::now());
        let mut say = |at| guard.judge("u", "a", "hi", false, start + Duration::from_secs(at));
        assert_eq!(say(0), Verdict::Pass);
        let told: Vec<bool> = [0, 1, 59, 60, 61]
            .into_iter()
            .map(|at| match say(at) {
                Verdict::Brake { why: Why::Rate, first, wait } => {
                    assert_eq!(wait, LONGEST_HINT);
                    first
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [true, false, false, true, false]);
    }

    #[test]
    fn a_program_stops_at_its_small_bucket() {
        let (mut guard, now) = (Guard::new(SLOW), Instant::now());
        let verdicts: Vec<_> = (0..4).map(|_| guard.judge("bot", "a", "hi", true, now)).collect();
        let braked = |first| Verdict::Brake { why: Why::Program, first, wait: Duration::from_secs(10) };
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Pass, braked(true), braked(false)]);
    }

    #[test]
    fn our_own_text_coming_back_is_a_loop() {
        let (mut guard, now) = (Guard::new(Brakes::default()), Instant::now());
        guard.answered("u", "a", "You said something long enough", now);
        for first in [true, false] {
            let verdict = guard.judge("u", "a", "You said something long enough", false, now);
            assert_eq!(verdict, Verdict::Brake { why: Why::Loop, first, wait: Duration::ZERO });
        }
        guard.answered("u", "a", "ok", now);
        assert_eq!(guard.judge("u", "a", "ok", false, now), Verdict::Pass);
        assert_eq!(guard.judge("u", "a", "the same question again", false, now), Verdict::Pass);
        guard.answered("u", "a", "the same question again", now);
        assert_eq!(guard.judge("u", "a", "the same question again", false, now), Verdict::Pass);
    }

    #[test]
    fn an_auto_responder_that_never_waits_counts_as_a_program() {
        let brakes = Brakes { burst: 1000, per_second: 1000.0, bot_burst: 2, bot_per_minute: 0.0, instant_turns: 3 };
        let (mut guard, mut now) = (Guard::new(brakes), Instant::now());
        let mut passed = 0;
        for turn in 0..100 {
            if guard.judge("u", "a", &format!("I am away, ticket number {turn}"), false, now) != Verdict::Pass {
                break;
            }
            passed += 1;
            guard.answered("u", "a", &format!("answer number {turn} of the agent"), now);
            now += Duration::from_millis(1);
        }
        assert!((3..10).contains(&passed), "{passed}");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut guard, start) = (Guard::new(SLOW), Instant::now());
        for index in 0..MAX_PAIRS + 10 {
            guard.judge(&format!("u{index}"), "a", "x", false, start + Duration::from_micros(index as u64));
        }
        assert!(guard.pairs.len() <= MAX_PAIRS);
    }
}
