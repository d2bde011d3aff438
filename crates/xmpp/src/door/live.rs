//! Answers that grow while they are made (XEP-0308), for devices that show corrections in place.
//!
//! A live message is a comfort and may be lost. The durable answer comes through the outbox; it completes the live message, and
//! after it no intermediate state may follow: both take the same lock.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aiox_core::Caller;
use aiox_model::RunId;
use futures::StreamExt;
use tokio::time::{Instant, sleep_until};
use xmpp_parsers::jid::Jid;

use super::Door;
use crate::{
    hub::{Hub, Progress},
    outgoing::Envelope,
    stanza, text,
};

/// Least time between two states of one answer: each one carries the whole text again.
const PACE: Duration = Duration::from_secs(1);
/// A longer text is no longer repeated; the rest comes with the answer.
const MAX_LIVE_BYTES: usize = text::MAX_BODY_BYTES / 8;
/// Live messages that are remembered for their answers. At the bound the oldest is forgotten; its answer then comes as a message
/// of its own.
const MAX_REMEMBERED: usize = 4096;

/// What the user has seen of one run.
#[derive(Debug, Default)]
struct Message {
    /// `composing` was sent, or deliberately not.
    announced: bool,
    /// Id of the first stanza, once it was sent.
    first: Option<String>,
    /// The answer was sent.
    complete: bool,
}

type Shared = Arc<tokio::sync::Mutex<Message>>;

/// All live messages, by run.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<(HashMap<RunId, Shared>, VecDeque<RunId>)>);

impl Live {
    fn open(&self, run: RunId) -> Shared {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (messages, order) = &mut *live;
        if let Some(message) = messages.get(&run) {
            return Arc::clone(message);
        }
        if order.len() >= MAX_REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            messages.remove(&oldest);
        }
        order.push_back(run);
        Arc::clone(messages.entry(run).or_default())
    }

    /// The answer of a run goes out now: returns whether `composing` came before it, and the live message that it completes.
    pub(super) async fn complete(&self, run: RunId) -> (bool, Option<String>) {
        let message = self.open(run);
        let mut message = message.lock().await;
        message.complete = true;
        (std::mem::replace(&mut message.announced, true), message.first.clone())
    }
}

impl<H: Hub> Door<H> {
    /// Says that the agent thinks, unless its answer is already out: a quick worker can be faster than this door.
    pub(super) async fn announce_thinking(&self, run: RunId, envelope: &Envelope, delayed: bool) {
        let message = self.live.open(run);
        let mut message = message.lock().await;
        // Who wrote long ago is perhaps no longer looking.
        if !std::mem::replace(&mut message.announced, true) && !message.complete && !delayed {
            self.send(&envelope.state("composing")).await;
        }
    }

    /// Shows `run` to `device` while it goes on. Without corrections on that device it only waits for the end.
    pub(super) async fn follow(self: Arc<Self>, caller: Caller, run: RunId, envelope: Envelope, device: Jid) {
        let message = self.live.open(run);
        let mut progress = match self.hub.follow(&caller, run).await {
            Ok(progress) => progress,
            Err(error) => {
                tracing::debug!(%run, error = error.chain(), "a run is not shown live");
                return;
            }
        };
        let mut text = String::new();
        let mut shown = 0;
        let mut next = Instant::now();
        loop {
            let more = text.len() > shown && text.len() <= MAX_LIVE_BYTES;
            tokio::select! {
                step = progress.next() => match step {
                    Some(Progress::Text(piece)) if text.len() <= MAX_LIVE_BYTES => text.push_str(&piece),
                    Some(Progress::Text(_)) => {}
                    Some(Progress::Restarted) => { text.clear(); shown = 0; }
                    Some(Progress::Ended) | None => break,
                },
                () = sleep_until(next), if more => {
                    let corrections = self.clients(|clients| clients.features(&device)).corrections;
                    if corrections && !text.trim().is_empty() && !self.show(&message, &envelope, &text).await {
                        break;
                    }
                    shown = text.len();
                    next = Instant::now() + PACE;
                }
                () = self.shutdown.cancelled() => break,
            }
        }
    }

    /// Sends one state; `false` when the answer is already out.
    async fn show(&self, message: &Shared, envelope: &Envelope, text: &str) -> bool {
        let mut message = message.lock().await;
        if message.complete {
            return false;
        }
        let id = stanza::fresh_id();
        match &message.first {
            None => {
                self.send(&envelope.live_start(&id, text)).await;
                message.first = Some(id);
            }
            Some(first) => self.send(&envelope.live_more(&id, first, text)).await,
        }
        true
    }
}
