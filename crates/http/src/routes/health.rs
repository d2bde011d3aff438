//! Health and metrics.

use aiox_core::Scope;
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};

use super::App;
use crate::{Check, Standing, auth, context::Facts, error::Result};

/// Members of the body that are always there.
const MEMBERS: [&str; 6] = ["database", "nats", "workers", "redis", "xmpp", "peers"];

pub(super) async fn live() -> Json<Value> {
    Json(json!({ "data": { "status": "alive" } }))
}

pub(super) async fn ready(State(app): State<App>) -> Response {
    let (status, body) = report(&app.health.checks().await, &app.options.version);
    (status, Json(json!({ "data": body }))).into_response()
}

fn report(checks: &[Check], version: &str) -> (StatusCode, Map<String, Value>) {
    let well = checks.iter().all(|check| matches!(check.standing, Standing::Healthy | Standing::NotConfigured));
    let down = checks.iter().any(|check| check.required && check.standing == Standing::Unhealthy);
    let mut body = Map::new();
    body.insert("status".into(), json!(if well { "healthy" } else { "degraded" }));
    for name in MEMBERS {
        let standing = checks.iter().find(|check| check.name == name).map_or(Standing::NotConfigured, |check| check.standing);
        body.insert(name.into(), json!(standing.as_str()));
    }
    let list: Vec<Value> = checks.iter().map(|check| json!({ "name": check.name, "status": check.standing.as_str() })).collect();
    body.insert("checks".into(), json!(list));
    body.insert("version".into(), json!(version));
    (if down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, body)
}

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
        assert_eq!((status, &body["status"], &body["redis"]), (StatusCode::OK, &json!("healthy"), &json!("not configured")));
        let idle = [fine[0].clone(), check("workers", Standing::Degraded("no workers connected"), false)];
        let (status, body) = report(&idle, "1");
        assert_eq!((status, &body["status"], &body["workers"]), (StatusCode::OK, &json!("degraded"), &json!("no workers connected")));
        let (status, _) = report(&[check("xmpp", Standing::Unhealthy, false)], "1");
        assert_eq!(status, StatusCode::OK);
        let (status, body) = report(&[check("database", Standing::Unhealthy, true)], "1");
        assert_eq!((status, &body["database"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unhealthy")));
    }
}
