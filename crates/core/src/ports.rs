//! The ports: what the rules need from the world, in their own words.

use std::{collections::BTreeMap, time::Duration};

use aiox_model::{
    ConversationId, RunId, TenantId, Ts,
    run::{RunDelta, RunEvent},
};
use async_trait::async_trait;
use uuid::Uuid;

use crate::Result;

/// Now.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Ts;
}

/// New identifiers and other random values.
pub trait Ids: Send + Sync {
    /// A new UUIDv7.
    fn uuid(&self) -> Uuid;
    /// 256 bits from the operating system's generator.
    fn secret(&self) -> [u8; 32];
}

/// What a run needs of a worker. Runs with equal needs wait in one lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Needs {
    /// Provider name in lower case.
    pub provider: String,
    /// Labels that the worker must carry with these values.
    pub labels: BTreeMap<String, String>,
}

/// What a worker offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offers {
    /// Provider names in lower case.
    pub providers: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}
impl Offers {
    /// Whether a run with these needs can go to this worker.
    #[must_use]
    pub fn fits(&self, needs: &Needs) -> bool {
        self.providers.contains(&needs.provider) && needs.labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

/// A run that waits for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The run.
    pub run: RunId,
    /// Its tenant, for fairness.
    pub tenant: TenantId,
    /// Its conversation: runs of one are worked on one after the other, in the order in which they were offered.
    pub conversation: ConversationId,
    /// What it needs.
    pub needs: Needs,
    /// Order key of [`crate::run::order`]; smaller goes first within a tenant.
    pub order: i64,
}

/// Runs that wait for workers.
///
/// Delivery: a taken run is the taker's until [`done`](Self::done) or [`give_back`](Self::give_back). Order: within a tenant by
/// `order`, one at a time within a conversation, and between tenants each gets its equal share. When the backend is down, offers
/// stay durable in the store, which offers them again at start.
#[async_trait]
pub trait WorkQueue: Send + Sync {
    /// Adds a run. Offering one that already waits or is taken changes nothing.
    async fn offer(&self, waiting: Waiting) -> Result<()>;
    /// Waits for a run that fits. Cancel-safe: a dropped call takes nothing.
    async fn take(&self, offers: &Offers) -> Result<Waiting>;
    /// The run has its durable end: its conversation may go on.
    async fn done(&self, run: RunId) -> Result<()>;
    /// The taker could not finish: the run waits again, first of its conversation.
    async fn give_back(&self, run: RunId) -> Result<()>;
    /// Takes a waiting run out; `false` if it was not waiting.
    async fn remove(&self, run: RunId) -> Result<bool>;
    /// The run has been ended by somebody else than its taker: a waiting one is forgotten, and whoever has taken it hears of it
    /// through [`revoked`](Self::revoked) and still calls [`done`](Self::done).
    async fn revoke(&self, run: RunId) -> Result<()> {
        self.remove(run).await.map(drop)
    }
    /// Waits for a taken run that has been revoked. One reader; what is not read yet is kept, and bounded by the taken runs.
    async fn revoked(&self) -> RunId {
        std::future::pending().await
    }
    /// How many wait, and how many of those fit none of `workers`.
    async fn depth(&self, workers: &[Offers]) -> (usize, usize);
}

/// What the watchers of a run see.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// A durable, numbered event.
    Event(RunEvent),
    /// A live piece of text, never stored.
    Delta(RunDelta),
}

/// A subscription to one run. Ends when the reader is dropped.
#[async_trait]
pub trait SignalReader: Send {
    /// The next signal. `None`: signals were lost because this reader was slow, or the bus restarted; read the store again.
    async fn next(&mut self) -> Option<Signal>;
}

/// Live signals of runs. Publishing reaches the readers of that moment; whoever comes later reads the store.
/// A reader more than 1,024 signals behind is told so and resumes from the store.
#[async_trait]
pub trait Events: Send + Sync {
    /// Tells the readers. Events only after they are durable.
    async fn publish(&self, run: RunId, signal: Signal);
    /// Starts reading.
    async fn subscribe(&self, run: RunId) -> Box<dyn SignalReader>;
}

/// Counts uses of a key.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Takes one of `burst` uses, which come back evenly over `period`. `Err(wait)` when none is left. When the shared backend is
    /// down, a per-process bucket takes over: never unlimited.
    async fn check(&self, key: &str, burst: u32, period: Duration) -> std::result::Result<(), Duration>;
}

/// Remembers single-use values.
#[async_trait]
pub trait ReplayGuard: Send + Sync {
    /// Whether (`issuer`, `value`) is seen for the first time; remembered until `until`. When the backend is down or full: an
    /// error, and the caller refuses.
    async fn first_use(&self, issuer: &str, value: &str, until: Ts) -> Result<bool>;
}
