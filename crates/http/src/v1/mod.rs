//! The `/v1` surface and the OpenAI-compatible endpoints: runs, events, agents, models, policy, tenants, federation for programs.
//!
//! Lenient in, strict out. One file per group; a group is routes with their document, the layers are put on here.

mod tenants;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    auth::gate,
    context::quick,
    routes::{App, plain},
};

/// Every route of the surface with its document.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(tenants::routes())
}

/// The routes as they are served.
pub(crate) fn router(app: &App) -> Router<App> {
    plain(tenants::routes()).route_layer(from_fn_with_state(app.clone(), gate)).route_layer(from_fn(quick))
}
