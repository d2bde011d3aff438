//! The providers: who makes the answers.

mod echo;
mod genai_failure;
mod llm;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub use echo::Echo;
pub use llm::Llm;

use crate::WorkerError;
use crate::config::{ProviderConfig, ProviderKind};
use crate::failure::Failure;

/// Something that answers a conversation.
pub trait Provider: Send + Sync {
    /// The answer as it is made: deltas, then tool calls, usage and `Done`, or an error in place
    /// of whatever was to come. Dropping the stream stops the provider and closes its connection.
    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ProviderEvent, Failure>>;

    /// A vector for each text. Dropping the future stops the provider.
    fn embed(&self, request: EmbedRequest) -> BoxFuture<'static, Result<Embedded, Failure>>;

    /// Whether it can make embeddings at all.
    fn embeds(&self) -> bool;

    /// The model of a request that names none.
    fn default_model(&self) -> Option<&str>;
}

/// One turn for a provider to answer.
#[derive(Clone, PartialEq)]
pub struct ChatRequest {
    /// The model.
    pub model: String,
    /// The system prompt.
    pub system: String,
    /// The conversation; the last message is the user's, or a tool's.
    pub messages: Vec<Message>,
    /// The tools the model may ask for.
    pub tools: Vec<Tool>,
    /// Which of them it asks for.
    pub tool_choice: ToolChoice,
    /// Sampling temperature; none leaves it to the provider.
    pub temperature: Option<f64>,
    /// Nucleus sampling; none leaves it to the provider.
    pub top_p: Option<f64>,
    /// Longest answer, in tokens; 0 leaves it to the provider.
    pub max_tokens: u32,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// One message of a conversation.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// The calls that an assistant asked for.
    pub tool_calls: Vec<ToolCall>,
    /// The call whose result a tool's message is.
    pub tool_call_id: String,
}

impl Message {
    /// A message of plain text.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: String::new() }
    }
}

/// Who said a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions beside the system prompt.
    System,
    /// The user.
    User,
    /// The agent.
    Assistant,
    /// A tool, with the result of a call.
    Tool,
}

/// Which tool a model asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// Texts to embed.
#[derive(Clone, PartialEq, Eq)]
pub struct EmbedRequest {
    /// The model.
    pub model: String,
    /// The texts.
    pub texts: Vec<String>,
    /// Length of the vectors; none leaves it to the model.
    pub dimensions: Option<usize>,
}

/// Embeddings.
#[derive(Clone, PartialEq)]
pub struct Embedded {
    /// One for each text, in order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of the texts.
    pub input_tokens: u64,
}

/// A tool the model may ask for.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of its arguments.
    #[serde(default)]
    pub parameters: serde_json::Value,
}

/// A step of an answer.
#[derive(Clone, PartialEq)]
pub enum ProviderEvent {
    /// Text to append.
    TextDelta(String),
    /// The model wants a tool to be called.
    ToolCall(ToolCall),
    /// What the turn cost, as the provider counts it.
    Usage(Usage),
    /// The answer is complete; nothing follows.
    Done(FinishReason),
}

/// A wanted call of a tool.
#[derive(Clone, PartialEq)]
pub struct ToolCall {
    /// The provider's id of the call.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub arguments: serde_json::Value,
}

/// Tokens of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub input_tokens: u64,
    /// Of the answer.
    pub output_tokens: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done.
    Stop,
    /// The longest length was reached.
    Length,
    /// The model waits for tools.
    ToolCalls,
    /// The provider held the answer back.
    ContentFilter,
}

impl FinishReason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// The configured providers by name.
pub type Providers = BTreeMap<String, Arc<dyn Provider>>;

/// Makes the provider of a configuration.
///
/// # Errors
/// [`WorkerError::Config`] when no HTTP client can be made, for want of trust roots for example.
pub fn provider(config: &ProviderConfig) -> Result<Arc<dyn Provider>, WorkerError> {
    Ok(match config.kind {
        ProviderKind::Echo => Arc::new(Echo),
        ProviderKind::OpenAi | ProviderKind::Anthropic | ProviderKind::Ollama => Arc::new(Llm::new(config)?),
    })
}
