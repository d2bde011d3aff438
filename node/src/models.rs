//! From the configured models to the gateway's.

use std::time::Duration;

use aiox_app::GatewayOptions;
use aiox_config::{Settings, models as configured};
use aiox_core::{
    gateway::{Model, Operation, Price, Tier},
    tenant,
};

/// Time that a call waits for a busy worker before the next model is tried.
const PATIENCE: Duration = Duration::from_secs(30);

/// The gateway's options.
pub fn options(settings: &Settings, node: &str) -> GatewayOptions {
    GatewayOptions {
        models: settings.models.catalogue.iter().filter(|(_, model)| model.enabled).map(|(id, model)| entry(id, model)).collect(),
        announced: settings.models.announced,
        node: node.to_owned(),
        timeout: Duration::from_millis(settings.governance.task_timeout_ms),
        patience: PATIENCE,
    }
}

fn entry(id: &str, model: &configured::Model) -> Model {
    let price = model.input_usd.zip(model.output_usd);
    let local = model.kind == configured::Place::Local;
    Model {
        id: id.to_owned(),
        provider: model.provider.to_lowercase(),
        name: model.name.clone().unwrap_or_else(|| id.to_owned()),
        tier: match model.tier {
            configured::Tier::Fast => Tier::Fast,
            configured::Tier::Balanced => Tier::Balanced,
            configured::Tier::Premium => Tier::Premium,
        },
        operations: model
            .operations
            .iter()
            .map(|operation| match operation {
                configured::Operation::Chat => Operation::Chat,
                configured::Operation::Embed => Operation::Embed,
            })
            .collect(),
        context_tokens: model.context_tokens,
        max_output_tokens: model.max_output_tokens,
        price: price.map(|(input, output)| Price { input: tenant::micros(input), output: tenant::micros(output) }),
        local,
        latency_ms: model.latency_ms.unwrap_or(if local { 600 } else { 2000 }),
        fallback: model.fallback.clone(),
    }
}
