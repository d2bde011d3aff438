//! Connections from workers: TCP, or TLS with certificates that may be renewed while the hub runs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, version};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Longest time of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at once; at the bound the next connection waits in the listener's backlog.
const MAX_HANDSHAKES: usize = 256;
/// Pause after a failed accept (too many open files, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The hub's TLS configuration of the moment. A new one acts on the next connection.
pub type TlsConfig = watch::Receiver<Arc<ServerConfig>>;

/// What is wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text has no certificate or no key.
    #[error("{0}: no usable PEM")]
    Pem(&'static str),
    /// The certificate, the key or the client CA is refused.
    #[error("TLS configuration")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A server configuration for gRPC: TLS 1.2 and 1.3, HTTP/2. With `client_ca`, certificates of
/// that CA are taken from workers, and `require` refuses connections without one.
///
/// # Errors
/// [`TlsError`].
pub fn server_config(chain_pem: &[u8], key_pem: &[u8], client_ca_pem: Option<&[u8]>, require: bool) -> Result<ServerConfig, TlsError> {
    let config = |error: rustls::Error| TlsError::Config(Box::new(error));
    let chain = certificates(chain_pem, "certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| TlsError::Pem("private key"))?;
    let builder = ServerConfig::builder_with_protocol_versions(&[&version::TLS13, &version::TLS12]);
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(pem, "client CA")? {
                roots.add(root).map_err(config)?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
            let verifier = if require { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::Config(Box::new(error)))?)
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(config)?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    Ok(server)
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| TlsError::Pem(what))?;
    if found.is_empty() {
        return Err(TlsError::Pem(what));
    }
    Ok(found)
}

/// The connections of a listener.
pub(crate) fn plain(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    async_stream::stream! {
        loop {
            yield Ok(accept(&listener).await);
        }
    }
}

/// The connections of a listener, after their handshake. A failed or slow handshake costs nobody
/// else anything.
pub(crate) fn encrypted(listener: TcpListener, config: TlsConfig) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    async_stream::stream! {
        let mut handshakes = FuturesUnordered::new();
        loop {
            tokio::select! {
                stream = accept(&listener), if handshakes.len() < MAX_HANDSHAKES => {
                    let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
                    handshakes.push(timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)));
                }
                Some(done) = handshakes.next() => match done {
                    Ok(Ok(stream)) => yield Ok(stream),
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_elapsed) => tracing::debug!("TLS handshake took too long"),
                },
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a worker's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
