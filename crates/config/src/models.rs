//! The catalogue of models, and what their callers may not send.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Class of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Quick and cheap.
    Fast,
    /// In between.
    #[default]
    Balanced,
    /// The best.
    Premium,
}

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Answer conversations.
    Chat,
    /// Make embeddings.
    Embed,
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On the operator's own machines.
    Local,
    /// At a vendor.
    #[default]
    Remote,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Whether it is offered.
    pub enabled: bool,
    /// The provider that workers call, for instance `openai`.
    pub provider: String,
    /// What the provider calls it; absent = its own name here.
    pub name: Option<String>,
    /// Its class.
    pub tier: Tier,
    /// What it can do: `chat`, `embed`.
    pub operations: Vec<Operation>,
    /// Tokens of prompt and answer together.
    pub context_tokens: Option<u32>,
    /// Most tokens of an answer.
    pub max_output_tokens: Option<u32>,
    /// US dollars for a million tokens of the prompt. Both prices or none; without them it fits no request that limits the cost.
    pub input_usd: Option<f64>,
    /// US dollars for a million tokens of the answer.
    pub output_usd: Option<f64>,
    /// Where it runs: `local` or `remote`.
    pub kind: Place,
    /// Milliseconds that it usually takes; absent = 600 for a local one, 2,000 for a remote one. Measured values take over.
    pub latency_ms: Option<u32>,
    /// Models that may answer in its place when it fails, in this order.
    pub fallback: Vec<String>,
}
impl Default for Model {
    fn default() -> Self {
        Self {
            enabled: true,
            provider: String::new(),
            name: None,
            tier: Tier::default(),
            operations: vec![Operation::Chat],
            context_tokens: None,
            max_output_tokens: None,
            input_usd: None,
            output_usd: None,
            kind: Place::default(),
            latency_ms: None,
            fallback: Vec::new(),
        }
    }
}

/// Models that can be called without an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Whether models that connected workers name are offered too, as `<provider>/<model>`, tier `balanced`, without a price.
    pub announced: bool,
    /// The models by the name that requests use.
    pub catalogue: BTreeMap<String, Model>,
}
impl Default for Models {
    fn default() -> Self {
        // The built-in provider needs no key: a hub has a model from the start.
        let echo = Model {
            provider: "echo".into(),
            tier: Tier::Fast,
            operations: vec![Operation::Chat, Operation::Embed],
            context_tokens: Some(32_768),
            max_output_tokens: Some(8_192),
            input_usd: Some(0.0),
            output_usd: Some(0.0),
            kind: Place::Local,
            ..Model::default()
        };
        Self { announced: true, catalogue: BTreeMap::from([("echo".to_owned(), echo)]) }
    }
}
impl Models {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        for (id, model) in &self.catalogue {
            let mut wrong = |what: &str| problems.push(format!("models.catalogue.{id}: {what}"));
            let legal = (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
            if !legal || id.starts_with("tier:") || id.starts_with("agent:") || id.contains('@') {
                wrong("a name has 1 to 128 visible ASCII characters, no @, and does not begin with tier: or agent:");
            }
            if model.provider.is_empty() {
                wrong("provider is missing");
            }
            if model.operations.is_empty() {
                wrong("operations is empty");
            }
            if model.input_usd.is_some() != model.output_usd.is_some() {
                wrong("input_usd and output_usd go together");
            }
            if [model.input_usd, model.output_usd].iter().flatten().any(|usd| !(0.0..=1_000_000.0).contains(usd)) {
                wrong("a price must be from 0 to 1000000");
            }
            if model.context_tokens == Some(0) || model.max_output_tokens == Some(0) {
                wrong("a number of tokens must be at least 1");
            }
            for other in model.fallback.iter().filter(|other| !self.catalogue.contains_key(*other)) {
                wrong(&format!("fallback names {other:?}, which is not in the catalogue"));
            }
        }
    }
}

/// What may not be sent to a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Words or phrases that stop a request, in any case, as whole words. At most 1,000.
    pub blocked_terms: Vec<String>,
}
impl Policy {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        if self.blocked_terms.len() > 1000 || self.blocked_terms.iter().any(|term| term.trim().is_empty()) {
            problems.push("policy.blocked_terms: must be at most 1000 terms, none of them empty".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(catalogue: &[(&str, Model)]) -> String {
        let mut models = Models::default();
        models.catalogue.extend(catalogue.iter().map(|(id, model)| ((*id).to_owned(), model.clone())));
        let mut problems = Vec::new();
        models.check(&mut problems);
        problems.join("; ")
    }

    #[test]
    fn a_wrong_model_is_named_with_its_fault() {
        let good = Model { provider: "openai".into(), input_usd: Some(0.15), output_usd: Some(0.6), ..Model::default() };
        assert_eq!(problems(&[("gpt", Model { fallback: vec!["echo".into()], ..good.clone() })]), "");
        for (id, model, fault) in [
            ("a@b", good.clone(), "no @"),
            ("tier:x", good.clone(), "tier:"),
            ("x", Model { provider: String::new(), ..good.clone() }, "provider"),
            ("x", Model { output_usd: None, ..good.clone() }, "go together"),
            ("x", Model { input_usd: Some(-1.0), ..good.clone() }, "price"),
            ("x", Model { input_usd: Some(f64::NAN), ..good.clone() }, "price"),
            ("x", Model { operations: Vec::new(), ..good.clone() }, "operations"),
            ("x", Model { fallback: vec!["y".into()], ..good.clone() }, "fallback"),
            ("x", Model { context_tokens: Some(0), ..good.clone() }, "tokens"),
        ] {
            let found = problems(&[(id, model)]);
            assert!(found.contains(fault) && found.contains("models.catalogue."), "{id}: {found}");
        }
    }
}
