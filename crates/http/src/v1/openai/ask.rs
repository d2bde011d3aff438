//! From OpenAI's requests to calls of models.

use aiox_app::gateway::call::{Message, Role, Tool, ToolCall, ToolChoice};
use aiox_core::Error;
use aiox_model::v1::openai::{ChatMessage, Content, Function, OneOrMany, Tool as WireTool};
use serde_json::{Map, Value, json};

use super::super::gateway::any_object;
use crate::error::Result;

/// Refuses every member that has no effect here. `neutral` lists those whose given value means the same as their absence.
pub(super) fn only_known(other: &Map<String, Value>, neutral: &[(&str, Value)]) -> Result<()> {
    for (name, value) in other {
        let harmless = value.is_null() || neutral.iter().any(|(known, same)| known == name && same == value);
        if !harmless {
            let message = match neutral.iter().find(|(known, _)| known == name) {
                Some((_, same)) => format!("only {same} is served"),
                None => "is not served here".to_owned(),
            };
            return Err(Error::invalid(name.clone(), message).into());
        }
    }
    Ok(())
}

/// Members of a chat that may be there if they change nothing.
pub(super) fn neutral_in_chat() -> Vec<(&'static str, Value)> {
    vec![
        ("n", json!(1)),
        ("frequency_penalty", json!(0)),
        ("frequency_penalty", json!(0.0)),
        ("presence_penalty", json!(0)),
        ("presence_penalty", json!(0.0)),
        ("logprobs", json!(false)),
        ("store", json!(false)),
        ("parallel_tool_calls", json!(true)),
        ("response_format", json!({ "type": "text" })),
        ("modalities", json!(["text"])),
        ("service_tier", json!("auto")),
    ]
}

/// Refuses parameters that are an agent's own business.
pub(super) fn not_for_agents(given: &[(&str, bool)]) -> Result<()> {
    match given.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(Error::invalid(*name, "an agent's own configuration decides this").into()),
        None => Ok(()),
    }
}

/// The text of a content; `place` names it in errors.
pub(super) fn text(content: Content, place: &str) -> Result<String> {
    match content {
        Content::Text(text) => Ok(text),
        Content::Parts(parts) => {
            let mut whole = String::new();
            for (index, part) in parts.into_iter().enumerate() {
                if !["text", "input_text", "output_text"].contains(&part.kind.as_str()) {
                    return Err(Error::invalid(format!("{place}[{index}].type"), "only text is served").into());
                }
                let text = part.text.ok_or_else(|| Error::invalid(format!("{place}[{index}].text"), "is required"))?;
                whole.push_str(&text);
            }
            Ok(whole)
        }
    }
}

pub(super) fn role(role: &str, place: &str) -> Result<Role> {
    Ok(match role {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(Error::invalid(place, "must be system, developer, user, assistant or tool").into()),
    })
}

pub(super) fn messages(all: Vec<ChatMessage>) -> Result<Vec<Message>> {
    let one = |(index, message): (usize, ChatMessage)| {
        let place = |member: &str| format!("messages[{index}].{member}");
        let role = role(&message.role, &place("role"))?;
        let calls = message.tool_calls.unwrap_or_default();
        let content = match message.content {
            Some(content) => text(content, &place("content"))?,
            None if role == Role::Assistant && !calls.is_empty() => String::new(),
            None => return Err(Error::invalid(place("content"), "is required").into()),
        };
        if let Some(at) = calls.iter().position(|call| call.kind != "function") {
            return Err(Error::invalid(format!("messages[{index}].tool_calls[{at}].type"), "only function is served").into());
        }
        let tool_calls =
            calls.into_iter().map(|call| ToolCall { id: call.id, name: call.function.name, arguments: arguments(call.function.arguments) });
        Ok(Message { role, content, name: message.name, tool_calls: tool_calls.collect(), tool_call_id: message.tool_call_id })
    };
    all.into_iter().enumerate().map(one).collect()
}

/// A call without arguments has the empty text at some providers.
pub(super) fn arguments(text: String) -> String {
    if text.trim().is_empty() { "{}".into() } else { text }
}

pub(super) fn tools(all: Vec<WireTool>) -> Result<Vec<Tool>> {
    let one = |(index, tool): (usize, WireTool)| {
        if tool.kind != "function" {
            return Err(Error::invalid(format!("tools[{index}].type"), "only function is served").into());
        }
        offered(tool.function, &format!("tools[{index}].function"))
    };
    all.into_iter().enumerate().map(one).collect()
}

pub(super) fn offered(function: Function, place: &str) -> Result<Tool> {
    if function.strict == Some(true) {
        return Err(Error::invalid(format!("{place}.strict"), "only false is served").into());
    }
    let parameters = function.parameters.filter(|schema| !schema.is_null()).unwrap_or_else(|| Value::Object(any_object()));
    Ok(Tool { name: function.name, description: function.description.unwrap_or_default(), parameters })
}

/// `auto`, `none`, `required`, or the object that names a function, in the form of chats or of responses.
pub(super) fn tool_choice(given: Option<&Value>) -> Result<ToolChoice> {
    let wrong = || Error::invalid("tool_choice", "must be auto, none, required, or name a function");
    match given {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(wrong().into()),
        },
        Some(object) => {
            let name = object.pointer("/function/name").or_else(|| object.get("name")).and_then(Value::as_str);
            match (object.get("type").and_then(Value::as_str), name) {
                (Some("function"), Some(name)) => Ok(ToolChoice::Named(name.to_owned())),
                _ => Err(wrong().into()),
            }
        }
    }
}

pub(super) fn stop(given: Option<OneOrMany>) -> Vec<String> {
    match given {
        None => Vec::new(),
        Some(OneOrMany::One(text)) => vec![text],
        Some(OneOrMany::Many(texts)) => texts,
    }
}

/// What an agent is told: instructions wherever they stand, and what the user has said since the last answer. The turns before are not
/// sent again: the hub keeps the agent's conversation.
pub(super) fn turn(messages: &[Message]) -> Result<String> {
    let since = messages.iter().rposition(|message| matches!(message.role, Role::Assistant)).map_or(0, |at| at + 1);
    if let Some(at) = messages.iter().position(|message| message.role == Role::Tool || !message.tool_calls.is_empty()) {
        return Err(Error::invalid(format!("messages[{at}]"), "an agent calls its tools itself").into());
    }
    if !messages[since..].iter().any(|message| message.role == Role::User) {
        return Err(Error::invalid("messages", "the last message must be the user's").into());
    }
    let told = |(at, message): (usize, &Message)| {
        (message.role == Role::System || at >= since).then(|| message.content.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let parts: Vec<String> = messages.iter().enumerate().filter_map(told).collect();
    Ok(parts.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(result: Result<impl Sized>) -> String {
        result.err().unwrap().shown().param.unwrap()
    }

    #[test]
    fn what_has_no_effect_is_refused_by_its_name() {
        let neutral = neutral_in_chat();
        let check = |body: Value| only_known(body.as_object().unwrap(), &neutral);
        assert!(check(json!({ "n": 1, "logprobs": false, "seed": null, "presence_penalty": 0.0 })).is_ok());
        for (body, name) in [
            (json!({ "n": 2 }), "n"),
            (json!({ "seed": 7 }), "seed"),
            (json!({ "response_format": { "type": "json_object" } }), "response_format"),
            (json!({ "logit_bias": {} }), "logit_bias"),
        ] {
            assert_eq!(param(check(body)), name);
        }
    }

    #[test]
    fn texts_are_joined_and_pictures_refused() {
        let content = |value: Value| serde_json::from_value::<Content>(value).unwrap();
        let parts = content(json!([{ "type": "text", "text": "a" }, { "type": "input_text", "text": "b" }]));
        assert_eq!(text(parts, "x").ok().unwrap(), "ab");
        let picture = content(json!([{ "type": "text", "text": "a" }, { "type": "image_url", "image_url": { "url": "x" } }]));
        assert_eq!(param(text(picture, "messages[0].content")), "messages[0].content[1].type");
    }

    #[test]
    fn choices_of_tools_are_read_in_both_forms() {
        let read = |value: Value| tool_choice(Some(&value));
        assert_eq!(read(json!("required")).ok(), Some(ToolChoice::Required));
        assert_eq!(read(json!({ "type": "function", "function": { "name": "f" } })).ok(), Some(ToolChoice::Named("f".into())));
        assert_eq!(read(json!({ "type": "function", "name": "f" })).ok(), Some(ToolChoice::Named("f".into())));
        assert_eq!(tool_choice(None).ok(), Some(ToolChoice::Auto));
        for wrong in [json!("sometimes"), json!(5), json!({ "type": "file_search" })] {
            assert_eq!(param(read(wrong)), "tool_choice");
        }
    }

    #[test]
    fn an_agent_hears_the_last_turn_and_every_instruction() {
        let said = |role, text: &str| Message::new(role, text);
        let all = [
            said(Role::System, "Be brief."),
            said(Role::User, "one"),
            said(Role::Assistant, "echo"),
            said(Role::User, "two"),
            said(Role::User, "three"),
        ];
        assert_eq!(turn(&all).ok().unwrap(), "Be brief.\n\ntwo\n\nthree");
        assert_eq!(turn(&all[1..2]).ok().unwrap(), "one");
        assert_eq!(param(turn(&all[..3])), "messages");
        assert_eq!(param(turn(&[said(Role::User, "x"), said(Role::Tool, "y")])), "messages[1]");
    }
}
