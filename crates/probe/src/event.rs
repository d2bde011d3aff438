//! What comes in on a session.

use crate::{error::StanzaError, names, xml::Element};

/// One thing that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message, with or without a body.
    Message(Message),
    /// Presence, or something about a subscription.
    Presence(Presence),
    /// Any other stanza, for example an IQ that nobody awaits.
    Other(Element),
}

/// A message stanza (RFC 6121 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The sender's address; empty when the server left it out, which stands for the own account.
    pub from: String,
    /// The stanza's id.
    pub id: Option<String>,
    /// The type.
    pub kind: MessageKind,
    /// The text; `None` for a message without a body.
    pub body: Option<String>,
    /// The conversation (RFC 6121 section 5.2.5).
    pub thread: Option<String>,
    /// XEP-0085.
    pub chat_state: Option<ChatState>,
    /// The id of the message whose arrival this one confirms (XEP-0184).
    pub receipt_for: Option<String>,
    /// The id of the message that this one replaces (XEP-0308).
    pub replace_for: Option<String>,
    /// The content of a message of type `error`.
    pub error: Option<StanzaError>,
    /// The whole stanza, for what is not named here.
    pub stanza: Element,
}

/// The type of a message (RFC 6121 section 5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// No type, or one that is not known.
    Normal,
    /// One to one.
    Chat,
    /// In a room.
    Groupchat,
    /// News.
    Headline,
    /// A message could not be delivered.
    Error,
}

/// What the other side is doing (XEP-0085).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatState {
    /// Attends to the conversation; what is said is said.
    Active,
    /// Is writing.
    Composing,
    /// Has stopped writing for now.
    Paused,
    /// Attends to something else.
    Inactive,
    /// Has left.
    Gone,
}

/// A presence stanza (RFC 6121 sections 3 and 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The sender's address; empty when the server left it out.
    pub from: String,
    /// The type.
    pub kind: PresenceKind,
    /// `away`, `chat`, `dnd` or `xa`; `None` is plainly available.
    pub show: Option<String>,
}

/// The type of a presence (RFC 6121 section 4.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceKind {
    /// No type: available.
    Available,
    /// Not, or no longer, available.
    Unavailable,
    /// Asks to see the own presence.
    Subscribe,
    /// Lets the own account see its presence.
    Subscribed,
    /// No longer wants to see the own presence.
    Unsubscribe,
    /// Does not, or no longer, let the own account see its presence.
    Unsubscribed,
    /// The server asks for presence.
    Probe,
    /// Could not be delivered, or a type that is not known.
    Error,
}

impl Event {
    pub(crate) fn of(stanza: Element) -> Self {
        if stanza.is("message", names::CLIENT) {
            Self::Message(message(stanza))
        } else if stanza.is("presence", names::CLIENT) {
            Self::Presence(presence(&stanza))
        } else {
            Self::Other(stanza)
        }
    }
}

fn message(stanza: Element) -> Message {
    let kind = match stanza.attr("type") {
        Some("chat") => MessageKind::Chat,
        Some("groupchat") => MessageKind::Groupchat,
        Some("headline") => MessageKind::Headline,
        Some("error") => MessageKind::Error,
        _ => MessageKind::Normal,
    };
    let text = |name| stanza.child(name, names::CLIENT).map(Element::text);
    let id_in = |name, ns| stanza.child(name, ns).and_then(|child| child.attr("id")).map(str::to_owned);
    let chat_state = stanza.children().filter(|child| child.ns() == names::CHAT_STATES).find_map(|child| match child.name() {
        "active" => Some(ChatState::Active),
        "composing" => Some(ChatState::Composing),
        "paused" => Some(ChatState::Paused),
        "inactive" => Some(ChatState::Inactive),
        "gone" => Some(ChatState::Gone),
        _ => None,
    });
    Message {
        from: stanza.attr("from").unwrap_or_default().to_owned(),
        id: stanza.attr("id").map(str::to_owned),
        kind,
        body: text("body"),
        thread: text("thread"),
        chat_state,
        receipt_for: id_in("received", names::RECEIPTS),
        replace_for: id_in("replace", names::CORRECT),
        error: (kind == MessageKind::Error).then(|| StanzaError::of(&stanza)),
        stanza,
    }
}

fn presence(stanza: &Element) -> Presence {
    let kind = match stanza.attr("type") {
        None => PresenceKind::Available,
        Some("unavailable") => PresenceKind::Unavailable,
        Some("subscribe") => PresenceKind::Subscribe,
        Some("subscribed") => PresenceKind::Subscribed,
        Some("unsubscribe") => PresenceKind::Unsubscribe,
        Some("unsubscribed") => PresenceKind::Unsubscribed,
        Some("probe") => PresenceKind::Probe,
        Some(_) => PresenceKind::Error,
    };
    Presence {
        from: stanza.attr("from").unwrap_or_default().to_owned(),
        kind,
        show: stanza.child("show", names::CLIENT).map(Element::text),
    }
}
