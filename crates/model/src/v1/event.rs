//! Events of a run as `/v1` sends them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Ts;

/// The data of one `agentos.event` frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1EventEnvelope")]
pub struct EventEnvelope {
    /// The event.
    pub event: Event,
}

/// One numbered entry of a run's log. Two reads of it give the same bytes, on every hub that shows the run to the same tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Event")]
pub struct Event {
    /// Its id; readers drop what they have seen by it.
    pub event_id: String,
    /// Position in the run's log, from 1, without gaps.
    pub sequence: u64,
    /// When it happened.
    pub time: Ts,
    /// `agentos.run.created`, `agentos.run.step.started`, `agentos.run.step.completed`, `agentos.model.requested`,
    /// `agentos.model.completed`, `agentos.tool.call.requested`, `agentos.tool.call.completed`, `agentos.run.completed`,
    /// `agentos.run.failed`, `agentos.run.canceled`; an open set.
    #[serde(rename = "type")]
    pub kind: String,
    /// The tenant that reads it.
    pub tenant_id: String,
    /// The agent.
    pub agent_id: String,
    /// The run.
    pub run_id: String,
    /// The step that it belongs to; absent when it belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    /// Where it stands in the trace.
    pub trace: Trace,
    /// What happened; the shape follows from the type.
    pub payload: Map<String, Value>,
}

/// Where an event stands in the trace of its run (W3C Trace Context).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Trace")]
pub struct Trace {
    /// Version, trace id, span id and flags.
    pub traceparent: String,
    /// The span id in it.
    pub span_id: String,
}

/// The data of an `agentos.delta` frame: a piece of live text, without a number, never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Delta")]
pub struct Delta {
    /// The piece.
    pub delta: DeltaText,
}

/// A piece of live text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1DeltaText")]
pub struct DeltaText {
    /// The run.
    pub run_id: String,
    /// Text to append.
    pub text: String,
}
