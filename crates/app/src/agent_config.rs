//! From a stored agent to its configuration, and to what its runs need.

use aiox_core::{
    Error, Result,
    agent::{self, AgentConfig},
    ports::Needs,
};
use aiox_store::agents::AgentRow;
use serde_json::{Map, Value};

use crate::bounds::Bounds;

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

/// Who answers a run and with which tools: as its agent is configured, within the bounds of the run.
pub(crate) struct Setup {
    /// The provider, in lower case.
    pub provider: String,
    /// The model, if one is named.
    pub model: Option<String>,
    /// The tools, by name.
    pub tools: Map<String, Value>,
}

impl Setup {
    pub fn of(config: &AgentConfig, tools: &Map<String, Value>, default_provider: &str, bounds: &Bounds) -> Self {
        let (provider, model) = match &bounds.model {
            Some(chosen) => (chosen.provider.clone(), Some(chosen.name.clone())),
            None => {
                let provider = config.llm.provider.as_deref().unwrap_or(default_provider).to_lowercase();
                (provider, config.llm.model.clone())
            }
        };
        Self { provider, model, tools: bounds.tools_of(tools) }
    }

    /// What the run needs of a worker.
    pub fn needs(&self, config: &AgentConfig) -> Needs {
        Needs {
            provider: self.provider.clone(),
            model: self.model.clone(),
            pool: config.capabilities.worker_pool.clone().unwrap_or_default(),
            tools: self.tools.keys().cloned().collect(),
            labels: config.capabilities.worker_labels.clone(),
        }
    }

    /// What the run would do, for those who only want to know.
    pub fn plan(&self, agent: &AgentRow, config: &AgentConfig) -> String {
        let model = self.model.as_deref().unwrap_or("its default model");
        let most = match config.governance.max_tokens_per_request {
            0 => config.llm.max_tokens,
            cap => config.llm.max_tokens.min(cap),
        };
        let mut tools: Vec<&str> = self.tools.keys().map(String::as_str).collect();
        tools.sort_unstable();
        let tools = if tools.is_empty() { "without tools".to_owned() } else { format!("with the tools {}", tools.join(", ")) };
        let provider = &self.provider;
        format!(
            "Dry run: the agent {} would ask {provider} for {model}, for at most {most} tokens, {tools}. Nothing was called.",
            agent.name
        )
    }
}
