//! Stanzas of an XEP-0114 stream: reading what a component or a server writes, and writing them.

use std::borrow::Cow;

use rxml::Event;

/// Namespace of the stream (XEP-0114).
pub(crate) const NS_COMPONENT: &str = "jabber:component:accept";
/// Namespace of the stream's own elements (RFC 6120).
pub(crate) const NS_STREAM: &str = "http://etherx.jabber.org/streams";
/// Chat states (XEP-0085).
pub(crate) const NS_CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// Receipts (XEP-0184).
pub(crate) const NS_RECEIPTS: &str = "urn:xmpp:receipts";
/// Corrections (XEP-0308).
pub(crate) const NS_CORRECT: &str = "urn:xmpp:message-correct:0";
/// Service discovery (XEP-0030).
pub(crate) const NS_DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";

/// Longest XML token; servers route stanzas of up to 512 KiB.
pub(crate) const MAX_TOKEN_BYTES: usize = 512 * 1024;
/// Text kept of one element; the rest of it is dropped.
const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// Children kept of one stanza; further ones are dropped.
const MAX_CHILDREN: usize = 64;

/// A child of a stanza. Of what is inside of it, the text and the name of the first element count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) ns: String,
    pub(crate) text: String,
    /// For example the condition of an `<error/>`; empty when there is none.
    pub(crate) inner: String,
}

/// A stanza, two levels deep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stanza {
    pub(crate) name: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) id: String,
    /// The `type` attribute; empty when absent.
    pub(crate) kind: String,
    pub(crate) children: Vec<Child>,
    text: String,
}

impl Stanza {
    /// The text of a child in the stream's own namespace, for example `body`.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name, NS_COMPONENT).map(|child| child.text.as_str())
    }

    /// The first child of that name and namespace.
    pub(crate) fn child(&self, name: &str, ns: &str) -> Option<&Child> {
        self.children.iter().find(|child| child.name == name && child.ns == ns)
    }

    /// Whether a child has that namespace.
    pub(crate) fn has(&self, ns: &str) -> bool {
        self.children.iter().any(|child| child.ns == ns)
    }
}

/// What a stream brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The stream header, with its `to` and `id`.
    Opened { to: String, id: String },
    /// `<handshake/>` with its text.
    Handshake(String),
    /// A message, presence or iq.
    Stanza(Stanza),
    /// Anything else, by name: a stream error for example.
    Other(String),
    /// The end of the stream.
    Closed,
}

/// Builds [`Incoming`] of XML events.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    depth: usize,
    stanza: Stanza,
}

impl Assembler {
    /// Takes one event; returns what it completed.
    pub(crate) fn take(&mut self, event: Event) -> Option<Incoming> {
        match event {
            Event::XmlDeclaration(..) => None,
            Event::StartElement(_, (ns, name), attributes) => {
                self.depth += 1;
                let read = |wanted: &str| {
                    let found = attributes.iter().find(|((_, name), _)| name.as_str() == wanted);
                    found.map_or_else(String::new, |(_, value)| value.clone())
                };
                match self.depth {
                    1 => return Some(Incoming::Opened { to: read("to"), id: read("id") }),
                    2 => {
                        self.stanza = Stanza {
                            name: name.to_string(),
                            from: read("from"),
                            to: read("to"),
                            id: read("id"),
                            kind: read("type"),
                            ..Stanza::default()
                        }
                    }
                    3 if self.stanza.children.len() < MAX_CHILDREN => {
                        self.stanza.children.push(Child { name: name.to_string(), ns: ns.to_string(), ..Child::default() });
                    }
                    4 => {
                        if let Some(child) = self.stanza.children.last_mut().filter(|child| child.inner.is_empty()) {
                            child.inner = name.to_string();
                        }
                    }
                    _ => {}
                }
                None
            }
            Event::Text(_, text) => {
                let place = match self.depth {
                    2 => Some(&mut self.stanza.text),
                    3 => self.stanza.children.last_mut().map(|child| &mut child.text),
                    _ => None,
                };
                if let Some(place) = place
                    && place.len() + text.len() <= MAX_TEXT_BYTES
                {
                    place.push_str(&text);
                }
                None
            }
            Event::EndElement(_) => {
                self.depth = self.depth.saturating_sub(1);
                match self.depth {
                    0 => Some(Incoming::Closed),
                    1 => {
                        let stanza = std::mem::take(&mut self.stanza);
                        Some(match stanza.name.as_str() {
                            "message" | "presence" | "iq" => Incoming::Stanza(stanza),
                            "handshake" => Incoming::Handshake(stanza.text),
                            "error" => Incoming::Other(stanza.children.first().map_or("error", |c| &c.name).to_owned()),
                            _ => Incoming::Other(stanza.name),
                        })
                    }
                    _ => None,
                }
            }
        }
    }
}

/// The proof of the shared secret (XEP-0114 section 3): SHA-1 of stream id and secret, in hex.
pub(crate) fn proof(stream_id: &str, secret: &str) -> String {
    let both = format!("{stream_id}{secret}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, both.as_bytes());
    hex::encode(digest)
}

/// Text as it may stand in element content and in quoted attributes.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '\'', '"']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// The result that answers an iq, from whom it was sent to.
pub(crate) fn iq_result(request: &Stanza) -> Vec<u8> {
    // A client that says what it is, and no more: a hub then knows that it shows no corrections.
    let payload = if request.has(NS_DISCO_INFO) {
        format!(
            "<query xmlns='{NS_DISCO_INFO}'><identity category='client' type='pc' name='load'/>\
             <feature var='{NS_DISCO_INFO}'/><feature var='urn:xmpp:ping'/></query>"
        )
    } else {
        String::new()
    };
    format!("<iq type='result' id='{}' from='{}' to='{}'>{payload}</iq>", escape(&request.id), escape(&request.to), escape(&request.from))
        .into_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a stream with this content brings after its header.
    pub(crate) fn read(xml: &str) -> Vec<Incoming> {
        let text = format!("<?xml version='1.0'?><s:stream xmlns='{NS_COMPONENT}' xmlns:s='{NS_STREAM}' to='a' id='7'>{xml}");
        let mut reader = rxml::Reader::new(text.as_bytes());
        let mut assembler = Assembler::default();
        let mut all = Vec::new();
        // The input ends inside the stream, which is an error after all events.
        while let Ok(Some(event)) = reader.read() {
            all.extend(assembler.take(event));
        }
        assert_eq!(all.remove(0), Incoming::Opened { to: "a".into(), id: "7".into() });
        all
    }

    #[test]
    fn a_message_is_read_with_its_children_and_escapes() {
        let body = "a < b & 'c' \"d\" > e";
        let xml = format!(
            "<message from='x@y/z' to='u' id='1' type='chat'><body>{}</body>\
             <active xmlns='{NS_CHAT_STATES}'><deep><body>no</body></deep><next/></active></message><presence/>",
            escape(body)
        );
        let all = read(&xml);
        let [Incoming::Stanza(message), Incoming::Stanza(presence)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(message.text_of("body"), Some(body));
        assert!(message.has(NS_CHAT_STATES));
        assert_eq!(message.children[1].inner, "deep");
        assert_eq!((message.from.as_str(), message.kind.as_str()), ("x@y/z", "chat"));
        assert_eq!(presence.name, "presence");
    }

    #[test]
    fn handshake_error_and_end_are_told_apart() {
        let all = read("<handshake>abc</handshake><s:error><conflict/></s:error></s:stream>");
        assert_eq!(all, [Incoming::Handshake("abc".into()), Incoming::Other("conflict".into()), Incoming::Closed]);
    }

    #[test]
    fn the_proof_is_that_of_the_specification() {
        // Stream id and secret `test`; the digest is from an independent SHA-1.
        assert_eq!(proof("3BF96D32", "test"), "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e");
    }

    #[test]
    fn a_result_goes_back_to_who_asked() {
        let asked = read(&format!("<iq type='get' id='a&apos;b' from='hub' to='srv'><query xmlns='{NS_DISCO_INFO}'/></iq>"));
        let [Incoming::Stanza(asked)] = &asked[..] else { panic!("{asked:?}") };
        let answer = String::from_utf8(iq_result(asked)).unwrap();
        let answer = read(&answer);
        let [Incoming::Stanza(answer)] = &answer[..] else { panic!("{answer:?}") };
        assert_eq!((answer.from.as_str(), answer.to.as_str(), answer.id.as_str(), answer.kind.as_str()), ("srv", "hub", "a'b", "result"));
        assert!(answer.has(NS_DISCO_INFO));
    }
}
