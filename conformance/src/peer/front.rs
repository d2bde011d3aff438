//! What a mutant puts in front of a hub's peer listener: a listener that ends TLS and lets in what the hub must refuse.
//!
//! It takes every handshake and opens one to the hub that is just the same: the certificate is one of the suite's own, so that its key
//! is known here. What the hub refuses is refused, only later. The one thing that the mutant gets wrong is put right on the way, and so
//! the hub serves it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::Url;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ProtocolVersion, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        NoServerSessionStorage, ServerSessionMemoryCache,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Hub,
    link::{Dial, handshake, provider},
    pki::{Authority, Leaf, Plan},
};
use crate::{case::Stop, tamper::Fault};

const H2: &[u8] = b"h2";

/// An open front; it ends when it is dropped.
pub(crate) struct Front {
    /// Where it listens.
    pub(crate) endpoint: Url,
    /// The authority of its certificate.
    pub(crate) root: CertificateDer<'static>,
    inner: Arc<Inner>,
    task: AbortHandle,
}
impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Inner {
    fault: Fault,
    /// The hub's own listener.
    endpoint: Url,
    roots: Vec<CertificateDer<'static>>,
    /// What the hub takes.
    good: Leaf,
    /// Certificates of the suite that were shown here.
    known: Mutex<Vec<Leaf>>,
}

impl Front {
    /// Opens it before a hub. `good`: a certificate that the hub takes.
    pub(crate) async fn open(fault: Fault, hub: &Hub, good: &Leaf) -> Result<Self, Stop> {
        let authority = Authority::new("front")?;
        let leaf = authority.leaf(&Plan::of(&hub.node))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(harness)?;
        let port = listener.local_addr().map_err(harness)?.port();
        let acceptor = TlsAcceptor::from(Arc::new(config(fault, &leaf).map_err(harness)?));
        let inner = Arc::new(Inner {
            fault,
            endpoint: hub.endpoint.clone(),
            roots: hub.roots.clone(),
            good: good.clone(),
            known: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, acceptor, inner.clone())).abort_handle();
        let endpoint = Url::parse(&format!("https://127.0.0.1:{port}")).map_err(harness)?;
        Ok(Self { endpoint, root: authority.certificate.clone(), inner, task })
    }

    /// Remembers the key of a certificate that will be shown.
    pub(crate) fn know(&self, leaf: &Leaf) {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).push(leaf.clone());
    }
}

fn harness(error: impl fmt::Display) -> Stop {
    Stop::Harness(format!("the broken peer listener: {error}"))
}

fn config(fault: Fault, leaf: &Leaf) -> Result<ServerConfig, Error> {
    let names = if matches!(fault, Fault::Hints) { vec![DistinguishedName::in_sequence(b"")] } else { Vec::new() };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(Arc::new(Anybody { names }))
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(leaf.certified()?)));
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    if matches!(fault, Fault::Tickets) {
        config.session_storage = ServerSessionMemoryCache::new(32);
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((tcp, _)) = accepted {
                connections.spawn(pass(tcp, acceptor.clone(), inner.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(tcp: TcpStream, acceptor: TlsAcceptor, inner: Arc<Inner>) {
    let _ = tcp.set_nodelay(true);
    let Ok(mut client) = acceptor.accept(tcp).await else { return };
    let mut shown = {
        let session = client.get_ref().1;
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        Shown {
            old: session.protocol_version() == Some(ProtocolVersion::TLSv1_2),
            protocol: session.alpn_protocol().map(<[u8]>::to_vec),
            leaf: certificate.and_then(|der| inner.known.lock().ok()?.iter().find(|leaf| leaf.certificate == *der).cloned()),
        }
    };
    inner.put_right(&mut shown);
    let protocols: Vec<&[u8]> = shown.protocol.iter().map(Vec::as_slice).collect();
    let dial =
        Dial { endpoint: &inner.endpoint, roots: &inner.roots, leaf: shown.leaf.as_ref(), alpn: &protocols, old: shown.old, front: None };
    // What the hub refuses ends here, and so does the client's connection.
    if let Ok((mut hub, _)) = handshake(&dial).await {
        let _ = copy_bidirectional(&mut client, &mut hub).await;
    }
}

/// What a client showed.
struct Shown {
    old: bool,
    protocol: Option<Vec<u8>>,
    leaf: Option<Leaf>,
}

impl Inner {
    fn put_right(&self, shown: &mut Shown) {
        match self.fault {
            Fault::OldTls => shown.old = false,
            Fault::AnyProtocol => shown.protocol = Some(H2.to_vec()),
            Fault::NoCertificate => {
                shown.leaf.get_or_insert_with(|| self.good.clone());
            }
            Fault::Certificate(taken) => {
                if shown.leaf.as_ref().is_some_and(|leaf| leaf.certificate != self.good.certificate && taken(&leaf.said, &self.good.said)) {
                    shown.leaf = Some(self.good.clone());
                }
            }
            Fault::Nothing | Fault::Tickets | Fault::Hints => {}
        }
    }
}

/// Takes every certificate, and none: who is let in is decided behind the handshake.
#[derive(Debug)]
struct Anybody {
    names: Vec<DistinguishedName>,
}
impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names
    }
    fn verify_client_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
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
