//! The caller's own account: profile, password, keys, allowance.

use aiox_model::{
    account::{ApiKey, NewApiKey, NewPassword, Quota, User},
    body::{Data, ErrorBody, List, Message},
};
use axum::{Json, extract::State, response::Response};

use super::App;
use crate::{
    auth::Signed,
    documented::{Gated, Invalid, NotFound, Sized},
    error::{Failure, Result},
    read::{Body, Place, created, data, list, message},
};

type UserData = Data<User>;
type ApiKeyData = Data<ApiKey>;
type ApiKeyList = List<ApiKey>;
type QuotaData = Data<Quota>;

/// Read the caller's account
///
/// Also says with which role the credential acts.
#[utoipa::path(
    get,
    path = "/api/v1/me",
    tag = "account",
    operation_id = "get_account",
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "The account.", body = UserData),
        Gated,
        NotFound
    )
)]
pub(super) async fn me(State(app): State<App>, Signed(caller): Signed) -> Result<Json<Data<User>>> {
    Ok(data(app.accounts.me(&caller).await?))
}

/// Change the caller's password
///
/// Every session of the account ends, this one too: sign in again. API keys stay.
#[utoipa::path(
    post,
    path = "/api/v1/me/password",
    tag = "account",
    operation_id = "change_password",
    security(("bearer" = []), ("api_key" = [])),
    request_body = NewPassword,
    responses(
        (status = 200, description = "Done.", body = Message),
        Gated,
        (status = 401, description = "No credential, none that this hub knows, or the old password is wrong (`unauthorized`).", body = ErrorBody),
        Invalid,
        Sized,
        NotFound
    )
)]
pub(super) async fn password(State(app): State<App>, Signed(caller): Signed, Body(body): Body<NewPassword>) -> Result<Json<Message>> {
    app.accounts.change_password(&caller, body.old_password.into(), body.new_password.into()).await?;
    Ok(message("password changed successfully"))
}

/// List the caller's API keys
///
/// Newest first, without those that are revoked. The secrets are not shown again.
#[utoipa::path(
    get,
    path = "/api/v1/keys",
    tag = "account",
    operation_id = "list_keys",
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "The keys.", body = ApiKeyList),
        Gated,
        NotFound
    )
)]
pub(super) async fn keys(State(app): State<App>, Signed(caller): Signed) -> Result<Json<List<ApiKey>>> {
    Ok(list(app.accounts.keys(&caller).await?))
}

/// Create an API key
///
/// The answer has the key itself, once. A key never has more scopes than the caller.
#[utoipa::path(
    post,
    path = "/api/v1/keys",
    tag = "account",
    operation_id = "create_key",
    security(("bearer" = []), ("api_key" = [])),
    request_body = NewApiKey,
    responses(
        (status = 201, description = "The key, with `secret`.", body = ApiKeyData),
        Gated,
        Invalid,
        Sized,
        NotFound
    )
)]
pub(super) async fn create_key(State(app): State<App>, Signed(caller): Signed, Body(body): Body<NewApiKey>) -> Result<Response> {
    Ok(created(app.accounts.create_key(&caller, body).await?))
}

/// Revoke an API key
///
/// It stops working at once.
#[utoipa::path(
    delete,
    path = "/api/v1/keys/{key}",
    tag = "account",
    operation_id = "revoke_key",
    security(("bearer" = []), ("api_key" = [])),
    params(("key" = String, Path, description = "The key: its UUID or its prefixed id (`key_…`).")),
    responses(
        (status = 200, description = "Done.", body = Message),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn revoke_key(State(app): State<App>, Signed(caller): Signed, Place(key): Place<String>) -> Result<Json<Message>> {
    let key = key.parse().map_err(|_| Failure::BadId("invalid key ID"))?;
    app.accounts.revoke_key(&caller, key).await?;
    Ok(message("key revoked successfully"))
}

/// Read the caller's allowance
///
/// What has been used today (calendar day in UTC) and in this minute, and how much is allowed.
#[utoipa::path(
    get,
    path = "/api/v1/governance/quota",
    tag = "account",
    operation_id = "get_quota",
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "Use and limits.", body = QuotaData),
        Gated,
        NotFound
    )
)]
pub(super) async fn quota(State(app): State<App>, Signed(caller): Signed) -> Result<Json<Data<Quota>>> {
    Ok(data(app.runs.quota(&caller).await?))
}
