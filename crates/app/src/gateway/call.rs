//! What a model is asked and what it answers, as the use cases speak of it.

use aiox_core::gateway::Operation;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// A tool, with the result of a call.
    Tool,
}
impl Role {
    /// The text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// A message of a conversation. What users said: no `Debug`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// The text.
    pub content: String,
    /// Name of the speaker.
    pub name: Option<String>,
    /// The calls that an assistant asked for.
    pub tool_calls: Vec<ToolCall>,
    /// The call whose result a tool's message is.
    pub tool_call_id: Option<String>,
}
impl Message {
    /// A message of plain text.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), name: None, tool_calls: Vec::new(), tool_call_id: None }
    }
}

/// A wanted call of a tool.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id of the call.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments (JSON).
    pub arguments: String,
}

/// A tool that a model may ask for.
#[derive(Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: serde_json::Value,
}

/// Which tool a model asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// How an answer is made. What is absent is left to the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generation {
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f64>,
    /// Most tokens of the answer.
    pub max_output_tokens: Option<u32>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// What is to be done.
#[derive(Clone, PartialEq)]
pub enum Input {
    /// Answer a conversation.
    Chat {
        /// Oldest first.
        messages: Vec<Message>,
        /// What the model may ask for.
        tools: Vec<Tool>,
        /// Which of it.
        tool_choice: ToolChoice,
        /// How.
        generation: Generation,
    },
    /// Make vectors.
    Embed {
        /// Of these texts.
        texts: Vec<String>,
        /// Length of the vectors.
        dimensions: Option<u32>,
    },
}
impl Input {
    /// The operation.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Chat { .. } => Operation::Chat,
            Self::Embed { .. } => Operation::Embed,
        }
    }
}

/// One call for a worker.
#[derive(Clone)]
pub struct Order {
    /// Its id.
    pub id: Uuid,
    /// The provider, in lower case.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// What is to be done.
    pub input: Input,
    /// Whether somebody reads the answer as it is made.
    pub stream: bool,
    /// Milliseconds that it may take.
    pub timeout_ms: u64,
    /// Correlation id.
    pub trace: String,
}

/// What a model answered.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text of a chat.
    pub text: String,
    /// The calls that it asks for.
    pub tool_calls: Vec<ToolCall>,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    pub finish_reason: String,
    /// One for each text, in order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

/// How a call ended at its worker.
#[derive(Clone, PartialEq)]
pub struct Ended {
    /// The answer; of a failed call only its tokens count.
    pub answer: Answer,
    /// Stable code of the failure.
    pub error: Option<String>,
}
