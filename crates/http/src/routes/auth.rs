//! Register, sign in, refresh, sign out.

use aiox_model::{
    account::{Login, Refresh, Register, TokenPair},
    body::{Data, Message},
};
use axum::{Json, extract::State, response::Response};

use super::App;
use crate::{
    auth::Signed,
    context::Facts,
    error::Result,
    read::{Body, created, data, message},
};

pub(super) async fn register(State(app): State<App>, facts: Facts, Body(body): Body<Register>) -> Result<Response> {
    Ok(created(app.accounts.register(body, facts.origin()).await?))
}

pub(super) async fn login(State(app): State<App>, facts: Facts, Body(body): Body<Login>) -> Result<Json<Data<TokenPair>>> {
    Ok(data(app.accounts.login(body, facts.origin()).await?))
}

pub(super) async fn refresh(State(app): State<App>, facts: Facts, Body(body): Body<Refresh>) -> Result<Json<Data<TokenPair>>> {
    Ok(data(app.accounts.refresh(&body.refresh_token, facts.origin()).await?))
}

pub(super) async fn logout(State(app): State<App>, Signed(caller): Signed) -> Result<Json<Message>> {
    app.accounts.logout(&caller).await?;
    Ok(message("logged out successfully"))
}
