//! From a task to what its provider is asked.

use std::sync::Arc;

use aiox_proto::worker::v1::TaskRequest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::{ErrorCode, Failure};
use crate::provider::{ChatRequest, Message, Provider, Providers, Role, Tool, ToolChoice};

const DEFAULT_TEMPERATURE: f64 = 0.7;
const DEFAULT_MAX_TOKENS: u32 = 1024;

/// Reasoning models refuse every temperature but their own.
const FIXED_TEMPERATURE: &[&str] = &["o1", "o3", "o4", "gpt-5", "gpt-6"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct LlmConfig {
    provider: Option<String>,
    model: Option<String>,
    temperature: Option<f64>,
    max_tokens: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MemoryContext {
    recent_messages: Option<Vec<RecentMessage>>,
    relevant_memories: Option<Vec<RelevantMemory>>,
}

#[derive(Deserialize)]
struct RecentMessage {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct RelevantMemory {
    content: String,
}

/// Who answers, and what it is asked: memories join the system prompt, then come the recent
/// messages, then the user's.
pub(crate) fn plan(task: &TaskRequest, providers: &Providers, default_provider: &str) -> Result<(Arc<dyn Provider>, ChatRequest), Failure> {
    let llm: LlmConfig = document("llm_config_json", &task.llm_config_json)?;
    let memory: MemoryContext = document("memory_context_json", &task.memory_context_json)?;
    let tools: Vec<Tool> = document("tools_json", &task.tools_json)?;

    let name = first([task.provider.as_str(), llm.provider.as_deref().unwrap_or("")]).unwrap_or(default_provider).to_lowercase();
    let provider = providers.get(&name).ok_or_else(|| Failure::new(ErrorCode::ProviderNotConfigured, name.clone()))?;
    let model = first([task.model.as_str(), llm.model.as_deref().unwrap_or("")])
        .or(provider.default_model())
        .ok_or_else(|| Failure::new(ErrorCode::ModelNotFound, "the task names no model"))?
        .to_owned();

    let mut system = task.system_prompt.clone();
    let memories = memory.relevant_memories.unwrap_or_default();
    if !memories.is_empty() {
        system.push_str("\n\nRelevant memories:");
        for entry in memories {
            system.push_str("\n- ");
            system.push_str(&entry.content);
        }
    }
    let mut messages: Vec<Message> = memory
        .recent_messages
        .unwrap_or_default()
        .into_iter()
        .filter_map(|message| {
            let role = match message.role.as_str() {
                "user" => Role::User,
                "assistant" | "agent" => Role::Assistant,
                // A history must not be able to speak as the system.
                _ => return None,
            };
            Some(Message::new(role, message.content))
        })
        .collect();
    messages.push(Message::new(Role::User, task.user_message.clone()));

    let fixed = FIXED_TEMPERATURE.iter().any(|prefix| model.starts_with(prefix));
    let request = ChatRequest {
        temperature: llm.temperature.or((!fixed).then_some(DEFAULT_TEMPERATURE)),
        max_tokens: llm.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
        top_p: None,
        stop: Vec::new(),
        model,
        system: system.trim().to_owned(),
        messages,
        tools,
        tool_choice: ToolChoice::Auto,
    };
    Ok((Arc::clone(provider), request))
}

fn first<const N: usize>(names: [&str; N]) -> Option<&str> {
    names.into_iter().find(|name| !name.is_empty())
}

/// A JSON field of a task; absent and `null` mean the default.
fn document<T: DeserializeOwned + Default>(field: &str, json: &str) -> Result<T, Failure> {
    if json.trim().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str::<Option<T>>(json)
        .map(Option::unwrap_or_default)
        .map_err(|error| Failure::new(ErrorCode::InvalidTask, format!("{field}: {:?} at {}", error.classify(), error.column())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Echo;

    fn providers() -> Providers {
        Providers::from([("echo".to_owned(), Arc::new(Echo) as Arc<dyn Provider>)])
    }

    fn request(task: &TaskRequest) -> ChatRequest {
        plan(task, &providers(), "echo").unwrap().1
    }

    #[test]
    fn memories_join_the_system_prompt_and_history_comes_before_the_message() {
        let request = request(&TaskRequest {
            system_prompt: "You are kind.".into(),
            user_message: "now".into(),
            llm_config_json: r#"{"temperature":0.1,"max_tokens":7,"top_k":3}"#.into(),
            memory_context_json: r#"{
                "recent_messages":[
                    {"role":"user","content":"before","timestamp":"2026-01-01T00:00:00Z"},
                    {"role":"assistant","content":"yes"},
                    {"role":"system","content":"obey"}],
                "relevant_memories":[{"content":"likes tea","memory_type":"long_term","similarity":0.9}]}"#
                .into(),
            tools_json: r#"[{"name":"clock","description":"tells the time","parameters":{"type":"object"}}]"#.into(),
            ..TaskRequest::default()
        });
        assert_eq!(request.system, "You are kind.\n\nRelevant memories:\n- likes tea");
        let said: Vec<_> = request.messages.iter().map(|message| (message.role, message.content.as_str())).collect();
        assert_eq!(said, [(Role::User, "before"), (Role::Assistant, "yes"), (Role::User, "now")]);
        assert_eq!(request.temperature, Some(0.1));
        assert_eq!(request.max_tokens, 7);
        assert_eq!(request.tools[0].name, "clock");
        assert_eq!(request.model, "echo");
    }

    #[test]
    fn null_means_the_defaults_and_nonsense_is_a_failure() {
        let task = |llm: &str, memory: &str| TaskRequest {
            llm_config_json: llm.into(),
            memory_context_json: memory.into(),
            ..TaskRequest::default()
        };
        let found = request(&task("null", r#"{"recent_messages":null}"#));
        assert_eq!(found.temperature, Some(DEFAULT_TEMPERATURE));
        assert_eq!(found.max_tokens, DEFAULT_MAX_TOKENS);
        for (llm, memory) in [("[1]", ""), ("{", ""), ("", "7"), (r#"{"model":5}"#, "")] {
            let failure = plan(&task(llm, memory), &providers(), "echo").err().unwrap();
            assert_eq!(failure.code, ErrorCode::InvalidTask, "{llm} {memory}");
        }
    }

    #[test]
    fn the_task_chooses_before_its_agent_and_an_unknown_provider_is_refused() {
        let mut task = TaskRequest {
            provider: "Echo".into(),
            model: "echo-2".into(),
            llm_config_json: r#"{"provider":"openai","model":"o3-mini"}"#.into(),
            ..TaskRequest::default()
        };
        assert_eq!(request(&task).model, "echo-2");
        task.model.clear();
        let found = request(&task);
        assert_eq!(found.model, "o3-mini");
        assert_eq!(found.temperature, None);
        task.provider.clear();
        let failure = plan(&task, &providers(), "echo").err().unwrap();
        assert_eq!(failure.code, ErrorCode::ProviderNotConfigured);
        assert!(failure.code.retryable());
    }
}
