//! The ports: what the rules need from the world, in their own words.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Needs {
    /// Provider name in lower case.
    pub provider: String,
    /// Model at that provider; `None` leaves it to the worker.
    pub model: Option<String>,
    /// Pool of workers; empty is the default pool.
    pub pool: String,
    /// Names of tools that the worker must be able to run, all of them.
    pub tools: BTreeSet<String>,
    /// Labels that the worker must carry with these values.
    pub labels: BTreeMap<String, String>,
}

/// What a worker offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    /// Provider names in lower case.
    pub providers: BTreeSet<String>,
    /// Models as `provider/model`. A provider without any here serves every model.
    pub models: BTreeSet<String>,
    /// Its pool; empty is the default pool.
    pub pool: String,
    /// Names of tools that it is able to run.
    pub tools: BTreeSet<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}
impl Offers {
    /// Whether a run with these needs can go to this worker.
    #[must_use]
    pub fn fits(&self, needs: &Needs) -> bool {
        Part::ALL.iter().all(|part| self.meets(*part, needs))
    }

    fn meets(&self, part: Part, needs: &Needs) -> bool {
        match part {
            Part::Provider => self.providers.contains(&needs.provider),
            Part::Model => needs.model.as_deref().is_none_or(|model| self.serves(&needs.provider, model)),
            // A pool is for the agents that ask for it: its workers take no others.
            Part::Pool => self.pool == needs.pool,
            Part::Tools => needs.tools.is_subset(&self.tools),
            Part::Labels => needs.labels.iter().all(|(name, value)| self.labels.get(name) == Some(value)),
        }
    }

    fn serves(&self, provider: &str, model: &str) -> bool {
        let mut named = self.models.iter().filter_map(|one| one.strip_prefix(provider)?.strip_prefix('/')).peekable();
        named.peek().is_none() || named.any(|one| one == model)
    }
}

#[derive(Clone, Copy)]
enum Part {
    Provider,
    Model,
    Pool,
    Tools,
    Labels,
}
impl Part {
    const ALL: [Self; 5] = [Self::Provider, Self::Model, Self::Pool, Self::Tools, Self::Labels];

    const fn word(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Pool => "pool",
            Self::Tools => "tools",
            Self::Labels => "labels",
        }
    }
}

/// What keeps a run from these workers, of which none fits: `worker` when there are none, else each part of its needs (`provider`,
/// `model`, `pool`, `tools`, `labels`) that no single one meets, else `combination`.
#[must_use]
pub fn missing(needs: &Needs, workers: &[Offers]) -> Vec<&'static str> {
    if workers.is_empty() {
        return vec!["worker"];
    }
    let unmet = |part: &Part| !workers.iter().any(|worker| worker.meets(*part, needs));
    let parts: Vec<_> = Part::ALL.into_iter().filter(unmet).map(Part::word).collect();
    if parts.is_empty() { vec!["combination"] } else { parts }
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
    /// How long it may wait while no worker fits.
    pub patience: Duration,
}

/// Runs with equal needs that no worker fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// What they need.
    pub needs: Needs,
    /// Each with its patience. Those that wait for an earlier one of their conversation are with it.
    pub runs: Vec<(RunId, Duration)>,
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
    /// How many wait.
    async fn depth(&self) -> usize;
    /// Those that wait and fit none of `workers`.
    async fn stranded(&self, workers: &[Offers]) -> Vec<Stranded>;
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
    /// The live text of the answer when reading began, if it is known as a whole and not empty. Given once.
    fn so_far(&mut self) -> Option<RunDelta> {
        None
    }
    /// The next signal. `None`: signals were lost because this reader was slow, or the bus restarted; read the store again.
    async fn next(&mut self) -> Option<Signal>;
}

/// Live signals of runs. Publishing reaches the readers of that moment; whoever comes later reads the store, and gets the live text of
/// the attempt that goes on. That is kept from `run.started` on; a delta with an offset adds to it, and what of the delta is in it
/// already reaches nobody again.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_worker_fits_only_with_every_part() {
        let worker = Offers {
            providers: set(&["openai", "echo"]),
            models: set(&["openai/gpt-4o", "openai/org/large"]),
            pool: "gpu".into(),
            tools: set(&["clock", "search"]),
            labels: [("region".to_owned(), "eu".to_owned())].into(),
        };
        let needs = Needs {
            provider: "openai".into(),
            model: Some("gpt-4o".into()),
            pool: "gpu".into(),
            tools: set(&["clock"]),
            labels: [("region".to_owned(), "eu".to_owned())].into(),
        };
        assert!(worker.fits(&needs));
        let with = |change: fn(&mut Needs)| {
            let mut needs = needs.clone();
            change(&mut needs);
            needs
        };
        for fitting in [
            with(|needs| needs.model = None),
            with(|needs| needs.model = Some("org/large".into())),
            // No model of this provider is named: it serves all of them.
            with(|needs| (needs.provider, needs.model) = ("echo".into(), Some("any".into()))),
            with(|needs| needs.tools.clear()),
            with(|needs| needs.labels.clear()),
        ] {
            assert!(worker.fits(&fitting), "{fitting:?}");
        }
        for (unfit, part) in [
            (with(|needs| needs.provider = "open".into()), "provider"),
            (with(|needs| needs.model = Some("gpt-4o-mini".into())), "model"),
            (with(|needs| needs.model = Some("large".into())), "model"),
            (with(|needs| needs.pool.clear()), "pool"),
            (with(|needs| needs.tools.extend(["mail".to_owned()])), "tools"),
            (with(|needs| needs.labels.extend([("gpu".to_owned(), "true".to_owned())])), "labels"),
        ] {
            assert!(!worker.fits(&unfit), "{unfit:?}");
            assert_eq!(missing(&unfit, std::slice::from_ref(&worker)), [part]);
        }
        // What two workers have between them, neither has.
        let (one, two) = (Offers { pool: String::new(), ..worker.clone() }, Offers { tools: BTreeSet::new(), ..worker });
        assert_eq!(missing(&needs, &[one, two]), ["combination"]);
        assert_eq!(missing(&needs, &[]), ["worker"]);
    }
}
