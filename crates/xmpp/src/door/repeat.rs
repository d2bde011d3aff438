//! Answers that did not arrive.
//!
//! A confirmed reply has been taken by our server; it may still be lost behind it, when another server or a client's connection
//! dies. Two signs tell so: it comes back as an error, or its question comes again from somebody who cannot have the answer.
//! It is then sent again, always under its one stanza id, so that whoever has it already recognises it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aiox_core::Caller;
use aiox_model::{BareJid, RunId};
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use xmpp_parsers::{jid::Jid, ns};

use super::Door;
use crate::{hub::Hub, link::Stanza, outgoing::Envelope};

/// Runs that are remembered. At the bound the oldest is forgotten.
const MAX_REMEMBERED: usize = 20_000;
/// A question that comes again within this time after its answer has crossed it.
const CROSSING: Duration = Duration::from_secs(5);
/// Waits before an answer that came back is sent again: doubling from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// How often an answer is sent again because it came back: for about an hour.
const MAX_BOUNCES: u32 = 64;

#[derive(Debug)]
struct Answer {
    envelope: Envelope,
    device: Jid,
    /// When it was written, and on which connection.
    sent: Option<(Instant, u64)>,
    bounces: u32,
    /// It came back and is waiting to be sent again.
    waiting: bool,
}

/// What is remembered of the answers of this process.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<(HashMap<RunId, Answer>, VecDeque<RunId>)>);

impl Answers {
    fn with<T>(&self, run: RunId, with: impl FnOnce(&mut Answer) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.get_mut(&run).map(with)
    }

    /// A run was asked for.
    pub(super) fn asked(&self, run: RunId, envelope: &Envelope, device: &Jid) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, order) = &mut *answers;
        if known.contains_key(&run) {
            return;
        }
        if order.len() >= MAX_REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
        order.push_back(run);
        known.insert(run, Answer { envelope: envelope.clone(), device: device.clone(), sent: None, bounces: 0, waiting: false });
    }

    /// Its answer was written.
    pub(super) fn sent(&self, run: RunId, connection: u64, now: Instant) {
        self.with(run, |answer| answer.sent = Some((now, connection)));
    }

    /// Whether somebody who asks again from `device` lacks the answer. `None`: nothing is known of this run.
    fn lacks(&self, run: RunId, device: &Jid, connection: u64, now: Instant) -> Option<bool> {
        self.with(run, |answer| {
            // Not written yet: it is on its way through the outbox.
            let Some((at, on)) = answer.sent else { return false };
            let lacks = answer.waiting || on != connection || answer.device != *device || now.saturating_duration_since(at) > CROSSING;
            if lacks {
                answer.device = device.clone();
                answer.sent = Some((now, connection));
            }
            lacks
        })
    }

    /// Its answer came back: how long to wait before it is sent again, if it is.
    fn bounced(&self, run: RunId, from: &Jid) -> Option<Duration> {
        self.with(run, |answer| {
            if answer.waiting || answer.bounces >= MAX_BOUNCES || answer.envelope.to != from.to_bare() {
                return None;
            }
            answer.waiting = true;
            let wait = FIRST_WAIT.saturating_mul(1u32.checked_shl(answer.bounces).unwrap_or(u32::MAX)).min(LAST_WAIT);
            answer.bounces += 1;
            Some(wait)
        })
        .flatten()
    }
}

impl<H: Hub> Door<H> {
    /// A message came again whose run exists. Sends the answer again if it seems to be lost.
    pub(super) async fn asked_again(&self, caller: &Caller, run: RunId, envelope: &Envelope, device: &Jid) {
        let lacks = match self.answers.lacks(run, device, self.connection(), Instant::now()) {
            Some(lacks) => lacks,
            // Asked for before this process began: its answer was taken by the server, or waits in the outbox.
            None => {
                self.answers.asked(run, envelope, device);
                match self.hub.due(Uuid::nil(), 1024).await {
                    Ok(due) => !due.iter().any(|reply| reply.run == Some(run)),
                    Err(_) => false,
                }
            }
        };
        if lacks {
            self.answer_again(caller, run, envelope).await;
        }
    }

    /// A message of ours came back as an error. Only what may pass later is sent again, and never at once.
    pub(super) fn came_back(self: &Arc<Self>, stanza: &Stanza, user: BareJid) {
        let error = stanza.element.get_child("error", crate::stanza::NS_COMPONENT);
        let passing = error.is_some_and(|error| {
            let condition = |name| error.has_child(name, ns::XMPP_STANZAS);
            error.attr::<str>("type") == Some("wait") || condition("remote-server-timeout") || condition("remote-server-not-found")
        });
        // A part of a long answer has the run's id with a number behind it.
        let run = stanza.id.as_deref().and_then(|id| id.split('.').next()).and_then(|id| id.parse::<RunId>().ok());
        let (true, Some(run)) = (passing, run) else { return };
        let Some(wait) = self.answers.bounced(run, &stanza.from) else { return };
        let door = Arc::clone(self);
        self.background.spawn(async move {
            tokio::select! {
                () = sleep(wait) => {}
                () = door.shutdown.cancelled() => return,
            }
            let Some(Some(envelope)) = door.answers.with(run, |answer| answer.waiting.then(|| answer.envelope.clone())) else { return };
            match door.hub.caller(&user).await {
                Ok(caller) => door.answer_again(&caller, run, &envelope).await,
                Err(error) => tracing::warn!(%run, error = error.chain(), "an answer that came back cannot be sent again"),
            }
        });
    }

    async fn answer_again(&self, caller: &Caller, run: RunId, envelope: &Envelope) {
        match self.hub.answer(caller, run).await {
            Ok(Some(body)) => {
                metrics::counter!("aiox_xmpp_answered_again_total").increment(1);
                for stanza in envelope.answer(&run.uuid().to_string(), &body, None) {
                    self.send(&stanza).await;
                }
                self.answers.with(run, |answer| answer.waiting = false);
                self.answers.sent(run, self.connection(), Instant::now());
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%run, error = error.chain(), "an answer cannot be sent again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::voice;

    fn device(resource: &str) -> Jid {
        Jid::new(&format!("u@a.example/{resource}")).unwrap()
    }

    fn asked(answers: &Answers, run: RunId) {
        let envelope =
            Envelope { from: voice(&Jid::new("bot@agents.a.example").unwrap()), to: device("x").to_bare(), thread: None, reference: None };
        answers.asked(run, &envelope, &device("x"));
    }

    #[test]
    fn only_who_cannot_have_the_answer_gets_it_again() {
        let (answers, run, now) = (Answers::default(), RunId(Uuid::from_u128(1)), Instant::now());
        assert_eq!(answers.lacks(run, &device("x"), 1, now), None);
        asked(&answers, run);
        assert_eq!(answers.lacks(run, &device("x"), 1, now), Some(false), "not sent yet");
        answers.sent(run, 1, now);
        assert_eq!(answers.lacks(run, &device("x"), 1, now), Some(false), "they crossed");
        assert_eq!(answers.lacks(run, &device("y"), 1, now), Some(true), "another session");
        assert_eq!(answers.lacks(run, &device("y"), 1, now), Some(false), "just sent again");
        assert_eq!(answers.lacks(run, &device("y"), 2, now), Some(true), "another connection");
        assert_eq!(answers.lacks(run, &device("y"), 2, now + CROSSING + Duration::from_millis(1)), Some(true), "long after");
    }

    #[test]
    fn an_answer_that_keeps_coming_back_is_sent_ever_less_often_and_then_no_more() {
        let (answers, run) = (Answers::default(), RunId(Uuid::from_u128(1)));
        asked(&answers, run);
        assert_eq!(answers.bounced(run, &Jid::new("eve@a.example").unwrap()), None);
        let mut waits = Vec::new();
        while let Some(wait) = answers.bounced(run, &device("x")) {
            assert_eq!(answers.bounced(run, &device("x")), None, "one at a time");
            waits.push(wait);
            answers.with(run, |answer| answer.waiting = false);
        }
        assert_eq!(waits.len(), MAX_BOUNCES as usize);
        assert_eq!((waits[0], waits[1], *waits.last().unwrap()), (FIRST_WAIT, FIRST_WAIT * 2, LAST_WAIT));
    }
}
