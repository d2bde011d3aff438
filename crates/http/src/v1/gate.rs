//! Who a request of `/v1` is from, and in which tenant it runs.
//!
//! A credential decides; nothing else ever moves a request into another tenant. Without one, in the modes that allow it, the headers
//! `X-Tenant-Id` and `X-Principal-Id` (or the body's `auth`) are believed, for everything but administration.
//!
//! What is denied is recorded here, for every route: by the identity that was verified, or by none.

use std::{sync::Arc, time::Duration};

use aiox_app::accounts::{Denial, Named};
use aiox_core::{Caller, Door, Scope};
use aiox_model::TenantId;
use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;

use super::{
    ask::{self, Auth},
    lenient::Reader,
};
use crate::{
    HttpState, address, auth,
    context::{Facts, too_large},
    error::{Failure, Result},
    names::{Names, TENANT_ID},
    shown::Shown,
    verbs,
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

/// Denials without a valid credential of one client address that are recorded within a minute.
const RECORDED: u32 = 60;

/// Lets identified requests through, tells them their tenant, and records who was denied.
pub(crate) async fn gate(State(app): State<Arc<HttpState>>, facts: Facts, names: Names, request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), verbs::public(request.uri().path()));
    let (caller, request) = match identify(&app, facts, request).await {
        Ok((caller, request)) => (Caller { correlation: Some(names.correlation.clone()), ..caller }, request),
        Err(failure) => {
            let response = failure.into_response();
            if let Some(why) = denial(&response) {
                let denial = Denial { caller: None, address: facts.address, correlation: &names.correlation, request: &asked, why: &why };
                note_stranger(&app, denial).await;
            }
            return response;
        }
    };
    let caller = Arc::new(caller);
    let mut response = admitted(&app, caller.clone(), request, next).await;
    if let Some(why) = denial(&response) {
        let denial = Denial { caller: Some(&caller), address: facts.address, correlation: &names.correlation, request: &asked, why: &why };
        app.accounts.record_denial(denial).await;
    }
    if let Some(Tenant(tenant)) = response.extensions_mut().remove()
        && let Ok(tenant) = HeaderValue::try_from(&*tenant)
    {
        response.headers_mut().insert(TENANT_ID, tenant);
    }
    response
}

/// Runs an identified request in its tenant.
async fn admitted(app: &HttpState, caller: Arc<Caller>, mut request: Request, next: Next) -> Response {
    let tenant = match admit(app, &caller, request.headers()).await {
        Ok(tenant) => Tenant(tenant.into()),
        Err(failure) => return failure.into_response(),
    };
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(tenant.clone());
    let mut response = next.run(request).await;
    response.extensions_mut().insert(tenant);
    response
}

/// The tenant of a caller as it is written on the wire, if its credentials work and the request does not name another one.
async fn admit(app: &HttpState, caller: &Caller, headers: &HeaderMap) -> Result<String> {
    app.tenants.book().admit(caller.tenant).await?;
    if let Some(named) = text(headers, &TENANT_ID)? {
        same_tenant(app, caller, named).await?;
    }
    Ok(app.tenants.book().text(caller.tenant).await?)
}

/// What a denied client is told: it needs another identity, scope or tenant. What the content policy blocks is recorded by what asked it.
fn denial(response: &Response) -> Option<String> {
    let shown = response.extensions().get::<Shown>()?;
    let refused = matches!(shown.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && shown.code != "policy_blocked";
    (refused || shown.code == "tenant_mismatch").then(|| shown.text.clone())
}

/// Records what was denied to somebody without a valid credential, unless it is too much: nobody unknown may fill the log.
async fn note_stranger(app: &HttpState, denial: Denial<'_>) {
    let key = format!("ratelimit:denied:{}", address::limit_key(denial.address));
    match app.limiter.check(&key, RECORDED, Duration::from_secs(60)).await {
        Ok(()) => app.accounts.record_denial(denial).await,
        Err(_) => metrics::counter!("aiox_denials_not_recorded_total").increment(1),
    }
}

async fn identify(app: &HttpState, facts: Facts, request: Request) -> Result<(Caller, Request)> {
    let headers = request.headers();
    if headers.contains_key(header::AUTHORIZATION) || headers.contains_key(&API_KEY) {
        // A credential that does not hold is refused, whatever else the request says of itself.
        let credential = auth::credential(headers).ok_or(Failure::NoCredential)?;
        return Ok((app.accounts.recognize(credential, facts.origin(), Door::V1).await?, request));
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
