//! What can go wrong, and at which step.

use std::fmt;

use crate::{
    names,
    xml::{Element, XmlError},
};

/// The step that failed, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Opening the TCP connection.
    Connect,
    /// The first stream header and its features, up to the server's consent to STARTTLS.
    StartTls,
    /// The TLS handshake: here a wrong certificate shows.
    Tls,
    /// SASL: here a wrong password shows.
    Auth,
    /// Resource binding.
    Bind,
    /// Roster and initial presence.
    Session,
    /// Sending something on the open session.
    Send,
    /// Waiting for something on the open session.
    Receive,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Bind => "bind",
            Self::Session => "session",
            Self::Send => "send",
            Self::Receive => "receive",
        })
    }
}

/// A failed operation: the step, and the reason as [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[error("XMPP probe failed at step {step}")]
pub struct ProbeError {
    /// Where.
    pub step: Step,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// Why a step failed. Never contains a secret; texts of the server are cut at 200 characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The deadline passed.
    #[error("nothing came before the deadline")]
    Timeout,
    /// The connection broke, or the TLS handshake failed.
    #[error("the connection failed")]
    Io(#[source] std::io::Error),
    /// The server ended the stream.
    #[error("the server closed the stream")]
    Closed,
    /// A trust anchor is not a certificate, or the domain is not a host name.
    #[error("unusable TLS options")]
    TlsOptions(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server does not offer STARTTLS, or refuses it.
    #[error("the server does not offer STARTTLS")]
    NoTls,
    /// The server offers neither SCRAM-SHA-256 nor PLAIN.
    #[error("the server offers no usable SASL mechanism, only {}", offered.join(" "))]
    NoMechanism {
        /// What it offers.
        offered: Vec<String>,
    },
    /// The server refused the credentials (RFC 6120 section 6.5).
    #[error("the server refused the credentials: {condition}")]
    Refused {
        /// For example `not-authorized`.
        condition: String,
    },
    /// The server did not prove that it knows the password (RFC 5802 section 3), or broke the SCRAM exchange.
    #[error("SCRAM: {0}")]
    Scram(&'static str),
    /// The user name, the password or the resource cannot be sent.
    #[error("unusable credentials: {0}")]
    Credentials(&'static str),
    /// The server ended the stream with an error (RFC 6120 section 4.9).
    #[error("stream error: {condition}{}", suffix(text.as_deref()))]
    Stream {
        /// For example `policy-violation`.
        condition: String,
        /// What the server says about it.
        text: Option<String>,
    },
    /// The other side answered with an error (RFC 6120 section 8.3).
    #[error("the other side refused: {0}")]
    Stanza(StanzaError),
    /// The server sent something else than the protocol allows here.
    #[error("unexpected answer: {0}")]
    Protocol(&'static str),
    /// What came is not XML, or not the XML that XMPP allows; or what is to be sent is not.
    #[error("bad XML")]
    Xml(#[source] XmlError),
    /// A stanza is larger than [`MAX_STANZA_BYTES`](crate::MAX_STANZA_BYTES). The connection is of no further use.
    #[error("the server sent a stanza over the size bound")]
    TooLarge,
    /// More than [`MAX_PENDING_EVENTS`](crate::MAX_PENDING_EVENTS) came while an IQ answer was awaited.
    #[error("too much came while an answer was awaited")]
    TooManyEvents,
    /// The system's random generator failed.
    #[error("no random numbers")]
    Random,
}

impl Cause {
    pub(crate) fn at(self, step: Step) -> ProbeError {
        ProbeError { step, cause: self }
    }
}

impl From<XmlError> for Cause {
    fn from(error: XmlError) -> Self {
        Self::Xml(error)
    }
}

/// An error stanza's content (RFC 6120 section 8.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StanzaError {
    /// The defined condition, for example `item-not-found`.
    pub condition: String,
    /// The text for people.
    pub text: Option<String>,
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.condition, suffix(self.text.as_deref()))
    }
}

impl StanzaError {
    /// The error in a stanza of type `error`.
    pub(crate) fn of(stanza: &Element) -> Self {
        let (condition, text) =
            stanza.child("error", names::CLIENT).map_or((None, None), |error| condition_and_text(error, names::STANZA_ERRORS));
        Self { condition: condition.unwrap_or_else(|| "undefined-condition".to_owned()), text }
    }
}

/// The defined condition and the text among the children of an error element.
pub(crate) fn condition_and_text(error: &Element, ns: &str) -> (Option<String>, Option<String>) {
    let condition = error.children().find(|child| child.ns() == ns && child.name() != "text").map(|child| shorten(child.name()));
    (condition, error.child("text", ns).map(|text| shorten(&text.text())))
}

/// The start of a text that somebody else chose the length of.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

fn suffix(text: Option<&str>) -> String {
    text.map(|text| format!(" ({text})")).unwrap_or_default()
}
