//! Requests: every `get` and `set` has an answer, no `result` and no `error` ever has (RFC 6120 section 8.2.3).

use std::sync::Arc;

use aiox_core::{Caller, Error};
use aiox_model::agent::AgentCard;
use xmpp_parsers::{minidom::Element, ns};

use super::{Door, adhoc};
use crate::{
    disco::{self, Face, NS_COMMANDS},
    fault::Fault,
    hub::Hub,
    link::Stanza,
    stanza,
};

impl<H: Hub> Door<H> {
    pub(super) async fn iq(self: &Arc<Self>, stanza: &Stanza) {
        let set = match stanza.type_.as_deref() {
            Some("result") => {
                if let Some(id) = &stanza.id {
                    self.clients(|clients| clients.answered(&stanza.from, id, &stanza.element));
                }
                return;
            }
            Some("error") => return,
            Some("get") => false,
            Some("set") => true,
            _ => return self.refuse(stanza, &stanza::bad_request()).await,
        };
        let Some(id) = stanza.id.as_deref() else { return self.refuse(stanza, &stanza::bad_request()).await };
        let mut children = stanza.element.children();
        let (Some(payload), None) = (children.next(), children.next()) else {
            return self.refuse(stanza, &stanza::bad_request()).await;
        };
        let answer = if stanza.to.node().is_none() { self.domain_iq(payload, set) } else { self.agent_iq(stanza, payload, set).await };
        match answer {
            Ok(payload) => self.send(&stanza::iq_result(&stanza.from, &stanza.to, id, payload)).await,
            Err(fault) => self.refuse(stanza, &fault).await,
        }
    }

    fn domain_iq(&self, payload: &Element, set: bool) -> Result<Option<Element>, Fault> {
        let node = payload.attr::<str>("node");
        match (payload.name(), payload.ns().as_str()) {
            ("ping", ns::PING) if !set => Ok(None),
            ("query", ns::DISCO_INFO) if !set => Ok(Some(disco::domain_info(node))),
            // Which agents exist is nobody's business; those who may use one know its address.
            ("query", ns::DISCO_ITEMS) if !set => Ok(Some(disco::items(node, &[]))),
            ("query", ns::VERSION) if !set => Ok(Some(disco::version())),
            _ => Err(Fault::unsupported()),
        }
    }

    async fn agent_iq(self: &Arc<Self>, stanza: &Stanza, payload: &Element, set: bool) -> Result<Option<Element>, Fault> {
        let (caller, card) = self.entitled(stanza).await.map_err(|error| Fault::from(&error))?;
        let face = Face::of(&card);
        let address = stanza.to.to_bare();
        let node = payload.attr::<str>("node");
        match (payload.name(), payload.ns().as_str()) {
            ("ping", ns::PING) if !set => Ok(None),
            ("query", ns::DISCO_INFO) if !set => Ok(Some(match node.and_then(adhoc::Command::of_node) {
                Some(command) => disco::command_info(command.title(), command.node()),
                None => disco::agent_info(&face, node),
            })),
            ("query", ns::DISCO_ITEMS) if !set => {
                let commands =
                    adhoc::Command::ALL.map(|command| (address.to_string(), Some(command.node().to_owned()), command.title().to_owned()));
                let items: &[_] = if node == Some(NS_COMMANDS) { &commands } else { &[] };
                Ok(Some(disco::items(node, items)))
            }
            ("query", ns::VERSION) if !set => Ok(Some(disco::version())),
            ("vCard", ns::VCARD) if !set => Ok(Some(disco::vcard(&face, address.as_str()))),
            ("vcard", disco::NS_VCARD4) if !set => Ok(Some(disco::vcard4(&face, address.as_str()))),
            ("pubsub", ns::PUBSUB) if !set => disco::published(&face, address.as_str(), payload).map(Some).ok_or_else(Fault::unsupported),
            ("command", NS_COMMANDS) if set => self.command(&caller, payload).await.map(Some),
            _ => Err(Fault::unsupported()),
        }
    }

    /// The sender and the agent, if the sender may know that it exists.
    async fn entitled(self: &Arc<Self>, stanza: &Stanza) -> Result<(Caller, AgentCard), Error> {
        let (sender, agent) = self.parties(&stanza.from, &stanza.to).ok_or(Error::NotFound("agent"))?;
        let known = match self.hub.caller(&sender).await {
            Ok(caller) => self.hub.card(&caller, &agent).await.map(|card| (caller, card)),
            Err(error) => Err(error),
        };
        known.inspect_err(|error| self.denied(&sender, &agent, error))
    }
}
