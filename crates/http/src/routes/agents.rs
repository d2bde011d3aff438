//! Agents and grants.

use aiox_core::Scope;
use aiox_model::{
    agent::{Agent, AgentCard, AgentCreate, AgentUpdate, Grant, NewGrant},
    body::{Data, Message, Page},
};
use axum::{Json, extract::State, response::Response};

use super::{App, agent_id};
use crate::{
    auth::Signed,
    error::{Failure, Result},
    read::{Asked, Body, Paging, Place, created, data, message},
};

/// Agents of peers that one answer shows at most.
const KNOWN: u32 = 1000;

pub(super) async fn create(State(app): State<App>, Signed(caller): Signed, Body(body): Body<AgentCreate>) -> Result<Response> {
    Ok(created(app.agents.create(&caller, body).await?))
}

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
    Body(body): Body<AgentUpdate>,
) -> Result<Json<Data<Agent>>> {
    Ok(data(app.agents.update(&caller, agent_id(&agent)?, body).await?))
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
