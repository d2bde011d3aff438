//! What a call asks for: is it sound, and how much is it.

use aiox_core::{Error, Result, gateway::estimate};

use super::{
    MAX_DIMENSIONS, MAX_MESSAGES, MAX_TEXTS, MAX_TOOLS, NewCall,
    call::{self, Input},
};

/// Upper estimate of the tokens of everything that a model would read.
pub(super) fn tokens_of(input: &Input) -> u64 {
    match input {
        Input::Chat { messages, tools, .. } => {
            let said = estimate(messages.iter().map(|message| message.content.as_str()));
            let calls = estimate(messages.iter().flat_map(|message| &message.tool_calls).map(|call| call.arguments.as_str()));
            let schemas: Vec<String> = tools.iter().map(|tool| format!("{} {} {}", tool.name, tool.description, tool.parameters)).collect();
            said + calls + estimate(schemas.iter().map(String::as_str))
        }
        Input::Embed { texts, .. } => estimate(texts.iter().map(String::as_str)),
    }
}

/// Refuses what no model could answer.
///
/// # Errors
/// [`Error::Invalid`] naming the member.
pub(super) fn check_input(call: &NewCall) -> Result<()> {
    let within = |number: Option<f64>, range: std::ops::RangeInclusive<f64>, name: &str| match number {
        Some(number) if !range.contains(&number) => Err(Error::invalid(name, format!("must be from {} to {}", range.start(), range.end()))),
        _ => Ok(()),
    };
    if call.request_id.is_empty() || call.request_id.len() > 256 {
        return Err(Error::invalid("request_id", "must have 1 to 256 bytes"));
    }
    if call.idempotency.as_ref().is_some_and(|(key, _)| key.is_empty() || key.len() > 256) {
        return Err(Error::invalid("idempotency_key", "must have 1 to 256 bytes"));
    }
    match &call.input {
        Input::Chat { messages, tools, tool_choice, generation } => {
            if messages.is_empty() || messages.len() > MAX_MESSAGES {
                return Err(Error::invalid("messages", format!("must have 1 to {MAX_MESSAGES} entries")));
            }
            for (index, message) in messages.iter().enumerate() {
                let calls = &message.tool_calls;
                if calls.iter().any(|call| serde_json::from_str::<serde_json::Value>(&call.arguments).is_err()) {
                    return Err(Error::invalid(format!("messages[{index}].tool_calls"), "arguments must be JSON"));
                }
                if message.role == call::Role::Tool && message.tool_call_id.as_ref().is_none_or(String::is_empty) {
                    return Err(Error::invalid(format!("messages[{index}].tool_call_id"), "is required for a tool's result"));
                }
            }
            if tools.len() > MAX_TOOLS {
                return Err(Error::invalid("tools", format!("must have at most {MAX_TOOLS} entries")));
            }
            let legal = |name: &str| {
                (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            };
            for (index, tool) in tools.iter().enumerate() {
                if !legal(&tool.name) {
                    return Err(Error::invalid(format!("tools[{index}].name"), "must have 1 to 64 of A-Z a-z 0-9 _ -"));
                }
                if !tool.parameters.is_object() {
                    return Err(Error::invalid(format!("tools[{index}].parameters"), "must be an object"));
                }
                if tools[..index].iter().any(|other| other.name == tool.name) {
                    return Err(Error::invalid(format!("tools[{index}].name"), "is used twice"));
                }
            }
            match tool_choice {
                call::ToolChoice::Required if tools.is_empty() => return Err(Error::invalid("tool_choice", "needs tools")),
                call::ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
                    return Err(Error::invalid("tool_choice", "names no tool of this request"));
                }
                _ => {}
            }
            within(generation.temperature, 0.0..=2.0, "temperature")?;
            within(generation.top_p, 0.0..=1.0, "top_p")?;
            if generation.max_output_tokens.is_some_and(|most| !(1..=1_000_000).contains(&most)) {
                return Err(Error::invalid("max_output_tokens", "must be from 1 to 1000000"));
            }
            if generation.stop.len() > 4 || generation.stop.iter().any(|text| text.is_empty() || text.len() > 256) {
                return Err(Error::invalid("stop", "must be at most 4 texts of 1 to 256 bytes"));
            }
        }
        Input::Embed { texts, dimensions } => {
            if texts.is_empty() || texts.len() > MAX_TEXTS {
                return Err(Error::invalid("input", format!("must have 1 to {MAX_TEXTS} texts")));
            }
            if texts.iter().any(|text| text.trim().is_empty()) {
                return Err(Error::invalid("input", "a text must not be empty"));
            }
            if dimensions.is_some_and(|length| !(1..=MAX_DIMENSIONS).contains(&length)) {
                return Err(Error::invalid("dimensions", format!("must be from 1 to {MAX_DIMENSIONS}")));
            }
        }
    }
    Ok(())
}
