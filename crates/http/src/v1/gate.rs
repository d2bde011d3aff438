//! Who a request of `/v1` is from, and in which tenant it runs.
//!
//! A credential decides; nothing else ever moves a request into another tenant. Without one, in the modes that allow it, the headers
//! `X-Tenant-Id` and `X-Principal-Id` (or the body's `auth`) are believed, for everything but administration.

use std::sync::Arc;

use aiox_app::accounts::Named;
use aiox_core::{Caller, Door, Scope};
use aiox_model::TenantId;
use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;

use super::{
    ask::{self, Auth},
    lenient::Reader,
};
use crate::{
    HttpState, auth,
    context::{Facts, too_large},
    error::{Failure, Result},
    names::TENANT_ID,
};

const PRINCIPAL_ID: HeaderName = HeaderName::from_static("x-principal-id");
const SCOPES: HeaderName = HeaderName::from_static("x-scopes");
const SUBJECT_TYPE: HeaderName = HeaderName::from_static("x-subject-type");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The tenant that a request runs in, as it is written on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Tenant(pub(crate) Arc<str>);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // Only routes behind the gate have one.
        parts.extensions.get::<Self>().cloned().ok_or(Failure::NoCredential)
    }
}

/// Lets identified requests through, and tells them their tenant.
pub(crate) async fn gate(State(app): State<Arc<HttpState>>, facts: Facts, request: Request, next: Next) -> Response {
    let (caller, mut request) = match identify(&app, facts, request).await {
        Ok(identified) => identified,
        Err(failure) => return failure.into_response(),
    };
    let tenant = match app.tenants.book().text(caller.tenant).await {
        Ok(tenant) => tenant,
        Err(error) => return Failure::App(error).into_response(),
    };
    request.extensions_mut().insert(Arc::new(caller));
    request.extensions_mut().insert(Tenant(tenant.as_str().into()));
    let mut response = next.run(request).await;
    if let Ok(tenant) = HeaderValue::try_from(tenant) {
        response.headers_mut().insert(TENANT_ID, tenant);
    }
    response
}

async fn identify(app: &HttpState, facts: Facts, request: Request) -> Result<(Caller, Request)> {
    let headers = request.headers();
    if headers.contains_key(header::AUTHORIZATION) || headers.contains_key(&API_KEY) {
        // A credential that does not hold is refused, whatever else the request says of itself.
        let credential = auth::credential(headers).ok_or(Failure::NoCredential)?;
        let caller = app.accounts.authenticate(credential, facts.origin(), Door::V1).await?;
        if let Some(named) = text(headers, &TENANT_ID)? {
            same_tenant(app, &caller, named).await?;
        }
        return Ok((caller, request));
    }
    if !app.options.v1.header_identity {
        return Err(Failure::NoCredential);
    }
    let named = Headers::of(headers)?;
    let (said, request) = if named.whole() { (Auth::default(), request) } else { peek(app, request).await? };
    let principal = named.principal.or(said.principal).ok_or(Failure::NoCredential)?;
    let tenant = tenant(app, named.tenant.as_deref(), said.tenant.as_deref()).await?;
    let service = named.service.unwrap_or(said.service);
    let mut caller = app.accounts.named(Named { tenant, principal: &principal, service }, facts.origin(), Door::V1).await?;
    if let Some(scopes) = named.scopes {
        caller.scopes.retain(|scope| scopes.contains(scope));
    }
    Ok((caller, request))
}

/// What the headers say of an identity.
struct Headers {
    tenant: Option<String>,
    principal: Option<String>,
    service: Option<bool>,
    scopes: Option<Vec<Scope>>,
}

impl Headers {
    fn of(headers: &HeaderMap) -> Result<Self> {
        let owned = |name| Ok::<_, Failure>(text(headers, name)?.map(str::to_owned));
        let scopes = text(headers, &SCOPES)?;
        Ok(Self {
            tenant: owned(&TENANT_ID)?,
            principal: owned(&PRINCIPAL_ID)?,
            service: text(headers, &SUBJECT_TYPE)?.map(|kind| kind != "user"),
            scopes: scopes.map(|scopes| scopes.split([' ', ',']).flat_map(Scope::named).collect()),
        })
    }

    fn whole(&self) -> bool {
        self.tenant.is_some() && self.principal.is_some()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let bad = || aiox_core::Error::invalid(name.as_str(), "must be 1 to 255 visible ASCII characters");
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| bad())?.trim();
    if (1..=255).contains(&text.len()) { Ok(Some(text)) } else { Err(bad().into()) }
}

/// The tenant of an identity without a credential: of the header, else of the body, else the default one.
async fn tenant(app: &HttpState, header: Option<&str>, body: Option<&str>) -> Result<TenantId> {
    if let (Some(header), Some(body)) = (header, body)
        && header != body
        && app.tenants.book().find(header).await? != app.tenants.book().find(body).await?
    {
        return Err(Failure::OtherTenant);
    }
    let named = header.or(body).or(app.options.v1.default_tenant.as_deref());
    let named = named.ok_or_else(|| aiox_core::Error::invalid("X-Tenant-Id", "no source names a tenant"))?;
    Ok(app.tenants.book().named(named).await?)
}

/// Fails if a text names another tenant than the caller's.
pub(crate) async fn same_tenant(app: &HttpState, caller: &Caller, named: &str) -> Result<()> {
    if app.tenants.book().find(named).await? == Some(caller.tenant) { Ok(()) } else { Err(Failure::OtherTenant) }
}

/// Applies what a body says of its sender: it must be of the caller's tenant, and it narrows the caller's scopes.
pub(crate) async fn narrowed(app: &HttpState, caller: &Caller, auth: &Auth) -> Result<Caller> {
    if let Some(named) = &auth.tenant {
        same_tenant(app, caller, named).await?;
    }
    let mut caller = caller.clone();
    if let Some(scopes) = &auth.scopes {
        caller.scopes.retain(|scope| scopes.contains(scope));
    }
    Ok(caller)
}

/// Reads who the body says that it is from, and puts the body back.
async fn peek(app: &HttpState, request: Request) -> Result<(Auth, Request)> {
    if request.method() != Method::POST {
        return Ok((Auth::default(), request));
    }
    let (parts, body) = request.into_parts();
    let limit = app.options.max_body;
    let bytes = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large(limit).into()),
        Err(_) => return Err(Failure::NoJson),
    };
    let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let mut reader = Reader::default();
    let body = reader.body(&value);
    // `forward` has its own; what is wrong with either is for the handler to say.
    let inner = reader.object(&body, "forward");
    let auth = if !body.has("auth") && inner.is_there() { ask::auth(&mut reader, &inner) } else { ask::auth(&mut reader, &body) };
    Ok((auth, Request::from_parts(parts, Body::from(bytes))))
}
