//! Health as `/v1` tells it, and the two short paths that orchestrators ask for.

use aiox_model::v1::agent::{Dependency, Health, Readiness};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Check, Standing,
    error::{Failure, Refusal, Result},
    state::App,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(orchestrator)).routes(routes!(federation)).routes(routes!(alive)).routes(routes!(ready))
}

/// What `/v1/health` calls the hub on one of its ports, given as an extension of the requests there. Without it, `agent-orchestrator`.
#[derive(Debug, Clone, Copy)]
pub struct Service(pub &'static str);

fn down(checks: &[Check]) -> Option<&Check> {
    checks.iter().find(|check| check.required && check.standing == Standing::Unhealthy)
}

async fn health(app: &App, service: &str) -> Result<Json<Health>> {
    if let Some(part) = down(&app.health.checks().await) {
        let refusal = Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "dependency_unavailable",
            message: format!("{} is down", part.name),
            details: serde_json::Map::new(),
        };
        return Err(Failure::Refused(Box::new(refusal)));
    }
    Ok(Json(Health { status: "ok".into(), service: service.into(), version: app.options.version.clone() }))
}

/// Ask whether runs are served
///
/// Needs no credential.
#[utoipa::path(
    get,
    path = "/v1/health",
    tag = "health",
    operation_id = "get_v1_health",
    security(()),
    responses(
        (status = 200, description = "They are.", body = Health),
        (status = 503, description = "A part that is needed is down (`dependency_unavailable`).", body = aiox_model::v1::error::ErrorBody)
    )
)]
pub(super) async fn orchestrator(State(app): State<App>, service: Option<Extension<Service>>) -> Result<Json<Health>> {
    health(&app, service.map_or("agent-orchestrator", |Extension(Service(name))| name)).await
}

/// Ask whether federation is served
///
/// Needs no credential.
#[utoipa::path(
    get,
    path = "/v1/federation/health",
    tag = "health",
    operation_id = "get_federation_health",
    security(()),
    responses(
        (status = 200, description = "It is.", body = Health),
        (status = 503, description = "A part that is needed is down (`dependency_unavailable`).", body = aiox_model::v1::error::ErrorBody)
    )
)]
pub(super) async fn federation(State(app): State<App>) -> Result<Json<Health>> {
    health(&app, "federation").await
}

/// Ask whether the process lives
///
/// Needs no credential. Whether it can serve is said by `/readyz`.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    operation_id = "get_healthz",
    security(()),
    responses((status = 200, description = "It does.", body = Health))
)]
pub(super) async fn alive(State(app): State<App>) -> Json<Health> {
    Json(Health { status: "ok".into(), service: "hub".into(), version: app.options.version.clone() })
}

/// Ask whether the hub can serve
///
/// Needs no credential. Lists the parts that it depends on.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    operation_id = "get_readyz",
    security(()),
    responses(
        (status = 200, description = "It can.", body = Readiness),
        (status = 503, description = "A part that is needed is down.", body = Readiness)
    )
)]
pub(super) async fn ready(State(app): State<App>) -> Response {
    let checks = app.health.checks().await;
    let (status, text) = match down(&checks) {
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        None => (StatusCode::OK, "ok"),
    };
    let dependencies =
        checks.iter().map(|check| Dependency { name: check.name.into(), status: check.standing.as_str().into(), required: check.required });
    (status, Json(Readiness { status: text.into(), dependencies: dependencies.collect() })).into_response()
}
