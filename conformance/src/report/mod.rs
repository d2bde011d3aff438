//! What a judgement says: a verdict for every requirement, in four forms.

mod html;
mod json;
mod junit;
mod terminal;

use std::time::Duration;

use serde::Serialize;

pub use html::html;
pub use json::{json, lines};
pub use junit::junit;
pub use terminal::terminal;

use crate::{
    exchange::Exchange,
    requirement::{Level, Profile, Requirement},
};

/// What comes of a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The hub keeps it.
    Pass,
    /// The hub breaks it.
    Fail,
    /// It could not be judged here, because the hub or the suite was not given what it takes.
    NotRun,
    /// The suite failed, not the hub.
    Error,
    /// No case judges it; `spec/uncovered.txt` says why.
    Uncovered,
}
impl Verdict {
    /// The word of the reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotRun => "not_run",
            Self::Error => "error",
            Self::Uncovered => "uncovered",
        }
    }
}

/// The verdict on one requirement.
#[derive(Debug, Clone, Serialize)]
pub struct Judgement {
    /// `RUN-012`.
    pub id: String,
    /// MUST or SHOULD.
    pub level: Level,
    /// Its profile.
    pub profile: Profile,
    /// The requirement's words.
    pub text: String,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it is no pass.
    pub reason: Option<String>,
    /// What a first look found, when the case was looked at twice because it did not pass beside the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_look: Option<String>,
    /// Why a failure is expected, where it is.
    pub expected: Option<String>,
    /// How long the case took.
    #[serde(skip)]
    pub took: Duration,
    /// Requests and answers, where it is no pass.
    pub exchanges: Vec<Exchange>,
}
impl Judgement {
    pub(crate) fn of(requirement: &Requirement, verdict: Verdict, reason: Option<String>) -> Self {
        Self {
            id: requirement.id.clone(),
            level: requirement.level,
            profile: requirement.profile,
            text: requirement.text.clone(),
            verdict,
            reason,
            first_look: None,
            expected: None,
            took: Duration::ZERO,
            exchanges: Vec::new(),
        }
    }

    /// Whether it breaks the claim of conformance: a failed MUST that is not expected, or an expected failure that passed.
    #[must_use]
    pub fn breaks(&self) -> bool {
        match self.verdict {
            Verdict::Fail => self.level == Level::Must && self.expected.is_none(),
            Verdict::Pass => self.expected.is_some(),
            _ => false,
        }
    }
}

/// Every verdict of one judgement, sorted by id.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of the suite.
    pub suite: String,
    /// The judged hub.
    pub target: String,
    /// The version that it says it is.
    pub hub: String,
    /// What was asked for.
    pub profiles: Vec<Profile>,
    /// The verdicts.
    pub judged: Vec<Judgement>,
    /// What the suite made and could not take away again, and its accounts.
    pub left: Vec<String>,
    /// How long it took.
    #[serde(skip)]
    pub took: Duration,
}
impl Report {
    /// How many have this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.judged.iter().filter(|one| one.verdict == verdict).count()
    }

    /// Exit code: 0 conformant, 1 not conformant, 2 could not judge.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.judged.iter().any(Judgement::breaks) {
            1
        } else if self.count(Verdict::Error) > 0 || self.count(Verdict::Pass) == 0 {
            2
        } else {
            0
        }
    }

    /// The verdict in words.
    #[must_use]
    pub fn summary(&self) -> String {
        let word = match self.exit_code() {
            0 => "conformant",
            1 => "NOT conformant",
            _ => "could not be judged",
        };
        format!(
            "{}: {word} ({} passed, {} failed, {} not run, {} uncovered, {} harness errors) in {:.1} s",
            self.target,
            self.count(Verdict::Pass),
            self.count(Verdict::Fail),
            self.count(Verdict::NotRun),
            self.count(Verdict::Uncovered),
            self.count(Verdict::Error),
            self.took.as_secs_f64(),
        )
    }
}

#[cfg(test)]
mod tests;
