//! The door with this project's own worker in front of it.

use std::time::{Duration, Instant};

use aiox_core::ports::Signal;
use aiox_grpc::{Admission, Known, Options};
use aiox_model::run::RunStatus;
use aiox_worker::{Credential, IdentityFiles, WorkerConfig, WorkerError, run};
use serde_json::Map;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::pki::Ca;
use crate::world::{KEY, World, admission_of, within};

struct Worker {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), WorkerError>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn worker(world: &World, name: &str) -> Worker {
    worker_of(&world.url, name)
}

fn worker_of(url: &str, name: &str) -> Worker {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = WorkerConfig {
        reconnect_delay: Duration::from_millis(20),
        default_provider: "echo".into(),
        ..WorkerConfig::new(name, url, Credential::ApiKey(KEY.into()))
    };
    let shutdown = CancellationToken::new();
    Worker { running: tokio::spawn(run(config, shutdown.clone())), shutdown }
}

#[tokio::test]
async fn a_message_is_answered_with_deltas_and_counted_tokens() {
    let world = World::start().await;
    let _worker = worker(&world, "w1");
    let agent = world.agent("echo", Map::new()).await;
    let run = world.submit(agent, "echo", "hello there").await;
    let mut signals = world.watch(run).await;
    let mut text = String::new();
    loop {
        match within(signals.next()).await.unwrap() {
            Signal::Delta(delta) => text.push_str(&delta.text),
            Signal::Event(event) if event.kind == "run.completed" => break,
            Signal::Event(_) => {}
        }
    }
    assert_eq!(text, "echo: hello there");
    let row = world.run(run).await;
    assert_eq!(row.output.as_deref(), Some("echo: hello there"));
    assert_eq!(row.model_used.as_deref(), Some("echo"));
    assert_eq!((row.input_tokens, row.output_tokens), (4, 3));
}

#[tokio::test]
async fn workers_come_and_go_and_every_message_is_answered_once() {
    let world = World::start().await;
    let agent = world.agent("echo", Map::new()).await;
    let steady = worker(&world, "steady");
    let mut runs = Vec::new();
    for round in 0..6 {
        let brief = worker(&world, &format!("brief-{round}"));
        for n in 0..50 {
            runs.push(world.submit(agent, "echo", &format!("{round} {n}")).await);
        }
        if round % 2 == 0 {
            // Killed, not asked.
            drop(brief);
        } else {
            brief.shutdown.cancel();
            let mut brief = brief;
            within(&mut brief.running).await.unwrap().unwrap();
        }
    }
    for (n, run) in runs.into_iter().enumerate() {
        let row = world.ended(run).await;
        assert_eq!(row.status, RunStatus::Completed, "{:?}", row.error);
        let wanted = format!("echo: {} {}", n / 50, n % 50);
        assert_eq!(row.output.as_deref(), Some(wanted.as_str()));
        let ends = world.events(run).await;
        assert_eq!(ends.iter().filter(|kind| *kind == "run.completed").count(), 1);
    }
    drop(steady);
}

#[tokio::test]
async fn a_worker_leaves_an_idle_hub_at_once_and_a_hub_leaves_its_worker() {
    let options = Options { drain_timeout: Duration::from_secs(3), ..Options::default() };
    let mut world = World::start_with(options, None, None).await;
    let agent = world.agent("echo", Map::new()).await;
    let mut leaving = worker(&world, "w1");
    let run = world.submit(agent, "echo", "hello").await;
    world.ended(run).await;
    leaving.shutdown.cancel();
    within(&mut leaving.running).await.unwrap().unwrap();

    let staying = worker(&world, "w2");
    let run = world.submit(agent, "echo", "hello").await;
    world.ended(run).await;
    world.shutdown.cancel();
    within(&mut world.door).await.unwrap();
    assert!(!staying.running.is_finished());
}

#[tokio::test]
async fn a_worker_with_a_certificate_needs_no_key() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = Ca::new();
    let (_keep, tls) = watch::channel(ca.server());
    // Tokens that last for so short a time are renewed several times below.
    let (_known, admission) = admission_of(Known::default());
    let admission = Admission { token_life: Duration::from_secs(2), ..admission };
    let world = World::start_with(Options::default(), Some(tls), Some(admission)).await;
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = ca.leaf("w1");
    let mut config = WorkerConfig::new("w1", &world.url, Credential::Certificate);
    config.tls.ca = Some(write("ca.pem", &ca.pem));
    config.tls.identity = Some(IdentityFiles { cert: write("w1.pem", &cert), key: write("w1.key", &key) });
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(config, shutdown.clone()));
    let agent = world.agent("echo", Map::new()).await;
    let run = world.submit(agent, "echo", "hello").await;
    assert_eq!(world.ended(run).await.worker.as_deref(), Some("w1"));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let run = world.submit(agent, "echo", "again").await;
        assert_eq!(world.ended(run).await.attempt, 1);
        assert_eq!(world.dispatch.workers().len(), 1, "the session was never dropped");
    }
    shutdown.cancel();
    within(running).await.unwrap().unwrap();
}

#[test]
fn a_crash_of_the_hub_loses_nothing_and_doubles_nothing() {
    let mut hub = tokio::runtime::Runtime::new().unwrap();
    let world = hub.block_on(World::start());
    let agent = hub.block_on(world.agent("echo", Map::new()));
    let (dir, address, url) = (world.dir.clone(), world.address, world.url.clone());
    let workers = tokio::runtime::Runtime::new().unwrap();
    let _workers = workers.block_on(async { [worker_of(&url, "w1"), worker_of(&url, "w2")] });
    let mut world = Some(world);
    let mut runs = Vec::new();
    for round in 0..3 {
        let running = world.take().unwrap();
        hub.block_on(async {
            let mut last = None;
            for n in 0..100 {
                let run = running.submit(agent, "echo", &format!("{round} {n}")).await;
                runs.push((run, format!("echo: {round} {n}")));
                last = Some(run);
            }
            // Some are done, some are under way, and most wait.
            running.ended(last.unwrap()).await;
            for n in 100..150 {
                let run = running.submit(agent, "echo", &format!("{round} {n}")).await;
                runs.push((run, format!("echo: {round} {n}")));
            }
        });
        std::mem::forget(running);
        hub.shutdown_timeout(Duration::from_secs(10));
        hub = tokio::runtime::Runtime::new().unwrap();
        world = Some(hub.block_on(World::start_again(dir.clone(), address)));
    }
    let world = world.unwrap();
    hub.block_on(async {
        for (run, answer) in runs {
            let row = world.ended(run).await;
            assert_eq!(row.status, RunStatus::Completed, "{:?}", row.error);
            assert_eq!(row.output, Some(answer));
            let kinds = world.events(run).await;
            let ends = kinds.iter().filter(|kind| *kind == "run.completed");
            assert_eq!(ends.count(), 1);
        }
    });
}
