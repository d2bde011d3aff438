//! What administrators of a tenant do.

use aiox_core::{Error, Role, Scope};
use aiox_model::{
    UserId,
    account::{Invite, NewInvite, NewUser, User, UserChange},
    body::{Data, ErrorBody, Page},
    operations::{Unserved, Worker, Workers},
};
use axum::{Json, extract::State, response::Response};

use super::App;
use crate::{
    auth::Signed,
    documented::{Gated, Invalid, NotFound, Sized},
    error::{Failure, Result},
    read::{Asked, Body, Paging, Place, created, data},
};

type UserData = Data<User>;
type UserPage = Page<User>;
type InviteData = Data<Invite>;
type WorkersData = Data<Workers>;

fn role(text: Option<&str>) -> Result<Option<Role>> {
    text.map(|text| Role::parse(text).ok_or_else(|| Error::invalid("role", "must be a role").into())).transpose()
}

/// List the accounts of the tenant
///
/// Newest first. Needs the scope `accounts:admin`.
#[utoipa::path(
    get,
    path = "/api/v1/admin/users",
    tag = "admin",
    operation_id = "list_users",
    security(("bearer" = ["accounts:admin"]), ("api_key" = ["accounts:admin"])),
    params(Paging),
    responses(
        (status = 200, description = "One page of accounts.", body = UserPage),
        Gated,
        Invalid
    )
)]
pub(super) async fn users(State(app): State<App>, Signed(caller): Signed, Asked(paging): Asked<Paging>) -> Result<Json<Page<User>>> {
    let cut = paging.cut();
    Ok(cut.page(app.accounts.users(&caller, cut.limit, cut.offset).await?))
}

/// Create an account
///
/// In the caller's tenant, whatever the sign-up policy of the hub is. Nobody can give a role above their own.
#[utoipa::path(
    post,
    path = "/api/v1/admin/users",
    tag = "admin",
    operation_id = "create_user",
    security(("bearer" = ["accounts:admin"]), ("api_key" = ["accounts:admin"])),
    request_body = NewUser,
    responses(
        (status = 201, description = "The account.", body = UserData),
        Gated,
        Invalid,
        Sized,
        (status = 409, description = "The address or the name has an account (`email_taken`, `username_taken`).", body = ErrorBody)
    )
)]
pub(super) async fn create_user(State(app): State<App>, Signed(caller): Signed, Body(body): Body<NewUser>) -> Result<Response> {
    let role = role(body.role.as_deref())?.unwrap_or(Role::User);
    Ok(created(app.accounts.create_user(&caller, &body.email, body.username.as_deref(), body.password.into(), role).await?))
}

/// Change an account
///
/// Its role, whether it may be used, its own limits; what is absent stays. Nobody can change an account whose role is above their own.
#[utoipa::path(
    patch,
    path = "/api/v1/admin/users/{user}",
    tag = "admin",
    operation_id = "change_user",
    security(("bearer" = ["accounts:admin"]), ("api_key" = ["accounts:admin"])),
    params(("user" = String, Path, description = "The account: its UUID or its prefixed id (`usr_…`).")),
    request_body = UserChange,
    responses(
        (status = 200, description = "The account after the change.", body = UserData),
        Gated,
        Invalid,
        Sized,
        NotFound
    )
)]
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

/// Create an invitation
///
/// For hubs whose sign-up policy is `invite`. It works once and for a week.
#[utoipa::path(
    post,
    path = "/api/v1/admin/invites",
    tag = "admin",
    operation_id = "create_invite",
    security(("bearer" = ["accounts:admin"]), ("api_key" = ["accounts:admin"])),
    request_body = NewInvite,
    responses(
        (status = 201, description = "The invitation.", body = InviteData),
        Gated,
        Invalid,
        Sized,
        NotFound
    )
)]
pub(super) async fn invite(State(app): State<App>, Signed(caller): Signed, Body(body): Body<NewInvite>) -> Result<Response> {
    let role = role(body.role.as_deref())?.unwrap_or(Role::User);
    Ok(created(Invite { invite: app.accounts.invite(&caller, role).await? }))
}

/// List the connected workers
///
/// With what they last reported, and how many runs wait for them. Needs the scope `tenant:read`.
#[utoipa::path(
    get,
    path = "/api/v1/admin/workers",
    tag = "admin",
    operation_id = "list_workers",
    security(("bearer" = ["tenant:read"]), ("api_key" = ["tenant:read"])),
    responses(
        (status = 200, description = "The workers.", body = WorkersData),
        Gated
    )
)]
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
        missing: missing.into_iter().map(Into::into).collect(),
        provider: lane.needs.provider,
        model: lane.needs.model,
        pool: lane.needs.pool,
        tools: lane.needs.tools,
        labels: lane.needs.labels,
    });
    Ok(data(Workers { workers, waiting, unserved, unserved_needs: stranded.collect() }))
}
