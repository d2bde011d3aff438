//! Register, sign in, refresh, sign out.

use aiox_model::{
    account::{Login, Refresh, Register, TokenPair},
    body::{Data, ErrorBody, Message},
};
use axum::{Json, extract::State, response::Response};

use super::App;
use crate::{
    auth::Signed,
    context::Facts,
    documented::{Any, Gated, Invalid, Sized},
    error::Result,
    read::{Body, created, data, message},
};

type TokenPairData = Data<TokenPair>;

/// Register
///
/// Makes an account, signs it in, and gives it an XMPP address on the hub's domain. Needs no credential.
#[utoipa::path(
    post,
    path = "/api/v1/auth/register",
    tag = "auth",
    operation_id = "register_account",
    security(()),
    request_body = Register,
    responses(
        (status = 201, description = "Signed in.", body = TokenPairData),
        Any,
        Invalid,
        Sized,
        (status = 403, description = "The hub's sign-up policy refuses it (`signup_closed`, `invite_required`, `invite_invalid`).", body = ErrorBody),
        (status = 409, description = "The address or the name has an account (`email_taken`, `username_taken`).", body = ErrorBody)
    )
)]
pub(super) async fn register(State(app): State<App>, facts: Facts, Body(body): Body<Register>) -> Result<Response> {
    Ok(created(app.accounts.register(body, facts.origin()).await?))
}

/// Sign in
///
/// With the e-mail address or the user name. Needs no credential.
#[utoipa::path(
    post,
    path = "/api/v1/auth/login",
    tag = "auth",
    operation_id = "create_session",
    security(()),
    request_body = Login,
    responses(
        (status = 200, description = "Signed in.", body = TokenPairData),
        Any,
        Invalid,
        Sized,
        (status = 401, description = "The password is wrong or there is no such account; the two look the same (`unauthorized`).", body = ErrorBody)
    )
)]
pub(super) async fn login(State(app): State<App>, facts: Facts, Body(body): Body<Login>) -> Result<Json<Data<TokenPair>>> {
    Ok(data(app.accounts.login(body, facts.origin()).await?))
}

/// Exchange a refresh token
///
/// For the next pair. A refresh token works once: whoever shows it again, long after, ends the session of both. Needs no credential.
#[utoipa::path(
    post,
    path = "/api/v1/auth/refresh",
    tag = "auth",
    operation_id = "refresh_session",
    security(()),
    request_body = Refresh,
    responses(
        (status = 200, description = "The next pair.", body = TokenPairData),
        Any,
        Invalid,
        Sized,
        (status = 401, description = "The token is unknown, used, too old, or its account is disabled (`unauthorized`).", body = ErrorBody)
    )
)]
pub(super) async fn refresh(State(app): State<App>, facts: Facts, Body(body): Body<Refresh>) -> Result<Json<Data<TokenPair>>> {
    Ok(data(app.accounts.refresh(&body.refresh_token, facts.origin()).await?))
}

/// Sign out
///
/// Every session of the account ends, wherever it signed in.
#[utoipa::path(
    post,
    path = "/api/v1/auth/logout",
    tag = "auth",
    operation_id = "end_session",
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "Done.", body = Message),
        Gated
    )
)]
pub(super) async fn logout(State(app): State<App>, Signed(caller): Signed) -> Result<Json<Message>> {
    app.accounts.logout(&caller).await?;
    Ok(message("logged out successfully"))
}
