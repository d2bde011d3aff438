//! Models and the content policy.

use aiox_app::gateway::{
    Finished, Masked, NewCall, PolicyOutcome as Decided,
    call::{Generation, Input, Message, Role, Tool, ToolCall, ToolChoice},
};
use aiox_core::{Error, gateway::Operation};
use aiox_model::v1::error::ErrorBody;
use aiox_model::v1::gateway::{
    ModelAnswer, ModelEmbedding, ModelGeneration, ModelInfo, ModelInput, ModelInvoke, ModelInvoked, ModelList, ModelMessage, ModelOutput,
    ModelRequest, ModelResponse, ModelRoute, ModelTool, ModelToolCall, ModelUsage, PolicyCheck, PolicyChecked, PolicyContent,
    PolicyOutcome, PolicyResult, Redaction, Vector,
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::gate::same_tenant;
use crate::{
    auth::Signed,
    documented::{V1Conflicting, V1Gated, V1Invalid, V1Sized},
    error::Result,
    names::Names,
    read::Body,
    state::App,
};

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) fn quick() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(models)).routes(routes!(check)).routes(routes!(check_alias))
}

pub(super) fn slow() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(invoke))
}

/// List the models
///
/// Those that the caller's tenant is entitled to, by id: the configured ones, and those that connected workers name.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "model-policy",
    operation_id = "list_models",
    security(("bearer" = ["models:list"]), ("api_key" = ["models:list"])),
    responses((status = 200, description = "The models.", body = ModelList), V1Gated)
)]
pub(super) async fn models(State(app): State<App>, Signed(caller): Signed) -> Result<Json<ModelList>> {
    let models = app.gateway.models(&caller).await?;
    let info = |model: aiox_core::gateway::Model| ModelInfo {
        model_id: model.id,
        provider: model.provider,
        capabilities: model.operations.iter().map(|operation| operation.as_str().to_owned()).collect(),
        max_output_tokens: model.max_output_tokens,
        context_window_tokens: model.context_tokens,
    };
    Ok(Json(ModelList { models: models.into_iter().map(info).collect() }))
}

/// Call a model
///
/// The call passes the content policy (personal data is masked before a model sees it, secrets and blocked terms are 403
/// `policy_blocked`), the router (`model_ref` by tier or id, the tenant's entitlements, the requirements), and the tenant's limits; what
/// it uses is reserved before the call and settled after it. If the chosen model fails before it has said anything, the next allowed one
/// answers and `route.fallback_used` is true.
#[utoipa::path(
    post,
    path = "/v1/models:invoke",
    tag = "model-policy",
    operation_id = "invoke_model",
    security(("bearer" = ["models:invoke"]), ("api_key" = ["models:invoke"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as `request.idempotency_key`.")),
    request_body = ModelInvoke,
    responses(
        (status = 200, description = "The answer. A repetition with the same idempotency key has the header `Idempotency-Replayed: true`.", body = ModelInvoked),
        V1Gated, V1Invalid, V1Sized, V1Conflicting,
        (status = 404, description = "No such model, or none that the tenant may have (`model_not_found`).", body = ErrorBody)
    )
)]
pub(super) async fn invoke(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    headers: HeaderMap,
    Body(body): Body<ModelInvoke>,
) -> Result<Response> {
    if let Some(named) = body.auth.as_ref().and_then(|auth| auth.tenant_id.as_ref()) {
        same_tenant(&app, &caller, named).await?;
    }
    let base64 = encoding(body.request.input.encoding_format.as_deref(), "request.input.encoding_format")?;
    let idempotency = idempotency(&headers, &body.request)?;
    let request_id = body.request.request_id.clone().unwrap_or_else(|| app.gateway.request_id());
    let tools = body.request.input.tools.clone();
    let call = call(body.request, request_id.clone(), idempotency)?;
    let answering = app.gateway.invoke(&caller, call).await?;
    let replayed = answering.replayed;
    let finished = answering.finish().await?;
    let response = response(request_id, finished, &tools, base64);
    let traceparent = body.traceparent.filter(|text| is_traceparent(text));
    let mut response = Json(ModelInvoked { response, correlation_id: names.correlation.to_string(), traceparent }).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Ask the content policy
///
/// What would be decided about a text if it were sent to a model. Nothing is sent anywhere, and the text is not kept.
#[utoipa::path(
    post,
    path = "/v1/policy:check",
    tag = "model-policy",
    operation_id = "check_policy",
    security(("bearer" = ["policy:check"]), ("api_key" = ["policy:check"])),
    request_body = PolicyCheck,
    responses((status = 200, description = "The decision.", body = PolicyChecked), V1Gated, V1Invalid, V1Sized)
)]
pub(super) async fn check(state: State<App>, signed: Signed, body: Body<PolicyCheck>) -> Result<Json<PolicyChecked>> {
    checked(state, signed, body).await
}

/// Ask the content policy (alias)
///
/// The same as `POST /v1/policy:check`.
#[utoipa::path(
    post,
    path = "/v1/policy/check",
    tag = "model-policy",
    operation_id = "check_policy_alias",
    security(("bearer" = ["policy:check"]), ("api_key" = ["policy:check"])),
    request_body = PolicyCheck,
    responses((status = 200, description = "The decision.", body = PolicyChecked), V1Gated, V1Invalid, V1Sized)
)]
pub(super) async fn check_alias(state: State<App>, signed: Signed, body: Body<PolicyCheck>) -> Result<Json<PolicyChecked>> {
    checked(state, signed, body).await
}

async fn checked(State(app): State<App>, Signed(caller): Signed, Body(body): Body<PolicyCheck>) -> Result<Json<PolicyChecked>> {
    if let Some(named) = body.auth.as_ref().and_then(|auth| auth.tenant_id.as_ref()) {
        same_tenant(&app, &caller, named).await?;
    }
    let question = body.policy_check;
    let text = match question.content {
        PolicyContent::Bare(text) => text,
        PolicyContent::Typed { kind, text } if kind.as_deref().is_none_or(|kind| kind == "text") => text,
        PolicyContent::Typed { .. } => return Err(Error::invalid("policy_check.content.type", "must be text").into()),
    };
    let decided = app.gateway.check(&caller, &text, question.ruleset.as_deref().unwrap_or("default")).await?;
    let outcome = outcome(decided, false);
    let policy_result = PolicyResult {
        request_id: question.request_id.unwrap_or_else(|| app.gateway.request_id()),
        decision: outcome.decision,
        reasons: outcome.reasons,
        redactions: outcome.redactions,
    };
    Ok(Json(PolicyChecked { policy_result }))
}

/// Whether vectors are wanted as Base64.
pub(super) fn encoding(format: Option<&str>, member: &str) -> Result<bool> {
    match format {
        None | Some("float") => Ok(false),
        Some("base64") => Ok(true),
        Some(_) => Err(Error::invalid(member, "must be float or base64").into()),
    }
}

/// A vector as it was asked for.
pub(super) fn vector(values: Vec<f32>, base64: bool) -> Vector {
    if !base64 {
        return Vector::Float(values);
    }
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Vector::Base64(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// The key, and the digest of what must be the same when it is used again.
fn idempotency(headers: &HeaderMap, request: &ModelRequest) -> Result<Option<(String, Vec<u8>)>> {
    let header = match headers.get("idempotency-key") {
        Some(key) => Some(key.to_str().map_err(|_| Error::invalid("Idempotency-Key", "must be ASCII text"))?.to_owned()),
        None => None,
    };
    let key = match (header, request.idempotency_key.clone()) {
        (Some(header), Some(body)) if header != body => {
            return Err(Error::invalid("idempotency_key", "differs from the header Idempotency-Key").into());
        }
        (header, body) => header.or(body),
    };
    let Some(key) = key else { return Ok(None) };
    let same = ModelRequest { idempotency_key: None, request_id: None, ..request.clone() };
    let text = serde_json::to_vec(&same).map_err(Error::internal)?;
    Ok(Some((key, aiox_crypto::sha256(&text).to_vec())))
}

fn call(request: ModelRequest, request_id: String, idempotency: Option<(String, Vec<u8>)>) -> Result<NewCall> {
    let operation = Operation::parse(&request.operation).ok_or_else(|| Error::invalid("request.operation", "must be chat or embed"))?;
    let requirements = request.requirements.unwrap_or_default();
    let max_cost = match requirements.max_cost_usd {
        Some(usd) if !(usd.is_finite() && usd >= 0.0) => {
            return Err(Error::invalid("request.requirements.max_cost_usd", "must be a number of 0 or more").into());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from float saturates, and it is not negative")]
        Some(usd) => Some((usd * 1_000_000.0).floor() as u64),
        None => None,
    };
    Ok(NewCall {
        request_id,
        model_ref: request.model_ref,
        input: input(operation, request.input, request.generation.unwrap_or_default())?,
        max_latency_ms: requirements.max_latency_ms,
        max_cost,
        min_context_tokens: requirements.min_context_tokens,
        stream: false,
        idempotency,
    })
}

fn input(operation: Operation, input: ModelInput, generation: ModelGeneration) -> Result<Input> {
    let foreign = |there: bool, name: &str| match there {
        true => Err(Error::invalid(format!("request.input.{name}"), format!("does not belong to the operation {}", operation.as_str()))),
        false => Ok(()),
    };
    if operation == Operation::Embed {
        foreign(!input.messages.is_empty(), "messages")?;
        foreign(!input.tools.is_empty(), "tools")?;
        if input.texts.is_empty() {
            return Err(Error::invalid("request.input.texts", "must not be empty").into());
        }
        return Ok(Input::Embed { texts: input.texts, dimensions: None });
    }
    foreign(!input.texts.is_empty(), "texts")?;
    foreign(input.encoding_format.is_some(), "encoding_format")?;
    if input.messages.is_empty() {
        return Err(Error::invalid("request.input.messages", "must not be empty").into());
    }
    let tools: Vec<Tool> = input.tools.iter().map(tool).collect();
    let name_of = |id: &str| input.tools.iter().position(|tool| tool.tool_id == id).map(|at| tools[at].name.clone());
    let tool_choice = match input.tool_choice.as_deref() {
        None | Some("auto") => ToolChoice::Auto,
        Some("none") => ToolChoice::None,
        Some("required") => ToolChoice::Required,
        Some(other) => ToolChoice::Named(name_of(other).unwrap_or_else(|| other.to_owned())),
    };
    let messages = input.messages.into_iter().enumerate().map(|(index, message)| said(index, message, &name_of)).collect::<Result<_>>()?;
    let generation = Generation {
        temperature: generation.temperature,
        top_p: generation.top_p,
        max_output_tokens: generation.max_output_tokens,
        stop: Vec::new(),
    };
    Ok(Input::Chat { messages, tools, tool_choice, generation })
}

fn said(index: usize, message: ModelMessage, name_of: &impl Fn(&str) -> Option<String>) -> Result<Message> {
    let role = match message.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(Error::invalid(format!("request.input.messages[{index}].role"), "must be system, user, assistant or tool").into()),
    };
    let calls = message.tool_calls.into_iter().map(|call| ToolCall {
        id: call.tool_call_id,
        name: name_of(&call.tool_id).unwrap_or(call.tool_id),
        arguments: call.input.to_string(),
    });
    Ok(Message { role, content: message.content, name: message.name, tool_calls: calls.collect(), tool_call_id: message.tool_call_id })
}

fn tool(tool: &ModelTool) -> Tool {
    let from_id = || tool.tool_id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    Tool {
        name: tool.name.clone().unwrap_or_else(from_id),
        description: tool.description.clone().unwrap_or_default(),
        parameters: Value::Object(tool.input_schema.clone().unwrap_or_else(any_object)),
    }
}

/// The schema of any object.
pub(super) fn any_object() -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), Value::from("object")), ("properties".to_owned(), Value::Object(Map::new()))])
}

fn response(request_id: String, finished: Finished, tools: &[ModelTool], base64: bool) -> ModelResponse {
    let Finished { answer, route, policy, cost, latency_ms } = finished;
    let (input_tokens, output_tokens) = (answer.input_tokens, answer.output_tokens);
    let id_of = |name: &str| tools.iter().find(|one| tool(one).name == name).map_or_else(|| name.to_owned(), |one| one.tool_id.clone());
    let output = if answer.vectors.is_empty() {
        let calls = answer.tool_calls.into_iter().map(|call| ModelToolCall {
            tool_id: id_of(&call.name),
            tool_call_id: call.id,
            input: serde_json::from_str(&call.arguments).unwrap_or(Value::String(call.arguments)),
        });
        ModelOutput::Chat { message: ModelAnswer { role: "assistant".into(), content: answer.text }, tool_calls: calls.collect() }
    } else {
        let made = (0_u32..).zip(answer.vectors).map(|(index, values)| ModelEmbedding { index, vector: vector(values, base64) });
        ModelOutput::Embedding { embeddings: made.collect() }
    };
    ModelResponse {
        request_id,
        status: "ok".into(),
        output,
        usage: ModelUsage { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens },
        latency_ms,
        policy_outcome: outcome(policy, true),
        route: ModelRoute {
            backend: route.backend,
            model: route.model,
            node: route.node,
            fallback_used: route.fallback_used,
            tier: route.tier,
            reason: route.reason,
            cost_usd: cost.map(dollars),
        },
    }
}

/// Micro-dollars as dollars.
#[expect(clippy::cast_precision_loss, reason = "a call does not cost nine billion dollars")]
pub(super) fn dollars(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}

/// `parts`: whether there may be more than one text.
fn outcome(decided: Decided, parts: bool) -> PolicyOutcome {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let redaction = |one: Masked| Redaction {
        kind: one.kind,
        part: one.part.map(number).filter(|_| parts),
        start: number(one.start),
        end: number(one.end),
    };
    PolicyOutcome {
        decision: decided.decision,
        reasons: decided.reasons,
        redactions: decided.redactions.into_iter().map(redaction).collect(),
    }
}

/// A W3C trace context that is not all zero.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let hex = parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    lengths == [2, 32, 16, 2] && hex && parts[1].bytes().any(|byte| byte != b'0') && parts[2].bytes().any(|byte| byte != b'0')
}
