//! Agents and grants.

use aiox_core::Scope;
use aiox_model::{
    agent::{Agent, AgentCard, AgentCreate, AgentUpdate, Capabilities, Governance, Grant, LlmConfig, MemoryConfig, NewGrant},
    body::{Data, Message, Page},
};
use axum::{Json, extract::State, response::Response};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{App, agent_id};
use crate::{
    auth::Signed,
    documented::{Conflicting, Gated, Invalid, Sized},
    error::{Failure, Result},
    read::{Asked, Body, Paging, Place, created, data, message, typed},
};

type AgentData = Data<Agent>;
type AgentPage = Page<Agent>;

/// Agents of peers that one answer shows at most.
const KNOWN: u32 = 1000;

/// An agent's body with its configuration objects read by their types, so that a wrong member is named by its whole path; and
/// without `null` for an object, which would silently mean "as before".
fn read<T: DeserializeOwned>(body: Map<String, Value>) -> Result<T> {
    for name in ["llm_config", "memory_config", "governance", "capabilities", "tools"] {
        let Some(value) = body.get(name) else { continue };
        match name {
            "llm_config" => drop(typed::<LlmConfig>(name, value)?),
            "memory_config" => drop(typed::<MemoryConfig>(name, value)?),
            "governance" => drop(typed::<Governance>(name, value)?),
            "capabilities" => drop(typed::<Capabilities>(name, value)?),
            _ => drop(typed::<Map<String, Value>>(name, value)?),
        }
    }
    typed("", &Value::Object(body))
}

/// Create an agent
///
/// The caller becomes its owner. The answer has the agent's address, at which it can be reached by XMPP and from other hubs.
#[utoipa::path(
    post,
    path = "/api/v1/agents",
    tag = "agents",
    operation_id = "create_agent",
    security(("bearer" = ["agents:write"]), ("api_key" = ["agents:write"])),
    request_body = AgentCreate,
    responses((status = 201, description = "The agent.", body = AgentData), Gated, Invalid, Sized, Conflicting)
)]
pub(super) async fn create(State(app): State<App>, Signed(caller): Signed, Body(body): Body<Map<String, Value>>) -> Result<Response> {
    Ok(created(app.agents.create(&caller, read::<AgentCreate>(body)?).await?))
}

/// List the caller's agents
///
/// Newest first, only those that the caller owns.
#[utoipa::path(
    get,
    path = "/api/v1/agents",
    tag = "agents",
    operation_id = "list_agents",
    security(("bearer" = ["agents:read"]), ("api_key" = ["agents:read"])),
    params(Paging),
    responses((status = 200, description = "One page of agents.", body = AgentPage), Gated)
)]
pub(super) async fn list(State(app): State<App>, Signed(caller): Signed, Asked(paging): Asked<Paging>) -> Result<Json<Page<Agent>>> {
    let cut = paging.cut();
    Ok(cut.page(app.agents.list(&caller, cut.limit, cut.offset).await?))
}

pub(super) async fn show(State(app): State<App>, Signed(caller): Signed, Place(agent): Place<String>) -> Result<Json<Data<Agent>>> {
    Ok(data(app.agents.get(&caller, agent_id(&agent)?).await?))
}

pub(super) async fn update(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Data<Agent>>> {
    Ok(data(app.agents.update(&caller, agent_id(&agent)?, read::<AgentUpdate>(body)?).await?))
}

pub(super) async fn delete(State(app): State<App>, Signed(caller): Signed, Place(agent): Place<String>) -> Result<Json<Message>> {
    app.agents.delete(&caller, agent_id(&agent)?).await?;
    Ok(message("agent deleted successfully"))
}

pub(super) async fn restore(State(app): State<App>, Signed(caller): Signed, Place(agent): Place<String>) -> Result<Json<Data<Agent>>> {
    Ok(data(app.agents.restore(&caller, agent_id(&agent)?).await?))
}

pub(super) async fn grants(State(app): State<App>, Signed(caller): Signed, Place(agent): Place<String>) -> Result<Json<Data<Vec<Grant>>>> {
    Ok(data(app.agents.grants(&caller, agent_id(&agent)?).await?))
}

pub(super) async fn grant(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Body(body): Body<NewGrant>,
) -> Result<Response> {
    Ok(created(app.agents.grant(&caller, agent_id(&agent)?, body).await?))
}

pub(super) async fn revoke(
    State(app): State<App>,
    Signed(caller): Signed,
    Place((agent, grant)): Place<(String, String)>,
) -> Result<Json<Message>> {
    let grant = grant.parse().map_err(|_| Failure::BadId("invalid grant ID"))?;
    app.agents.revoke(&caller, agent_id(&agent)?, grant).await?;
    Ok(message("grant revoked successfully"))
}

/// Agents of this hub that the caller may use, then those that active peers have told of.
pub(super) async fn mesh(State(app): State<App>, Signed(caller): Signed) -> Result<Json<Data<Vec<AgentCard>>>> {
    caller.require(Scope::AgentsRead)?;
    let mut cards = app.agents.usable(&caller).await?;
    cards.extend(app.peers.agents(KNOWN).await?);
    Ok(data(cards))
}
