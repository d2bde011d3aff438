//! The door's wishes, fulfilled by the use cases.

use std::time::{Duration, SystemTime};

use aiox_app::{Accounts, AgentRef, Agents, Bounds, Contacts, NewRun, Replies, ReplyTo, Runs};
use aiox_core::{Caller, Error, Result, ports::Signal, run::Priority};
use aiox_model::{
    AgentId, BareJid, RunId, TraceId, Ts,
    account::Quota,
    agent::{AgentCard, Visibility},
    run::{Run, RunStatus},
};
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use uuid::Uuid;
use xmpp_parsers::{caps::hash_caps, hashes::Algo, jid};

use crate::{
    disco::Face,
    hub::{Accepted, Contact, Hub, Lost, Progress, Question, Reply},
    outgoing::{Envelope, voice},
};

/// Contacts and runs that are read at once.
const PAGE: u32 = 200;
/// A client resends what it does not know to have arrived within minutes. The same id and text after this time is a new message:
/// some clients count their ids from 1 at each start.
const RESEND_WINDOW: Duration = Duration::from_secs(3600);

/// The use cases the door calls.
#[derive(Clone)]
pub struct UseCases {
    /// Who a sender is.
    pub accounts: Accounts,
    /// Which agents it may use.
    pub agents: Agents,
    /// The path of a message.
    pub runs: Runs,
    /// Durable replies.
    pub replies: Replies,
    /// Durable presence subscriptions.
    pub contacts: Contacts,
}

#[async_trait]
impl Hub for UseCases {
    async fn caller(&self, sender: &BareJid) -> Result<Caller> {
        let trace = TraceId(Uuid::now_v7());
        let caller = self.accounts.caller_for_jid(sender, trace).await?;
        caller.ok_or(Error::Unauthenticated("this address belongs to no account"))
    }

    async fn card(&self, caller: &Caller, agent: &BareJid) -> Result<AgentCard> {
        self.agents.card(caller, &AgentRef::Jid(agent.clone())).await
    }

    async fn cards(&self, caller: &Caller) -> Result<Vec<AgentCard>> {
        self.agents.usable(caller).await
    }

    async fn submit(&self, caller: &Caller, agent: &BareJid, question: Question) -> Result<Accepted> {
        let key = question.stanza_id.as_deref().map(|id| key(id, &question.input));
        let submit = |idempotency_key| {
            let reply = ReplyTo {
                to: question.envelope.to.to_string(),
                to_full: question.device.to_string(),
                from: question.envelope.from.to_bare().to_string(),
                stanza_id: question.envelope.reference.clone(),
                thread: question.envelope.thread.clone(),
                streamed_id: None,
            };
            let new = NewRun {
                agent: AgentRef::Jid(agent.clone()),
                input: question.input.clone(),
                conversation: None,
                idempotency_key,
                reply: Some(reply),
                priority: Priority::Normal,
                timeout_ms: None,
                bounds: Bounds::default(),
                asked: None,
            };
            self.runs.submit(caller, new)
        };
        let mut submitted = submit(key.clone()).await?;
        let now = now();
        if let (true, Some(key)) =
            (submitted.replayed && now.millis_since(submitted.run.created_at) > RESEND_WINDOW.as_millis() as u64, key)
        {
            let window = now.seconds() / RESEND_WINDOW.as_secs() as i64;
            submitted = submit(Some(format!("{key}@{window}"))).await?;
        }
        Ok(Accepted { run: RunId(submitted.run.id), fresh: !submitted.replayed })
    }

    async fn follow(&self, caller: &Caller, run: RunId) -> Result<BoxStream<'static, Progress>> {
        self.runs.get(caller, run).await?;
        let signals = self.runs.follow(run, 0, true);
        Ok(signals
            .filter_map(async |signal| match signal {
                Ok(Signal::Delta(delta)) => Some(Progress::Text(delta.text)),
                Ok(Signal::Event(event)) if event.kind == "run.retried" => Some(Progress::Restarted),
                Ok(Signal::Event(event)) if matches!(event.kind.as_str(), "run.completed" | "run.failed" | "run.canceled") => {
                    Some(Progress::Ended)
                }
                Ok(Signal::Event(_)) => None,
                Err(_) => Some(Progress::Ended),
            })
            .boxed())
    }

    async fn answer(&self, caller: &Caller, run: RunId) -> Result<Option<String>> {
        let run = self.runs.get(caller, run).await?;
        Ok(match (run.output, run.error) {
            (Some(output), _) => Some(output),
            (None, Some(error)) => Some(match error.code.as_str() {
                "timeout" => "Sorry, the request timed out. Please try again.".to_owned(),
                "internal_error" => "Internal error processing your message".to_owned(),
                _ => format!("Error processing your message: {}", error.message),
            }),
            (None, None) if run.status == RunStatus::Canceled => Some("The request was canceled.".to_owned()),
            (None, None) => None,
        })
    }

    async fn unfinished(&self, caller: &Caller) -> Result<Vec<Run>> {
        let mut runs = self.runs.latest(caller, PAGE).await?;
        runs.retain(|run| !run.status.is_final());
        Ok(runs)
    }

    async fn cancel(&self, caller: &Caller, run: RunId) -> Result<()> {
        self.runs.cancel(caller, run).await.map(drop)
    }

    async fn quota(&self, caller: &Caller) -> Result<Quota> {
        self.runs.quota(caller).await
    }

    async fn due(&self, after: Uuid, limit: u32) -> Result<Vec<Reply>> {
        let stored = self.replies.due(after, limit).await?;
        let (mut due, mut unreadable) = (Vec::with_capacity(stored.len()), Vec::new());
        for reply in stored {
            let (from, to) = (jid::Jid::new(&reply.to.from), jid::BareJid::new(&reply.to.to));
            let (Ok(from), Ok(to)) = (from, to) else {
                tracing::error!(reply = %reply.id, "a stored reply has addresses that are none; it is given up");
                unreadable.push(reply.id);
                continue;
            };
            due.push(Reply {
                id: reply.id,
                stanza_id: reply.run.to_string(),
                run: Some(RunId(reply.run)),
                envelope: Envelope { from: voice(&from), to, thread: reply.to.thread, reference: reply.to.stanza_id },
                body: reply.text,
            });
        }
        self.replies.confirm(unreadable).await?;
        Ok(due)
    }

    async fn confirm(&self, replies: Vec<Uuid>) -> Result<()> {
        self.replies.confirm(replies).await
    }

    async fn replies_changed(&self) {
        self.replies.news().await;
    }

    async fn subscribe(&self, agent: &AgentCard, subscriber: &BareJid) -> Result<()> {
        self.contacts.add(AgentId(agent.id), subscriber.as_str()).await
    }

    async fn unsubscribe(&self, agent: &AgentCard, subscriber: &BareJid) -> Result<()> {
        self.contacts.remove(AgentId(agent.id), subscriber.as_str()).await
    }

    async fn narrowed(&self) -> Vec<AgentId> {
        self.agents.narrowed().await
    }

    async fn lost(&self, of: Option<AgentId>, pages: mpsc::Sender<Vec<Lost>>) -> Result<()> {
        let mut after = of.map(|agent| (agent, String::new()));
        // Sorted by agent: one at a time is enough. With it, whether it is public.
        let mut known: Option<(AgentId, bool)> = None;
        loop {
            let mut page = self.contacts.page(after.take(), PAGE).await?;
            let read = page.last().cloned();
            page.retain(|(agent, _)| of.is_none_or(|of| of == *agent));
            let mut lost = Vec::new();
            for (id, subscriber) in page {
                if known.is_none_or(|(agent, _)| agent != id) {
                    known = Some((id, self.agents.card_by_id(id).await.is_ok_and(|card| card.visibility == Visibility::Public)));
                }
                let Ok(subscriber) = subscriber.parse::<BareJid>() else { continue };
                // Everybody may use a public agent; there is nobody to be asked for.
                if !known.is_some_and(|(_, public)| public) && !self.may_use(&subscriber, id).await? {
                    lost.push(Lost { id, agent: self.agents.addresses(id).await?, subscriber });
                }
            }
            let more = read.as_ref().is_some_and(|(agent, _)| of.is_none_or(|of| of == *agent));
            if (!lost.is_empty() && pages.send(lost).await.is_err()) || !more {
                return Ok(());
            }
            after = read;
        }
    }

    async fn forget(&self, lost: &Lost) -> Result<()> {
        self.contacts.remove(lost.id, lost.subscriber.as_str()).await
    }

    async fn agent_of(&self, address: &BareJid) -> Result<AgentId> {
        self.agents.id_of(&AgentRef::Jid(address.clone())).await
    }

    async fn record_denied(&self, stranger: &BareJid, agent: AgentId) -> Result<()> {
        self.agents.record_denied(stranger, agent).await
    }

    async fn contacts(&self, pages: mpsc::Sender<Vec<Contact>>) -> Result<()> {
        let mut after = None;
        let mut known: Option<AgentCard> = None;
        loop {
            let page = self.contacts.page(after.take(), PAGE).await?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            let mut contacts = Vec::with_capacity(page.len());
            for (agent, subscriber) in page {
                // Sorted by agent: one card at a time is enough.
                if known.as_ref().is_none_or(|card| card.id != agent.uuid()) {
                    known = self.agents.card_by_id(agent).await.ok();
                }
                if let (Some(card), Ok(subscriber)) = (&known, subscriber.parse()) {
                    contacts.push(contact(card, subscriber));
                }
            }
            if pages.send(contacts).await.is_err() {
                return Ok(());
            }
            after = Some(last);
        }
    }
}

impl UseCases {
    async fn may_use(&self, subscriber: &BareJid, agent: AgentId) -> Result<bool> {
        let access = match self.caller(subscriber).await {
            Ok(caller) => self.agents.card(&caller, &AgentRef::Id(agent)).await.map(drop),
            Err(error) => Err(error),
        };
        match access {
            Ok(()) => Ok(true),
            Err(Error::NotFound(_) | Error::Unauthenticated(_) | Error::Forbidden { .. }) => Ok(false),
            // Not known at the moment is not lost.
            Err(error) => Err(error),
        }
    }
}

fn contact(card: &AgentCard, subscriber: BareJid) -> Contact {
    let handle = card.handle.as_ref().map(|handle| format!("{handle}@agents.{}", card.domain));
    let agent = [Some(card.jid.clone()), handle].into_iter().flatten().filter_map(|address| address.parse().ok()).collect();
    Contact { agent, face: Face::of(card), subscriber }
}

/// Key of a message at its agent. The text belongs to it: another text under a used id is another message.
fn key(stanza_id: &str, body: &str) -> String {
    let digest = hash_caps(format!("{stanza_id}\0{body}").as_bytes(), Algo::Sha_256).map(|hash| hash.hash).unwrap_or_default();
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("xmpp:{hex}")
}

fn now() -> Ts {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ts::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_and_differ_by_id_and_text() {
        let long = key(&"x".repeat(10_000), "body");
        assert!(long.len() < 64);
        assert_eq!(key("1", "hello"), key("1", "hello"));
        assert_ne!(key("1", "hello"), key("1", "hello!"));
        assert_ne!(key("1", "hello"), key("2", "hello"));
    }
}
