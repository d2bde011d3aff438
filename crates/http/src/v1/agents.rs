//! Agents of the caller's tenant.

use aiox_app::{AgentRef, agents::Summary};
use aiox_core::Error;
use aiox_model::v1::agent::{Agent, AgentBody, AgentList};
use axum::{Json, extract::State};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::gate::Tenant;
use crate::{
    auth::Signed,
    documented::{V1Gated, V1Invalid, V1NotFound},
    error::Result,
    names::Names,
    read::Place,
    state::App,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// List agents
///
/// Those of the tenant that the caller may use, newest first. They are made and changed over `/api/v1/agents`.
#[utoipa::path(
    get,
    path = "/v1/agents",
    tag = "agents",
    operation_id = "list_tenant_agents",
    security(("bearer" = ["agents:read"]), ("api_key" = ["agents:read"])),
    responses((status = 200, description = "The agents.", body = AgentList), V1Gated, V1Invalid)
)]
pub(super) async fn list(State(app): State<App>, Signed(caller): Signed, Tenant(tenant): Tenant, names: Names) -> Result<Json<AgentList>> {
    let agents = app.agents.summaries(&caller).await?.into_iter().map(|agent| shown(&tenant, agent)).collect();
    Ok(Json(AgentList { agents, correlation_id: names.correlation.to_string() }))
}

/// Read an agent
///
/// By its `agt_` id, its UUID, its handle or its address. An agent that does not exist, that the caller may not use, or that belongs to
/// another tenant or hub is not found.
#[utoipa::path(
    get,
    path = "/v1/agents/{agent_id}",
    tag = "agents",
    operation_id = "get_tenant_agent",
    security(("bearer" = ["agents:read"]), ("api_key" = ["agents:read"])),
    params(("agent_id" = String, Path, description = "The agent: `agt_…`, UUID, handle, or address.")),
    responses((status = 200, description = "The agent.", body = AgentBody), V1Gated, V1NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    Signed(caller): Signed,
    Tenant(tenant): Tenant,
    names: Names,
    Place(agent): Place<String>,
) -> Result<Json<AgentBody>> {
    let agent = AgentRef::parse(&agent).ok_or(Error::NotFound("agent"))?;
    let agent = shown(&tenant, app.agents.summary(&caller, &agent).await?);
    Ok(Json(AgentBody { agent, correlation_id: names.correlation.to_string() }))
}

fn shown(tenant: &str, agent: Summary) -> Agent {
    Agent {
        agent_id: agent.id.to_string(),
        tenant_id: tenant.to_owned(),
        name: agent.name,
        version: agent.version.to_string(),
        status: if agent.active { "active" } else { "inactive" }.into(),
        created_at: agent.created_at,
        updated_at: agent.updated_at,
        description: (!agent.description.is_empty()).then_some(agent.description),
    }
}
