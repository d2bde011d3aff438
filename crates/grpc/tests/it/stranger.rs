//! A worker that is moved by hand, message by message.

use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::worker_service_client::WorkerServiceClient;
use aiox_proto::worker::v1::{
    HeartbeatRequest, IssueTokenRequest, RegisterAck, RegisterWorker, ServerMessage, TaskRequest, TaskResponse, WorkerMessage,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::world::{KEY, within};

/// A stream to the hub.
pub struct Stranger {
    pub client: WorkerServiceClient<Channel>,
    pub out: mpsc::Sender<WorkerMessage>,
    incoming: Streaming<ServerMessage>,
}

/// A registration of the first protocol.
pub fn register(worker_id: &str) -> RegisterWorker {
    RegisterWorker { worker_id: worker_id.into(), max_concurrent: 4, supported_providers: vec!["echo".into()], ..RegisterWorker::default() }
}

/// A registration of the second protocol.
pub fn register2(worker_id: &str) -> RegisterWorker {
    RegisterWorker { protocol: 2, ..register(worker_id) }
}

/// The answer of a worker that knows only the first protocol.
pub fn answer(task: &TaskRequest, text: &str) -> TaskResponse {
    TaskResponse {
        request_id: task.request_id.clone(),
        worker_id: "w1".into(),
        response_text: text.into(),
        tokens_used: 7,
        model_used: "echo".into(),
        ..TaskResponse::default()
    }
}

/// A request with the worker key.
pub fn keyed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-api-key", KEY.parse().unwrap());
    request
}

/// A request with a token.
pub fn bearing<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A token for a worker, by what the request carries.
pub async fn token(client: &mut WorkerServiceClient<Channel>, request: Request<IssueTokenRequest>) -> Result<String, Status> {
    let issued = client.issue_token(request).await?.into_inner();
    assert!(issued.expires_in_ms > 0);
    Ok(issued.token)
}

impl Stranger {
    pub async fn connect(url: &str) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::connect(url.to_owned()).await.unwrap()
    }

    /// Opens a stream without having said anything.
    pub async fn open(url: &str) -> Self {
        Self::open_on(Self::connect(url).await).await.unwrap()
    }

    /// Likewise, over a connection with a small window.
    pub async fn open_narrow(url: &str) -> Self {
        let channel = Endpoint::from_shared(url.to_owned())
            .unwrap()
            .initial_stream_window_size(1024)
            .initial_connection_window_size(65_535)
            .connect()
            .await
            .unwrap();
        Self::open_on(WorkerServiceClient::new(channel)).await.unwrap()
    }

    pub async fn open_on(client: WorkerServiceClient<Channel>) -> Result<Self, Status> {
        Self::open_as(client, keyed).await
    }

    /// Likewise, with metadata of the caller's choice.
    pub async fn open_as(
        mut client: WorkerServiceClient<Channel>,
        with: impl FnOnce(ReceiverStream<WorkerMessage>) -> Request<ReceiverStream<WorkerMessage>>,
    ) -> Result<Self, Status> {
        let (out, outgoing) = mpsc::channel(256);
        let incoming = client.task_stream(with(ReceiverStream::new(outgoing))).await?.into_inner();
        Ok(Self { client, out, incoming })
    }

    /// How the hub ends the stream: none when without a word.
    pub async fn farewell(&mut self) -> Option<Status> {
        loop {
            match within(self.incoming.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }

    /// A registered worker.
    pub async fn registered(url: &str, registration: RegisterWorker) -> Self {
        let mut stranger = Self::open(url).await;
        let ack = stranger.register(registration).await;
        assert!(ack.accepted, "{}", ack.message);
        stranger
    }

    pub async fn say(&self, payload: ToHub) {
        let message = WorkerMessage { payload: Some(payload) };
        within(self.out.send(message)).await.unwrap();
    }

    pub async fn register(&mut self, registration: RegisterWorker) -> RegisterAck {
        self.say(ToHub::Register(registration)).await;
        self.ack().await
    }

    pub async fn ack(&mut self) -> RegisterAck {
        match self.next().await {
            FromHub::RegisterAck(ack) => ack,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub async fn next(&mut self) -> FromHub {
        self.message().await.unwrap()
    }

    /// The next message, or none at the end of the stream.
    pub async fn message(&mut self) -> Option<FromHub> {
        within(self.incoming.message()).await.ok().flatten().map(|message| message.payload.unwrap())
    }

    pub async fn task(&mut self) -> TaskRequest {
        match self.next().await {
            FromHub::TaskRequest(task) => *task,
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Whether the hub knows the worker, as its heartbeat tells.
    pub async fn beat(&mut self, worker_id: &str) -> Result<bool, Status> {
        let request = keyed(HeartbeatRequest { worker_id: worker_id.into(), active_tasks: 1, memory_usage_mb: 2, avg_latency_ms: 3 });
        Ok(within(self.client.heartbeat(request)).await?.into_inner().ok)
    }
}
