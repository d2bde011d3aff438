//! Presence of agents: shown to those who may use them, and to nobody else (RFC 6121 sections 3 and 4).
//!
//! The door never subscribes to users. A refusal looks the same whether the agent is private or does not exist.

use std::sync::Arc;

use tokio::sync::mpsc;
use xmpp_parsers::jid::Jid;

use super::{Door, access::is_denial};
use crate::{
    disco::{self, Face},
    hub::{Contact, Hub},
    link::{Outbound, Stanza},
    outgoing::voice,
    stanza,
};

impl<H: Hub> Door<H> {
    pub(super) async fn presence(self: &Arc<Self>, stanza: &Stanza) {
        let kind = stanza.type_.as_deref();
        // Everything else is the presence of users, which is none of our business, or an answer to ours.
        if !matches!(kind, Some("subscribe" | "unsubscribe" | "probe")) {
            return;
        }
        let Some((sender, agent)) = self.parties(&stanza.from, &stanza.to) else { return };
        let user = Jid::from(stanza.from.to_bare());
        let (bare, full) = (Jid::from(stanza.to.to_bare()), voice(&stanza.to));
        let card = match self.hub.caller(&sender).await {
            Ok(caller) => self.hub.card(&caller, &agent).await,
            Err(error) => Err(error),
        };
        let card = match card {
            Ok(card) => card,
            Err(error) => {
                self.denied(&sender, &agent, &error);
                if kind == Some("subscribe") && is_denial(&error) {
                    self.send(&stanza::presence(&bare, &user, Some("unsubscribed"))).await;
                }
                // A probe is never answered with `unsubscribed`: the user's server would end a subscription that may only
                // be unreadable for the moment.
                return;
            }
        };
        let face = Face::of(&card);
        match kind {
            Some("subscribe") => {
                if let Err(error) = self.hub.subscribe(&card, &sender).await {
                    tracing::error!(error = error.chain(), "a subscription could not be kept");
                    return;
                }
                self.send(&stanza::presence(&bare, &user, Some("subscribed"))).await;
                self.send(&available(&full, &user, &face)).await;
            }
            Some("unsubscribe") => {
                if let Err(error) = self.hub.unsubscribe(&card, &sender).await {
                    tracing::error!(error = error.chain(), "a subscription could not be removed");
                    return;
                }
                self.send(&stanza::presence(&bare, &user, Some("unsubscribed"))).await;
                self.send(&stanza::presence(&full, &user, Some("unavailable"))).await;
            }
            _ => self.send(&available(&full, &stanza.from, &face)).await,
        }
    }

    /// Tells everybody who sees an agent's presence: `None` = available. Servers do this for users, not for components.
    pub(super) async fn announce(&self, outbound: &Outbound, type_: Option<&str>) {
        let (pages, mut contacts) = mpsc::channel::<Vec<Contact>>(1);
        let reading = self.hub.contacts(pages);
        let telling = async {
            while let Some(page) = contacts.recv().await {
                for contact in page {
                    let Ok(user) = Jid::new(contact.subscriber.as_str()) else { continue };
                    for agent in contact.agent.iter().filter_map(|agent| Jid::new(agent.as_str()).ok()) {
                        let presence = match type_ {
                            None => available(&voice(&agent), &user, &contact.face),
                            Some(type_) => stanza::presence(&voice(&agent), &user, Some(type_)),
                        };
                        if outbound.send(&presence).await == Err(crate::link::SendError::Down) {
                            return;
                        }
                    }
                }
            }
        };
        if let (Err(error), ()) = tokio::join!(reading, telling) {
            tracing::warn!(error = error.chain(), "the contacts of the agents could not be read");
        }
    }
}

fn available(from: &Jid, to: &Jid, face: &Face) -> xmpp_parsers::minidom::Element {
    let mut presence = stanza::presence(from, to, None);
    for payload in disco::presence_payload(face) {
        presence.append_child(payload);
    }
    presence
}
