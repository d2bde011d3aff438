//! One connection to the hub, from its registration to its end.

use std::collections::VecDeque;
use std::time::Duration;

use aiox_proto::WORKER_PROTOCOL;
use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::{DrainNotice, HeartbeatRequest, LeaseRenew, RegisterWorker, ServerMessage, WorkerMessage};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};

use crate::WorkerError;
use crate::backoff::Backoff;
use crate::config::{ProviderConfig, WorkerConfig};
use crate::connection::Connection;
use crate::desk::Desk;
use crate::failure::ErrorCode;
use crate::task::Link;

/// Messages that may wait for the hub's window; at the bound the tasks wait with their deltas.
const OUT_MESSAGES: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats in a row that may fail before the connection counts as dead.
const HEARTBEAT_FAILURES: u32 = 3;
/// Time left to the last results after the tasks were stopped for a shutdown.
const FLUSH: Duration = Duration::from_secs(2);

/// Why a session ended without an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The hub closed it, or drains.
    Closed,
    /// The worker is leaving and the hub has everything.
    Drained,
}

/// Connects, registers, and works until the connection ends.
pub(crate) async fn serve(desk: &mut Desk, backoff: &mut Backoff, shutdown: &CancellationToken) -> Result<End, WorkerError> {
    let mut connection = Connection::open(&desk.config).await?;
    let token_life = connection.renew(desk.config.worker_id.clone()).await?;
    let (out, outgoing) = mpsc::channel(OUT_MESSAGES);
    let hello = message(ToHub::Register(registration(desk)));
    out.send(hello).await.map_err(|_| WorkerError::Silent("stream"))?;
    let opening = connection.client.task_stream(ReceiverStream::new(outgoing));
    let mut incoming = timeout(HANDSHAKE_TIMEOUT, opening).await.map_err(|_| WorkerError::Silent("stream"))??.into_inner();
    let ack = match timeout(HANDSHAKE_TIMEOUT, incoming.message()).await {
        Err(_) => return Err(WorkerError::Silent("registration")),
        Ok(answer) => match answer?.and_then(|message| message.payload) {
            Some(FromHub::RegisterAck(ack)) => ack,
            _ => return Err(WorkerError::Refused("no register_ack".into())),
        },
    };
    if !ack.accepted {
        return Err(WorkerError::Refused(ack.message));
    }
    backoff.reset();
    tracing::info!(worker = %desk.config.worker_id, protocol = ack.protocol, "registered");
    let protocol = ack.protocol.clamp(1, WORKER_PROTOCOL);
    desk.set_link(Some(Link { out: out.clone(), protocol }));
    let beat_every = match ack.heartbeat_interval_ms {
        0 => desk.config.heartbeat_interval,
        wanted => Duration::from_millis(wanted.into()),
    };
    let mut session = Session {
        waiting: desk.unacked().iter().cloned().map(ToHub::TaskResponse).collect(),
        desk,
        protocol,
        hub_drains: false,
        renew_every: None,
    };
    let ended = session.work(&mut incoming, &out, connection, token_life, beat_every, shutdown).await;
    session.desk.set_link(None);
    if matches!(ended, Ok(End::Drained)) {
        // Half-close and wait for the hub's own end, or what is still on its way would be reset.
        drop(out);
        let _ = timeout(FLUSH, async { while let Ok(Some(_)) = incoming.message().await {} }).await;
    }
    ended
}

struct Session<'d> {
    desk: &'d mut Desk,
    protocol: u32,
    /// Messages for the hub, in order.
    waiting: VecDeque<ToHub>,
    hub_drains: bool,
    renew_every: Option<Duration>,
}

impl Session<'_> {
    async fn work(
        &mut self,
        incoming: &mut Streaming<ServerMessage>,
        out: &mpsc::Sender<WorkerMessage>,
        connection: Connection,
        token_life: Option<Duration>,
        beat_every: Duration,
        shutdown: &CancellationToken,
    ) -> Result<End, WorkerError> {
        let mut heartbeat = interval_at(Instant::now() + beat_every, beat_every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = FuturesUnordered::new();
        let client = connection.client.clone();
        let renewed = Notify::new();
        let mut token = std::pin::pin!(connection.stay_young(self.desk.config.worker_id.clone(), token_life, &renewed));
        let mut failed_beats = 0;
        let mut renew_at = None;
        let mut leave_by: Option<Instant> = None;
        loop {
            let renew = self.renew_every.filter(|_| !self.desk.held().is_empty());
            renew_at = renew.map(|every| renew_at.unwrap_or_else(|| Instant::now() + every));
            if self.waiting.is_empty() && self.desk.is_clear() {
                if leave_by.is_some() {
                    return Ok(End::Drained);
                }
                if self.hub_drains {
                    return Ok(End::Closed);
                }
            }
            tokio::select! {
                read = incoming.message() => match read? {
                    Some(ServerMessage { payload: Some(payload) }) => self.take(payload),
                    Some(ServerMessage { payload: None }) => {}
                    None => return Ok(End::Closed),
                },
                permit = out.reserve(), if !self.waiting.is_empty() => {
                    let Ok(permit) = permit else { return Ok(End::Closed) };
                    if let Some(payload) = self.waiting.pop_front() {
                        self.sent(&payload);
                        permit.send(message(payload));
                    }
                }
                result = self.desk.finished() => self.waiting.push_back(result),
                _ = heartbeat.tick(), if beats.is_empty() => {
                    let request = self.sign_of_life();
                    let mut client = client.clone();
                    beats.push(async move {
                        timeout(HEARTBEAT_TIMEOUT, client.heartbeat(request)).await
                    });
                }
                refusal = &mut token => return Err(refusal),
                // The session lives as long as the youngest token that the hub has seen.
                () = renewed.notified() => heartbeat.reset_immediately(),
                Some(answer) = beats.next() => match answer {
                    Ok(Ok(answer)) if answer.get_ref().ok => failed_beats = 0,
                    // The first protocol's hub answers `ok` without looking.
                    Ok(Ok(_)) => return Err(WorkerError::Silent("session unknown to the hub")),
                    Ok(Err(status)) if status.code() == Code::Unauthenticated => {
                        return Err(status.into());
                    }
                    _ => {
                        failed_beats += 1;
                        if failed_beats >= HEARTBEAT_FAILURES {
                            return Err(WorkerError::Silent("heartbeat"));
                        }
                    }
                },
                () = sleep_until(renew_at.unwrap_or_else(Instant::now)), if renew_at.is_some() => {
                    renew_at = None;
                    let lease_ids = self.desk.held().into_iter().map(|held| held.lease_id).collect();
                    self.waiting.push_back(ToHub::LeaseRenew(LeaseRenew { lease_ids }));
                }
                () = shutdown.cancelled(), if leave_by.is_none() => {
                    self.desk.leave();
                    let patience = self.desk.config.drain_timeout.saturating_sub(FLUSH);
                    leave_by = Some(Instant::now() + patience);
                    if self.protocol >= 2 {
                        self.waiting.push_back(ToHub::DrainNotice(DrainNotice {}));
                    }
                }
                () = sleep_until(leave_by.unwrap_or_else(Instant::now)), if leave_by.is_some() => {
                    leave_by = Some(Instant::now() + FLUSH);
                    self.desk.stop_all(ErrorCode::WorkerDraining);
                }
            }
        }
    }

    fn take(&mut self, payload: FromHub) {
        match payload {
            FromHub::TaskRequest(task) => {
                if task.lease_ms > 0 {
                    let every = Duration::from_millis(task.lease_ms / 3 + 1);
                    self.renew_every = Some(self.renew_every.map_or(every, |now| now.min(every)));
                }
                if let Some(response) = self.desk.offer(*task) {
                    self.waiting.push_back(ToHub::TaskResponse(response));
                }
            }
            FromHub::CancelTask(cancel) => {
                let why = match cancel.reason.as_str() {
                    "timeout" => ErrorCode::Timeout,
                    _ => ErrorCode::Canceled,
                };
                self.desk.stop(&cancel.request_id, why);
            }
            FromHub::ResultAck(ack) => {
                if !ack.stored {
                    tracing::info!(run = %ack.request_id, "the hub refused a result");
                }
                self.desk.acknowledged(&ack.request_id, &ack.lease_id);
            }
            FromHub::ModelRequest(request) => {
                if let Some(response) = self.desk.call(*request) {
                    self.waiting.push_back(ToHub::ModelResponse(response));
                }
            }
            FromHub::CancelModel(cancel) => {
                let why = match cancel.reason.as_str() {
                    "timeout" => ErrorCode::Timeout,
                    _ => ErrorCode::Canceled,
                };
                self.desk.stop_call(&cancel.request_id, why);
            }
            FromHub::Drain(_) => self.hub_drains = true,
            FromHub::RegisterAck(_) => {}
        }
    }

    /// A hub of the first protocol acknowledges nothing: what is sent is done.
    fn sent(&mut self, payload: &ToHub) {
        if let ToHub::TaskResponse(response) = payload
            && self.protocol < 2
        {
            self.desk.acknowledged(&response.request_id, "");
        }
    }

    fn sign_of_life(&self) -> HeartbeatRequest {
        HeartbeatRequest {
            worker_id: self.desk.config.worker_id.clone(),
            active_tasks: i32::try_from(self.desk.active()).unwrap_or(i32::MAX),
            memory_usage_mb: resident_mib(),
            avg_latency_ms: self.desk.mean_latency_ms(),
        }
    }
}

fn registration(desk: &Desk) -> RegisterWorker {
    let config = &desk.config;
    RegisterWorker {
        worker_id: config.worker_id.clone(),
        max_concurrent: i32::try_from(config.max_concurrent).unwrap_or(i32::MAX),
        supported_providers: config.providers.keys().map(|name| name.to_lowercase()).collect(),
        models: models(config),
        protocol: WORKER_PROTOCOL,
        labels: config.labels.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        pool: config.pool.clone(),
        held: desk.held(),
        max_model_calls: config.max_model_calls,
        embedding_providers: desk.embedding_providers(),
        named_models: desk.named_models(),
        ..RegisterWorker::default()
    }
}

fn models(config: &WorkerConfig) -> Vec<String> {
    let of = |(name, provider): (&String, &ProviderConfig)| {
        let name = name.to_lowercase();
        provider.models.iter().map(move |model| format!("{name}/{model}")).collect::<Vec<_>>()
    };
    config.providers.iter().flat_map(of).collect()
}

fn message(payload: ToHub) -> WorkerMessage {
    WorkerMessage { payload: Some(payload) }
}

/// Resident memory in MiB; 0 where the system does not tell.
fn resident_mib() -> i32 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            let kib: i64 = line.split_whitespace().nth(1)?.parse().ok()?;
            i32::try_from(kib / 1024).ok()
        })
        .unwrap_or(0)
}
