//! Between the messages of the protocol and the words of the use cases.

use aiox_app::gateway::call::{Answer, Ended, Input, Message, Order, Tool, ToolCall, ToolChoice};
use aiox_app::gateway::lines::Served;
use aiox_app::{Task, TaskOutcome, WorkerInfo};
use aiox_model::run::RunError;
use aiox_proto::worker::v1::{
    ModelMessage, ModelRequest, ModelResponse, ModelTool, ModelToolCall, RegisterWorker, TaskRequest, TaskResponse,
};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

/// Places of a worker that does not say how many it has.
const DEFAULT_CONCURRENT: u32 = 4;
const MAX_CONCURRENT: u32 = 1024;

/// Why a model stops. Another word of a worker is not passed on.
const FINISH_REASONS: [&str; 4] = ["stop", "length", "tool_calls", "content_filter"];

/// A registration.
pub(crate) fn worker(register: RegisterWorker) -> WorkerInfo {
    let max_concurrent = match u32::try_from(register.max_concurrent) {
        Ok(0) | Err(_) => DEFAULT_CONCURRENT,
        Ok(wanted) => wanted.min(MAX_CONCURRENT),
    };
    WorkerInfo {
        worker_id: register.worker_id,
        max_concurrent,
        providers: register.supported_providers.iter().map(|name| name.to_lowercase()).collect(),
        models: register.models.iter().map(|name| of_provider(name)).collect(),
        pool: register.pool,
        tools: register.tools.into_iter().collect(),
        labels: register.labels,
        protocol: register.protocol.max(1),
    }
}

/// What a worker serves beside runs.
pub(crate) fn served(register: &RegisterWorker) -> Served {
    let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect();
    Served {
        providers: lower(&register.supported_providers),
        embedding_providers: lower(&register.embedding_providers),
        only_models: register.models.clone(),
        named_models: register.named_models.clone(),
        places: register.max_model_calls.min(MAX_CONCURRENT),
    }
}

/// A call of a model for a worker.
pub(crate) fn model(order: Order) -> ModelRequest {
    let operation = order.input.operation().as_str().to_owned();
    let mut request = ModelRequest {
        request_id: order.id.to_string(),
        operation,
        provider: order.provider,
        model: order.model,
        timeout_ms: order.timeout_ms,
        stream: order.stream,
        traceparent: traceparent(order.trace),
        ..ModelRequest::default()
    };
    match order.input {
        Input::Chat { messages, tools, tool_choice, generation } => {
            request.messages = messages.into_iter().map(said).collect();
            request.tools = tools.into_iter().map(offered).collect();
            request.tool_choice = match tool_choice {
                ToolChoice::Auto => String::new(),
                ToolChoice::None => "none".into(),
                ToolChoice::Required => "required".into(),
                ToolChoice::Named(name) => format!("tool:{name}"),
            };
            request.temperature = generation.temperature;
            request.top_p = generation.top_p;
            request.max_output_tokens = generation.max_output_tokens.unwrap_or(0);
            request.stop = generation.stop;
        }
        Input::Embed { texts, dimensions } => {
            request.texts = texts;
            request.dimensions = dimensions.unwrap_or(0);
        }
    }
    request
}

fn said(message: Message) -> ModelMessage {
    ModelMessage {
        role: message.role.as_str().to_owned(),
        content: message.content,
        tool_calls: message
            .tool_calls
            .into_iter()
            .map(|call| ModelToolCall { id: call.id, name: call.name, arguments_json: call.arguments })
            .collect(),
        tool_call_id: message.tool_call_id.unwrap_or_default(),
        name: message.name.unwrap_or_default(),
    }
}

fn offered(tool: Tool) -> ModelTool {
    ModelTool { name: tool.name, description: tool.description, parameters_json: tool.parameters.to_string() }
}

/// The end of a call of a model. A code that the hub does not know is a failure of the worker.
pub(crate) fn answered(response: ModelResponse) -> Ended {
    let error = (!response.error_code.is_empty()).then(|| match response.error_code.as_str() {
        "worker_draining" | "worker_busy" => response.error_code.clone(),
        code => error(code, false).code,
    });
    let answer = Answer {
        text: response.text,
        tool_calls: response
            .tool_calls
            .into_iter()
            .map(|call| ToolCall { id: call.id, name: call.name, arguments: call.arguments_json })
            .collect(),
        finish_reason: response.finish_reason,
        vectors: response.vectors.into_iter().map(|vector| vector.values).collect(),
        input_tokens: response.input_tokens,
        output_tokens: response.output_tokens,
    };
    Ended { answer, error }
}

/// A run for a worker.
pub(crate) fn task(task: Task) -> TaskRequest {
    TaskRequest {
        request_id: task.run.to_string(),
        agent_id: task.agent.to_string(),
        owner_user_id: task.owner.to_string(),
        user_message: task.message,
        system_prompt: task.system_prompt.expose_secret().to_owned(),
        llm_config_json: task.llm_config_json,
        from_jid: task.from_jid,
        agent_jid: task.agent_jid,
        agent_name: task.agent_name,
        memory_context_json: task.memory_context_json,
        memory_config_json: task.memory_config_json,
        timeout_ms: task.timeout_ms,
        attempt: task.attempt,
        lease_id: task.lease.to_string(),
        traceparent: traceparent(task.trace),
        tools_json: tools(&task.tools_json),
        provider: task.provider,
        model: task.model.unwrap_or_default(),
        conversation_id: task.conversation.to_string(),
        stream: true,
        // The lease lasts as long as the session and the run's own time limit.
        lease_ms: 0,
        max_steps: task.max_steps.unwrap_or(0),
    }
}

/// A W3C trace context, or nothing: a worker could not continue another kind of trace.
fn traceparent(trace: String) -> String {
    let parts: Vec<_> = trace.split('-').map(str::len).collect();
    if parts == [2, 32, 16, 2] { trace } else { String::new() }
}

/// An agent's tools by name, as the list that the protocol has; empty when there are none.
fn tools(by_name: &str) -> String {
    let tools: Map<String, Value> = serde_json::from_str(by_name).unwrap_or_default();
    if tools.is_empty() {
        return String::new();
    }
    let list: Vec<Value> = tools
        .into_iter()
        .map(|(name, tool)| {
            let parameters =
                tool.get("parameters").or_else(|| tool.get("input_schema")).cloned().unwrap_or_else(|| json!({ "type": "object" }));
            let description = tool.get("description").cloned().unwrap_or_else(|| json!(""));
            json!({ "name": name, "description": description, "parameters": parameters })
        })
        .collect();
    Value::Array(list).to_string()
}

/// `provider/model` with the provider in lower case; models differ by case.
fn of_provider(name: &str) -> String {
    match name.split_once('/') {
        Some((provider, model)) => format!("{}/{model}", provider.to_lowercase()),
        None => name.to_owned(),
    }
}

/// What a result means.
pub(crate) enum Told {
    /// The run's end.
    End(TaskOutcome),
    /// The worker gives the run back, because it leaves.
    HandedBack,
    /// The worker gives the run back, because it has no place for it.
    Busy,
}

/// A result. What the worker says went wrong becomes a code and a fixed sentence: the text of a
/// worker of the first protocol is the provider's own, and no client may see it.
pub(crate) fn told(response: TaskResponse) -> Told {
    match response.error_code.as_str() {
        "worker_draining" => return Told::HandedBack,
        "worker_busy" => return Told::Busy,
        _ => {}
    }
    let failed = !response.error_message.is_empty() || !response.error_code.is_empty();
    let error = failed.then(|| error(&response.error_code, response.retryable));
    // The first protocol has one number for both; it counts as the answer's.
    let total = u64::try_from(response.tokens_used).unwrap_or(0);
    let split = response.input_tokens + response.output_tokens > 0;
    let (input_tokens, output_tokens) = if split { (response.input_tokens, response.output_tokens) } else { (0, total) };
    Told::End(TaskOutcome {
        text: response.response_text,
        model_used: response.model_used,
        input_tokens,
        output_tokens,
        duration_ms: u64::try_from(response.duration_ms).unwrap_or(0),
        finish_reason: FINISH_REASONS.into_iter().find(|known| *known == response.finish_reason),
        error,
    })
}

fn error(code: &str, retryable: bool) -> RunError {
    let message = match code {
        "provider_unauthorized" => "the provider refused the worker's credentials",
        "provider_rate_limited" => "the provider's rate limit is reached",
        "provider_unavailable" => "the provider is unavailable",
        "provider_timeout" => "the provider did not answer in time",
        "model_not_found" => "the provider does not know the model",
        "context_too_long" => "the conversation is too long for the model",
        "provider_error" => "the provider refused the request",
        "provider_not_configured" => "the worker does not have this provider",
        "tools_unavailable" => "the model asked for a tool and tools are not available",
        "invalid_task" => "the task is malformed",
        "timeout" => "the run took longer than its time limit",
        "canceled" => "the run was canceled",
        _ => {
            return RunError { code: "worker_error".into(), message: "the worker failed".into(), retryable };
        }
    };
    RunError { code: code.into(), message: message.into(), retryable }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(response: TaskResponse) -> TaskOutcome {
        match told(response) {
            Told::End(outcome) => outcome,
            Told::HandedBack | Told::Busy => unreachable!("it is an end"),
        }
    }

    #[test]
    fn places_and_protocol_have_their_defaults() {
        for (said, meant) in [(-3, 4), (0, 4), (1, 1), (9, 9), (i32::MAX, 1024)] {
            let info =
                worker(RegisterWorker { max_concurrent: said, supported_providers: vec!["OpenAI".into()], ..RegisterWorker::default() });
            assert_eq!(info.max_concurrent, meant);
            assert_eq!(info.providers, ["openai"]);
            assert_eq!(info.protocol, 1);
        }
    }

    #[test]
    fn no_text_of_a_failed_worker_gets_through() {
        let first = end(TaskResponse { error_message: "openai: canary".into(), tokens_used: 5, ..TaskResponse::default() });
        let error = first.error.unwrap();
        assert_eq!(error.code, "worker_error");
        assert!(!error.message.contains("canary"));
        assert_eq!((first.input_tokens, first.output_tokens), (0, 5));

        let second = end(TaskResponse {
            error_message: "canary".into(),
            error_code: "provider_rate_limited".into(),
            retryable: true,
            tokens_used: 5,
            input_tokens: 3,
            output_tokens: 2,
            ..TaskResponse::default()
        });
        let error = second.error.unwrap();
        assert_eq!(error.code, "provider_rate_limited");
        assert!(error.retryable && !error.message.contains("canary"));
        assert_eq!((second.input_tokens, second.output_tokens), (3, 2));
        assert_eq!((first.duration_ms, first.finish_reason), (0, None));

        let unknown = end(TaskResponse { error_code: "canary code".into(), ..TaskResponse::default() });
        assert_eq!(unknown.error.unwrap().code, "worker_error");
    }

    #[test]
    fn the_time_and_the_finish_reason_are_passed_on_if_they_make_sense() {
        let of = |duration_ms, reason: &str| {
            let outcome = end(TaskResponse { duration_ms, finish_reason: reason.into(), ..TaskResponse::default() });
            (outcome.duration_ms, outcome.finish_reason)
        };
        assert_eq!(of(1500, "length"), (1500, Some("length")));
        assert_eq!(of(-1, ""), (0, None));
        assert_eq!(of(0, "canary"), (0, None));
    }

    #[test]
    fn models_keep_their_case_and_providers_do_not() {
        let register = RegisterWorker {
            models: vec!["OpenAI/GPT-4o".into(), "openai/org/Large".into()],
            pool: "gpu".into(),
            tools: vec!["clock".into()],
            ..RegisterWorker::default()
        };
        let info = worker(register);
        assert_eq!(info.models, ["openai/GPT-4o".to_owned(), "openai/org/Large".to_owned()].into());
        assert_eq!((info.pool.as_str(), info.tools), ("gpu", ["clock".to_owned()].into()));
    }

    #[test]
    fn tools_become_a_list() {
        assert_eq!(tools("{}"), "");
        assert_eq!(tools(""), "");
        let list: Value =
            serde_json::from_str(&tools(r#"{"clock":{"description":"time","input_schema":{"type":"object","x":1}},"bare":{}}"#)).unwrap();
        assert_eq!(
            list,
            json!([
                {"name":"clock","description":"time","parameters":{"type":"object","x":1}},
                {"name":"bare","description":"","parameters":{"type":"object"}}
            ])
        );
    }

    #[test]
    fn only_a_trace_context_is_passed_on() {
        let good = format!("00-{}-{}-01", "a".repeat(32), "b".repeat(16));
        assert_eq!(traceparent(good.clone()), good);
        assert_eq!(traceparent("0199-77".into()), "");
    }
}
