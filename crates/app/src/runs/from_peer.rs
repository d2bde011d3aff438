//! Runs that a peer hub asks for.

use std::collections::BTreeMap;

use aiox_core::{Door, Error, Result, ports::Signal, quota::Limits, run::Priority};
use aiox_model::{
    BareJid, EnvelopeId, EventId, RunId, TraceId, Ts,
    federation::{RunCancel, RunCreate},
    run::{HistoryMessage, RunStatus},
};
use aiox_store::{Accepted, Advance, Ending, Inbound, NewEvent, federation, order, peers, runs};
use futures::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    NewRun, Runs,
    follow::{self, Text},
};
use crate::{AgentRef, bounds::Bounds, remote::remote_caller};

/// A cancel waits for its run this long: an envelope expires before.
const CANCEL_WAITS_SECONDS: i64 = 31 * 86_400;

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
    /// Its conversation.
    pub conv: String,
    /// Its place there.
    pub seq: u64,
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
            inbound: Inbound { canceled: Some(self.canceled(create.run_id.uuid())), ..inbound(&envelope) },
        };
        match self.submit_from_peer(&caller, new, identity).await? {
            FromPeerResult::New => Ok(Taken::Accepted),
            FromPeerResult::Seen { digest, verdict } => Ok(Taken::Seen { digest, verdict }),
        }
    }

    /// How a run ends whose cancel came before it.
    fn canceled(&self, run: Uuid) -> Advance {
        let at = self.clock.now();
        let payload = json!({ "status": "canceled" }).to_string();
        let ending = Ending {
            status: RunStatus::Canceled,
            output: None,
            error: None,
            model_used: None,
            input_tokens: 0,
            output_tokens: 0,
            message: self.ids.uuid(),
            reply: None,
        };
        let event = NewEvent { id: self.ids.uuid(), kind: "run.canceled".into(), payload, at };
        Advance { events: vec![event], ending: Some(ending), ..Advance::new(run, at) }
    }

    /// Takes a cancel from a peer. A run that has ended stays as it is. A run that this peer did not ask for, or not yet, is canceled
    /// when it comes; whether another one has it cannot be told from the answer.
    ///
    /// # Errors
    /// [`Error::Limited`] when too many cancels of this peer wait for their runs, database errors; nothing of the envelope is kept then.
    pub async fn take_cancel(&self, envelope: PeerEnvelope, cancel: RunCancel, now: Ts) -> Result<Taken> {
        Ok(self.cancel_for_peer(&envelope.origin, cancel.run_id, Some(&inbound(&envelope)), now).await?.unwrap_or(Taken::Accepted))
    }

    /// Cancels a run, now or when it comes, for a cancel whose own turn has not come. Its envelope stays unanswered.
    ///
    /// # Errors
    /// As [`take_cancel`](Self::take_cancel).
    pub async fn cancel_ahead(&self, origin: &str, run: RunId, now: Ts) -> Result<()> {
        self.cancel_for_peer(origin, run, None, now).await.map(drop)
    }

    async fn cancel_for_peer(&self, origin: &str, run: RunId, inbound: Option<&Inbound>, now: Ts) -> Result<Option<Taken>> {
        let run = run.uuid();
        loop {
            let known = peers::asked_for_run(&mut self.store.read().await?, origin, run).await?;
            if known {
                let row = runs::by_id(&mut self.store.read().await?, run).await?.ok_or(Error::NotFound("run"))?;
                // The effect first: it is the same however often it happens, and a crash in between must not lose it.
                if !row.status.is_final() {
                    self.end_canceled(&row, None).await?;
                }
            }
            let mut tx = self.store.begin().await?;
            order::one_at_a_time(&mut tx).await?;
            if !known && peers::asked_for_run(&mut tx, origin, run).await? {
                // It came just now, and saw no cancel.
                continue;
            }
            if let Some(inbound) = inbound {
                if let Some(Accepted::Seen { digest, verdict }) = federation::receive(&mut tx, inbound, now).await? {
                    return Ok(Some(Taken::Seen { digest, verdict }));
                }
                order::raise(&mut tx, origin, &inbound.conv, inbound.seq, now).await?;
            }
            if !known && !order::await_run(&mut tx, origin, run, now.plus_seconds(CANCEL_WAITS_SECONDS), now).await? {
                let retry_after = std::time::Duration::from_secs(60);
                return Err(Error::Limited { code: "rate_limited", message: "too many cancels wait for their runs".into(), retry_after });
            }
            tx.commit().await?;
            return Ok(None);
        }
    }

    /// The highest `seq` that is here of a conversation of a peer's node. `None`: its order is not kept.
    ///
    /// # Errors
    /// Database errors.
    pub async fn mark(&self, origin: &str, conv: &str) -> Result<Option<u64>> {
        order::mark(&mut self.store.read().await?, origin, conv).await
    }

    /// The marks of the conversations of a peer's node that moved last; at most `limit`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn marks(&self, origin: &str, limit: u32) -> Result<BTreeMap<String, u64>> {
        order::latest(&mut self.store.read().await?, origin, limit).await
    }

    /// Notes that an envelope was refused for good, so that nothing waits for it.
    ///
    /// # Errors
    /// Database errors.
    pub async fn passed_over(&self, origin: &str, conv: &str, seq: u64, now: Ts) -> Result<()> {
        let mut tx = self.store.begin().await?;
        order::raise(&mut tx, origin, conv, seq, now).await?;
        tx.commit().await
    }

    /// A run that this peer node asked for, watched from after a sequence, with the live text so far or from now on. `None`: it has
    /// ended and nothing comes after.
    ///
    /// # Errors
    /// [`Error::NotFound`] for any other run.
    pub async fn watch_for_peer(
        &self,
        node: &str,
        run: RunId,
        after: u64,
        so_far: bool,
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
        let text = if so_far { Text::SoFar } else { Text::FromNow };
        Ok(Some(follow::follow(self.store.clone(), self.events.clone(), run, after, text).boxed()))
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
        conv: envelope.conv.clone(),
        seq: envelope.seq,
        canceled: None,
    }
}
