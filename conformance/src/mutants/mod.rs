//! The suite's own test: hubs that break one requirement each, and whether the suite notices.
//!
//! A [`Mutant`] is a good hub behind a [`proxy`] that breaks one thing on the way; what comes through the doors of peers, workers and XMPP,
//! which no proxy can read, is broken in the suite's own connections ([`tamper`](crate::tamper)). The case of the broken requirement has to fail on it, and to
//! pass behind the same proxy when nothing is broken. A suite that a mutant survives is not done.

mod accounts;
mod answers;
mod doors;
mod federation;
mod forwarding;
mod gateway;
mod governance;
mod hunt;
mod proxy;
mod requests;
mod streams;

pub use hunt::{Fate, Fates, hunt};

use crate::tamper::{Ask, Doors, Memory, OnAnswer, OnFeed, OnOrder, OnStanza, Reply};

/// What a mutant does to a request before it reaches the hub; with an answer, it does not reach it.
pub(crate) type OnRequest = fn(&mut Ask, &mut Memory) -> Option<Reply>;
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
    /// What it does at the doors that no proxy can read.
    pub(crate) doors: Doors,
}
impl std::fmt::Debug for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mutant").field("name", &self.name).field("breaks", &self.breaks).finish_non_exhaustive()
    }
}

/// Breaks nothing: what the proxy alone changes.
const CONTROL: Mutant = Mutant { name: "control", breaks: "", request: None, answer: None, frame: None, doors: Doors::UNTOUCHED };

const fn by_request(name: &'static str, breaks: &'static str, request: OnRequest) -> Mutant {
    Mutant { name, breaks, request: Some(request), ..CONTROL }
}
const fn by_answer(name: &'static str, breaks: &'static str, answer: OnAnswer) -> Mutant {
    Mutant { name, breaks, answer: Some(answer), ..CONTROL }
}
const fn by_both(name: &'static str, breaks: &'static str, request: OnRequest, answer: OnAnswer) -> Mutant {
    Mutant { name, breaks, request: Some(request), answer: Some(answer), ..CONTROL }
}
const fn by_frame(name: &'static str, breaks: &'static str, frame: OnFrame) -> Mutant {
    Mutant { name, breaks, frame: Some(frame), ..CONTROL }
}
const fn by_link(name: &'static str, breaks: &'static str, link: OnAnswer) -> Mutant {
    Mutant { name, breaks, doors: Doors { link: Some(link), ..Doors::UNTOUCHED }, ..CONTROL }
}
const fn by_feed(name: &'static str, breaks: &'static str, feed: OnFeed) -> Mutant {
    Mutant { name, breaks, doors: Doors { feed: Some(feed), ..Doors::UNTOUCHED }, ..CONTROL }
}
const fn by_order(name: &'static str, breaks: &'static str, order: OnOrder) -> Mutant {
    Mutant { name, breaks, doors: Doors { order: Some(order), ..Doors::UNTOUCHED }, ..CONTROL }
}
const fn by_stanza(name: &'static str, breaks: &'static str, stanza: OnStanza) -> Mutant {
    Mutant { name, breaks, doors: Doors { stanza: Some(stanza), ..Doors::UNTOUCHED }, ..CONTROL }
}

/// Every mutant.
pub fn mutants() -> impl Iterator<Item = &'static Mutant> {
    [
        requests::MUTANTS,
        answers::MUTANTS,
        streams::MUTANTS,
        doors::MUTANTS,
        accounts::MUTANTS,
        gateway::MUTANTS,
        governance::MUTANTS,
        forwarding::MUTANTS,
        federation::MUTANTS,
    ]
    .into_iter()
    .flatten()
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
        assert!(names.len() >= 200, "only {} mutants", names.len());
        for mutant in mutants() {
            assert!(cases::all().any(|case| case.id == mutant.breaks), "{} breaks {}, which no case judges", mutant.name, mutant.breaks);
        }
    }
}
