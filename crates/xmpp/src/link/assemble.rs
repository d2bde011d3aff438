//! Turns XML events into stanzas, and refuses what could hurt the process without giving up the stream.
//!
//! Any local or federated user decides what arrives here. A stanza over one of the bounds is read to its end without being
//! kept, so memory stays flat, and is reported with the attributes of its head so that it can be answered.
//!
//! Prefixes are resolved here and not by the XML library: its resolver ends the stream at an undeclared prefix, and looks through
//! every open element for each new one, which lets one deeply nested stanza hold the reader for seconds.

use rxml::{AttrMap, Namespace, NcName, RawEvent, RawQName};
use xmpp_parsers::{jid::Jid, minidom::Element};

use super::{
    NS_STREAM,
    inbound::{Head, Inbound, Kind, Refusal, Stanza},
};
use crate::stanza::NS_COMPONENT;

/// Levels of nesting that are kept. Deeper trees are refused: dropping a tree is recursive.
pub(crate) const MAX_DEPTH: usize = 64;
/// Bytes of one stanza that are kept.
pub(crate) const MAX_STANZA_BYTES: usize = 1024 * 1024;
/// Elements and attributes of one stanza that are kept: each costs far more memory than its few bytes on the wire.
pub(crate) const MAX_NODES: usize = 8192;
/// What one of them costs beside its bytes, roughly.
const NODE_COST: usize = 256;

/// Namespaces that one element declares.
#[derive(Debug, Default)]
struct Scope {
    default: Option<Namespace<'static>>,
    prefixes: Vec<(NcName, Namespace<'static>)>,
}

/// A start tag that is being read.
#[derive(Debug)]
struct Tag {
    name: RawQName,
    attributes: Vec<(RawQName, String)>,
    over: Option<Refusal>,
}

/// Collects events until something is complete. The first element is the stream's root.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// Of the root and of each open element.
    scopes: Vec<Scope>,
    open: Vec<Element>,
    tag: Option<Tag>,
    head: Option<Head>,
    bytes: usize,
    nodes: usize,
    /// Open elements of the stanza that is being thrown away, and why it is.
    discard: Option<(usize, Refusal)>,
}

impl Assembler {
    /// Takes one event; returns what it completed.
    pub(crate) fn take(&mut self, event: RawEvent) -> Option<Inbound> {
        let depth = self.discard.map_or(self.open.len(), |(depth, _)| depth);
        if depth == 0 && self.tag.is_none() {
            (self.bytes, self.nodes, self.head) = (0, 0, None);
        }
        self.bytes = self.bytes.saturating_add(event.metrics().len());
        match event {
            RawEvent::XmlDeclaration(..) => None,
            RawEvent::ElementHeadOpen(_, name) => {
                self.nodes += 1;
                if let Some((depth, _)) = &mut self.discard {
                    *depth += 1;
                } else {
                    let over = if depth >= MAX_DEPTH { Some(Refusal::TooDeep) } else { self.over_budget() };
                    self.tag = Some(Tag { name, attributes: Vec::new(), over });
                }
                None
            }
            RawEvent::Attribute(_, name, value) => {
                self.nodes += 1;
                let over = self.over_budget();
                let first = self.open.is_empty();
                if let Some(tag) = &mut self.tag {
                    tag.over = tag.over.or(over);
                    // The head of a refused stanza is still wanted, for its answer.
                    if tag.over.is_none() || first && is_head(&name) && tag.attributes.len() < MAX_NODES {
                        tag.attributes.push((name, value));
                    }
                }
                None
            }
            RawEvent::ElementHeadClose(_) => self.tag.take().and_then(|tag| self.start(tag)),
            RawEvent::Text(_, text) => {
                if self.discard.is_none() {
                    if let Some(refusal) = self.over_budget().filter(|_| !self.open.is_empty()) {
                        self.throw_away(self.open.len(), refusal);
                    } else if let Some(element) = self.open.last_mut() {
                        element.append_text(text);
                    }
                }
                None
            }
            RawEvent::ElementFoot(_) => self.end(),
        }
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

    fn throw_away(&mut self, depth: usize, refusal: Refusal) {
        self.open.clear();
        self.scopes.truncate(1);
        self.discard = Some((depth, refusal));
    }

    fn start(&mut self, tag: Tag) -> Option<Inbound> {
        let root = self.scopes.is_empty();
        let depth = self.open.len();
        if depth == 0 && !root && tag.name.0.is_none() {
            self.head = Kind::parse(tag.name.1.as_str()).map(|kind| head(kind, &tag.attributes));
        }
        let element = match tag.over {
            Some(refusal) => Err(refusal),
            None => self.element(tag.name, tag.attributes),
        };
        match element {
            Ok(element) if root => {
                if !element.is("stream", NS_STREAM) {
                    return Some(Inbound::Other { name: element.name().to_owned(), namespace: element.ns() });
                }
                Some(Inbound::Opened(element.attr::<str>("id").map(str::to_owned)))
            }
            Ok(element) => {
                self.open.push(element);
                None
            }
            Err(refusal) => {
                self.throw_away(depth + 1, refusal);
                None
            }
        }
    }

    /// Resolves the names of a tag and opens its scope.
    fn element(&mut self, name: RawQName, attributes: Vec<(RawQName, String)>) -> Result<Element, Refusal> {
        let mut scope = Scope::default();
        let mut plain = Vec::with_capacity(attributes.len());
        for ((prefix, name), value) in attributes {
            match prefix.as_deref().map(|prefix| prefix.as_str()) {
                None if name.as_str() == "xmlns" => scope.default = Some(Namespace::from(value)),
                Some("xmlns") => scope.prefixes.push((name, Namespace::from(value))),
                _ => plain.push((prefix, name, value)),
            }
        }
        self.scopes.push(scope);
        let mut resolved = AttrMap::new();
        for (prefix, name, value) in plain {
            let namespace = match prefix {
                None => Namespace::none().clone(),
                Some(prefix) => self.namespace(prefix.as_str()).ok_or(Refusal::BadNames)?,
            };
            if resolved.insert(namespace, name, value).is_some() {
                return Err(Refusal::BadNames);
            }
        }
        let namespace = match &name.0 {
            None => self.scopes.iter().rev().find_map(|scope| scope.default.clone()).unwrap_or_else(|| Namespace::none().clone()),
            Some(prefix) => self.namespace(prefix.as_str()).ok_or(Refusal::BadNames)?,
        };
        let mut element = Element::bare(name.1.as_str(), namespace.as_str());
        *element.attrs_mut() = resolved;
        Ok(element)
    }

    fn namespace(&self, prefix: &str) -> Option<Namespace<'static>> {
        if prefix == "xml" {
            return Some(Namespace::xml().clone());
        }
        let declared =
            |scope: &Scope| scope.prefixes.iter().find(|(name, _)| name.as_str() == prefix).map(|(_, namespace)| namespace.clone());
        self.scopes.iter().rev().find_map(declared)
    }

    fn end(&mut self) -> Option<Inbound> {
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
        self.scopes.pop();
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
        let head = self.head.take().filter(|_| element.has_ns(NS_COMPONENT));
        let Some(head) = head else { return Inbound::Other { name: element.name().to_owned(), namespace: element.ns() } };
        let address = |text: &Option<String>| text.as_deref().and_then(|text| Jid::new(text).ok());
        let (Some(from), Some(to)) = (address(&head.from), address(&head.to)) else {
            return Inbound::Refused(head, Refusal::BadAddress);
        };
        let cost = self.bytes + self.nodes * NODE_COST;
        Inbound::Stanza(Box::new(Stanza { kind: head.kind, from, to, id: head.id, type_: head.type_, element, cost }))
    }
}

fn is_head(name: &RawQName) -> bool {
    name.0.is_none() && matches!(name.1.as_str(), "from" | "to" | "id" | "type")
}

fn head(kind: Kind, attributes: &[(RawQName, String)]) -> Head {
    let read = |wanted: &str| {
        let found = attributes.iter().find(|(name, _)| name.0.is_none() && name.1.as_str() == wanted);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    Head { kind, from: read("from"), to: read("to"), id: read("id"), type_: read("type") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(xml: &str) -> Vec<Inbound> {
        let text = format!("<stream:stream xmlns='{NS_COMPONENT}' xmlns:stream='{NS_STREAM}' id='1'>{xml}");
        let options = rxml::Options { max_token_length: super::super::MAX_TOKEN_BYTES, ..rxml::Options::default() };
        let mut reader = rxml::RawReader::with_options(text.as_bytes(), options);
        let mut assembler = Assembler::default();
        let mut out = Vec::new();
        // The input ends inside the stream element, which the reader reports as an error after all events.
        while let Ok(Some(event)) = reader.read() {
            out.extend(assembler.take(event));
        }
        assert!(matches!(out.remove(0), Inbound::Opened(Some(id)) if id == "1"));
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
    fn prefixes_are_resolved_and_bad_names_are_refused() {
        let Inbound::Stanza(stanza) =
            one(&format!("{HEAD} xmlns:p='urn:p' p:a='1' xml:lang='de'><p:x><y xmlns='urn:y'/><z/></p:x></message>"))
        else {
            panic!("not kept")
        };
        assert_eq!(stanza.element.attr_ns::<str, str>("urn:p", "a"), Some("1"));
        let x = stanza.element.get_child("x", "urn:p").unwrap();
        assert!(x.has_child("y", "urn:y") && x.has_child("z", NS_COMPONENT));
        for bad in ["<q:x/>", "<x q:a='1'/>", "<x xmlns:a='u' xmlns:b='u' a:c='1' b:c='2'/>"] {
            assert!(matches!(one(&format!("{HEAD}>{bad}</message>")), Inbound::Refused(_, Refusal::BadNames)), "{bad}");
        }
        assert!(matches!(one("<message xmlns='urn:other' from='a@b' to='c@d'/>"), Inbound::Other { .. }));
    }

    #[test]
    fn a_head_is_known_even_when_its_own_tag_is_too_much() {
        let attributes: String = (0..MAX_NODES).map(|n| format!(" a{n}=''")).collect();
        let Inbound::Refused(head, Refusal::TooManyNodes) = one(&format!("<message{attributes} id='7' from='a@b' to='c@d'/>")) else {
            panic!("not refused")
        };
        assert_eq!(head.id.as_deref(), Some("7"));
    }

    #[test]
    fn a_stream_error_carries_its_condition() {
        let xml = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
        assert!(matches!(one(xml), Inbound::StreamError(condition) if condition == "conflict"));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = rxml::RawReader::new(&bytes[..]);
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
