//! Messages to agents.

use std::sync::Arc;

use aiox_core::{Caller, Error};
use tokio::time::Instant;

use super::{Door, adhoc};
use crate::{
    fault::Fault,
    guard::{Verdict, Why},
    hub::{Hub, Question},
    incoming::{self, Asked, Incoming},
    link::Stanza,
    outgoing::{Envelope, acknowledgements},
    stanza,
};
use xmpp_parsers::{minidom::Element, ns};

const NOT_ENCRYPTED: &str =
    "This agent cannot read encrypted messages. Please switch encryption off for this chat and send your message again.";

impl<H: Hub> Door<H> {
    pub(super) async fn message(self: Arc<Self>, stanza: &Stanza) {
        let (asked, encrypted) = match incoming::read(stanza) {
            Incoming::Ignore(why) => return tracing::debug!(from = %stanza.from, why, "ignored a message"),
            Incoming::Bounce => {
                metrics::counter!("aiox_xmpp_bounced_total").increment(1);
                if let Some((user, _)) = self.parties(&stanza.from, &stanza.to) {
                    self.came_back(stanza, user);
                }
                return tracing::debug!(from = %stanza.from, id = stanza.id, "a message of ours came back");
            }
            Incoming::Refuse(fault) => return self.refuse(stanza, &fault).await,
            Incoming::Encrypted(asked) => (asked, true),
            Incoming::Prompt(asked) => (asked, false),
        };
        let Some((sender, agent)) = self.parties(&asked.from, &asked.to) else {
            return self.refuse(stanza, &Fault::no_agent()).await;
        };
        // Every hub keeps its agents in `agents.<domain>`: an agent that writes here answers what it gets.
        let bot = self.clients(|clients| clients.features(&asked.from)).service || asked.from.domain().as_str().starts_with("agents.");
        let now = Instant::now();
        let verdict = self.guard(|guard| guard.judge(sender.as_str(), agent.as_str(), &asked.body, bot, now));
        if let Verdict::Brake { why, first, wait } = verdict {
            metrics::counter!("aiox_xmpp_braked_total", "reason" => why.label()).increment(1);
            if first {
                tracing::warn!(%sender, %agent, reason = why.label(), wait_seconds = wait.as_secs_f64(), "messages are braked");
                // Our own text is not answered: whoever sent it back would do so again.
                if why != Why::Loop {
                    self.refuse(stanza, &Fault::too_fast(wait)).await;
                }
            }
            return;
        }
        let caller = match self.hub.caller(&sender).await {
            Ok(caller) => caller,
            Err(error) => return self.fail(stanza, &asked, &error).await,
        };
        let envelope = Envelope::of(&asked);
        let command = adhoc::Command::of_text(&asked.body);
        if !encrypted && command.is_none() {
            return self.ask(stanza, caller, &agent, asked, envelope).await;
        }
        // `submit` decides for prompts; what never becomes a run must not tell a stranger that the agent exists either.
        if let Err(error) = self.hub.card(&caller, &agent).await {
            return self.fail(stanza, &asked, &error).await;
        }
        let text = match command {
            Some(command) if !encrypted => self.command_text(&caller, command).await,
            _ => NOT_ENCRYPTED.to_owned(),
        };
        self.send(&envelope.notice(&text)).await;
    }

    async fn ask(self: Arc<Self>, stanza: &Stanza, caller: Caller, agent: &aiox_model::BareJid, asked: Asked, envelope: Envelope) {
        let question =
            Question { input: asked.body.clone(), stanza_id: asked.id.clone(), envelope: envelope.clone(), device: asked.from.clone() };
        let accepted = match self.hub.submit(&caller, agent, question).await {
            Ok(accepted) => accepted,
            Err(error) => return self.fail(stanza, &asked, &error).await,
        };
        // Also for a repeated message: its first acknowledgement may be what was lost.
        if let Some(acknowledgements) = acknowledgements(&asked) {
            self.send(&acknowledgements).await;
        }
        if !accepted.fresh {
            return self.asked_again(&caller, accepted.run, &envelope, &asked.from).await;
        }
        self.answers.asked(accepted.run, &envelope, &asked.from);
        self.announce_thinking(accepted.run, &envelope, asked.delayed).await;
        if let Some(id) = self.clients(|clients| clients.ask(&asked.from, Instant::now())) {
            let query = stanza::iq_get(&envelope.from, &asked.from, &id, Element::bare("query", ns::DISCO_INFO));
            self.send(&query).await;
        }
        let live = self.clients(|clients| clients.may_correct(&asked.from));
        if live && let Ok(place) = Arc::clone(&self.followed).try_acquire_owned() {
            let door = Arc::clone(&self);
            self.background.spawn(async move {
                let _place = place;
                door.follow(caller, accepted.run, envelope, asked.from).await;
            });
        }
    }

    async fn fail(self: &Arc<Self>, stanza: &Stanza, asked: &Asked, error: &Error) {
        let fault = Fault::from(error);
        if let Some((sender, agent)) = self.parties(&asked.from, &asked.to) {
            self.denied(&sender, &agent, error);
        }
        if matches!(error, Error::Internal(_) | Error::Corrupt { .. }) {
            tracing::error!(from = %asked.from, to = %asked.to, error = error.chain(), "a message could not be accepted");
        }
        self.refuse(stanza, &fault).await;
        // Some clients show a message error as a red mark without its text.
        if matches!(error, Error::Limited { .. }) {
            self.send(&Envelope::of(asked).notice(&fault.text)).await;
        }
    }
}
