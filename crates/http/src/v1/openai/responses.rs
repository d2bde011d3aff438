//! Responses: chats that the hub remembers, so that a later one can continue them.

mod stream;

use std::sync::Arc;

use aiox_app::{
    AgentRef,
    gateway::{
        Answering, NewCall,
        call::{Generation, Input, Message, Role, Tool, ToolCall},
        responses::{Before, NewResponse},
    },
};
use aiox_core::{Caller, Error};
use aiox_model::{
    RunId,
    v1::openai::{
        CachedTokens, Content, Deleted, Function, OutputItem, OutputText, ReasoningTokens, Response as Body, ResponseRequest, ResponseUsage,
    },
};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{RUN, Target, agent, ask, judged, routed, target};
use crate::{
    auth::Signed,
    bound::{Place, Streams},
    documented::{OpenAiConflicting, OpenAiGated, OpenAiInvalid, OpenAiNotFound, OpenAiSized},
    error::Result,
    frames,
    read::{Body as Read, Place as InPath},
    state::App,
};

/// Create a response
///
/// `previous_response_id` continues an earlier response of the same caller: of a model its whole conversation is sent again, of an agent
/// the same conversation goes on. A response is kept for 30 days, at most 200 for each caller; with `store: false` it is not kept. With
/// `stream`, the answer comes as typed events up to `response.completed`, `response.incomplete` or `response.failed`. A parameter that
/// has no effect is 400 with its name in `param`.
#[utoipa::path(
    post,
    path = "/openai/v1/responses",
    tag = "openai",
    operation_id = "openai_create_response",
    security(("bearer" = ["models:invoke"]), ("api_key" = ["models:invoke"])),
    request_body = ResponseRequest,
    responses(
        (status = 200, description = "The response.", content((Body = "application/json"), (String = "text/event-stream"))),
        OpenAiGated, OpenAiInvalid, OpenAiNotFound, OpenAiSized, OpenAiConflicting
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(streams): Extension<Arc<Streams>>,
    Signed(caller): Signed,
    headers: HeaderMap,
    Read(request): Read<ResponseRequest>,
) -> Result<Response> {
    check(&request)?;
    let place = if request.stream.unwrap_or(false) { Some(streams.enter(&caller)?) } else { None };
    let target = target(&app, &caller, &request.model).await?;
    let before = match &request.previous_response_id {
        Some(id) => app.gateway.before(&caller, id).await?,
        None => Before::default(),
    };
    match target {
        Target::Agent(agent) => of_agent(app, caller, agent, request, before, &headers, place).await,
        Target::Model if before.conversation.is_some() => {
            Err(Error::invalid("previous_response_id", "the response that it names was given by an agent").into())
        }
        Target::Model => of_model(app, caller, request, before, place).await,
    }
}

/// Read a response
///
/// One that the caller made and that is still kept.
#[utoipa::path(
    get,
    path = "/openai/v1/responses/{response_id}",
    tag = "openai",
    operation_id = "openai_get_response",
    security(("bearer" = ["models:invoke"]), ("api_key" = ["models:invoke"])),
    params(("response_id" = String, Path, description = "`resp_…`")),
    responses((status = 200, description = "The response.", body = Body), OpenAiGated, OpenAiNotFound)
)]
pub(super) async fn show(State(app): State<App>, Signed(caller): Signed, InPath(id): InPath<String>) -> Result<Json<Value>> {
    Ok(Json(app.gateway.response(&caller, &id).await?))
}

/// Delete a response
///
/// Responses that continue it can be read, and no longer be continued. The history of an agent is not touched.
#[utoipa::path(
    delete,
    path = "/openai/v1/responses/{response_id}",
    tag = "openai",
    operation_id = "openai_delete_response",
    security(("bearer" = ["models:invoke"]), ("api_key" = ["models:invoke"])),
    params(("response_id" = String, Path, description = "`resp_…`")),
    responses((status = 200, description = "It is gone.", body = Deleted), OpenAiGated, OpenAiNotFound)
)]
pub(super) async fn delete(State(app): State<App>, Signed(caller): Signed, InPath(id): InPath<String>) -> Result<Json<Deleted>> {
    app.gateway.forget_response(&caller, &id).await?;
    Ok(Json(Deleted { id, object: "response".into(), deleted: true }))
}

fn check(request: &ResponseRequest) -> Result<()> {
    let neutral = [
        ("parallel_tool_calls", json!(true)),
        ("truncation", json!("disabled")),
        ("background", json!(false)),
        ("service_tier", json!("auto")),
        ("include", json!([])),
        ("text", json!({ "format": { "type": "text" } })),
        ("top_logprobs", json!(0)),
    ];
    ask::only_known(&request.other, &neutral)?;
    let metadata = request.metadata.iter().flatten();
    let legal = |(name, value): (&String, &Value)| name.len() <= 64 && value.as_str().is_some_and(|text| text.len() <= 512);
    if request.metadata.as_ref().is_some_and(|all| all.len() > 16) || !metadata.into_iter().all(legal) {
        return Err(Error::invalid("metadata", "must be at most 16 texts of 512 bytes, with names of 64 bytes").into());
    }
    Ok(())
}

/// One response on its way.
#[derive(Clone)]
struct Draft {
    app: App,
    caller: Caller,
    body: Body,
    /// What was asked in this turn.
    turn: Vec<Message>,
    conversation: Option<Uuid>,
}

impl Draft {
    fn new(app: App, caller: Caller, request: &ResponseRequest, model: String) -> Self {
        let body = Body {
            id: app.gateway.response_id(),
            object: "response".into(),
            created_at: app.gateway.now().seconds(),
            status: "in_progress".into(),
            error: None,
            incomplete_details: None,
            instructions: request.instructions.clone(),
            max_output_tokens: request.max_output_tokens,
            metadata: request.metadata.clone().unwrap_or_default(),
            model,
            output: Vec::new(),
            parallel_tool_calls: true,
            previous_response_id: request.previous_response_id.clone(),
            store: request.store.unwrap_or(true),
            temperature: request.temperature,
            tool_choice: request.tool_choice.clone().filter(|choice| !choice.is_null()).unwrap_or_else(|| json!("auto")),
            tools: request.tools.clone().unwrap_or_default(),
            top_p: request.top_p,
            usage: None,
        };
        Self { app, caller, body, turn: Vec::new(), conversation: None }
    }

    fn part(&self, prefix: &str, number: usize) -> String {
        format!("{prefix}_{}{number:02}", self.body.id.trim_start_matches("resp_"))
    }

    fn message(&self, text: &str, status: &str) -> OutputItem {
        let content = OutputText { kind: "output_text".into(), text: text.to_owned(), annotations: Vec::new() };
        OutputItem::Message { id: self.part("msg", 0), status: status.into(), role: "assistant".into(), content: vec![content] }
    }

    fn call(&self, number: usize, call: &ToolCall) -> OutputItem {
        OutputItem::FunctionCall {
            id: self.part("fc", number),
            call_id: call.id.clone(),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
            status: "completed".into(),
        }
    }

    /// Completes the response and keeps it, if it is to be kept.
    async fn finish(&mut self, text: String, calls: Vec<ToolCall>, finish: &str, (input, output): (u64, u64)) -> Result<()> {
        let cut = match finish {
            "length" => Some("max_output_tokens"),
            "content_filter" => Some("content_filter"),
            _ => None,
        };
        let status = if cut.is_some() { "incomplete" } else { "completed" };
        self.body.status = status.into();
        self.body.incomplete_details = cut.map(|reason| json!({ "reason": reason }));
        self.body.output.clear();
        if !text.is_empty() || calls.is_empty() {
            self.body.output.push(self.message(&text, status));
        }
        for (number, call) in calls.iter().enumerate() {
            self.body.output.push(self.call(number, call));
        }
        self.body.usage = Some(ResponseUsage {
            input_tokens: input,
            input_tokens_details: CachedTokens::default(),
            output_tokens: output,
            output_tokens_details: ReasoningTokens::default(),
            total_tokens: input + output,
        });
        if !self.body.store {
            return Ok(());
        }
        let mut turn = std::mem::take(&mut self.turn);
        if self.conversation.is_none() {
            turn.push(Message { tool_calls: calls, ..Message::new(Role::Assistant, text) });
        }
        let kept = NewResponse {
            id: self.body.id.clone(),
            previous: self.body.previous_response_id.clone(),
            conversation: self.conversation,
            turn,
            body: serde_json::to_value(&self.body).map_err(Error::internal)?,
        };
        Ok(self.app.gateway.keep_response(&self.caller, kept).await?)
    }
}

async fn of_model(app: App, caller: Caller, request: ResponseRequest, before: Before, place: Option<Place>) -> Result<Response> {
    let turn = items(request.input.clone())?;
    let instructions = request.instructions.as_ref().map(|text| Message::new(Role::System, text.clone()));
    let messages = instructions.into_iter().chain(before.messages).chain(turn.clone()).collect();
    let generation = Generation {
        temperature: request.temperature,
        top_p: request.top_p,
        max_output_tokens: request.max_output_tokens,
        stop: Vec::new(),
    };
    let call = NewCall {
        request_id: app.gateway.request_id(),
        model_ref: request.model.clone(),
        input: Input::Chat { messages, tools: tools(&request)?, tool_choice: ask::tool_choice(request.tool_choice.as_ref())?, generation },
        max_latency_ms: None,
        max_cost: None,
        min_context_tokens: None,
        stream: place.is_some(),
        idempotency: None,
    };
    let answering: Answering = app.gateway.invoke(&caller, call).await?;
    let (route, policy) = (answering.route.clone(), answering.policy.clone());
    let mut draft = Draft { turn, ..Draft::new(app, caller, &request, route.model.clone()) };
    let (mut response, cost) = match place {
        Some(place) => (frames::respond(stream::of_model(draft, answering, place)), None),
        None => {
            let finished = answering.finish().await?;
            let answer = finished.answer;
            let used = (answer.input_tokens, answer.output_tokens);
            draft.finish(answer.text, answer.tool_calls, &answer.finish_reason, used).await?;
            (Json(draft.body).into_response(), finished.cost)
        }
    };
    routed(&mut response, &route, &policy, cost);
    Ok(response)
}

async fn of_agent(
    app: App,
    caller: Caller,
    agent: AgentRef,
    request: ResponseRequest,
    before: Before,
    headers: &HeaderMap,
    place: Option<Place>,
) -> Result<Response> {
    ask::not_for_agents(&[
        ("instructions", request.instructions.is_some()),
        ("temperature", request.temperature.is_some()),
        ("top_p", request.top_p.is_some()),
        ("max_output_tokens", request.max_output_tokens.is_some()),
        ("tools", request.tools.as_ref().is_some_and(|tools| !tools.is_empty())),
        ("tool_choice", request.tool_choice.as_ref().is_some_and(|choice| !choice.is_null())),
    ])?;
    if request.previous_response_id.is_some() && before.conversation.is_none() {
        return Err(Error::invalid("previous_response_id", "the response that it names was given by a model").into());
    }
    let text = ask::turn(&items(request.input.clone())?)?;
    let (run, policy) = agent::submit(&app, &caller, (&request.model, agent), &text, before.conversation, headers).await?;
    let mut draft = Draft { conversation: Some(run.conversation_id), ..Draft::new(app.clone(), caller, &request, request.model.clone()) };
    let mut response = match place {
        Some(place) => frames::respond(stream::of_agent(draft, RunId(run.id), place)),
        None => {
            let ended = agent::answer(&app, &run).await?;
            let used = (ended.input_tokens, ended.output_tokens);
            draft.finish(ended.output.unwrap_or_default(), Vec::new(), "stop", used).await?;
            Json(draft.body).into_response()
        }
    };
    if let Ok(id) = HeaderValue::try_from(run.id.to_string()) {
        response.headers_mut().insert(RUN, id);
    }
    judged(&mut response, &policy);
    Ok(response)
}

fn tools(request: &ResponseRequest) -> Result<Vec<Tool>> {
    let one = |(index, tool): (usize, &aiox_model::v1::openai::ResponseTool)| {
        if tool.kind != "function" {
            return Err(Error::invalid(format!("tools[{index}].type"), "only function is served").into());
        }
        let function = Function {
            name: tool.name.clone(),
            description: tool.description.clone(),
            parameters: tool.parameters.clone(),
            strict: tool.strict,
        };
        ask::offered(function, &format!("tools[{index}]"))
    };
    request.tools.iter().flatten().enumerate().map(one).collect()
}

/// The messages of an `input`.
fn items(input: Value) -> Result<Vec<Message>> {
    let items = match input {
        Value::String(text) => return Ok(vec![Message::new(Role::User, text)]),
        Value::Array(items) if !items.is_empty() => items,
        _ => return Err(Error::invalid("input", "must be a text or a list of items").into()),
    };
    let mut messages: Vec<Message> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let place = |member: &str| format!("input[{index}].{member}");
        let Value::Object(item) = item else { return Err(Error::invalid(format!("input[{index}]"), "must be an object").into()) };
        match item.get("type").and_then(Value::as_str).unwrap_or("message") {
            "message" => {
                let role = ask::role(&required(&item, "role", &place)?, &place("role"))?;
                if role == Role::Tool {
                    return Err(Error::invalid(place("role"), "must be system, developer, user or assistant").into());
                }
                messages.push(Message::new(role, content(&item, "content", &place)?));
            }
            "function_call" => {
                let call = ToolCall {
                    id: required(&item, "call_id", &place)?,
                    name: required(&item, "name", &place)?,
                    arguments: ask::arguments(required(&item, "arguments", &place)?),
                };
                match messages.last_mut() {
                    Some(last) if last.role == Role::Assistant => last.tool_calls.push(call),
                    _ => messages.push(Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") }),
                }
            }
            "function_call_output" => {
                let tool_call_id = Some(required(&item, "call_id", &place)?);
                messages.push(Message { tool_call_id, ..Message::new(Role::Tool, content(&item, "output", &place)?) });
            }
            _ => return Err(Error::invalid(place("type"), "must be message, function_call or function_call_output").into()),
        }
    }
    Ok(messages)
}

fn required(item: &Map<String, Value>, name: &str, place: &impl Fn(&str) -> String) -> Result<String> {
    Ok(item.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| Error::invalid(place(name), "must be a text"))?)
}

fn content(item: &Map<String, Value>, name: &str, place: &impl Fn(&str) -> String) -> Result<String> {
    let given = item.get(name).cloned().unwrap_or_default();
    let content: Content = serde_json::from_value(given).map_err(|_| Error::invalid(place(name), "must be a text or a list of texts"))?;
    ask::text(content, &place(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_messages_and_calls_join_their_message() {
        let found = items(json!([
            { "role": "user", "content": "hi" },
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "wait" }] },
            { "type": "function_call", "call_id": "c1", "name": "f", "arguments": "" },
            { "type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c1", "output": "7" },
        ]))
        .ok()
        .unwrap();
        let roles: Vec<Role> = found.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool]);
        assert_eq!(found[1].tool_calls.len(), 2);
        assert_eq!(found[1].tool_calls[0].arguments, "{}");
        assert_eq!(found[2].tool_call_id.as_deref(), Some("c1"));
        assert_eq!(items(json!("x")).ok().unwrap().len(), 1);
    }

    #[test]
    fn a_wrong_item_is_named() {
        for (input, name) in [
            (json!([]), "input"),
            (json!(5), "input"),
            (json!(["x"]), "input[0]"),
            (json!([{ "type": "reasoning" }]), "input[0].type"),
            (json!([{ "role": "user", "content": 5 }]), "input[0].content"),
            (json!([{ "role": "tool", "content": "x" }]), "input[0].role"),
            (json!([{ "type": "function_call", "name": "f", "arguments": "{}" }]), "input[0].call_id"),
            (json!([{ "role": "user", "content": [{ "type": "input_image" }] }]), "input[0].content[0].type"),
        ] {
            let failure = items(input.clone()).err().unwrap();
            assert_eq!(failure.shown().param.as_deref(), Some(name), "{input}");
        }
    }
}
