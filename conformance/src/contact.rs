//! A person of the hub with an XMPP client, as a case needs one.

use std::time::Duration;

use aiox_probe::{Cause, ChatState, Client, ConnectOptions, Element, Event, Message, MessageKind, Presence, PresenceKind, Step};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use secrecy::SecretString;
use tokio::time::Instant;

use crate::{
    case::Stop,
    scene::{Scene, chain},
    tamper::OnStanza,
    world::Account,
};

/// Longest wait for an answer of an echo agent.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long nothing has to come for a case to say that nothing comes.
pub(crate) const MOMENT: Duration = Duration::from_millis(1200);
/// Longest wait for an account to be known to the XMPP server.
const KNOWN: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);
/// The authorities of the system, where they are on the usual systems.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(crate) const CLIENT: &str = "jabber:client";
pub(crate) const ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// Escapes a text for XML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;").replace('"', "&quot;")
}

pub(crate) fn fresh_id() -> String {
    format!("c-{}", uuid::Uuid::new_v4().simple())
}

fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or_default()
}

/// Somebody who is logged in.
pub(crate) struct Contact {
    client: Client,
    change: Option<OnStanza>,
}

impl Contact {
    /// Logs in, as soon as the server knows the account.
    pub(crate) async fn log_in(scene: &Scene, who: &Account) -> Result<Self, Stop> {
        let Some(access) = scene.world.options.xmpp.clone() else {
            return Err(Stop::NotRun("no XMPP server was given (--xmpp, --xmpp-domain)".into()));
        };
        let harness = |what: &str, error: &dyn std::fmt::Display| Stop::Harness(format!("XMPP {what}: {error}"));
        let file = access.ca.clone().unwrap_or_else(|| SYSTEM.into());
        let pem = tokio::fs::read(&file).await.map_err(|error| harness(&file.display().to_string(), &error))?;
        let roots = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| harness("authority", &error))?;
        let mut found =
            tokio::net::lookup_host((access.host.as_str(), access.port)).await.map_err(|error| harness(&access.host, &error))?;
        let address = found.next().ok_or_else(|| harness(&access.host, &"no address"))?;
        let end = Instant::now() + KNOWN;
        loop {
            let options = ConnectOptions {
                address,
                domain: access.domain.clone(),
                username: who.username.clone(),
                password: SecretString::from(who.password.clone()),
                resource: fresh_id(),
                roots: roots.clone(),
                deadline: Instant::now() + KNOWN,
            };
            match Client::connect(options).await {
                Ok(client) => return Ok(Self { client, change: scene.world.tamper.doors.stanza }),
                Err(error) if error.step == Step::Auth && Instant::now() < end => tokio::time::sleep(PAUSE).await,
                Err(error) if error.step == Step::Auth => {
                    return Err(Stop::Failed(format!("the account cannot log in by XMPP within {KNOWN:?}: {}", chain(&error))));
                }
                Err(error) => return Err(harness("login", &chain(&error))),
            }
        }
    }

    /// The address without the resource.
    pub(crate) fn bare(&self) -> &str {
        bare(self.client.jid())
    }

    /// Sends XML as it is.
    pub(crate) async fn raw(&mut self, xml: &str) -> Result<(), Stop> {
        self.client.raw(xml).await.map_err(|error| Stop::Harness(format!("XMPP: {}", chain(&error))))
    }

    /// Sends a chat message with more children; its id.
    pub(crate) async fn say(&mut self, to: &str, body: &str, more: &str) -> Result<String, Stop> {
        let id = fresh_id();
        self.raw(&format!("<message to='{}' type='chat' id='{id}'><body>{}</body>{more}</message>", escaped(to), escaped(body))).await?;
        Ok(id)
    }

    /// The next thing that comes; `None` when nothing does.
    pub(crate) async fn next(&mut self, within: Duration) -> Result<Option<Event>, Stop> {
        let until = Instant::now() + within;
        loop {
            match self.client.next_event(until).await {
                Ok(mut event) => {
                    if self.change.is_none_or(|change| change(&mut event)) {
                        return Ok(Some(event));
                    }
                }
                Err(error) if matches!(error.cause, Cause::Timeout) => return Ok(None),
                Err(error) => return Err(Stop::Failed(format!("the XMPP session ended: {}", chain(&error)))),
            }
        }
    }

    /// Waits for one thing, dropping the others.
    pub(crate) async fn wait<T>(&mut self, what: &str, within: Duration, mut wanted: impl FnMut(&Event) -> Option<T>) -> Result<T, Stop> {
        let end = Instant::now() + within;
        while let Some(event) = self.next(end.saturating_duration_since(Instant::now())).await? {
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
        }
        Err(Stop::Failed(format!("{what} did not come within {within:?}")))
    }

    /// Everything that comes within a moment.
    pub(crate) async fn rest(&mut self) -> Result<Vec<Event>, Stop> {
        let end = Instant::now() + MOMENT;
        let mut events = Vec::new();
        while let Some(event) = self.next(end.saturating_duration_since(Instant::now())).await? {
            events.push(event);
        }
        Ok(events)
    }

    /// Every message of an agent up to the end of one answer: a body that is `active`.
    pub(crate) async fn answer(&mut self, from: &str) -> Result<Vec<Message>, Stop> {
        let mut all = Vec::new();
        let wanted = |event: &Event| -> Option<bool> {
            let Event::Message(message) = event else { return None };
            if bare(&message.from) != from || message.kind == MessageKind::Error {
                return None;
            }
            all.push(message.clone());
            (message.body.is_some() && message.chat_state == Some(ChatState::Active)).then_some(true)
        };
        self.wait(&format!("an answer of {from}"), SOON, wanted).await?;
        Ok(all)
    }

    /// Asks and waits for the whole answer.
    pub(crate) async fn ask(&mut self, to: &str, body: &str) -> Result<String, Stop> {
        self.say(to, body, "<active xmlns='http://jabber.org/protocol/chatstates'/>").await?;
        let all = self.answer(to).await?;
        Ok(all.last().and_then(|message| message.body.clone()).unwrap_or_default())
    }

    /// The error stanza for a message.
    pub(crate) async fn error(&mut self, id: &str) -> Result<Element, Stop> {
        let of = |event: &Event| match event {
            Event::Message(message) if message.kind == MessageKind::Error && message.id.as_deref() == Some(id) => {
                Some(message.stanza.clone())
            }
            _ => None,
        };
        self.wait(&format!("the error for the message {id}"), SOON, of).await
    }

    /// Sends a request and gives its answer, of whatever type.
    pub(crate) async fn iq(&mut self, to: &str, kind: &str, payload: &str) -> Result<Element, Stop> {
        let id = fresh_id();
        self.raw(&format!("<iq to='{}' type='{kind}' id='{id}'>{payload}</iq>", escaped(to))).await?;
        let of = |event: &Event| match event {
            Event::Other(stanza) if stanza.is("iq", CLIENT) && stanza.attr("id") == Some(&id) => Some(stanza.clone()),
            _ => None,
        };
        self.wait(&format!("the answer to {payload} of {to}"), Duration::from_secs(5), of).await
    }

    /// The next presence of an agent that is wanted.
    pub(crate) async fn presence(&mut self, from: &str, within: Duration, wanted: PresenceKind) -> Result<Presence, Stop> {
        let of = |event: &Event| match event {
            Event::Presence(presence) if bare(&presence.from) == from && presence.kind == wanted => Some(presence.clone()),
            _ => None,
        };
        self.wait(&format!("presence {wanted:?} of {from}"), within, of).await
    }
}

/// The type and the condition of an error stanza.
pub(crate) fn condition(stanza: &Element) -> (String, String) {
    let Some(error) = stanza.child("error", CLIENT) else { return (String::new(), String::new()) };
    let condition = error.children().find(|child| child.ns() == ERRORS && child.name() != "text").map(|child| child.name().to_owned());
    (error.attr("type").unwrap_or_default().to_owned(), condition.unwrap_or_default())
}
