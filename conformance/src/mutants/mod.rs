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
mod handshakes;
mod hunt;
mod proxy;
mod requests;
mod streams;

pub use hunt::{Fate, Fates, hunt};

use crate::tamper::{Ask, Doors, Fault, Memory, OnAnswer, OnBeat, OnCall, OnFeed, OnOrder, OnReport, OnServer, OnSocket, OnStanza, Reply};

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
    /// Whether its streams never end.
    pub(crate) endless: bool,
    /// What it does at the doors that no proxy can read.
    pub(crate) doors: Doors,
}
impl std::fmt::Debug for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mutant").field("name", &self.name).field("breaks", &self.breaks).finish_non_exhaustive()
    }
}

/// Breaks nothing: what the proxy alone changes.
const CONTROL: Mutant =
    Mutant { name: "control", breaks: "", request: None, answer: None, frame: None, endless: false, doors: Doors::UNTOUCHED };

/// Breaks nothing either, behind what stands before a peer listener.
const FRONTED: Mutant = by_front("control", "", Fault::Nothing);

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

const fn by_front(name: &'static str, breaks: &'static str, front: Fault) -> Mutant {
    Mutant { name, breaks, doors: Doors { front: Some(front), ..Doors::UNTOUCHED }, ..CONTROL }
}
const fn by_server(name: &'static str, breaks: &'static str, server: OnServer) -> Mutant {
    Mutant { name, breaks, doors: Doors { server: Some(server), ..Doors::UNTOUCHED }, ..CONTROL }
}
const fn by_call(name: &'static str, breaks: &'static str, call: OnCall) -> Mutant {
    Mutant { name, breaks, doors: Doors { call: Some(call), ..Doors::UNTOUCHED }, ..CONTROL }
}
const fn by_report(name: &'static str, breaks: &'static str, report: OnReport) -> Mutant {
    Mutant { name, breaks, doors: Doors { report: Some(report), ..Doors::UNTOUCHED }, ..CONTROL }
}
const fn by_beat(name: &'static str, breaks: &'static str, beat: OnBeat) -> Mutant {
    Mutant { name, breaks, doors: Doors { beat: Some(beat), ..Doors::UNTOUCHED }, ..CONTROL }
}
const fn by_socket(name: &'static str, breaks: &'static str, socket: OnSocket) -> Mutant {
    Mutant { name, breaks, doors: Doors { socket: Some(socket), ..Doors::UNTOUCHED }, ..CONTROL }
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
        handshakes::MUTANTS,
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

    #[test]
    fn every_case_has_a_mutant_that_it_has_to_catch() {
        let broken: BTreeSet<&str> = mutants().map(|mutant| mutant.breaks).collect();
        let untested: Vec<&str> = cases::all().map(|case| case.id).filter(|id| !broken.contains(id)).collect();
        assert_eq!(untested, [""; 0], "rule: whatever a case judges is broken by a mutant. Add one in conformance/src/mutants.");
    }
}
