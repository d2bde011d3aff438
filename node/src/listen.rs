//! The product listener: HTTP/1.1 and HTTP/2, in clear text or over TLS.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::{Router, extract::ConnectInfo};
use hyper::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 10_000;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for a client to send its headers.
const HEADERS: Duration = Duration::from_secs(15);
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);
/// Requests under way get this long after the stop.
const DRAIN: Duration = Duration::from_secs(5);

/// TLS of the listener: 1.2 and 1.3, HTTP/1.1 and HTTP/2.
pub fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let (chain, key) = aiox_certs::load_pair("http.tls", certificate, key)?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).context("http.tls_cert is refused")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until `stop`, then lets requests under way end.
pub async fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, router: Router, stop: CancellationToken) -> Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        let (Ok(place), accepted) = accepted else { break };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, for instance: it passes when connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (acceptor, router, stop, cut) = (acceptor.clone(), router.clone(), stop.clone(), cut.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, address, acceptor, router, stop) => {}
                () = cut.cancelled() => {}
            }
            drop(place);
        });
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        // Whoever watches a run resumes after the next start. What the connection holds must not keep the hub.
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

async fn connection(stream: TcpStream, address: SocketAddr, acceptor: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    match acceptor {
        None => requests(stream, address, router, stop).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, address, router, stop).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
        },
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    let service = hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(64 * 1024);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_concurrent_streams(512)
        .max_header_list_size(32 * 1024);
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "a connection ended with an error");
    }
}
