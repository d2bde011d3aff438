//! The routes and what each group of them passes.

mod account;
mod admin;
mod agents;
mod audit;
mod auth;
mod chat;
mod conversations;
mod events;
mod health;
mod runs;
mod socket;

use std::{any::Any, sync::Arc};

use aiox_app::AgentRef;
use aiox_model::{AgentId, RunId};
use axum::{
    Extension, Router,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{delete, get, patch, post},
};
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, Any as AnyOrigin, CorsLayer},
    normalize_path::NormalizePath,
};

use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    HttpOptions, HttpState,
    auth::gate,
    bound::Streams,
    context::{context, limit, quick},
    error::{Failure, Result},
    openapi::base,
    names::{CORRELATION_ID, REQUEST_ID, TENANT_ID, TRACEPARENT},
    v1, verbs,
};

pub(crate) type App = Arc<HttpState>;

/// The REST door. Serve it with `into_make_service_with_connect_info::<SocketAddr>()`: without it every client counts as one.
pub fn router(state: HttpState) -> Router {
    router_with(state, Router::new())
}

/// The REST door and more routes beside its own, which pass what every request passes: correlation id, security headers, CORS,
/// contained panics, the time limit of quick requests, metrics. They authenticate for themselves.
pub fn router_with(state: HttpState, more: Router) -> Router {
    let app = Arc::new(state);
    let (gated, hurried) = (from_fn_with_state(app.clone(), gate), from_fn(quick));
    let routes = Router::new()
        .merge(plain(open()).route_layer(hurried.clone()))
        .merge(plain(sign_out()).route_layer(gated.clone()).merge(plain(sign_in())).route_layer(from_fn_with_state(app.clone(), limit)).route_layer(hurried.clone()))
        .merge(plain(quick_routes()).route_layer(gated.clone()).route_layer(hurried.clone()))
        .merge(plain(slow_routes()).route_layer(gated))
        .merge(plain(OpenApiRouter::new().route("/api/v1/agents/{agent}/chat/ws", get(socket::open))))
        .merge(v1::router(&app))
        .with_state(app.clone())
        .merge(more.method_not_allowed_fallback(no_method).layer(from_fn(quick)))
        .fallback(no_route)
        .layer(Extension(Arc::new(Streams::default())))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors(&app.options))
        .layer(from_fn_with_state(app, context));
    // The path is trimmed before it is matched, so the trimming has to stand around the routes.
    let split = Router::new().fallback_service(NormalizePath::trim_trailing_slash(routes));
    Router::new().fallback_service(tower::Layer::layer(&from_fn(verbs::split), split))
}

/// The document of these routes, before [`finish`](crate::openapi::finish).
pub fn openapi() -> OpenApi {
    let all = OpenApiRouter::with_openapi(base())
        .merge(open())
        .merge(sign_in())
        .merge(sign_out())
        .merge(quick_routes())
        .merge(slow_routes())
        .merge(v1::routes());
    all.into_openapi()
}

/// The routes without their document. An unknown method is answered as the contract says.
pub(crate) fn plain(documented: OpenApiRouter<App>) -> Router<App> {
    documented.split_for_parts().0.method_not_allowed_fallback(no_method)
}

fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/health", get(health::ready))
        .route("/metrics", get(health::metrics))
}

fn sign_in() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .route("/api/v1/auth/register", post(auth::register))
        .route("/api/v1/auth/login", post(auth::login))
        .route("/api/v1/auth/refresh", post(auth::refresh))
}

fn sign_out() -> OpenApiRouter<App> {
    OpenApiRouter::new().route("/api/v1/auth/logout", post(auth::logout))
}

fn quick_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .route("/api/v1/me", get(account::me))
        .route("/api/v1/me/password", post(account::password))
        .route("/api/v1/keys", get(account::keys).post(account::create_key))
        .route("/api/v1/keys/{key}", delete(account::revoke_key))
        .routes(routes!(agents::list, agents::create))
        .route("/api/v1/agents/{agent}", get(agents::show).put(agents::update).delete(agents::delete))
        .route("/api/v1/agents/{agent}/restore", post(agents::restore))
        .route("/api/v1/agents/{agent}/grants", get(agents::grants).post(agents::grant))
        .route("/api/v1/agents/{agent}/grants/{grant}", delete(agents::revoke))
        .route("/api/v1/agents/{agent}/audit", get(audit::of_agent))
        .route("/api/v1/agents/{agent}/executions", get(runs::with_agent))
        .route("/api/v1/agents/{agent}/conversations", get(conversations::with_agent))
        .route("/api/v1/agents/{agent}/history", get(conversations::history))
        .route("/api/v1/governance/quota", get(account::quota))
        .route("/api/v1/governance/audit", get(audit::own))
        .route("/api/v1/conversations", get(conversations::list))
        .route("/api/v1/conversations/{conversation}/messages", get(conversations::messages))
        .route("/api/v1/runs", get(runs::latest))
        .route("/api/v1/runs/{run}", get(runs::show))
        .route("/api/v1/runs/{run}/cancel", post(runs::cancel))
        .route("/api/v1/mesh/agents", get(agents::mesh))
        .route("/api/v1/admin/users", get(admin::users).post(admin::create_user))
        .route("/api/v1/admin/users/{user}", patch(admin::change_user))
        .route("/api/v1/admin/invites", post(admin::invite))
        .route("/api/v1/admin/workers", get(admin::workers))
}

/// Routes that wait or stream for as long as a run takes.
fn slow_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .route("/api/v1/agents/{agent}/chat", post(chat::post))
        .route("/api/v1/runs/{run}/events", get(events::follow))
}

async fn no_route() -> Failure {
    Failure::NoRoute
}

async fn no_method() -> Failure {
    Failure::NoMethod
}

fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<&str>().copied().or_else(|| cause.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("unknown"), "a handler panicked");
    Failure::Panic.into_response()
}

fn cors(options: &HttpOptions) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS])
        .allow_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            REQUEST_ID,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("x-api-key"),
            CORRELATION_ID,
            TENANT_ID,
            TRACEPARENT,
        ])
        .expose_headers([REQUEST_ID, CORRELATION_ID, TENANT_ID, TRACEPARENT, HeaderName::from_static("idempotency-replayed")])
        .max_age(std::time::Duration::from_secs(300));
    if options.cors_origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(AnyOrigin);
    }
    let origins = options.cors_origins.iter().filter_map(|origin| HeaderValue::try_from(origin.trim_end_matches('/')).ok());
    layer.allow_origin(AllowOrigin::list(origins)).allow_credentials(true)
}

fn agent_id(text: &str) -> Result<AgentId> {
    text.parse().map_err(|_| Failure::BadId("invalid agent ID"))
}

/// Any name of an agent.
fn agent_ref(text: &str) -> Result<AgentRef> {
    AgentRef::parse(text).ok_or(Failure::BadId("invalid agent ID"))
}

fn run_id(text: &str) -> Result<RunId> {
    text.parse().map_err(|_| Failure::BadId("invalid run ID"))
}
