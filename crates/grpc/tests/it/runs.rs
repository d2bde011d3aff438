//! Runs, their steps and their results.

use std::collections::{BTreeMap, HashSet};

use aiox_core::ports::Signal;
use aiox_model::run::RunStatus;
use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::{RegisterWorker, TaskDelta, TaskEvent, TaskResponse};
use serde_json::{Map, json};
use uuid::Uuid;

use crate::stranger::{Stranger, answer, register, register2};
use crate::world::{World, within};

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
        assert_eq!(task.agent_jid, format!("agent-{}@agents.hub-a.example", agent.uuid()));
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
    let response = TaskResponse { error_message: "openai said: canary sk-secret".into(), ..answer(&task, "") };
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
    let registration = RegisterWorker { max_concurrent: -1, ..register2("w1") };
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
    worker.say(ToHub::TaskResponse(answer(&tasks[0], "a"))).await;
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
    let agent = world.agent("echo", tools.as_object().cloned().unwrap()).await;
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
    worker.say(event("run.completed", r#"{"status":"completed"}"#)).await;
    worker.say(event("tool.call", r#"{"name":"clock"}"#)).await;
    for text in ["he", "llo"] {
        worker
            .say(ToHub::TaskDelta(TaskDelta { request_id: task.request_id.clone(), lease_id: task.lease_id.clone(), text: text.into() }))
            .await;
    }
    worker.say(ToHub::TaskResponse(answer(&task, "hello"))).await;
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
    let (kinds, begun) = (world.events(run).await, ["run.created", "run.started", "model.requested"]);
    assert_eq!(kinds, [&begun[..], &["tool.call", "tool.result", "model.completed", "step.completed", "run.completed"]].concat());
}

#[tokio::test]
async fn only_the_holder_of_a_run_answers_it() {
    let world = World::start().await;
    let mut holder = Stranger::registered(&world.url, register2("w1")).await;
    let agent = world.agent("echo", Map::new()).await;
    let run = world.submit(agent, "echo", "hello").await;
    let task = holder.task().await;
    let mut forger = Stranger::registered(&world.url, register2("w2")).await;
    forger.say(ToHub::TaskResponse(answer(&task, "forged"))).await;
    let FromHub::ResultAck(ack) = forger.next().await else {
        panic!("no acknowledgement");
    };
    assert!(!ack.stored);
    let unknown = TaskResponse { request_id: Uuid::now_v7().to_string(), ..answer(&task, "forged") };
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
        worker.say(ToHub::TaskResponse(answer(&task, "last words"))).await;
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
    let registration = RegisterWorker { supported_providers: vec!["other".into()], ..register2("w1") };
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
        let registration = RegisterWorker { supported_providers: vec![provider.to_uppercase()], max_concurrent: 200, ..register(provider) };
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
