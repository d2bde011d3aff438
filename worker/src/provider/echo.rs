//! The built-in development provider.

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{Map, Value};

use super::{ChatRequest, EmbedRequest, Embedded, FinishReason, Provider, ProviderEvent, Role, ToolCall, ToolChoice, Usage};
use crate::failure::Failure;

/// Length of the vectors unless the request says another.
const DIMENSIONS: usize = 384;

/// Answers `echo: <message>` word by word and calls nobody, so that a hub without any key can be tried and tested. It does not
/// pretend to be a model: every answer starts with its name. Its tokens are words, of the whole prompt (system, history and
/// message) and of the answer.
///
/// - A longest answer cuts it after so many words, and a text that ends the answer cuts it before that text.
/// - If the request offers tools and the last message is the user's `call <tool> <JSON object>`, it asks for that call. If the
///   request demands a call, it asks for the demanded tool, or the first one, with an empty object.
/// - Its embeddings are the counts of words, hashed into the vector and normalised: equal texts have equal vectors, texts with common
///   words near ones. They know nothing of meaning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Provider for Echo {
    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ProviderEvent, Failure>> {
        let input_tokens = request.messages.iter().map(|message| words(&message.content)).sum::<u64>() + words(&request.system);
        let end = |output_tokens, reason| [ProviderEvent::Usage(Usage { input_tokens, output_tokens }), ProviderEvent::Done(reason)];
        let events: Vec<_> = match wanted_call(&request) {
            Some(call) => {
                let output_tokens = 1 + words(&call.arguments.to_string());
                [ProviderEvent::ToolCall(call)].into_iter().chain(end(output_tokens, FinishReason::ToolCalls)).collect()
            }
            None => {
                let (answer, reason) = answer(&request);
                let output_tokens = words(&answer);
                let deltas: Vec<_> = answer.split_inclusive(' ').map(|word| ProviderEvent::TextDelta(word.to_owned())).collect();
                deltas.into_iter().chain(end(output_tokens, reason)).collect()
            }
        };
        // A long answer must not keep its thread from the other tasks.
        stream::iter(events)
            .then(|event| async {
                tokio::task::yield_now().await;
                Ok(event)
            })
            .boxed()
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'static, Result<Embedded, Failure>> {
        async move {
            let length = request.dimensions.unwrap_or(DIMENSIONS);
            let input_tokens = request.texts.iter().map(|text| words(text)).sum();
            let mut vectors = Vec::with_capacity(request.texts.len());
            for text in &request.texts {
                vectors.push(vector(text, length));
                tokio::task::yield_now().await;
            }
            Ok(Embedded { vectors, input_tokens })
        }
        .boxed()
    }

    fn embeds(&self) -> bool {
        true
    }

    fn default_model(&self) -> Option<&str> {
        Some("echo")
    }
}

/// The answer, cut where the request says.
fn answer(request: &ChatRequest) -> (String, FinishReason) {
    let said = request.messages.last().map_or("", |message| message.content.as_str());
    let mut answer = format!("echo: {said}");
    let stop = request.stop.iter().filter(|text| !text.is_empty()).filter_map(|text| answer.find(text.as_str())).min();
    if let Some(at) = stop {
        answer.truncate(at);
    }
    if request.max_tokens == 0 {
        return (answer, FinishReason::Stop);
    }
    let mut left = request.max_tokens;
    let mut in_word = false;
    for (at, character) in answer.char_indices() {
        let begins = !character.is_whitespace() && !in_word;
        in_word = !character.is_whitespace();
        if begins {
            if left == 0 {
                let kept = answer[..at].trim_end().len();
                answer.truncate(kept);
                return (answer, FinishReason::Length);
            }
            left -= 1;
        }
    }
    (answer, FinishReason::Stop)
}

/// The call that the request wants, if it wants one.
fn wanted_call(request: &ChatRequest) -> Option<ToolCall> {
    let last = request.messages.last()?;
    let call = |name: &str, arguments: Value| ToolCall { id: format!("call_{}", request.messages.len()), name: name.to_owned(), arguments };
    if request.tools.is_empty() || request.tool_choice == ToolChoice::None || last.role != Role::User {
        return None;
    }
    if let Some((name, arguments)) = last.content.strip_prefix("call ").and_then(|rest| rest.split_once(' '))
        && request.tools.iter().any(|tool| tool.name == name)
        && let Ok(arguments @ Value::Object(_)) = serde_json::from_str(arguments)
    {
        return Some(call(name, arguments));
    }
    match &request.tool_choice {
        ToolChoice::Required => request.tools.first().map(|tool| call(&tool.name, Value::Object(Map::new()))),
        ToolChoice::Named(name) => Some(call(name, Value::Object(Map::new()))),
        ToolChoice::Auto | ToolChoice::None => None,
    }
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// Counts of words, hashed (64-bit FNV-1a) into `length` places with a sign, and normalised. A text without words points to the
/// first place.
fn vector(text: &str, length: usize) -> Vec<f32> {
    let mut counts = vec![0_f32; length];
    for word in text.to_lowercase().split_whitespace() {
        let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
        let place = usize::try_from(hash % (length.max(1) as u64)).unwrap_or(0);
        if let Some(count) = counts.get_mut(place) {
            *count += sign;
        }
    }
    let norm = counts.iter().map(|count| count * count).sum::<f32>().sqrt();
    if norm > 0.0 {
        counts.iter_mut().for_each(|count| *count /= norm);
    } else if let Some(first) = counts.first_mut() {
        *first = 1.0;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Message, Tool};

    fn request(messages: &[&str]) -> ChatRequest {
        ChatRequest {
            model: "echo".into(),
            system: "be brief".into(),
            messages: messages.iter().map(|text| Message::new(Role::User, *text)).collect(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            temperature: None,
            top_p: None,
            max_tokens: 10,
            stop: Vec::new(),
        }
    }

    #[derive(Default)]
    struct Said {
        text: String,
        deltas: usize,
        call: Option<ToolCall>,
        usage: Option<Usage>,
        done: Option<FinishReason>,
    }

    async fn ask(request: ChatRequest) -> Said {
        let mut said = Said::default();
        let mut events = Echo.chat(request);
        while let Some(Ok(event)) = events.next().await {
            match event {
                ProviderEvent::TextDelta(delta) => {
                    said.text.push_str(&delta);
                    said.deltas += 1;
                }
                ProviderEvent::ToolCall(call) => said.call = Some(call),
                ProviderEvent::Usage(found) => said.usage = Some(found),
                ProviderEvent::Done(reason) => said.done = Some(reason),
            }
        }
        said
    }

    #[tokio::test]
    async fn repeats_the_last_message_and_counts_words() {
        let said = ask(request(&["one", "two  three"])).await;
        assert_eq!(said.text, "echo: two  three");
        assert!(said.deltas > 2);
        assert_eq!(said.usage, Some(Usage { input_tokens: 5, output_tokens: 3 }));
        assert_eq!(said.done, Some(FinishReason::Stop));
    }

    #[tokio::test]
    async fn a_longest_answer_and_a_stop_text_cut_it() {
        let cut = |max_tokens, stop: &[&str]| ChatRequest {
            max_tokens,
            stop: stop.iter().map(|text| (*text).to_owned()).collect(),
            ..request(&["one two three"])
        };
        let said = ask(cut(2, &[])).await;
        assert_eq!((said.text.as_str(), said.done), ("echo: one", Some(FinishReason::Length)));
        let said = ask(cut(4, &[])).await;
        assert_eq!((said.text.as_str(), said.done), ("echo: one two three", Some(FinishReason::Stop)));
        let said = ask(cut(0, &["three", "two"])).await;
        assert_eq!((said.text.as_str(), said.done), ("echo: one ", Some(FinishReason::Stop)));
    }

    #[tokio::test]
    async fn a_tool_is_called_when_the_message_says_so_or_the_request_demands_it() {
        let tool = |name: &str| Tool { name: name.into(), description: String::new(), parameters: Value::Null };
        let with = |message: &str, choice: ToolChoice| ChatRequest {
            tools: vec![tool("clock"), tool("add")],
            tool_choice: choice,
            ..request(&[message])
        };
        let called = ask(with(r#"call add {"a":1}"#, ToolChoice::Auto)).await;
        let call = called.call.unwrap();
        assert_eq!((call.name.as_str(), call.arguments["a"].as_u64()), ("add", Some(1)));
        assert_eq!((called.done, called.text.as_str()), (Some(FinishReason::ToolCalls), ""));
        for message in ["call add", "call add [1]", "call add {", "call sub {}", "please call add {}"] {
            assert!(ask(with(message, ToolChoice::Auto)).await.call.is_none(), "{message}");
        }
        assert!(ask(with("call add {}", ToolChoice::None)).await.call.is_none());
        assert_eq!(ask(with("hello", ToolChoice::Required)).await.call.unwrap().name, "clock");
        assert_eq!(ask(with("hello", ToolChoice::Named("add".into()))).await.call.unwrap().name, "add");
        let mut answered = with("call add {}", ToolChoice::Required);
        answered.messages.push(Message { role: Role::Tool, ..Message::new(Role::Tool, "7") });
        assert_eq!(ask(answered).await.text, "echo: 7");
    }

    #[tokio::test]
    async fn embeddings_are_normalised_and_near_when_texts_share_words() {
        let texts = ["the cat sat", "the cat sat", "the cat ran", "entirely different words", ""].map(str::to_owned).to_vec();
        let made = Echo.embed(EmbedRequest { model: "echo".into(), texts, dimensions: None }).await.unwrap();
        let near = |a: usize, b: usize| made.vectors[a].iter().zip(&made.vectors[b]).map(|(a, b)| a * b).sum::<f32>();
        assert_eq!(made.vectors[0], made.vectors[1]);
        assert!((near(0, 0) - 1.0).abs() < 1e-5 && (near(4, 4) - 1.0).abs() < 1e-5);
        assert!(near(0, 2) > near(0, 3));
        assert_eq!(made.input_tokens, 12);
        assert!(made.vectors.iter().all(|vector| vector.len() == DIMENSIONS));
        let short = Echo.embed(EmbedRequest { model: "echo".into(), texts: vec!["a".into()], dimensions: Some(3) }).await.unwrap();
        assert_eq!(short.vectors[0].len(), 3);
    }
}
