//! Namespaces.

pub(crate) const STREAM: &str = "http://etherx.jabber.org/streams";
pub(crate) const CLIENT: &str = "jabber:client";
pub(crate) const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
pub(crate) const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
pub(crate) const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
pub(crate) const ROSTER: &str = "jabber:iq:roster";
pub(crate) const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
pub(crate) const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
pub(crate) const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
pub(crate) const RECEIPTS: &str = "urn:xmpp:receipts";
pub(crate) const CORRECT: &str = "urn:xmpp:message-correct:0";
pub(crate) const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
pub(crate) const PING: &str = "urn:xmpp:ping";
