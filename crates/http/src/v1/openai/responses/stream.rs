//! A response as events.

use aiox_app::gateway::{Answering, Step, call::ToolCall};
use aiox_model::RunId;
use axum::response::sse::Event;
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};

use super::Draft;
use crate::{
    bound::Place,
    error::Failure,
    frames,
    v1::openai::{agent, chat},
};

/// Numbers the events.
#[derive(Default)]
struct Numbers(u64);
impl Numbers {
    fn event(&mut self, kind: &str, mut members: Value) -> Event {
        members["type"] = json!(kind);
        members["sequence_number"] = json!(self.0);
        self.0 += 1;
        frames::plain(kind, &members)
    }
}

/// The text of the answer while it grows.
struct Growing {
    item: String,
    text: String,
    open: bool,
}

impl Growing {
    fn new(draft: &Draft) -> Self {
        Self { item: draft.part("msg", 0), text: String::new(), open: false }
    }

    fn begin(&mut self, numbers: &mut Numbers) -> Vec<Event> {
        if self.open {
            return Vec::new();
        }
        self.open = true;
        let item = json!({ "id": self.item, "type": "message", "status": "in_progress", "role": "assistant", "content": [] });
        let part = json!({ "type": "output_text", "text": "", "annotations": [] });
        vec![
            numbers.event("response.output_item.added", json!({ "output_index": 0, "item": item })),
            numbers
                .event("response.content_part.added", json!({ "item_id": self.item, "output_index": 0, "content_index": 0, "part": part })),
        ]
    }

    fn delta(&mut self, numbers: &mut Numbers, text: &str) -> Vec<Event> {
        let mut events = self.begin(numbers);
        self.text.push_str(text);
        let members = json!({ "item_id": self.item, "output_index": 0, "content_index": 0, "delta": text, "logprobs": [] });
        events.push(numbers.event("response.output_text.delta", members));
        events
    }

    /// The end of the text, then the calls.
    fn end(&mut self, numbers: &mut Numbers, draft: &Draft, calls: &[ToolCall], status: &str) -> Vec<Event> {
        let mut events = if calls.is_empty() { self.begin(numbers) } else { Vec::new() };
        if self.open {
            let part = json!({ "type": "output_text", "text": self.text, "annotations": [] });
            let at = |name: &str, value: Value| {
                let mut members = json!({ "item_id": self.item, "output_index": 0, "content_index": 0 });
                members[name] = value;
                members
            };
            let mut said = at("text", json!(self.text));
            said["logprobs"] = json!([]);
            events.push(numbers.event("response.output_text.done", said));
            events.push(numbers.event("response.content_part.done", at("part", part)));
            let item = draft.message(&self.text, status);
            events.push(numbers.event("response.output_item.done", json!({ "output_index": 0, "item": item })));
        }
        for (number, call) in calls.iter().enumerate() {
            let index = number + usize::from(self.open);
            let (id, item) = (draft.part("fc", number), draft.call(number, call));
            let mut begun = json!(item);
            begun["arguments"] = json!("");
            begun["status"] = json!("in_progress");
            events.push(numbers.event("response.output_item.added", json!({ "output_index": index, "item": begun })));
            let members = json!({ "item_id": id, "output_index": index, "delta": call.arguments });
            events.push(numbers.event("response.function_call_arguments.delta", members));
            let members = json!({ "item_id": id, "output_index": index, "name": call.name, "arguments": call.arguments });
            events.push(numbers.event("response.function_call_arguments.done", members));
            events.push(numbers.event("response.output_item.done", json!({ "output_index": index, "item": item })));
        }
        events
    }
}

fn opening(numbers: &mut Numbers, draft: &Draft) -> [Event; 2] {
    ["response.created", "response.in_progress"].map(|kind| numbers.event(kind, json!({ "response": draft.body })))
}

fn failed(numbers: &mut Numbers, draft: &Draft, failure: &Failure) -> Event {
    let error = chat::error_body(failure).error;
    let error = aiox_model::v1::openai::ResponseError { code: error.code.unwrap_or_default(), message: error.message };
    let mut body = draft.body.clone();
    (body.status, body.error) = ("failed".into(), Some(error));
    numbers.event("response.failed", json!({ "response": body }))
}

/// The last events: the parts are complete, the response is kept, the response is complete.
async fn ending(
    numbers: &mut Numbers,
    draft: &mut Draft,
    growing: &mut Growing,
    calls: Vec<ToolCall>,
    finish: &str,
    used: (u64, u64),
) -> Vec<Event> {
    let status = if matches!(finish, "length" | "content_filter") { "incomplete" } else { "completed" };
    let mut events = growing.end(numbers, draft, &calls, status);
    events.push(match draft.finish(growing.text.clone(), calls, finish, used).await {
        Ok(()) => numbers.event(&format!("response.{status}"), json!({ "response": draft.body })),
        Err(failure) => failed(numbers, draft, &failure),
    });
    events
}

pub(super) fn of_model(mut draft: Draft, mut answering: Answering, place: Place) -> impl Stream<Item = Event> + Send + 'static {
    async_stream::stream! {
        let _place = place;
        let (mut numbers, mut growing) = (Numbers::default(), Growing::new(&draft));
        for event in opening(&mut numbers, &draft) {
            yield event;
        }
        while let Some(step) = answering.next().await {
            let events = match step {
                Step::Delta(text) => growing.delta(&mut numbers, &text),
                Step::End(end) => match *end {
                    Ok(finished) => {
                        let answer = finished.answer;
                        let used = (answer.input_tokens, answer.output_tokens);
                        ending(&mut numbers, &mut draft, &mut growing, answer.tool_calls, &answer.finish_reason, used).await
                    }
                    Err(failure) => vec![failed(&mut numbers, &draft, &failure.into())],
                },
            };
            for event in events {
                yield event;
            }
        }
    }
}

pub(super) fn of_agent(mut draft: Draft, run: RunId, place: Place) -> impl Stream<Item = Event> + Send + 'static {
    async_stream::stream! {
        let _place = place;
        let (mut numbers, mut growing) = (Numbers::default(), Growing::new(&draft));
        for event in opening(&mut numbers, &draft) {
            yield event;
        }
        let mut steps = std::pin::pin!(agent::progress(draft.app.clone(), draft.caller.clone(), run));
        while let Some(step) = steps.next().await {
            let events = match step {
                agent::Step::Delta(text) => growing.delta(&mut numbers, &text),
                agent::Step::End(Ok(run)) => {
                    let used = (run.input_tokens, run.output_tokens);
                    ending(&mut numbers, &mut draft, &mut growing, Vec::new(), "stop", used).await
                }
                agent::Step::End(Err(failure)) => vec![failed(&mut numbers, &draft, &failure)],
            };
            for event in events {
                yield event;
            }
        }
    }
}
