//! A worker that answers every task at once with the task's own text, in process.

use std::path::PathBuf;
use std::time::Duration;

use aiox_proto::WORKER_PROTOCOL;
use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::worker_service_client::WorkerServiceClient;
use aiox_proto::worker::v1::{HeartbeatRequest, RegisterWorker, TaskRequest, TaskResponse, WorkerMessage};
use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Streaming};

use aiox_proto::worker::v1::ServerMessage;

/// Results that wait for the hub's window; at the bound the worker reads no further task.
const OUT: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between heartbeats, if the hub names no other time.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Where the hub is and what the worker says of itself.
#[derive(Debug, Clone)]
pub(crate) struct WorkerOptions {
    /// `http://host:port`, or `https://...` with `ca`.
    pub(crate) url: String,
    /// The hub's worker key.
    pub(crate) key: String,
    /// PEM authority of the hub's certificate.
    pub(crate) ca: Option<PathBuf>,
    /// Name of the worker.
    pub(crate) id: String,
    /// Tasks at the same time.
    pub(crate) slots: i32,
    /// 1 for the predecessor, which knows none of the later fields.
    pub(crate) protocol: u32,
    /// Provider that its agents name.
    pub(crate) provider: String,
}

/// What a worker has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Results that it has sent.
    pub(crate) results: u64,
    /// Results that the hub refused: the run had gone to somebody else.
    pub(crate) refused: u64,
}

/// Works until the hub ends the session. `registered` is told when it begins. The end of a session
/// is an error: a load must not lose its worker.
pub(crate) async fn run(options: WorkerOptions, registered: oneshot::Sender<()>) -> Result<Done> {
    let mut client = connect(&options).await?;
    let (out, outgoing) = mpsc::channel(OUT);
    let register = RegisterWorker {
        worker_id: options.id.clone(),
        max_concurrent: options.slots,
        supported_providers: vec![options.provider.clone()],
        protocol: if options.protocol >= 2 { WORKER_PROTOCOL } else { 0 },
        ..RegisterWorker::default()
    };
    out.send(WorkerMessage { payload: Some(ToHub::Register(register)) }).await?;
    let opening = client.task_stream(with_key(ReceiverStream::new(outgoing), &options.key)?);
    let mut incoming = timeout(HANDSHAKE_TIMEOUT, opening).await??.into_inner();
    let ack = match timeout(HANDSHAKE_TIMEOUT, incoming.message()).await?? {
        Some(ServerMessage { payload: Some(FromHub::RegisterAck(ack)) }) => ack,
        other => bail!("no register_ack but {other:?}"),
    };
    if !ack.accepted {
        bail!("the hub refused the worker: {}", ack.message);
    }
    let _ = registered.send(());
    let every = match ack.heartbeat_interval_ms {
        0 => HEARTBEAT,
        millis => Duration::from_millis(millis.into()),
    };
    let mut done = Done::default();
    tokio::select! {
        ended = work(&options, &mut incoming, &out, &mut done) => ended?,
        failed = beat(&options, client.clone(), every) => failed?,
    }
    Ok(done)
}

async fn work(
    options: &WorkerOptions,
    incoming: &mut Streaming<ServerMessage>,
    out: &mpsc::Sender<WorkerMessage>,
    done: &mut Done,
) -> Result<()> {
    while let Some(message) = incoming.message().await? {
        match message.payload {
            Some(FromHub::TaskRequest(task)) => {
                let response = answer(options, *task);
                out.send(WorkerMessage { payload: Some(ToHub::TaskResponse(response)) }).await?;
                done.results += 1;
            }
            Some(FromHub::ResultAck(ack)) if !ack.stored => done.refused += 1,
            Some(FromHub::Drain(_)) => return Ok(()),
            // A task is answered before its cancel could be read.
            Some(FromHub::CancelTask(_) | FromHub::ResultAck(_) | FromHub::RegisterAck(_)) | None => {}
            // It has declared no room for such calls.
            Some(FromHub::ModelRequest(_) | FromHub::CancelModel(_)) => {}
        }
    }
    Ok(())
}

async fn beat(options: &WorkerOptions, mut client: WorkerServiceClient<Channel>, every: Duration) -> Result<()> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let beat = HeartbeatRequest { worker_id: options.id.clone(), ..HeartbeatRequest::default() };
        client.heartbeat(with_key(beat, &options.key)?).await.context("heartbeat")?;
    }
}

fn answer(options: &WorkerOptions, task: TaskRequest) -> TaskResponse {
    let response = TaskResponse {
        request_id: task.request_id,
        worker_id: options.id.clone(),
        response_text: format!("echo: {}", task.user_message),
        tokens_used: 2,
        model_used: options.provider.clone(),
        ..TaskResponse::default()
    };
    if options.protocol < 2 {
        return response;
    }
    TaskResponse { lease_id: task.lease_id, input_tokens: 1, output_tokens: 1, finish_reason: "stop".into(), ..response }
}

async fn connect(options: &WorkerOptions) -> Result<WorkerServiceClient<Channel>> {
    let mut endpoint = Endpoint::from_shared(options.url.clone())?.connect_timeout(HANDSHAKE_TIMEOUT).tcp_nodelay(true);
    if let Some(ca) = &options.ca {
        let pem = tokio::fs::read(ca).await.with_context(|| ca.display().to_string())?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        endpoint = endpoint.tls_config(tls)?;
    }
    let channel = endpoint.connect().await.with_context(|| options.url.clone())?;
    Ok(WorkerServiceClient::new(channel))
}

fn with_key<T>(message: T, key: &str) -> Result<Request<T>> {
    let mut value: MetadataValue<Ascii> = key.parse().context("the worker key is no header value")?;
    value.set_sensitive(true);
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-api-key", value);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_proto::worker::v1::worker_service_server::{WorkerService, WorkerServiceServer};
    use aiox_proto::worker::v1::{HeartbeatResponse, IssueTokenRequest, IssueTokenResponse, RegisterAck, ResultAck};
    use std::pin::Pin;
    use tokio_stream::Stream;
    use tonic::{Response, Status};

    /// Gives out one task, tells what came back, and ends the stream.
    struct Hub(mpsc::UnboundedSender<ToHub>);

    #[tonic::async_trait]
    impl WorkerService for Hub {
        type TaskStreamStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

        async fn task_stream(&self, request: Request<Streaming<WorkerMessage>>) -> Result<Response<Self::TaskStreamStream>, Status> {
            if request.metadata().get("x-api-key").is_none_or(|key| key != "k") {
                return Err(Status::unauthenticated("invalid api key"));
            }
            let mut incoming = request.into_inner();
            let (out, outgoing) = mpsc::channel(8);
            let seen = self.0.clone();
            tokio::spawn(async move {
                let send = async |payload| {
                    out.send(Ok(ServerMessage { payload: Some(payload) })).await.unwrap();
                };
                let mut next = async || incoming.message().await.unwrap().unwrap().payload.unwrap();
                seen.send(next().await).unwrap();
                send(FromHub::RegisterAck(RegisterAck { accepted: true, ..RegisterAck::default() })).await;
                send(FromHub::TaskRequest(Box::new(TaskRequest {
                    request_id: "run-1".into(),
                    lease_id: "lease-1".into(),
                    user_message: "hello".into(),
                    ..TaskRequest::default()
                })))
                .await;
                seen.send(next().await).unwrap();
                send(FromHub::ResultAck(ResultAck { stored: false, ..ResultAck::default() })).await;
            });
            Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
        }

        async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
            Ok(Response::new(HeartbeatResponse { ok: true }))
        }

        async fn issue_token(&self, _: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>, Status> {
            Err(Status::unimplemented("this worker shows its key with each call"))
        }
    }

    async fn session(protocol: u32, key: &str) -> (Result<Done>, Vec<ToHub>) {
        let (seen_sender, mut seen) = mpsc::unbounded_channel();
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(socket);
        let server =
            tonic::transport::Server::builder().add_service(WorkerServiceServer::new(Hub(seen_sender))).serve_with_incoming(incoming);
        let server = tokio::spawn(server);
        let options = WorkerOptions {
            url: format!("http://127.0.0.1:{port}"),
            key: key.into(),
            ca: None,
            id: "load-1".into(),
            slots: 8,
            protocol,
            provider: "echo".into(),
        };
        let (registered, _told) = oneshot::channel();
        let done = run(options, registered).await;
        server.abort();
        let mut all = Vec::new();
        while let Ok(one) = seen.try_recv() {
            all.push(one);
        }
        (done, all)
    }

    #[tokio::test]
    async fn a_task_is_echoed_and_refusals_are_counted() {
        let (done, seen) = session(2, "k").await;
        assert_eq!(done.unwrap(), Done { results: 1, refused: 1 });
        let [ToHub::Register(register), ToHub::TaskResponse(response)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((register.protocol, register.max_concurrent), (WORKER_PROTOCOL, 8));
        assert_eq!(register.supported_providers, ["echo"]);
        assert_eq!((response.request_id.as_str(), response.response_text.as_str()), ("run-1", "echo: hello"));
        assert_eq!(response.lease_id, "lease-1");
    }

    #[tokio::test]
    async fn the_first_protocol_has_none_of_the_later_fields() {
        let (done, seen) = session(1, "k").await;
        done.unwrap();
        let [ToHub::Register(register), ToHub::TaskResponse(response)] = &seen[..] else { panic!("{seen:?}") };
        let first = RegisterWorker {
            worker_id: "load-1".into(),
            max_concurrent: 8,
            supported_providers: vec!["echo".into()],
            ..RegisterWorker::default()
        };
        assert_eq!(*register, first);
        assert!(response.lease_id.is_empty() && response.finish_reason.is_empty());
        assert_eq!(response.input_tokens + response.output_tokens, 0);
    }

    #[tokio::test]
    async fn a_wrong_key_is_an_error() {
        let (done, _) = session(2, "other").await;
        assert!(format!("{:#}", done.unwrap_err()).contains("invalid api key"));
    }
}
