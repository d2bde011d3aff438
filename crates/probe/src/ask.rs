//! One question and its whole answer.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    client::Client,
    error::{Cause, ProbeError, Step},
    event::{ChatState, Event, Message, MessageKind, PresenceKind},
    login::random_id,
};

/// How long a body without a chat state must be the last one to count as the end of the answer.
pub const SETTLE: Duration = Duration::from_secs(1);

/// What came of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The text of the last message, with its corrections applied.
    pub answer: String,
    /// The texts of all messages of the answer in order, with their corrections applied. More than one when the answer was too
    /// long for one message: then put together they are the whole text.
    pub bodies: Vec<String>,
    /// Whether the other side showed that it was writing.
    pub composing_seen: bool,
    /// How many corrections came: above zero, the answer was streamed.
    pub corrections: usize,
    /// Whether the other side's available presence came meanwhile.
    pub presence_seen: bool,
    /// Whether the other side confirmed that the question arrived (XEP-0184).
    pub receipt_seen: bool,
    /// From the question's sending to the end of the answer, the settling included when the answer had no `<active/>`.
    pub elapsed: Duration,
    /// The question's id.
    pub question_id: String,
    /// The ids of everything with a body that belonged to the answer, corrections too, in order.
    pub ids: Vec<String>,
}

/// The answer as far as it has come.
#[derive(Debug, Default)]
struct Progress {
    /// The first id and the latest text of each message.
    messages: Vec<(Option<String>, String)>,
    ids: Vec<String>,
    corrections: usize,
    /// The other side has said that there is more (`Some(false)`) or no more (`Some(true)`) to come.
    ended: Option<bool>,
}

impl Progress {
    fn take(&mut self, message: Message) {
        match message.chat_state {
            // A state without a text says nothing before there is a text: it may belong to what was said before.
            Some(ChatState::Active) if message.body.is_some() || !self.messages.is_empty() => self.ended = Some(true),
            Some(ChatState::Composing | ChatState::Paused) => self.ended = Some(false),
            _ if message.body.is_some() => self.ended = None,
            _ => {}
        }
        let Some(body) = message.body else { return };
        self.ids.extend(message.id.clone());
        let replaced = self.messages.iter_mut().find(|(first, _)| message.replace_for.is_some() && *first == message.replace_for);
        if message.replace_for.is_some() {
            self.corrections += 1;
        }
        match replaced {
            Some((_, text)) => *text = body,
            // A correction of something unseen still shows what the other side says now; later ones refer to the same id.
            None => self.messages.push((message.replace_for.or(message.id), body)),
        }
    }
}

impl Client {
    /// Asks in a conversation of its own and waits for the whole answer.
    ///
    /// Messages from the bare address of `to` belong to the answer when their thread is that of the question or none. How the
    /// end is known: an answer that grows is a first message followed by corrections (XEP-0308), each of which has its own id,
    /// refers to the **first** message's id and carries the whole text so far. All but the last say `<composing/>`, and the last
    /// says `<active/>` (XEP-0085). So do the parts of an answer that is too long for one message. The wait ends with a body, or
    /// after one, that is `<active/>`; or, for those who send no chat states, [`SETTLE`] after the last body, or at the deadline.
    ///
    /// Events that do not belong to the answer are dropped, those kept by [`Client::iq_get`] too.
    ///
    /// # Errors
    /// [`Cause::Stanza`] when the question comes back as an error, [`Cause::Timeout`] when the answer has not ended by the
    /// deadline, and what can go wrong on the connection.
    pub async fn ask(&mut self, to: &str, body: &str, deadline: Instant) -> Result<Transcript, ProbeError> {
        let started = Instant::now();
        let thread = random_id().map_err(|cause| cause.at(Step::Send))?;
        let question_id = self.send_message(to, body, Some(&thread), true).await?;
        let (mut progress, mut settled) = (Progress::default(), None);
        let (mut composing_seen, mut presence_seen, mut receipt_seen) = (false, false, false);
        while progress.ended != Some(true) {
            let event = match self.next_event(settled.unwrap_or(deadline).min(deadline)).await {
                Err(ProbeError { cause: Cause::Timeout, .. }) if settled.is_some() => break,
                event => event?,
            };
            match event {
                Event::Message(message) if message.kind == MessageKind::Error && message.id.as_ref() == Some(&question_id) => {
                    let error = message.error.map_or(Cause::Protocol("an error without content"), Cause::Stanza);
                    return Err(error.at(Step::Receive));
                }
                Event::Message(message) if message.kind != MessageKind::Error && same_account(&message.from, to) => {
                    receipt_seen |= message.receipt_for.as_ref() == Some(&question_id);
                    if message.thread.as_ref().is_some_and(|other| *other != thread) {
                        continue;
                    }
                    composing_seen |= message.chat_state == Some(ChatState::Composing);
                    // A receipt, for one, does not tell whether more is to come.
                    let telling = message.body.is_some() || message.chat_state.is_some();
                    progress.take(message);
                    if telling {
                        settled = (progress.ended.is_none() && !progress.messages.is_empty()).then(|| Instant::now() + SETTLE);
                    }
                }
                Event::Presence(presence) if same_account(&presence.from, to) => {
                    presence_seen |= presence.kind == PresenceKind::Available;
                }
                _ => {}
            }
        }
        let bodies: Vec<String> = progress.messages.into_iter().map(|(_, text)| text).collect();
        Ok(Transcript {
            answer: bodies.last().cloned().unwrap_or_default(),
            bodies,
            composing_seen,
            corrections: progress.corrections,
            presence_seen,
            receipt_seen,
            elapsed: started.elapsed(),
            question_id,
            ids: progress.ids,
        })
    }
}

fn same_account(one: &str, other: &str) -> bool {
    let bare = |jid: &str| jid.split('/').next().unwrap_or_default().to_ascii_lowercase();
    bare(one) == bare(other)
}
