//! Runs that go to a peer hub, and runs that come from one.
//!
//! A run for a peer's agent is accepted like any other, with its envelope in the same transaction; its id and its first event are
//! the same on both hubs. The executing hub's events are then mirrored into the local log with their ids and sequences, so every
//! watcher here sees what a watcher there sees.

use std::{collections::BTreeMap, sync::Arc};

use aiox_core::{
    Caller, Error, Result, Scope,
    ports::{Clock, Events, Ids, Signal},
    run::Priority,
};
use aiox_model::{
    BareJid, EnvelopeId, EventId, RunId, Ts,
    federation::{RunCancel, RunCreate, envelope_type},
    run::{HistoryMessage, RunDelta, RunError, RunEvent, RunStatus},
};
use aiox_store::{
    Accept, Advance, Ending, Journal, NewEvent, Outbound, Sealed, Store, federation, federation::OutboxRow, peers, runs, runs::RunRow,
};
use async_trait::async_trait;
use dashmap::DashMap;
use serde_json::{Map, json};
use tokio::sync::Notify;

use crate::{Replies, bounds::Bounds, replies::reply_for, whole::whole};

/// How long an envelope may wait for a peer that is away.
const EXPIRES_SECONDS: i64 = 30 * 86_400;
/// Envelopes that may wait for one peer; a further one is refused at the door.
const OUTBOX_BOUND: u64 = 100_000;

/// An envelope to be signed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The envelope's id.
    pub id: EnvelopeId,
    /// Domain of the peer.
    pub peer: String,
    /// Address of the agent there.
    pub agent_jid: String,
    /// Conversation key.
    pub conv: String,
    /// Envelope type.
    pub kind: &'static str,
    /// Whoever acts, by their address here.
    pub sub: BareJid,
    /// What it lets the peer do, for instance `runs:create`.
    pub scope: &'static str,
    /// The client's idempotency key.
    pub idem: Option<String>,
    /// Now.
    pub created: Ts,
    /// When delivery stops.
    pub expires: Ts,
    /// Correlation id.
    pub trace: String,
    /// The payload (JSON text).
    pub payload: String,
}

/// What the use cases need of the wire between hubs.
#[async_trait]
pub trait PeerWire: Send + Sync {
    /// Signs an envelope at its place in its conversation.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when federation is off or the peer is not active.
    fn seal(&self, draft: &Draft, seq: u64, prev: Option<&str>) -> Result<Sealed>;
    /// Messages of a local principal with an agent of a peer, as the peer has them.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the peer does not answer.
    async fn history(&self, peer: &str, principal: &BareJid, agent_jid: &str, limit: u32, offset: u64) -> Result<Vec<HistoryMessage>>;
}

/// A run for a peer's agent.
pub(crate) struct NewRemote {
    pub peer: String,
    pub agent_jid: String,
    pub priority: Priority,
    pub bounds: Bounds,
}

/// The durable side of federation. Cheap to clone.
#[derive(Clone)]
pub struct Federated {
    store: Store,
    journal: Journal,
    events: Arc<dyn Events>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    replies: Replies,
    wire: Arc<dyn PeerWire>,
    news: Arc<DashMap<String, Arc<News>>>,
    /// Rings when envelopes have been delivered or will never be.
    settled: Arc<Notify>,
}

#[derive(Default)]
struct News {
    envelope: Notify,
    run: Notify,
}

impl Federated {
    /// Federation over the given ports.
    #[must_use]
    pub fn new(
        store: Store,
        journal: Journal,
        events: Arc<dyn Events>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        replies: Replies,
        wire: Arc<dyn PeerWire>,
    ) -> Self {
        Self { store, journal, events, clock, ids, replies, wire, news: Arc::default(), settled: Arc::default() }
    }

    /// Adds the envelope that takes a run to its peer.
    pub(crate) async fn outbound(&self, caller: &Caller, mut accept: Box<Accept>, remote: &NewRemote) -> Result<Box<Accept>> {
        let waiting = federation::waiting(&mut self.store.read().await?, &remote.peer).await?;
        if waiting >= OUTBOX_BOUND {
            let retry_after = std::time::Duration::from_secs(60);
            return Err(Error::Limited {
                code: "outbox_full",
                message: format!("too much waits for {} already", remote.peer),
                retry_after,
            });
        }
        let mut other = Map::new();
        other.insert("priority".into(), json!(remote.priority.number()));
        other.insert("timeout_ms".into(), json!(accept.timeout_ms));
        if remote.bounds != Bounds::default() {
            other.insert("bounds".into(), json!(remote.bounds));
        }
        // The first event is the same on both hubs.
        other.insert("event".into(), serde_json::from_str(&accept.event_payload).map_err(Error::internal)?);
        let create = RunCreate {
            run_id: RunId(accept.run),
            input: accept.input.clone(),
            conversation_id: None,
            event_id: Some(EventId(accept.event)),
            other,
        };
        let draft = Draft {
            id: EnvelopeId(self.ids.uuid()),
            peer: remote.peer.clone(),
            agent_jid: remote.agent_jid.clone(),
            conv: accept.conversation.to_string(),
            kind: envelope_type::RUN_CREATE,
            sub: caller.principal.jid().clone(),
            scope: Scope::RunsCreate.as_str(),
            idem: accept.idempotency.as_ref().map(|(key, _)| key.clone()),
            created: accept.at,
            expires: accept.at.plus_seconds(EXPIRES_SECONDS),
            trace: accept.trace.clone(),
            payload: serde_json::to_string(&create).map_err(Error::internal)?,
        };
        accept.peer = Some(remote.peer.clone());
        accept.outbound = Some(self.envelope(draft));
        Ok(accept)
    }

    fn envelope(&self, draft: Draft) -> Outbound {
        let wire = self.wire.clone();
        Outbound {
            id: draft.id.uuid(),
            peer: draft.peer.clone(),
            conv: draft.conv.clone(),
            kind: draft.kind,
            expires: draft.expires,
            seal: Arc::new(move |seq, prev| wire.seal(&draft, seq, prev)),
        }
    }

    /// Sends a cancel after the run that it cancels.
    pub(crate) async fn cancel(&self, caller: &Caller, row: &RunRow, peer: &str) -> Result<()> {
        let now = self.clock.now();
        let cancel = RunCancel { run_id: RunId(row.id), reason: Some("canceled".into()) };
        let outbound = self.envelope(Draft {
            id: EnvelopeId(self.ids.uuid()),
            peer: peer.to_owned(),
            agent_jid: row.agent_jid.clone(),
            conv: row.conversation.to_string(),
            kind: envelope_type::RUN_CANCEL,
            sub: caller.principal.jid().clone(),
            scope: Scope::RunsCancel.as_str(),
            idem: None,
            created: now,
            expires: now.plus_seconds(EXPIRES_SECONDS),
            trace: caller.trace.to_string(),
            payload: serde_json::to_string(&cancel).map_err(Error::internal)?,
        });
        let mut tx = self.store.begin().await?;
        federation::enqueue(&mut tx, &outbound, Some(row.id), now).await?;
        tx.commit().await?;
        self.news(peer);
        Ok(())
    }

    /// Messages of the caller with a peer's agent, as the peer has them.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the peer does not answer.
    pub async fn history(&self, caller: &Caller, peer: &str, agent_jid: &str, limit: u32, offset: u64) -> Result<Vec<HistoryMessage>> {
        self.wire.history(peer, caller.principal.jid(), agent_jid, limit, offset).await
    }

    fn of(&self, peer: &str) -> Arc<News> {
        self.news.entry(peer.to_owned()).or_default().clone()
    }

    pub(crate) fn news(&self, peer: &str) {
        let news = self.of(peer);
        news.envelope.notify_one();
        news.run.notify_one();
    }

    /// Waits until an envelope for a peer has been added since the last call.
    pub async fn envelope_added(&self, peer: &str) {
        self.of(peer).envelope.notified().await;
    }

    /// Waits until a peer may hold a run that it did not hold at the last call.
    pub async fn run_added(&self, peer: &str) {
        self.of(peer).run.notified().await;
    }

    // Envelopes on their way out.

    /// Envelopes that may be sent to a peer now, in order within each conversation.
    ///
    /// # Errors
    /// Database errors.
    pub async fn due(&self, peer: &str, now: Ts, limit: u32) -> Result<Vec<OutboxRow>> {
        federation::due(&mut self.store.read().await?, peer, now, limit).await
    }

    /// When the next envelope for a peer is due. `None`: nothing waits.
    ///
    /// # Errors
    /// Database errors.
    pub async fn next_due(&self, peer: &str) -> Result<Option<Ts>> {
        federation::next_due(&mut self.store.read().await?, peer).await
    }

    /// How many envelopes wait for a peer.
    ///
    /// # Errors
    /// Database errors.
    pub async fn waiting(&self, peer: &str) -> Result<u64> {
        federation::waiting(&mut self.store.read().await?, peer).await
    }

    /// When a peer was last in contact, to about a minute. `None`: never.
    ///
    /// # Errors
    /// Database errors.
    pub async fn last_seen(&self, peer: &str) -> Result<Option<Ts>> {
        peers::last_seen(&mut self.store.read().await?, peer).await
    }

    /// Notes that an attempt to send these envelopes has begun.
    ///
    /// # Errors
    /// Database errors.
    pub async fn sent(&self, ids: &[EnvelopeId]) -> Result<()> {
        let mut tx = self.store.begin().await?;
        for id in ids {
            federation::mark_sent(&mut tx, id.uuid()).await?;
        }
        tx.commit().await
    }

    /// These envelopes are durable at the peer: their runs are delivered. One transaction for all.
    ///
    /// # Errors
    /// Database errors; nothing is changed then.
    pub async fn all_delivered(&self, ids: &[EnvelopeId]) -> Result<()> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        for id in ids {
            let done = federation::finish(&mut tx, id.uuid(), "delivered", None, now).await?;
            if let Some((run, kind)) = done
                && kind == envelope_type::RUN_CREATE
            {
                runs::set_delivery(&mut tx, run, "delivered").await?;
            }
        }
        tx.commit().await?;
        self.settled.notify_waiters();
        Ok(())
    }

    /// Rings when envelopes have been delivered or will never be.
    pub(crate) fn settled(&self) -> &Notify {
        &self.settled
    }

    /// The envelope is durable at the peer: its run is delivered.
    ///
    /// # Errors
    /// Database errors.
    pub async fn delivered(&self, id: EnvelopeId) -> Result<()> {
        self.all_delivered(&[id]).await
    }

    /// The envelope will never be delivered: `refused` or `expired`. Its run fails with `code`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn undeliverable(&self, id: EnvelopeId, state: &'static str, code: &str) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let done = federation::finish(&mut tx, id.uuid(), state, Some(code), self.clock.now()).await?;
        let Some((run, kind)) = done else { return tx.commit().await };
        let carries_run = kind == envelope_type::RUN_CREATE;
        if carries_run {
            runs::set_delivery(&mut tx, run, state).await?;
        }
        tx.commit().await?;
        if carries_run {
            let error = match code {
                "not_found" => RunError { code: "not_found".into(), message: "agent not found".into(), retryable: false },
                _ if state == "expired" => {
                    RunError { code: "expired".into(), message: "the peer hub was away for too long".into(), retryable: true }
                }
                _ => RunError { code: code.to_owned(), message: "the peer hub refused the run".into(), retryable: false },
            };
            let payload = json!({ "status": "failed", "error": error });
            let event =
                RunEvent { id: self.ids.uuid(), run_id: run, sequence: 0, kind: "run.failed".into(), time: self.clock.now(), payload };
            let row = runs::by_id(&mut self.store.read().await?, run).await?.ok_or(Error::NotFound("run"))?;
            self.apply(&row, event, None).await?;
        }
        self.settled.notify_waiters();
        Ok(())
    }

    /// Sets when an envelope may be tried again, and counts the failed attempt.
    ///
    /// # Errors
    /// Database errors.
    pub async fn postpone(&self, id: EnvelopeId, until: Ts, reason: &str) -> Result<()> {
        let mut tx = self.store.begin().await?;
        federation::postpone(&mut tx, id.uuid(), until, reason).await?;
        tx.commit().await
    }

    /// Makes everything for a peer due at once.
    ///
    /// # Errors
    /// Database errors.
    pub async fn flush(&self, peer: &str, now: Ts) -> Result<()> {
        let mut tx = self.store.begin().await?;
        federation::flush(&mut tx, peer, now).await?;
        tx.commit().await
    }

    /// Sends again what a peer had confirmed before `before` and lacks now, as its marks say: it was restored from a backup.
    /// Conversations that the marks do not name stay as they are. How many envelopes go again.
    ///
    /// # Errors
    /// Database errors.
    pub async fn refill(&self, peer: &str, marks: &BTreeMap<String, u64>, before: Ts) -> Result<u64> {
        let now = self.clock.now();
        let lost = federation::lost(&mut self.store.read().await?, peer, marks, before, now).await?;
        if lost.is_empty() {
            return Ok(0);
        }
        let mut again = 0;
        let mut tx = self.store.begin().await?;
        for (conv, mark) in marks.iter().filter(|(conv, _)| lost.contains(conv)) {
            again += federation::send_again(&mut tx, peer, conv, *mark, before, now).await?;
        }
        tx.commit().await?;
        self.of(peer).envelope.notify_one();
        Ok(again)
    }

    // Runs that a peer executes.

    /// Runs that a peer executes and that have not ended: (run, last sequence stored here).
    ///
    /// # Errors
    /// Database errors.
    pub async fn unfinished(&self, peer: &str, limit: u32) -> Result<Vec<(RunId, u64)>> {
        let rows = runs::at_peer(&mut self.store.read().await?, peer, limit).await?;
        let delivered = rows.into_iter().filter(|row| row.delivery.as_deref() == Some("delivered"));
        Ok(delivered.map(|row| (RunId(row.id), row.last_seq)).collect())
    }

    /// Adds an event of the executing peer to the local log. `true`: the run has ended (now or before).
    ///
    /// # Errors
    /// [`Error::NotFound`] when that peer does not execute this run; [`Error::Conflict`] for an event that is not the next one;
    /// database errors.
    pub async fn mirror(&self, peer: &str, event: RunEvent) -> Result<bool> {
        let row = runs::by_id(&mut self.store.read().await?, event.run_id).await?;
        let row = row.filter(|row| row.peer.as_deref() == Some(peer)).ok_or(Error::NotFound("run"))?;
        if row.status.is_final() {
            return Ok(true);
        }
        if event.sequence <= row.last_seq {
            return Ok(false);
        }
        if event.sequence != row.last_seq + 1 {
            return Err(Error::conflict("gap", "an event of the peer is missing"));
        }
        let (this, sequence) = (self.clone(), event.sequence);
        whole(async move { this.apply(&row, event, Some(sequence)).await }).await
    }

    /// Tells the watchers about a live piece of text from the executing peer.
    pub async fn mirror_delta(&self, delta: RunDelta) {
        self.events.publish(RunId(delta.run_id), Signal::Delta(delta)).await;
    }

    async fn apply(&self, row: &RunRow, mut event: RunEvent, sequence: Option<u64>) -> Result<bool> {
        let ending = self.ending(row, &event);
        let (ended, replies) = (ending.is_some(), ending.as_ref().is_some_and(|ending| ending.reply.is_some()));
        let advance = Advance {
            events: vec![NewEvent { id: event.id, kind: event.kind.clone(), payload: event.payload.to_string(), at: event.time }],
            first: sequence,
            status: match event.kind.as_str() {
                "run.started" => Some(RunStatus::Running),
                "run.retried" => Some(RunStatus::Queued),
                _ => None,
            },
            attempts: match event.kind.as_str() {
                "run.started" => 1,
                "run.retried" if event.payload["reason"] == "worker_draining" => -1,
                _ => 0,
            },
            ending,
            ..Advance::new(row.id, self.clock.now())
        };
        let Some(sequence) = self.journal.advance(advance).await? else { return Ok(ended) };
        if replies {
            self.replies.added();
        }
        event.sequence = sequence;
        self.events.publish(RunId(row.id), Signal::Event(event)).await;
        Ok(ended)
    }

    fn ending(&self, row: &RunRow, event: &RunEvent) -> Option<Ending> {
        let payload = &event.payload;
        let number = |name: &str| payload["usage"][name].as_u64().unwrap_or(0);
        let base = |status| Ending {
            status,
            output: None,
            error: None,
            model_used: payload["model"].as_str().map(str::to_owned),
            input_tokens: number("input_tokens"),
            output_tokens: number("output_tokens"),
            message: self.ids.uuid(),
            reply: None,
        };
        match event.kind.as_str() {
            "run.completed" => {
                let text = payload["output"]["text"].as_str().unwrap_or_default().to_owned();
                let reply = reply_for(row, self.ids.uuid(), Ok(&text));
                Some(Ending { output: Some(text), reply, ..base(RunStatus::Completed) })
            }
            "run.failed" => {
                let unknown = || RunError { code: "peer_error".into(), message: "the peer hub could not answer".into(), retryable: true };
                let error: RunError = serde_json::from_value(payload["error"].clone()).unwrap_or_else(|_| unknown());
                let reply = reply_for(row, self.ids.uuid(), Err(&error));
                Some(Ending { error: serde_json::to_string(&error).ok(), reply, ..base(RunStatus::Failed) })
            }
            "run.canceled" => Some(base(RunStatus::Canceled)),
            _ => None,
        }
    }
}
