//! A connection to a hub's peer listener, right or wrong in one way.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::response::Parts;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::{Method, Url};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore, SignatureScheme,
    client::{
        ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    server::ParsedCertificate,
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{front::Front, pki::Leaf};
use crate::{
    case::Stop,
    exchange::{Answer, Exchange, shown},
    scene::{Scene, chain},
    stream::{Cutter, Frame},
    tamper::{self, OnFeed},
};

/// Longest wait for a handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(20);
const LARGEST: usize = 8 * 1024 * 1024;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// How to connect.
pub(crate) struct Dial<'a> {
    /// `https://host:port` of the trust document.
    pub(crate) endpoint: &'a Url,
    /// The roots of the hub's domain.
    pub(crate) roots: &'a [CertificateDer<'static>],
    /// The client certificate to show.
    pub(crate) leaf: Option<&'a Leaf>,
    /// The protocols to offer.
    pub(crate) alpn: &'a [&'a [u8]],
    /// Whether to offer TLS 1.2 alone.
    pub(crate) old: bool,
    /// What a mutant has put in front of the listener.
    pub(crate) front: Option<&'a Front>,
}

/// What the handshake showed.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// Session tickets that came.
    pub(crate) tickets: AtomicUsize,
    /// Names of authorities in the request for a certificate.
    pub(crate) hints: AtomicUsize,
}

/// An open connection.
pub(crate) struct Link {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: String,
    driver: JoinHandle<()>,
    pub(crate) shown: Arc<Shown>,
    /// What a mutant does to streams on it.
    pub(super) feed: Option<OnFeed>,
}
impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Opens a connection. The error says at which step it ended.
pub(crate) async fn dial(dial: &Dial<'_>) -> Result<Link, String> {
    timeout(CONNECT, open(dial)).await.map_err(|_| format!("no handshake within {CONNECT:?}"))?
}

fn text(step: &str, error: &dyn std::error::Error) -> String {
    format!("{step}: {}", chain(error))
}

async fn open(dial: &Dial<'_>) -> Result<Link, String> {
    if let (Some(front), Some(leaf)) = (dial.front, dial.leaf) {
        front.know(leaf);
    }
    let (tls, shown) = handshake(dial).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.map_err(|error| text("HTTP/2", &error))?;
    let driver = tokio::spawn(async move {
        // How it ended shows in the requests on it.
        let _ = connection.await;
    });
    let (host, port) = (dial.endpoint.host_str().unwrap_or_default(), dial.endpoint.port_or_known_default().unwrap_or(443));
    Ok(Link { sender, authority: format!("{host}:{port}"), driver, shown, feed: None })
}

/// TCP and TLS.
pub(crate) async fn handshake(dial: &Dial<'_>) -> Result<(TlsStream<TcpStream>, Arc<Shown>), String> {
    let host = dial.endpoint.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = dial.endpoint.port_or_known_default().unwrap_or(443);
    let shown = Arc::new(Shown::default());
    let mut roots = RootCertStore::empty();
    for root in dial.roots {
        roots.add(root.clone()).map_err(|error| text("the hub's root", &error))?;
    }
    let versions: &[&rustls::SupportedProtocolVersion] = if dial.old { &[&TLS12] } else { &[&TLS13] };
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).map_err(|error| text("TLS", &error))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(ByRoots(roots)));
    let identity = match dial.leaf {
        None => None,
        Some(leaf) => Some(leaf.certified().map_err(|error| text("TLS key", &error))?),
    };
    let mut config = builder.with_client_cert_resolver(Arc::new(Identity { identity, shown: shown.clone() }));
    config.alpn_protocols = dial.alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::store(Arc::new(Tickets(shown.clone())));
    let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|error| text("TCP", &error))?;
    tcp.set_nodelay(true).map_err(|error| text("TCP", &error))?;
    let name = ServerName::try_from(host.clone()).map_err(|error| text("TLS name", &error))?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| text("TLS", &error))?;
    Ok((tls, shown))
}

/// A request.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    /// The `Authorization` header.
    pub(crate) authorization: Option<String>,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: Vec<u8>,
}
impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str, token: &str) -> Self {
        Self { method: Method::GET, path, authorization: Some(format!("Bearer {token}")), headers: &[], body: Vec::new() }
    }
    pub(crate) fn post(path: &'a str, token: &str, body: &Value) -> Self {
        Self { method: Method::POST, body: body.to_string().into_bytes(), ..Self::get(path, token) }
    }
}

impl Link {
    async fn send(&self, ask: &Ask<'_>) -> Result<http::Response<Incoming>, String> {
        let mut request = http::Request::builder().method(ask.method.clone()).uri(format!("https://{}{}", self.authority, ask.path));
        if let Some(value) = &ask.authorization {
            request = request.header("authorization", value);
        }
        if !ask.body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(ask.body.clone()))).map_err(|error| error.to_string())?;
        let mut sender = self.sender.clone();
        let work = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        timeout(ANSWER, work).await.map_err(|_| format!("no answer within {ANSWER:?}"))?.map_err(|error| chain(&error))
    }

    /// Sends a request and reads the answer. An error is a connection without an answer.
    pub(crate) async fn ask(&self, scene: &Scene, ask: Ask<'_>) -> Result<Answer, String> {
        let what = format!("{} {} (peer listener)", ask.method, ask.path);
        let work = async {
            let response = self.send(&ask).await?;
            let (head, body) = response.into_parts();
            let body = timeout(ANSWER, Limited::new(body, LARGEST).collect()).await.map_err(|_| "the answer does not end".to_owned())?;
            let bytes = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
            Ok((head, bytes))
        };
        let done: Result<_, String> = work.await.and_then(|(head, bytes)| tampered(scene, &ask, head, bytes));
        let (status, headers, bytes) = match &done {
            Ok((head, bytes)) => (head.status.as_u16(), head.headers.clone(), bytes.clone()),
            Err(_) => (0, http::HeaderMap::new(), Bytes::new()),
        };
        scene.keep(Exchange {
            request: what.clone(),
            request_headers: ask.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            request_body: shown(&ask.body),
            status,
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            body: shown(&bytes),
        });
        done?;
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { what, status, headers, bytes, json })
    }

    /// As [`ask`](Self::ask), where an answer has to come.
    pub(crate) async fn answer(&self, scene: &Scene, ask: Ask<'_>) -> Result<Answer, Stop> {
        let what = format!("{} {}", ask.method, ask.path);
        self.ask(scene, ask).await.map_err(|error| Stop::Failed(format!("{what} at the peer listener: {error}")))
    }

    /// Opens a stream of events.
    pub(crate) async fn stream(&self, ask: Ask<'_>) -> Result<Feed, Stop> {
        let what = format!("{} {} (peer listener)", ask.method, ask.path);
        let response = self.send(&ask).await.map_err(|error| Stop::Failed(format!("{what}: {error}")))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Ok(Feed {
            what,
            status,
            headers,
            body: response.into_body(),
            cutter: Cutter::default(),
            ready: Vec::new(),
            ended: false,
            change: self.feed,
        })
    }
}

/// The answer as a mutant gives it, where one is judged.
fn tampered(scene: &Scene, ask: &Ask<'_>, mut head: Parts, bytes: Bytes) -> Result<(Parts, Bytes), String> {
    let tamper = &scene.world.tamper;
    if tamper.doors.link.is_none() {
        return Ok((head, bytes));
    }
    let mut headers = http::HeaderMap::new();
    if let Some(value) = ask.authorization.as_ref().and_then(|value| value.parse().ok()) {
        headers.insert(http::header::AUTHORIZATION, value);
    }
    for (name, value) in ask.headers {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(*name), value.parse()) {
            headers.insert(name, value);
        }
    }
    let (path, query) = ask.path.split_once('?').unwrap_or((ask.path, ""));
    let asked = tamper::Ask { method: ask.method.clone(), path: path.to_owned(), query: query.to_owned(), headers, body: ask.body.clone() };
    let mut reply = tamper::Reply { status: head.status.as_u16(), headers: head.headers, body: bytes.to_vec() };
    tamper.answer(&asked, &mut reply);
    head.status = http::StatusCode::from_u16(reply.status).map_err(|error| error.to_string())?;
    head.headers = reply.headers;
    Ok((head, reply.body.into()))
}

/// An open stream of events of a peer listener.
pub(crate) struct Feed {
    pub(crate) what: String,
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    body: Incoming,
    cutter: Cutter,
    ready: Vec<Frame>,
    /// Whether the other side has ended it, well or not.
    pub(crate) ended: bool,
    change: Option<OnFeed>,
}
impl Feed {
    /// The next frame with data; `None` at the end or when the time is over.
    pub(crate) async fn next(&mut self, within: Duration) -> Option<Frame> {
        let until = tokio::time::Instant::now() + within;
        loop {
            while !self.ready.is_empty() {
                let mut frame = self.ready.remove(0);
                if !frame.data.is_empty() && self.change.is_none_or(|change| change(&mut frame)) {
                    return Some(frame);
                }
            }
            if self.ended {
                return None;
            }
            match tokio::time::timeout_at(until, self.body.frame()).await {
                Err(_) => return None,
                Ok(None | Some(Err(_))) => self.ended = true,
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.ready = self.cutter.push(&data);
                    }
                }
            }
        }
    }

    /// Every frame to the end.
    pub(crate) async fn whole(mut self, within: Duration) -> Result<Vec<Frame>, Stop> {
        let until = tokio::time::Instant::now() + within;
        let mut frames = Vec::new();
        while let Some(frame) = self.next(until.saturating_duration_since(tokio::time::Instant::now())).await {
            frames.push(frame);
        }
        if self.ended {
            Ok(frames)
        } else {
            Err(Stop::Failed(format!("{}: the stream does not end; it has brought {} frames", self.what, frames.len())))
        }
    }
}

/// Takes a server whose chain ends at the hub's own roots. Its name is the business of a hub, not of this suite.
#[derive(Debug)]
struct ByRoots(RootCertStore);
impl ServerCertVerifier for ByRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = provider().signature_verification_algorithms;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.0, intermediates, now, algorithms.all)?;
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Shows the certificate and counts the authorities that the server named.
#[derive(Debug)]
struct Identity {
    identity: Option<Arc<CertifiedKey>>,
    shown: Arc<Shown>,
}
impl ResolvesClientCert for Identity {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.shown.hints.store(hints.len(), Ordering::Relaxed);
        self.identity.clone()
    }
    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

/// Counts session tickets and keeps none.
struct Tickets(Arc<Shown>);
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}
impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.tickets.fetch_add(1, Ordering::Relaxed);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
