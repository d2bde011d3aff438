//! How a worker comes, stays and goes.

use std::path::Path;
use std::time::{Duration, Instant};

use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::{Drain, RegisterAck, TaskRequest};
use aiox_worker::{Credential, IdentityFiles, ProviderConfig, ProviderKind, TlsFiles, WorkerConfig};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::bench::{Worker, chunk, config, hanging, slow, task, with_double};
use crate::double::{Double, Step, within};
use crate::hub::Hub;

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
        .say(FromHub::RegisterAck(RegisterAck { accepted: true, protocol: 2, heartbeat_interval_ms: 20, ..RegisterAck::default() }))
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
    session.give(TaskRequest { lease_ms: 60, ..slow("r1") }).await;
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
        Step::Say("data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".into()),
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

#[tokio::test]
async fn a_token_stands_for_the_key_and_is_renewed_in_the_same_session() {
    let mut hub = Hub::start().await;
    hub.tokens.lock().unwrap().life = Some(400);
    let _worker = Worker::start(config(&hub));
    let (mut session, _) = hub.registered().await;
    assert_eq!((session.bearer.as_str(), session.api_key.as_str()), ("Bearer token-1", ""));
    // Each renewal is shown at once, without waiting for the next heartbeat (30 s).
    for token in ["Bearer token-2", "Bearer token-3"] {
        within(hub.beats.recv()).await.unwrap();
        assert_eq!(hub.bearers.lock().unwrap().pop().unwrap(), token);
    }
    session.give(task("r1")).await;
    assert_eq!(session.result().await.0.response_text, "echo: hello there");
}

#[tokio::test]
async fn a_refused_renewal_ends_the_session_until_the_key_is_good_again() {
    let mut hub = Hub::start().await;
    hub.tokens.lock().unwrap().life = Some(400);
    let _worker = Worker::start(config(&hub));
    let (mut session, _) = hub.registered().await;
    hub.tokens.lock().unwrap().refuse = true;
    assert!(session.message().await.is_none());
    hub.tokens.lock().unwrap().refuse = false;
    let (session, _) = hub.registered().await;
    assert!(session.bearer.starts_with("Bearer token-"));
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
    Pki { ca: ca.pem(), server: leaf("localhost"), worker: leaf("w1.workers.example"), renewed: leaf("w1.workers.example") }
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
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(cert, key)).client_ca_root(Certificate::from_pem(&pki.ca));
    let mut hub = Hub::start_with(Some(tls)).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&hub);
    config.reconnect_delay = Duration::from_millis(200);
    config.tls = TlsFiles {
        ca: Some(write(dir.path(), "ca.pem", &pki.ca)),
        identity: Some(IdentityFiles { cert: write(dir.path(), "w.pem", &pki.worker.0), key: write(dir.path(), "w.key", &pki.worker.1) }),
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
    config.providers.insert("openai".into(), ProviderConfig::new(ProviderKind::OpenAi));
    let text = Worker::start(config).ended().await.unwrap_err().to_string();
    for part in ["worker id", "hub url", "max_concurrent", "provider openai: api_key"] {
        assert!(text.contains(part), "{text}");
    }
}
