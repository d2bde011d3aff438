//! The models that there are, and how they do.

use std::collections::BTreeSet;

use aiox_core::gateway::{Breaker, Candidate, Model, Operation, Standing, Tier};
use aiox_model::Ts;
use dashmap::DashMap;

use super::lines::Lines;

/// Calls after which the measured time takes over from the configured one.
const ENOUGH: u32 = 5;
/// Providers whose models run on the operator's own machines.
const LOCAL: [&str; 2] = ["echo", "ollama"];

/// Configured models, and what is known of every model's health.
pub(super) struct Catalogue {
    configured: Vec<Model>,
    announced: bool,
    /// By id. Bounded by the models that there are.
    known: DashMap<String, Health>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Health {
    breaker: Breaker,
    calls: u32,
    mean_ms: f64,
}

impl Catalogue {
    pub(super) fn new(mut configured: Vec<Model>, announced: bool) -> Self {
        configured.sort_by(|a, b| a.id.cmp(&b.id));
        Self { configured, announced, known: DashMap::new() }
    }

    /// Every model, by id: the configured ones, and those that workers name and nobody has configured.
    pub(super) fn models(&self, lines: &Lines) -> Vec<Model> {
        let mut all = self.configured.clone();
        if self.announced {
            let served = lines.served();
            let embedding: BTreeSet<&String> = served.iter().flat_map(|one| &one.embedding_providers).collect();
            let named: BTreeSet<&String> = served.iter().flat_map(|one| &one.named_models).collect();
            for full in named {
                let Some((provider, name)) = full.split_once('/') else { continue };
                if self.configured.iter().any(|model| model.provider == provider && model.name == name)
                    || self.configured.iter().any(|model| model.id == *full)
                {
                    continue;
                }
                all.push(announced(full, provider, name, embedding.contains(&provider.to_owned())));
            }
            all.sort_by(|a, b| a.id.cmp(&b.id));
        }
        all
    }

    pub(super) fn candidates<'a>(&self, models: &'a [Model], operation: Operation, lines: &Lines, at: Ts) -> Vec<Candidate<'a>> {
        let candidate = |model: &'a Model| {
            let health = self.known.get(&model.id).map(|health| *health).unwrap_or_default();
            let standing = if !lines.serve(operation, &model.provider, &model.name) {
                Standing::Unreachable
            } else if health.breaker.is_open(at) {
                Standing::Failing
            } else {
                Standing::Ready
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a cast from float saturates, and a time is not negative"
            )]
            let measured = health.mean_ms.ceil() as u32;
            Candidate { model, standing, latency_ms: if health.calls >= ENOUGH { measured } else { model.latency_ms } }
        };
        models.iter().map(candidate).collect()
    }

    /// Notes a call that worked.
    pub(super) fn worked(&self, model: &Model, millis: u64) {
        let mut health = self.known.entry(model.id.clone()).or_default();
        health.breaker.worked();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one call")]
        let millis = millis as f64;
        // The latest calls count most.
        let weight = if health.calls == 0 { 1.0 } else { 0.2 };
        health.mean_ms += (millis - health.mean_ms) * weight;
        health.calls = health.calls.saturating_add(1);
        metrics::gauge!("agentos_backend_health", "backend" => model.provider.clone()).set(1.0);
    }

    /// Notes a call that failed for a reason of the backend.
    pub(super) fn failed(&self, model: &Model, at: Ts) {
        self.known.entry(model.id.clone()).or_default().breaker.failed(at);
        metrics::gauge!("agentos_backend_health", "backend" => model.provider.clone()).set(0.0);
    }
}

/// What is known of a model that nobody has configured: next to nothing.
fn announced(id: &str, provider: &str, name: &str, embeds: bool) -> Model {
    let local = LOCAL.contains(&provider);
    let operations = if embeds && name.contains("embed") { vec![Operation::Embed] } else { vec![Operation::Chat] };
    Model {
        id: id.to_owned(),
        provider: provider.to_owned(),
        name: name.to_owned(),
        tier: Tier::Balanced,
        operations,
        context_tokens: None,
        max_output_tokens: None,
        price: None,
        local,
        latency_ms: if local { 600 } else { 2000 },
        fallback: Vec::new(),
    }
}
