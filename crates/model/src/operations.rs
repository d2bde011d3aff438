//! What operators read: health and connected workers.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// That the process answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Liveness {
    /// Always `alive`.
    pub status: String,
}

/// How the hub is, part by part. The text of a part is `healthy`, `unhealthy`, `not configured`, or says why it works less than it
/// should, for instance `no workers connected`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// `healthy` when every part is healthy or not configured, else `degraded`.
    pub status: String,
    /// The database.
    pub database: String,
    /// The message bus.
    pub nats: String,
    /// The workers.
    pub workers: String,
    /// The cache.
    pub redis: String,
    /// The XMPP server.
    pub xmpp: String,
    /// The peer hubs.
    pub peers: String,
    /// The same and further parts, in the order in which they are looked at.
    pub checks: Vec<PartHealth>,
    /// Version of the hub.
    pub version: String,
}

/// How one part of the hub is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartHealth {
    /// The part.
    pub name: String,
    /// How it is, as in [`Readiness`].
    pub status: String,
}

/// A connected worker, as it last reported.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// Its name.
    pub worker_id: String,
    /// Version of the worker protocol that it speaks.
    pub protocol: u32,
    /// Providers that it has.
    pub providers: Vec<String>,
    /// Models that it serves, as `provider/model`; a provider without any serves every model.
    pub models: BTreeSet<String>,
    /// The pool that it works for.
    pub pool: String,
    /// Tools that it runs.
    pub tools: BTreeSet<String>,
    /// Its labels, which agents can ask for.
    pub labels: BTreeMap<String, String>,
    /// Runs that it takes at the same time.
    pub max_concurrent: u32,
    /// How many more it takes now.
    pub free_slots: usize,
    /// Runs that it has, by its own count.
    pub active_tasks: u32,
    /// Its memory in MiB.
    pub memory_usage_mb: u32,
    /// Mean duration of its last runs in milliseconds.
    pub avg_latency_ms: u32,
}

/// The connected workers and what waits for them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// The workers.
    pub workers: Vec<Worker>,
    /// Runs that wait.
    pub waiting: usize,
    /// Those of them that no connected worker can serve.
    pub unserved: usize,
    /// What those need.
    pub unserved_needs: Vec<Unserved>,
}

/// Runs that wait for a worker that is not there.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Unserved {
    /// How many.
    pub runs: usize,
    /// What no connected worker has: `worker`, `combination`, or those of `provider`, `model`, `pool`, `tools` and `labels` that are
    /// not met.
    pub missing: Vec<String>,
    /// The provider that they need.
    pub provider: String,
    /// The model that they need; absent = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The pool that they need.
    pub pool: String,
    /// The tools that they need.
    pub tools: BTreeSet<String>,
    /// The labels that they need.
    pub labels: BTreeMap<String, String>,
}
