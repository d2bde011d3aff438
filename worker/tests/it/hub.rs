//! A hub double: it speaks `worker.v1` and does nothing by itself.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use aiox_proto::worker::v1::{
    HeartbeatRequest, HeartbeatResponse, IssueTokenRequest, IssueTokenResponse, RegisterAck, RegisterWorker, ResultAck, ServerMessage,
    TaskRequest, TaskResponse, WorkerMessage,
};
use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::double::within;

/// A running hub double.
pub struct Hub {
    pub url: String,
    sessions: mpsc::Receiver<Session>,
    pub beats: mpsc::Receiver<HeartbeatRequest>,
    /// What heartbeats are answered.
    pub beats_ok: Arc<Mutex<bool>>,
    /// What askers for a token get.
    pub tokens: Arc<Mutex<Tokens>>,
    /// The bearer tokens of the heartbeats so far.
    pub bearers: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What askers for a token get: `token-1`, `token-2` and so on.
#[derive(Default)]
pub struct Tokens {
    /// Milliseconds that one is good; none: this hub knows no tokens.
    pub life: Option<u32>,
    /// Nobody gets one.
    pub refuse: bool,
    pub issued: u32,
}

/// One stream of a worker.
pub struct Session {
    pub api_key: String,
    pub bearer: String,
    to_worker: mpsc::Sender<Result<ServerMessage, Status>>,
    from_worker: Streaming<WorkerMessage>,
}

impl Hub {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    pub async fn start_with(tls: Option<ServerTlsConfig>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (sessions_in, sessions) = mpsc::channel(16);
        let (beats_in, beats) = mpsc::channel(64);
        let beats_ok = Arc::new(Mutex::new(true));
        let (tokens, bearers) = (Arc::default(), Arc::default());
        let service = Service {
            sessions: sessions_in,
            beats: beats_in,
            beats_ok: Arc::clone(&beats_ok),
            tokens: Arc::clone(&tokens),
            bearers: Arc::clone(&bearers),
        };
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let serving = server.add_service(WorkerServiceServer::new(service)).serve_with_incoming(TcpListenerStream::new(listener));
        Self {
            url: format!("{scheme}://localhost:{}", address.port()),
            sessions,
            beats,
            beats_ok,
            tokens,
            bearers,
            server: tokio::spawn(async move {
                let _ = serving.await;
            }),
        }
    }

    /// The next stream that a worker opens.
    pub async fn session(&mut self) -> Session {
        within(self.sessions.recv()).await.unwrap()
    }

    /// The next stream, with its registration accepted.
    pub async fn registered(&mut self) -> (Session, RegisterWorker) {
        let mut session = self.session().await;
        let ToHub::Register(register) = session.next().await else {
            panic!("the first message is not a registration");
        };
        session.accept(2).await;
        (session, register)
    }
}

impl Session {
    pub async fn say(&self, payload: FromHub) {
        let message = ServerMessage { payload: Some(payload) };
        within(self.to_worker.send(Ok(message))).await.unwrap();
    }

    pub async fn accept(&self, protocol: u32) {
        self.say(FromHub::RegisterAck(RegisterAck { accepted: true, message: "registered".into(), protocol, heartbeat_interval_ms: 0 }))
            .await;
    }

    pub async fn give(&self, task: TaskRequest) {
        self.say(FromHub::TaskRequest(Box::new(task))).await;
    }

    pub async fn ack(&self, response: &TaskResponse) {
        self.say(FromHub::ResultAck(ResultAck {
            request_id: response.request_id.clone(),
            lease_id: response.lease_id.clone(),
            stored: true,
        }))
        .await;
    }

    /// The next message of the worker.
    pub async fn next(&mut self) -> ToHub {
        self.message().await.unwrap()
    }

    /// The next message, or none when the worker has ended the stream.
    pub async fn message(&mut self) -> Option<ToHub> {
        within(self.from_worker.message()).await.ok().flatten().map(|message| message.payload.unwrap())
    }

    /// The next result, and the text of the deltas before it.
    pub async fn result(&mut self) -> (TaskResponse, Vec<String>) {
        let mut deltas = Vec::new();
        loop {
            match self.next().await {
                ToHub::TaskResponse(response) => return (response, deltas),
                ToHub::TaskDelta(delta) => deltas.push(delta.text),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

struct Service {
    sessions: mpsc::Sender<Session>,
    beats: mpsc::Sender<HeartbeatRequest>,
    beats_ok: Arc<Mutex<bool>>,
    tokens: Arc<Mutex<Tokens>>,
    bearers: Arc<Mutex<Vec<String>>>,
}

fn header<T>(request: &Request<T>, name: &str) -> String {
    request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[tonic::async_trait]
impl WorkerService for Service {
    type TaskStreamStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn task_stream(&self, request: Request<Streaming<WorkerMessage>>) -> Result<Response<Self::TaskStreamStream>, Status> {
        let (api_key, bearer) = (header(&request, "x-api-key"), header(&request, "authorization"));
        let (to_worker, outgoing) = mpsc::channel(64);
        let session = Session { api_key, bearer, to_worker, from_worker: request.into_inner() };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        self.bearers.lock().unwrap().push(header(&request, "authorization"));
        let _ = self.beats.send(request.into_inner()).await;
        let ok = *self.beats_ok.lock().unwrap();
        Ok(Response::new(HeartbeatResponse { ok }))
    }

    async fn issue_token(&self, request: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>, Status> {
        let mut tokens = self.tokens.lock().unwrap();
        let life = tokens.life.ok_or_else(|| Status::unimplemented("no such call"))?;
        if tokens.refuse || header(&request, "x-api-key") != "k".repeat(32) || request.get_ref().worker_id != "w1" {
            return Err(Status::unauthenticated("api key is revoked"));
        }
        tokens.issued += 1;
        Ok(Response::new(IssueTokenResponse { token: format!("token-{}", tokens.issued), expires_in_ms: life }))
    }
}
