//! Agents and health as `/v1` shows them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Ts;

/// An agent, as anybody who may use it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Agent")]
pub struct Agent {
    /// Its id.
    pub agent_id: String,
    /// The tenant that it belongs to.
    pub tenant_id: String,
    /// Its name.
    pub name: String,
    /// Version of its configuration.
    pub version: String,
    /// `active`, `inactive` or `deprecated`.
    pub status: String,
    /// When it was made.
    pub created_at: Ts,
    /// When it was last changed.
    pub updated_at: Ts,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1AgentBody")]
pub struct AgentBody {
    /// The agent.
    pub agent: Agent,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// The agents that the caller may use, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1AgentList")]
pub struct AgentList {
    /// The agents.
    pub agents: Vec<Agent>,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// That a part of the hub serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Health", deny_unknown_fields)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// `agent-orchestrator`, `model-policy` or `federation`.
    pub service: String,
    /// Version of the hub.
    pub version: String,
}

/// Whether a hub can serve, and what it depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Readiness")]
pub struct Readiness {
    /// `ok`, or `unavailable` while something that is needed is down.
    pub status: String,
    /// The parts.
    pub dependencies: Vec<Dependency>,
}

/// A part that a hub depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Dependency")]
pub struct Dependency {
    /// For instance `database`.
    pub name: String,
    /// `healthy`, `unhealthy`, `not configured`, or why it does less than it should.
    pub status: String,
    /// Whether the hub cannot serve without it.
    pub required: bool,
}
