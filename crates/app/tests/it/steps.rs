//! What the log of a run says of its steps: what is begun is ended, whatever ends the run, and it costs no commit of its own.

use std::sync::atomic::Ordering;

use aiox_app::{Bounds, NewRun, Notice, TaskEvent, WorkerInfo, WorkerSession};
use aiox_core::{Caller, ports::Signal, steps::Open};
use aiox_model::{
    RunId,
    agent::Agent,
    run::{RunEvent, RunStatus},
};
use aiox_testkit::{World, answer, both_dbs, within, worker_info};
use futures::StreamExt as _;
use serde_json::{Map, Value, json};

async fn log(world: &World, run: RunId) -> Vec<RunEvent> {
    aiox_store::runs::events(&mut world.store.read().await.unwrap(), run.uuid(), 0, 1000).await.unwrap()
}

fn call(id: &str) -> Map<String, Value> {
    json!({ "tool_call_id": id, "tool_id": "clock" }).as_object().cloned().unwrap()
}

/// An agent with a tool and a worker that runs it.
async fn with_tool(world: &World, alice: &Caller, slots: u32) -> (Agent, WorkerSession) {
    let agent = world.agent_with(alice, "helper", json!({ "tools": { "clock": {} } })).await;
    let info = WorkerInfo { tools: ["clock".to_owned()].into(), ..worker_info("w1", slots) };
    (agent, world.dispatch.register(info).unwrap())
}

const BEGUN: [&str; 3] = ["run.started", "model.requested", "tool.call"];

both_dbs!(a_message_takes_three_changes_with_its_step, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let worker = world.worker("w1", 1);
    let before = world.journal.stats().operations.load(Ordering::Relaxed);
    let run = world.submit(&alice, &agent, "hello").await;
    let task = within(worker.next()).await.unwrap();
    worker.complete(task.run, answer("hi")).await.unwrap();
    assert_eq!(world.journal.stats().operations.load(Ordering::Relaxed) - before, 3, "accepted, begun, ended");
    let whole = ["run.created", "run.started", "model.requested", "model.completed", "step.completed", "run.completed"];
    assert_eq!(world.kinds(run).await, whole);
    let log = log(&world, run).await;
    assert_eq!(log[2].payload, json!({ "attempt": 1, "provider": "echo", "model": null, "messages": 1, "has_tools": false }));
    assert_eq!((&log[3].payload["status"], &log[3].payload["answered_by"]), (&json!("ok"), &json!("echo/1")));
});

both_dbs!(the_step_of_a_killed_hub_is_ended_by_the_next_one, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let (agent, worker) = with_tool(&world, &alice, 1).await;
    let run = world.submit(&alice, &agent, "hello").await;
    within(worker.next()).await.unwrap();
    assert!(worker.event(run.uuid(), TaskEvent::ToolCall, call("tcall_1")).await.unwrap());
    let world = world.restart().await;
    assert_eq!(world.dispatch.recover().await.unwrap(), 1);
    let info = WorkerInfo { tools: ["clock".to_owned()].into(), ..worker_info("w2", 1) };
    let worker = world.dispatch.register(info).unwrap();
    within(worker.next()).await.unwrap();
    let before =
        [&["run.created"], &BEGUN[..], &["tool.result", "model.completed", "run.retried", "run.started", "model.requested"]].concat();
    assert_eq!(world.kinds(run).await, before);
    worker.complete(run.uuid(), answer("hi")).await.unwrap();
    assert!(Open::of(&log(&world, run).await).is_empty());
});

both_dbs!(whatever_ends_a_run_ends_its_step_first, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let (agent, worker) = with_tool(&world, &alice, 2).await;
    for (how, last) in [("canceled", "run.canceled"), ("late", "run.failed"), ("done", "run.completed")] {
        let mut message = world.message(&agent, "hello");
        message.timeout_ms = Some(if how == "late" { 300 } else { 60_000 });
        let run = RunId(world.runs.submit(&alice, message).await.unwrap().run.id);
        within(worker.next()).await.unwrap();
        assert!(worker.event(run.uuid(), TaskEvent::ToolCall, call("tcall_1")).await.unwrap());
        match how {
            "canceled" => drop(world.runs.cancel(&alice, run).await.unwrap()),
            "done" => assert!(worker.complete(run.uuid(), answer("hi")).await.unwrap()),
            _ => drop(world.ended(run).await),
        }
        let ends = ["tool.result", "model.completed", "step.completed", last];
        assert_eq!(world.kinds(run).await, [&["run.created"], &BEGUN[..], &ends].concat(), "{how}");
        let watched: Vec<RunEvent> = world
            .runs
            .follow(run, 0, false)
            .map(|signal| match signal.unwrap() {
                Signal::Event(event) => event,
                Signal::Delta(delta) => panic!("{delta:?}"),
            })
            .collect()
            .await;
        assert_eq!(watched, log(&world, run).await);
    }
});

both_dbs!(a_run_uses_the_tools_that_it_is_allowed_and_no_other, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent_with(&alice, "helper", json!({ "tools": { "clock": {}, "shell": {} } })).await;
    // No worker has the shell: a run that may not use it does not need it.
    let info = WorkerInfo { tools: ["clock".to_owned()].into(), ..worker_info("w1", 1) };
    let worker = world.dispatch.register(info).unwrap();
    let bounds = Bounds { tools: Some(["tool.clock".to_owned()].into()), ..Bounds::default() };
    let bounded = NewRun { bounds, ..world.message(&agent, "hello") };
    let run = RunId(world.runs.submit(&alice, bounded).await.unwrap().run.id);
    let world = world.restart().await;
    assert_eq!(world.dispatch.recover().await.unwrap(), 1);
    drop(worker);
    let info = WorkerInfo { tools: ["clock".to_owned()].into(), ..worker_info("w2", 1) };
    let worker = world.dispatch.register(info).unwrap();
    let task = within(worker.next()).await.unwrap();
    assert_eq!((task.run, task.tools_json.as_str(), task.max_steps), (run.uuid(), r#"{"clock":{}}"#, None));
    let shell = json!({ "tool_call_id": "tcall_2", "tool_id": "shell" }).as_object().cloned().unwrap();
    assert!(worker.event(run.uuid(), TaskEvent::ToolCall, shell.clone()).await.unwrap());
    assert!(worker.event(run.uuid(), TaskEvent::ToolResult, shell).await.is_err(), "its result is already told");
    let refused = log(&world, run).await.pop().unwrap();
    assert_eq!((refused.kind.as_str(), &refused.payload["error"]["code"]), ("tool.result", &json!("tool_not_allowed")));
    assert!(worker.event(run.uuid(), TaskEvent::ToolCall, call("tcall_1")).await.unwrap());
    assert!(worker.event(run.uuid(), TaskEvent::ToolResult, call("tcall_1")).await.unwrap());
    assert_eq!(log(&world, run).await.pop().unwrap().payload["status"], json!("ok"));
});

both_dbs!(a_run_that_goes_beyond_its_steps_is_stopped, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let (agent, worker) = with_tool(&world, &alice, 1).await;
    let bounds = Bounds { max_steps: Some(2), ..Bounds::default() };
    let bounded = NewRun { bounds, ..world.message(&agent, "hello") };
    let run = RunId(world.runs.submit(&alice, bounded).await.unwrap().run.id);
    assert_eq!(within(worker.next()).await.unwrap().max_steps, Some(2));
    assert!(worker.event(run.uuid(), TaskEvent::ToolCall, call("tcall_1")).await.unwrap());
    assert!(worker.event(run.uuid(), TaskEvent::ToolResult, call("tcall_1")).await.unwrap());
    assert!(!worker.event(run.uuid(), TaskEvent::ToolCall, call("tcall_2")).await.unwrap(), "the third step");
    assert_eq!(within(worker.notice()).await, Notice::Cancel { run: run.uuid(), reason: "max_steps" });
    let ended = world.ended(run).await;
    assert_eq!((ended.status, ended.error.unwrap().code.as_str()), (RunStatus::Failed, "max_steps_exceeded"));
    let ends = ["tool.result", "model.completed", "step.completed", "run.failed"];
    assert_eq!(world.kinds(run).await, [&["run.created"], &BEGUN[..], &ends].concat());
    let next = world.submit(&alice, &agent, "again").await;
    assert_eq!(within(worker.next()).await.unwrap().run, next.uuid(), "its place is free again");
});
