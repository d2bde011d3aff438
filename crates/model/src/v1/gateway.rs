//! Models and the content policy: the group `model-policy`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Models that the caller's tenant may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelList {
    /// The models, by id.
    pub models: Vec<ModelInfo>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelInfo {
    /// What requests call it.
    pub model_id: String,
    /// Who runs it, for instance `openai` or `echo`.
    pub provider: String,
    /// What it can do: `chat`, `embed`.
    pub capabilities: Vec<String>,
    /// Most tokens of an answer, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// Tokens of prompt and answer together, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window_tokens: Option<u32>,
}

/// Who asks, as the body says. It never widens what the credential grants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BodyAuth {
    /// The tenant; another one than the credential's is 400 `tenant_mismatch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
}

/// A call of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelInvoke {
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<BodyAuth>,
    /// What is asked.
    pub request: ModelRequest,
    /// W3C trace context to continue; what is malformed is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRequest {
    /// The client's own id of the call, 1 to 256 bytes; absent = a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// `chat` or `embed`.
    pub operation: String,
    /// `tier:fast`, `tier:balanced`, `tier:premium`, or a model's id. An unknown one is 404 `model_not_found`.
    pub model_ref: String,
    /// What the chosen model has to fulfil. None that does is 409 `conflict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<ModelRequirements>,
    /// The input of the operation.
    pub input: ModelInput,
    /// How an answer is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<ModelGeneration>,
    /// The same key and the same request within 24 hours: the first answer again. At most 256 bytes; or the header
    /// `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// What a model has to fulfil.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRequirements {
    /// Most milliseconds that the model usually takes. It chooses the model; it does not stop a slow answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_ms: Option<u32>,
    /// Most US dollars that the call may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_usd: Option<f64>,
    /// Least tokens of the context window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_context_tokens: Option<u32>,
}

/// Input of a chat (`messages`, `tools`, `tool_choice`) or of an embedding (`texts`, `encoding_format`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelInput {
    /// The conversation, oldest first; 1 to 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<ModelMessage>,
    /// Tools that the model may ask for; at most 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ModelTool>,
    /// `auto`, `none`, `required`, or the `tool_id` or `name` of a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<String>,
    /// Texts to embed; 1 to 2,048.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<String>,
    /// `float` (default), or `base64`: 32-bit little-endian numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<String>,
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    #[serde(default)]
    pub content: String,
    /// Name of the speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Calls that an assistant asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ModelToolCall>,
    /// The call whose result this is, for `tool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A tool that a model may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelTool {
    /// Its id, for instance `tool.clock.now`.
    pub tool_id: String,
    /// What the model calls it: 1 to 64 of `A-Z a-z 0-9 _ -`; absent = its id with `_` for every other character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of its input; absent = any object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Map<String, Value>>,
}

/// A wanted call of a tool. Calling it and sending the result is the client's part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelToolCall {
    /// Id of the call.
    pub tool_call_id: String,
    /// The tool.
    pub tool_id: String,
    /// Its input.
    #[serde(default)]
    pub input: Value,
}

/// How an answer is made. What is absent is left to the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelGeneration {
    /// Sampling temperature, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Most tokens of the answer; absent = 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
}

/// The answer to a call of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelInvoked {
    /// The answer.
    pub response: ModelResponse,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
    /// The trace context of the request, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelResponse {
    /// The id of the request.
    pub request_id: String,
    /// `ok`. A call without an answer is an HTTP error.
    pub status: String,
    /// The answer.
    pub output: ModelOutput,
    /// What it used.
    pub usage: ModelUsage,
    /// Milliseconds from the first attempt to the end.
    pub latency_ms: u64,
    /// What the content policy decided.
    pub policy_outcome: PolicyOutcome,
    /// Who answered and what it cost.
    pub route: ModelRoute,
}

/// The answer of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[schemars(deny_unknown_fields)]
pub enum ModelOutput {
    /// Of a chat.
    Chat {
        /// What the model says.
        message: ModelAnswer,
        /// The calls of tools that it asks for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ModelToolCall>,
    },
    /// Of an embedding.
    Embedding {
        /// One for each text, in order.
        embeddings: Vec<ModelEmbedding>,
    },
}

/// What a model says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelAnswer {
    /// `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// One embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelEmbedding {
    /// Index of the text.
    pub index: u32,
    /// The vector.
    pub vector: Vector,
}

/// A vector: a list of numbers, or Base64 of 32-bit little-endian ones, as the request asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Vector {
    /// Numbers.
    Float(Vec<f32>),
    /// Base64 of 32-bit little-endian numbers.
    Base64(String),
}

/// Tokens of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelUsage {
    /// Of the prompt.
    pub input_tokens: u64,
    /// Of the answer.
    pub output_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRoute {
    /// The provider.
    pub backend: String,
    /// Id of the model.
    pub model: String,
    /// The hub that made the call.
    pub node: String,
    /// Whether it stood in for the model that was preferred.
    pub fallback_used: bool,
    /// Tier of the model.
    pub tier: String,
    /// Why it was chosen, in words.
    pub reason: String,
    /// US dollars of the call; absent when a model without a price answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// What the content policy decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PolicyOutcome {
    /// `allowed`, `redacted` or `blocked`.
    pub decision: String,
    /// Stable words, for instance `pii:email`, `secret:private_key`, `blocked_term`, `max_output_tokens:clamped`.
    pub reasons: Vec<String>,
    /// What was masked before the model saw it.
    pub redactions: Vec<Redaction>,
}

/// One masked place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Redaction {
    /// `email`, `phone` or `card`.
    pub kind: String,
    /// Index of the message or text; absent in the answer of a check, and in the definition of a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// First character of the original text, counted in Unicode scalar values from 0.
    pub start: u32,
    /// The character after the last one.
    pub end: u32,
}

/// A question to the content policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyCheck {
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<BodyAuth>,
    /// What is asked.
    pub policy_check: PolicyQuestion,
}

/// A text and the rules to hold it against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyQuestion {
    /// The client's own id; absent = a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The text.
    pub content: PolicyContent,
    /// `default` (also when absent): masks personal data, blocks secrets and the operator's terms. `strict`: blocks personal data too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruleset: Option<String>,
}

/// The text, with or without its wrapping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PolicyContent {
    /// `{"type": "text", "text": …}`.
    Typed {
        /// `text`, also when absent.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// The text.
        text: String,
    },
    /// The text alone.
    Bare(String),
}

/// What the content policy says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PolicyChecked {
    /// The answer.
    pub policy_result: PolicyResult,
}

/// What the content policy says of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PolicyResult {
    /// The id of the question.
    pub request_id: String,
    /// `allowed`, `redacted` or `blocked`.
    pub decision: String,
    /// Stable words, for instance `pii:email`, `secret:private_key`, `blocked_term`.
    pub reasons: Vec<String>,
    /// What would be masked.
    pub redactions: Vec<Redaction>,
}
