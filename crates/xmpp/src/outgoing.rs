//! The messages an agent sends.
//!
//! All of them go from one constant full JID of the agent (`.../aiox`) to the **bare** JID of the user, so that the user's server
//! delivers to every device, archives and copies, and so that corrections are valid. (The predecessor wrote from the bare to a
//! full JID; a client that had moved on lost the answer.) Only acknowledgements go to the device that asked for them.

use xmpp_parsers::{
    jid::{BareJid, Jid},
    minidom::Element,
    ns,
};

use crate::{
    incoming::{Asked, NS_CHAT_MARKERS, NS_HINTS, NS_REPLY},
    stanza, text,
};

/// The resource of every agent.
pub(crate) const RESOURCE: &str = "aiox";

/// The full JID an agent speaks from, for the address by which its user knows it.
pub(crate) fn voice(address: &Jid) -> Jid {
    let bare = address.to_bare();
    bare.with_resource_str(RESOURCE).map_or_else(|_| bare.into(), Jid::from)
}

/// What an answer must carry over from its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// The agent's address as the user wrote it, with our resource.
    pub(crate) from: Jid,
    /// The user.
    pub(crate) to: BareJid,
    pub(crate) thread: Option<String>,
    pub(crate) reference: Option<String>,
}

impl Envelope {
    pub(crate) fn of(asked: &Asked) -> Self {
        Self { from: voice(&asked.to), to: asked.from.to_bare(), thread: asked.thread.clone(), reference: asked.reference.clone() }
    }

    /// A message with the addresses, id and thread.
    fn message(&self, id: &str) -> Element {
        let mut message = stanza::chat(&self.from, &self.to.clone().into(), id);
        if let Some(thread) = &self.thread {
            message.append_child(stanza::with_text("thread", crate::stanza::NS_COMPONENT, thread));
        }
        message
    }

    fn with_body(&self, id: &str, body: &str) -> Element {
        let mut message = self.message(id);
        message.append_child(stanza::with_text("body", crate::stanza::NS_COMPONENT, body));
        message.append_child(stanza::leaf("origin-id", ns::SID, &[("id", id)]));
        message
    }

    fn refer(&self, message: &mut Element) {
        if let Some(reference) = &self.reference {
            message.append_child(stanza::leaf("reply", NS_REPLY, &[("to", self.to.as_str()), ("id", reference)]));
        }
    }

    /// The whole answer: one message, or more when it is too long for one. The ids follow from `id`, so that sending it again
    /// sends the same stanzas. `replaces` is the id of a live message that the first one completes (XEP-0308).
    pub(crate) fn answer(&self, id: &str, body: &str, replaces: Option<&str>) -> Vec<Element> {
        let parts = text::split(body, text::MAX_BODY_BYTES);
        let last = parts.len() - 1;
        let build = |(index, part): (usize, &&str)| {
            let part_id = if index == 0 { id.to_owned() } else { format!("{id}.{}", index + 1) };
            let mut message = self.with_body(&part_id, part);
            if index == 0 {
                match replaces {
                    Some(first) => {
                        message.append_child(stanza::leaf("replace", ns::MESSAGE_CORRECT, &[("id", first)]));
                    }
                    None => self.refer(&mut message),
                }
            }
            message.append_child(stanza::leaf("store", NS_HINTS, &[]));
            let state = if index == last { "active" } else { "composing" };
            message.append_child(stanza::leaf(state, ns::CHATSTATES, &[]));
            message
        };
        parts.iter().enumerate().map(build).collect()
    }

    /// The first piece of a live answer.
    pub(crate) fn live_start(&self, id: &str, body: &str) -> Element {
        let mut message = self.with_body(id, body);
        self.refer(&mut message);
        message.append_child(stanza::leaf("composing", ns::CHATSTATES, &[]));
        message
    }

    /// A longer state of a live answer. It always corrects the first message (XEP-0308 section 5), and no archive keeps it.
    pub(crate) fn live_more(&self, id: &str, first: &str, body: &str) -> Element {
        let mut message = self.with_body(id, body);
        message.append_child(stanza::leaf("replace", ns::MESSAGE_CORRECT, &[("id", first)]));
        message.append_child(stanza::leaf("no-store", NS_HINTS, &[]));
        message.append_child(stanza::leaf("no-permanent-store", NS_HINTS, &[]));
        message.append_child(stanza::leaf("composing", ns::CHATSTATES, &[]));
        message
    }

    /// A chat state alone: `composing`, `active`, `paused`.
    pub(crate) fn state(&self, state: &str) -> Element {
        let mut message = self.message(&stanza::fresh_id());
        message.append_child(stanza::leaf(state, ns::CHATSTATES, &[]));
        message.append_child(stanza::leaf("no-store", NS_HINTS, &[]));
        message
    }

    /// A text of the hub itself, for instance help or a refusal in words.
    pub(crate) fn notice(&self, body: &str) -> Element {
        let mut message = self.with_body(&stanza::fresh_id(), body);
        self.refer(&mut message);
        message.append_child(stanza::leaf("active", ns::CHATSTATES, &[]));
        message
    }
}

/// The acknowledgements the sender's client asked for: XEP-0184 and XEP-0333, to that device.
pub(crate) fn acknowledgements(asked: &Asked) -> Option<Element> {
    let id = asked.id.as_deref()?;
    if !asked.wants_receipt && !asked.markable {
        return None;
    }
    let mut message = stanza::chat(&voice(&asked.to), &asked.from, &stanza::fresh_id());
    if asked.wants_receipt {
        message.append_child(stanza::leaf("received", ns::RECEIPTS, &[("id", id)]));
    }
    if asked.markable {
        message.append_child(stanza::leaf("displayed", NS_CHAT_MARKERS, &[("id", id)]));
    }
    message.append_child(stanza::leaf("store", NS_HINTS, &[]));
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            from: voice(&Jid::new("bot@agents.a.example").unwrap()),
            to: BareJid::new("u@a.example").unwrap(),
            thread: Some("t1".into()),
            reference: Some("m1".into()),
        }
    }
    fn attr<'a>(element: &'a Element, name: &'a str) -> &'a str {
        element.attr::<str>(name).unwrap()
    }

    #[test]
    fn an_answer_goes_from_the_one_full_jid_to_the_bare_one_with_thread_and_reference() {
        let all = envelope().answer("r1", "hello", None);
        assert_eq!(all.len(), 1);
        let message = &all[0];
        assert_eq!((attr(message, "from"), attr(message, "to")), ("bot@agents.a.example/aiox", "u@a.example"));
        assert_eq!((attr(message, "id"), attr(message, "type")), ("r1", "chat"));
        assert_eq!(message.get_child("thread", crate::stanza::NS_COMPONENT).unwrap().text(), "t1");
        assert_eq!(attr(message.get_child("reply", NS_REPLY).unwrap(), "id"), "m1");
        assert!(message.has_child("active", ns::CHATSTATES));
    }

    #[test]
    fn a_long_answer_is_cut_into_stanzas_with_stable_ids() {
        let long = "word & ".repeat(60_000);
        let first = envelope().answer("r1", &long, Some("live"));
        assert!(first.len() > 1);
        assert_eq!(first, envelope().answer("r1", &long, Some("live")));
        let body = |m: &Element| m.get_child("body", crate::stanza::NS_COMPONENT).unwrap().text();
        assert_eq!(first.iter().map(body).collect::<String>(), long);
        assert_eq!(attr(&first[1], "id"), "r1.2");
        assert!(first[0].has_child("replace", ns::MESSAGE_CORRECT) && !first[1].has_child("replace", ns::MESSAGE_CORRECT));
        for message in &first {
            let mut bytes = Vec::new();
            message.write_to(&mut bytes).unwrap();
            assert!(bytes.len() < 200 * 1024);
        }
    }

    #[test]
    fn every_correction_points_to_the_first_message_and_is_not_archived() {
        let more = envelope().live_more("c2", "c0", "longer");
        assert_eq!(attr(more.get_child("replace", ns::MESSAGE_CORRECT).unwrap(), "id"), "c0");
        assert!(more.has_child("no-store", NS_HINTS));
        assert_ne!(attr(&more, "id"), "c0");
    }
}
