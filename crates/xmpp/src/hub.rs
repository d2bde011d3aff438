//! What the door needs of the hub, in the door's words. The implementation over the use cases is in `wire`.

use aiox_core::{Caller, Result};
use aiox_model::{AgentId, BareJid, RunId, account::Quota, agent::AgentCard, run::Run};
use async_trait::async_trait;
use futures::stream::BoxStream;
use uuid::Uuid;
use xmpp_parsers::jid::Jid;

use crate::{disco::Face, outgoing::Envelope};

/// A message that is to become a run.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) input: String,
    /// The sender's stanza id: a client sends it again after it resumed its stream. `None`: it gave none.
    pub(crate) stanza_id: Option<String>,
    pub(crate) envelope: Envelope,
    /// Full address of the sender.
    pub(crate) device: Jid,
}

/// A durable run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) run: RunId,
    /// `false`: the same message came before; its answer is already on its way.
    pub(crate) fresh: bool,
}

/// A reply that waits in the durable outbox.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) id: Uuid,
    /// Id of the stanza, the same each time it is sent.
    pub(crate) stanza_id: String,
    /// The run it answers.
    pub(crate) run: Option<RunId>,
    pub(crate) envelope: Envelope,
    pub(crate) body: String,
}

/// Somebody who sees an agent's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contact {
    /// Every address of the agent: its clients know it by one of them.
    pub(crate) agent: Vec<BareJid>,
    pub(crate) face: Face,
    pub(crate) subscriber: BareJid,
}

/// Somebody who sees an agent's presence and may no longer use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) id: AgentId,
    /// Every address of the agent.
    pub(crate) agent: Vec<BareJid>,
    pub(crate) subscriber: BareJid,
}

/// What is seen of a run while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Text to append.
    Text(String),
    /// A worker starts over: what was seen is void.
    Restarted,
    /// Nothing more comes.
    Ended,
}

/// The use cases of the hub. A private agent is [`aiox_core::Error::NotFound`] for strangers in every one of them.
#[async_trait]
pub(crate) trait Hub: Send + Sync + 'static {
    /// Who a sender is: our server vouches for its own addresses, and through s2s another domain for its own.
    async fn caller(&self, sender: &BareJid) -> Result<Caller>;
    /// The agent behind an address.
    async fn card(&self, caller: &Caller, agent: &BareJid) -> Result<AgentCard>;
    /// The agents that the caller may use, a bounded number.
    async fn cards(&self, caller: &Caller) -> Result<Vec<AgentCard>>;
    /// Makes a message a durable run.
    async fn submit(&self, caller: &Caller, agent: &BareJid, question: Question) -> Result<Accepted>;
    /// What happens to a run from now on.
    async fn follow(&self, caller: &Caller, run: RunId) -> Result<BoxStream<'static, Progress>>;
    /// What was answered, or said instead of an answer, once the run has ended.
    async fn answer(&self, caller: &Caller, run: RunId) -> Result<Option<String>>;
    /// The caller's unfinished runs, a bounded number.
    async fn unfinished(&self, caller: &Caller) -> Result<Vec<Run>>;
    /// Ends a run.
    async fn cancel(&self, caller: &Caller, run: RunId) -> Result<()>;
    /// What the caller has used and may use.
    async fn quota(&self, caller: &Caller) -> Result<Quota>;

    /// Unconfirmed replies after an id (nil: from the start), in order of their ids.
    async fn due(&self, after: Uuid, limit: u32) -> Result<Vec<Reply>>;
    /// The server has taken these replies.
    async fn confirm(&self, replies: Vec<Uuid>) -> Result<()>;
    /// Returns when a reply was added since the last call.
    async fn replies_changed(&self);

    /// Notes who sees the agent's presence.
    async fn subscribe(&self, agent: &AgentCard, subscriber: &BareJid) -> Result<()>;
    /// Forgets it.
    async fn unsubscribe(&self, agent: &AgentCard, subscriber: &BareJid) -> Result<()>;
    /// Waits for agents that fewer people may use than before, perhaps.
    async fn narrowed(&self) -> Vec<AgentId>;
    /// Calls back for everybody who sees the presence of `agent` (`None`: of any agent) and may no longer use it, page by page.
    async fn lost(&self, agent: Option<AgentId>, page: tokio::sync::mpsc::Sender<Vec<Lost>>) -> Result<()>;
    /// Forgets somebody who saw an agent's presence.
    async fn forget(&self, lost: &Lost) -> Result<()>;

    /// The living agent behind an address, whoever asks.
    async fn agent_of(&self, address: &BareJid) -> Result<AgentId>;
    /// Records for its owner that somebody was denied an agent.
    async fn record_denied(&self, stranger: &BareJid, agent: AgentId) -> Result<()>;

    /// Calls back for everybody who sees an agent's presence, page by page. Stops when `page` is no longer wanted.
    async fn contacts(&self, page: tokio::sync::mpsc::Sender<Vec<Contact>>) -> Result<()>;
}
