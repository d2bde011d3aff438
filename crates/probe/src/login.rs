//! From nothing to a bound resource: TCP, STARTTLS, SASL, binding (RFC 6120 sections 3 to 7).

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    error::{Cause, ProbeError, StanzaError, Step, shorten},
    names,
    scram::Scram,
    stream::Stream,
    xml::Element,
};

pub(crate) type Secured = Stream<TlsStream<TcpStream>>;

/// Where to connect, and as whom. `Debug` leaves the password out.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The server's listener for clients. There is no DNS look-up: the probe knows where it looks.
    pub address: SocketAddr,
    /// The XMPP domain; the certificate must be for it.
    pub domain: String,
    /// The local part of the account. ASCII only, since nothing is prepared (RFC 8265).
    pub username: String,
    /// The password. ASCII only.
    pub password: SecretString,
    /// The resource to ask for. The server may give another: see [`Client::jid`](crate::Client::jid).
    pub resource: String,
    /// The only authorities that may have signed the server's certificate.
    pub roots: Vec<CertificateDer<'static>>,
    /// When all of it, up to the initial presence, must have happened.
    pub deadline: Instant,
}

/// Gives the open stream and the full address.
pub(crate) async fn login(options: &ConnectOptions) -> Result<(Secured, String), ProbeError> {
    let deadline = options.deadline;
    let tcp = connect(options).await.map_err(|cause| cause.at(Step::Connect))?;
    let tcp = start_tls(tcp, options).await.map_err(|cause| cause.at(Step::StartTls))?;
    let mut stream = secure(tcp, options).await.map_err(|cause| cause.at(Step::Tls))?;
    authenticate(&mut stream, options).await.map_err(|cause| cause.at(Step::Auth))?;
    let jid = bind(&mut stream, options).await.map_err(|cause| cause.at(Step::Bind))?;
    open_session(&mut stream, deadline).await.map_err(|cause| cause.at(Step::Session))?;
    Ok((stream, jid))
}

async fn connect(options: &ConnectOptions) -> Result<TcpStream, Cause> {
    let tcp = timeout_at(options.deadline, TcpStream::connect(options.address)).await.map_err(|_| Cause::Timeout)?.map_err(Cause::Io)?;
    // Small stanzas, each of which is waited for.
    tcp.set_nodelay(true).map_err(Cause::Io)?;
    Ok(tcp)
}

async fn start_tls(tcp: TcpStream, options: &ConnectOptions) -> Result<TcpStream, Cause> {
    let mut stream = Stream::new(tcp);
    let features = stream.start(&options.domain, options.deadline).await?;
    if features.child("starttls", names::TLS).is_none() {
        return Err(Cause::NoTls);
    }
    stream.send(&Element::new(names::TLS, "starttls").to_xml("")?, options.deadline).await?;
    if !stream.element(options.deadline).await?.is("proceed", names::TLS) {
        return Err(Cause::NoTls);
    }
    stream.into_io()
}

async fn secure(tcp: TcpStream, options: &ConnectOptions) -> Result<Secured, Cause> {
    let mut roots = RootCertStore::empty();
    for root in &options.roots {
        roots.add(root.clone()).map_err(|error| Cause::TlsOptions(error.into()))?;
    }
    // Named here and not taken from the process, so that the probe works whatever the process has installed.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Cause::TlsOptions(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(options.domain.clone()).map_err(|error| Cause::TlsOptions(error.into()))?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let tls = timeout_at(options.deadline, handshake).await.map_err(|_| Cause::Timeout)?.map_err(Cause::Io)?;
    Ok(Stream::new(tls))
}

async fn authenticate(stream: &mut Secured, options: &ConnectOptions) -> Result<(), Cause> {
    for text in [options.username.as_str(), options.password.expose_secret()] {
        if text.is_empty() || text.chars().any(|c| !matches!(c, ' '..='~')) {
            return Err(Cause::Credentials("the user name and the password must be printable ASCII"));
        }
    }
    let features = stream.start(&options.domain, options.deadline).await?;
    let offered: Vec<String> = features
        .child("mechanisms", names::SASL)
        .map(|mechanisms| mechanisms.children().take(16).map(|mechanism| shorten(&mechanism.text())).collect())
        .unwrap_or_default();
    let offers = |name: &str| offered.iter().any(|mechanism| mechanism == name);
    if offers("SCRAM-SHA-256") {
        scram(stream, options).await
    } else if offers("PLAIN") {
        plain(stream, options).await
    } else {
        Err(Cause::NoMechanism { offered })
    }
}

async fn scram(stream: &mut Secured, options: &ConnectOptions) -> Result<(), Cause> {
    let scram = Scram::new(&options.username, random_id()?);
    let challenge = sasl(stream, auth("SCRAM-SHA-256", &scram.first()), options.deadline).await?;
    if !challenge.is("challenge", names::SASL) {
        return Err(Cause::Scram("the server sent no challenge"));
    }
    let (last, expected) = scram.respond(&decoded(&challenge)?, &options.password).map_err(Cause::Scram)?;
    let mut outcome = sasl(stream, response(&last), options.deadline).await?;
    // The server's proof may come with the success or in a challenge before it (RFC 6120 section 6.4.5); it must come.
    if outcome.is("challenge", names::SASL) {
        expected.verify(&decoded(&outcome)?).map_err(Cause::Scram)?;
        outcome = sasl(stream, response(""), options.deadline).await?;
    } else {
        expected.verify(&decoded(&outcome)?).map_err(Cause::Scram)?;
    }
    succeeded(&outcome)
}

async fn plain(stream: &mut Secured, options: &ConnectOptions) -> Result<(), Cause> {
    let message = SecretString::from(format!("\0{}\0{}", options.username, options.password.expose_secret()));
    succeeded(&sasl(stream, auth("PLAIN", message.expose_secret()), options.deadline).await?)
}

fn succeeded(outcome: &Element) -> Result<(), Cause> {
    if outcome.is("success", names::SASL) { Ok(()) } else { Err(Cause::Protocol("no SASL success")) }
}

fn auth(mechanism: &str, message: &str) -> Element {
    Element::new(names::SASL, "auth").with_attr("mechanism", mechanism).with_text(&BASE64_STANDARD.encode(message))
}

fn response(message: &str) -> Element {
    Element::new(names::SASL, "response").with_text(&BASE64_STANDARD.encode(message))
}

fn decoded(element: &Element) -> Result<String, Cause> {
    let bytes = BASE64_STANDARD.decode(element.text().trim()).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Cause::Scram("the server's message is not Base64 of text"))
}

/// Sends one SASL message and gives the answer, unless that is a refusal.
async fn sasl(stream: &mut Secured, message: Element, deadline: Instant) -> Result<Element, Cause> {
    stream.send(&message.to_xml("")?, deadline).await?;
    let answer = stream.element(deadline).await?;
    if answer.is("failure", names::SASL) {
        let (condition, _) = crate::error::condition_and_text(&answer, names::SASL);
        return Err(Cause::Refused { condition: condition.unwrap_or_else(|| "no condition".to_owned()) });
    }
    Ok(answer)
}

async fn bind(stream: &mut Secured, options: &ConnectOptions) -> Result<String, Cause> {
    let features = stream.start(&options.domain, options.deadline).await?;
    if features.child("bind", names::BIND).is_none() {
        return Err(Cause::Protocol("no resource binding"));
    }
    let resource = Element::new(names::BIND, "resource").with_text(&options.resource);
    let result = iq(stream, "set", Element::new(names::BIND, "bind").with_child(resource), options.deadline).await?;
    let jid = result.child("bind", names::BIND).and_then(|bind| bind.child("jid", names::BIND)).map(Element::text);
    jid.filter(|jid| jid.contains('/')).ok_or(Cause::Protocol("no full address"))
}

/// Asks for the roster, since servers tell about subscriptions only those that did (RFC 6121 section 2.2), and becomes available.
async fn open_session(stream: &mut Secured, deadline: Instant) -> Result<(), Cause> {
    match iq(stream, "get", Element::new(names::ROSTER, "query"), deadline).await {
        // A server without rosters still delivers messages.
        Ok(_) | Err(Cause::Stanza(_)) => {}
        Err(cause) => return Err(cause),
    }
    stream.send("<presence/>", deadline).await
}

/// An IQ before the initial presence, when nothing else than its answer can come.
async fn iq(stream: &mut Secured, kind: &str, payload: Element, deadline: Instant) -> Result<Element, Cause> {
    let id = random_id()?;
    let request = Element::new(names::CLIENT, "iq").with_attr("type", kind).with_attr("id", &id).with_child(payload);
    stream.send(&request.to_xml(names::CLIENT)?, deadline).await?;
    let answer = stream.element(deadline).await?;
    if !answer.is("iq", names::CLIENT) || answer.attr("id") != Some(&id) {
        return Err(Cause::Protocol("another stanza than the answer"));
    }
    match answer.attr("type") {
        Some("result") => Ok(answer),
        Some("error") => Err(Cause::Stanza(StanzaError::of(&answer))),
        _ => Err(Cause::Protocol("an answer that is none")),
    }
}

/// 144 random bits in URL-safe Base64: an id that nobody else can guess.
pub(crate) fn random_id() -> Result<String, Cause> {
    let mut bytes = [0; 18];
    ::aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Cause::Random)?;
    Ok(base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes))
}
