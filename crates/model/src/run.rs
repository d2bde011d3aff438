//! Runs, their events, and conversations on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::Ts;

/// Where a run is. `completed`, `failed` and `canceled` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Durable, waiting for a worker or for a peer hub.
    Queued,
    /// A worker has it.
    Running,
    /// Ended with an output.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended on request.
    Canceled,
}
impl RunStatus {
    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
    /// The status of a stored text; `None` if it is none of the known ones.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "queued" => Self::Queued,
            "running" => Self::Running,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "canceled" => Self::Canceled,
            _ => return None,
        })
    }
    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

/// Why a run failed, without any internal or provider text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunError {
    /// Stable machine code, one of `spec/errors.md`.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the same input may succeed later.
    pub retryable: bool,
}

/// One invocation of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The run's id, the same on every hub and door.
    pub id: Uuid,
    /// The agent's address (`agent-<uuid>@agents.<domain>`).
    pub agent_jid: String,
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// The way in: `rest`, `xmpp`, `federation`.
    pub door: String,
    /// Where it is.
    pub status: RunStatus,
    /// Domain of the peer hub that executes it; absent when it runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Delivery to the peer: `queued`, `sent`, `delivered`, `refused`, `expired`. Absent for local runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// What was asked.
    pub input: String,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// Provider and model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_used: Option<String>,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// How often it was given to a worker. One that gave it back as it left does not count.
    pub attempt: u32,
    /// The worker that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// When it became durable.
    pub created_at: Ts,
    /// When a worker first had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Ts>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Ts>,
}

/// One numbered entry of a run's durable log. Sequences start at 1 and have no gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunEvent {
    /// Stable id: two reads give the same.
    pub id: Uuid,
    /// The run.
    pub run_id: Uuid,
    /// Position in the run's log, from 1.
    pub sequence: u64,
    /// `run.created`, `run.waiting`, `run.started`, `model.requested`, `tool.call`, `tool.result`, `model.completed`, `step.completed`,
    /// `run.retried`, `run.completed`, `run.failed`, `run.canceled`; an open set.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened.
    pub time: Ts,
    /// What happened; the shape follows from the type.
    pub payload: Value,
}

/// An unnumbered piece of a live answer. Never stored; no stream has it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunDelta {
    /// The run.
    pub run_id: Uuid,
    /// Text to append.
    pub text: String,
    /// Where it begins in the answer of the current attempt, in bytes of UTF-8: a reader sees whether something is missing before it. Absent when that is not known, for
    /// instance because the peer hub that executes the run does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// Body of `POST /api/v1/agents/{agentID}/chat`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ChatRequest {
    /// 1 to 65,536 bytes.
    pub message: String,
    /// Continue this conversation; absent = the caller's standing one with this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<Uuid>,
    /// Answer with an SSE stream of tokens instead of one object.
    #[serde(default)]
    pub stream: bool,
    /// Give up after this many milliseconds; default and most are the hub's task timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// `low`, `normal` or `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Do not wait for the answer: the run is returned as soon as it is durable.
    #[serde(default)]
    pub detach: bool,
}

/// Answer of a waiting chat call.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ChatReply {
    /// The same as `run_id`; kept for clients of the published contract.
    pub request_id: Uuid,
    /// The run.
    pub run_id: Uuid,
    /// The conversation it was added to.
    pub conversation_id: Uuid,
    /// The answer.
    pub response: String,
    /// Provider and model that answered.
    pub model_used: String,
    /// Tokens in and out.
    pub tokens_used: u64,
    /// From durable acceptance to the durable result.
    pub duration_ms: u64,
}

/// The ordered history between the caller and one agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Conversation {
    /// The conversation's id.
    pub id: Uuid,
    /// The agent's address.
    pub agent_jid: String,
    /// The caller's address.
    pub principal: String,
    /// When it began.
    pub created_at: Ts,
    /// When the last message came.
    pub updated_at: Ts,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryMessage {
    /// The message's id.
    pub id: Uuid,
    /// The run it belongs to.
    pub run_id: Uuid,
    /// `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
    /// When it became durable.
    pub created_at: Ts,
}
