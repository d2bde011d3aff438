//! The `/v1` surface and the OpenAI-compatible endpoints: runs, events, agents, models, policy, tenants, federation for programs.
//!
//! Lenient in, strict out. One file per group; a group is routes with their document, the layers are put on here.

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::routes::{App, plain};

/// Every route of the surface with its document.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
}

/// The routes as they are served.
pub(crate) fn router(_app: &App) -> Router<App> {
    plain(routes())
}
