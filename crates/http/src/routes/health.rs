//! Health and metrics.

use aiox_core::Scope;
use aiox_model::{
    body::Data,
    operations::{Liveness, PartHealth, Readiness},
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};

use super::App;
use crate::{
    Check, Standing, auth,
    context::Facts,
    documented::{Any, Gated},
    error::Result,
    read::data,
};

type LivenessData = Data<Liveness>;
type ReadinessData = Data<Readiness>;

/// Say that the process answers
///
/// For supervisors: it looks at nothing else. Needs no credential.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    operation_id = "get_liveness",
    security(()),
    responses(
        (status = 200, description = "It does.", body = LivenessData),
        Any
    )
)]
pub(super) async fn live() -> Json<Data<Liveness>> {
    data(Liveness { status: "alive".into() })
}

/// Say how the hub is
///
/// Part by part. Needs no credential. `degraded` still serves; a hub that cannot serve answers 503 with the same body.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "health",
    operation_id = "get_readiness",
    security(()),
    responses(
        (status = 200, description = "It serves.", body = ReadinessData),
        Any,
        (status = 503, description = "A part that it needs does not work.", body = ReadinessData)
    )
)]
pub(super) async fn ready(State(app): State<App>) -> Response {
    let (status, body) = report(&app.health.checks().await, &app.options.version);
    (status, data(body)).into_response()
}

/// Say how the hub is, at its shorter address
///
/// The same as `GET /health/ready`.
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    operation_id = "get_health",
    security(()),
    responses(
        (status = 200, description = "It serves.", body = ReadinessData),
        Any,
        (status = 503, description = "A part that it needs does not work.", body = ReadinessData)
    )
)]
pub(super) async fn health(app: State<App>) -> Response {
    ready(app).await
}

fn report(checks: &[Check], version: &str) -> (StatusCode, Readiness) {
    let well = checks.iter().all(|check| matches!(check.standing, Standing::Healthy | Standing::NotConfigured));
    let down = checks.iter().any(|check| check.required && check.standing == Standing::Unhealthy);
    let of =
        |name: &str| checks.iter().find(|check| check.name == name).map_or(Standing::NotConfigured, |check| check.standing).as_str().into();
    let body = Readiness {
        status: if well { "healthy" } else { "degraded" }.into(),
        database: of("database"),
        nats: of("nats"),
        workers: of("workers"),
        redis: of("redis"),
        xmpp: of("xmpp"),
        peers: of("peers"),
        checks: checks.iter().map(|check| PartHealth { name: check.name.into(), status: check.standing.as_str().into() }).collect(),
        version: version.into(),
    };
    (if down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, body)
}

/// Read the metrics
///
/// In the text format of Prometheus. Needs the scope `tenant:read`, unless the hub is configured with open metrics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "get_metrics",
    security(("bearer" = ["tenant:read"]), ("api_key" = ["tenant:read"])),
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
        Gated
    )
)]
pub(super) async fn metrics(State(app): State<App>, facts: Facts, headers: HeaderMap) -> Result<Response> {
    if !app.options.open_metrics {
        auth::caller(&app, facts, &headers).await?.require(Scope::TenantRead)?;
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (app.metrics)()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_without_workers_is_degraded_and_one_without_its_database_is_down() {
        let check = |name, standing, required| Check { name, standing, required };
        let fine = [check("database", Standing::Healthy, true), check("nats", Standing::NotConfigured, true)];
        let (status, body) = report(&fine, "1");
        assert_eq!((status, body.status.as_str(), body.redis.as_str()), (StatusCode::OK, "healthy", "not configured"));
        let idle = [fine[0].clone(), check("workers", Standing::Degraded("no workers connected"), false)];
        let (status, body) = report(&idle, "1");
        assert_eq!((status, body.status.as_str(), body.workers.as_str()), (StatusCode::OK, "degraded", "no workers connected"));
        let (status, _) = report(&[check("xmpp", Standing::Unhealthy, false)], "1");
        assert_eq!(status, StatusCode::OK);
        let (status, body) = report(&[check("database", Standing::Unhealthy, true)], "1");
        assert_eq!((status, body.database.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"));
    }
}
