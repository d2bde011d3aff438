//! The calls of the service.

use std::pin::Pin;
use std::sync::Arc;

use aiox_app::{Dispatch, Heartbeat};
use aiox_proto::worker::v1::worker_service_server::WorkerService;
use aiox_proto::worker::v1::{HeartbeatRequest, HeartbeatResponse, IssueTokenRequest, IssueTokenResponse, ServerMessage, WorkerMessage};
use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::Options;
use crate::auth::{Admission, Presented, WorkerIdentity};
use crate::live::Live;
use crate::session;

/// Messages of one worker that wait for its HTTP/2 window. At the bound its session keeps the
/// rest, and ends if nothing moves for the stall timeout. Nobody else waits for it.
const OUT_MESSAGES: usize = 32;

/// What every session shares.
pub(crate) struct Shared {
    pub(crate) dispatch: Dispatch,
    pub(crate) admission: Admission,
    pub(crate) options: Options,
    pub(crate) live: Live,
    pub(crate) drain: CancellationToken,
}

/// The service.
pub(crate) struct Door {
    shared: Arc<Shared>,
    sessions: TaskTracker,
}

impl Door {
    pub(crate) fn new(shared: Shared, sessions: TaskTracker) -> Self {
        Self { shared: Arc::new(shared), sessions }
    }

    fn identify<T>(&self, request: &Request<T>) -> Result<WorkerIdentity, Status> {
        self.ask(request, |presented| self.shared.admission.admit(presented))
    }

    fn ask<T, R>(&self, request: &Request<T>, decide: impl FnOnce(&Presented<'_>) -> Result<R, Status>) -> Result<R, Status> {
        let certificates = request.peer_certs();
        let presented = Presented { metadata: request.metadata(), certificate: certificates.as_deref().and_then(|chain| chain.first()) };
        decide(&presented).inspect_err(|refusal| {
            tracing::warn!(
                address = ?request.remote_addr(),
                reason = refusal.message(),
                "a worker was not let in"
            );
        })
    }
}

#[tonic::async_trait]
impl WorkerService for Door {
    type TaskStreamStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn task_stream(&self, request: Request<Streaming<WorkerMessage>>) -> Result<Response<Self::TaskStreamStream>, Status> {
        let identity = self.identify(&request)?;
        let (out, outgoing) = mpsc::channel(OUT_MESSAGES);
        let shared = Arc::clone(&self.shared);
        self.sessions.spawn(session::serve(shared, identity, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let started = Instant::now();
        let identity = self.identify(&request)?;
        let beat = request.into_inner();
        if !identity.may_be(&beat.worker_id) {
            tracing::warn!(worker = beat.worker_id, "a heartbeat for another worker was refused");
            return Err(Status::permission_denied("worker_id does not belong to the credential"));
        }
        let session = self.shared.live.heard(&beat.worker_id, &identity);
        if let Some(session) = &session {
            let count = |n: i32| u32::try_from(n).unwrap_or(0);
            session.heartbeat(Heartbeat {
                active_tasks: count(beat.active_tasks),
                memory_usage_mb: count(beat.memory_usage_mb),
                avg_latency_ms: count(beat.avg_latency_ms),
            });
        }
        metrics::histogram!("aiox_grpc_request_duration", "method" => "heartbeat").record(started.elapsed());
        Ok(Response::new(HeartbeatResponse { ok: session.is_some() }))
    }

    async fn issue_token(&self, request: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>, Status> {
        let worker = &request.get_ref().worker_id;
        let (token, life) = self.ask(&request, |presented| self.shared.admission.issue(presented, worker))?;
        Ok(Response::new(IssueTokenResponse { token, expires_in_ms: u32::try_from(life.as_millis()).unwrap_or(u32::MAX) }))
    }
}
