//! Every request and what became of it: each must be answered exactly once.
//!
//! A request carries a token of its own in body, thread and stanza id. An answer is matched by the
//! token in its body. A text without one (an error in words) is matched by its thread, else by its
//! addressee if that user waits for one answer only.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{Notify, oneshot};

use crate::stanza::{NS_CHAT_STATES, NS_COMPONENT, NS_CORRECT, NS_RECEIPTS, Stanza};

const PREFIX: &str = "token-";
/// Hex digits of the sequence in a token.
const DIGITS: usize = 12;

/// What one stanza was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The answer of a request.
    Answer,
    /// The answer of a request that has one already.
    Duplicate,
    /// A changed form of an answer that is there (XEP-0308).
    Correction,
    /// A stanza error, or an error in words.
    Failure,
    /// An answer for somebody else than the one who asked.
    Misdirected,
    /// A chat state alone.
    ChatState,
    /// A receipt.
    Receipt,
    /// Presence and the like.
    Other,
}

/// How many stanzas came that are no answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Traffic {
    /// Chat states alone.
    pub(crate) chat_states: u64,
    /// Receipts.
    pub(crate) receipts: u64,
    /// Corrections of answers.
    pub(crate) corrections: u64,
    /// Answers for somebody else, and failures of no known request.
    pub(crate) unmatched: u64,
}

/// What became of a range of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Time of each answered request, in the order they were sent.
    pub(crate) times: Vec<Duration>,
    /// When the last of them was answered.
    pub(crate) last: Option<Instant>,
    /// Answered with an error.
    pub(crate) failed: u64,
    /// Answers beyond the first.
    pub(crate) duplicates: u64,
    /// Never answered.
    pub(crate) lost: u64,
    /// One text of an error, for people.
    pub(crate) example: Option<String>,
}

#[derive(Debug)]
struct Request {
    user: u64,
    started: Instant,
    answered: Option<Instant>,
    failure: Option<String>,
    duplicates: u64,
    waiter: Option<oneshot::Sender<()>>,
}

impl Request {
    fn is_open(&self) -> bool {
        self.answered.is_none() && self.failure.is_none()
    }
}

#[derive(Debug, Default)]
struct Inner {
    requests: Vec<Request>,
    /// Requests without an answer, by user.
    open: HashMap<u64, Vec<u64>>,
    waiting: usize,
    traffic: Traffic,
}

/// The requests of one run of the harness.
#[derive(Debug)]
pub(crate) struct Ledger {
    tag: u32,
    domain: String,
    inner: Mutex<Inner>,
    all_done: Notify,
}

impl Ledger {
    /// A ledger for users of `domain`. `tag` keeps the tokens of two runs apart.
    pub(crate) fn new(tag: u32, domain: &str) -> Self {
        let inner = Mutex::default();
        Self { tag, domain: domain.to_owned(), inner, all_done: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of a user.
    pub(crate) fn jid(&self, user: u64) -> String {
        format!("load-{user}@{}", self.domain)
    }

    /// Sequence of the next request.
    pub(crate) fn next(&self) -> u64 {
        self.inner().requests.len() as u64
    }

    /// Enters a request of `user` whose time runs from `started`: its sequence, its token, and what
    /// tells its end.
    pub(crate) fn enter(&self, user: u64, started: Instant) -> (u64, String, oneshot::Receiver<()>) {
        let (waiter, done) = oneshot::channel();
        let mut inner = self.inner();
        let sequence = inner.requests.len() as u64;
        inner.requests.push(Request { user, started, answered: None, failure: None, duplicates: 0, waiter: Some(waiter) });
        inner.open.entry(user).or_default().push(sequence);
        inner.waiting += 1;
        (sequence, format!("{PREFIX}{:08x}-{sequence:0DIGITS$x}", self.tag), done)
    }

    /// Requests that wait for their answer.
    pub(crate) fn waiting(&self) -> usize {
        self.inner().waiting
    }

    /// Returns when no request waits.
    pub(crate) async fn all_done(&self) {
        loop {
            let mut done = std::pin::pin!(self.all_done.notified());
            done.as_mut().enable();
            if self.waiting() == 0 {
                return;
            }
            done.await;
        }
    }

    /// Takes what the component sent.
    pub(crate) fn take(&self, stanza: &Stanza, now: Instant) -> Meaning {
        let mut inner = self.inner();
        let meaning = self.judge(&mut inner, stanza, now);
        match meaning {
            Meaning::ChatState => inner.traffic.chat_states += 1,
            Meaning::Receipt => inner.traffic.receipts += 1,
            Meaning::Correction => inner.traffic.corrections += 1,
            Meaning::Misdirected => inner.traffic.unmatched += 1,
            Meaning::Answer | Meaning::Duplicate | Meaning::Failure | Meaning::Other => {}
        }
        if inner.waiting == 0 {
            self.all_done.notify_waiters();
        }
        meaning
    }

    fn judge(&self, inner: &mut Inner, stanza: &Stanza, now: Instant) -> Meaning {
        if stanza.name != "message" {
            return Meaning::Other;
        }
        let user = self.user(&stanza.to);
        if stanza.kind == "error" {
            let sequence = self.sequence(&stanza.id).or_else(|| inner.only_open(user));
            let condition = stanza.child("error", NS_COMPONENT).map_or("", |error| &error.inner);
            return inner.fail(sequence, user, &format!("stanza error {condition}"), now);
        }
        let Some(body) = stanza.text_of("body").filter(|body| !body.is_empty()) else {
            return if stanza.has(NS_RECEIPTS) {
                Meaning::Receipt
            } else if stanza.has(NS_CHAT_STATES) {
                Meaning::ChatState
            } else {
                Meaning::Other
            };
        };
        let thread = stanza.text_of("thread").and_then(|thread| self.sequence(thread));
        let Some(sequence) = self.sequence(body) else {
            let sequence = thread.or_else(|| inner.only_open(user));
            return inner.fail(sequence, user, body, now);
        };
        let Some(request) = usize::try_from(sequence).ok().and_then(|at| inner.requests.get_mut(at)) else {
            return Meaning::Misdirected;
        };
        if Some(request.user) != user || thread.is_some_and(|thread| thread != sequence) {
            return Meaning::Misdirected;
        }
        if request.is_open() {
            request.answered = Some(now);
            inner.close(sequence);
            Meaning::Answer
        } else if stanza.has(NS_CORRECT) {
            Meaning::Correction
        } else {
            request.duplicates += 1;
            Meaning::Duplicate
        }
    }

    /// The sequence of the token in a text.
    fn sequence(&self, text: &str) -> Option<u64> {
        let start = text.find(&format!("{PREFIX}{:08x}-", self.tag))? + PREFIX.len() + 9;
        u64::from_str_radix(text.get(start..start + DIGITS)?, 16).ok()
    }

    /// The user of an address, bare or full.
    fn user(&self, jid: &str) -> Option<u64> {
        let bare = jid.split_once('/').map_or(jid, |(bare, _)| bare);
        let (local, domain) = bare.split_once('@')?;
        (domain == self.domain).then(|| local.strip_prefix("load-")?.parse().ok())?
    }

    /// What became of these requests. Those that still wait count as lost.
    pub(crate) fn summary(&self, range: Range<u64>) -> Summary {
        let inner = self.inner();
        let mut summary = Summary::default();
        for sequence in range {
            let at = usize::try_from(sequence).ok();
            let Some(request) = at.and_then(|at| inner.requests.get(at)) else { continue };
            summary.duplicates += request.duplicates;
            if let Some(answered) = request.answered {
                summary.times.push(answered.saturating_duration_since(request.started));
                summary.last = summary.last.max(Some(answered));
            } else if let Some(failure) = &request.failure {
                summary.failed += 1;
                summary.example.get_or_insert_with(|| failure.clone());
            } else {
                summary.lost += 1;
            }
        }
        summary
    }

    /// What else came so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.inner().traffic
    }
}

impl Inner {
    fn only_open(&self, user: Option<u64>) -> Option<u64> {
        match self.open.get(&user?).map(Vec::as_slice) {
            Some([one]) => Some(*one),
            _ => None,
        }
    }

    fn close(&mut self, sequence: u64) {
        let Some(request) = usize::try_from(sequence).ok().and_then(|at| self.requests.get_mut(at)) else {
            return;
        };
        if let Some(waiter) = request.waiter.take() {
            let _ = waiter.send(());
        }
        let user = request.user;
        if let Some(open) = self.open.get_mut(&user) {
            open.retain(|other| *other != sequence);
            if open.is_empty() {
                self.open.remove(&user);
            }
        }
        self.waiting = self.waiting.saturating_sub(1);
    }

    fn fail(&mut self, sequence: Option<u64>, user: Option<u64>, why: &str, now: Instant) -> Meaning {
        let request = sequence
            .and_then(|sequence| self.requests.get_mut(usize::try_from(sequence).ok()?))
            .filter(|request| Some(request.user) == user);
        let (Some(request), Some(sequence)) = (request, sequence) else {
            // Its request will be seen as lost; the text is a sign of trouble by itself.
            return Meaning::Misdirected;
        };
        // A hub may send a stanza error and the same in words: one failure.
        if request.is_open() {
            let elapsed = now.saturating_duration_since(request.started).as_millis();
            request.failure = Some(format!("after {elapsed} ms: {}", why.trim()));
            self.close(sequence);
        } else if request.answered.is_some() {
            request.duplicates += 1;
        }
        Meaning::Failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{Incoming, tests::read};

    fn ledger() -> (Ledger, Instant) {
        (Ledger::new(0xab, "hub-a.example"), Instant::now())
    }

    fn stanza(xml: &str) -> Stanza {
        match read(xml).remove(0) {
            Incoming::Stanza(stanza) => stanza,
            other => panic!("{other:?}"),
        }
    }

    fn answer(to: &str, children: &str) -> Stanza {
        stanza(&format!("<message type='chat' from='agent-1@agents.hub-a.example/aiox' to='{to}'>{children}</message>"))
    }

    #[test]
    fn an_answer_is_counted_once_and_its_time_runs_from_the_start() {
        let (ledger, start) = ledger();
        let (first, token, mut done) = ledger.enter(7, start);
        let echo = answer("load-7@hub-a.example", &format!("<body>echo: {token} x</body><thread>{token}</thread>"));
        let then = start + Duration::from_millis(5);
        assert_eq!(ledger.take(&echo, then), Meaning::Answer);
        assert_eq!(done.try_recv(), Ok(()));
        assert_eq!(ledger.take(&echo, then), Meaning::Duplicate);
        let summary = ledger.summary(first..ledger.next());
        assert_eq!(summary.times, [Duration::from_millis(5)]);
        assert_eq!((summary.duplicates, summary.lost, summary.failed), (1, 0, 0));
    }

    #[test]
    fn answers_for_others_do_not_count() {
        let (ledger, now) = ledger();
        let (_, one, _done) = ledger.enter(1, now);
        let (_, two, _done) = ledger.enter(2, now);
        let body = format!("<body>echo: {one}</body>");
        for to in ["load-2@hub-a.example", "load-1@hub-b.example", "load-x@hub-a.example", ""] {
            assert_eq!(ledger.take(&answer(to, &body), now), Meaning::Misdirected, "{to}");
        }
        let crossed = format!("{body}<thread>{two}</thread>");
        assert_eq!(ledger.take(&answer("load-1@hub-a.example", &crossed), now), Meaning::Misdirected);
        let summary = ledger.summary(0..2);
        assert_eq!((summary.lost, ledger.traffic().unmatched), (2, 5));
        // To one device of the user, as the predecessor answers.
        assert_eq!(ledger.take(&answer("load-1@hub-a.example/load", &body), now), Meaning::Answer);
    }

    #[test]
    fn states_receipts_and_corrections_are_no_answers() {
        let (ledger, now) = ledger();
        let (_, token, _done) = ledger.enter(1, now);
        let to = "load-1@hub-a.example";
        let states = format!("<composing xmlns='{NS_CHAT_STATES}'/><thread>{token}</thread>");
        assert_eq!(ledger.take(&answer(to, &states), now), Meaning::ChatState);
        let receipt = format!("<received xmlns='{NS_RECEIPTS}' id='{token}'/>");
        assert_eq!(ledger.take(&answer(to, &receipt), now), Meaning::Receipt);
        assert_eq!(ledger.take(&stanza("<presence from='a@b' to='c@d'/>"), now), Meaning::Other);
        assert_eq!(ledger.waiting(), 1);
        let body = format!("<body>echo: {token}</body>");
        assert_eq!(ledger.take(&answer(to, &body), now), Meaning::Answer);
        let corrected = format!("{body}<replace xmlns='{NS_CORRECT}' id='1'/>");
        assert_eq!(ledger.take(&answer(to, &corrected), now), Meaning::Correction);
        let wanted = Traffic { chat_states: 1, receipts: 1, corrections: 1, unmatched: 0 };
        assert_eq!((ledger.traffic(), ledger.summary(0..1).duplicates), (wanted, 0));
    }

    #[test]
    fn errors_are_matched_by_id_thread_or_their_only_waiting_user() {
        let (ledger, now) = ledger();
        let to = "load-1@hub-a.example";
        let (_, by_id, _done) = ledger.enter(1, now);
        let bounce = format!(
            "<message type='error' id='{by_id}' from='a@b' to='{to}'><error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        );
        assert_eq!(ledger.take(&stanza(&bounce), now), Meaning::Failure);
        let (_, _, _done) = ledger.enter(1, now);
        assert_eq!(ledger.take(&answer(to, "<body>Error: Agent not found</body>"), now), Meaning::Failure);
        let (_, by_thread, _done) = ledger.enter(1, now);
        let (_, _, _done) = ledger.enter(1, now);
        let words = "<body>Error: Quota exceeded</body>";
        assert_eq!(ledger.take(&answer(to, words), now), Meaning::Misdirected, "two wait");
        let threaded = format!("{words}<thread>{by_thread}</thread>");
        assert_eq!(ledger.take(&answer(to, &threaded), now), Meaning::Failure);
        assert_eq!(ledger.take(&answer(to, &threaded), now), Meaning::Failure, "the same in words");
        let summary = ledger.summary(0..4);
        assert_eq!((summary.failed, summary.lost, summary.times.len()), (3, 1, 0));
        assert_eq!(summary.example.unwrap(), "after 0 ms: stanza error resource-constraint");
    }

    #[test]
    fn tokens_of_another_run_are_not_ours() {
        let (ledger, now) = ledger();
        let (_, token, _done) = ledger.enter(1, now);
        let (_, foreign, _) = Ledger::new(0xcd, "hub-a.example").enter(1, now);
        assert_eq!(ledger.sequence(&token), Some(0));
        assert_eq!(ledger.sequence(&foreign), None);
        assert_eq!(ledger.sequence("token-000000ab-zz"), None);
        let unknown = "<body>token-000000ab-0000000000ff</body>";
        assert_eq!(ledger.take(&answer("load-1@hub-a.example", unknown), now), Meaning::Misdirected);
    }

    #[tokio::test]
    async fn all_done_returns_with_the_last_answer() {
        let (ledger, now) = ledger();
        ledger.all_done().await;
        let (_, token, _done) = ledger.enter(1, now);
        let wait = ledger.all_done();
        let mut wait = std::pin::pin!(wait);
        assert!(futures_poll(wait.as_mut()).await.is_none());
        ledger.take(&answer("load-1@hub-a.example", &format!("<body>{token}</body>")), now);
        wait.await;
    }

    /// One poll.
    async fn futures_poll<F: Future + Unpin>(future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            out = future => Some(out),
            () = std::future::ready(()) => None,
        }
    }
}
