//! A server that does what a test tells it to, stanza by stanza.

use std::sync::Arc;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::ConnectOptions;

pub(crate) const DOMAIN: &str = "hub-a.example";
pub(crate) const PASSWORD: &str = "correct horse battery staple";
const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0' from='hub-a.example'>";
const SASL: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";

/// A listener with a certificate.
pub(crate) struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
    root: CertificateDer<'static>,
}

impl Listener {
    pub(crate) async fn new(certified: &str) -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([certified.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { tcp, tls: TlsAcceptor::from(Arc::new(config)), root: ca.der().clone() }
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions {
            address: self.tcp.local_addr().unwrap(),
            domain: DOMAIN.to_owned(),
            username: "probe".to_owned(),
            password: PASSWORD.into(),
            resource: "look".to_owned(),
            roots: vec![self.root.clone()],
            deadline: within(20),
        }
    }

    pub(crate) async fn accept(&self) -> Peer<TcpStream> {
        let (tcp, _) = self.tcp.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Peer { io: tcp, got: String::new(), slice: usize::MAX }
    }

    /// Up to TLS. `None` when the client does not like the certificate.
    pub(crate) async fn secured(&self) -> Option<Peer<TlsStream<TcpStream>>> {
        let mut peer = self.accept().await;
        peer.open("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>").await;
        peer.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        peer.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        let io = self.tls.accept(peer.io).await.ok()?;
        Some(Peer { io, got: String::new(), slice: usize::MAX })
    }

    /// Up to the initial presence.
    pub(crate) async fn session(&self) -> Peer<TlsStream<TcpStream>> {
        let mut peer = self.secured().await.unwrap();
        peer.scram(None).await.unwrap();
        peer.bind().await;
        peer
    }
}

pub(crate) fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// The server's end of one connection.
pub(crate) struct Peer<S> {
    io: S,
    got: String,
    /// How many bytes go into one write.
    pub(crate) slice: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) async fn say(&mut self, text: &str) {
        for part in text.as_bytes().chunks(self.slice) {
            self.io.write_all(part).await.unwrap();
            self.io.flush().await.unwrap();
        }
    }

    /// As [`Peer::say`], to a client that may hang up.
    pub(crate) async fn try_say(&mut self, text: &str) {
        let _ = self.io.write_all(text.as_bytes()).await;
        let _ = self.io.flush().await;
    }

    /// What the client sends, up to and with this text.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.got.find(end) {
                let rest = self.got.split_off(at + end.len());
                return std::mem::replace(&mut self.got, rest);
            }
            let mut chunk = [0; 4096];
            let length = self.io.read(&mut chunk).await.unwrap();
            assert!(length > 0, "the client hung up after {:?} instead of sending {end:?}", self.got);
            self.got.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        }
    }

    /// Until the client hangs up.
    pub(crate) async fn hung_up(&mut self) {
        let mut chunk = [0; 4096];
        while self.io.read(&mut chunk).await.is_ok_and(|length| length > 0) {}
    }

    pub(crate) async fn open(&mut self, features: &str) {
        let header = self.until("version='1.0' to='hub-a.example'>").await;
        assert!(header.contains("<stream:stream xmlns='jabber:client'"), "{header}");
        self.say(&format!("{HEADER}<stream:features>{features}</stream:features>")).await;
    }

    pub(crate) async fn offer(&mut self, mechanisms: &[&str]) {
        let mechanisms: String = mechanisms.iter().map(|name| format!("<mechanism>{name}</mechanism>")).collect();
        self.open(&format!("<mechanisms {SASL}>{mechanisms}</mechanisms>")).await;
    }

    /// The content of the next SASL message.
    pub(crate) async fn sasl(&mut self, name: &str) -> String {
        let message = self.until(&format!("</{name}>")).await;
        let text = message.trim_end_matches(&format!("</{name}>")).rsplit('>').next().unwrap().to_owned();
        String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap()
    }

    pub(crate) async fn say_sasl(&mut self, name: &str, text: &str) {
        self.say(&format!("<{name} {SASL}>{}</{name}>", BASE64_STANDARD.encode(text))).await;
    }

    pub(crate) async fn refuse(&mut self) {
        self.say(&format!("<failure {SASL}><not-authorized/><text>no</text></failure>")).await;
    }

    /// Checks the client's proof as RFC 5802 section 3 says, and proves itself, or says `lie` instead.
    pub(crate) async fn scram(&mut self, lie: Option<&str>) -> Result<(), ()> {
        self.offer(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-1"]).await;
        let first = self.sasl("auth").await;
        let first_bare = first.strip_prefix("n,,").unwrap();
        let nonce = first_bare.strip_prefix("n=probe,r=").unwrap();
        let server_first = format!("r={nonce}srv,s={},i=4096", BASE64_STANDARD.encode("some salt"));
        self.say_sasl("challenge", &server_first).await;
        let last = self.sasl("response").await;
        let (without_proof, proof) = last.split_once(",p=").unwrap();
        assert_eq!(without_proof, format!("c=biws,r={nonce}srv"));

        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, 4096.try_into().unwrap(), b"some salt", PASSWORD.as_bytes(), &mut salted);
        let mac = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let stored = digest::digest(&digest::SHA256, mac(&salted, b"Client Key").as_ref());
        let signed = format!("{first_bare},{server_first},{without_proof}");
        let signature = mac(stored.as_ref(), signed.as_bytes());
        let key: Vec<u8> = BASE64_STANDARD.decode(proof).unwrap().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        if digest::digest(&digest::SHA256, &key).as_ref() != stored.as_ref() {
            self.refuse().await;
            return Err(());
        }
        let proof = format!("v={}", BASE64_STANDARD.encode(mac(mac(&salted, b"Server Key").as_ref(), signed.as_bytes())));
        self.say_sasl("success", lie.unwrap_or(&proof)).await;
        Ok(())
    }

    pub(crate) async fn bind(&mut self) {
        self.open("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>").await;
        let id = self.iq("<resource>look</resource>").await;
        self.say(&format!(
            "<iq type='result' id='{id}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>probe@hub-a.example/look</jid></bind></iq>"
        ))
        .await;
        let id = self.iq("jabber:iq:roster").await;
        self.say(&format!("<iq type='result' id='{id}'><query xmlns='jabber:iq:roster'/></iq>")).await;
        self.until("<presence/>").await;
    }

    /// The id of the next IQ, which must contain this text.
    pub(crate) async fn iq(&mut self, content: &str) -> String {
        let iq = self.until("</iq>").await;
        assert!(iq.contains(content), "{iq}");
        attribute(&iq, "id")
    }

    /// The id and thread of the next message.
    pub(crate) async fn question(&mut self) -> (String, String) {
        let message = self.until("</message>").await;
        let thread = message.split("<thread>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default();
        (attribute(&message, "id"), thread.to_owned())
    }
}

fn attribute(xml: &str, name: &str) -> String {
    xml.split(&format!(" {name}='")).nth(1).unwrap().split('\'').next().unwrap().to_owned()
}
