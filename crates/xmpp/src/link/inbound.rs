//! What comes from the server.

use xmpp_parsers::{jid::Jid, minidom::Element};

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
    pub(super) fn parse(name: &str) -> Option<Self> {
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
    /// An undeclared prefix or a repeated attribute.
    BadNames,
    BadAddress,
}

impl Refusal {
    /// A label for metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::TooManyNodes => "too_many_nodes",
            Self::BadNames => "bad_names",
            Self::BadAddress => "bad_address",
        }
    }
}

/// What the server sent.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// The stream header, with the stream's id.
    Opened(Option<String>),
    Stanza(Box<Stanza>),
    Refused(Head, Refusal),
    /// `<stream:error>` with the name of its condition.
    StreamError(String),
    /// An element that is no stanza, for instance `<handshake/>`.
    Other {
        name: String,
        namespace: String,
    },
    /// `</stream:stream>`
    Closed,
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

    #[test]
    fn errors_results_and_presences_are_never_answerable() {
        for (kind, type_) in [(Kind::Message, "error"), (Kind::Iq, "error"), (Kind::Iq, "result"), (Kind::Presence, "subscribe")] {
            let text = |text: &str| Some(text.to_owned());
            let head = Head { kind, from: text("a@b"), to: text("c@d"), id: text("1"), type_: text(type_) };
            assert!(!head.answerable("d"), "{head:?}");
        }
    }
}
