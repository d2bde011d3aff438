//! A worker of the suite's own: a client of `worker.v1` that does what a case tells it.

use std::time::Duration;

use aiox_proto::worker::v1::{
    HeartbeatRequest, RegisterAck, RegisterWorker, ServerMessage, TaskRequest, TaskResponse, WorkerMessage,
    server_message::Payload as FromHub, worker_message::Payload as ToHub, worker_service_client::WorkerServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    case::Stop,
    scene::{Scene, chain},
    tamper::{Doors, KeyShown},
};

/// Longest wait for something that has to come at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(10);

/// Where workers dial in, and a key that is good for workers of any name: the suite registers several, under names of its own.
#[derive(Clone)]
pub struct WorkerAccess {
    /// `http://` or `https://`, with the port of the workers' door.
    pub url: String,
    /// Authority (PEM) of its certificate; the system's where absent.
    pub ca: Option<Vec<u8>>,
    /// The key, sent as `x-api-key`.
    pub key: String,
}
impl std::fmt::Debug for WorkerAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerAccess").field("url", &self.url).finish_non_exhaustive()
    }
}

pub(crate) type Client = WorkerServiceClient<Channel>;

/// The workers' door.
#[derive(Clone)]
pub(crate) struct Door {
    client: Client,
    key: String,
    doors: Doors,
}

impl Door {
    /// Connects, or says that it was not told where.
    pub(crate) async fn open(scene: &Scene) -> Result<Self, Stop> {
        let Some(access) = scene.world.options.worker.clone() else {
            return Err(Stop::NotRun("no key of a worker was given (--worker-url, --worker-key-file)".into()));
        };
        let failed = |error: tonic::transport::Error| {
            Stop::Harness(format!("the workers' door {} cannot be reached: {}", access.url, chain(&error)))
        };
        let mut endpoint = Endpoint::from_shared(access.url.clone()).map_err(failed)?.connect_timeout(CONNECT);
        if access.url.starts_with("https://") {
            let tls = match &access.ca {
                Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
                None => ClientTlsConfig::new().with_enabled_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(failed)?;
        }
        let channel = endpoint.connect().await.map_err(failed)?;
        Ok(Self { client: WorkerServiceClient::new(channel), key: access.key, doors: scene.world.tamper.doors })
    }

    fn request<T>(&self, message: T, shown: KeyShown) -> Result<Request<T>, Stop> {
        let mut request = Request::new(message);
        let key = match shown {
            KeyShown::None => return Ok(request),
            KeyShown::Right => self.key.clone(),
            KeyShown::Wrong => format!("{}x", self.key),
        };
        let value = key.parse().map_err(|_| Stop::Harness("the worker's key cannot stand in a header".into()))?;
        request.metadata_mut().insert("x-api-key", value);
        Ok(request)
    }

    /// Calls `Heartbeat`.
    pub(crate) async fn heartbeat(&self, worker_id: &str, shown: KeyShown) -> Result<Result<bool, Status>, Stop> {
        let beat = HeartbeatRequest { worker_id: worker_id.to_owned(), active_tasks: 0, memory_usage_mb: 1, avg_latency_ms: 1 };
        let request = self.request(beat, shown)?;
        let called = tokio::time::timeout(SOON, self.client.clone().heartbeat(request)).await;
        let answer = called.map_err(|_| Stop::Failed(format!("Heartbeat: no answer within {SOON:?}")))?;
        let mut answer = answer.map(|answer| answer.into_inner().ok);
        if let Some(change) = self.doors.beat {
            change(shown, &mut answer);
        }
        Ok(answer)
    }

    /// Opens a stream with a first message.
    pub(crate) async fn stream(&self, mut first: ToHub, shown: KeyShown) -> Result<Result<Session, Status>, Stop> {
        let (out, outgoing) = mpsc::channel(64);
        if let Some(change) = self.doors.report {
            change(&mut first);
        }
        let send = out.send(WorkerMessage { payload: Some(first) }).await;
        send.map_err(|_| Stop::Harness("the stream of a worker is closed".into()))?;
        let request = self.request(ReceiverStream::new(outgoing), shown)?;
        let called = tokio::time::timeout(SOON, self.client.clone().task_stream(request)).await;
        let answer = called.map_err(|_| Stop::Failed(format!("TaskStream: no answer within {SOON:?}")))?;
        Ok(answer.map(|answer| Session {
            out,
            incoming: answer.into_inner(),
            worker_id: String::new(),
            kept: Vec::new(),
            doors: self.doors,
        }))
    }

    /// Registers, accepted or not.
    pub(crate) async fn apply(&self, register: RegisterWorker) -> Result<(Session, RegisterAck), Stop> {
        let worker_id = register.worker_id.clone();
        let opened = self.stream(ToHub::Register(register), KeyShown::Right).await?;
        let mut session = opened.map_err(|status| Stop::Failed(format!("TaskStream was refused: {status}")))?;
        session.worker_id = worker_id;
        match session.next(SOON).await? {
            Came::Message(FromHub::RegisterAck(ack)) => Ok((session, ack)),
            other => Err(Stop::Failed(format!("a registration was answered by {other:?}"))),
        }
    }

    /// Registers, and fails unless that is accepted.
    pub(crate) async fn register(&self, register: RegisterWorker) -> Result<Session, Stop> {
        let (session, ack) = self.apply(register).await?;
        if ack.accepted { Ok(session) } else { Err(Stop::Failed(format!("a registration was refused: {}", ack.message))) }
    }
}

/// What came on a stream.
#[derive(Debug)]
pub(crate) enum Came {
    Message(FromHub),
    /// The stream ended.
    End,
    /// Nothing came in time.
    Nothing,
}

/// An open stream of a worker. Dropping it ends the worker.
pub(crate) struct Session {
    out: mpsc::Sender<WorkerMessage>,
    incoming: Streaming<ServerMessage>,
    pub(crate) worker_id: String,
    /// Messages that a wait for something else passed over.
    pub(crate) kept: Vec<FromHub>,
    doors: Doors,
}

impl Session {
    /// The next message.
    pub(crate) async fn next(&mut self, within: Duration) -> Result<Came, Stop> {
        match tokio::time::timeout(within, self.incoming.message()).await {
            Err(_) => Ok(Came::Nothing),
            Ok(Ok(Some(ServerMessage { payload: Some(mut payload) }))) => {
                if let Some(change) = self.doors.order {
                    change(&mut payload);
                }
                Ok(Came::Message(payload))
            }
            Ok(Ok(Some(ServerMessage { payload: None }))) => Err(Stop::Failed("a message of the hub has no payload".into())),
            Ok(Ok(None) | Err(_)) => Ok(Came::End),
        }
    }

    /// The next message that is wanted; others are kept.
    pub(crate) async fn wait<T>(&mut self, what: &str, within: Duration, wanted: impl Fn(&FromHub) -> Option<T>) -> Result<T, Stop> {
        let until = tokio::time::Instant::now() + within;
        loop {
            match self.next(until.saturating_duration_since(tokio::time::Instant::now())).await? {
                Came::Message(message) => match wanted(&message) {
                    Some(found) => return Ok(found),
                    None => self.kept.push(message),
                },
                Came::End => return Err(Stop::Failed(format!("the stream of {} ended before {what}", self.worker_id))),
                Came::Nothing => return Err(Stop::Failed(format!("{what} did not come within {within:?}; {:?} came", self.kept))),
            }
        }
    }

    /// The next task.
    pub(crate) async fn task(&mut self) -> Result<TaskRequest, Stop> {
        let of = |message: &FromHub| if let FromHub::TaskRequest(task) = message { Some(TaskRequest::clone(task)) } else { None };
        self.wait("a task", SOON, of).await
    }

    /// Fails when a task comes within a moment.
    pub(crate) async fn no_task(&mut self, why: &str) -> Result<(), Stop> {
        let until = tokio::time::Instant::now() + Duration::from_millis(800);
        loop {
            match self.next(until.saturating_duration_since(tokio::time::Instant::now())).await? {
                Came::Message(FromHub::TaskRequest(task)) => {
                    return Err(Stop::Failed(format!("{why}: {} was given the run {}", self.worker_id, task.request_id)));
                }
                Came::Message(message) => self.kept.push(message),
                Came::Nothing => return Ok(()),
                Came::End => return Err(Stop::Failed(format!("the stream of {} ended", self.worker_id))),
            }
        }
    }

    /// Says something.
    pub(crate) async fn say(&self, mut message: ToHub) -> Result<(), Stop> {
        if let Some(change) = self.doors.report {
            change(&mut message);
        }
        let sent = self.out.send(WorkerMessage { payload: Some(message) }).await;
        sent.map_err(|_| Stop::Failed(format!("the stream of {} was closed", self.worker_id)))
    }

    /// The result of a task, for a case to change.
    pub(crate) fn result(&self, task: &TaskRequest, text: &str) -> TaskResponse {
        TaskResponse {
            request_id: task.request_id.clone(),
            worker_id: self.worker_id.clone(),
            response_text: text.to_owned(),
            tokens_used: 7,
            duration_ms: 5,
            model_used: "conformance/m".into(),
            lease_id: task.lease_id.clone(),
            ..TaskResponse::default()
        }
    }

    /// Ends a task with a text.
    pub(crate) async fn answer(&self, task: &TaskRequest, text: &str) -> Result<(), Stop> {
        self.say(ToHub::TaskResponse(self.result(task, text))).await
    }
}
