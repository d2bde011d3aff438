//! Federation for programs: who the peers are, forwarding, ingest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Ts, v1::run::RunCreate};

/// What a hub tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1PeerInfo")]
pub struct PeerInfo {
    /// Its id, by which runs are forwarded to it.
    pub stack_id: String,
    /// For instance `local`, `staging`, `prod`.
    pub environment: String,
    /// Where it is, for instance `eu-central`.
    pub region: String,
    /// Versions of this surface that it serves.
    pub api_versions: Vec<String>,
    /// Base URLs: `agent-orchestrator_base_url`, `model-policy_base_url`, and `node_base_url`, the listener for other hubs. Those that
    /// are not known are absent.
    pub endpoints: Map<String, Value>,
    /// What it runs.
    pub build: Build,
    /// How it is, as this hub sees it; absent for the own one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<PeerHealth>,
}

/// What a hub runs. Empty where it does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "V1Build")]
pub struct Build {
    /// Version.
    pub version: String,
    /// Commit.
    pub git_sha: String,
    /// When it was built.
    pub timestamp: String,
    /// SHA-256 of the program that runs, base64url without padding: what a signed conformance result names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What a hub tells its peers of itself, in its trust document: who it is for programs and what it can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Stack")]
pub struct Stack {
    /// Who it is.
    pub peer: PeerInfo,
    /// What it can do.
    pub capabilities: Capabilities,
}

impl Stack {
    /// What is known of the hub of a domain that tells nothing of itself.
    #[must_use]
    pub fn untold(domain: &str) -> Self {
        let peer = PeerInfo {
            stack_id: format!("stk_{domain}"),
            environment: String::new(),
            region: String::new(),
            api_versions: vec![API_VERSION.into()],
            endpoints: Map::new(),
            build: Build::default(),
            health: None,
        };
        // Every hub takes runs and streams their events; that is what being a peer means.
        let supports = Supports { runs_forward: true, events_stream: true, ..Supports::default() };
        Self { peer, capabilities: Capabilities { supports, limits: Limits::default(), models: Models::default() } }
    }
}

/// The version of this surface.
pub const API_VERSION: &str = "v1";

/// How a peer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1PeerHealth")]
pub struct PeerHealth {
    /// `healthy`, `unreachable`, or the state of its record: `proposed`, `reviewed`, `suspended`, `stale`, `terminated`.
    pub status: String,
    /// When it was last heard of; absent = not since this hub started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Ts>,
}

/// What a hub can do for a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Capabilities")]
pub struct Capabilities {
    /// Each with whether it can.
    pub supports: Supports,
    /// How much.
    pub limits: Limits,
    /// Which models.
    pub models: Models,
}

/// What a hub can do, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "V1Supports")]
pub struct Supports {
    /// It takes runs of peers.
    pub runs_forward: bool,
    /// It streams their events.
    pub events_stream: bool,
    /// Tenants see nothing of each other.
    pub tenant_isolation: bool,
    /// It runs tools.
    pub tool_hosting: bool,
}

/// How much a hub can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "V1Limits")]
pub struct Limits {
    /// Runs of one tenant at the same time; 0 = not limited.
    pub max_concurrent_runs: u64,
    /// Event streams of one principal at the same time.
    pub max_event_streams: u64,
}

/// Which models a hub has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "V1Models")]
pub struct Models {
    /// `fast`, `balanced`, `premium`.
    pub tiers: Vec<String>,
    /// Providers, for instance `ollama`.
    pub backends: Vec<String>,
    /// Most tokens of question and answer together; 0 = not known.
    pub max_context_tokens: u64,
}

/// Body of `GET /v1/federation/peer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1PeerBody")]
pub struct PeerBody {
    /// This hub.
    pub peer: PeerInfo,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// Body of `GET /v1/federation/peers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1PeerList")]
pub struct PeerList {
    /// The peers, by their ids.
    pub peers: Vec<PeerInfo>,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// Body of `GET /v1/federation/peer/capabilities`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1CapabilitiesBody")]
pub struct CapabilitiesBody {
    /// What this hub can do.
    pub capabilities: Capabilities,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// Body of `POST /v1/federation/runs:forward`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1ForwardBody")]
pub struct ForwardBody {
    /// What to forward.
    pub forward: Forward,
}

/// A run for an agent of another hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Forward")]
pub struct Forward {
    /// The agent there: its id, its UUID or its handle.
    pub agent_id: String,
    /// Which hub.
    #[serde(default)]
    pub target_selector: TargetSelector,
    /// The run, as for `POST /v1/agents/{agent_id}/runs`. Its members are also read when they stand beside `agent_id`, and under
    /// `run_create` or `request`.
    pub run: RunCreate,
    /// W3C `traceparent` to continue; the header wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Which hub a run is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "V1TargetSelector")]
pub struct TargetSelector {
    /// That hub and no other; the own id runs it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_id: Option<String>,
    /// Hubs of this region alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Hubs that can do all of these alone; `.` and `_` are the same in names.
    pub required_capabilities: Vec<String>,
    /// Hubs with models of this tier first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_model_tier: Option<String>,
}

/// Answer to `POST /v1/federation/runs:forward`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1ForwardedBody")]
pub struct ForwardedBody {
    /// What became of it.
    pub forwarded: Forwarded,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// A run that was forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Forwarded")]
pub struct Forwarded {
    /// The tenant that asked.
    pub tenant_id: String,
    /// The hub that runs it.
    pub remote_stack_id: String,
    /// The run's id, the same on both hubs.
    pub remote_run_id: String,
    /// Path of its events on this hub.
    pub remote_events_url: String,
    /// `queued`, `running`, `completed` or `failed`; a canceled one is `failed` here.
    pub status: String,
}

/// Body of `POST /v1/federation/events:ingest`. Two more forms are read: `{"peer": PeerInfo, "events": [{"event": …}]}` and
/// `{"peer_id", "auth", "events": [{"event": …}]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1IngestBody")]
pub struct IngestBody {
    /// Events, each with at least `event_id`, `run_id` and `sequence`; bare, or in `{"event": …}`. At most 1,000.
    pub events: Vec<Value>,
    /// Where they come from.
    pub ingest: IngestSource,
}

/// Where ingested events come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1IngestSource")]
pub struct IngestSource {
    /// Id of the hub whose events they are.
    pub source_stack_id: String,
    /// Accepted and always true: an event counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<bool>,
}

/// Answer to `POST /v1/federation/events:ingest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1IngestedBody")]
pub struct IngestedBody {
    /// Events that are durable now.
    pub accepted: u64,
    /// Events that were dropped: without an id, seen before, of another tenant, or with another event's sequence.
    pub rejected: u64,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}
