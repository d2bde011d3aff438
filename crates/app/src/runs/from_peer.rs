//! Runs that a peer hub asks for.

use aiox_core::{Door, Error, Result, ports::Signal, quota::Limits, run::Priority};
use aiox_model::{
    BareJid, EnvelopeId, EventId, RunId, TraceId, Ts,
    federation::{RunCancel, RunCreate},
    run::HistoryMessage,
};
use aiox_store::{Inbound, federation, peers, runs};
use futures::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{NewRun, Runs};
use crate::{AgentRef, bounds::Bounds, remote::remote_caller};

/// The identity that a run has at the peer hub that asks for it.
pub(crate) struct FromPeer {
    pub run: Uuid,
    pub event: Uuid,
    pub event_payload: String,
    pub created_at: Ts,
    pub inbound: aiox_store::Inbound,
}

/// An envelope of a peer that may have an effect: proven and admitted by the federation door.
#[derive(Debug, Clone)]
pub struct PeerEnvelope {
    /// Node id of the sender.
    pub origin: String,
    /// Whoever acts there. The door has checked that the sender may speak for them.
    pub sub: BareJid,
    /// The envelope's id.
    pub id: EnvelopeId,
    /// Its digest.
    pub digest: String,
    /// As received (JSON).
    pub document: String,
    /// When it was made.
    pub created: Ts,
    /// The client's idempotency key.
    pub idem: Option<String>,
    /// Correlation id.
    pub trace: Option<String>,
    /// Address of the agent.
    pub agent: AgentRef,
    /// The verdict to repeat for copies (JSON).
    pub verdict: String,
}

/// What became of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Durable, with its effect.
    Accepted,
    /// It was here before: digest and verdict (JSON) of that time.
    Seen {
        /// Digest of the first one.
        digest: String,
        /// Its verdict.
        verdict: String,
    },
}

impl Runs {
    /// Digest and verdict (JSON) of an envelope that was received before.
    ///
    /// # Errors
    /// Database errors.
    pub async fn envelope_seen(&self, origin: &str, id: EnvelopeId) -> Result<Option<(String, String)>> {
        federation::received(&mut self.store.read().await?, origin, id.uuid()).await
    }

    /// Takes a run from a peer: envelope and run become durable in one transaction.
    ///
    /// # Errors
    /// As [`Runs::submit`]; nothing of the envelope is kept then.
    pub async fn take_create(&self, envelope: PeerEnvelope, create: RunCreate, limits: Limits) -> Result<Taken> {
        let trace = envelope.trace.as_deref().and_then(|trace| trace.parse().ok()).unwrap_or(TraceId(create.run_id.uuid()));
        let caller = remote_caller(envelope.sub.clone(), limits, trace, Door::Federation);
        let bounds = create.other.get("bounds").cloned().map(serde_json::from_value::<Bounds>).transpose();
        let bounds = bounds.map_err(|_| Error::invalid("payload.bounds", "is not what bounds a run"))?.unwrap_or_default();
        let number = |name: &str| create.other.get(name).and_then(Value::as_i64);
        let new = NewRun {
            agent: envelope.agent.clone(),
            input: create.input,
            conversation: None,
            idempotency_key: None,
            reply: None,
            priority: number("priority").map_or(Priority::Normal, Priority::from_number),
            timeout_ms: number("timeout_ms").and_then(|ms| u64::try_from(ms).ok()),
            // What another hub made of the tier is of no use here.
            bounds: Bounds { model: None, ..bounds },
            asked: None,
        };
        let identity = FromPeer {
            run: create.run_id.uuid(),
            event: create.event_id.map_or_else(|| envelope.id.uuid(), EventId::uuid),
            event_payload: create.other.get("event").cloned().unwrap_or_else(|| json!({ "status": "queued" })).to_string(),
            created_at: envelope.created,
            inbound: inbound(&envelope),
        };
        match self.submit_from_peer(&caller, new, identity).await? {
            FromPeerResult::New => Ok(Taken::Accepted),
            FromPeerResult::Seen { digest, verdict } => Ok(Taken::Seen { digest, verdict }),
        }
    }

    /// Takes a cancel from a peer. A run that the peer did not ask for is not found; one that has ended stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], database errors; nothing of the envelope is kept then.
    pub async fn take_cancel(&self, envelope: PeerEnvelope, cancel: RunCancel, now: Ts) -> Result<Taken> {
        let store = &self.store;
        if !peers::asked_for_run(&mut store.read().await?, &envelope.origin, cancel.run_id.uuid()).await? {
            return Err(Error::NotFound("run"));
        }
        let row = runs::by_id(&mut store.read().await?, cancel.run_id.uuid()).await?.ok_or(Error::NotFound("run"))?;
        // The effect first: it is the same however often it happens, and a crash in between must not lose it.
        if !row.status.is_final() {
            self.end_canceled(&row, None).await?;
        }
        let mut tx = store.begin().await?;
        let seen = federation::receive(&mut tx, &inbound(&envelope), now).await?;
        tx.commit().await?;
        if let Some(aiox_store::Accepted::Seen { digest, verdict }) = seen {
            return Ok(Taken::Seen { digest, verdict });
        }
        Ok(Taken::Accepted)
    }

    /// A run that this peer node asked for, watched from after a sequence. `None`: it has ended and nothing comes after.
    ///
    /// # Errors
    /// [`Error::NotFound`] for any other run.
    pub async fn watch_for_peer(
        &self,
        node: &str,
        run: RunId,
        after: u64,
    ) -> Result<Option<futures::stream::BoxStream<'static, Result<Signal>>>> {
        let mut db = self.store.read().await?;
        if !peers::asked_for_run(&mut db, node, run.uuid()).await? {
            return Err(Error::NotFound("run"));
        }
        let row = runs::by_id(&mut db, run.uuid()).await?.ok_or(Error::NotFound("run"))?;
        drop(db);
        if row.status.is_final() && after >= row.last_seq {
            return Ok(None);
        }
        Ok(Some(self.follow(run, after, true).boxed()))
    }

    /// Messages of a peer's principal with one local agent, oldest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] when that principal may not use that agent.
    pub async fn history_for_peer(&self, principal: BareJid, agent: &AgentRef, limit: u32, offset: u64) -> Result<Vec<HistoryMessage>> {
        let caller = remote_caller(principal, Limits::default(), TraceId(Uuid::nil()), Door::Federation);
        Ok(self.history_with(&caller, agent, limit, offset).await?.0)
    }
}

/// What [`Runs::submit_from_peer`] made.
pub(crate) enum FromPeerResult {
    New,
    Seen { digest: String, verdict: String },
}

fn inbound(envelope: &PeerEnvelope) -> Inbound {
    Inbound {
        origin: envelope.origin.clone(),
        id: envelope.id.uuid(),
        digest: envelope.digest.clone(),
        envelope: envelope.document.clone(),
        verdict: envelope.verdict.clone(),
    }
}
