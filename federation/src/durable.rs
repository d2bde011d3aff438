//! The ports over the use cases: nothing is decided here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use aiox_app::{
    AgentRef, Agents as AgentCases, Directory, Federated, PeerBook, Runs,
    runs::{PeerEnvelope, Taken},
};
use aiox_core::{
    Error, Result,
    ports::{Clock, Signal},
    quota::Limits,
};
use aiox_model::{
    BareJid, EnvelopeId, RunId, Ts,
    agent::{AgentCard, Visibility},
    federation::{DirectoryEntry, NodeId, PeerRecord, RunCancel, RunCreate, Verdict, envelope_type},
    run::{HistoryMessage, RunDelta, RunEvent},
};
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::ports::{
    Agents, Answer, AuditTrail, FeedItem, Followed, Inbox, Incoming, Outbox, Outcome, Outgoing, PeerStore, RemoteRuns, RunFeed,
};

/// The use cases, as federation uses them.
pub struct Durable {
    runs: Runs,
    agents: AgentCases,
    directory: Directory,
    federated: Federated,
    book: PeerBook,
    clock: Arc<dyn Clock>,
    limits: Limits,
    /// Rung when a peer has confirmed a run: only then can it be followed.
    confirmed: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Durable {
    /// `limits`: the allowance of each remote principal.
    #[must_use]
    pub fn new(
        runs: Runs,
        agents: AgentCases,
        directory: Directory,
        federated: Federated,
        book: PeerBook,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Self {
        Self { runs, agents, directory, federated, book, clock, limits, confirmed: Mutex::default() }
    }

    fn confirmed(&self, peer: &str) -> Arc<Notify> {
        let mut bells = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(bells.entry(peer.to_owned()).or_default())
    }

    fn cancel(incoming: &Incoming) -> Result<RunCancel> {
        serde_json::from_str(&incoming.envelope.payload).map_err(malformed)
    }

    async fn apply(&self, incoming: &Incoming, at: Ts) -> Result<Taken> {
        let header = &incoming.envelope.header;
        let agent = header.dest.agent.as_deref().and_then(AgentRef::parse).ok_or(Error::NotFound("agent"))?;
        let sub: BareJid = header.auth.sub.parse().map_err(|_| Error::invalid("auth.sub", "must be an address"))?;
        let envelope = PeerEnvelope {
            origin: incoming.sender.to_string(),
            sub,
            id: header.id,
            digest: incoming.envelope.digest.clone(),
            document: incoming.envelope.document.to_string(),
            created: header.created,
            idem: header.idem.clone(),
            trace: header.trace.clone(),
            agent: agent.clone(),
            verdict: serde_json::to_string(&StoredVerdict { verdict: Verdict::Accepted, at }).map_err(Error::internal)?,
            conv: header.conv.clone(),
            seq: header.seq,
        };
        match header.kind.as_str() {
            envelope_type::RUN_CREATE => {
                let create: RunCreate = serde_json::from_str(&incoming.envelope.payload).map_err(malformed)?;
                let tenant = self.directory.local(&agent).await?.tenant;
                // The peer's tenant is mapped to one of ours: its runs stay in it.
                if incoming.tenant != "*" && incoming.tenant.parse() != Ok(tenant) {
                    return Err(Error::NotFound("agent"));
                }
                self.runs.take_create(envelope, create, self.limits).await
            }
            _ => self.runs.take_cancel(envelope, Self::cancel(incoming)?, at).await,
        }
    }
}

fn malformed(_: serde_json::Error) -> Error {
    Error::invalid("payload", "is not what the envelope's type says")
}

/// An answer as the inbox keeps it.
#[derive(Serialize, Deserialize)]
struct StoredVerdict {
    verdict: Verdict,
    at: Ts,
}

fn stored(digest: String, verdict: &str) -> Result<Answer> {
    let damaged = |_| Error::Corrupt { table: "fed_inbox", column: "verdict", id: digest.clone() };
    let StoredVerdict { verdict, at } = serde_json::from_str(verdict).map_err(damaged)?;
    Ok(Answer { digest, verdict, code: None, at })
}

#[async_trait]
impl Inbox for Durable {
    async fn seen(&self, origin: &NodeId, id: EnvelopeId) -> Result<Option<Answer>> {
        let found = self.runs.envelope_seen(origin.as_str(), id).await?;
        found.map(|(digest, verdict)| stored(digest, &verdict)).transpose()
    }

    async fn take(&self, incoming: Incoming) -> Result<Answer> {
        let at = self.clock.now();
        let digest = incoming.envelope.digest.clone();
        match self.apply(&incoming, at).await {
            Ok(Taken::Accepted) => Ok(Answer { digest, verdict: Verdict::Accepted, code: None, at }),
            Ok(Taken::Seen { digest, verdict }) => stored(digest, &verdict),
            // A used-up allowance is told at once, as at every other door: waiting for tomorrow is the user's decision.
            Err(error) if error.code() == "quota_exceeded" => Ok(refused(digest, error.code(), at)),
            Err(error) if error.retryable() || matches!(error, Error::Internal(_) | Error::Corrupt { .. }) => Err(error),
            Err(error) => Ok(refused(digest, error.code(), at)),
        }
    }
    async fn cancel_ahead(&self, incoming: Incoming) -> Result<()> {
        let run = Self::cancel(&incoming)?.run_id;
        self.runs.cancel_ahead(incoming.sender.as_str(), run, self.clock.now()).await
    }
    async fn mark(&self, origin: &NodeId, conv: &str) -> Result<Option<u64>> {
        self.runs.mark(origin.as_str(), conv).await
    }
    async fn marks(&self, origin: &NodeId, limit: u32) -> Result<BTreeMap<String, u64>> {
        self.runs.marks(origin.as_str(), limit).await
    }
    async fn passed_over(&self, origin: &NodeId, conv: &str, seq: u64) -> Result<()> {
        self.runs.passed_over(origin.as_str(), conv, seq, self.clock.now()).await
    }
}

fn refused(digest: String, code: &str, at: Ts) -> Answer {
    Answer { digest, verdict: Verdict::Refused, code: Some(code.to_owned()), at }
}

#[async_trait]
impl Agents for Durable {
    async fn names(&self, reference: &str) -> Result<Option<Vec<String>>> {
        let Some(agent) = AgentRef::parse(reference) else { return Ok(None) };
        match self.directory.local(&agent).await {
            Ok(row) => Ok(Some(std::iter::once(row.id.uuid().to_string()).chain([row.id.to_string()]).chain(row.handle).collect())),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn visible(&self, peer: &str) -> Result<Vec<(Vec<String>, DirectoryEntry)>> {
        let names = self.directory.names();
        let listed = |card: AgentCard| {
            let known: Vec<_> =
                [card.id.to_string(), aiox_model::AgentId(card.id).to_string()].into_iter().chain(card.handle.clone()).collect();
            let entry = DirectoryEntry {
                id: names.agent_spiffe(card.id.into()),
                jid: card.jid,
                alias: card.handle.map(|handle| format!("{handle}@{}", names.agents_domain())),
                name: card.name,
                description: Some(card.description).filter(|text| !text.is_empty()),
                capabilities: card.domain_tags,
                provider: Some(card.provider),
                updated_at: card.updated_at,
            };
            (known, entry)
        };
        Ok(self.agents.visible_to_peer(peer).await?.into_iter().map(listed).collect())
    }
}

#[async_trait]
impl RunFeed for Durable {
    async fn open(&self, peer: &NodeId, run: RunId, after: u64, so_far: bool) -> Result<Option<BoxStream<'static, Result<FeedItem>>>> {
        let signals = self.runs.watch_for_peer(peer.as_str(), run, after, so_far).await?;
        let item = |signal| match signal {
            Signal::Event(event) => FeedItem::Event(event),
            Signal::Delta(delta) => FeedItem::Delta(delta),
        };
        Ok(signals.map(|signals| signals.map(move |signal| signal.map(item)).boxed()))
    }

    async fn history(&self, principal: &BareJid, agent: &str, limit: u32, offset: u64) -> Result<Vec<HistoryMessage>> {
        let agent = AgentRef::parse(agent).ok_or(Error::NotFound("agent"))?;
        self.runs.history_for_peer(principal.clone(), &agent, limit, offset).await
    }
}

#[async_trait]
impl Outbox for Durable {
    async fn due(&self, peer: &str, now: Ts, limit: u32) -> Result<Vec<Outgoing>> {
        let rows = self.federated.due(peer, now, limit).await?;
        rows.into_iter()
            .map(|row| {
                let damaged = |_| Error::Corrupt { table: "fed_outbox", column: "envelope", id: row.id.to_string() };
                let envelope = serde_json::from_str(&row.envelope).map_err(damaged)?;
                Ok(Outgoing { id: row.id.into(), conv: row.conv, envelope, attempts: row.attempts, expires: row.expires_at })
            })
            .collect()
    }
    async fn next_due(&self, peer: &str) -> Result<Option<Ts>> {
        self.federated.next_due(peer).await
    }
    async fn sent(&self, ids: &[EnvelopeId]) -> Result<()> {
        self.federated.sent(ids).await
    }
    async fn finish(&self, peer: &str, outcomes: Vec<(EnvelopeId, Outcome)>) -> Result<()> {
        let delivered = |(id, outcome): &(EnvelopeId, Outcome)| matches!(outcome, Outcome::Delivered(_)).then_some(*id);
        let ids: Vec<_> = outcomes.iter().filter_map(delivered).collect();
        if !ids.is_empty() {
            // One commit for the whole batch: with one each, a queue drains at the speed of the disk's fsync.
            self.federated.all_delivered(&ids).await?;
            self.confirmed(peer).notify_one();
        }
        for (id, outcome) in outcomes {
            match outcome {
                Outcome::Delivered(_) => {}
                Outcome::Refused(code) => self.federated.undeliverable(id, "refused", &code).await?,
                Outcome::Expired => self.federated.undeliverable(id, "expired", "expired").await?,
            }
        }
        Ok(())
    }
    async fn postpone(&self, id: EnvelopeId, until: Ts, reason: &str) -> Result<()> {
        self.federated.postpone(id, until, reason).await
    }
    async fn flush(&self, peer: &str, now: Ts) -> Result<()> {
        self.federated.flush(peer, now).await
    }
    async fn refill(&self, peer: &str, marks: &BTreeMap<String, u64>, before: Ts) -> Result<u64> {
        self.federated.refill(peer, marks, before).await
    }
    async fn added(&self, peer: &str) {
        self.federated.envelope_added(peer).await;
    }
}

#[async_trait]
impl RemoteRuns for Durable {
    async fn unfinished(&self, peer: &str, limit: u32) -> Result<Vec<Followed>> {
        let runs = self.federated.unfinished(peer, limit).await?;
        Ok(runs.into_iter().map(|(run, after)| Followed { run, after }).collect())
    }
    async fn event(&self, peer: &str, event: RunEvent) -> Result<bool> {
        self.federated.mirror(peer, event).await
    }
    async fn delta(&self, _: &str, delta: RunDelta) {
        self.federated.mirror_delta(delta).await;
    }
    async fn added(&self, peer: &str) {
        self.confirmed(peer).notified().await;
    }
}

#[async_trait]
impl PeerStore for Durable {
    async fn all(&self) -> Result<Vec<PeerRecord>> {
        self.book.all().await
    }
    async fn put(&self, record: &PeerRecord) -> Result<()> {
        self.book.put(record).await
    }
    async fn remove(&self, domain: &str) -> Result<bool> {
        self.book.remove(domain).await
    }
    async fn saw(&self, domain: &str, at: Ts) -> Result<()> {
        self.book.saw(domain, at).await
    }
    async fn put_agents(&self, domain: &str, agents: &[DirectoryEntry]) -> Result<()> {
        let cards: Vec<_> = agents.iter().filter_map(|entry| card(domain, entry)).collect();
        self.book.put_agents(domain, &cards, self.clock.now()).await
    }
    async fn conformance(&self, domain: &str) -> Result<Option<String>> {
        self.book.conformance(domain).await
    }
    async fn publish_conformance(&self, domain: &str, document: &str) -> Result<()> {
        self.book.publish_conformance(domain, document).await
    }
}

fn card(domain: &str, entry: &DirectoryEntry) -> Option<AgentCard> {
    let id = entry.id.rsplit_once("/agent/")?.1.parse().ok()?;
    Some(AgentCard {
        id,
        jid: entry.jid.clone(),
        handle: entry.alias.as_deref().and_then(|alias| alias.split_once('@')).map(|(handle, _)| handle.to_owned()),
        domain: domain.to_owned(),
        name: entry.name.clone(),
        description: entry.description.clone().unwrap_or_default(),
        domain_tags: entry.capabilities.clone(),
        provider: entry.provider.clone().unwrap_or_default(),
        visibility: Visibility::Mesh,
        updated_at: entry.updated_at,
    })
}

#[async_trait]
impl AuditTrail for Durable {
    async fn record(&self, peer: &str, action: &'static str, outcome: &'static str, reason: &str) {
        if let Err(error) = self.book.record(peer, action, outcome, reason).await {
            // The request goes on: refusing to refuse would be worse, and the log line has the same facts.
            tracing::error!(peer, action, outcome, reason, error = %error.chain(), "audit record could not be written");
        }
    }
}
