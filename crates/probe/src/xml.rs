//! An element tree, read with rxml and written with the escapes that XML needs.

use std::fmt;

use rxml::{Event, Parse as _, error::EndOrError};

/// How deep elements may be nested in a stanza, the stanza itself being 1.
pub const MAX_DEPTH: usize = 64;

/// XML that may not be sent, or that came.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// Not well-formed, or a construct that XMPP forbids (RFC 6120 section 11.1).
    #[error("not well-formed: {0}")]
    Syntax(rxml::Error),
    /// Deeper than [`MAX_DEPTH`].
    #[error("nested too deep")]
    TooDeep,
    /// Not exactly one element.
    #[error("not one whole element")]
    NotOneElement,
    /// A character that no XML document can hold, not even escaped (XML 1.0 section 2.2).
    #[error("a character that XML cannot hold: U+{:04X}", u32::from(*.0))]
    Character(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Element(Element),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attribute {
    ns: String,
    name: String,
    value: String,
}

/// An XML element. Its `Display` is XML that stands on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    ns: String,
    name: String,
    attributes: Vec<Attribute>,
    nodes: Vec<Node>,
}

impl Element {
    pub(crate) fn new(ns: &str, name: &str) -> Self {
        Self { ns: ns.to_owned(), name: name.to_owned(), attributes: Vec::new(), nodes: Vec::new() }
    }

    pub(crate) fn with_attr(mut self, name: &str, value: &str) -> Self {
        self.attributes.push(Attribute { ns: String::new(), name: name.to_owned(), value: value.to_owned() });
        self
    }

    pub(crate) fn with_child(mut self, child: Self) -> Self {
        self.nodes.push(Node::Element(child));
        self
    }

    pub(crate) fn with_text(mut self, text: &str) -> Self {
        self.push_text(text.to_owned());
        self
    }

    fn push_text(&mut self, text: String) {
        if let Some(Node::Text(last)) = self.nodes.last_mut() {
            last.push_str(&text);
        } else {
            self.nodes.push(Node::Text(text));
        }
    }

    /// Reads one element that stands on its own.
    ///
    /// # Errors
    /// When the text is not exactly one well-formed element.
    pub fn parse(xml: &str) -> Result<Self, XmlError> {
        let mut parser = rxml::Parser::default();
        let (mut rest, mut tree, mut whole) = (xml.as_bytes(), Tree::default(), None);
        loop {
            match parser.parse(&mut rest, true) {
                Ok(Some(event)) => whole = tree.take(event)?.or(whole),
                Ok(None) => return whole.ok_or(XmlError::NotOneElement),
                Err(EndOrError::NeedMoreData) => return Err(XmlError::NotOneElement),
                Err(EndOrError::Error(error)) => return Err(XmlError::Syntax(error)),
            }
        }
    }

    /// The local name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace.
    #[must_use]
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Whether it has this local name and namespace.
    #[must_use]
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// The value of an attribute without a namespace.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| attribute.ns.is_empty() && attribute.name == name).map(|attribute| attribute.value.as_str())
    }

    /// The child elements.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first child with this local name and namespace.
    #[must_use]
    pub fn child(&self, name: &str, ns: &str) -> Option<&Self> {
        self.children().find(|child| child.is(name, ns))
    }

    /// The text directly inside, without that of children.
    #[must_use]
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    /// The XML to put inside an element with the default namespace `outer`.
    pub(crate) fn to_xml(&self, outer: &str) -> Result<String, XmlError> {
        let mut out = String::new();
        self.write(outer, &mut out);
        out.chars().find(|c| !allowed(*c)).map_or(Ok(out), |c| Err(XmlError::Character(c)))
    }

    fn write(&self, outer: &str, out: &mut String) {
        out.push('<');
        out.push_str(&self.name);
        if self.ns != outer {
            push_attribute("xmlns", &self.ns, out);
        }
        for (index, attribute) in self.attributes.iter().enumerate() {
            match attribute.ns.as_str() {
                "" => push_attribute(&attribute.name, &attribute.value, out),
                rxml::XMLNS_XML => push_attribute(&format!("xml:{}", attribute.name), &attribute.value, out),
                ns => {
                    push_attribute(&format!("xmlns:a{index}"), ns, out);
                    push_attribute(&format!("a{index}:{}", attribute.name), &attribute.value, out);
                }
            }
        }
        if self.nodes.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for node in &self.nodes {
            match node {
                Node::Element(element) => element.write(&self.ns, out),
                Node::Text(text) => escape(text, out),
            }
        }
        out.push_str("</");
        out.push_str(&self.name);
        out.push('>');
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write("", &mut out);
        f.write_str(&out)
    }
}

fn push_attribute(name: &str, value: &str, out: &mut String) {
    out.push(' ');
    out.push_str(name);
    out.push_str("='");
    for c in value.chars() {
        match c {
            // A reader would turn them into spaces (XML 1.0 section 3.3.3).
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c => push_escaped(c, out),
        }
    }
    out.push('\'');
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        push_escaped(c, out);
    }
}

fn push_escaped(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&apos;"),
        // A reader would turn it into a line feed (XML 1.0 section 2.11).
        '\r' => out.push_str("&#13;"),
        c => out.push(c),
    }
}

fn allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}

/// Puts an element together from parser events.
#[derive(Debug, Default)]
pub(crate) struct Tree(Vec<Element>);

impl Tree {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The element that this event completes.
    pub(crate) fn take(&mut self, event: Event) -> Result<Option<Element>, XmlError> {
        match event {
            Event::XmlDeclaration(..) => {}
            Event::StartElement(_, (ns, name), attributes) => {
                if self.0.len() >= MAX_DEPTH {
                    return Err(XmlError::TooDeep);
                }
                let attributes = attributes.into_iter().map(|((ns, name), value)| Attribute {
                    ns: ns.as_str().to_owned(),
                    name: name.as_str().to_owned(),
                    value,
                });
                let attributes = attributes.collect();
                self.0.push(Element { ns: ns.as_str().to_owned(), name: name.as_str().to_owned(), attributes, nodes: Vec::new() });
            }
            Event::Text(_, text) => {
                if let Some(element) = self.0.last_mut() {
                    element.push_text(text);
                }
            }
            Event::EndElement(_) => {
                let done = self.0.pop();
                let Some(parent) = self.0.last_mut() else { return Ok(done) };
                parent.nodes.extend(done.map(Node::Element));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_survives_a_round_trip() {
        let text = "a & b < c > d \" e ' f\r\n\tg ]]> é 🦀 </body>";
        let element = Element::new("n", "m").with_attr("to", text).with_child(Element::new("n", "body").with_text(text));
        let read = Element::parse(&element.to_xml("").unwrap()).unwrap();
        assert_eq!(read.attr("to"), Some(text));
        assert_eq!(read.child("body", "n").unwrap().text(), text);
    }

    #[test]
    fn what_xml_cannot_hold_is_refused() {
        let element = Element::new("n", "m").with_text("bell \u{7}");
        assert_eq!(element.to_xml(""), Err(XmlError::Character('\u{7}')));
    }

    #[test]
    fn namespaces_and_attributes_of_other_namespaces_survive_a_round_trip() {
        let read = Element::parse("<a xmlns='n' xmlns:p='q' p:x='1' x='2' xml:lang='de'><p:b/><c xmlns=''>t</c></a>").unwrap();
        assert_eq!((read.attr("x"), read.child("b", "q").is_some(), read.child("c", "").is_some()), (Some("2"), true, true));
        assert_eq!(Element::parse(&read.to_string()).unwrap(), read);
    }

    #[test]
    fn only_one_whole_element_is_one() {
        for bad in ["", "text", "<a>", "<a/><b/>", "<a></b>", "<!DOCTYPE a><a/>", "<a>&x;</a>", "</stream>"] {
            assert!(Element::parse(bad).is_err(), "{bad}");
        }
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(Element::parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(Element::parse(&nested(MAX_DEPTH + 1)), Err(XmlError::TooDeep));
    }
}
