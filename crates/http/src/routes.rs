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
};
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowCredentials, AllowOrigin, Any as AnyOrigin, CorsLayer},
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
    names::{CORRELATION_ID, REQUEST_ID, TENANT_ID, TRACEPARENT},
    openapi::base,
    plain::{no_method, plain},
    published,
    state::App,
    v1, verbs,
};

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
        .merge(
            plain(sign_out())
                .route_layer(gated.clone())
                .merge(plain(sign_in()))
                .route_layer(from_fn_with_state(app.clone(), limit))
                .route_layer(hurried.clone()),
        )
        .merge(plain(quick_routes()).route_layer(gated.clone()).route_layer(hurried.clone()))
        .merge(plain(slow_routes()).route_layer(gated))
        .merge(plain(sockets()))
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
        .merge(sockets())
        .merge(v1::routes());
    let mut api = all.into_openapi();
    api.merge(published::operations());
    api
}

fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::health))
        .routes(routes!(health::metrics))
}

fn sign_in() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(auth::register)).routes(routes!(auth::login)).routes(routes!(auth::refresh))
}

fn sign_out() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(auth::logout))
}

fn quick_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(account::me))
        .routes(routes!(account::password))
        .routes(routes!(account::keys, account::create_key))
        .routes(routes!(account::revoke_key))
        .routes(routes!(agents::list, agents::create))
        .routes(routes!(agents::show, agents::update, agents::delete))
        .routes(routes!(agents::restore))
        .routes(routes!(agents::grants, agents::grant))
        .routes(routes!(agents::revoke))
        .routes(routes!(audit::of_agent))
        .routes(routes!(runs::with_agent))
        .routes(routes!(conversations::with_agent))
        .routes(routes!(conversations::history))
        .routes(routes!(account::quota))
        .routes(routes!(audit::own))
        .routes(routes!(conversations::list))
        .routes(routes!(conversations::messages))
        .routes(routes!(runs::latest))
        .routes(routes!(runs::show))
        .routes(routes!(runs::cancel))
        .routes(routes!(agents::mesh))
        .routes(routes!(admin::users, admin::create_user))
        .routes(routes!(admin::change_user))
        .routes(routes!(admin::invite))
        .routes(routes!(admin::workers))
}

/// Routes that wait or stream for as long as a run takes.
fn slow_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(chat::post)).routes(routes!(events::follow))
}

/// The WebSocket, which reads its credential itself.
fn sockets() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(socket::open))
}

async fn no_route() -> Failure {
    Failure::NoRoute
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
    let origins: Vec<HeaderValue> = origins.collect();
    // The layer would say it to everybody.
    let credentials = AllowCredentials::predicate({
        let origins = origins.clone();
        move |origin, _| origins.contains(origin)
    });
    layer.allow_origin(AllowOrigin::list(origins)).allow_credentials(credentials)
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
