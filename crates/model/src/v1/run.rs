//! Runs as `/v1` takes and shows them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Ts;

/// Body of `POST /v1/agents/{agent_id}/runs`. This is the documented form; the hub reads more than it (see the operation).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1RunCreate")]
pub struct RunCreate {
    /// Who asks. Absent, or in parts: what the credential says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthContext>,
    /// What is asked. A bare text, and an object without `type`, are read as this.
    pub input: RunInput,
    /// Where the question comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<RunContext>,
    /// Which tools the run may use; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tooling: Option<Tooling>,
    /// How it is to be run. Members that are absent have their defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_options: Option<RunOptions>,
    /// Same key, agent, principal and body: the first run again. 1 to 256 bytes; also as header `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub idempotency_key: Option<String>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1RunInput")]
pub struct RunInput {
    /// `text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text, 1 to 65,536 bytes.
    pub text: String,
}

/// Where a question comes from. Nothing of it changes the answer today; it is checked and not kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1RunContext")]
pub struct RunContext {
    /// Language of the user (BCP 47); default `en-US`.
    pub locale: String,
    /// Time zone of the user (IANA); default `UTC`.
    pub timezone: String,
    /// Where it was asked, for instance `web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The user, in the caller's own terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The session, in the caller's own terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Whatever else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Value>,
}

/// Which tools a run may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Tooling")]
pub struct Tooling {
    /// Ids of tools, for instance `tool.echo`; empty = none. Of the agent's tools the run may use these alone. `tools` is read in its place
    /// where it is absent.
    #[serde(default)]
    pub tool_allowlist: Vec<String>,
    /// Tools that are denied, whatever allows them: a list of ids, or an object with ids as members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_denymap: Option<Value>,
}

/// How a run is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1RunOptions")]
pub struct RunOptions {
    /// Time for one attempt, in milliseconds; the hub's own limit holds where it is shorter, and is then shown. Default 180,000.
    #[schemars(range(min = 1))]
    pub timeout_ms: u64,
    /// Most answers of the model and calls of tools of one attempt, together; a run that goes beyond fails with `max_steps_exceeded`. Default 30.
    #[schemars(range(min = 1))]
    pub max_steps: u64,
    /// `low`, `normal` (default) or `high`.
    pub priority: String,
    /// Whether somebody means to read the events. Default true; they are kept either way.
    pub stream_events: bool,
    /// Only say what would be done: the run completes without any call of a model or a tool. Default false.
    pub dry_run: bool,
    /// Tier of models that is to answer instead of the agent's own model: `fast`, `balanced`, `premium`. The cheapest model of the tier that the
    /// tenant and the agent may use is taken, else one of another tier; where there is none the request is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_tier: Option<String>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { timeout_ms: 180_000, max_steps: 30, priority: "normal".into(), stream_events: true, dry_run: false, model_tier: None }
    }
}

/// Who asks and in which context. It never gives more than the credential does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1AuthContext")]
pub struct AuthContext {
    /// The tenant; must be the one that the request runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Who acts. `principal_id` beside it, flat, is read as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// Scopes that this request is to have: those of the credential that are named here. Absent = all of the credential's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Context of policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_context: Option<PolicyContext>,
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Principal")]
pub struct Principal {
    /// Their id.
    pub principal_id: String,
    /// `user` or `service`.
    pub principal_type: String,
    /// Their name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// Context of policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1PolicyContext")]
pub struct PolicyContext {
    /// How sensitive the data is; default `internal`.
    pub data_classification: String,
    /// Region of the request; default that of the hub.
    pub region: String,
    /// What it is for; default `agent_run`.
    pub purpose: String,
    /// Consents of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent_tags: Option<Vec<String>>,
}

/// One invocation of an agent. Members without a value are absent; `output` and `error` are `null` until there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Run")]
pub struct Run {
    /// The tenant.
    pub tenant_id: String,
    /// The agent; the address of an agent of a peer hub whose id is not known here.
    pub agent_id: String,
    /// The run's id, the same on every hub and at every door.
    pub run_id: String,
    /// `queued`, `running`, `completed`, `failed` or `canceled`; the last three are final.
    pub status: String,
    /// When it became durable.
    pub created_at: Ts,
    /// Path of its events on this hub.
    pub events_url: String,
    /// When a worker first had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Ts>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Ts>,
    /// How it is run, with defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_options: Option<RunOptions>,
    /// What has happened so far, counted from its events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<RunSummary>,
    /// The answer.
    pub output: Option<RunOutput>,
    /// Why there is none.
    pub error: Option<RunFailure>,
}

/// What has happened in a run, counted from its events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1RunSummary")]
pub struct RunSummary {
    /// Steps that were started.
    pub steps_total: u64,
    /// Calls of tools.
    pub tool_calls_total: u64,
    /// Calls of models.
    pub model_calls_total: u64,
}

/// The answer of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1RunOutput")]
pub struct RunOutput {
    /// `text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The answer.
    pub text: String,
    /// Files that belong to it; none today.
    pub artifacts: Vec<Value>,
}

/// Why a run has no answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1RunFailure")]
pub struct RunFailure {
    /// Stable machine code, one of `spec/errors.md`.
    pub code: String,
    /// For people.
    pub message: String,
    /// More, for instance the `cause` behind `dependency_unavailable`.
    pub details: Map<String, Value>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1RunBody")]
pub struct RunBody {
    /// The run.
    pub run: Run,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}
