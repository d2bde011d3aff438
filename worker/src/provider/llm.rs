//! Providers on the network: OpenAI and everything that speaks its wire, Anthropic, Ollama.

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, ChatOptions, ChatRequest as GenaiRequest, ChatStreamEvent, StopReason, StreamEnd, Tool as GenaiTool};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, Headers, ModelIden, ServiceTarget};
use secrecy::{ExposeSecret, SecretString};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use super::genai_failure::{classify, cut};
use super::{ChatRequest, FinishReason, Provider, ProviderEvent, Role, ToolCall, Usage};
use crate::WorkerError;
use crate::config::{ProviderConfig, ProviderKind};
use crate::failure::Failure;

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
    fn target(&self, model: &str) -> ServiceTarget {
        let auth = match (&self.api_key, self.adapter) {
            (Some(key), _) => AuthData::from_single(key.expose_secret()),
            // The OpenAI wire insists on a key unless the whole request head is given.
            (None, AdapterKind::OpenAI) => {
                AuthData::RequestOverride { url: format!("{}chat/completions", self.base_url), headers: Headers::default() }
            }
            (None, _) => AuthData::from_single(""),
        };
        ServiceTarget { endpoint: Endpoint::from_owned(self.base_url.as_str()), auth, model: ModelIden::new(self.adapter, model) }
    }

    fn options(&self, request: &ChatRequest) -> ChatOptions {
        let mut options = ChatOptions::default()
            .with_capture_usage(true)
            .with_capture_tool_calls(true)
            .with_max_tokens(request.max_tokens)
            .with_stream_header_timeout(self.timeout)
            .with_stream_read_timeout(self.timeout);
        if let Some(temperature) = request.temperature {
            options = options.with_temperature(temperature);
        }
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
        let target = self.target(&request.model);
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

    fn default_model(&self) -> Option<&str> {
        self.default_model.as_deref()
    }
}

fn genai_request(request: ChatRequest) -> GenaiRequest {
    let messages = request
        .messages
        .into_iter()
        .map(|message| match message.role {
            Role::User => ChatMessage::user(message.content),
            Role::Assistant => ChatMessage::assistant(message.content),
        })
        .collect();
    let mut out = GenaiRequest::new(messages);
    if !request.system.is_empty() {
        out = out.with_system(request.system);
    }
    if !request.tools.is_empty() {
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
