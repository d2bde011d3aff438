//! What a valid agent is.

use aiox_model::agent::{AgentCreate, AgentUpdate, Capabilities, Governance, LlmConfig, MemoryConfig};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// Most bytes of a system prompt.
pub const MAX_PROMPT_BYTES: usize = 64 * 1024;
/// Most bytes of one message.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Most bytes of an answer that is kept; a longer one is cut and says so.
pub const MAX_OUTPUT_BYTES: usize = 512 * 1024;

/// Configuration objects, parsed and checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentConfig {
    /// Which model answers.
    pub llm: LlmConfig,
    /// What it remembers.
    pub memory: MemoryConfig,
    /// What it may do.
    pub governance: Governance,
    /// What it is good at.
    pub capabilities: Capabilities,
}

fn parse<T: DeserializeOwned>(field: &str, object: &Map<String, Value>) -> Result<T> {
    serde_json::from_value(Value::Object(object.clone())).map_err(|error| Error::invalid(field, error.to_string()))
}

fn bounded(field: &str, list: &[String], most: usize, chars: usize) -> Result<()> {
    if list.len() > most || list.iter().any(|item| item.is_empty() || item.chars().count() > chars) {
        return Err(Error::invalid(field, format!("at most {most} entries of 1 to {chars} characters")));
    }
    Ok(())
}

/// Checks `llm_config`.
///
/// # Errors
/// [`Error::Invalid`] naming the member.
pub fn llm(object: &Map<String, Value>) -> Result<LlmConfig> {
    let config: LlmConfig = parse("llm_config", object)?;
    if !(0.0..=2.0).contains(&config.temperature) {
        return Err(Error::invalid("llm_config.temperature", "must be from 0 to 2"));
    }
    if !(1..=1_000_000).contains(&config.max_tokens) {
        return Err(Error::invalid("llm_config.max_tokens", "must be from 1 to 1000000"));
    }
    for (field, text) in [("llm_config.provider", &config.provider), ("llm_config.model", &config.model)] {
        if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > 200) {
            return Err(Error::invalid(field, "must have 1 to 200 characters"));
        }
    }
    Ok(config)
}

/// Checks `memory_config`. The README names `short_term_limit`, `long_term_limit` and `type` (`none`, `short_term`, `long_term`,
/// `hybrid`) switch memory on unless `enabled` says otherwise.
///
/// # Errors
/// [`Error::Invalid`] naming the member.
pub fn memory(object: &Map<String, Value>) -> Result<MemoryConfig> {
    let mut config: MemoryConfig = parse("memory_config", object)?;
    let readme_names = ["type", "short_term_limit", "long_term_limit"].iter().any(|name| object.contains_key(*name));
    if readme_names && !object.contains_key("enabled") {
        config.enabled = true;
    }
    if let Some(kind) = config.other.remove("type") {
        (config.short_term_enabled, config.long_term_enabled) = match kind.as_str() {
            Some("short_term") => (true, false),
            Some("long_term") => (false, true),
            Some("hybrid") => (true, true),
            Some("none") => (false, false),
            _ => return Err(Error::invalid("memory_config.type", "must be none, short_term, long_term or hybrid")),
        };
    }
    if !(1..=200).contains(&config.max_short_term_msgs) {
        return Err(Error::invalid("memory_config.max_short_term_msgs", "must be from 1 to 200"));
    }
    if config.short_term_ttl_sec == 0 {
        return Err(Error::invalid("memory_config.short_term_ttl_sec", "must be at least 1"));
    }
    if !(0.0..=1.0).contains(&config.similarity_threshold) {
        return Err(Error::invalid("memory_config.similarity_threshold", "must be from 0 to 1"));
    }
    Ok(config)
}

/// Checks `governance`.
///
/// # Errors
/// [`Error::Invalid`] naming the member.
pub fn governance(object: &Map<String, Value>) -> Result<Governance> {
    let config: Governance = parse("governance", object)?;
    bounded("governance.allowed_providers", &config.allowed_providers, 64, 200)?;
    bounded("governance.allowed_domains", &config.allowed_domains, 256, 255)?;
    Ok(config)
}

/// Checks `capabilities`.
///
/// # Errors
/// [`Error::Invalid`] naming the member.
pub fn capabilities(object: &Map<String, Value>) -> Result<Capabilities> {
    let config: Capabilities = parse("capabilities", object)?;
    bounded("capabilities.domain_tags", &config.domain_tags, 64, 100)?;
    if !(0.0..=1.0).contains(&config.priority_weight) {
        return Err(Error::invalid("capabilities.priority_weight", "must be from 0 to 1"));
    }
    if config.worker_pool.as_deref().is_some_and(|pool| !is_name(pool)) {
        return Err(Error::invalid("capabilities.worker_pool", "must have 1 to 100 of A-Z a-z 0-9 . _ -"));
    }
    Ok(config)
}

/// Whether a text can be the name of a tool or of a pool of workers: 1 to 100 of `A-Z a-z 0-9 . _ -`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn tools(object: &Map<String, Value>) -> Result<()> {
    for (name, policy) in object {
        if !is_name(name) {
            return Err(Error::invalid("tools", "a tool name has 1 to 100 of A-Z a-z 0-9 . _ -"));
        }
        if !policy.is_object() {
            return Err(Error::invalid(format!("tools.{name}"), "must be an object"));
        }
    }
    Ok(())
}

/// Checks a readable name: 3 to 64 of `a-z 0-9 - _ .`, beginning with a letter. `agent-` is kept for ids.
///
/// # Errors
/// [`Error::Invalid`].
pub fn handle(text: &str) -> Result<()> {
    let legal = (3..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
        && !text.starts_with("agent-")
        && !["agt_", "admin", "root", "postmaster", "abuse"]
            .iter()
            .any(|kept| text.starts_with(kept) && (kept.ends_with('_') || text == *kept));
    if legal {
        Ok(())
    } else {
        Err(Error::invalid("handle", "must have 3 to 64 of a-z 0-9 - _ . and begin with a letter; names that begin with agent- are kept"))
    }
}

/// The names of the agents that a hub for trying out has from the start. Nobody else can take them: other names do not begin so.
pub const SAMPLES: [&str; 2] = ["agt_demo", "agt_sample_echo_v1"];

/// Whether a text can be the readable name of an agent.
#[must_use]
pub fn names_an_agent(text: &str) -> bool {
    handle(text).is_ok() || SAMPLES.contains(&text)
}

fn name(text: &str) -> Result<()> {
    let count = text.trim().chars().count();
    if (1..=255).contains(&count) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Error::invalid("name", "must have 1 to 255 characters"))
    }
}

fn prompt(text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid("system_prompt", "must not be empty"));
    }
    if text.len() > MAX_PROMPT_BYTES {
        return Err(Error::TooLarge { what: "system_prompt", limit: MAX_PROMPT_BYTES as u64 });
    }
    Ok(())
}

fn description(text: &str) -> Result<()> {
    if text.chars().count() <= 1000 { Ok(()) } else { Err(Error::invalid("description", "must have at most 1000 characters")) }
}

/// Checks a new agent.
///
/// # Errors
/// [`Error::Invalid`] naming the member, [`Error::TooLarge`] for a huge prompt.
pub fn check_create(new: &AgentCreate) -> Result<()> {
    name(&new.name)?;
    prompt(&new.system_prompt)?;
    description(&new.description)?;
    bounded("personality_traits", &new.personality_traits, 32, 100)?;
    llm(&new.llm_config)?;
    memory(&new.memory_config)?;
    governance(&new.governance)?;
    capabilities(&new.capabilities)?;
    tools(&new.tools)?;
    new.handle.as_deref().map_or(Ok(()), handle)
}

/// Checks a change.
///
/// # Errors
/// As [`check_create`].
pub fn check_update(change: &AgentUpdate) -> Result<()> {
    change.name.as_deref().map_or(Ok(()), name)?;
    change.system_prompt.as_deref().map_or(Ok(()), prompt)?;
    change.description.as_deref().map_or(Ok(()), description)?;
    change.personality_traits.as_deref().map_or(Ok(()), |traits| bounded("personality_traits", traits, 32, 100))?;
    change.llm_config.as_ref().map_or(Ok(()), |object| llm(object).map(drop))?;
    change.memory_config.as_ref().map_or(Ok(()), |object| memory(object).map(drop))?;
    change.governance.as_ref().map_or(Ok(()), |object| governance(object).map(drop))?;
    change.capabilities.as_ref().map_or(Ok(()), |object| capabilities(object).map(drop))?;
    change.tools.as_ref().map_or(Ok(()), tools)?;
    change.handle.as_deref().map_or(Ok(()), handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn memory_defaults_merge_and_readme_names_switch_it_on() {
        assert!(!memory(&object(json!({}))).unwrap().enabled);
        let readme = memory(&object(json!({"type": "short_term", "short_term_limit": 7}))).unwrap();
        assert!(readme.enabled && readme.short_term_enabled && !readme.long_term_enabled);
        assert_eq!(readme.max_short_term_msgs, 7);
        assert!(!memory(&object(json!({"type": "hybrid", "enabled": false}))).unwrap().enabled);
    }

    #[test]
    fn wrong_types_name_the_member() {
        for (bad, field) in [
            (llm(&object(json!({"temperature": 3}))).map(drop), "llm_config.temperature"),
            (llm(&object(json!({"max_tokens": "x"}))).map(drop), "llm_config"),
            (memory(&object(json!({"type": "x"}))).map(drop), "memory_config.type"),
            (capabilities(&object(json!({"priority_weight": 2}))).map(drop), "capabilities.priority_weight"),
            (capabilities(&object(json!({"worker_pool": ""}))).map(drop), "capabilities.worker_pool"),
            (capabilities(&object(json!({"worker_pool": "a b"}))).map(drop), "capabilities.worker_pool"),
            (governance(&object(json!({"allowed_domains": "x"}))).map(drop), "governance"),
        ] {
            let Err(Error::Invalid { field: named, .. }) = bad else { panic!("{field} was accepted") };
            assert_eq!(named, field);
        }
    }

    #[test]
    fn unknown_members_are_kept() {
        assert_eq!(llm(&object(json!({"seed": 4}))).unwrap().other["seed"], 4);
    }

    proptest! {
        #[test]
        fn no_handle_panics_and_accepted_ones_are_addresses(text: String) {
            if handle(&text).is_ok() {
                let address = format!("{text}@agents.hub-a.example");
                prop_assert!(address.parse::<aiox_model::BareJid>().is_ok());
            }
        }
    }
}
