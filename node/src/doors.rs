//! The routers of the product listener, put together.

use std::{sync::Arc, time::Duration};

use aiox_config::Mode;
use aiox_crypto::system::SystemIds;
use aiox_federation::admin::{self, PeerAdmin};
use aiox_http::{Health, HttpOptions, HttpState, V1Options, published};
use anyhow::{Context as _, Result};
use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::hub::Hub;

/// REST, health, metrics, the documents; with federation also the trust document and the peers' administration.
///
/// # Errors
/// When a setting of the listener is wrong.
pub fn router(hub: &Hub, health: Arc<dyn Health>, metrics: PrometheusHandle) -> Result<Router> {
    let own = &hub.settings.http;
    let trusted_proxies = own
        .trusted_proxies
        .iter()
        .map(|text| text.parse().with_context(|| format!("http.trusted_proxies: {text}")))
        .collect::<Result<_>>()?;
    let options = HttpOptions {
        cors_origins: own.cors_origins.clone(),
        trusted_proxies,
        run_timeout: Duration::from_millis(hub.settings.governance.task_timeout_ms),
        open_metrics: own.open_metrics,
        v1: V1Options {
            strict_ingress: own.strict_ingress,
            header_identity: own.header_identity.unwrap_or(hub.settings.hub.mode != Mode::Prod),
            default_tenant: own.default_tenant.clone(),
            open_ingest: hub.settings.hub.mode != Mode::Prod,
            stack: hub.stack.clone(),
        },
        ..HttpOptions::default()
    };
    let state = HttpState {
        accounts: hub.accounts.clone(),
        tenants: hub.tenants.clone(),
        agents: hub.agents.clone(),
        runs: hub.runs.clone(),
        peers: hub.book.clone(),
        ingest: hub.ingest.clone(),
        dispatch: hub.dispatch.clone(),
        gateway: hub.gateway.clone(),
        limiter: hub.limiter.clone(),
        health,
        metrics: Arc::new(move || metrics.render()),
        options,
    };
    let documents = published::routes(|| aiox_specgen::documents().into_iter().collect());
    let Some(federation) = &hub.federation else { return Ok(aiox_http::router_with(state, documents)) };
    let peers = PeerAdmin {
        peers: federation.peers().clone(),
        publisher: federation.publisher().clone(),
        accounts: hub.accounts.clone(),
        federated: hub.federated.clone(),
        ids: Arc::new(SystemIds),
    };
    Ok(aiox_http::router_with(state, documents.merge(admin::routes(peers)).merge(federation.public_routes())))
}
