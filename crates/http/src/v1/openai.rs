//! The OpenAI-compatible endpoints, below `/openai/v1`, with the aliases `/v1/chat/completions` and `/v1/embeddings`.
//!
//! A `model` is a model of the catalogue (or a tier of it), or an agent of this or another hub. A chat with an agent is a run like any
//! other: it is in the agent's history, counts in the same allowance and leaves the same audit records. Every parameter has an effect or
//! is refused with its name in `param`.

mod agent;
mod ask;
mod chat;
mod embeddings;
mod responses;

use aiox_app::{AgentRef, gateway::PolicyOutcome, gateway::Route};
use aiox_core::{Caller, Error, Scope};
use aiox_model::v1::openai::{Model, ModelList};
use axum::{Json, extract::State, response::Response};
use http::{HeaderName, HeaderValue};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{HttpState, auth::Signed, documented::OpenAiGated, error::Result, state::App};

const ROUTE: HeaderName = HeaderName::from_static("x-aiox-route");
const FALLBACK: HeaderName = HeaderName::from_static("x-aiox-fallback");
const POLICY: HeaderName = HeaderName::from_static("x-aiox-policy");
const COST: HeaderName = HeaderName::from_static("x-aiox-cost-usd");
const RUN: HeaderName = HeaderName::from_static("x-aiox-run-id");

/// Agents of other hubs that a list holds at most.
const KNOWN: u32 = 500;

pub(super) fn quick() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(models)).routes(routes!(responses::show, responses::delete))
}

pub(super) fn slow() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(chat::create))
        .routes(routes!(chat::create_alias))
        .routes(routes!(embeddings::create))
        .routes(routes!(embeddings::create_alias))
        .routes(routes!(responses::create))
}

/// List models and agents
///
/// What `model` can be: the models that the tenant is entitled to, then the agents that the caller may use, of this hub and of others.
#[utoipa::path(
    get,
    path = "/openai/v1/models",
    tag = "openai",
    operation_id = "openai_list_models",
    security(("bearer" = ["models:list"]), ("api_key" = ["models:list"])),
    responses((status = 200, description = "The models, then the agents.", body = ModelList), OpenAiGated)
)]
pub(super) async fn models(State(app): State<App>, Signed(caller): Signed) -> Result<Json<ModelList>> {
    let object = || "model".to_owned();
    let models = app.gateway.models(&caller).await?;
    let mut data: Vec<Model> =
        models.into_iter().map(|model| Model { id: model.id, object: object(), created: 0, owned_by: model.provider }).collect();
    if caller.scopes.contains(&Scope::AgentsRead) {
        let mut cards = app.agents.usable(&caller).await?;
        cards.extend(app.peers.agents(KNOWN).await?);
        data.extend(cards.into_iter().map(|card| {
            let address = match (&card.handle, card.jid.split_once('@')) {
                (Some(handle), Some((_, domain))) => format!("{handle}@{domain}"),
                _ => card.jid.clone(),
            };
            Model { id: format!("agent:{address}"), object: object(), created: card.updated_at.seconds(), owned_by: card.domain }
        }));
    }
    Ok(Json(ModelList { object: "list".into(), data }))
}

/// What a `model` stands for.
enum Target {
    /// A model or a tier.
    Model,
    /// An agent, if there is one of this name.
    Agent(AgentRef),
}

/// Reads a `model`: what the catalogue has comes first, unless `agent:` stands before it.
async fn target(app: &HttpState, caller: &Caller, model: &str) -> Result<Target> {
    if model.trim().is_empty() {
        return Err(Error::invalid("model", "must not be empty").into());
    }
    let missing = || aiox_app::CallFailure::NotFound(model.chars().take(256).collect());
    let (name, named) = match model.strip_prefix("agent:") {
        Some(name) => (name, true),
        None => (model, false),
    };
    if !named && app.gateway.knows(model) {
        return Ok(Target::Model);
    }
    let agent = AgentRef::parse(name).ok_or_else(missing)?;
    // A peer's agent may exist though its hub has not told of it yet; everybody else's must be found.
    if !matches!(agent, AgentRef::Jid(_)) {
        app.agents.card(caller, &agent).await.map_err(|error| match error {
            Error::NotFound(_) => crate::error::Failure::from(missing()),
            other => other.into(),
        })?;
    }
    Ok(Target::Agent(agent))
}

/// Says in headers what the body has no place for.
fn routed(response: &mut Response, route: &Route, policy: &PolicyOutcome, cost: Option<u64>) {
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(ROUTE, format!("{} via {} at {}; tier={}; {}", route.model, route.backend, route.node, route.tier, route.reason));
    set(FALLBACK, route.fallback_used.to_string());
    if let Some(cost) = cost {
        set(COST, format!("{:.6}", super::gateway::dollars(cost)));
    }
    judged(response, policy);
}

/// Says what the content policy decided.
fn judged(response: &mut Response, policy: &PolicyOutcome) {
    let mut text = policy.decision.clone();
    if !policy.reasons.is_empty() {
        text = format!("{text}; {}", policy.reasons.join(", "));
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().insert(POLICY, value);
    }
}
