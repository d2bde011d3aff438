//! Workers that stall, fall silent or leave, and a hub that leaves.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aiox_grpc::Options;
use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::{DrainNotice, RegisterWorker, TaskResponse};
use serde_json::Map;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::stranger::{Stranger, answer, register, register2};
use crate::world::{World, within};

/// Silence is noticed soon.
fn alert() -> Options {
    Options { silent_after: Duration::from_secs(1), silent_after_first: Duration::from_secs(1), ..Options::default() }
}

async fn with(options: Options) -> World {
    World::start_with(options, None, None).await
}

#[tokio::test]
async fn a_stalled_worker_is_dropped_and_slows_nobody() {
    let world = with(Options { stall_timeout: Duration::from_secs(1), ..Options::default() }).await;
    let agent = world.agent("echo", Map::new()).await;
    // It registers, and then reads no more than its window holds.
    let mut stalled = Stranger::open_narrow(&world.url).await;
    let registration = RegisterWorker { max_concurrent: 100, ..register2("stalled") };
    assert!(stalled.register(registration).await.accepted);
    let filler = "x".repeat(20_000);
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(world.submit(agent, "echo", &filler).await);
    }
    within(async {
        while world.dispatch.workers().first().is_some_and(|worker| worker.1 > 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Sign of life by heartbeat does not help: it takes nothing.
    let beats = tokio::spawn(async move {
        while let Ok(true) = stalled.beat("stalled").await {}
        stalled
    });
    let mut healthy = Stranger::registered(&world.url, register2("healthy")).await;
    let mut answered = HashSet::new();
    while answered.len() < 100 {
        match healthy.next().await {
            FromHub::TaskRequest(task) => {
                answered.insert(task.request_id.clone());
                healthy.say(ToHub::TaskResponse(answer(&task, "done"))).await;
            }
            FromHub::ResultAck(ack) => assert!(ack.stored),
            other => panic!("unexpected {other:?}"),
        }
    }
    for run in runs {
        assert_eq!(world.ended(run).await.output.as_deref(), Some("done"));
    }
    within(beats).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_had_nothing_to_read_for_long_is_not_stalled() {
    let stall_timeout = Duration::from_millis(50);
    let world = with(Options { stall_timeout, ..Options::default() }).await;
    let agent = world.agent("echo", Map::new()).await;
    let mut worker = Stranger::registered(&world.url, register2("w1")).await;
    for _ in 0..12 {
        // Time that passes is what this is about.
        tokio::time::sleep(stall_timeout * 2).await;
        let run = world.submit(agent, "echo", "hello").await;
        let task = worker.task().await;
        worker.say(ToHub::TaskResponse(answer(&task, "done"))).await;
        assert!(matches!(worker.next().await, FromHub::ResultAck(ack) if ack.stored));
        assert_eq!(world.ended(run).await.output.as_deref(), Some("done"));
    }
}

#[tokio::test]
async fn a_silent_worker_loses_its_runs_and_its_name() {
    let world = with(alert()).await;
    let agent = world.agent("echo", Map::new()).await;
    let mut frozen = Stranger::registered(&world.url, register2("w1")).await;
    let run = world.submit(agent, "echo", "hello").await;
    frozen.task().await;
    // Kept connected, as a frozen process would be.
    let mut fresh = Stranger::open(&world.url).await;
    assert!(!fresh.register(register2("w1")).await.accepted);
    let started = Instant::now();
    let mut fresh = within(async {
        loop {
            let mut fresh = Stranger::open(&world.url).await;
            if fresh.register(register2("w1")).await.accepted {
                break fresh;
            }
        }
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(frozen.message().await.is_none());
    let task = fresh.task().await;
    assert_eq!(task.request_id, run.to_string());
    fresh.say(ToHub::TaskResponse(answer(&task, "fresh"))).await;
    assert_eq!(world.ended(run).await.output.as_deref(), Some("fresh"));
}

/// A wire to the hub that stops carrying anything, in both directions, when it is told to.
async fn wire(to: SocketAddr) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let dead = CancellationToken::new();
    let cut = dead.clone();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            () = cut.cancelled() => {}
            _ = copy_bidirectional(&mut near, &mut far) => {}
        }
        // Both ends stay open, and silent.
        std::future::pending::<()>().await;
        drop((near, far));
    });
    (url, dead)
}

#[tokio::test]
async fn a_dead_connection_is_found_by_its_pings() {
    let world = with(Options {
        keepalive_interval: Duration::from_millis(100),
        keepalive_timeout: Duration::from_millis(200),
        ..Options::default()
    })
    .await;
    let agent = world.agent("echo", Map::new()).await;
    let (url, dead) = wire(world.address).await;
    let mut lost = Stranger::registered(&url, register("w1")).await;
    let run = world.submit(agent, "echo", "hello").await;
    lost.task().await;
    dead.cancel();
    let started = Instant::now();
    let mut fresh = within(async {
        loop {
            let mut fresh = Stranger::open(&world.url).await;
            if fresh.register(register("w1")).await.accepted {
                break fresh;
            }
        }
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(fresh.task().await.request_id, run.to_string());
}

#[tokio::test]
async fn heartbeats_keep_a_quiet_worker() {
    let world = with(alert()).await;
    let mut worker = Stranger::registered(&world.url, register2("w1")).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        assert!(worker.beat("w1").await.unwrap());
    }
    let agent = world.agent("echo", Map::new()).await;
    world.submit(agent, "echo", "hello").await;
    worker.task().await;
}

#[tokio::test]
async fn a_leaving_worker_gets_nothing_more_and_hands_back() {
    let world = World::start().await;
    let agent = world.agent("echo", Map::new()).await;
    let mut leaving = Stranger::registered(&world.url, register2("w1")).await;
    let run = world.submit(agent, "echo", "hello").await;
    let task = leaving.task().await;
    leaving.say(ToHub::DrainNotice(DrainNotice {})).await;
    let handed_back = TaskResponse {
        error_code: "worker_draining".into(),
        error_message: "the worker is shutting down".into(),
        retryable: true,
        ..answer(&task, "")
    };
    leaving.say(ToHub::TaskResponse(handed_back)).await;
    assert!(matches!(leaving.next().await, FromHub::ResultAck(ack) if ack.stored));
    // Others have it at once, though the leaving worker is still connected, and as if it had not been given out before.
    let second = world.submit(agent, "echo", "second").await;
    let mut other = Stranger::registered(&world.url, register("w2")).await;
    let tasks = [other.task().await, other.task().await];
    let given: HashSet<_> = tasks.iter().map(|task| (task.request_id.clone(), task.attempt)).collect();
    assert_eq!(given, [run, second].map(|run| (run.to_string(), 1)).into());
    for task in &tasks {
        other.say(ToHub::TaskResponse(answer(task, "done"))).await;
    }
    for run in [run, second] {
        assert_eq!(world.ended(run).await.output.as_deref(), Some("done"));
    }
    drop(leaving);
}

#[tokio::test]
async fn shutdown_takes_what_is_still_finished_and_ends_in_time() {
    let mut world = with(Options { drain_timeout: Duration::from_secs(2), ..Options::default() }).await;
    let agent = world.agent("echo", Map::new()).await;
    let mut newer = Stranger::registered(&world.url, register2("newer")).await;
    let run = world.submit(agent, "echo", "hello").await;
    let task = newer.task().await;
    let mut stuck = Stranger::registered(&world.url, register("stuck")).await;
    let lost = world.submit(agent, "echo", "hello").await;
    // Whoever gets it: nobody answers it.
    let to_newer = tokio::select! {
        task = stuck.task() => { assert_eq!(task.request_id, lost.to_string()); false }
        task = newer.task() => { assert_eq!(task.request_id, lost.to_string()); true }
    };
    let started = Instant::now();
    world.shutdown.cancel();
    assert!(matches!(newer.next().await, FromHub::Drain(_)));
    newer.say(ToHub::TaskResponse(answer(&task, "finished"))).await;
    assert!(matches!(newer.next().await, FromHub::ResultAck(ack) if ack.stored));
    assert_eq!(world.run(run).await.output.as_deref(), Some("finished"));
    if !to_newer {
        assert!(newer.message().await.is_none());
    }
    within(&mut world.door).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(4));
    assert!(world.dispatch.workers().is_empty());
}
