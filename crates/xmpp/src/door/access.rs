//! Who is kept out: strangers, whose denials are recorded, and those who have lost access, whose subscriptions are withdrawn.

use std::{sync::Arc, time::Duration};

use aiox_core::Error;
use aiox_model::{AgentId, BareJid};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use xmpp_parsers::jid::Jid;

use super::Door;
use crate::{
    hub::{Hub, Lost},
    link::{Outbound, SendError},
    outgoing::voice,
    stanza,
};

/// Denials that are looked at in the background at once. Beyond it one goes unrecorded; the stranger's next attempt does not.
pub(super) const MAX_DENYING: usize = 64;
/// How often all subscriptions are looked through. An agent that is changed is looked at at once; other causes, for instance a peer
/// that is suspended or another replica, are found then. A minute is what the specification allows (XMP-020).
const LOOK_THROUGH: Duration = Duration::from_secs(45);

/// Whether an error says that the sender may not know of the agent.
pub(super) const fn is_denial(error: &Error) -> bool {
    matches!(error, Error::NotFound(_) | Error::Forbidden { .. } | Error::Unauthenticated(_))
}

impl<H: Hub> Door<H> {
    /// Counts a denial, and records it for the owner once per stranger, agent and hour. In the background and whether or not the agent
    /// exists, so that neither the answer nor its time tells the stranger anything.
    pub(super) fn denied(self: &Arc<Self>, stranger: &BareJid, address: &BareJid, error: &Error) {
        if !is_denial(error) {
            return;
        }
        metrics::counter!("aiox_xmpp_denied_total").increment(1);
        let Ok(place) = Arc::clone(&self.denying).try_acquire_owned() else { return };
        let (door, stranger, address) = (Arc::clone(self), stranger.clone(), address.clone());
        self.background.spawn(async move {
            let _place = place;
            let recorded = match door.hub.agent_of(&address).await {
                // Both addresses of an agent count as one.
                Ok(agent) if door.first_denial(&stranger, agent) => door.hub.record_denied(&stranger, agent).await,
                Ok(_) | Err(Error::NotFound(_)) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = recorded {
                tracing::warn!(%stranger, %address, error = error.chain(), "a denial could not be recorded");
            }
        });
    }

    /// Keeps the subscribers of one connection up to date: takes leave of those who have lost access, greets the others, and goes on
    /// with those who lose it later.
    pub(super) async fn present(&self, outbound: &Outbound) {
        let mut look_through = interval(LOOK_THROUGH);
        look_through.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look_through.tick().await;
        self.withdraw(None, outbound).await;
        self.announce(outbound, None).await;
        loop {
            tokio::select! {
                agents = self.hub.narrowed() => for agent in agents {
                    self.withdraw(Some(agent), outbound).await;
                },
                _ = look_through.tick() => self.withdraw(None, outbound).await,
            }
        }
    }

    /// Ends the subscriptions of those who may no longer use `agent`, or any agent.
    async fn withdraw(&self, agent: Option<AgentId>, outbound: &Outbound) {
        let (pages, mut lost) = mpsc::channel::<Vec<Lost>>(1);
        let reading = self.hub.lost(agent, pages);
        let telling = async {
            while let Some(page) = lost.recv().await {
                for one in page {
                    if self.take_leave(&one, outbound).await.is_err() {
                        return;
                    }
                }
            }
        };
        if let (Err(error), ()) = tokio::join!(reading, telling) {
            tracing::warn!(
                error = error.chain(),
                "the subscriptions of those who lost access cannot be read; they are looked at again later"
            );
        }
    }

    async fn take_leave(&self, lost: &Lost, outbound: &Outbound) -> Result<(), SendError> {
        let Ok(user) = Jid::new(lost.subscriber.as_str()) else { return Ok(()) };
        for address in lost.agent.iter().filter_map(|address| Jid::new(address.as_str()).ok()) {
            outbound.send(&stanza::presence(&voice(&address), &user, Some("unavailable"))).await?;
            outbound.send(&stanza::presence(&address, &user, Some("unsubscribed"))).await?;
        }
        match self.hub.forget(lost).await {
            Ok(()) => {
                tracing::info!(subscriber = %lost.subscriber, agent = %lost.id, "a subscription ended: its holder may no longer use the agent")
            }
            Err(error) => {
                tracing::warn!(subscriber = %lost.subscriber, error = error.chain(), "an ended subscription could not be removed")
            }
        }
        Ok(())
    }

    fn first_denial(&self, stranger: &BareJid, agent: AgentId) -> bool {
        let mut denials = self.denials.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        denials.first(stranger.as_str(), &agent.to_string(), Instant::now())
    }
}
