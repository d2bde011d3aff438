//! What federation needs of the durable side, in its own words.

use std::collections::BTreeMap;

use aiox_core::Result;
use aiox_model::{
    BareJid, EnvelopeId, RunId, Ts,
    federation::{DirectoryEntry, NodeId, PeerRecord, Receipt, Verdict},
    run::{HistoryMessage, RunDelta, RunEvent},
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;

use crate::envelope::Verified;

/// What was answered to an envelope, now or the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Digest of the envelope that was answered.
    pub digest: String,
    /// `accepted`, `refused`, `held` or `retry`.
    pub verdict: Verdict,
    /// Stable reason of a refusal or retry.
    pub code: Option<String>,
    /// When it became durable here.
    pub at: Ts,
}

/// An envelope that may have an effect: proven, admitted, and allowed by the peer record.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The node that sent it.
    pub sender: NodeId,
    /// The local tenant that the sender's tenant is mapped to; `*` = the tenant of the agent.
    pub tenant: String,
    /// The envelope.
    pub envelope: Verified,
}

/// Envelopes that came in.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// What was answered to this envelope before.
    async fn seen(&self, origin: &NodeId, id: EnvelopeId) -> Result<Option<Answer>>;
    /// Makes the envelope and its one effect durable in one transaction. A copy that arrives at the same time gets the answer of the
    /// first, with the first one's digest. Errors that may pass become a `retry`, others a `refused`, with the error's stable code.
    async fn take(&self, incoming: Incoming) -> Result<Answer>;
    /// Takes the effect of a cancel whose turn has not come: its run is canceled, now or when it comes. It stays unanswered.
    async fn cancel_ahead(&self, incoming: Incoming) -> Result<()>;
    /// The highest `seq` that is here of a conversation of this node, 0 when nothing is. `None`: its order is not kept.
    async fn mark(&self, origin: &NodeId, conv: &str) -> Result<Option<u64>>;
    /// The marks of those conversations of this node that moved last, at most `limit`.
    async fn marks(&self, origin: &NodeId, limit: u32) -> Result<BTreeMap<String, u64>>;
    /// An envelope was refused for good: nothing has to wait for it.
    async fn passed_over(&self, origin: &NodeId, conv: &str, seq: u64) -> Result<()>;
}

/// The agents of this hub.
#[async_trait]
pub trait Agents: Send + Sync {
    /// Every name of the agent that `reference` names (its UUID, its readable handle): what the peer record may list. `None`: no such agent.
    async fn names(&self, reference: &str) -> Result<Option<Vec<String>>>;
    /// Agents that users of a peer domain may see, with every name of each.
    async fn visible(&self, peer: &str) -> Result<Vec<(Vec<String>, DirectoryEntry)>>;
}

/// A signal of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedItem {
    /// A durable, numbered event.
    Event(RunEvent),
    /// A live piece of text.
    Delta(RunDelta),
}

/// The runs that peers asked for, as they may watch them.
#[async_trait]
pub trait RunFeed: Send + Sync {
    /// The signals of a run from the event after `after` to its end, then the stream ends; with `so_far`, the live text so far comes
    /// before what follows it. Only of a run that this peer node asked for;
    /// any other is not found. `None`: the run has ended and nothing comes after `after`.
    async fn open(&self, peer: &NodeId, run: RunId, after: u64, so_far: bool) -> Result<Option<BoxStream<'static, Result<FeedItem>>>>;
    /// The history of one of the peer's principals with one agent, oldest first.
    async fn history(&self, principal: &BareJid, agent: &str, limit: u32, offset: u64) -> Result<Vec<HistoryMessage>>;
}

/// An envelope on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its id.
    pub id: EnvelopeId,
    /// Its conversation: later ones of one conversation never overtake earlier ones.
    pub conv: String,
    /// The signed envelope.
    pub envelope: Value,
    /// Failed attempts so far.
    pub attempts: u32,
    /// When delivery stops.
    pub expires: Ts,
}

/// How the delivery of an envelope ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Durable at the peer.
    Delivered(Option<Receipt>),
    /// The peer will never take it, for this reason.
    Refused(String),
    /// It was not delivered in time.
    Expired,
}

/// Envelopes on their way out, durable.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Envelopes for a peer that may be sent now, in order within each conversation; at most `limit`.
    async fn due(&self, peer: &str, now: Ts, limit: u32) -> Result<Vec<Outgoing>>;
    /// When the next one becomes due. `None`: nothing waits.
    async fn next_due(&self, peer: &str) -> Result<Option<Ts>>;
    /// An attempt to send these has begun.
    async fn sent(&self, ids: &[EnvelopeId]) -> Result<()>;
    /// The waiting of these is over, for good.
    async fn finish(&self, peer: &str, outcomes: Vec<(EnvelopeId, Outcome)>) -> Result<()>;
    /// The peer asked to send this one again, not before `until`.
    async fn postpone(&self, id: EnvelopeId, until: Ts, reason: &str) -> Result<()>;
    /// Makes everything for a peer due at once.
    async fn flush(&self, peer: &str, now: Ts) -> Result<()>;
    /// Puts back what the peer had confirmed before `before` and that is above its marks. How many envelopes.
    async fn refill(&self, peer: &str, marks: &BTreeMap<String, u64>, before: Ts) -> Result<u64>;
    /// Returns when something may have been added since the last call.
    async fn added(&self, peer: &str);
}

/// A run that a peer executes for this hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// The run.
    pub run: RunId,
    /// Sequence of the last event that is stored here.
    pub after: u64,
}

/// The local log of runs that peers execute.
#[async_trait]
pub trait RemoteRuns: Send + Sync {
    /// Runs that a peer holds and that have not ended, oldest first; at most `limit`.
    async fn unfinished(&self, peer: &str, limit: u32) -> Result<Vec<Followed>>;
    /// Adds the peer's next event to the local log, durable. Events come in order; one that is there already changes nothing.
    /// `true`: the run has ended.
    async fn event(&self, peer: &str, event: RunEvent) -> Result<bool>;
    /// Tells the watchers about a live piece of text.
    async fn delta(&self, peer: &str, delta: RunDelta);
    /// Returns when a peer may hold a run that it did not hold at the last call.
    async fn added(&self, peer: &str);
}

/// Peer records, durable.
#[async_trait]
pub trait PeerStore: Send + Sync {
    /// Every record.
    async fn all(&self) -> Result<Vec<PeerRecord>>;
    /// Writes one, new or changed.
    async fn put(&self, record: &PeerRecord) -> Result<()>;
    /// Removes one. `false`: there was none.
    async fn remove(&self, domain: &str) -> Result<bool>;
    /// A peer was in contact.
    async fn saw(&self, domain: &str, at: Ts) -> Result<()>;
    /// Replaces what is known of a peer's agents.
    async fn put_agents(&self, domain: &str, agents: &[DirectoryEntry]) -> Result<()>;
    /// The signed conformance result that this hub (of this domain) publishes.
    async fn conformance(&self, domain: &str) -> Result<Option<String>>;
    /// Replaces it.
    async fn publish_conformance(&self, domain: &str, document: &str) -> Result<()>;
}

/// The audit log.
#[async_trait]
pub trait AuditTrail: Send + Sync {
    /// A peer did or was refused something. `reason` never leaves this hub.
    async fn record(&self, peer: &str, action: &'static str, outcome: &'static str, reason: &str);
}
