//! From a stored agent to its configuration, and to what its runs need.

use aiox_core::{
    Error, Result,
    agent::{self, AgentConfig},
    ports::Needs,
};
use aiox_store::agents::AgentRow;
use serde_json::{Map, Value};

/// The configuration of a stored agent.
pub(crate) fn parse_config(row: &AgentRow) -> Result<AgentConfig> {
    // Unreadable configuration denies: it is an error of this agent, never a default.
    let damaged = |column: &'static str| move |_| Error::Corrupt { table: "agents", column, id: row.id.to_string() };
    Ok(AgentConfig {
        llm: agent::llm(&row.config.llm).map_err(damaged("config.llm"))?,
        memory: agent::memory(&row.config.memory).map_err(damaged("config.memory"))?,
        governance: agent::governance(&row.config.governance).map_err(damaged("config.governance"))?,
        capabilities: agent::capabilities(&row.config.capabilities).map_err(damaged("config.capabilities"))?,
    })
}

/// What a run of an agent needs of a worker.
pub(crate) fn needs(provider: &str, config: &AgentConfig, tools: &Map<String, Value>) -> Needs {
    Needs {
        provider: provider.to_owned(),
        model: config.llm.model.clone(),
        pool: config.capabilities.worker_pool.clone().unwrap_or_default(),
        tools: tools.keys().cloned().collect(),
        labels: config.capabilities.worker_labels.clone(),
    }
}

/// What a run of an agent would do, for those who only want to know.
pub(crate) fn plan(agent: &AgentRow, config: &AgentConfig, provider: &str) -> String {
    let model = config.llm.model.as_deref().unwrap_or("its default model");
    let most = match config.governance.max_tokens_per_request {
        0 => config.llm.max_tokens,
        cap => config.llm.max_tokens.min(cap),
    };
    let mut tools: Vec<&str> = agent.config.tools.keys().map(String::as_str).collect();
    tools.sort_unstable();
    let tools = if tools.is_empty() { "without tools".to_owned() } else { format!("with the tools {}", tools.join(", ")) };
    format!("Dry run: the agent {} would ask {provider} for {model}, for at most {most} tokens, {tools}. Nothing was called.", agent.name)
}
