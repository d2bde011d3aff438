//! From settings to a worker.

use std::time::Duration;

use aiox_config::Settings;
use aiox_worker::{Credential, IdentityFiles, ProviderConfig, ProviderKind, TlsFiles, WorkerConfig};
use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use crate::secrets::Secrets;

/// Runs a worker until `stop`.
pub async fn run(settings: &Settings, stop: CancellationToken) -> Result<()> {
    let config = config(settings)?;
    let names: Vec<&String> = config.providers.keys().collect();
    tracing::info!(worker = config.worker_id, hub = config.hub_url, providers = ?names, "worker starts");
    if config.providers.values().all(|provider| provider.kind == ProviderKind::Echo) {
        tracing::warn!("no LLM provider is configured: only the built-in development provider `echo` answers");
    }
    aiox_worker::run(config, stop).await.context("the worker ended")
}

fn config(settings: &Settings) -> Result<WorkerConfig> {
    let own = &settings.worker;
    let id = own.id.clone().unwrap_or_else(|| format!("worker-{}", std::process::id()));
    let identity = match (&own.tls_cert, &own.tls_key) {
        (Some(cert), Some(key)) => Some(IdentityFiles { cert: cert.clone(), key: key.clone() }),
        (None, None) => None,
        _ => anyhow::bail!("worker.tls_cert and worker.tls_key go together"),
    };
    let scheme = if own.ca.is_some() || identity.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}:{}", settings.grpc.host, settings.grpc.port);
    let credential = match (settings.grpc.worker_key()?, &identity) {
        (Some(key), _) => Credential::ApiKey(key.to_secrecy()),
        (None, Some(_)) => Credential::Certificate,
        // The hub beside this worker keeps its made key in the shared data directory.
        (None, None) => Credential::ApiKey(Secrets::load(settings)?.worker_key),
    };
    let mut config = WorkerConfig::new(id, url, credential);
    config.tls = TlsFiles { ca: own.ca.clone(), identity, domain: None };
    config.max_model_calls = own.max_model_calls;
    config.max_concurrent = own.max_concurrent;
    config.heartbeat_interval = Duration::from_secs(u64::from(own.heartbeat_seconds.max(1)));
    config.reconnect_delay = Duration::from_secs_f64(own.reconnect_seconds);
    config.task_timeout = Duration::from_millis(settings.governance.task_timeout_ms);
    config.default_provider.clone_from(&settings.llm.default_provider);
    config.labels.clone_from(&own.labels);
    config.pool = own.pool.clone().unwrap_or_default();
    for (name, provider) in &own.providers {
        let kind: ProviderKind =
            provider.kind.as_deref().unwrap_or(name).parse().with_context(|| format!("worker.providers.{name}.kind"))?;
        let mut out = ProviderConfig::new(kind);
        out.base_url.clone_from(&provider.base_url);
        out.api_key = provider.api_key(name)?.map(|key| key.to_secrecy());
        out.models = provider.models.iter().cloned().collect();
        if provider.model.is_some() {
            out.default_model.clone_from(&provider.model);
        }
        config.providers.insert(name.to_lowercase(), out);
    }
    Ok(config)
}
