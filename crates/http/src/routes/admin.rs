//! What administrators of a tenant do.

use std::collections::{BTreeMap, BTreeSet};

use aiox_core::{Error, Role, Scope};
use aiox_model::{
    UserId,
    account::User,
    body::{Data, Page},
};
use axum::{Json, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{App, account::SecretText};
use crate::{
    auth::Signed,
    error::{Failure, Result},
    read::{Asked, Body, Paging, Place, created, data},
};

#[derive(Deserialize)]
pub(super) struct NewUser {
    email: String,
    username: Option<String>,
    password: SecretText,
    role: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct UserChange {
    role: Option<String>,
    status: Option<String>,
    quota: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct NewInvite {
    role: Option<String>,
}

#[derive(Serialize)]
struct Invite {
    invite: String,
}

#[derive(Serialize)]
pub(super) struct Worker {
    worker_id: String,
    protocol: u32,
    providers: Vec<String>,
    /// As `provider/model`; a provider without any serves every model.
    models: BTreeSet<String>,
    pool: String,
    tools: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    max_concurrent: u32,
    free_slots: usize,
    active_tasks: u32,
    memory_usage_mb: u32,
    avg_latency_ms: u32,
}

#[derive(Serialize)]
pub(super) struct Workers {
    workers: Vec<Worker>,
    /// Runs that wait.
    waiting: usize,
    /// Those of them that no connected worker can serve.
    unserved: usize,
    /// What those need.
    unserved_needs: Vec<Unserved>,
}

#[derive(Serialize)]
struct Unserved {
    runs: usize,
    /// `worker`, `combination`, or those of `provider`, `model`, `pool`, `tools` and `labels` that no worker meets.
    missing: Vec<&'static str>,
    provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    pool: String,
    tools: BTreeSet<String>,
    labels: BTreeMap<String, String>,
}

fn role(text: Option<&str>) -> Result<Option<Role>> {
    text.map(|text| Role::parse(text).ok_or_else(|| Error::invalid("role", "must be a role").into())).transpose()
}

pub(super) async fn users(State(app): State<App>, Signed(caller): Signed, Asked(paging): Asked<Paging>) -> Result<Json<Page<User>>> {
    let cut = paging.cut();
    Ok(cut.page(app.accounts.users(&caller, cut.limit, cut.offset).await?))
}

pub(super) async fn create_user(State(app): State<App>, Signed(caller): Signed, Body(body): Body<NewUser>) -> Result<Response> {
    let role = role(body.role.as_deref())?.unwrap_or(Role::User);
    Ok(created(app.accounts.create_user(&caller, &body.email, body.username.as_deref(), body.password.0, role).await?))
}

pub(super) async fn change_user(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(user): Place<String>,
    Body(body): Body<UserChange>,
) -> Result<Json<Data<User>>> {
    let id: UserId = user.parse().map_err(|_| Failure::BadId("invalid user ID"))?;
    let active = match body.status.as_deref() {
        None => None,
        Some("active") => Some(true),
        Some("disabled") => Some(false),
        Some(_) => return Err(Error::invalid("status", "must be active or disabled").into()),
    };
    Ok(data(app.accounts.set_user(&caller, id, role(body.role.as_deref())?, active, body.quota).await?))
}

pub(super) async fn invite(State(app): State<App>, Signed(caller): Signed, Body(body): Body<NewInvite>) -> Result<Response> {
    let role = role(body.role.as_deref())?.unwrap_or(Role::User);
    Ok(created(Invite { invite: app.accounts.invite(&caller, role).await? }))
}

pub(super) async fn workers(State(app): State<App>, Signed(caller): Signed) -> Result<Json<Data<Workers>>> {
    caller.require(Scope::TenantRead)?;
    let workers = app.dispatch.workers().into_iter().map(|(info, free_slots, beat)| Worker {
        worker_id: info.worker_id,
        protocol: info.protocol,
        providers: info.providers,
        models: info.models,
        pool: info.pool,
        tools: info.tools,
        labels: info.labels,
        max_concurrent: info.max_concurrent,
        free_slots,
        active_tasks: beat.active_tasks,
        memory_usage_mb: beat.memory_usage_mb,
        avg_latency_ms: beat.avg_latency_ms,
    });
    let workers = workers.collect();
    let (waiting, unserved) = app.dispatch.waiting().await;
    let stranded = app.dispatch.stranded().await.into_iter().map(|(lane, missing)| Unserved {
        runs: lane.runs.len(),
        missing,
        provider: lane.needs.provider,
        model: lane.needs.model,
        pool: lane.needs.pool,
        tools: lane.needs.tools,
        labels: lane.needs.labels,
    });
    Ok(data(Workers { workers, waiting, unserved, unserved_needs: stranded.collect() }))
}
