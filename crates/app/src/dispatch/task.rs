//! What a worker gets, and what it says at the end.

use aiox_core::agent::MAX_OUTPUT_BYTES;
use aiox_model::run::{RunError, RunStatus};
use aiox_store::{Ending, runs::RunRow};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::ending_base;
use crate::replies::reply_for;

/// One run, ready for a worker. Holds what users said and the system prompt, so it has no full `Debug`.
#[derive(Clone)]
pub struct Task {
    /// The run.
    pub run: Uuid,
    /// This lease of it.
    pub lease: Uuid,
    /// The agent.
    pub agent: Uuid,
    /// Its owner.
    pub owner: Uuid,
    /// Its address.
    pub agent_jid: String,
    /// Its name.
    pub agent_name: String,
    /// Who asks (bare address).
    pub from_jid: String,
    /// What is asked.
    pub message: String,
    /// Decrypted system prompt with the agent's traits.
    pub system_prompt: SecretString,
    /// Provider in lower case.
    pub provider: String,
    /// Model at the provider, if the agent names one.
    pub model: Option<String>,
    /// `llm_config` with its defaults and caps (JSON).
    pub llm_config_json: String,
    /// `{"recent_messages": […], "relevant_memories": […]}`.
    pub memory_context_json: String,
    /// `memory_config` with its defaults (JSON).
    pub memory_config_json: String,
    /// Tools that are switched on (JSON object).
    pub tools_json: String,
    /// Most answers of the model and calls of tools together, if they are bounded.
    pub max_steps: Option<u64>,
    /// The conversation.
    pub conversation: Uuid,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Milliseconds that it may take.
    pub timeout_ms: u64,
    /// Correlation id.
    pub trace: String,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("run", &self.run).field("lease", &self.lease).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// What a worker tells of a task while it works on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEvent {
    /// It calls a tool.
    ToolCall,
    /// The tool has ended.
    ToolResult,
}

/// How a task ended at its worker.
#[derive(Debug, Clone, Default)]
pub struct TaskOutcome {
    /// The answer.
    pub text: String,
    /// Model that answered.
    pub model_used: String,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Milliseconds that the worker took, as it says.
    pub duration_ms: u64,
    /// Why the model stopped, if the worker says so: `stop`, `length`, `tool_calls` or `content_filter`.
    pub finish_reason: Option<&'static str>,
    /// Why there is no answer.
    pub error: Option<RunError>,
}

impl TaskOutcome {
    /// A failure that used nothing.
    #[must_use]
    pub fn failed(error: RunError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

/// The durable end of a run, its event type and payload.
pub(super) fn ending(row: &RunRow, outcome: TaskOutcome, message: Uuid, reply: Uuid) -> (Ending, &'static str, Value) {
    let usage = json!({ "input_tokens": outcome.input_tokens, "output_tokens": outcome.output_tokens });
    let model = (!outcome.model_used.is_empty()).then_some(outcome.model_used);
    match outcome.error {
        None => {
            let text = bounded(outcome.text);
            let mut payload = json!({
                "status": "completed",
                "output": { "type": "text", "text": text },
                "usage": usage,
                "model": model,
                "duration_ms": outcome.duration_ms,
            });
            if let Some(reason) = outcome.finish_reason {
                payload["finish_reason"] = reason.into();
            }
            let reply = reply_for(row, reply, Ok(&text));
            let end = Ending {
                output: Some(text),
                model_used: model,
                input_tokens: outcome.input_tokens,
                output_tokens: outcome.output_tokens,
                reply,
                ..ending_base(RunStatus::Completed, message)
            };
            (end, "run.completed", payload)
        }
        Some(error) => {
            let payload = json!({ "status": "failed", "error": error, "usage": usage, "duration_ms": outcome.duration_ms });
            let reply = reply_for(row, reply, Err(&error));
            let end = Ending {
                error: serde_json::to_string(&error).ok(),
                model_used: model,
                input_tokens: outcome.input_tokens,
                output_tokens: outcome.output_tokens,
                reply,
                ..ending_base(RunStatus::Failed, message)
            };
            (end, "run.failed", payload)
        }
    }
}

fn bounded(mut text: String) -> String {
    const CUT: &str = "\n[The answer was longer and has been cut here.]";
    if text.len() > MAX_OUTPUT_BYTES {
        let mut at = MAX_OUTPUT_BYTES - CUT.len();
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
        text.push_str(CUT);
    }
    text
}
