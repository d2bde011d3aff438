//! An open session.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{
    error::{Cause, ProbeError, StanzaError, Step},
    event::Event,
    login::{ConnectOptions, Secured, login, random_id},
    names,
    xml::Element,
};

/// How long one write may take.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many events are kept while an IQ answer is awaited. At the bound the wait ends with
/// [`Cause::TooManyEvents`](crate::Cause::TooManyEvents): a probe that drops what it saw would report wrongly.
pub const MAX_PENDING_EVENTS: usize = 1024;
/// How long the server may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A session of one resource. Dropping it cuts the connection; [`Client::close`] says goodbye first.
///
/// After an error at [`Step::Send`], and after any at [`Step::Receive`] but a time-out or a refusal, the session is over.
#[derive(Debug)]
pub struct Client {
    stream: Secured,
    jid: String,
    pending: VecDeque<Event>,
}

impl Client {
    /// Connects, logs in, binds the resource and becomes available.
    ///
    /// # Errors
    /// With the step that failed; see [`Step`].
    pub async fn connect(options: ConnectOptions) -> Result<Self, ProbeError> {
        let (stream, jid) = login(&options).await?;
        Ok(Self { stream, jid, pending: VecDeque::new() })
    }

    /// The full address that the server gave.
    #[must_use]
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// Sends a chat message (with `<active/>`, so that the other side may send chat states) and gives its id.
    ///
    /// # Errors
    /// When it cannot be written, or the text holds what XML cannot.
    pub async fn send_message(&mut self, to: &str, body: &str, thread: Option<&str>, request_receipt: bool) -> Result<String, ProbeError> {
        let id = random_id().map_err(|cause| cause.at(Step::Send))?;
        let mut message = Element::new(names::CLIENT, "message")
            .with_attr("to", to)
            .with_attr("type", "chat")
            .with_attr("id", &id)
            .with_child(Element::new(names::CLIENT, "body").with_text(body))
            .with_child(Element::new(names::CHAT_STATES, "active"));
        if let Some(thread) = thread {
            message = message.with_child(Element::new(names::CLIENT, "thread").with_text(thread));
        }
        if request_receipt {
            message = message.with_child(Element::new(names::RECEIPTS, "request"));
        }
        self.send(&message).await?;
        Ok(id)
    }

    /// Asks to see somebody's presence. The answer comes as an [`Event::Presence`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn subscribe(&mut self, to: &str) -> Result<(), ProbeError> {
        self.send(&Element::new(names::CLIENT, "presence").with_attr("to", to).with_attr("type", "subscribe")).await
    }

    /// Sends an IQ of type `get` with one payload element and gives the result stanza. What comes meanwhile is kept for
    /// [`Client::next_event`].
    ///
    /// # Errors
    /// [`Cause::Stanza`](crate::Cause::Stanza) with the other side's refusal, [`Cause::Timeout`](crate::Cause::Timeout) without
    /// an answer, and what can go wrong on the connection.
    pub async fn iq_get(&mut self, to: &str, payload: &str, timeout: Duration) -> Result<Element, ProbeError> {
        let deadline = Instant::now() + timeout;
        // Read first, so that a slip in the payload does not end the stream.
        let payload = Element::parse(payload).map_err(|error| Cause::from(error).at(Step::Send))?;
        let id = random_id().map_err(|cause| cause.at(Step::Send))?;
        let request =
            Element::new(names::CLIENT, "iq").with_attr("to", to).with_attr("type", "get").with_attr("id", &id).with_child(payload);
        self.send(&request).await?;
        loop {
            let stanza = self.receive(deadline).await?;
            if stanza.is("iq", names::CLIENT) && stanza.attr("id") == Some(&id) {
                match stanza.attr("type") {
                    Some("result") => return Ok(stanza),
                    Some("error") => return Err(Cause::Stanza(StanzaError::of(&stanza)).at(Step::Receive)),
                    _ => {}
                }
            }
            if self.pending.len() >= MAX_PENDING_EVENTS {
                return Err(Cause::TooManyEvents.at(Step::Receive));
            }
            self.pending.push_back(Event::of(stanza));
        }
    }

    /// The next thing that comes, or came during [`Client::iq_get`]. Queries that this client answers itself do not show.
    ///
    /// # Errors
    /// [`Cause::Timeout`](crate::Cause::Timeout) when nothing comes before the deadline (the session goes on), and what can go
    /// wrong on the connection.
    pub async fn next_event(&mut self, deadline: Instant) -> Result<Event, ProbeError> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(event);
        }
        Ok(Event::of(self.receive(deadline).await?))
    }

    /// Writes a text as it is, well-formed or not: for trying out what the server does with hostile input.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn raw(&mut self, text: &str) -> Result<(), ProbeError> {
        self.stream.send(text, Instant::now() + WRITE_TIMEOUT).await.map_err(|cause| cause.at(Step::Send))
    }

    /// Ends the session and waits a moment for the server to end it too.
    ///
    /// # Errors
    /// When the goodbye cannot be written or none comes back.
    pub async fn close(self) -> Result<(), ProbeError> {
        self.stream.finish(Instant::now() + CLOSE_TIMEOUT).await.map_err(|cause| cause.at(Step::Send))
    }

    async fn send(&mut self, stanza: &Element) -> Result<(), ProbeError> {
        let xml = stanza.to_xml(names::CLIENT).map_err(|error| Cause::from(error).at(Step::Send))?;
        self.raw(&xml).await
    }

    /// The next stanza that is not a query to this client; those are answered (RFC 6120 section 8.2.3).
    async fn receive(&mut self, deadline: Instant) -> Result<Element, ProbeError> {
        loop {
            let stanza = self.stream.element(deadline).await.map_err(|cause| cause.at(Step::Receive))?;
            match self.reply(&stanza) {
                Some(reply) => self.send(&reply).await?,
                None => return Ok(stanza),
            }
        }
    }

    fn reply(&self, stanza: &Element) -> Option<Element> {
        let kind = stanza.attr("type").filter(|kind| stanza.is("iq", names::CLIENT) && matches!(*kind, "get" | "set"))?;
        let mut reply = Element::new(names::CLIENT, "iq").with_attr("id", stanza.attr("id").unwrap_or_default());
        if let Some(from) = stanza.attr("from") {
            reply = reply.with_attr("to", from);
        }
        // A roster push is the own server's only, which speaks for the account (RFC 6121 section 2.1.6).
        let own = stanza.attr("from").is_none_or(|from| Some(from) == self.jid.split('/').next());
        let asks = |name, ns| stanza.child(name, ns);
        if kind == "get"
            && let Some(query) = asks("query", names::DISCO_INFO)
        {
            return Some(reply.with_attr("type", "result").with_child(about_us(query.attr("node"))));
        }
        if kind == "get" && asks("ping", names::PING).is_some() || kind == "set" && own && asks("query", names::ROSTER).is_some() {
            return Some(reply.with_attr("type", "result"));
        }
        let condition = Element::new(names::STANZA_ERRORS, "service-unavailable");
        let error = Element::new(names::CLIENT, "error").with_attr("type", "cancel").with_child(condition);
        Some(reply.with_attr("type", "error").with_child(error))
    }
}

/// What this client can do (XEP-0030). An agent sends growing answers only to those that say they understand corrections.
fn about_us(node: Option<&str>) -> Element {
    let mut query = Element::new(names::DISCO_INFO, "query");
    if let Some(node) = node {
        query = query.with_attr("node", node);
    }
    let identity = Element::new(names::DISCO_INFO, "identity").with_attr("category", "client").with_attr("type", "console");
    let features = [names::DISCO_INFO, names::PING, names::CHAT_STATES, names::RECEIPTS, names::CORRECT];
    let feature = |feature| Element::new(names::DISCO_INFO, "feature").with_attr("var", feature);
    features.into_iter().map(feature).fold(query.with_child(identity), Element::with_child)
}
