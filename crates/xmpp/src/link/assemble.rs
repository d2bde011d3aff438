//! Turns XML events into stanzas, and refuses what could hurt the process without giving up the stream.
//!
//! Any local or federated user decides what arrives here. A stanza over one of the bounds is read to its end without being
//! kept, so memory stays flat, and is reported with the attributes of its head so that it can be answered.

use rxml::{AttrMap, Event, Namespace};
use xmpp_parsers::{jid::Jid, minidom::Element};

use super::{NS_COMPONENT, NS_STREAM};

/// Levels of nesting that are kept. Deeper trees are refused: dropping a tree is recursive.
pub(crate) const MAX_DEPTH: usize = 64;
/// Bytes of one stanza that are kept.
pub(crate) const MAX_STANZA_BYTES: usize = 1024 * 1024;
/// Elements and attributes of one stanza that are kept: each costs far more memory than its few bytes on the wire.
pub(crate) const MAX_NODES: usize = 8192;
/// Longest head attribute that is sent back in an error.
const MAX_ECHO: usize = 16 * 1024;

/// The three kinds of stanza (RFC 6120 section 8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Message,
    Presence,
    Iq,
}

impl Kind {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "message" => Some(Self::Message),
            "presence" => Some(Self::Presence),
            "iq" => Some(Self::Iq),
            _ => None,
        }
    }
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }
}

/// A stanza whose addresses are valid. Everything else in `element` is as the sender wrote it.
#[derive(Debug)]
pub(crate) struct Stanza {
    pub(crate) kind: Kind,
    pub(crate) from: Jid,
    pub(crate) to: Jid,
    pub(crate) id: Option<String>,
    /// The `type` attribute; absent when it was absent or empty.
    pub(crate) type_: Option<String>,
    pub(crate) element: Element,
    /// What keeping it in memory costs, in bytes, roughly.
    pub(crate) cost: usize,
}

/// The raw head of a stanza that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) type_: Option<String>,
}

/// Why a stanza was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooDeep,
    TooLarge,
    TooManyNodes,
    BadAddress,
}

impl Refusal {
    /// A label for metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::TooManyNodes => "too_many_nodes",
            Self::BadAddress => "bad_address",
        }
    }
}

/// What the server sent.
#[derive(Debug)]
pub(crate) enum Inbound {
    Stanza(Box<Stanza>),
    Refused(Head, Refusal),
    /// `<stream:error>` with the name of its condition.
    StreamError(String),
    /// An element that is no stanza, for instance `<handshake/>`.
    Other { name: String, namespace: String },
    /// `</stream:stream>`
    Closed,
}

/// Collects events until something is complete. The events of the stream header are not for it.
#[derive(Default)]
pub(crate) struct Assembler {
    open: Vec<Element>,
    head: Option<Head>,
    bytes: usize,
    nodes: usize,
    discard: Option<(usize, Refusal)>,
}

impl Assembler {
    /// Takes one event; returns what it completed.
    pub(crate) fn take(&mut self, event: Event) -> Option<Inbound> {
        match event {
            Event::XmlDeclaration(..) => None,
            Event::StartElement(metrics, (namespace, name), attributes) => {
                let depth = self.depth();
                if depth == 0 {
                    *self = Self::default();
                    if namespace.as_str() == NS_COMPONENT {
                        self.head = Kind::parse(name.as_str()).map(|kind| head(kind, &attributes));
                    }
                }
                self.bytes = self.bytes.saturating_add(metrics.len());
                self.nodes = self.nodes.saturating_add(1 + attributes.len());
                if let Some((depth, _)) = &mut self.discard {
                    *depth += 1;
                    return None;
                }
                let refusal = if depth >= MAX_DEPTH { Some(Refusal::TooDeep) } else { self.over_budget() };
                if let Some(refusal) = refusal {
                    self.open.clear();
                    self.discard = Some((depth + 1, refusal));
                    return None;
                }
                let mut element = Element::bare(name.as_str(), namespace.as_str());
                *element.attrs_mut() = attributes;
                self.open.push(element);
                None
            }
            Event::Text(metrics, text) => {
                self.bytes = self.bytes.saturating_add(metrics.len());
                if self.discard.is_some() || self.open.is_empty() {
                    return None;
                }
                if let Some(refusal) = self.over_budget() {
                    self.discard = Some((self.open.len(), refusal));
                    self.open.clear();
                } else if let Some(element) = self.open.last_mut() {
                    element.append_text(text);
                }
                None
            }
            Event::EndElement(_) => self.close(),
        }
    }

    fn depth(&self) -> usize {
        self.discard.map_or(self.open.len(), |(depth, _)| depth)
    }

    fn over_budget(&self) -> Option<Refusal> {
        if self.bytes > MAX_STANZA_BYTES {
            Some(Refusal::TooLarge)
        } else if self.nodes > MAX_NODES {
            Some(Refusal::TooManyNodes)
        } else {
            None
        }
    }

    fn close(&mut self) -> Option<Inbound> {
        if let Some((depth, refusal)) = &mut self.discard {
            *depth -= 1;
            if *depth > 0 {
                return None;
            }
            let refusal = *refusal;
            self.discard = None;
            return Some(match self.head.take() {
                Some(head) => Inbound::Refused(head, refusal),
                None => Inbound::Other { name: refusal.label().to_owned(), namespace: String::new() },
            });
        }
        let Some(element) = self.open.pop() else { return Some(Inbound::Closed) };
        if let Some(parent) = self.open.last_mut() {
            parent.append_child(element);
            return None;
        }
        Some(self.complete(element))
    }

    fn complete(&mut self, element: Element) -> Inbound {
        if element.is("error", NS_STREAM) {
            let condition = element.children().next().map_or_else(|| "undefined-condition".to_owned(), |c| c.name().to_owned());
            return Inbound::StreamError(condition);
        }
        let Some(head) = self.head.take() else {
            return Inbound::Other { name: element.name().to_owned(), namespace: element.ns() };
        };
        let address = |text: &Option<String>| text.as_deref().and_then(|text| Jid::new(text).ok());
        let (Some(from), Some(to)) = (address(&head.from), address(&head.to)) else {
            return Inbound::Refused(head, Refusal::BadAddress);
        };
        let cost = self.bytes + self.nodes * 256;
        Inbound::Stanza(Box::new(Stanza { kind: head.kind, from, to, id: head.id, type_: head.type_, element, cost }))
    }
}

fn head(kind: Kind, attributes: &AttrMap) -> Head {
    let read = |name: &str| attributes.get(&Namespace::NONE, name).filter(|text| !text.is_empty()).cloned();
    Head { kind, from: read("from"), to: read("to"), id: read("id"), type_: read("type") }
}

impl Head {
    /// Whether an error may answer it: never an error or a result (RFC 6120 section 8.3.1), never a presence, never
    /// attributes so long that the answer would be a weapon, and only for an address in our own domain, because the server
    /// closes the whole link for any other `from`.
    pub(crate) fn answerable(&self, domain: &str) -> bool {
        let to_us = self.to.as_deref().is_some_and(|to| {
            let bare = to.split_once('/').map_or(to, |(bare, _)| bare);
            bare.rsplit_once('@').map_or(bare, |(_, domain)| domain).eq_ignore_ascii_case(domain)
        });
        let short = [&self.from, &self.to, &self.id].into_iter().flatten().all(|text| text.len() <= MAX_ECHO);
        let wanted = match self.kind {
            Kind::Message => self.type_.as_deref() != Some("error"),
            Kind::Iq => !matches!(self.type_.as_deref(), Some("error" | "result")),
            Kind::Presence => false,
        };
        to_us && short && wanted && self.from.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(xml: &str) -> Vec<Inbound> {
        let text = format!("<stream:stream xmlns='{NS_COMPONENT}' xmlns:stream='{NS_STREAM}' id='1'>{xml}");
        let mut options = rxml::Options::default();
        options.max_token_length = super::super::MAX_TOKEN_BYTES;
        let mut reader = rxml::Reader::with_options(text.as_bytes(), options);
        assert!(matches!(reader.read().unwrap(), Some(Event::StartElement(..))));
        let mut assembler = Assembler::default();
        let mut out = Vec::new();
        // The input ends inside the stream element, which the reader reports as an error after all events.
        while let Ok(Some(event)) = reader.read() {
            out.extend(assembler.take(event));
        }
        out
    }

    fn one(xml: &str) -> Inbound {
        let mut all = read(&format!("{xml}<iq/>"));
        assert_eq!(all.len(), 2, "{all:?}");
        all.remove(0)
    }

    const HEAD: &str = "<message from='a@b.example/c' to='d@e.example' id='7' type='chat'";

    #[test]
    fn thirty_five_thousand_levels_are_refused_with_their_head() {
        let deep = format!("{HEAD}>{}{}</message>", "<x>".repeat(35_000), "</x>".repeat(35_000));
        let Inbound::Refused(head, Refusal::TooDeep) = one(&deep) else { panic!("not refused") };
        assert_eq!((head.id.as_deref(), head.from.as_deref()), (Some("7"), Some("a@b.example/c")));
        assert!(head.answerable("e.example"));
        assert!(!head.answerable("other.example"));
    }

    #[test]
    fn the_deepest_legal_tree_is_kept() {
        let depth = MAX_DEPTH - 1;
        let deep = format!("{HEAD}>{}{}</message>", "<x>".repeat(depth), "</x>".repeat(depth));
        assert!(matches!(one(&deep), Inbound::Stanza(_)));
    }

    #[test]
    fn long_attributes_pass_and_too_many_bytes_or_nodes_do_not() {
        let long = "x".repeat(300_000);
        assert!(matches!(one(&format!("{HEAD} extra='{long}'/>")), Inbound::Stanza(_)));
        let huge = format!("{HEAD}><body>{long}{long}</body><body>{long}{long}</body></message>");
        assert!(matches!(one(&huge), Inbound::Refused(_, Refusal::TooLarge)));
        let many = format!("{HEAD}>{}</message>", "<x/>".repeat(MAX_NODES));
        assert!(matches!(one(&many), Inbound::Refused(_, Refusal::TooManyNodes)));
    }

    #[test]
    fn empty_and_impossible_addresses_are_refused() {
        assert!(matches!(one("<message to='a@b'/>"), Inbound::Refused(_, Refusal::BadAddress)));
        assert!(matches!(one("<message from='@' to='a@b'/>"), Inbound::Refused(_, Refusal::BadAddress)));
    }

    #[test]
    fn errors_results_and_presences_are_never_answerable() {
        for (kind, type_) in [(Kind::Message, "error"), (Kind::Iq, "error"), (Kind::Iq, "result"), (Kind::Presence, "subscribe")] {
            let text = |text: &str| Some(text.to_owned());
            let head = Head { kind, from: text("a@b"), to: text("c@d"), id: text("1"), type_: text(type_) };
            assert!(!head.answerable("d"), "{head:?}");
        }
    }

    #[test]
    fn a_stream_error_carries_its_condition() {
        let xml = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
        assert!(matches!(one(xml), Inbound::StreamError(condition) if condition == "conflict"));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = rxml::Reader::new(&bytes[..]);
            let mut assembler = Assembler::default();
            while let Ok(Some(event)) = reader.read() { assembler.take(event); }
        }

        #[test]
        fn random_markup_never_panics(parts in proptest::collection::vec(prop_oneof![
            Just("<message from='a@b' to='c@d'>"), Just("</message>"), Just("<x>"), Just("</x>"), Just("<y xmlns='' a='1'/>"),
            Just("text &lt;"), Just("<iq"), Just(" id='1'>"), Just("<![CDATA[<x>]]>"), Just("</stream:stream>"), Just("&#0;"),
        ], 0..60)) {
            read(&parts.concat());
        }
    }
}
