//! A worker to test, and work for it.

use std::time::Duration;

use aiox_proto::worker::v1::TaskRequest;
use aiox_worker::{Credential, ProviderConfig, ProviderKind, WorkerConfig, WorkerError, run};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::double::{Double, Step, within};
use crate::hub::Hub;

/// A running worker, stopped at the end of its test.
pub struct Worker {
    pub shutdown: CancellationToken,
    running: JoinHandle<Result<(), WorkerError>>,
}

impl Worker {
    pub fn start(config: WorkerConfig) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(config, shutdown.clone()));
        Self { shutdown, running }
    }

    pub async fn ended(&mut self) -> Result<(), WorkerError> {
        within(&mut self.running).await.unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.running.abort();
    }
}

pub fn config(hub: &Hub) -> WorkerConfig {
    WorkerConfig {
        reconnect_delay: Duration::from_millis(10),
        default_provider: "echo".into(),
        ..WorkerConfig::new("w1", &hub.url, Credential::ApiKey("k".repeat(32).into()))
    }
}

/// A worker whose provider `slow` is `double`.
pub fn with_double(hub: &Hub, double: &Double) -> WorkerConfig {
    let mut config = config(hub);
    let provider = ProviderConfig {
        base_url: Some(double.url.clone()),
        default_model: Some("slow-1".into()),
        ..ProviderConfig::new(ProviderKind::OpenAi)
    };
    config.providers.insert("slow".into(), provider);
    config
}

pub fn task(run: &str) -> TaskRequest {
    TaskRequest {
        request_id: run.into(),
        lease_id: format!("lease-{run}"),
        user_message: "hello there".into(),
        system_prompt: "be kind".into(),
        stream: true,
        ..TaskRequest::default()
    }
}

pub fn slow(run: &str) -> TaskRequest {
    TaskRequest { provider: "slow".into(), ..task(run) }
}

pub fn chunk(text: &str) -> Step {
    let chunk = serde_json::json!({"choices":[{"index":0,"delta":{"content":text}}]});
    Step::Say(format!("data: {chunk}\n\n"))
}

pub async fn hanging() -> Double {
    Double::streaming("text/event-stream", vec![chunk("first"), Step::AwaitClose]).await
}
