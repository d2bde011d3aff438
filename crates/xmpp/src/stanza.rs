//! Building stanzas. Every function is pure: facts in, element out.

use rxml::{Namespace, NcName};
use xmpp_parsers::{
    jid::Jid,
    minidom::Element,
    ns,
    stanza_error::{DefinedCondition, ErrorType},
};

use crate::{fault::Fault, text};

/// The namespace of everything on a component link (XEP-0114).
pub(crate) const NS_COMPONENT: &str = "jabber:component:accept";

/// Sets an attribute. `name` is always a literal of this crate; the value may come from anywhere.
pub(crate) fn set(element: &mut Element, name: &'static str, value: &str) {
    if let Ok(name) = NcName::try_from(name) {
        element.set_attr(Namespace::NONE, name, text::xml(value).as_ref());
    }
}

/// An empty element with attributes.
pub(crate) fn leaf(name: &str, namespace: &str, attributes: &[(&'static str, &str)]) -> Element {
    let mut element = Element::bare(name, namespace);
    for (name, value) in attributes {
        set(&mut element, name, value);
    }
    element
}

/// An element that holds text.
pub(crate) fn with_text(name: &str, namespace: &str, content: &str) -> Element {
    let mut element = Element::bare(name, namespace);
    element.append_text(text::xml(content).as_ref());
    element
}

fn stanza(name: &str, from: &str, to: &str, type_: Option<&str>, id: Option<&str>) -> Element {
    let mut element = leaf(name, NS_COMPONENT, &[("from", from), ("to", to)]);
    if let Some(type_) = type_ {
        set(&mut element, "type", type_);
    }
    if let Some(id) = id {
        set(&mut element, "id", id);
    }
    element
}

/// A stanza id that was never used before.
pub(crate) fn fresh_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// XEP-0199.
pub(crate) fn ping(from: &str, to: &str, id: &str) -> Element {
    let mut iq = stanza("iq", from, to, Some("get"), Some(id));
    iq.append_child(Element::bare("ping", ns::PING));
    iq
}

/// An IQ request of ours.
pub(crate) fn iq_get(from: &Jid, to: &Jid, id: &str, payload: Element) -> Element {
    let mut iq = stanza("iq", from.as_str(), to.as_str(), Some("get"), Some(id));
    iq.append_child(payload);
    iq
}

/// The answer to an IQ request that went from `from` to `to`.
pub(crate) fn iq_result(from: &Jid, to: &Jid, id: &str, payload: Option<Element>) -> Element {
    let mut iq = stanza("iq", to.as_str(), from.as_str(), Some("result"), Some(id));
    if let Some(payload) = payload {
        iq.append_child(payload);
    }
    iq
}

/// The error answer to a stanza that went from `from` to `to`. The addresses are raw: they may belong to a refused stanza.
pub(crate) fn error(name: &str, from: &str, to: &str, id: Option<&str>, fault: &Fault) -> Element {
    let mut stanza = stanza(name, to, from, Some("error"), id);
    let type_ = match fault.type_ {
        ErrorType::Auth => "auth",
        ErrorType::Cancel => "cancel",
        ErrorType::Continue => "continue",
        ErrorType::Modify => "modify",
        ErrorType::Wait => "wait",
    };
    let mut error = leaf("error", NS_COMPONENT, &[("type", type_)]);
    error.append_child(Element::from(fault.condition.clone()));
    if !fault.text.is_empty() {
        error.append_child(with_text("text", ns::XMPP_STANZAS, &fault.text));
    }
    stanza.append_child(error);
    stanza
}

/// A presence of a given type (`None` = available).
pub(crate) fn presence(from: &Jid, to: &Jid, type_: Option<&str>) -> Element {
    stanza("presence", from.as_str(), to.as_str(), type_, None)
}

/// A chat message without children.
pub(crate) fn chat(from: &Jid, to: &Jid, id: &str) -> Element {
    stanza("message", from.as_str(), to.as_str(), Some("chat"), Some(id))
}

/// The error for a stanza that hurt a bound.
pub(crate) fn bad_request() -> Fault {
    Fault { type_: ErrorType::Modify, condition: DefinedCondition::BadRequest, text: String::new() }
}
