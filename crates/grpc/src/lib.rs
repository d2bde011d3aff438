//! The workers' door: the server side of `worker.v1` (`proto/worker/v1/worker.proto`).
//!
//! Knows `aiox-app` and no other door. It authenticates workers, keeps one session for each, and
//! holds no rule about runs: which run goes to whom, leases and results are
//! [`aiox_app::Dispatch`]'s. A worker of the first protocol is served unchanged; one that declared
//! protocol 2 also gets cancels, drains and acknowledgements.
//!
//! Its metrics: `aiox_grpc_request_duration` (label `method`: `task`, from the giving out of a run to
//! its result, or `heartbeat`; seconds), `aiox_llm_inference_time` (label `provider`; the worker's
//! own seconds), `aiox_python_worker_health` (label `worker`; 1 connected, 0 gone).
//!
//! `service` is the two calls, `session` one stream from its registration to its end, `wire` the
//! translation of its messages, `live` who is connected, [`auth`] who may be, [`tls`] how the bytes
//! come in.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod auth;
mod live;
mod service;
mod session;
pub mod tls;
mod wire;

use std::io;
use std::time::Duration;

use aiox_app::Dispatch;
use aiox_proto::worker::v1::worker_service_server::WorkerServiceServer;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::Connected;

pub use auth::{Admission, Known, WorkerIdentity};
pub use tls::{TlsConfig, server_config};

use live::Live;
use service::{Door, Shared};

/// Largest message of a worker: an answer with its memories.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Streams of one connection: its session, and heartbeats beside it.
const MAX_STREAMS: u32 = 64;

/// How the door treats its workers.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Time between two heartbeats asked of workers that can be asked (protocol 2).
    pub heartbeat_interval: Duration,
    /// A worker of protocol 2 that is silent for this long is evicted and its runs go to others.
    pub silent_after: Duration,
    /// The same for a worker of the first protocol, whose heartbeat is 30 s.
    pub silent_after_first: Duration,
    /// HTTP/2 ping of a quiet connection.
    pub keepalive_interval: Duration,
    /// A connection whose ping is not answered within this is dead.
    pub keepalive_timeout: Duration,
    /// A worker that takes no message for this long, though there are some for it, is dropped.
    pub stall_timeout: Duration,
    /// Longest time from the shutdown signal to the end of [`serve`].
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(10),
            silent_after: Duration::from_secs(30),
            silent_after_first: Duration::from_secs(90),
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(8),
        }
    }
}

/// The door cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("the workers' door")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves workers on `listener` until `shutdown`: then no further run is given out, workers are
/// told to drain, and what they still finish within `drain_timeout` is taken. Without `tls` the
/// connection is clear text, which is for development only.
///
/// # Errors
/// [`ServeError`] when the server cannot run.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsConfig>,
    admission: Admission,
    dispatch: Dispatch,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    match tls {
        None => run(tls::plain(listener), admission, dispatch, options, shutdown).await,
        Some(tls) => {
            let connections = tls::encrypted(listener, tls);
            run(connections, admission, dispatch, options, shutdown).await
        }
    }
}

async fn run<IO>(
    connections: impl Stream<Item = io::Result<IO>>,
    admission: Admission,
    dispatch: Dispatch,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let sessions = TaskTracker::new();
    let closing = CancellationToken::new();
    let shared = Shared { dispatch, admission, options, live: Live::default(), drain: shutdown.clone() };
    let door = Door::new(shared, sessions.clone());
    let service = WorkerServiceServer::new(door).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let server = Server::builder()
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
        .max_concurrent_streams(MAX_STREAMS)
        .tcp_nodelay(true)
        .add_service(service)
        .serve_with_incoming_shutdown(connections, closing.clone().cancelled_owned());
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = shutdown.cancelled() => {}
    }
    // The sessions end first, with heartbeats still answered; then the connections.
    sessions.close();
    let deadline = tokio::time::Instant::now() + options.drain_timeout;
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        _ = tokio::time::timeout_at(deadline, sessions.wait()) => {}
    }
    closing.cancel();
    let last = deadline + Duration::from_secs(1);
    match tokio::time::timeout_at(last, server).await {
        Ok(ended) => Ok(ended?),
        // A client that keeps its connection open does not keep the hub.
        Err(_elapsed) => Ok(()),
    }
}
