//! In-memory doubles of the durable side. Each wakes its watchers, so that tests wait for events and never for time.

use aiox_crypto::system::SystemClock;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use aiox_core::{
    Error, Result,
    ports::{Clock, Ids, RateLimiter, ReplayGuard},
};
use aiox_federation::ports::{
    Agents, Answer, AuditTrail, FeedItem, Followed, Inbox, Incoming, Outbox, Outcome, Outgoing, PeerStore, RemoteRuns, RunFeed,
};
use aiox_model::{
    BareJid, EnvelopeId, RunId, Ts,
    federation::{DirectoryEntry, NodeId, PeerRecord, Verdict},
    run::{HistoryMessage, RunDelta, RunEvent},
};
use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// The real time plus an offset: certificates are judged by the real clock, tokens by this one.
#[derive(Default)]
pub struct TestClock(pub AtomicI64);
impl Clock for TestClock {
    fn now(&self) -> Ts {
        SystemClock.now().plus_seconds(self.0.load(Ordering::SeqCst))
    }
}

pub struct TestIds;
impl Ids for TestIds {
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
    fn secret(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        bytes
    }
}

#[derive(Default)]
pub struct MemoryGuard {
    pub used: Mutex<HashSet<(String, String)>>,
    pub down: AtomicBool,
}
#[async_trait]
impl ReplayGuard for MemoryGuard {
    async fn first_use(&self, issuer: &str, value: &str, _: Ts) -> Result<bool> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::unavailable("replay_guard", "down"));
        }
        Ok(self.used.lock().unwrap().insert((issuer.to_owned(), value.to_owned())))
    }
}

/// Refuses requests, and hellos with marks, as long as the test wants it.
#[derive(Default)]
pub struct Limiter(pub AtomicBool, pub AtomicBool);
#[async_trait]
impl RateLimiter for Limiter {
    async fn check(&self, what: &str, _: u32, _: Duration) -> std::result::Result<(), Duration> {
        let closed = if what.starts_with("fed-marks:") { &self.1 } else { &self.0 };
        if closed.load(Ordering::SeqCst) { Err(Duration::from_secs(7)) } else { Ok(()) }
    }
}

#[derive(Default)]
pub struct Audit(pub Mutex<Vec<(String, String)>>);
impl Audit {
    pub fn last(&self) -> String {
        self.0.lock().unwrap().last().map(|(_, reason)| reason.clone()).unwrap_or_default()
    }
}
#[async_trait]
impl AuditTrail for Audit {
    async fn record(&self, _: &str, action: &'static str, _: &'static str, reason: &str) {
        self.0.lock().unwrap().push((action.to_owned(), reason.to_owned()));
    }
}

/// Takes everything once; `retries` makes the next so many calls ask for a retry.
#[derive(Default)]
pub struct MemoryInbox {
    pub answers: Mutex<HashMap<(NodeId, EnvelopeId), Answer>>,
    pub effects: Mutex<Vec<Incoming>>,
    pub retries: AtomicU32,
    pub changed: Notify,
    pub marks: Mutex<BTreeMap<(NodeId, String), u64>>,
    /// Ids of cancels that had their effect before their turn.
    pub ahead: Mutex<Vec<EnvelopeId>>,
}
#[async_trait]
impl Inbox for MemoryInbox {
    async fn seen(&self, origin: &NodeId, id: EnvelopeId) -> Result<Option<Answer>> {
        Ok(self.answers.lock().unwrap().get(&(origin.clone(), id)).cloned())
    }
    async fn take(&self, incoming: Incoming) -> Result<Answer> {
        if self.retries.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::unavailable("busy", "busy"));
        }
        let key = (incoming.sender.clone(), incoming.envelope.header.id);
        let digest = incoming.envelope.digest.clone();
        let answer = Answer { digest, verdict: Verdict::Accepted, code: None, at: SystemClock.now() };
        self.passed_over(&incoming.sender, &incoming.envelope.header.conv, incoming.envelope.header.seq).await?;
        self.answers.lock().unwrap().insert(key, answer.clone());
        self.effects.lock().unwrap().push(incoming);
        self.changed.notify_one();
        Ok(answer)
    }
    async fn cancel_ahead(&self, incoming: Incoming) -> Result<()> {
        self.ahead.lock().unwrap().push(incoming.envelope.header.id);
        Ok(())
    }
    async fn mark(&self, origin: &NodeId, conv: &str) -> Result<Option<u64>> {
        Ok(Some(self.marks.lock().unwrap().get(&(origin.clone(), conv.to_owned())).copied().unwrap_or_default()))
    }
    async fn marks(&self, origin: &NodeId, limit: u32) -> Result<BTreeMap<String, u64>> {
        let marks = self.marks.lock().unwrap();
        let of = marks.iter().filter(|((node, _), _)| node == origin).map(|((_, conv), seq)| (conv.clone(), *seq));
        Ok(of.take(limit as usize).collect())
    }
    async fn passed_over(&self, origin: &NodeId, conv: &str, seq: u64) -> Result<()> {
        let mut marks = self.marks.lock().unwrap();
        let mark = marks.entry((origin.clone(), conv.to_owned())).or_default();
        *mark = seq.max(*mark);
        Ok(())
    }
}

/// One agent, `writer`, known by two names; `secret` exists too.
pub struct TwoAgents(pub String);
#[async_trait]
impl Agents for TwoAgents {
    async fn names(&self, reference: &str) -> Result<Option<Vec<String>>> {
        let domain = &self.0;
        let known = ["writer", "secret"].into_iter().find(|name| reference == format!("{name}@agents.{domain}"));
        Ok(known.map(|name| vec![name.to_owned(), format!("uuid-of-{name}")]))
    }
    async fn visible(&self, _: &str) -> Result<Vec<(Vec<String>, DirectoryEntry)>> {
        let entry = |name: &str, domain: &str| DirectoryEntry {
            id: format!("spiffe://{domain}/agent/{name}"),
            jid: format!("{name}@agents.{domain}"),
            alias: None,
            name: name.to_owned(),
            description: None,
            capabilities: vec![],
            provider: None,
            updated_at: Ts::from_seconds(1),
        };
        Ok(["writer", "secret"].into_iter().map(|name| (vec![name.to_owned()], entry(name, &self.0))).collect())
    }
}

struct Ring(Arc<Notify>);
impl Drop for Ring {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The runs of one hub: their events, whom they belong to, and where to cut a stream.
#[derive(Default)]
pub struct MemoryFeed {
    pub runs: Mutex<HashMap<RunId, (NodeId, Vec<RunEvent>)>>,
    /// A stream breaks after this many items (0 = never), once per entry.
    pub cuts: Mutex<Vec<usize>>,
    pub opened: Mutex<Vec<u64>>,
    /// Rung when a stream has been dropped.
    pub dropped: Arc<Notify>,
    /// Streams stay open after the stored events until this is rung.
    pub hold: Mutex<Option<Arc<Notify>>>,
}
#[async_trait]
impl RunFeed for MemoryFeed {
    async fn open(&self, peer: &NodeId, run: RunId, after: u64, _: bool) -> Result<Option<BoxStream<'static, Result<FeedItem>>>> {
        let runs = self.runs.lock().unwrap();
        let (_, events) = runs.get(&run).filter(|(owner, _)| owner == peer).ok_or(Error::NotFound("run"))?;
        self.opened.lock().unwrap().push(after);
        let rest: Vec<_> = events.iter().filter(|event| event.sequence > after).cloned().collect();
        if rest.is_empty() {
            return Ok(None);
        }
        let delta = FeedItem::Delta(RunDelta { run_id: run.uuid(), text: "hel\nlo".to_owned(), offset: None });
        let items: Vec<_> = std::iter::once(Ok(delta)).chain(rest.into_iter().map(|event| Ok(FeedItem::Event(event)))).collect();
        let cut = self.cuts.lock().unwrap().pop().unwrap_or_default();
        if cut > 0 {
            let broken = items.into_iter().take(cut).chain([Err(Error::internal("cut"))]);
            return Ok(Some(stream::iter(broken.collect::<Vec<_>>()).boxed()));
        }
        let hold = self.hold.lock().unwrap().clone();
        let ring = Ring(self.dropped.clone());
        let tail = stream::once(async move {
            let _ring = ring;
            if let Some(hold) = hold {
                hold.notified().await;
            }
        });
        Ok(Some(stream::iter(items).chain(tail.filter_map(|()| async { None })).boxed()))
    }
    async fn history(&self, principal: &BareJid, _: &str, _: u32, _: u64) -> Result<Vec<HistoryMessage>> {
        let message = HistoryMessage {
            id: Uuid::nil(),
            run_id: Uuid::nil(),
            role: "user".to_owned(),
            content: principal.to_string(),
            created_at: Ts::from_seconds(1),
        };
        Ok(vec![message])
    }
}

/// A durable outbox with a due time per envelope.
pub struct MemoryOutbox {
    pub items: Mutex<BTreeMap<u64, (Outgoing, Ts)>>,
    pub outcomes: watch::Sender<HashMap<EnvelopeId, Outcome>>,
    pub sent: Mutex<HashMap<EnvelopeId, u32>>,
    /// Marks that the peer told, one entry per hello.
    pub refills: watch::Sender<Vec<BTreeMap<String, u64>>>,
    added: Notify,
}
impl Default for MemoryOutbox {
    fn default() -> Self {
        Self {
            items: Mutex::default(),
            outcomes: watch::Sender::new(HashMap::new()),
            sent: Mutex::default(),
            refills: watch::Sender::new(vec![]),
            added: Notify::new(),
        }
    }
}
impl MemoryOutbox {
    pub fn add(&self, item: Outgoing) {
        let mut items = self.items.lock().unwrap();
        let place = items.last_key_value().map_or(0, |(last, _)| last + 1);
        items.insert(place, (item, Ts::from_seconds(0)));
        self.added.notify_one();
    }
    /// Waits until every one of `ids` has an outcome.
    pub async fn settled(&self, ids: &[EnvelopeId]) -> HashMap<EnvelopeId, Outcome> {
        let mut outcomes = self.outcomes.subscribe();
        let done = outcomes.wait_for(|outcomes| ids.iter().all(|id| outcomes.contains_key(id)));
        tokio::time::timeout(Duration::from_secs(20), done).await.unwrap().unwrap().clone()
    }
}
#[async_trait]
impl Outbox for MemoryOutbox {
    async fn due(&self, _: &str, now: Ts, limit: u32) -> Result<Vec<Outgoing>> {
        let mut blocked = HashSet::new();
        let mut due = Vec::new();
        for (item, at) in self.items.lock().unwrap().values() {
            if *at > now {
                blocked.insert(item.conv.clone());
            }
            if !blocked.contains(&item.conv) && due.len() < limit as usize {
                due.push(item.clone());
            }
        }
        Ok(due)
    }
    async fn next_due(&self, _: &str) -> Result<Option<Ts>> {
        Ok(self.items.lock().unwrap().values().map(|(_, at)| *at).min())
    }
    async fn sent(&self, ids: &[EnvelopeId]) -> Result<()> {
        let mut sent = self.sent.lock().unwrap();
        ids.iter().for_each(|id| *sent.entry(*id).or_default() += 1);
        Ok(())
    }
    async fn finish(&self, _: &str, finished: Vec<(EnvelopeId, Outcome)>) -> Result<()> {
        for (id, outcome) in finished {
            self.items.lock().unwrap().retain(|_, (item, _)| item.id != id);
            self.outcomes.send_modify(|outcomes| {
                assert!(outcomes.insert(id, outcome).is_none(), "{id} has one outcome");
            });
        }
        Ok(())
    }
    async fn postpone(&self, id: EnvelopeId, until: Ts, _: &str) -> Result<()> {
        for (item, at) in self.items.lock().unwrap().values_mut().filter(|(item, _)| item.id == id) {
            item.attempts += 1;
            *at = until;
        }
        Ok(())
    }
    async fn refill(&self, _: &str, marks: &BTreeMap<String, u64>, _: Ts) -> Result<u64> {
        self.refills.send_modify(|refills| refills.push(marks.clone()));
        Ok(0)
    }
    async fn flush(&self, _: &str, now: Ts) -> Result<()> {
        self.items.lock().unwrap().values_mut().for_each(|(_, at)| *at = (*at).min(now));
        Ok(())
    }
    async fn added(&self, _: &str) {
        self.added.notified().await;
    }
}

/// The local log of one followed run.
pub struct MemoryRuns {
    pub followed: Mutex<Vec<Followed>>,
    pub log: watch::Sender<Vec<RunEvent>>,
    pub deltas: Mutex<Vec<RunDelta>>,
    pub last: u64,
    pub added: Notify,
}
impl MemoryRuns {
    pub fn new(run: RunId, after: u64, last: u64) -> Self {
        let followed = Mutex::new(vec![Followed { run, after }]);
        Self { followed, log: watch::Sender::new(vec![]), deltas: Mutex::default(), last, added: Notify::new() }
    }
}
#[async_trait]
impl RemoteRuns for MemoryRuns {
    async fn unfinished(&self, _: &str, _: u32) -> Result<Vec<Followed>> {
        Ok(self.followed.lock().unwrap().clone())
    }
    async fn event(&self, _: &str, event: RunEvent) -> Result<bool> {
        let ended = event.sequence == self.last;
        if ended {
            self.followed.lock().unwrap().clear();
        }
        self.log.send_modify(|log| log.push(event));
        Ok(ended)
    }
    async fn delta(&self, _: &str, delta: RunDelta) {
        self.deltas.lock().unwrap().push(delta);
    }
    async fn added(&self, _: &str) {
        self.added.notified().await;
    }
}

#[derive(Default)]
pub struct MemoryPeers {
    pub records: Mutex<BTreeMap<String, PeerRecord>>,
    pub agents: Mutex<Vec<DirectoryEntry>>,
    pub conformance: Mutex<Option<String>>,
    /// When peers were seen, one entry per write.
    pub seen: Mutex<Vec<(String, Ts)>>,
}
#[async_trait]
impl PeerStore for MemoryPeers {
    async fn saw(&self, domain: &str, at: Ts) -> Result<()> {
        self.seen.lock().unwrap().push((domain.to_owned(), at));
        Ok(())
    }
    async fn conformance(&self, _: &str) -> Result<Option<String>> {
        Ok(self.conformance.lock().unwrap().clone())
    }
    async fn publish_conformance(&self, _: &str, document: &str) -> Result<()> {
        *self.conformance.lock().unwrap() = Some(document.to_owned());
        Ok(())
    }
    async fn all(&self) -> Result<Vec<PeerRecord>> {
        Ok(self.records.lock().unwrap().values().cloned().collect())
    }
    async fn put(&self, record: &PeerRecord) -> Result<()> {
        self.records.lock().unwrap().insert(record.domain.clone(), record.clone());
        Ok(())
    }
    async fn remove(&self, domain: &str) -> Result<bool> {
        Ok(self.records.lock().unwrap().remove(domain).is_some())
    }
    async fn put_agents(&self, _: &str, agents: &[DirectoryEntry]) -> Result<()> {
        *self.agents.lock().unwrap() = agents.to_vec();
        Ok(())
    }
}
