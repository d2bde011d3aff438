//! From a credential to a caller of `/v1` and of the OpenAI-compatible endpoints.

use aiox_core::{Caller, Door};
use axum::{
    extract::{FromRequest, FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use serde::de::DeserializeOwned;
use std::sync::Arc;

use crate::{
    HttpState,
    auth::credential,
    context::{Correlation, Facts},
    error::{Failure, Result},
    read,
    state::App,
};

const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");

/// Lets authenticated requests through, and says in which tenant they ran.
pub(super) async fn gate(State(app): State<App>, facts: Facts, mut request: Request, next: Next) -> Response {
    let (caller, tenant) = match caller(&app, facts, request.headers()).await {
        Ok(found) => found,
        Err(failure) => return failure.into_response(),
    };
    request.extensions_mut().insert(Arc::new(caller));
    let mut response = next.run(request).await;
    if let Ok(tenant) = HeaderValue::try_from(tenant) {
        response.headers_mut().insert(TENANT, tenant);
    }
    response
}

async fn caller(app: &HttpState, facts: Facts, headers: &HeaderMap) -> Result<(Caller, String)> {
    let credential = credential(headers).ok_or(Failure::NoCredential)?;
    let caller = app.accounts.authenticate(credential, facts.origin(), Door::V1).await?;
    if let Some(named) = headers.get(TENANT) {
        same_tenant(app, &caller, named.to_str().unwrap_or("?")).await?;
    }
    let tenant = app.tenants.book().text(caller.tenant).await?;
    Ok((caller, tenant))
}

/// Fails unless `named` is the caller's tenant.
pub(super) async fn same_tenant(app: &HttpState, caller: &Caller, named: &str) -> Result<()> {
    match app.tenants.book().find(named).await? {
        Some(found) if found == caller.tenant => Ok(()),
        _ => Err(Failure::OtherTenant),
    }
}

impl<S: Sync> FromRequestParts<S> for Correlation {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| aiox_core::Error::internal("a request without its correlation id").into())
    }
}

/// A JSON body, in the words of `/v1`.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Failure;
    async fn from_request(request: Request, app: &App) -> Result<Self> {
        match read::Body::from_request(request, app).await {
            Ok(read::Body(body)) => Ok(Self(body)),
            Err(Failure::BadRequest) => Err(Failure::NoJson),
            Err(other) => Err(other),
        }
    }
}
