//! Providers on the network: OpenAI and everything that speaks its wire, Anthropic, Ollama.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use genai::adapter::AdapterKind;
use genai::chat::{
    ChatMessage, ChatOptions, ChatRequest as GenaiRequest, ChatStreamEvent, ContentPart, MessageContent, StopReason, StreamEnd,
    Tool as GenaiTool, ToolCall as GenaiCall, ToolChoice as GenaiChoice, ToolResponse,
};
use genai::embed::{EmbedOptions, EmbedRequest as GenaiEmbed};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, Headers, ModelIden, ServiceTarget};
use secrecy::{ExposeSecret, SecretString};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use super::genai_failure::{classify, cut};
use super::{ChatRequest, EmbedRequest, Embedded, FinishReason, Provider, ProviderEvent, Role, ToolCall, ToolChoice, Usage};
use crate::WorkerError;
use crate::config::{ProviderConfig, ProviderKind};
use crate::failure::{ErrorCode, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A provider that is called over HTTP.
pub struct Llm {
    client: Client,
    adapter: AdapterKind,
    base_url: String,
    api_key: Option<SecretString>,
    default_model: Option<String>,
    timeout: Duration,
}

impl Llm {
    /// A client of the configured provider. No connection is made yet.
    ///
    /// # Errors
    /// [`WorkerError::Config`] when no HTTP client can be made.
    pub fn new(config: &ProviderConfig) -> Result<Self, WorkerError> {
        let (adapter, usual, model) = match config.kind {
            ProviderKind::OpenAi => (AdapterKind::OpenAI, "https://api.openai.com/v1/", Some("gpt-4o-mini")),
            ProviderKind::Anthropic => (AdapterKind::Anthropic, "https://api.anthropic.com/v1/", Some("claude-sonnet-4-5")),
            ProviderKind::Ollama => (AdapterKind::Ollama, "http://localhost:11434/", None),
            ProviderKind::Echo => {
                return Err(WorkerError::Config("echo is not called over HTTP".into()));
            }
        };
        let mut base_url = config.base_url.as_deref().unwrap_or(usual).to_owned();
        if !base_url.ends_with('/') {
            base_url.push('/');
        }
        // Ollama is often given with the path of its OpenAI-compatible side.
        if adapter == AdapterKind::Ollama
            && let Some(root) = base_url.strip_suffix("v1/")
        {
            base_url = root.to_owned();
        }
        // A redirect would carry the key to wherever the provider points.
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| WorkerError::Config(format!("HTTP client: {error}")))?;
        let client =
            Client::builder().with_reqwest(http).build().map_err(|error| WorkerError::Config(format!("provider client: {error}")))?;
        Ok(Self {
            client,
            adapter,
            base_url,
            api_key: config.api_key.clone(),
            // Only at the vendor's own address is it known that this model exists.
            default_model: config.default_model.clone().or_else(|| {
                let vendor = config.base_url.is_none();
                model.filter(|_| vendor).map(str::to_owned)
            }),
            timeout: config.timeout,
        })
    }

    /// Where the request goes and with which key. The adapter is always explicit: guessing it
    /// from the model's name would send one vendor's key to another.
    fn target(&self, model: &str, path: &str) -> ServiceTarget {
        let auth = match (&self.api_key, self.adapter) {
            (Some(key), _) => AuthData::from_single(key.expose_secret()),
            // The OpenAI wire insists on a key unless the whole request head is given.
            (None, AdapterKind::OpenAI) => {
                AuthData::RequestOverride { url: format!("{}{path}", self.base_url), headers: Headers::default() }
            }
            (None, _) => AuthData::from_single(""),
        };
        ServiceTarget { endpoint: Endpoint::from_owned(self.base_url.as_str()), auth, model: ModelIden::new(self.adapter, model) }
    }

    fn options(&self, request: &ChatRequest) -> ChatOptions {
        let mut options = ChatOptions::default()
            .with_capture_usage(true)
            .with_capture_tool_calls(true)
            .with_stream_header_timeout(self.timeout)
            .with_stream_read_timeout(self.timeout);
        if request.max_tokens > 0 {
            options = options.with_max_tokens(request.max_tokens);
        }
        if let Some(temperature) = request.temperature {
            options = options.with_temperature(temperature);
        }
        if let Some(top_p) = request.top_p {
            options = options.with_top_p(top_p);
        }
        if !request.stop.is_empty() {
            options = options.with_stop_sequences(request.stop.clone());
        }
        options = match &request.tool_choice {
            ToolChoice::Auto | ToolChoice::None => options,
            ToolChoice::Required => options.with_tool_choice(GenaiChoice::Required),
            ToolChoice::Named(name) => options.with_tool_choice(GenaiChoice::tool(name)),
        };
        match (self.adapter, &self.api_key) {
            // This adapter does not send the key by itself.
            (AdapterKind::Ollama, Some(key)) => {
                options.with_extra_headers(("Authorization", format!("Bearer {}", key.expose_secret()).as_str()))
            }
            (AdapterKind::Ollama, None) => options,
            // The adapters cut what looks like an effort or a namespace off a model's name.
            _ => options.with_extra_body(serde_json::json!({ "model": request.model })),
        }
    }
}

impl Provider for Llm {
    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ProviderEvent, Failure>> {
        let client = self.client.clone();
        // This wire has no word for it, and a silent `auto` would not be what was asked for.
        if self.adapter == AdapterKind::Ollama && matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Named(_)) {
            let refused = Failure::new(ErrorCode::ProviderError, "this provider cannot be told which tool to call");
            return stream::once(async { Err(refused) }).boxed();
        }
        let target = self.target(&request.model, "chat/completions");
        let options = self.options(&request);
        let secret = self.api_key.clone();
        let whole_without_reason = self.adapter != AdapterKind::Ollama;
        let failed = move |error: genai::Error| classify(&error, secret.as_ref());
        async_stream::try_stream! {
            // The client logs what providers say, at warning level. That text is not for logs.
            let mut events = client
                .exec_chat_stream(target, genai_request(request), Some(&options))
                .with_subscriber(Dispatch::none())
                .await
                .map_err(&failed)?
                .stream;
            let mut end = None;
            while let Some(event) = events.next().with_subscriber(Dispatch::none()).await {
                match event.map_err(&failed)? {
                    ChatStreamEvent::Chunk(chunk) => yield ProviderEvent::TextDelta(chunk.content),
                    ChatStreamEvent::End(found) => {
                        end = Some(found);
                        break;
                    }
                    _ => {}
                }
            }
            // Ollama's adapter makes an end of its own when the connection breaks; only a real one
            // has a reason.
            let end = end
                .filter(|end| whole_without_reason || end.captured_stop_reason.is_some())
                .ok_or_else(cut)?;
            for event in last_events(end) {
                yield event;
            }
        }
        .boxed()
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'static, Result<Embedded, Failure>> {
        let client = self.client.clone();
        let target = self.target(&request.model, "embeddings");
        let secret = self.api_key.clone();
        let timeout = self.timeout;
        let mut options = EmbedOptions::new().with_capture_usage(true);
        if let Some(dimensions) = request.dimensions {
            options = options.with_dimensions(dimensions);
        }
        if let (AdapterKind::Ollama, Some(key)) = (self.adapter, &self.api_key) {
            options = options.with_headers(Headers::from(("Authorization", format!("Bearer {}", key.expose_secret()).as_str())));
        }
        let embeds = self.embeds();
        async move {
            if !embeds {
                return Err(Failure::new(ErrorCode::ModelNotFound, "this provider makes no embeddings"));
            }
            let wanted = request.texts.len();
            let asked = client.exec_embed(target, GenaiEmbed::new_batch(request.texts), Some(&options)).with_subscriber(Dispatch::none());
            let answer = tokio::time::timeout(timeout, asked)
                .await
                .map_err(|_elapsed| Failure::new(ErrorCode::ProviderTimeout, "no embeddings in time"))?
                .map_err(|error| classify(&error, secret.as_ref()))?;
            let input_tokens = answer.usage.prompt_tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(0);
            let mut embeddings = answer.embeddings;
            embeddings.sort_by_key(|embedding| embedding.index);
            if embeddings.len() != wanted {
                return Err(Failure::new(ErrorCode::ProviderUnavailable, "not one embedding for each text"));
            }
            Ok(Embedded { vectors: embeddings.into_iter().map(|embedding| embedding.vector).collect(), input_tokens })
        }
        .boxed()
    }

    fn embeds(&self) -> bool {
        matches!(self.adapter, AdapterKind::OpenAI | AdapterKind::Ollama)
    }

    fn default_model(&self) -> Option<&str> {
        self.default_model.as_deref()
    }
}

fn genai_request(request: ChatRequest) -> GenaiRequest {
    let messages = request
        .messages
        .into_iter()
        .map(|message| match message.role {
            Role::System => ChatMessage::system(message.content),
            Role::User => ChatMessage::user(message.content),
            Role::Tool => ChatMessage::from(ToolResponse::new(message.tool_call_id, message.content)),
            Role::Assistant if message.tool_calls.is_empty() => ChatMessage::assistant(message.content),
            Role::Assistant => {
                let mut content = MessageContent::default();
                if !message.content.is_empty() {
                    content.push(ContentPart::Text(message.content));
                }
                for call in message.tool_calls {
                    content.push(ContentPart::ToolCall(GenaiCall {
                        call_id: call.id,
                        fn_name: call.name,
                        fn_arguments: call.arguments,
                        thought_signatures: None,
                    }));
                }
                ChatMessage::assistant(content)
            }
        })
        .collect();
    let mut out = GenaiRequest::new(messages);
    if !request.system.is_empty() {
        out = out.with_system(request.system);
    }
    if !request.tools.is_empty() && request.tool_choice != ToolChoice::None {
        out = out.with_tools(
            request.tools.into_iter().map(|tool| GenaiTool::new(tool.name).with_description(tool.description).with_schema(tool.parameters)),
        );
    }
    out
}

fn last_events(end: StreamEnd) -> Vec<ProviderEvent> {
    let usage = end.captured_usage.clone().unwrap_or_default();
    let count = |tokens: Option<i32>| tokens.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let usage = Usage { input_tokens: count(usage.prompt_tokens), output_tokens: count(usage.completion_tokens) };
    let reason = end.captured_stop_reason.clone();
    let calls = end.captured_into_tool_calls().unwrap_or_default();
    let reason = match reason {
        _ if !calls.is_empty() => FinishReason::ToolCalls,
        Some(StopReason::MaxTokens(_)) => FinishReason::Length,
        Some(StopReason::ContentFilter(_)) => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    };
    calls
        .into_iter()
        .map(|call| ProviderEvent::ToolCall(ToolCall { id: call.call_id, name: call.fn_name, arguments: call.fn_arguments }))
        .chain([ProviderEvent::Usage(usage), ProviderEvent::Done(reason)])
        .collect()
}
