//! What a message stanza means: a prompt, or one of the many things that must never become one.

use xmpp_parsers::{
    jid::Jid,
    minidom::{Element, NSChoice},
    ns,
};

use crate::{fault::Fault, link::Stanza, text};

use xmpp_parsers::stanza_error::{DefinedCondition as Condition, ErrorType};

pub(crate) const NS_CHAT_MARKERS: &str = "urn:xmpp:chat-markers:0";
pub(crate) const NS_HINTS: &str = "urn:xmpp:hints";
pub(crate) const NS_FALLBACK: &str = "urn:xmpp:fallback:0";
pub(crate) const NS_REPLY: &str = "urn:xmpp:reply:0";
pub(crate) const NS_RETRACT: &str = "urn:xmpp:message-retract:1";
const NS_RETRACT_OLD: &str = "urn:xmpp:message-retract:0";
const NS_FASTEN: &str = "urn:xmpp:fasten:0";
const NS_REACTIONS: &str = "urn:xmpp:reactions:0";
const NS_CONFERENCE: &str = "jabber:x:conference";
const NS_MUC_USER: &str = "http://jabber.org/protocol/muc#user";
const NS_OPENPGP_OLD: &str = "jabber:x:encrypted";
const NS_OPENPGP: &str = "urn:xmpp:openpgp:0";
const NS_OMEMO_OLD: &str = "eu.siacs.conversations.axolotl";
const NS_OMEMO: &str = "urn:xmpp:omemo:2";

/// What to do with a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    /// Nothing. The text says why, for the debug log.
    Ignore(&'static str),
    /// One of our own messages came back: undeliverable. Never answered.
    Bounce,
    /// Refuse it with a stanza error.
    Refuse(Fault),
    /// The body is only the fallback of an encrypted message: say that we cannot read it.
    Encrypted(Asked),
    /// A question for the agent.
    Prompt(Asked),
}

/// A question and what its sender's client expects around it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) from: Jid,
    /// The address as the sender wrote it, which is where the answer must come from.
    pub(crate) to: Jid,
    pub(crate) id: Option<String>,
    /// What an answer refers to (XEP-0461 section 3.1): the origin id, else the message id.
    pub(crate) reference: Option<String>,
    pub(crate) thread: Option<String>,
    pub(crate) body: String,
    /// XEP-0184 `<request/>`.
    pub(crate) wants_receipt: bool,
    /// XEP-0333 `<markable/>`.
    pub(crate) markable: bool,
    /// XEP-0203: it waited somewhere, so the sender is perhaps no longer looking.
    pub(crate) delayed: bool,
}

/// Reads a message stanza.
pub(crate) fn read(stanza: &Stanza) -> Incoming {
    let message = &stanza.element;
    match stanza.type_.as_deref() {
        Some("error") => return Incoming::Bounce,
        Some("headline") => return Incoming::Ignore("headline"),
        Some("groupchat") => {
            return Incoming::Refuse(Fault::new(ErrorType::Cancel, Condition::ServiceUnavailable, "Rooms are not supported"));
        }
        // RFC 6121 section 5.2.2: an unknown type is `normal`.
        _ => {}
    }
    let has = |name: &str, namespace: &str| message.has_child(name, namespace);
    let Some(body) = body(message) else { return Incoming::Ignore("no body") };
    if has("replace", ns::MESSAGE_CORRECT) {
        return Incoming::Ignore("correction of an earlier message");
    }
    if has("retract", NS_RETRACT) || has("retract", NS_RETRACT_OLD) || has("apply-to", NS_FASTEN) {
        return Incoming::Ignore("retraction");
    }
    if has("reactions", NS_REACTIONS) {
        return Incoming::Ignore("reaction");
    }
    if has("received", ns::RECEIPTS) || has("displayed", NS_CHAT_MARKERS) {
        return Incoming::Ignore("receipt");
    }
    if has("x", NS_CONFERENCE) || has("x", NS_MUC_USER) {
        return Incoming::Refuse(Fault::new(ErrorType::Cancel, Condition::ServiceUnavailable, "Rooms are not supported"));
    }
    let read = without_quote(message, &body);
    let asked = Asked {
        from: stanza.from.clone(),
        to: stanza.to.clone(),
        id: stanza.id.clone(),
        reference: origin_id(message).or_else(|| stanza.id.clone()),
        thread: child(message, "thread", NSChoice::Any).map(Element::text).filter(|text| !text.is_empty()),
        body: read.trim().to_owned(),
        wants_receipt: has("request", ns::RECEIPTS),
        markable: has("markable", NS_CHAT_MARKERS),
        delayed: has("delay", ns::DELAY),
    };
    let encrypted = has("encryption", ns::EME)
        || has("encrypted", NS_OMEMO_OLD)
        || has("encrypted", NS_OMEMO)
        || has("x", NS_OPENPGP_OLD)
        || has("openpgp", NS_OPENPGP)
        || asked.body.starts_with("?OTR")
        || asked.body.starts_with("aesgcm://");
    if encrypted {
        Incoming::Encrypted(asked)
    } else if asked.body.is_empty() {
        Incoming::Ignore("only a quote")
    } else {
        Incoming::Prompt(asked)
    }
}

fn child<'a>(element: &'a Element, name: &str, namespace: NSChoice<'static>) -> Option<&'a Element> {
    element.get_child(name, namespace)
}

/// The body without a language, else the first one. Empty bodies are none.
fn body(message: &Element) -> Option<String> {
    let bodies = || message.children().filter(|child| child.is("body", crate::stanza::NS_COMPONENT));
    let plain = bodies().find(|body| body.attrs().iter().all(|((_, name), _)| name.as_str() != "lang"));
    plain.or_else(|| bodies().next()).map(Element::text).filter(|text| !text.trim().is_empty())
}

fn origin_id(message: &Element) -> Option<String> {
    child(message, "origin-id", NSChoice::OneOf(ns::SID)).and_then(|id| id.attr("id")).filter(|id| !id.is_empty()).map(str::to_owned)
}

/// XEP-0461: the quoted part at the head of a reply is for clients that know no replies. A model needs only what is new.
fn without_quote(message: &Element, body: &str) -> String {
    if !message.has_child("reply", NS_REPLY) {
        return body.to_owned();
    }
    let ranges: Vec<(usize, usize)> = message
        .children()
        .filter(|child| child.is("fallback", NS_FALLBACK) && child.attr("for") == Some(NS_REPLY))
        .flat_map(Element::children)
        .filter(|child| child.name() == "body")
        .map(|range| {
            let number = |name| range.attr::<str>(name).and_then(|text| text.parse().ok());
            (number("start").unwrap_or(0), number("end").unwrap_or(usize::MAX))
        })
        .take(8)
        .collect();
    text::without(body, &ranges)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{link::Kind, stanza::NS_COMPONENT};

    /// A stanza as it would come from the link.
    pub(crate) fn stanza(xml: &str) -> Stanza {
        let element: Element = xml.replacen(' ', &format!(" xmlns='{NS_COMPONENT}' "), 1).parse().unwrap();
        let kind = match element.name() {
            "message" => Kind::Message,
            "presence" => Kind::Presence,
            _ => Kind::Iq,
        };
        let read = |name: &str| element.attr::<str>(name).map(str::to_owned);
        Stanza {
            kind,
            from: Jid::new(&read("from").unwrap()).unwrap(),
            to: Jid::new(&read("to").unwrap()).unwrap(),
            id: read("id"),
            type_: read("type"),
            cost: xml.len(),
            element,
        }
    }

    fn message(attributes: &str, children: &str) -> Incoming {
        read(&stanza(&format!("<message from='u@a.example/dino' to='bot@agents.a.example' {attributes}>{children}</message>")))
    }

    fn prompt(attributes: &str, children: &str) -> Asked {
        match message(attributes, children) {
            Incoming::Prompt(asked) => asked,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_message_is_a_prompt_with_all_that_its_client_expects() {
        let asked = prompt(
            "type='chat' id='m1'",
            "<body> Hello </body><thread>t1</thread><request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>\
             <origin-id xmlns='urn:xmpp:sid:0' id='o1'/><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>",
        );
        assert_eq!((asked.body.as_str(), asked.id.as_deref(), asked.reference.as_deref()), ("Hello", Some("m1"), Some("o1")));
        assert_eq!(asked.thread.as_deref(), Some("t1"));
        assert!(asked.wants_receipt && asked.markable && asked.delayed);
    }

    #[test]
    fn unknown_types_and_doubled_threads_are_still_prompts() {
        assert_eq!(prompt("type='foo'", "<body>a</body><thread>1</thread><thread>2</thread>").thread.as_deref(), Some("1"));
        assert_eq!(prompt("", "<body xml:lang='de'>hallo</body><body>hello</body>").body, "hello");
    }

    #[test]
    fn nothing_that_is_no_question_becomes_one() {
        let body = "<body>text</body>";
        let cases = [
            ("type='headline'", body.to_owned()),
            ("type='chat'", "<composing xmlns='http://jabber.org/protocol/chatstates'/>".into()),
            ("type='chat'", "<body>  </body>".into()),
            ("", "<received xmlns='urn:xmpp:receipts' id='1'/>".into()),
            ("", format!("{body}<replace xmlns='urn:xmpp:message-correct:0' id='1'/>")),
            ("", format!("{body}<retract xmlns='urn:xmpp:message-retract:1' id='1'/>")),
            ("", format!("{body}<reactions xmlns='urn:xmpp:reactions:0' id='1'/>")),
        ];
        for (attributes, children) in cases {
            assert!(matches!(message(attributes, &children), Incoming::Ignore(_)), "{attributes} {children}");
        }
        assert_eq!(message("type='error'", body), Incoming::Bounce);
        assert!(matches!(message("type='groupchat'", body), Incoming::Refuse(_)));
        assert!(matches!(message("", &format!("{body}<x xmlns='jabber:x:conference' jid='r@c'/>")), Incoming::Refuse(_)));
    }

    #[test]
    fn the_fallback_of_an_encrypted_message_is_no_prompt() {
        for mark in [
            "<encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl'/>",
            "<encrypted xmlns='eu.siacs.conversations.axolotl'/>",
            "<encrypted xmlns='urn:xmpp:omemo:2'/>",
            "<x xmlns='jabber:x:encrypted'>abc</x>",
        ] {
            let children = format!("<body>I sent you an OMEMO encrypted message</body>{mark}");
            assert!(matches!(message("type='chat'", &children), Incoming::Encrypted(_)), "{mark}");
        }
    }

    #[test]
    fn a_quote_is_stripped_and_a_message_of_nothing_else_ignored() {
        let reply = "<reply xmlns='urn:xmpp:reply:0' to='x@y' id='1'/>";
        let fallback =
            |end| format!("<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='{end}'/></fallback>");
        let body = "<body>&gt; old\nnew</body>";
        assert_eq!(prompt("", &format!("{body}{reply}{}", fallback(6))).body, "new");
        assert!(matches!(message("", &format!("{body}{reply}{}", fallback(99))), Incoming::Ignore(_)));
        // Without <reply/> the mark means nothing.
        assert_eq!(prompt("", &format!("{body}{}", fallback(6))).body, "> old\nnew");
    }
}
