//! Administration of tenants, their service tokens, and the audit log.

use aiox_app::{AuditQuery, Repeatable};
use aiox_core::Error;
use aiox_model::{
    Ts,
    v1::tenants::{AuditPage, Deleted, Tenant, TenantBody, TenantCreate, TenantList, TokenBody, TokenCreate, TokenList},
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::runs::{self, REPLAYED};
use crate::{
    auth::Signed,
    documented::{V1Conflicting, V1Gated, V1Invalid, V1NotFound, V1Sized},
    error::{Failure, Result},
    names::Names,
    read::{Asked, Body, MaybeBody, Place, typed},
    state::App,
};

/// Most entries of one page, and those of a page whose size is not given.
const PAGE: (u32, u32) = (1000, 100);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, replace, change, delete))
        .routes(routes!(enable))
        .routes(routes!(disable))
        .routes(routes!(tokens, issue))
        .routes(routes!(rotate))
        .routes(routes!(revoke))
        .routes(routes!(audit))
}

/// Which page of a list of tenants.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Most tenants, 1 to 1000; 1000 unless given.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// That a delete is meant.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Meant {
    /// The tenant's id once more. Without it nothing is deleted.
    confirm: Option<String>,
}

/// Which audit records; what is absent does not narrow.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Narrow {
    /// Of this tenant.
    #[serde(alias = "tenant_id")]
    tenant: Option<String>,
    /// Of this principal: an id `usr_…`, an address of another domain, or `peer:<domain>`.
    #[serde(alias = "principal_id")]
    principal: Option<String>,
    /// With this action, for instance `tokens.rotate`.
    action: Option<String>,
    /// `allowed` or `denied`.
    outcome: Option<String>,
    /// Not before this time (RFC 3339).
    from: Option<String>,
    /// Before this time (RFC 3339).
    to: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most records, 1 to 1000; 100 unless given.
    limit: Option<u32>,
}

fn limit(given: Option<u32>, usual: u32) -> Result<u32> {
    match given {
        None => Ok(usual),
        Some(limit) if (1..=PAGE.0).contains(&limit) => Ok(limit),
        Some(_) => Err(Error::invalid("limit", format!("must be from 1 to {}", PAGE.0)).into()),
    }
}

/// The object itself, or the one that stands in it under one of these names.
fn inner(mut body: Map<String, Value>, names: &[&str]) -> Result<Map<String, Value>> {
    let Some(name) = names.iter().find(|name| body.contains_key(**name)) else { return Ok(body) };
    match body.remove(*name) {
        Some(Value::Object(inner)) => Ok(inner),
        _ => Err(Error::invalid(*name, "must be an object").into()),
    }
}

const TENANT: [&str; 2] = ["tenant", "tenant_create"];

fn wanted(body: Map<String, Value>) -> Result<TenantCreate> {
    typed("", &Value::Object(inner(body, &TENANT)?))
}

/// What the request is compared by if it comes again. The key goes out of the body: in the header or there, it is the same one.
fn repeatable(headers: &HeaderMap, body: &mut Map<String, Value>) -> Result<Option<Repeatable>> {
    let named = match body.shift_remove("idempotency_key") {
        None => None,
        Some(Value::String(key)) if (1..=256).contains(&key.len()) => Some(key),
        Some(_) => return Err(Error::invalid("idempotency_key", "must be a text of 1 to 256 bytes").into()),
    };
    Ok(runs::key(headers, named)?.map(|key| Repeatable { key, body: Value::Object(body.clone()) }))
}

/// The answer to a request that made something, now or the first time.
fn answered(fresh: StatusCode, replayed: bool, body: impl IntoResponse) -> Response {
    if replayed {
        (StatusCode::OK, [(REPLAYED, HeaderValue::from_static("true"))], body).into_response()
    } else {
        (fresh, body).into_response()
    }
}

fn one(tenant: Tenant, names: &Names) -> Json<TenantBody> {
    Json(TenantBody { tenant, correlation_id: names.correlation.to_string() })
}

/// List tenants
///
/// An administrator of the platform sees all of them, by id; an administrator of a tenant sees that one alone. Deleted ones are not
/// shown.
#[utoipa::path(
    get,
    path = "/v1/admin/tenants",
    tag = "tenants",
    operation_id = "list_tenants",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(Which),
    responses((status = 200, description = "The tenants.", body = TenantList), V1Gated, V1Invalid)
)]
pub(super) async fn list(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Asked(which): Asked<Which>,
) -> Result<Json<TenantList>> {
    let limit = limit(which.limit, PAGE.0)?;
    let (tenants, next_cursor) = app.tenants.list(&caller, which.cursor.as_deref().unwrap_or_default(), limit).await?;
    Ok(Json(TenantList { tenants, next_cursor, correlation_id: names.correlation.to_string() }))
}

/// Create a tenant
///
/// Needs an administrator of the platform. The body is the tenant itself, or has it under `tenant` or `tenant_create`; members that are
/// not known are ignored. A tenant without quotas has the node's limits at `/v1`.
///
/// With an idempotency key, in the header or as the member `idempotency_key` of the body, the same request makes one tenant: the second one
/// is answered with 200, the first answer and the header `Idempotency-Replayed: true`; another body under that key is 409. A key is
/// remembered for 24 h.
#[utoipa::path(
    post,
    path = "/v1/admin/tenants",
    tag = "tenants",
    operation_id = "create_tenant",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 256 bytes: the same request under it acts once.")),
    request_body = TenantCreate,
    responses(
        (status = 201, description = "The tenant.", body = TenantBody),
        (status = 200, description = "The tenant as the first request with this key made it.", body = TenantBody,
            headers(("Idempotency-Replayed" = bool, description = "`true`."))),
        V1Gated, V1Invalid, V1Sized, V1Conflicting
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    headers: HeaderMap,
    Body(mut body): Body<Map<String, Value>>,
) -> Result<Response> {
    let repeatable = repeatable(&headers, &mut body)?;
    let made = app.tenants.create(&caller, wanted(body)?, repeatable).await?;
    Ok(answered(StatusCode::CREATED, made.replayed, one(made.value, &names)))
}

/// Read a tenant
///
/// The id as it was given, its `tnt_` form or its UUID; `default` names the hub's own tenant. A tenant that the caller does not
/// administer looks like one that does not exist.
#[utoipa::path(
    get,
    path = "/v1/admin/tenants/{tenant_id}",
    tag = "tenants",
    operation_id = "read_tenant",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(("tenant_id" = String, Path, description = "The tenant.")),
    responses((status = 200, description = "The tenant.", body = TenantBody), V1Gated, V1NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place(id): Place<String>,
) -> Result<Json<TenantBody>> {
    Ok(one(app.tenants.read(&caller, &id).await?, &names))
}

/// Replace a tenant
///
/// Members that are absent get their defaults, except `status`, which then stays. Status, plan, entitlements and quotas can be changed by
/// an administrator of the platform only. A change of limits holds for the next request.
#[utoipa::path(
    put,
    path = "/v1/admin/tenants/{tenant_id}",
    tag = "tenants",
    operation_id = "replace_tenant",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(("tenant_id" = String, Path, description = "The tenant.")),
    request_body = TenantCreate,
    responses((status = 200, description = "The tenant.", body = TenantBody), V1Gated, V1Invalid, V1Sized, V1NotFound, V1Conflicting)
)]
pub(super) async fn replace(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place(id): Place<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<TenantBody>> {
    Ok(one(app.tenants.replace(&caller, &id, wanted(body)?).await?, &names))
}

/// Change a tenant
///
/// A merge patch (RFC 7396): members that are absent stay, `null` resets one, objects are merged member by member. Otherwise as the
/// replacement.
#[utoipa::path(
    patch,
    path = "/v1/admin/tenants/{tenant_id}",
    tag = "tenants",
    operation_id = "change_tenant",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(("tenant_id" = String, Path, description = "The tenant.")),
    request_body = TenantCreate,
    responses((status = 200, description = "The tenant.", body = TenantBody), V1Gated, V1Invalid, V1Sized, V1NotFound, V1Conflicting)
)]
pub(super) async fn change(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place(id): Place<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<TenantBody>> {
    Ok(one(app.tenants.patch(&caller, &id, inner(body, &TENANT)?).await?, &names))
}

/// Delete a tenant
///
/// Needs an administrator of the platform, and the id once more as `confirm`. From then on the tenant is unknown and its credentials are
/// refused at every door; its keys are revoked. Its agents, runs, conversations and audit records stay in the hub's database, sealed as
/// before, and nobody reaches them. Its id is never used again. The hub's own tenant cannot be deleted (409).
#[utoipa::path(
    delete,
    path = "/v1/admin/tenants/{tenant_id}",
    tag = "tenants",
    operation_id = "delete_tenant",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(("tenant_id" = String, Path, description = "The tenant."), Meant),
    responses((status = 200, description = "It is deleted.", body = Deleted), V1Gated, V1Invalid, V1NotFound, V1Conflicting)
)]
pub(super) async fn delete(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place(id): Place<String>,
    Asked(meant): Asked<Meant>,
) -> Result<Json<Deleted>> {
    app.tenants.delete(&caller, &id, meant.confirm.as_deref()).await?;
    Ok(Json(Deleted { deleted: true, correlation_id: names.correlation.to_string() }))
}

/// Enable a tenant
///
/// Needs an administrator of the platform. Its credentials work again with the next request. Doing it again changes nothing.
#[utoipa::path(
    post,
    path = "/v1/admin/tenants/{tenant_id}/~enable",
    tag = "tenants",
    operation_id = "enable_tenant",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(("tenant_id" = String, Path, description = "The tenant.")),
    responses((status = 200, description = "The tenant.", body = TenantBody), V1Gated, V1NotFound, V1Conflicting)
)]
pub(super) async fn enable(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place(id): Place<String>,
) -> Result<Json<TenantBody>> {
    Ok(one(app.tenants.set_enabled(&caller, &id, true).await?, &names))
}

/// Disable a tenant
///
/// Needs an administrator of the platform. Its credentials get 403 at every door from the next request on; what was accepted before
/// comes to its end. The hub's own tenant cannot be disabled (409).
#[utoipa::path(
    post,
    path = "/v1/admin/tenants/{tenant_id}/~disable",
    tag = "tenants",
    operation_id = "disable_tenant",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(("tenant_id" = String, Path, description = "The tenant.")),
    responses((status = 200, description = "The tenant.", body = TenantBody), V1Gated, V1NotFound, V1Conflicting)
)]
pub(super) async fn disable(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place(id): Place<String>,
) -> Result<Json<TenantBody>> {
    Ok(one(app.tenants.set_enabled(&caller, &id, false).await?, &names))
}

/// List service tokens
///
/// The living tokens of a tenant, newest first, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/admin/tenants/{tenant_id}/tokens",
    tag = "tenants",
    operation_id = "list_tokens",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(("tenant_id" = String, Path, description = "The tenant.")),
    responses((status = 200, description = "The tokens.", body = TokenList), V1Gated, V1NotFound)
)]
pub(super) async fn tokens(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place(id): Place<String>,
) -> Result<Json<TokenList>> {
    let tokens = app.tenants.tokens(&caller, &id).await?;
    Ok(Json(TokenList { tokens, correlation_id: names.correlation.to_string() }))
}

/// Issue a service token
///
/// A credential of a program that acts in the tenant, for `Authorization: Bearer` or `X-API-Key`. Its `secret` is in this answer and
/// nowhere else; the hub keeps its hash. The body may be absent, be the token, or have it under `token`. Standing and scopes never exceed
/// the caller's.
///
/// With an idempotency key, in the header or as the member `idempotency_key` of the body, the same request issues one token. The second one
/// is answered with 200, the token without its secret, and the header `Idempotency-Replayed: true`: who lost the secret rotates the token.
#[utoipa::path(
    post,
    path = "/v1/admin/tenants/{tenant_id}/tokens",
    tag = "tenants",
    operation_id = "issue_token",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(
        ("tenant_id" = String, Path, description = "The tenant."),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 256 bytes: the same request under it acts once.")
    ),
    request_body = Option<TokenCreate>,
    responses(
        (status = 201, description = "The token with its secret.", body = TokenBody),
        (status = 200, description = "The token that the first request with this key issued, without its secret.", body = TokenBody,
            headers(("Idempotency-Replayed" = bool, description = "`true`."))),
        V1Gated, V1Invalid, V1Sized, V1NotFound, V1Conflicting
    )
)]
pub(super) async fn issue(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place(id): Place<String>,
    headers: HeaderMap,
    MaybeBody(body): MaybeBody<Map<String, Value>>,
) -> Result<Response> {
    let mut body = body.unwrap_or_default();
    let repeatable = repeatable(&headers, &mut body)?;
    let new: TokenCreate = typed("", &Value::Object(inner(body, &["token"])?))?;
    let issued = app.tenants.issue_token(&caller, &id, new, repeatable).await?;
    let body = Json(TokenBody { token: issued.value, correlation_id: names.correlation.to_string() });
    Ok(answered(StatusCode::CREATED, issued.replayed, body))
}

/// Rotate a service token
///
/// It gets a new secret, which is in this answer and nowhere else. The old one stops working at once. The second request with the same
/// `Idempotency-Key` rotates nothing: its answer has the token without the secret, and the header `Idempotency-Replayed: true`.
#[utoipa::path(
    post,
    path = "/v1/admin/tenants/{tenant_id}/tokens/{token_id}/~rotate",
    tag = "tenants",
    operation_id = "rotate_token",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(
        ("tenant_id" = String, Path, description = "The tenant."),
        ("token_id" = String, Path, description = "The token."),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 256 bytes: the same request under it acts once.")
    ),
    responses(
        (status = 200, description = "The token with its new secret.", body = TokenBody,
            headers(("Idempotency-Replayed" = bool, description = "`true` where an earlier request with this key rotated it: without the secret."))),
        V1Gated, V1Invalid, V1NotFound, V1Conflicting
    )
)]
pub(super) async fn rotate(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place((tenant, token)): Place<(String, String)>,
    headers: HeaderMap,
) -> Result<Response> {
    let repeatable = repeatable(&headers, &mut Map::new())?;
    let rotated = app.tenants.rotate_token(&caller, &tenant, &token, repeatable).await?;
    let body = Json(TokenBody { token: rotated.value, correlation_id: names.correlation.to_string() });
    Ok(answered(StatusCode::OK, rotated.replayed, body))
}

/// Revoke a service token
///
/// It stops working at once.
#[utoipa::path(
    delete,
    path = "/v1/admin/tenants/{tenant_id}/tokens/{token_id}",
    tag = "tenants",
    operation_id = "revoke_token",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(("tenant_id" = String, Path, description = "The tenant."), ("token_id" = String, Path, description = "The token.")),
    responses((status = 200, description = "It is revoked.", body = Deleted), V1Gated, V1NotFound)
)]
pub(super) async fn revoke(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Place((tenant, token)): Place<(String, String)>,
) -> Result<Json<Deleted>> {
    app.tenants.revoke_token(&caller, &tenant, &token).await?;
    Ok(Json(Deleted { deleted: true, correlation_id: names.correlation.to_string() }))
}

/// Read the audit log
///
/// Newest first. An administrator of the platform reads the records of every tenant, others those of their own. One record for each
/// change and each denial, with the principal as it was verified and the correlation id of the request. What was answered with 401, 403
/// or `tenant_mismatch` has the action `auth.denied`; without a valid credential it is in the hub's own tenant and names no principal.
#[utoipa::path(
    get,
    path = "/v1/admin/audit",
    tag = "tenants",
    operation_id = "list_audit_records",
    security(("bearer" = ["tenants:admin"]), ("api_key" = ["tenants:admin"])),
    params(Narrow),
    responses((status = 200, description = "One page of records.", body = AuditPage), V1Gated, V1Invalid, V1NotFound)
)]
pub(super) async fn audit(
    State(app): State<App>,
    Signed(caller): Signed,
    names: Names,
    Asked(narrow): Asked<Narrow>,
) -> Result<Json<AuditPage>> {
    let text = |given: Option<String>| given.filter(|text| !text.is_empty());
    let query = AuditQuery {
        tenant: text(narrow.tenant),
        principal: text(narrow.principal),
        action: text(narrow.action),
        outcome: text(narrow.outcome),
        from: time("from", narrow.from.as_deref())?,
        to: time("to", narrow.to.as_deref())?,
        cursor: text(narrow.cursor),
        limit: limit(narrow.limit, PAGE.1)?,
    };
    let (records, next_cursor) = app.tenants.audit(&caller, query).await?;
    Ok(Json(AuditPage { records, next_cursor, correlation_id: names.correlation.to_string() }))
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Ts>> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| Failure::from(Error::invalid(name, "must be an RFC 3339 time"))),
    }
}
