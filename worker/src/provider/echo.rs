//! The built-in development provider.

use futures::stream::{self, BoxStream, StreamExt};

use super::{ChatRequest, FinishReason, Provider, ProviderEvent, Usage};
use crate::failure::Failure;

/// Answers `echo: <message>` word by word and calls nobody, so that a hub without any key can be
/// tried and tested. It does not pretend to be a model: every answer starts with its name. Its
/// tokens are words, of the whole prompt (system, history and message) and of the answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Provider for Echo {
    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ProviderEvent, Failure>> {
        let said = request.messages.last().map_or("", |message| message.content.as_str());
        let answer = format!("echo: {said}");
        let usage = Usage {
            input_tokens: request.messages.iter().map(|message| words(&message.content)).sum::<u64>() + words(&request.system),
            output_tokens: words(&answer),
        };
        let deltas: Vec<_> = answer
            .split_inclusive(' ')
            .map(|word| ProviderEvent::TextDelta(word.to_owned()))
            .chain([ProviderEvent::Usage(usage), ProviderEvent::Done(FinishReason::Stop)])
            .map(Ok)
            .collect();
        // A long answer must not keep its thread from the other tasks.
        stream::iter(deltas)
            .then(|event| async {
                tokio::task::yield_now().await;
                event
            })
            .boxed()
    }

    fn default_model(&self) -> Option<&str> {
        Some("echo")
    }
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Message, Role};

    #[tokio::test]
    async fn repeats_the_last_message_and_counts_words() {
        let request = ChatRequest {
            model: "echo".into(),
            system: "be brief".into(),
            messages: vec![Message { role: Role::User, content: "one".into() }, Message { role: Role::User, content: "two  three".into() }],
            tools: Vec::new(),
            temperature: None,
            max_tokens: 10,
        };
        let mut text = String::new();
        let mut deltas = 0;
        let mut usage = None;
        let mut done = None;
        let mut events = Echo.chat(request);
        while let Some(Ok(event)) = events.next().await {
            match event {
                ProviderEvent::TextDelta(delta) => {
                    text.push_str(&delta);
                    deltas += 1;
                }
                ProviderEvent::Usage(found) => usage = Some(found),
                ProviderEvent::Done(reason) => done = Some(reason),
                ProviderEvent::ToolCall(_) => {}
            }
        }
        assert_eq!(text, "echo: two  three");
        assert!(deltas > 1);
        assert_eq!(usage, Some(Usage { input_tokens: 5, output_tokens: 3 }));
        assert_eq!(done, Some(FinishReason::Stop));
    }
}
