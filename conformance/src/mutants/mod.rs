//! The suite's own test: hubs that break one requirement each, and whether the suite notices.
//!
//! A [`Mutant`] is a good hub behind a [`proxy`] that breaks one thing on the way. The case of the broken requirement has to fail on
//! it, and to pass behind the same proxy when nothing is broken. A suite that a mutant survives is not done.

mod answers;
mod edit;
mod proxy;
mod requests;
mod streams;

use serde::Serialize;

pub(crate) use edit::{Ask, Memory, Reply};

use crate::{Expected, Judgement, Options, Verdict, judge};

/// What a mutant does to a request before it reaches the hub; with an answer, it does not reach it.
pub(crate) type OnRequest = fn(&mut Ask, &mut Memory) -> Option<Reply>;
/// What it does to an answer.
pub(crate) type OnAnswer = fn(&Ask, &mut Reply, &mut Memory);
/// What it does to one frame of an event stream (without its blank line): the frames that go out instead. Frames count from 1.
pub(crate) type OnFrame = fn(&Ask, String, usize, &mut Memory) -> Vec<String>;

/// One broken thing.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// What is broken, in a few words.
    pub name: &'static str,
    /// The requirement that it breaks.
    pub breaks: &'static str,
    pub(crate) request: Option<OnRequest>,
    pub(crate) answer: Option<OnAnswer>,
    pub(crate) frame: Option<OnFrame>,
}
impl std::fmt::Debug for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mutant").field("name", &self.name).field("breaks", &self.breaks).finish_non_exhaustive()
    }
}

const fn by_request(name: &'static str, breaks: &'static str, request: OnRequest) -> Mutant {
    Mutant { name, breaks, request: Some(request), answer: None, frame: None }
}
const fn by_answer(name: &'static str, breaks: &'static str, answer: OnAnswer) -> Mutant {
    Mutant { name, breaks, request: None, answer: Some(answer), frame: None }
}
const fn by_both(name: &'static str, breaks: &'static str, request: OnRequest, answer: OnAnswer) -> Mutant {
    Mutant { name, breaks, request: Some(request), answer: Some(answer), frame: None }
}
const fn by_frame(name: &'static str, breaks: &'static str, frame: OnFrame) -> Mutant {
    Mutant { name, breaks, request: None, answer: None, frame: Some(frame) }
}
/// Breaks nothing: what the proxy alone changes.
const CONTROL: Mutant = Mutant { name: "control", breaks: "", request: None, answer: None, frame: None };

/// Every mutant.
pub fn mutants() -> impl Iterator<Item = &'static Mutant> {
    [requests::MUTANTS, answers::MUTANTS, streams::MUTANTS].into_iter().flatten()
}

/// What came of one mutant.
#[derive(Debug, Clone, Serialize)]
pub struct Fate {
    /// What was broken.
    pub mutant: String,
    /// The requirement.
    pub breaks: String,
    /// The case that failed on it; absent when it survived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caught_by: Option<String>,
    /// What that case said, or why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// What came of all of them.
#[derive(Debug, Clone, Serialize)]
pub struct Fates {
    /// How many there were.
    pub total: usize,
    /// How many were noticed.
    pub caught: usize,
    /// Each of them.
    pub mutants: Vec<Fate>,
}

/// Lets the suite judge every mutant of a good hub.
///
/// # Errors
/// A text, when the hub cannot be judged at all, or when a case fails behind the proxy though nothing is broken.
pub async fn hunt(options: &Options, told: impl Fn(&Fate) + Sync) -> Result<Fates, String> {
    let mut wanted: Vec<String> = mutants().map(|mutant| mutant.breaks.to_owned()).collect();
    wanted.sort();
    wanted.dedup();
    let control = judged(options, &CONTROL, wanted).await?;
    let unfit: Vec<String> = control
        .iter()
        .filter(|one| one.verdict != Verdict::Pass)
        .map(|one| format!("{} {}: {}", one.id, one.verdict.as_str(), one.reason.as_deref().unwrap_or_default()))
        .collect();
    if !unfit.is_empty() {
        return Err(format!("these cases do not pass on the unbroken hub, so they can catch nothing: {}", unfit.join("; ")));
    }
    let mut fates = Vec::new();
    for mutant in mutants() {
        let judged = judged(options, mutant, vec![mutant.breaks.to_owned()]).await?;
        let failed = judged.iter().find(|one| one.verdict == Verdict::Fail);
        let said = failed.or(judged.first()).and_then(|one| one.reason.clone());
        let fate =
            Fate { mutant: mutant.name.to_owned(), breaks: mutant.breaks.to_owned(), caught_by: failed.map(|one| one.id.clone()), said };
        told(&fate);
        fates.push(fate);
    }
    let caught = fates.iter().filter(|fate| fate.caught_by.is_some()).count();
    Ok(Fates { total: fates.len(), caught, mutants: fates })
}

async fn judged(options: &Options, mutant: &'static Mutant, only: Vec<String>) -> Result<Vec<Judgement>, String> {
    let proxy =
        proxy::Proxy::start(options.target.clone(), options.ca.clone(), mutant).await.map_err(|error| format!("no proxy: {error}"))?;
    let options = Options { target: proxy.url.clone(), only, ..options.clone() };
    Ok(judge(options, &Expected::default(), |_| {}).await?.judged)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cases;

    #[test]
    fn there_are_many_and_each_breaks_a_requirement_that_a_case_judges() {
        let names: BTreeSet<&str> = mutants().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), mutants().count(), "two mutants have one name");
        assert!(names.len() >= 60, "only {} mutants", names.len());
        for mutant in mutants() {
            assert!(cases::all().any(|case| case.id == mutant.breaks), "{} breaks {}, which no case judges", mutant.name, mutant.breaks);
        }
    }
}
