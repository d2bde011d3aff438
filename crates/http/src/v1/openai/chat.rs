//! Chat completions.

use std::sync::Arc;

use aiox_app::{
    AgentRef,
    gateway::{
        Answering, NewCall, Step,
        call::{Generation, Input, ToolCall},
    },
};
use aiox_core::{Caller, Error};
use aiox_model::{
    RunId,
    v1::openai::{ChatAnswer, ChatCompletion, ChatDelta, ChatRequest, Choice, ErrorBody, FunctionCall, ToolCall as WireCall, Usage},
};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response, sse::Event},
};
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue};

use super::{RUN, Target, agent, ask, judged, routed, target};
use crate::{
    auth::Signed,
    bound::{Place, Streams},
    documented::{OpenAiConflicting, OpenAiGated, OpenAiInvalid, OpenAiNotFound, OpenAiSized},
    error::{Failure, Result},
    frames,
    read::Body,
    shape,
    state::App,
};

/// Create a chat completion
///
/// With `stream`, the answer is `data:` lines of chunks, then `data: [DONE]`. Which model answered, what the content policy decided and
/// what the call cost is in the headers `x-aiox-route`, `x-aiox-fallback`, `x-aiox-policy` and `x-aiox-cost-usd`; an agent's run is in
/// `x-aiox-run-id`. A parameter that has no effect is 400 with its name in `param`.
#[utoipa::path(
    post,
    path = "/openai/v1/chat/completions",
    tag = "openai",
    operation_id = "openai_create_chat_completion",
    security(("bearer" = ["models:invoke"]), ("api_key" = ["models:invoke"])),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer.", content((ChatCompletion = "application/json"), (String = "text/event-stream"))),
        OpenAiGated, OpenAiInvalid, OpenAiNotFound, OpenAiSized, OpenAiConflicting
    )
)]
pub(super) async fn create(
    state: State<App>,
    streams: Extension<Arc<Streams>>,
    signed: Signed,
    headers: HeaderMap,
    body: Body<ChatRequest>,
) -> Result<Response> {
    complete(state, streams, signed, headers, body).await
}

/// Create a chat completion (alias)
///
/// The same as `POST /openai/v1/chat/completions`.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "openai",
    operation_id = "create_chat_completion",
    security(("bearer" = ["models:invoke"]), ("api_key" = ["models:invoke"])),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer.", content((ChatCompletion = "application/json"), (String = "text/event-stream"))),
        OpenAiGated, OpenAiInvalid, OpenAiNotFound, OpenAiSized, OpenAiConflicting
    )
)]
pub(super) async fn create_alias(
    state: State<App>,
    streams: Extension<Arc<Streams>>,
    signed: Signed,
    headers: HeaderMap,
    body: Body<ChatRequest>,
) -> Result<Response> {
    complete(state, streams, signed, headers, body).await
}

async fn complete(
    State(app): State<App>,
    Extension(streams): Extension<Arc<Streams>>,
    Signed(caller): Signed,
    headers: HeaderMap,
    Body(request): Body<ChatRequest>,
) -> Result<Response> {
    let stream = request.stream.unwrap_or(false);
    let usage = request.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false);
    if request.stream_options.is_some() && !stream {
        return Err(Error::invalid("stream_options", "only with stream").into());
    }
    let place = if stream { Some(streams.enter(&caller)?) } else { None };
    match target(&app, &caller, &request.model).await? {
        Target::Agent(agent) => of_agent(app, caller, agent, request, &headers, place, usage).await,
        Target::Model => {
            let (made, id) = (app.gateway.now().seconds(), app.gateway.request_id());
            let answering = app.gateway.invoke(&caller, call(request, &id)?).await?;
            let template = Template { id: id.replace("req_", "chatcmpl-"), created: made, model: answering.route.model.clone() };
            let (route, policy) = (answering.route.clone(), answering.policy.clone());
            let (mut response, cost) = match place {
                Some(place) => (frames::respond(chunks(template, answering, usage, place)), None),
                None => {
                    let finished = answering.finish().await?;
                    let used = (finished.answer.input_tokens, finished.answer.output_tokens);
                    let whole = template.whole(finished.answer.text, finished.answer.tool_calls, &finished.answer.finish_reason, used);
                    (Json(whole).into_response(), finished.cost)
                }
            };
            routed(&mut response, &route, &policy, cost);
            Ok(response)
        }
    }
}

fn call(request: ChatRequest, id: &str) -> Result<NewCall> {
    ask::only_known(&request.other, &ask::neutral_in_chat())?;
    let max_output_tokens = match (request.max_completion_tokens, request.max_tokens) {
        (Some(new), Some(old)) if new != old => {
            return Err(Error::invalid("max_tokens", "differs from max_completion_tokens").into());
        }
        (new, old) => new.or(old),
    };
    let generation =
        Generation { temperature: request.temperature, top_p: request.top_p, max_output_tokens, stop: ask::stop(request.stop) };
    let input = Input::Chat {
        messages: ask::messages(request.messages)?,
        tools: ask::tools(request.tools.unwrap_or_default())?,
        tool_choice: ask::tool_choice(request.tool_choice.as_ref())?,
        generation,
    };
    Ok(NewCall {
        request_id: id.to_owned(),
        model_ref: request.model,
        input,
        max_latency_ms: None,
        max_cost: None,
        min_context_tokens: None,
        stream: request.stream.unwrap_or(false),
        idempotency: None,
    })
}

async fn of_agent(
    app: App,
    caller: Caller,
    agent: AgentRef,
    request: ChatRequest,
    headers: &HeaderMap,
    place: Option<Place>,
    usage: bool,
) -> Result<Response> {
    ask::only_known(&request.other, &ask::neutral_in_chat())?;
    ask::not_for_agents(&[
        ("temperature", request.temperature.is_some()),
        ("top_p", request.top_p.is_some()),
        ("max_tokens", request.max_tokens.is_some()),
        ("max_completion_tokens", request.max_completion_tokens.is_some()),
        ("stop", request.stop.is_some()),
        ("tools", request.tools.as_ref().is_some_and(|tools| !tools.is_empty())),
        ("tool_choice", request.tool_choice.as_ref().is_some_and(|choice| !choice.is_null())),
    ])?;
    let text = ask::turn(&ask::messages(request.messages)?)?;
    let (run, policy) = agent::submit(&app, &caller, (&request.model, agent), &text, None, headers).await?;
    let template = Template { id: format!("chatcmpl-{}", run.id.simple()), created: run.created_at.seconds(), model: request.model };
    let mut response = match place {
        Some(place) => frames::respond(run_chunks(app, caller, RunId(run.id), template, usage, place)),
        None => {
            let ended = agent::answer(&app, &run).await?;
            let used = (ended.input_tokens, ended.output_tokens);
            Json(template.whole(ended.output.unwrap_or_default(), Vec::new(), "stop", used)).into_response()
        }
    };
    if let Ok(id) = HeaderValue::try_from(run.id.to_string()) {
        response.headers_mut().insert(RUN, id);
    }
    judged(&mut response, &policy);
    Ok(response)
}

/// What every piece of one completion has in common.
struct Template {
    id: String,
    created: i64,
    model: String,
}

impl Template {
    fn of(&self, object: &str, choices: Vec<Choice>, usage: Option<Usage>) -> ChatCompletion {
        ChatCompletion { id: self.id.clone(), object: object.to_owned(), created: self.created, model: self.model.clone(), choices, usage }
    }

    fn whole(&self, text: String, calls: Vec<ToolCall>, finish: &str, used: (u64, u64)) -> ChatCompletion {
        let calls = wire(calls, false);
        let content = (!text.is_empty() || calls.is_none()).then_some(text);
        let message = ChatAnswer { role: "assistant".into(), content, refusal: None, tool_calls: calls };
        let choice = Choice { index: 0, message: Some(message), delta: None, logprobs: None, finish_reason: Some(finish.to_owned()) };
        self.of("chat.completion", vec![choice], Some(usage_of(used)))
    }

    fn chunk(&self, delta: ChatDelta, finish: Option<&str>) -> Event {
        let choice = Choice { index: 0, message: None, delta: Some(delta), logprobs: None, finish_reason: finish.map(str::to_owned) };
        data(&self.of("chat.completion.chunk", vec![choice], None))
    }

    fn opening(&self) -> Event {
        self.chunk(ChatDelta { role: Some("assistant".into()), content: Some(String::new()), tool_calls: None }, None)
    }

    fn text(&self, text: String) -> Event {
        self.chunk(ChatDelta { content: Some(text), ..ChatDelta::default() }, None)
    }

    fn usage(&self, used: (u64, u64)) -> Event {
        data(&self.of("chat.completion.chunk", Vec::new(), Some(usage_of(used))))
    }
}

fn usage_of((input, output): (u64, u64)) -> Usage {
    Usage { prompt_tokens: input, completion_tokens: Some(output), total_tokens: input + output }
}

fn wire(calls: Vec<ToolCall>, numbered: bool) -> Option<Vec<WireCall>> {
    let one = |(index, call): (u32, ToolCall)| WireCall {
        index: numbered.then_some(index),
        id: call.id,
        kind: "function".into(),
        function: FunctionCall { name: call.name, arguments: call.arguments },
    };
    (!calls.is_empty()).then(|| (0..).zip(calls).map(one).collect())
}

/// An unnamed event, as OpenAI's streams have them.
pub(super) fn data(value: &impl serde::Serialize) -> Event {
    Event::default().data(frames::ascii(value))
}

fn done() -> Event {
    Event::default().data("[DONE]")
}

/// An error in the middle of a stream; nothing follows.
fn broken(failure: &Failure) -> Event {
    data(&error_body(failure))
}

pub(super) fn error_body(failure: &Failure) -> ErrorBody {
    shape::openai_body(failure.shown())
}

fn chunks(template: Template, mut answering: Answering, usage: bool, place: Place) -> impl Stream<Item = Event> + Send + 'static {
    async_stream::stream! {
        let _place = place;
        yield template.opening();
        while let Some(step) = answering.next().await {
            match step {
                Step::Delta(text) => yield template.text(text),
                Step::End(end) => match *end {
                    Ok(finished) => {
                        let answer = finished.answer;
                        let used = (answer.input_tokens, answer.output_tokens);
                        if let Some(calls) = wire(answer.tool_calls, true) {
                            yield template.chunk(ChatDelta { tool_calls: Some(calls), ..ChatDelta::default() }, None);
                        }
                        yield template.chunk(ChatDelta::default(), Some(&answer.finish_reason));
                        if usage {
                            yield template.usage(used);
                        }
                        yield done();
                    }
                    Err(failure) => yield broken(&failure.into()),
                },
            }
        }
    }
}

fn run_chunks(
    app: App,
    caller: Caller,
    run: RunId,
    template: Template,
    usage: bool,
    place: Place,
) -> impl Stream<Item = Event> + Send + 'static {
    async_stream::stream! {
        let _place = place;
        yield template.opening();
        let mut steps = std::pin::pin!(agent::progress(app, caller, run));
        while let Some(step) = steps.next().await {
            match step {
                agent::Step::Delta(text) => yield template.text(text),
                agent::Step::End(Ok(run)) => {
                    yield template.chunk(ChatDelta::default(), Some("stop"));
                    if usage {
                        yield template.usage((run.input_tokens, run.output_tokens));
                    }
                    yield done();
                }
                agent::Step::End(Err(failure)) => yield broken(&failure),
            }
        }
    }
}
