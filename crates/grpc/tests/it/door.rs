//! What the protocol promises, message by message.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aiox_core::ports::Signal;
use aiox_grpc::{ApiKeys, CertificateOrKey, Certificates, Options, server_config};
use aiox_model::run::RunStatus;
use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::worker_service_client::WorkerServiceClient;
use aiox_proto::worker::v1::{
    DrainNotice, HeartbeatRequest, RegisterWorker, TaskDelta, TaskEvent, TaskResponse,
};
use secrecy::SecretString;
use serde_json::{Map, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};
use uuid::Uuid;

use crate::stranger::{Stranger, answer, keyed, register, register2};
use crate::world::{KEY, World, within};

/// Silence is noticed soon.
fn alert() -> Options {
    Options {
        silent_after: Duration::from_secs(1),
        silent_after_first: Duration::from_secs(1),
        ..Options::default()
    }
}

async fn with(options: Options) -> World {
    World::start_with(options, None, None).await
}

#[tokio::test]
async fn a_stranger_without_the_key_is_told_what_is_missing() {
    let world = World::start().await;
    let mut client = Stranger::connect(&world.url).await;
    let status = client
        .heartbeat(HeartbeatRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "missing api key");
    let mut wrong = Request::new(HeartbeatRequest::default());
    wrong
        .metadata_mut()
        .insert("x-api-key", KEY.replace('k', "x").parse().unwrap());
    let status = client.heartbeat(wrong).await.unwrap_err();
    assert_eq!(status.message(), "invalid api key");
    let stream = client.task_stream(futures::stream::empty()).await;
    assert_eq!(stream.unwrap_err().message(), "missing api key");
}

#[tokio::test]
async fn the_first_message_is_a_registration() {
    let world = World::start().await;
    let mut stranger = Stranger::open(&world.url).await;
    stranger
        .say(ToHub::TaskResponse(TaskResponse::default()))
        .await;
    let ack = stranger.ack().await;
    assert!(!ack.accepted);
    assert_eq!(ack.message, "first message must be RegisterWorker");
    assert!(stranger.message().await.is_none());
}

#[tokio::test]
async fn a_live_duplicate_is_refused_and_a_closed_one_makes_room() {
    let world = World::start().await;
    let first = Stranger::registered(&world.url, register("w1")).await;
    let mut second = Stranger::open(&world.url).await;
    let ack = second.register(register("w1")).await;
    assert!(!ack.accepted);
    assert_eq!(ack.message, "worker_id already registered");
    assert!(second.message().await.is_none());
    drop(first);
    // The hub needs a moment to see the end of the first.
    within(async {
        while !Stranger::open(&world.url)
            .await
            .register(register("w1"))
            .await
            .accepted
        {}
    })
    .await;
}

#[tokio::test]
async fn a_worker_of_the_first_protocol_is_served_as_ever() {
    let world = World::start().await;
    let mut worker = Stranger::open(&world.url).await;
    let ack = worker.register(register("w1")).await;
    assert!(ack.accepted);
    assert_eq!(ack.message, "registered");
    assert_eq!((ack.protocol, ack.heartbeat_interval_ms), (0, 0));
    let agent = world.agent("echo", Map::new()).await;
    for round in 0..3 {
        let run = world.submit(agent, "echo", &format!("hello {round}")).await;
        // Nothing but tasks ever comes: an acknowledgement would break this.
        let task = worker.task().await;
        assert_eq!(task.request_id, run.to_string());
        assert_eq!(task.agent_id, agent.uuid().to_string());
        assert_eq!(task.user_message, format!("hello {round}"));
        assert_eq!(task.system_prompt, "be kind");
        assert_eq!(task.agent_name, "Ada");
        assert_eq!(
            task.agent_jid,
            format!("agent-{}@agents.hub-a.example", agent.uuid())
        );
        assert!(task.llm_config_json.contains("echo"));
        assert!(task.memory_context_json.contains("recent_messages"));
        worker.say(ToHub::TaskResponse(answer(&task, "hi"))).await;
        let row = world.ended(run).await;
        assert_eq!(row.status, RunStatus::Completed);
        assert_eq!(row.output.as_deref(), Some("hi"));
        assert_eq!((row.input_tokens, row.output_tokens), (0, 7));
        assert_eq!(row.worker.as_deref(), Some("w1"));
    }
    assert!(worker.beat("w1").await.unwrap());
    let workers = world.dispatch.workers();
    assert_eq!(workers[0].2.memory_usage_mb, 2);
    drop(worker);
    within(async {
        while !world.dispatch.workers().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut other = Stranger::registered(&world.url, register("w2")).await;
    assert!(!other.beat("w1").await.unwrap());
}

#[tokio::test]
async fn what_a_failed_worker_says_stays_here() {
    let world = World::start().await;
    let mut worker = Stranger::registered(&world.url, register("w1")).await;
    let agent = world.agent("echo", Map::new()).await;
    let run = world.submit(agent, "echo", "hello").await;
    let task = worker.task().await;
    let response = TaskResponse {
        error_message: "openai said: canary sk-secret".into(),
        ..answer(&task, "")
    };
    worker.say(ToHub::TaskResponse(response)).await;
    let row = world.ended(run).await;
    assert_eq!(row.status, RunStatus::Failed);
    let error = row.error.unwrap();
    assert_eq!(error.code, "worker_error");
    assert!(!error.message.contains("canary"));
    // What it burned is charged all the same.
    assert_eq!(row.output_tokens, 7);
}

#[tokio::test]
async fn places_default_to_four_and_are_never_exceeded() {
    let world = World::start().await;
    let registration = RegisterWorker {
        max_concurrent: -1,
        ..register2("w1")
    };
    let mut worker = Stranger::registered(&world.url, registration).await;
    let agent = world.agent("echo", Map::new()).await;
    for _ in 0..6 {
        world.submit(agent, "echo", "hello").await;
    }
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(worker.task().await);
    }
    assert_eq!(world.dispatch.workers()[0].1, 0);
    // The fifth comes only after an answer: its acknowledgement and the task are next.
    worker
        .say(ToHub::TaskResponse(answer(&tasks[0], "a")))
        .await;
    let (mut acks, mut more) = (0, 0);
    for _ in 0..2 {
        match worker.next().await {
            FromHub::ResultAck(ack) => {
                assert!(ack.stored);
                assert_eq!(ack.request_id, tasks[0].request_id);
                acks += 1;
            }
            FromHub::TaskRequest(_) => more += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!((acks, more), (1, 1));
}

#[tokio::test]
async fn deltas_and_tool_calls_reach_the_watchers_and_forged_states_do_not() {
    let world = World::start().await;
    let mut worker = Stranger::registered(&world.url, register2("w1")).await;
    let tools = json!({"clock": {"description": "time"}});
    let agent = world
        .agent("echo", tools.as_object().cloned().unwrap())
        .await;
    let run = world.submit(agent, "echo", "hello").await;
    let mut signals = world.watch(run).await;
    let task = worker.task().await;
    assert!(task.tools_json.starts_with('['), "{}", task.tools_json);
    assert!(task.stream);
    assert_eq!(task.attempt, 1);
    assert!(task.timeout_ms > 0);
    let event = |kind: &str, payload: &str| {
        ToHub::TaskEvent(TaskEvent {
            request_id: task.request_id.clone(),
            lease_id: task.lease_id.clone(),
            r#type: kind.into(),
            payload_json: payload.into(),
        })
    };
    worker
        .say(event("run.completed", r#"{"status":"completed"}"#))
        .await;
    worker.say(event("tool.call", r#"{"name":"clock"}"#)).await;
    for text in ["he", "llo"] {
        worker
            .say(ToHub::TaskDelta(TaskDelta {
                request_id: task.request_id.clone(),
                lease_id: task.lease_id.clone(),
                text: text.into(),
            }))
            .await;
    }
    worker
        .say(ToHub::TaskResponse(answer(&task, "hello")))
        .await;
    let (mut text, mut kinds) = (String::new(), Vec::new());
    while kinds.last().is_none_or(|kind| kind != "run.completed") {
        match within(signals.next()).await.unwrap() {
            Signal::Delta(delta) => text.push_str(&delta.text),
            Signal::Event(event) => {
                kinds.push(event.kind);
            }
        }
    }
    assert_eq!(text, "hello");
    let kinds = world.events(run).await;
    assert_eq!(
        kinds,
        ["run.created", "run.started", "tool.call", "run.completed"]
    );
}

#[tokio::test]
async fn only_the_holder_of_a_run_answers_it() {
    let world = World::start().await;
    let mut holder = Stranger::registered(&world.url, register2("w1")).await;
    let agent = world.agent("echo", Map::new()).await;
    let run = world.submit(agent, "echo", "hello").await;
    let task = holder.task().await;
    let mut forger = Stranger::registered(&world.url, register2("w2")).await;
    forger
        .say(ToHub::TaskResponse(answer(&task, "forged")))
        .await;
    let FromHub::ResultAck(ack) = forger.next().await else {
        panic!("no acknowledgement");
    };
    assert!(!ack.stored);
    let unknown = TaskResponse {
        request_id: Uuid::now_v7().to_string(),
        ..answer(&task, "forged")
    };
    forger.say(ToHub::TaskResponse(unknown)).await;
    assert!(matches!(forger.next().await, FromHub::ResultAck(ack) if !ack.stored));
    assert_eq!(world.run(run).await.status, RunStatus::Running);
    holder.say(ToHub::TaskResponse(answer(&task, "true"))).await;
    assert!(matches!(holder.next().await, FromHub::ResultAck(ack) if ack.stored));
    assert_eq!(world.run(run).await.output.as_deref(), Some("true"));
}

#[tokio::test]
async fn a_lost_workers_runs_go_to_another() {
    let world = World::start().await;
    let mut lost = Stranger::registered(&world.url, register("w1")).await;
    let agent = world.agent("echo", Map::new()).await;
    let mut runs = HashSet::new();
    for _ in 0..4 {
        runs.insert(world.submit(agent, "echo", "hello").await.to_string());
        lost.task().await;
    }
    let mut other = Stranger::registered(&world.url, register("w2")).await;
    drop(lost);
    for _ in 0..4 {
        let task = other.task().await;
        assert!(runs.remove(&task.request_id));
        assert_eq!(task.attempt, 2);
        other.say(ToHub::TaskResponse(answer(&task, "again"))).await;
        let row = world.ended(task.request_id.parse().unwrap()).await;
        assert_eq!(row.output.as_deref(), Some("again"));
        assert_eq!(row.worker.as_deref(), Some("w2"));
    }
}

#[tokio::test]
async fn a_result_that_arrived_is_kept_though_its_worker_left() {
    let world = World::start().await;
    let agent = world.agent("echo", Map::new()).await;
    for round in 0..20 {
        let name = format!("w{round}");
        let mut worker = Stranger::registered(&world.url, register(&name)).await;
        let run = world.submit(agent, "echo", "hello").await;
        let task = worker.task().await;
        worker
            .say(ToHub::TaskResponse(answer(&task, "last words")))
            .await;
        // Half-closed: everything said before arrives.
        let Stranger { out, .. } = worker;
        drop(out);
        let row = world.ended(run).await;
        assert_eq!(row.output.as_deref(), Some("last words"));
        assert_eq!(row.attempt, 1);
    }
}

#[tokio::test]
async fn a_result_is_taken_from_the_same_worker_after_a_reconnect() {
    let world = World::start().await;
    let mut worker = Stranger::registered(&world.url, register2("w1")).await;
    let agent = world.agent("echo", Map::new()).await;
    let run = world.submit(agent, "echo", "hello").await;
    let mut signals = world.watch(run).await;
    let task = worker.task().await;
    drop(worker);
    World::event(&mut signals, "run.retried").await;
    // It can serve nothing now, so the run is not given to it again.
    let registration = RegisterWorker {
        supported_providers: vec!["other".into()],
        ..register2("w1")
    };
    let mut worker = Stranger::registered(&world.url, registration).await;
    worker.say(ToHub::TaskResponse(answer(&task, "late"))).await;
    assert!(matches!(worker.next().await, FromHub::ResultAck(ack) if ack.stored));
    assert_eq!(world.run(run).await.output.as_deref(), Some("late"));
    assert_eq!(world.dispatch.waiting().await, (0, 0));
}

#[tokio::test]
async fn a_passed_time_limit_and_a_cancel_reach_the_worker() {
    let world = World::start().await;
    let mut worker = Stranger::registered(&world.url, register2("w1")).await;
    let agent = world.agent("echo", Map::new()).await;
    let run = world.submit_for(agent, "echo", "hello", 200).await;
    let task = worker.task().await;
    assert_eq!(task.timeout_ms, 200);
    let FromHub::CancelTask(cancel) = worker.next().await else {
        panic!("no cancel");
    };
    assert_eq!(cancel.request_id, run.to_string());
    assert_eq!(cancel.reason, "timeout");
    assert_eq!(world.ended(run).await.error.unwrap().code, "timeout");
    // Its late answer changes nothing.
    worker.say(ToHub::TaskResponse(answer(&task, "late"))).await;
    assert!(matches!(worker.next().await, FromHub::ResultAck(_)));
    assert_eq!(world.run(run).await.status, RunStatus::Failed);

    let run = world.submit(agent, "echo", "hello").await;
    worker.task().await;
    assert!(world.dispatch.stop(run.into(), "canceled"));
    let FromHub::CancelTask(cancel) = worker.next().await else {
        panic!("no cancel");
    };
    assert_eq!(cancel.reason, "canceled");
}

#[tokio::test]
async fn no_run_goes_to_a_worker_without_its_provider() {
    let world = World::start().await;
    let mut workers = BTreeMap::new();
    for provider in ["one", "two"] {
        let registration = RegisterWorker {
            supported_providers: vec![provider.to_uppercase()],
            max_concurrent: 200,
            ..register(provider)
        };
        let agent = world.agent(provider, Map::new()).await;
        let worker = Stranger::registered(&world.url, registration).await;
        workers.insert(provider, (agent, worker));
    }
    for n in 0..200 {
        let provider = ["one", "two"][n % 2];
        let agent = workers[provider].0;
        world.submit(agent, provider, "hello").await;
    }
    for (provider, (agent, worker)) in &mut workers {
        for _ in 0..100 {
            let task = worker.task().await;
            assert_eq!(task.agent_id, agent.uuid().to_string());
            assert_eq!(task.provider, *provider);
        }
    }
}

#[tokio::test]
async fn instant_answers_are_not_lost_and_places_come_back() {
    let world = World::start().await;
    let mut worker = Stranger::registered(&world.url, register("w1")).await;
    let agent = world.agent("echo", Map::new()).await;
    const RUNS: usize = 1000;
    let answering = tokio::spawn(async move {
        for _ in 0..RUNS {
            let task = worker.task().await;
            worker.say(ToHub::TaskResponse(answer(&task, "now"))).await;
        }
        worker
    });
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(world.submit(agent, "echo", "hello").await);
    }
    let mut worker = within(answering).await.unwrap();
    for run in runs {
        let row = world.ended(run).await;
        assert_eq!(row.output.as_deref(), Some("now"));
        assert_eq!(row.attempt, 1);
    }
    // All four places are free again.
    for _ in 0..4 {
        world.submit(agent, "echo", "hello").await;
    }
    for _ in 0..4 {
        worker.task().await;
    }
}

#[tokio::test]
async fn a_stalled_worker_is_dropped_and_slows_nobody() {
    let world = with(Options {
        stall_timeout: Duration::from_secs(1),
        ..Options::default()
    })
    .await;
    let agent = world.agent("echo", Map::new()).await;
    // It registers, and then reads no more than its window holds.
    let mut stalled = Stranger::open_narrow(&world.url).await;
    let registration = RegisterWorker {
        max_concurrent: 100,
        ..register2("stalled")
    };
    assert!(stalled.register(registration).await.accepted);
    let filler = "x".repeat(20_000);
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(world.submit(agent, "echo", &filler).await);
    }
    within(async {
        while world
            .dispatch
            .workers()
            .first()
            .is_some_and(|worker| worker.1 > 0)
        {
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
                healthy
                    .say(ToHub::TaskResponse(answer(&task, "done")))
                    .await;
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
    let second = world.submit(agent, "echo", "second").await;
    let mut other = Stranger::registered(&world.url, register("w2")).await;
    assert_eq!(other.task().await.request_id, second.to_string());
    assert_eq!(world.run(run).await.status, RunStatus::Running);
    drop(leaving);
    let task = other.task().await;
    assert_eq!(task.request_id, run.to_string());
    other.say(ToHub::TaskResponse(answer(&task, "done"))).await;
    assert_eq!(world.ended(run).await.output.as_deref(), Some("done"));
}

#[tokio::test]
async fn shutdown_takes_what_is_still_finished_and_ends_in_time() {
    let mut world = with(Options {
        drain_timeout: Duration::from_secs(2),
        ..Options::default()
    })
    .await;
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
    newer
        .say(ToHub::TaskResponse(answer(&task, "finished")))
        .await;
    assert!(matches!(newer.next().await, FromHub::ResultAck(ack) if ack.stored));
    assert_eq!(world.run(run).await.output.as_deref(), Some("finished"));
    if !to_newer {
        assert!(newer.message().await.is_none());
    }
    within(&mut world.door).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(4));
    assert!(world.dispatch.workers().is_empty());
}

#[tokio::test]
async fn a_key_of_one_worker_opens_for_no_other() {
    let own = BTreeMap::from([("w1".to_owned(), SecretString::from(KEY))]);
    let keys = Arc::new(ApiKeys::new(None, &own).unwrap());
    let world = World::start_with(Options::default(), None, Some(keys)).await;
    let mut other = Stranger::open(&world.url).await;
    let ack = other.register(register("w2")).await;
    assert!(!ack.accepted);
    assert_eq!(ack.message, "worker_id does not belong to the credential");
    let mut worker = Stranger::registered(&world.url, register("w1")).await;
    assert!(worker.beat("w1").await.unwrap());
    let status = worker.beat("w2").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

/// A CA and what it signs, as PEM.
struct Ca {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    fn leaf(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn server(&self) -> Arc<rustls::ServerConfig> {
        let (cert, key) = self.leaf("localhost");
        let ca = Some(self.pem.as_bytes());
        Arc::new(server_config(cert.as_bytes(), key.as_bytes(), ca, false).unwrap())
    }
}

async fn dial(
    url: &str,
    ca: &Ca,
    identity: Option<(String, String)>,
) -> Result<WorkerServiceClient<Channel>, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca.pem));
    if let Some((cert, key)) = identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Endpoint::from_shared(url.to_owned())?.tls_config(tls)?;
    Ok(WorkerServiceClient::new(endpoint.connect().await?))
}

#[tokio::test]
async fn a_certificate_is_a_name_and_may_be_renewed_while_the_hub_runs() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (ca, foreign) = (Ca::new(), Ca::new());
    let (swap, tls) = watch::channel(ca.server());
    let auth = Arc::new(CertificateOrKey {
        certificate: Certificates { and: None },
        key: ApiKeys::new(Some(&KEY.into()), &[].into()).unwrap(),
    });
    let world = World::start_with(Options::default(), Some(tls), Some(auth)).await;

    // Its certificate is its name, and no other.
    let client = dial(&world.url, &ca, Some(ca.leaf("w1"))).await.unwrap();
    let mut worker = Stranger::open_on(client.clone()).await.unwrap();
    assert!(worker.register(register2("w1")).await.accepted);
    let mut liar = Stranger::open_on(client).await.unwrap();
    let ack = liar.register(register2("w2")).await;
    assert_eq!(ack.message, "worker_id does not belong to the credential");

    // An older worker comes with the key over TLS.
    let client = dial(&world.url, &ca, None).await.unwrap();
    let mut older = Stranger::open_on(client.clone()).await.unwrap();
    assert!(older.register(register("w2")).await.accepted);
    let mut keyless = client;
    let refusal = keyless
        .heartbeat(HeartbeatRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);

    // A stranger's certificate is no certificate.
    let refused = async {
        let mut client = dial(&world.url, &ca, Some(foreign.leaf("w3"))).await.ok()?;
        client
            .heartbeat(keyed(HeartbeatRequest::default()))
            .await
            .ok()
    };
    assert!(within(refused).await.is_none());

    // After a change of CA new connections follow the new one, and old ones stay.
    swap.send_replace(foreign.server());
    assert!(dial(&world.url, &ca, None).await.is_err());
    let client = dial(&world.url, &foreign, Some(foreign.leaf("w3")))
        .await
        .unwrap();
    let mut renewed = Stranger::open_on(client).await.unwrap();
    assert!(renewed.register(register2("w3")).await.accepted);
    assert!(worker.beat("w1").await.unwrap());
}
