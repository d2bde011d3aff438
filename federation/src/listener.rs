//! The peer listener: TLS handshakes with a deadline, bounded connections, and an end for connections whose peer is no longer active.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    local::LocalNode,
    roster::Roster,
    tls::{PeerClientVerifier, PeerIdentity, server_config, speaks_h2},
};

/// Bounds of the peer listener.
#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
    /// Connections at a time, handshakes included. Further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections at a time of one peer domain. Further ones are closed after the handshake.
    pub per_peer: usize,
    /// Requests at a time on one connection.
    pub streams: u32,
    /// Time for a handshake.
    pub handshake: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self { connections: 1024, per_peer: 64, streams: 512, handshake: Duration::from_secs(5) }
    }
}

const MAX_HEADERS: u32 = 32 * 1024;
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_WAIT: Duration = Duration::from_secs(10);
/// How often a live connection's certificate is judged again although no record changed: it may have expired.
const REJUDGE: Duration = Duration::from_secs(60);
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// Serves `router` to peers until `stop`. Each request carries a [`PeerIdentity`] extension.
///
/// # Errors
/// When the local certificate is refused by the TLS library.
pub async fn serve(
    listener: TcpListener,
    local: &LocalNode,
    roster: Arc<Roster>,
    router: Router,
    limits: ListenerLimits,
    stop: CancellationToken,
) -> Result<(), rustls::Error> {
    let verifier = Arc::new(PeerClientVerifier::new(Arc::clone(&roster)));
    let acceptor = TlsAcceptor::from(Arc::new(server_config(local, Arc::clone(&verifier))?));
    let places = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    let counts = Counts::default();
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => match place {
                Ok(place) => place,
                Err(_) => break,
            },
        };
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, for instance: trying again at once would spin.
                    tracing::warn!(%error, "peer listener cannot accept");
                    tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
                    continue;
                }
            },
        };
        let connection = Connection {
            acceptor: acceptor.clone(),
            verifier: Arc::clone(&verifier),
            changes: roster.changes(),
            counts: Arc::clone(&counts),
            router: router.clone(),
            limits,
            stop: stop.clone(),
        };
        tasks.spawn(async move {
            connection.run(stream).await;
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

type Counts = Arc<Mutex<HashMap<String, usize>>>;

/// One of the places that a peer domain has for its connections.
struct Place {
    counts: Counts,
    domain: String,
}

impl Place {
    fn take(counts: &Counts, domain: &str, most: usize) -> Option<Self> {
        let mut taken = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(domain.to_owned()).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self { counts: Arc::clone(counts), domain: domain.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.domain) {
            *count = count.saturating_sub(1);
        }
    }
}

struct Connection {
    acceptor: TlsAcceptor,
    verifier: Arc<PeerClientVerifier>,
    changes: watch::Receiver<u64>,
    counts: Counts,
    router: Router,
    limits: ListenerLimits,
    stop: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let handshake = timeout(self.limits.handshake, self.acceptor.accept(stream));
        let stream = match tokio::select! { () = self.stop.cancelled() => return, done = handshake => done } {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                metrics::counter!("aiox_federation_handshakes_refused_total").increment(1);
                tracing::info!(%error, "peer handshake refused");
                return;
            }
            Err(_) => {
                metrics::counter!("aiox_federation_handshakes_refused_total").increment(1);
                tracing::info!("peer handshake took too long");
                return;
            }
        };
        let session = stream.get_ref().1;
        if !speaks_h2(session.alpn_protocol()) {
            tracing::info!("peer does not speak h2");
            return;
        }
        let chain: Vec<_> = session.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
        let Ok(identity) = self.verifier.judge(&chain, UnixTime::now()) else { return };
        let domain = identity.node.domain().to_owned();
        let Some(place) = Place::take(&self.counts, &domain, self.limits.per_peer) else {
            tracing::warn!(peer = %identity.node, "too many connections of one peer");
            return;
        };
        self.serve(TokioIo::new(stream), chain, identity).await;
        drop(place);
    }

    async fn serve<I>(mut self, io: I, chain: Vec<CertificateDer<'static>>, identity: PeerIdentity)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let service = TowerToHyperService::new(self.router.clone().layer(Extension(identity.clone())));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT);
        let connection = builder.serve_connection(io, service);
        tokio::pin!(connection);
        let mut tick = interval(REJUDGE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = connection.as_mut() => {
                    if let Err(error) = done {
                        tracing::debug!(peer = %identity.node, %error, "peer connection ended");
                    }
                    return;
                }
                () = self.stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    // Event streams never end by themselves; their readers resume elsewhere.
                    let _ = timeout(Duration::from_secs(2), connection.as_mut()).await;
                    return;
                }
                _ = tick.tick() => {}
                changed = self.changes.changed() => if changed.is_err() { return },
            }
            if let Err(error) = self.verifier.judge(&chain, UnixTime::now()) {
                tracing::warn!(peer = %identity.node, %error, "connection of a peer that is no longer believed is closed");
                return;
            }
        }
    }
}
