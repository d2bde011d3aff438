//! The whole worker against a hub double.

use std::path::Path;
use std::time::{Duration, Instant};

use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::{CancelTask, Drain, RegisterAck, TaskRequest};
use aiox_worker::{
    Credential, IdentityFiles, ProviderConfig, ProviderKind, TlsFiles, WorkerConfig, WorkerError,
    run,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::double::{Double, Step, within};
use crate::hub::Hub;

/// A running worker, stopped at the end of its test.
struct Worker {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), WorkerError>>,
}

impl Worker {
    fn start(config: WorkerConfig) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(config, shutdown.clone()));
        Self { shutdown, running }
    }

    async fn ended(&mut self) -> Result<(), WorkerError> {
        within(&mut self.running).await.unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn config(hub: &Hub) -> WorkerConfig {
    WorkerConfig {
        reconnect_delay: Duration::from_millis(10),
        default_provider: "echo".into(),
        ..WorkerConfig::new("w1", &hub.url, Credential::ApiKey("k".repeat(32).into()))
    }
}

/// A worker whose provider `slow` is `double`.
fn with_double(hub: &Hub, double: &Double) -> WorkerConfig {
    let mut config = config(hub);
    let provider = ProviderConfig {
        base_url: Some(double.url.clone()),
        default_model: Some("slow-1".into()),
        ..ProviderConfig::new(ProviderKind::OpenAi)
    };
    config.providers.insert("slow".into(), provider);
    config
}

fn task(run: &str) -> TaskRequest {
    TaskRequest {
        request_id: run.into(),
        lease_id: format!("lease-{run}"),
        user_message: "hello there".into(),
        system_prompt: "be kind".into(),
        stream: true,
        ..TaskRequest::default()
    }
}

fn slow(run: &str) -> TaskRequest {
    TaskRequest {
        provider: "slow".into(),
        ..task(run)
    }
}

fn chunk(text: &str) -> Step {
    let chunk = serde_json::json!({"choices":[{"index":0,"delta":{"content":text}}]});
    Step::Say(format!("data: {chunk}\n\n"))
}

async fn hanging() -> Double {
    Double::streaming("text/event-stream", vec![chunk("first"), Step::AwaitClose]).await
}

#[tokio::test]
async fn registers_and_answers_with_deltas_before_the_result() {
    let mut hub = Hub::start().await;
    let mut config = config(&hub);
    config.labels.insert("region".into(), "north".into());
    config.max_concurrent = 3;
    let _worker = Worker::start(config);
    let (mut session, register) = hub.registered().await;
    assert_eq!(session.api_key, "k".repeat(32));
    assert_eq!(register.worker_id, "w1");
    assert_eq!(register.max_concurrent, 3);
    assert_eq!(register.supported_providers, ["echo"]);
    assert_eq!(register.protocol, 2);
    assert_eq!(register.labels["region"], "north");

    session.give(task("r1")).await;
    let (result, deltas) = session.result().await;
    assert_eq!(deltas.concat(), "echo: hello there");
    assert!(deltas.len() > 1);
    assert_eq!(result.response_text, "echo: hello there");
    assert_eq!(result.request_id, "r1");
    assert_eq!(result.lease_id, "lease-r1");
    assert_eq!(result.worker_id, "w1");
    assert_eq!(result.model_used, "echo");
    assert_eq!(result.finish_reason, "stop");
    assert_eq!(result.error_message, "");
    assert_eq!((result.input_tokens, result.output_tokens), (4, 3));
    assert_eq!(result.tokens_used, 7);

    let mut quiet = task("r2");
    quiet.stream = false;
    session.give(quiet).await;
    let (result, deltas) = session.result().await;
    assert_eq!(result.response_text, "echo: hello there");
    assert!(deltas.is_empty());
}

#[tokio::test]
async fn a_hub_of_the_first_protocol_gets_only_what_it_knows() {
    let mut hub = Hub::start().await;
    let _worker = Worker::start(config(&hub));
    let mut session = hub.session().await;
    assert!(matches!(session.next().await, ToHub::Register(_)));
    session.accept(0).await;
    for run in ["r1", "r2"] {
        session.give(task(run)).await;
        let (result, deltas) = session.result().await;
        assert_eq!(result.request_id, run);
        assert!(
            deltas.is_empty(),
            "a delta went to a hub that does not know it"
        );
    }
    drop(session);
    // Nothing is sent again: such a hub acknowledges nothing.
    let (mut session, register) = hub.registered().await;
    assert!(register.held.is_empty());
    session.give(task("r3")).await;
    assert_eq!(session.result().await.0.request_id, "r3");
}

#[tokio::test]
async fn a_result_survives_a_reconnect_until_it_is_acknowledged() {
    let mut hub = Hub::start().await;
    let _worker = Worker::start(config(&hub));
    let (mut session, _) = hub.registered().await;
    session.give(task("r1")).await;
    let (first, _) = session.result().await;
    drop(session);

    let (mut session, register) = hub.registered().await;
    assert_eq!(register.held.len(), 1);
    assert_eq!(register.held[0].request_id, "r1");
    assert_eq!(register.held[0].lease_id, "lease-r1");
    let (again, deltas) = session.result().await;
    assert_eq!(again, first);
    assert!(deltas.is_empty());
    session.ack(&again).await;
    // The acknowledgement is processed before the task after it is answered.
    session.give(task("r2")).await;
    let (second, _) = session.result().await;
    session.ack(&second).await;
    session.give(task("r3")).await;
    assert_eq!(session.result().await.0.request_id, "r3");
    drop(session);
    let (_session, register) = hub.registered().await;
    let held: Vec<_> = register.held.iter().map(|held| &held.request_id).collect();
    assert_eq!(held, ["r3"]);
}

#[tokio::test]
async fn a_run_offered_again_is_not_done_twice() {
    let mut hub = Hub::start().await;
    let mut double = hanging().await;
    let _worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;
    session.give(slow("r1")).await;
    double.request().await;
    session.give(task("r2")).await;
    let done = loop {
        match session.next().await {
            ToHub::TaskResponse(response) => break response,
            ToHub::TaskDelta(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(done.request_id, "r2");
    drop(session);

    let (mut session, register) = hub.registered().await;
    assert_eq!(register.held.len(), 2);
    assert_eq!(session.result().await.0.request_id, "r2");
    // The hub took both back and gives them out again, under new leases.
    for run in ["r1", "r2"] {
        let task = TaskRequest {
            lease_id: "lease-new".into(),
            attempt: 2,
            ..slow(run)
        };
        session.give(task).await;
    }
    let (again, _) = session.result().await;
    assert_eq!(again.request_id, "r2");
    assert_eq!(again.lease_id, "lease-new");
    assert_eq!(again.response_text, done.response_text);
    session
        .say(FromHub::CancelTask(CancelTask {
            request_id: "r1".into(),
            reason: "canceled".into(),
        }))
        .await;
    let (stopped, _) = session.result().await;
    assert_eq!(stopped.request_id, "r1");
    assert_eq!(stopped.lease_id, "lease-new");
    assert!(
        double.seen.try_recv().is_err(),
        "the provider was asked twice"
    );
}

#[tokio::test]
async fn a_failed_result_does_not_stand_for_a_new_attempt() {
    let mut hub = Hub::start().await;
    let mut double = Double::failing("503 Service Unavailable", "canary").await;
    let _worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;
    for attempt in 1..=2 {
        session
            .give(TaskRequest {
                attempt,
                ..slow("r1")
            })
            .await;
        double.request().await;
        let (result, _) = session.result().await;
        assert_eq!(result.error_code, "provider_unavailable");
        assert!(result.retryable);
        assert!(!result.error_message.contains("canary"));
    }
}

#[tokio::test]
async fn cancel_and_deadline_close_the_providers_connection() {
    let mut hub = Hub::start().await;
    let mut double = hanging().await;
    let _worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;

    session.give(slow("r1")).await;
    assert!(matches!(session.next().await, ToHub::TaskDelta(delta) if delta.text == "first"));
    session
        .say(FromHub::CancelTask(CancelTask {
            request_id: "r1".into(),
            reason: "canceled".into(),
        }))
        .await;
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "canceled");
    assert!(!result.retryable);
    within(double.closed.recv()).await.unwrap();

    let started = Instant::now();
    session
        .give(TaskRequest {
            timeout_ms: 300,
            ..slow("r2")
        })
        .await;
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "timeout");
    assert!(started.elapsed() < Duration::from_secs(5));
    within(double.closed.recv()).await.unwrap();
}

#[tokio::test]
async fn a_malformed_or_misrouted_task_is_an_error_result_at_once() {
    let mut hub = Hub::start().await;
    let _worker = Worker::start(config(&hub));
    let (mut session, _) = hub.registered().await;
    session
        .give(TaskRequest {
            llm_config_json: "[not json".into(),
            ..task("r1")
        })
        .await;
    assert_eq!(session.result().await.0.error_code, "invalid_task");
    session
        .give(TaskRequest {
            provider: "anthropic".into(),
            ..task("r2")
        })
        .await;
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "provider_not_configured");
    assert!(result.retryable);
}

#[tokio::test]
async fn a_tool_call_is_told_and_ends_the_run_honestly() {
    let call = serde_json::json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,
        "id":"call_1","function":{"name":"clock","arguments":"{}"}}]}}]});
    let last = serde_json::json!({"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],
        "usage":{"prompt_tokens":5,"completion_tokens":2}});
    let script = vec![
        Step::Say(format!("data: {call}\n\ndata: {last}\n\ndata: [DONE]\n\n")),
        Step::Finish,
    ];
    let mut hub = Hub::start().await;
    let double = Double::streaming("text/event-stream", script).await;
    let _worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;
    session.give(slow("r1")).await;
    let ToHub::TaskEvent(event) = session.next().await else {
        panic!("no event");
    };
    assert_eq!(event.r#type, "tool.call");
    assert_eq!(event.lease_id, "lease-r1");
    let payload: serde_json::Value = serde_json::from_str(&event.payload_json).unwrap();
    assert_eq!(
        payload,
        serde_json::json!({"call_id":"call_1","name":"clock","arguments":{}})
    );
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "tools_unavailable");
    assert!(!result.retryable);
    assert_eq!((result.input_tokens, result.output_tokens), (5, 2));
}

#[tokio::test]
async fn places_are_bounded_and_independent() {
    let mut hub = Hub::start().await;
    let mut double = hanging().await;
    let mut config = with_double(&hub, &double);
    config.max_concurrent = 2;
    let _worker = Worker::start(config);
    let (mut session, _) = hub.registered().await;
    session.give(slow("r1")).await;
    double.request().await;
    assert!(matches!(session.next().await, ToHub::TaskDelta(_)));
    // The second place works while the first one waits for its provider.
    session.give(task("r2")).await;
    assert_eq!(session.result().await.0.error_code, "");
    session.give(slow("r3")).await;
    double.request().await;
    assert!(matches!(session.next().await, ToHub::TaskDelta(_)));
    session.give(task("r4")).await;
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "worker_busy");
    assert!(result.retryable);
}

#[tokio::test]
async fn a_stopped_task_leaves_its_place_at_once() {
    let mut hub = Hub::start().await;
    let mut double = hanging().await;
    let mut config = with_double(&hub, &double);
    config.max_concurrent = 1;
    let _worker = Worker::start(config);
    let (mut session, _) = hub.registered().await;
    for round in 0..20 {
        let (stopped, next) = (format!("s{round}"), format!("n{round}"));
        session.give(slow(&stopped)).await;
        double.request().await;
        session
            .say(FromHub::CancelTask(CancelTask {
                request_id: stopped.clone(),
                reason: "canceled".into(),
            }))
            .await;
        session.give(task(&next)).await;
        let mut codes = std::collections::BTreeMap::new();
        for _ in 0..2 {
            let (result, _) = session.result().await;
            codes.insert(result.request_id, result.error_code);
        }
        assert_eq!(codes[&stopped], "canceled");
        assert_eq!(codes[&next], "");
    }
}

#[tokio::test]
async fn a_long_answer_is_cut_at_its_bound() {
    let mut hub = Hub::start().await;
    let mut config = config(&hub);
    config.max_answer_bytes = 8;
    let _worker = Worker::start(config);
    let (mut session, _) = hub.registered().await;
    let task = TaskRequest {
        user_message: "äöü".into(),
        ..task("r1")
    };
    session.give(task).await;
    let (result, deltas) = session.result().await;
    // Nine bytes would be too many, and half a letter is none.
    assert_eq!(result.response_text, "echo: ä");
    assert_eq!(deltas.concat(), "echo: ä");
    assert_eq!(result.finish_reason, "length");
}

#[tokio::test]
async fn a_refused_registration_is_tried_again() {
    let mut hub = Hub::start().await;
    let _worker = Worker::start(config(&hub));
    let session = hub.session().await;
    session
        .say(FromHub::RegisterAck(RegisterAck {
            accepted: false,
            message: "worker_id already registered".into(),
            ..RegisterAck::default()
        }))
        .await;
    drop(session);
    let (mut session, _) = hub.registered().await;
    session.give(task("r1")).await;
    assert_eq!(session.result().await.0.error_code, "");
}

#[tokio::test]
async fn heartbeats_tell_the_load_and_a_hub_that_forgot_the_worker_gets_it_back() {
    let mut hub = Hub::start().await;
    let double = hanging().await;
    let _worker = Worker::start(with_double(&hub, &double));
    let mut session = hub.session().await;
    assert!(matches!(session.next().await, ToHub::Register(_)));
    // The hub says how often; the worker's own 30 s would be too slow for this test.
    session
        .say(FromHub::RegisterAck(RegisterAck {
            accepted: true,
            protocol: 2,
            heartbeat_interval_ms: 20,
            ..RegisterAck::default()
        }))
        .await;
    session.give(slow("r1")).await;
    assert!(matches!(session.next().await, ToHub::TaskDelta(_)));
    let beat = loop {
        let beat = within(hub.beats.recv()).await.unwrap();
        if beat.active_tasks > 0 {
            break beat;
        }
    };
    assert_eq!(beat.worker_id, "w1");
    assert_eq!(beat.active_tasks, 1);
    *hub.beats_ok.lock().unwrap() = false;
    let (_session, register) = hub.registered().await;
    assert_eq!(register.held.len(), 1);
}

#[tokio::test]
async fn leases_are_renewed_while_a_task_runs() {
    let mut hub = Hub::start().await;
    let double = hanging().await;
    let _worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;
    session
        .give(TaskRequest {
            lease_ms: 60,
            ..slow("r1")
        })
        .await;
    let mut renewals = 0;
    while renewals < 2 {
        match session.next().await {
            ToHub::LeaseRenew(renew) => {
                assert_eq!(renew.lease_ids, ["lease-r1"]);
                renewals += 1;
            }
            ToHub::TaskDelta(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn shutdown_finishes_what_runs_and_takes_nothing_more() {
    let gate = vec![
        chunk("slow answer"),
        Step::Say(
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
                .into(),
        ),
        Step::AwaitGate,
        Step::Say("data: [DONE]\n\n".into()),
        Step::Finish,
    ];
    let mut hub = Hub::start().await;
    let double = Double::streaming("text/event-stream", gate).await;
    let mut worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;
    session.give(slow("r1")).await;
    assert!(matches!(session.next().await, ToHub::TaskDelta(_)));
    worker.shutdown.cancel();
    assert!(matches!(session.next().await, ToHub::DrainNotice(_)));
    session.give(task("r2")).await;
    let (refused, _) = session.result().await;
    assert_eq!(refused.error_code, "worker_draining");
    assert!(refused.retryable);
    session.ack(&refused).await;
    double.open_gate();
    let (result, _) = session.result().await;
    assert_eq!(result.response_text, "slow answer");
    session.ack(&result).await;
    assert!(session.message().await.is_none());
    drop(session);
    worker.ended().await.unwrap();
}

#[tokio::test]
async fn shutdown_hands_back_what_does_not_end_in_time() {
    let mut hub = Hub::start().await;
    let double = hanging().await;
    let mut config = with_double(&hub, &double);
    config.drain_timeout = Duration::from_millis(2100);
    let mut worker = Worker::start(config);
    let (mut session, _) = hub.registered().await;
    session.give(slow("r1")).await;
    assert!(matches!(session.next().await, ToHub::TaskDelta(_)));
    let started = Instant::now();
    worker.shutdown.cancel();
    assert!(matches!(session.next().await, ToHub::DrainNotice(_)));
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "worker_draining");
    assert!(result.retryable);
    // Even a hub that never acknowledges does not hold the worker.
    worker.ended().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_draining_hub_is_left_and_found_again() {
    let mut hub = Hub::start().await;
    let _worker = Worker::start(config(&hub));
    let (mut session, _) = hub.registered().await;
    session.give(task("r1")).await;
    session.say(FromHub::Drain(Drain {})).await;
    let (result, _) = session.result().await;
    session.ack(&result).await;
    assert!(session.message().await.is_none());
    let (_session, register) = hub.registered().await;
    assert!(register.held.is_empty());
}

/// A CA, and a certificate for `localhost` and one for the worker, as PEM.
struct Pki {
    ca: String,
    server: (String, String),
    worker: (String, String),
    renewed: (String, String),
}

fn pki() -> Pki {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let leaf = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    };
    Pki {
        ca: ca.pem(),
        server: leaf("localhost"),
        worker: leaf("w1.workers.example"),
        renewed: leaf("w1.workers.example"),
    }
}

fn write(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn mutual_tls_with_files_that_are_read_again() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let pki = pki();
    let (cert, key) = &pki.server;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(&pki.ca));
    let mut hub = Hub::start_with(Some(tls)).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&hub);
    config.reconnect_delay = Duration::from_millis(200);
    config.tls = TlsFiles {
        ca: Some(write(dir.path(), "ca.pem", &pki.ca)),
        identity: Some(IdentityFiles {
            cert: write(dir.path(), "w.pem", &pki.worker.0),
            key: write(dir.path(), "w.key", &pki.worker.1),
        }),
        domain: None,
    };
    let _worker = Worker::start(config);
    let (session, _) = hub.registered().await;
    // A key that fits no certificate: every attempt fails until the renewal is complete.
    write(dir.path(), "w.pem", &pki.renewed.0);
    drop(session);
    write(dir.path(), "w.key", &pki.renewed.1);
    let (mut session, _) = hub.registered().await;
    session.give(task("r1")).await;
    assert_eq!(session.result().await.0.error_code, "");
}

#[tokio::test]
async fn a_missing_file_stops_the_start_and_is_named() {
    let hub = Hub::start().await;
    let mut config = config(&hub);
    config.hub_url = "https://hub-a.example:50051".into();
    config.tls.ca = Some("/nowhere/ca.pem".into());
    let error = Worker::start(config).ended().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nowhere/ca.pem");

    let mut config = WorkerConfig::new("", "ftp://x", Credential::Certificate);
    config.max_concurrent = 0;
    config
        .providers
        .insert("openai".into(), ProviderConfig::new(ProviderKind::OpenAi));
    let text = Worker::start(config).ended().await.unwrap_err().to_string();
    for part in [
        "worker id",
        "hub url",
        "max_concurrent",
        "provider openai: api_key",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
