//! Agents and grants.

use aiox_core::Scope;
use aiox_model::{
    agent::{Agent, AgentCard, AgentCreate, AgentUpdate, Capabilities, Governance, Grant, LlmConfig, MemoryConfig, NewGrant},
    body::{Data, ErrorBody, List, Message, Page},
};
use axum::{Json, extract::State, response::Response};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{App, agent_id};
use crate::{
    auth::Signed,
    documented::{Gated, Invalid, NotFound, Sized},
    error::{Failure, Result},
    read::{Asked, Body, Paging, Place, created, data, list as whole, message, typed},
};

type AgentData = Data<Agent>;
type AgentPage = Page<Agent>;
type AgentCardList = List<AgentCard>;
type GrantData = Data<Grant>;
type GrantList = List<Grant>;

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
    responses((status = 201, description = "The agent.", body = AgentData), Gated, Invalid, Sized, NotFound,
        (status = 409, description = "The handle belongs, or once belonged, to another agent (`handle_taken`).", body = ErrorBody)
    )
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
    responses((status = 200, description = "One page of agents.", body = AgentPage), Gated, Invalid, NotFound)
)]
pub(super) async fn list(State(app): State<App>, Signed(caller): Signed, Asked(paging): Asked<Paging>) -> Result<Json<Page<Agent>>> {
    let cut = paging.cut();
    Ok(cut.page(app.agents.list(&caller, cut.limit, cut.offset).await?))
}

/// Read an agent
///
/// As its owner sees it, with its system prompt in clear. Another owner's agent is 403 within the tenant and 404 outside.
#[utoipa::path(
    get,
    path = "/api/v1/agents/{agent}",
    tag = "agents",
    operation_id = "get_agent",
    security(("bearer" = ["agents:read"]), ("api_key" = ["agents:read"])),
    params(("agent" = String, Path, description = "The agent: its UUID or its prefixed id (`agt_…`).")),
    responses(
        (status = 200, description = "The agent.", body = AgentData),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn show(State(app): State<App>, Signed(caller): Signed, Place(agent): Place<String>) -> Result<Json<Data<Agent>>> {
    Ok(data(app.agents.get(&caller, agent_id(&agent)?).await?))
}

/// Change an agent
///
/// Any subset of its members; what is absent stays. A configuration object that is given replaces the stored one whole. With `version`, the change is refused when
/// the agent was changed since that version was read.
#[utoipa::path(
    put,
    path = "/api/v1/agents/{agent}",
    tag = "agents",
    operation_id = "update_agent",
    security(("bearer" = ["agents:write"]), ("api_key" = ["agents:write"])),
    params(("agent" = String, Path, description = "The agent: its UUID or its prefixed id (`agt_…`).")),
    request_body = AgentUpdate,
    responses(
        (status = 200, description = "The agent after the change.", body = AgentData),
        Gated,
        Invalid,
        Sized,
        NotFound,
        (status = 409, description = "The agent was changed since it was read (`version_conflict`), or the handle belongs, or once belonged, to another agent (`handle_taken`).", body = ErrorBody)
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Data<Agent>>> {
    Ok(data(app.agents.update(&caller, agent_id(&agent)?, read::<AgentUpdate>(body)?).await?))
}

/// Delete an agent
///
/// It answers nobody any more; runs that wait fail with `agent_deleted`. It can be restored for as long as the hub retains deleted agents (30 days unless configured).
#[utoipa::path(
    delete,
    path = "/api/v1/agents/{agent}",
    tag = "agents",
    operation_id = "delete_agent",
    security(("bearer" = ["agents:write"]), ("api_key" = ["agents:write"])),
    params(("agent" = String, Path, description = "The agent: its UUID or its prefixed id (`agt_…`).")),
    responses(
        (status = 200, description = "Done.", body = Message),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn delete(State(app): State<App>, Signed(caller): Signed, Place(agent): Place<String>) -> Result<Json<Message>> {
    app.agents.delete(&caller, agent_id(&agent)?).await?;
    Ok(message("agent deleted successfully"))
}

/// Restore a deleted agent
///
/// With its addresses, grants and history.
#[utoipa::path(
    post,
    path = "/api/v1/agents/{agent}/restore",
    tag = "agents",
    operation_id = "restore_agent",
    security(("bearer" = ["agents:write"]), ("api_key" = ["agents:write"])),
    params(("agent" = String, Path, description = "The agent: its UUID or its prefixed id (`agt_…`).")),
    responses(
        (status = 200, description = "The agent.", body = AgentData),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn restore(State(app): State<App>, Signed(caller): Signed, Place(agent): Place<String>) -> Result<Json<Data<Agent>>> {
    Ok(data(app.agents.restore(&caller, agent_id(&agent)?).await?))
}

/// List who may use an agent
///
/// The explicit permissions; who may use it because of its `visibility` is not listed.
#[utoipa::path(
    get,
    path = "/api/v1/agents/{agent}/grants",
    tag = "agents",
    operation_id = "list_grants",
    security(("bearer" = ["agents:read"]), ("api_key" = ["agents:read"])),
    params(("agent" = String, Path, description = "The agent: its UUID or its prefixed id (`agt_…`).")),
    responses(
        (status = 200, description = "The grants.", body = GrantList),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn grants(State(app): State<App>, Signed(caller): Signed, Place(agent): Place<String>) -> Result<Json<List<Grant>>> {
    Ok(whole(app.agents.grants(&caller, agent_id(&agent)?).await?))
}

/// Let somebody use an agent
///
/// A user or a role of the same tenant, an XMPP address, a domain, or everybody that a peer hub vouches for. Whoever uses the agent pays from their own allowance.
#[utoipa::path(
    post,
    path = "/api/v1/agents/{agent}/grants",
    tag = "agents",
    operation_id = "create_grant",
    security(("bearer" = ["agents:write"]), ("api_key" = ["agents:write"])),
    params(("agent" = String, Path, description = "The agent: its UUID or its prefixed id (`agt_…`).")),
    request_body = NewGrant,
    responses(
        (status = 201, description = "The grant.", body = GrantData),
        Gated,
        Invalid,
        Sized,
        NotFound,
        (status = 409, description = "The same grant is there already (`grant_exists`).", body = ErrorBody)
    )
)]
pub(super) async fn grant(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Body(body): Body<NewGrant>,
) -> Result<Response> {
    Ok(created(app.agents.grant(&caller, agent_id(&agent)?, body).await?))
}

/// Take a permission back
///
/// Runs that were accepted before go on.
#[utoipa::path(
    delete,
    path = "/api/v1/agents/{agent}/grants/{grant}",
    tag = "agents",
    operation_id = "revoke_grant",
    security(("bearer" = ["agents:write"]), ("api_key" = ["agents:write"])),
    params(("agent" = String, Path, description = "The agent: its UUID or its prefixed id (`agt_…`)."), ("grant" = String, Path, description = "The grant: its UUID or its prefixed id (`grt_…`).")),
    responses(
        (status = 200, description = "Done.", body = Message),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn revoke(
    State(app): State<App>,
    Signed(caller): Signed,
    Place((agent, grant)): Place<(String, String)>,
) -> Result<Json<Message>> {
    let grant = grant.parse().map_err(|_| Failure::BadId("invalid grant ID"))?;
    app.agents.revoke(&caller, agent_id(&agent)?, grant).await?;
    Ok(message("grant revoked successfully"))
}

/// List every agent that the caller may use
///
/// Agents of this hub first, then those that active peer hubs have told of, 1,000 at most. Cards tell no prompt and no configuration.
#[utoipa::path(
    get,
    path = "/api/v1/mesh/agents",
    tag = "agents",
    operation_id = "list_mesh_agents",
    security(("bearer" = ["agents:read"]), ("api_key" = ["agents:read"])),
    responses(
        (status = 200, description = "The cards.", body = AgentCardList),
        Gated
    )
)]
pub(super) async fn mesh(State(app): State<App>, Signed(caller): Signed) -> Result<Json<List<AgentCard>>> {
    caller.require(Scope::AgentsRead)?;
    let mut cards = app.agents.usable(&caller).await?;
    cards.extend(app.peers.agents(KNOWN).await?);
    Ok(whole(cards))
}
