//! The caller's own account: profile, password, keys, allowance.

use aiox_model::{
    account::{ApiKey, NewApiKey, Quota, User},
    body::{Data, Message},
};
use axum::{Json, extract::State, response::Response};
use secrecy::SecretString;
use serde::Deserialize;

use super::App;
use crate::{
    auth::Signed,
    error::{Failure, Result},
    read::{Body, Place, created, data, message},
};

#[derive(Deserialize)]
pub(super) struct NewPassword {
    old_password: SecretText,
    new_password: SecretText,
}

/// A text of a body that must not be printed.
#[derive(Deserialize)]
#[serde(from = "String")]
pub(super) struct SecretText(pub(super) SecretString);
impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

pub(super) async fn me(State(app): State<App>, Signed(caller): Signed) -> Result<Json<Data<User>>> {
    Ok(data(app.accounts.me(&caller).await?))
}

pub(super) async fn password(State(app): State<App>, Signed(caller): Signed, Body(body): Body<NewPassword>) -> Result<Json<Message>> {
    app.accounts.change_password(&caller, body.old_password.0, body.new_password.0).await?;
    Ok(message("password changed successfully"))
}

pub(super) async fn keys(State(app): State<App>, Signed(caller): Signed) -> Result<Json<Data<Vec<ApiKey>>>> {
    Ok(data(app.accounts.keys(&caller).await?))
}

pub(super) async fn create_key(State(app): State<App>, Signed(caller): Signed, Body(body): Body<NewApiKey>) -> Result<Response> {
    Ok(created(app.accounts.create_key(&caller, body).await?))
}

pub(super) async fn revoke_key(State(app): State<App>, Signed(caller): Signed, Place(key): Place<String>) -> Result<Json<Message>> {
    let key = key.parse().map_err(|_| Failure::BadId("invalid key ID"))?;
    app.accounts.revoke_key(&caller, key).await?;
    Ok(message("key revoked successfully"))
}

pub(super) async fn quota(State(app): State<App>, Signed(caller): Signed) -> Result<Json<Data<Quota>>> {
    Ok(data(app.runs.quota(&caller).await?))
}
