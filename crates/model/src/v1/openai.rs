//! Shapes of OpenAI's API, as far as the hub serves them: <https://platform.openai.com/docs/api-reference>.
//!
//! Members of requests that are not named here land in `other`. The door refuses each of them, unless its value means the same as its
//! absence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::gateway::Vector;

/// Body of every error of the OpenAI-compatible endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiErrorBody")]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiError")]
pub struct ErrorDetail {
    /// For people.
    pub message: String,
    /// `invalid_request_error`, `authentication_error`, `permission_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameter at fault, if it is one.
    pub param: Option<String>,
    /// Stable code of this hub.
    pub code: Option<String>,
}

/// Models and agents that can be used as `model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiModelList")]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// Models first, then agents.
    pub data: Vec<Model>,
}

/// One model or agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiModel")]
pub struct Model {
    /// What goes into `model`: a model's id, or an agent's address with the prefix `agent:`.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Unix time of its making; 0 for models.
    pub created: i64,
    /// The provider of a model; the domain of an agent's hub.
    pub owned_by: String,
}

/// A text, or parts of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "OpenAiContent")]
pub enum Content {
    /// A text.
    Text(String),
    /// Parts; only those of text are served.
    Parts(Vec<ContentPart>),
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiContentPart")]
pub struct ContentPart {
    /// `text`, `input_text` or `output_text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
}

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiChatMessage")]
pub struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    #[serde(default)]
    pub content: Option<Content>,
    /// Name of the speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Calls that the assistant asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// The call whose result this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A wanted call of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiToolCall")]
pub struct ToolCall {
    /// Place among the calls; in chunks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Its id.
    pub id: String,
    /// `function`.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// The function.
    pub function: FunctionCall,
}

fn function() -> String {
    "function".into()
}

/// A function with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiFunctionCall")]
pub struct FunctionCall {
    /// Its name.
    pub name: String,
    /// JSON.
    pub arguments: String,
}

/// A tool of a chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiTool")]
pub struct Tool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function.
    pub function: Function,
}

/// A function that the model may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiFunction")]
pub struct Function {
    /// Its name: 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: Option<String>,
    /// JSON Schema of its arguments; absent = any object.
    #[serde(default)]
    pub parameters: Option<Value>,
    /// Only `false`.
    #[serde(default)]
    pub strict: Option<bool>,
}

/// What a stream tells beside the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiStreamOptions")]
pub struct StreamOptions {
    /// A last chunk with the usage, before `[DONE]`.
    #[serde(default)]
    pub include_usage: Option<bool>,
}

/// One text, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "OpenAiOneOrMany")]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// A chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiChatRequest")]
pub struct ChatRequest {
    /// A model's id, `tier:fast|balanced|premium`, or an agent: id, handle or address, with or without `agent:` before it.
    pub model: String,
    /// The conversation, oldest first. For an agent the last turn counts: the hub keeps its conversation.
    pub messages: Vec<ChatMessage>,
    /// Whether the answer comes in chunks.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Only with `stream`.
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// Sampling temperature, 0 to 2. Not for agents.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1. Not for agents.
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Most tokens of the answer. Not for agents.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// The same under its newer name; both must not differ. Not for agents.
    #[serde(default)]
    pub max_completion_tokens: Option<u32>,
    /// At most 4 texts that end the answer. Not for agents.
    #[serde(default)]
    pub stop: Option<OneOrMany>,
    /// Functions that the model may ask for. Not for agents.
    #[serde(default)]
    pub tools: Option<Vec<Tool>>,
    /// `auto`, `none`, `required`, or `{"type": "function", "function": {"name": …}}`. Not for agents.
    #[serde(default)]
    pub tool_choice: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The answer of a chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiChatCompletion")]
pub struct ChatCompletion {
    /// `chatcmpl-…`; of an agent the run's id follows.
    pub id: String,
    /// `chat.completion`, or `chat.completion.chunk` in a stream.
    pub object: String,
    /// Unix time.
    pub created: i64,
    /// Who answered: the model's id, or the agent as it was asked for.
    pub model: String,
    /// One; none in the last chunk with the usage.
    pub choices: Vec<Choice>,
    /// What it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiChoice")]
pub struct Choice {
    /// 0.
    pub index: u32,
    /// The whole answer; absent in a chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<ChatAnswer>,
    /// What is new; only in a chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<ChatDelta>,
    /// Always null.
    pub logprobs: Option<Value>,
    /// `stop`, `length`, `tool_calls` or `content_filter`; null until the end.
    pub finish_reason: Option<String>,
}

/// What the model says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiChatAnswer")]
pub struct ChatAnswer {
    /// `assistant`.
    pub role: String,
    /// The text; null when the model only asks for calls.
    pub content: Option<String>,
    /// Always null: a refusal comes as text.
    pub refusal: Option<String>,
    /// The calls that the model asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
}

/// A piece of what the model says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiChatDelta")]
pub struct ChatDelta {
    /// `assistant`, only in the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Text to append.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The calls that the model asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
}

/// Tokens of a chat or of embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiUsage")]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the answer; absent for embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Both.
    pub total_tokens: u64,
}

/// Texts to embed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiEmbeddingRequest")]
pub struct EmbeddingRequest {
    /// A model's id, or `tier:fast|balanced|premium`.
    pub model: String,
    /// One text, or up to 2,048. Lists of tokens are refused.
    pub input: Value,
    /// `float` (default) or `base64`.
    #[serde(default)]
    pub encoding_format: Option<String>,
    /// Length of the vectors, if the model can choose; at most 4,096.
    #[serde(default)]
    pub dimensions: Option<u32>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiEmbeddingList")]
pub struct EmbeddingList {
    /// `list`.
    pub object: String,
    /// One for each text, in order.
    pub data: Vec<Embedding>,
    /// Id of the model that made them.
    pub model: String,
    /// What it used.
    pub usage: Usage,
}

/// One embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiEmbedding")]
pub struct Embedding {
    /// `embedding`.
    pub object: String,
    /// Index of the text.
    pub index: u32,
    /// The vector.
    pub embedding: Vector,
}

/// A request for a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiResponseRequest")]
pub struct ResponseRequest {
    /// A model's id, `tier:fast|balanced|premium`, or an agent: id, handle or address, with or without `agent:` before it.
    pub model: String,
    /// A text, or items: messages, function calls and their outputs.
    pub input: Value,
    /// Instructions of this request alone; they are not continued. Not for agents.
    #[serde(default)]
    pub instructions: Option<String>,
    /// The response that this one continues.
    #[serde(default)]
    pub previous_response_id: Option<String>,
    /// `false`: the response cannot be read or continued later. An agent keeps its conversation all the same.
    #[serde(default)]
    pub store: Option<bool>,
    /// Whether the answer comes as events.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Sampling temperature, 0 to 2. Not for agents.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1. Not for agents.
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Most tokens of the answer. Not for agents.
    #[serde(default)]
    pub max_output_tokens: Option<u32>,
    /// Functions that the model may ask for. Not for agents.
    #[serde(default)]
    pub tools: Option<Vec<ResponseTool>>,
    /// `auto`, `none`, `required`, or `{"type": "function", "name": …}`. Not for agents.
    #[serde(default)]
    pub tool_choice: Option<Value>,
    /// Up to 16 texts that come back with the response.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A function that the model may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiResponseTool")]
pub struct ResponseTool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name: 1 to 64 of `A-Z a-z 0-9 _ -`.
    #[serde(default)]
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: Option<String>,
    /// JSON Schema of its arguments; absent = any object.
    #[serde(default)]
    pub parameters: Option<Value>,
    /// Only `false`.
    #[serde(default)]
    pub strict: Option<bool>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiResponse")]
pub struct Response {
    /// `resp_…`.
    pub id: String,
    /// `response`.
    pub object: String,
    /// Unix time.
    pub created_at: i64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub status: String,
    /// Why it failed.
    pub error: Option<ResponseError>,
    /// `{"reason": "max_output_tokens"}` or `{"reason": "content_filter"}` when the answer was cut.
    pub incomplete_details: Option<Value>,
    /// Instructions of the request.
    pub instructions: Option<String>,
    /// Most tokens of the answer, if the request said so.
    pub max_output_tokens: Option<u32>,
    /// What comes back with the response.
    pub metadata: Map<String, Value>,
    /// Who answered: the model's id, or the agent as it was asked for.
    pub model: String,
    /// The answer: a message, and the function calls that the model asks for.
    pub output: Vec<OutputItem>,
    /// `true`.
    pub parallel_tool_calls: bool,
    /// The response that this one continues.
    pub previous_response_id: Option<String>,
    /// Whether it is kept.
    pub store: bool,
    /// As the request said.
    pub temperature: Option<f64>,
    /// As the request said, else `auto`.
    pub tool_choice: Value,
    /// As the request said.
    pub tools: Vec<ResponseTool>,
    /// As the request said.
    pub top_p: Option<f64>,
    /// What it used; null until the end.
    pub usage: Option<ResponseUsage>,
}

/// Why a response failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiResponseError")]
pub struct ResponseError {
    /// Stable code of this hub.
    pub code: String,
    /// For people.
    pub message: String,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(rename = "OpenAiOutputItem")]
pub enum OutputItem {
    /// What the model says.
    Message {
        /// `msg_…`.
        id: String,
        /// `in_progress`, `completed` or `incomplete`.
        status: String,
        /// `assistant`.
        role: String,
        /// One part, of type `output_text`.
        content: Vec<OutputText>,
    },
    /// A call that the model asks for.
    FunctionCall {
        /// `fc_…`.
        id: String,
        /// Id to answer with in `function_call_output`.
        call_id: String,
        /// The function.
        name: String,
        /// JSON.
        arguments: String,
        /// `completed`.
        status: String,
    },
}

/// The text of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiOutputText")]
pub struct OutputText {
    /// `output_text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    pub text: String,
    /// Always empty.
    pub annotations: Vec<Value>,
}

/// Tokens of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiResponseUsage")]
pub struct ResponseUsage {
    /// Of the prompt.
    pub input_tokens: u64,
    /// Always `{"cached_tokens": 0}`: nothing is cached here.
    pub input_tokens_details: CachedTokens,
    /// Of the answer.
    pub output_tokens: u64,
    /// Always `{"reasoning_tokens": 0}`: they are not counted apart.
    pub output_tokens_details: ReasoningTokens,
    /// Both.
    pub total_tokens: u64,
}

/// Part of the prompt's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiCachedTokens")]
pub struct CachedTokens {
    /// 0.
    pub cached_tokens: u64,
}

/// Part of the answer's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiReasoningTokens")]
pub struct ReasoningTokens {
    /// 0.
    pub reasoning_tokens: u64,
}

/// Answer to the delete of a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OpenAiDeleted")]
pub struct Deleted {
    /// The id.
    pub id: String,
    /// `response`.
    pub object: String,
    /// `true`.
    pub deleted: bool,
}
