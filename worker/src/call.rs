//! One call of a model that belongs to no run.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aiox_proto::worker::v1::worker_message::Payload;
use aiox_proto::worker::v1::{ModelDelta, ModelMessage, ModelRequest, ModelResponse, ModelTool, ModelToolCall, ModelVector};
use futures::{FutureExt, StreamExt};

use crate::failure::{ErrorCode, Failure};
use crate::provider::{ChatRequest, EmbedRequest, Message, Provider, ProviderEvent, Role, Tool, ToolCall, ToolChoice};
use crate::task::{Bench, Handle};

/// Longest vector that is asked of a provider.
const MAX_DIMENSIONS: u32 = 16_384;

/// Makes a call. Always gives a result: a stop, a passed deadline and a panic are results too.
pub(crate) async fn run(request: ModelRequest, handle: Handle, bench: Arc<Bench>) -> ModelResponse {
    let limit = match request.timeout_ms {
        0 => bench.task_timeout,
        limit => Duration::from_millis(limit),
    };
    let mut response = ModelResponse { request_id: request.request_id.clone(), ..ModelResponse::default() };
    let result = tokio::select! {
        biased;
        () = handle.stopped() => Err(Failure::new(handle.why(), "stopped")),
        done = tokio::time::timeout(limit, AssertUnwindSafe(make(request, &bench, &mut response)).catch_unwind()) => match done {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(Failure::new(ErrorCode::WorkerError, "panic")),
            Err(_elapsed) => Err(Failure::new(ErrorCode::Timeout, "deadline")),
        },
    };
    if let Err(failure) = result {
        fail(&mut response, &failure);
    }
    response
}

/// The result of a call that was not begun.
pub(crate) fn refused(request_id: &str, code: ErrorCode) -> ModelResponse {
    let mut response = ModelResponse { request_id: request_id.to_owned(), ..ModelResponse::default() };
    fail(&mut response, &Failure::new(code, "not begun"));
    response
}

/// A failed call keeps what is known of its tokens, and nothing of its answer.
fn fail(response: &mut ModelResponse, failure: &Failure) {
    tracing::debug!(call = %response.request_id, code = %failure.code, detail = %failure.detail, "a model call failed");
    *response = ModelResponse {
        request_id: std::mem::take(&mut response.request_id),
        input_tokens: response.input_tokens,
        output_tokens: response.output_tokens,
        error_code: failure.code.as_str().into(),
        ..ModelResponse::default()
    };
}

async fn make(request: ModelRequest, bench: &Bench, response: &mut ModelResponse) -> Result<(), Failure> {
    let name = request.provider.to_lowercase();
    let provider = bench.providers.get(&name).ok_or_else(|| Failure::new(ErrorCode::ProviderNotConfigured, name))?;
    match request.operation.as_str() {
        "chat" => chat(request, provider.as_ref(), bench, response).await,
        "embed" => embed(request, provider.as_ref(), response).await,
        other => Err(Failure::new(ErrorCode::InvalidTask, format!("operation {other:?}"))),
    }
}

async fn chat(request: ModelRequest, provider: &dyn Provider, bench: &Bench, response: &mut ModelResponse) -> Result<(), Failure> {
    let (id, stream) = (request.request_id.clone(), request.stream);
    let mut events = provider.chat(conversation(request)?);
    while let Some(event) = events.next().await {
        match event? {
            ProviderEvent::TextDelta(mut text) => {
                let room = bench.max_answer_bytes.saturating_sub(response.text.len());
                let full = text.len() > room;
                if full {
                    text.truncate(text.floor_char_boundary(room));
                }
                response.text.push_str(&text);
                if stream && !text.is_empty() {
                    bench.tell(Payload::ModelDelta(ModelDelta { request_id: id.clone(), text })).await;
                }
                if full {
                    response.finish_reason = "length".into();
                    return Ok(());
                }
            }
            ProviderEvent::ToolCall(call) => {
                let arguments_json = call.arguments.to_string();
                response.tool_calls.push(ModelToolCall { id: call.id, name: call.name, arguments_json });
            }
            ProviderEvent::Usage(usage) => {
                (response.input_tokens, response.output_tokens) = (usage.input_tokens, usage.output_tokens);
            }
            ProviderEvent::Done(reason) => response.finish_reason = reason.as_str().into(),
        }
    }
    match response.finish_reason.is_empty() {
        true => Err(Failure::new(ErrorCode::ProviderUnavailable, "the answer has no end")),
        false => Ok(()),
    }
}

async fn embed(request: ModelRequest, provider: &dyn Provider, response: &mut ModelResponse) -> Result<(), Failure> {
    if request.dimensions > MAX_DIMENSIONS {
        return Err(Failure::new(ErrorCode::InvalidTask, "dimensions"));
    }
    let dimensions = (request.dimensions > 0).then_some(request.dimensions as usize);
    let made = provider.embed(EmbedRequest { model: request.model, texts: request.texts, dimensions }).await?;
    response.input_tokens = made.input_tokens;
    response.vectors = made.vectors.into_iter().map(|values| ModelVector { values }).collect();
    Ok(())
}

fn conversation(request: ModelRequest) -> Result<ChatRequest, Failure> {
    let invalid = |what: &str| Failure::new(ErrorCode::InvalidTask, what.to_owned());
    let tool_choice = match request.tool_choice.as_str() {
        "" | "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "required" => ToolChoice::Required,
        other => ToolChoice::Named(other.strip_prefix("tool:").ok_or_else(|| invalid("tool_choice"))?.to_owned()),
    };
    Ok(ChatRequest {
        model: request.model,
        system: String::new(),
        messages: request.messages.into_iter().map(message).collect::<Result<_, _>>()?,
        tools: request.tools.into_iter().map(tool).collect::<Result<_, _>>()?,
        tool_choice,
        temperature: request.temperature,
        top_p: request.top_p,
        max_tokens: request.max_output_tokens,
        stop: request.stop,
    })
}

fn message(message: ModelMessage) -> Result<Message, Failure> {
    let role = match message.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(Failure::new(ErrorCode::InvalidTask, "role")),
    };
    let tool_calls = message.tool_calls.into_iter().map(|call| {
        let arguments = parsed(&call.arguments_json)?;
        Ok(ToolCall { id: call.id, name: call.name, arguments })
    });
    Ok(Message {
        role,
        content: message.content,
        tool_calls: tool_calls.collect::<Result<_, Failure>>()?,
        tool_call_id: message.tool_call_id,
    })
}

fn tool(tool: ModelTool) -> Result<Tool, Failure> {
    let parameters = match tool.parameters_json.as_str() {
        "" => serde_json::json!({ "type": "object", "properties": {} }),
        json => parsed(json)?,
    };
    Ok(Tool { name: tool.name, description: tool.description, parameters })
}

fn parsed(json: &str) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(json).map_err(|_| Failure::new(ErrorCode::InvalidTask, "a JSON member cannot be read"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::sync::watch;

    use super::*;
    use crate::provider::Echo;

    fn bench() -> Arc<Bench> {
        Arc::new(Bench {
            worker_id: "w1".into(),
            providers: BTreeMap::from([("echo".to_owned(), Arc::new(Echo) as Arc<dyn Provider>)]),
            default_provider: "echo".into(),
            task_timeout: Duration::from_secs(60),
            max_answer_bytes: 12,
            link: watch::Sender::new(None),
        })
    }

    fn chat_of(text: &str) -> ModelRequest {
        ModelRequest {
            request_id: "r1".into(),
            operation: "chat".into(),
            provider: "Echo".into(),
            model: "echo".into(),
            messages: vec![ModelMessage { role: "user".into(), content: text.into(), ..ModelMessage::default() }],
            ..ModelRequest::default()
        }
    }

    #[tokio::test]
    async fn a_chat_and_an_embedding_are_answered() {
        let response = run(chat_of("hello"), Handle::new(""), bench()).await;
        assert_eq!((response.text.as_str(), response.finish_reason.as_str()), ("echo: hello", "stop"));
        assert_eq!((response.request_id.as_str(), response.input_tokens, response.output_tokens), ("r1", 1, 2));
        let long = run(chat_of("a message that is too long"), Handle::new(""), bench()).await;
        assert_eq!((long.text.as_str(), long.finish_reason.as_str()), ("echo: a mess", "length"));
        let embed = ModelRequest { operation: "embed".into(), texts: vec!["a".into(), "b".into()], dimensions: 5, ..chat_of("") };
        let response = run(embed, Handle::new(""), bench()).await;
        assert_eq!(response.vectors.iter().map(|vector| vector.values.len()).collect::<Vec<_>>(), [5, 5]);
    }

    #[tokio::test]
    async fn what_cannot_be_done_has_its_code_and_no_answer() {
        let code = |request: ModelRequest| async { run(request, Handle::new(""), bench()).await.error_code };
        assert_eq!(code(ModelRequest { provider: "other".into(), ..chat_of("x") }).await, "provider_not_configured");
        assert_eq!(code(ModelRequest { operation: "paint".into(), ..chat_of("x") }).await, "invalid_task");
        assert_eq!(code(ModelRequest { tool_choice: "sometimes".into(), ..chat_of("x") }).await, "invalid_task");
        assert_eq!(code(ModelRequest { operation: "embed".into(), dimensions: MAX_DIMENSIONS + 1, ..chat_of("x") }).await, "invalid_task");
        let mut odd = chat_of("x");
        odd.messages[0].role = "god".into();
        assert_eq!(code(odd).await, "invalid_task");
        let handle = Handle::new("");
        handle.stop(ErrorCode::Canceled);
        let stopped = run(chat_of("x"), handle, bench()).await;
        assert_eq!((stopped.error_code.as_str(), stopped.text.as_str()), ("canceled", ""));
        assert_eq!(refused("r2", ErrorCode::WorkerBusy).error_code, "worker_busy");
    }
}
