//! The `/v1` surface and the OpenAI-compatible endpoints: runs, events, agents, models, policy, tenants, federation for programs.
//!
//! Lenient in, strict out. One file per group; a group is routes with their document, the layers are put on here.

mod agents;
mod ask;
mod events;
mod federation;
mod gate;
mod gateway;
mod health;
mod lenient;
mod openai;
mod runs;
mod tenants;

pub use health::Service;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{context::quick, plain::plain, state::App};

/// Every route of the surface with its document.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(open()).merge(quick_routes()).merge(slow_routes())
}

/// The routes as they are served.
pub(crate) fn router(app: &App) -> Router<App> {
    let gated = from_fn_with_state(app.clone(), gate::gate);
    Router::new()
        .merge(plain(open()).route_layer(from_fn(quick)))
        .merge(plain(quick_routes()).route_layer(gated.clone()).route_layer(from_fn(quick)))
        .merge(plain(slow_routes()).route_layer(gated))
}

/// Routes without a credential.
fn open() -> OpenApiRouter<App> {
    health::routes()
}

fn quick_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(agents::routes())
        .merge(runs::routes())
        .merge(federation::quick())
        .merge(tenants::routes())
        .merge(gateway::quick())
        .merge(openai::quick())
}

/// Routes that wait or stream for as long as a run takes.
fn slow_routes() -> OpenApiRouter<App> {
    events::routes().merge(federation::slow()).merge(gateway::slow()).merge(openai::slow())
}
