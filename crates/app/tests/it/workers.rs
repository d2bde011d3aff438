//! Workers that come, go, are slow, or lie.

use std::time::{Duration, Instant};

use aiox_app::{NewRun, Notice, TaskEvent, TaskOutcome, WorkerInfo};
use aiox_model::{
    AgentId,
    run::{RunError, RunStatus},
};
use aiox_testkit::{World, answer, both_dbs, within, worker_info};
use serde_json::{Map, json};

both_dbs!(a_lost_run_goes_to_another_worker_and_the_third_loss_ends_it, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let run = world.submit(&alice, &agent, "hello").await;
    for (attempt, name) in [(1, "w1"), (2, "w2"), (3, "w3")] {
        let worker = world.worker(name, 1);
        let task = within(worker.next()).await.unwrap();
        assert_eq!((task.run, task.attempt), (run.uuid(), attempt));
        drop(worker);
    }
    let ended = world.ended(run).await;
    assert_eq!((ended.status, ended.error.unwrap().code.as_str()), (RunStatus::Failed, "worker_lost"));
    let lost = ["run.started", "model.requested", "model.completed", "run.retried"];
    let ends = ["run.started", "model.requested", "model.completed", "step.completed", "run.failed"];
    assert_eq!(world.kinds(run).await, [&["run.created"], &lost[..], &lost, &ends].concat());
    // Its conversation goes on.
    let next = world.submit(&alice, &agent, "again").await;
    let serve = world.serve("w4", 1);
    assert_eq!(world.ended(next).await.status, RunStatus::Completed);
    serve.abort();
});

both_dbs!(a_lease_is_its_holders_alone, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let run = world.submit(&alice, &agent, "hello").await;
    let (holder, other) = (world.worker("w1", 1), world.worker("w2", 1));
    let task = within(holder.next()).await.unwrap();
    let mut signals = aiox_core::ports::Events::subscribe(&*world.events, run).await;
    assert_eq!(other.complete(task.run, answer("stolen")).await.unwrap_err().code(), "foreign_lease");
    assert_eq!(other.event(task.run, TaskEvent::ToolCall, Map::new()).await.unwrap_err().code(), "foreign_lease");
    assert_eq!(other.complete(world.fresh(), answer("invented")).await.unwrap_err().code(), "foreign_lease");
    other.delta(task.run, "stolen".into()).await;
    holder.delta(task.run, "mine".into()).await;
    let Some(aiox_core::ports::Signal::Delta(delta)) = within(signals.next()).await else { panic!("no delta") };
    assert_eq!(delta.text, "mine");
    assert!(holder.complete(task.run, answer("mine")).await.unwrap());
    assert!(!holder.complete(task.run, answer("twice")).await.unwrap(), "an end is an end");
    assert_eq!(world.ended(run).await.output.as_deref(), Some("mine"));
});

both_dbs!(a_result_after_a_reconnect_is_taken_once, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let run = world.submit(&alice, &agent, "hello").await;
    let before = world.worker("w1", 1);
    within(before.next()).await.unwrap();
    let mut signals = aiox_core::ports::Events::subscribe(&*world.events, run).await;
    drop(before);
    within(signals.next()).await.unwrap();
    let after = world.worker("w1", 1);
    assert!(after.complete(run.uuid(), answer("late but mine")).await.unwrap());
    assert!(!after.complete(run.uuid(), answer("again")).await.unwrap());
    let ended = world.ended(run).await;
    assert_eq!((ended.output.as_deref(), ended.attempt), (Some("late but mine"), 1));
    assert_eq!(world.dispatch.waiting().await, (0, 0), "nobody works on it again");
    let next = world.submit(&alice, &agent, "next").await;
    assert_eq!(within(after.next()).await.unwrap().run, next.uuid());
});

both_dbs!(a_late_run_ends_at_its_limit_and_its_place_is_free, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let message = NewRun { timeout_ms: Some(300), ..world.message(&agent, "hello") };
    let run = aiox_model::RunId(world.runs.submit(&alice, message).await.unwrap().run.id);
    let worker = world.worker("w1", 1);
    within(worker.next()).await.unwrap();
    let began = Instant::now();
    assert_eq!(within(worker.notice()).await, Notice::Cancel { run: run.uuid(), reason: "timeout" });
    let took = began.elapsed();
    // Not before its time; how soon after is measured, not asserted.
    assert!(took > Duration::from_millis(200), "{took:?}");
    let ended = world.ended(run).await;
    assert_eq!((ended.status, ended.error.unwrap().code.as_str()), (RunStatus::Failed, "timeout"));
    assert!(!worker.complete(run.uuid(), answer("too late")).await.unwrap());
    let next = world.submit(&alice, &agent, "next").await;
    assert_eq!(within(worker.next()).await.unwrap().run, next.uuid(), "place and conversation are free again");
});

both_dbs!(a_worker_gets_only_what_it_can_serve, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let labelled = json!({ "capabilities": { "worker_labels": { "gpu": "true" } } });
    let (gpu, other) = (
        world.agent_with(&alice, "gpu", labelled).await,
        world.agent_with(&alice, "other", json!({ "llm_config": { "provider": "other" } })).await,
    );
    let plain = world.agent(&alice, "plain").await;
    let needs_gpu = world.submit(&alice, &gpu, "gpu").await;
    let needs_other = world.submit(&alice, &other, "other").await;
    let needs_nothing = world.submit(&alice, &plain, "plain").await;
    let worker = world.worker("w1", 4);
    assert_eq!(within(worker.next()).await.unwrap().run, needs_nothing.uuid());
    assert_eq!(world.dispatch.waiting().await, (2, 2));
    let strong = WorkerInfo { labels: [("gpu".to_owned(), "true".to_owned())].into(), ..worker_info("w2", 4) };
    let strong = world.dispatch.register(strong).unwrap();
    assert_eq!(within(strong.next()).await.unwrap().run, needs_gpu.uuid());
    let third = WorkerInfo { providers: vec!["OTHER".into()], ..worker_info("w3", 4) };
    let third = world.dispatch.register(third).unwrap();
    assert_eq!(within(third.next()).await.unwrap().run, needs_other.uuid());
    assert_eq!(world.dispatch.waiting().await, (0, 0));
});

both_dbs!(a_bad_registration_is_refused_and_a_name_is_held_once, |db| async move {
    let world = World::on(db).await;
    let first = world.worker("w1", 1);
    assert_eq!(world.dispatch.register(worker_info("w1", 1)).map(drop).unwrap_err().code(), "worker_id_taken");
    for bad in [worker_info("", 1), worker_info("w", 0), worker_info("w", 1025), worker_info("a\nb", 1)] {
        assert_eq!(world.dispatch.register(bad).map(drop).unwrap_err().code(), "invalid_request");
    }
    drop(first);
    let second = world.worker("w1", 1);
    assert_eq!(world.dispatch.workers().len(), 1);
    world.dispatch.close_all();
    assert!(matches!(within(second.notice()).await, Notice::Close(_)));
    assert_eq!(within(second.next()).await.map(drop).unwrap_err().code(), "session_closed");
});

both_dbs!(a_run_of_an_agent_that_was_deleted_meanwhile_fails, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let run = world.submit(&alice, &agent, "hello").await;
    world.agents.delete(&alice, AgentId(agent.id)).await.unwrap();
    let serve = world.serve("w1", 1);
    assert_eq!(world.ended(run).await.error.unwrap().code, "agent_deleted");
    serve.abort();
});

both_dbs!(a_dropped_wait_for_work_takes_nothing, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let worker = world.worker("w1", 1);
    for _ in 0..3 {
        assert!(futures::FutureExt::now_or_never(worker.next()).is_none());
    }
    let run = world.submit(&alice, &agent, "hello").await;
    // Dropped between taking and leasing: the run waits again.
    let _ = futures::FutureExt::now_or_never(worker.next());
    let task = within(worker.next()).await.unwrap();
    assert_eq!(task.run, run.uuid());
    worker.complete(task.run, answer("hi")).await.unwrap();
    assert_eq!(world.ended(run).await.output.as_deref(), Some("hi"));
});

both_dbs!(a_run_goes_only_where_its_model_pool_and_tools_are, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agents = [
        ("model", json!({ "llm_config": { "model": "large" } })),
        ("pool", json!({ "capabilities": { "worker_pool": "night" } })),
        ("tools", json!({ "tools": { "clock": {}, "mail": {} } })),
        ("plain", json!({})),
    ];
    let mut runs = std::collections::BTreeMap::new();
    for (name, members) in agents {
        let agent = world.agent_with(&alice, name, members).await;
        runs.insert(name, world.submit(&alice, &agent, name).await.uuid());
    }
    let register = |name: &str, info: WorkerInfo| world.dispatch.register(WorkerInfo { worker_id: name.into(), ..info }).unwrap();
    let info = || worker_info("", 8);
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    // Each of these has something, and none has what the other three runs need.
    let small = register("small", WorkerInfo { models: set(&["echo/small"]), tools: set(&["clock"]), ..info() });
    assert_eq!(within(small.next()).await.unwrap().run, runs["plain"]);
    assert_eq!(world.dispatch.waiting().await, (3, 3));
    let night = register("night", WorkerInfo { pool: "night".into(), tools: set(&["clock", "mail"]), ..info() });
    assert_eq!(within(night.next()).await.unwrap().run, runs["pool"]);
    let large = register("large", WorkerInfo { models: set(&["other/x", "echo/large"]), ..info() });
    assert_eq!(within(large.next()).await.unwrap().run, runs["model"]);
    assert_eq!(world.dispatch.waiting().await, (1, 1));
    let needs = world.dispatch.stranded().await.pop().unwrap();
    assert_eq!((needs.0.needs.tools, needs.1), (set(&["clock", "mail"]), vec!["combination"]));
    let handy = register("handy", WorkerInfo { tools: set(&["clock", "mail", "more"]), ..info() });
    assert_eq!(within(handy.next()).await.unwrap().run, runs["tools"]);
    assert_eq!(world.dispatch.waiting().await, (0, 0));
    for worker in [&small, &night, &large, &handy] {
        assert!(futures::FutureExt::now_or_never(worker.next()).is_none(), "nothing went to two workers");
    }
});

both_dbs!(a_thousand_runs_of_two_providers_and_not_one_goes_astray, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let mut runs = Vec::new();
    for index in 0..50 {
        let (provider, model) = if index % 2 == 0 { ("echo", "one") } else { ("other", "two") };
        let agent = world.agent_with(&alice, "x", json!({ "llm_config": { "provider": provider, "model": model } })).await;
        for _ in 0..20 {
            runs.push((world.submit(&alice, &agent, provider).await, provider));
        }
    }
    let serve = |name: &str, provider: &str, model: &str| {
        let models = [format!("{provider}/{model}")].into();
        let info = WorkerInfo { providers: vec![provider.into()], models, ..worker_info(name, 8) };
        let session = world.dispatch.register(info).unwrap();
        tokio::spawn(async move {
            while let Ok(task) = session.next().await {
                session.complete(task.run, answer(&task.provider)).await.unwrap();
            }
        })
    };
    let workers = [serve("w1", "echo", "one"), serve("w2", "other", "two")];
    for (run, provider) in runs {
        let ended = world.ended(run).await;
        let worker = if provider == "echo" { "w1" } else { "w2" };
        assert_eq!((ended.output.as_deref(), ended.worker_id.as_deref()), (Some(provider), Some(worker)));
    }
    for worker in workers {
        worker.abort();
    }
});

both_dbs!(a_run_that_nobody_can_serve_says_so_and_ends_at_its_limit, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent_with(&alice, "x", json!({ "capabilities": { "worker_pool": "night" }, "tools": { "clock": {} } })).await;
    let submit = async |timeout_ms| {
        let message = NewRun { timeout_ms: Some(timeout_ms), ..world.message(&agent, "hello") };
        aiox_model::RunId(world.runs.submit(&alice, message).await.unwrap().run.id)
    };
    let worker = world.worker("w1", 4);
    let (first, behind) = (submit(300).await, submit(60_000).await);
    let ended = world.ended(first).await;
    let error = ended.error.unwrap();
    assert_eq!((ended.status, error.code.as_str(), error.retryable), (RunStatus::Failed, "no_capable_worker", true));
    assert_eq!((ended.attempt, ended.worker_id), (0, None), "it was given to nobody");
    assert_eq!(world.kinds(first).await, ["run.created", "run.waiting", "run.failed"]);
    let (_, events) = world.runs.events(&alice, first, 1, 1).await.unwrap();
    assert_eq!(events[0].payload, json!({ "reason": "no_capable_worker", "missing": ["pool", "tools"] }));
    // The next of its conversation is still there for the worker that fits.
    assert_eq!(world.dispatch.waiting().await, (1, 1));
    let info = WorkerInfo { pool: "night".into(), tools: ["clock".to_owned()].into(), ..worker_info("w2", 4) };
    let fits = world.dispatch.register(info).unwrap();
    assert_eq!(within(fits.next()).await.unwrap().run, behind.uuid());
    assert!(futures::FutureExt::now_or_never(worker.next()).is_none());
});

both_dbs!(a_busy_worker_that_fits_is_waited_for, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let (one, two) = (world.agent(&alice, "one").await, world.agent(&alice, "two").await);
    let worker = world.worker("w1", 1);
    let busy = world.submit(&alice, &one, "busy").await;
    within(worker.next()).await.unwrap();
    let message = NewRun { timeout_ms: Some(1), ..world.message(&two, "patient") };
    let patient = aiox_model::RunId(world.runs.submit(&alice, message).await.unwrap().run.id);
    // Another run that nobody fits is looked at and ended meanwhile: the patient one has been looked at too.
    let other = world.agent_with(&alice, "x", json!({ "capabilities": { "worker_pool": "night" } })).await;
    let hopeless = NewRun { timeout_ms: Some(200), ..world.message(&other, "hopeless") };
    let hopeless = aiox_model::RunId(world.runs.submit(&alice, hopeless).await.unwrap().run.id);
    assert_eq!(world.ended(hopeless).await.error.unwrap().code, "no_capable_worker");
    assert_eq!(world.kinds(patient).await, ["run.created"]);
    worker.complete(busy.uuid(), answer("done")).await.unwrap();
    assert_eq!(within(worker.next()).await.unwrap().run, patient.uuid());
});

both_dbs!(what_a_leaving_worker_gives_back_does_not_count, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let run = world.submit(&alice, &agent, "hello").await;
    for name in ["w1", "w2", "w3", "w4"] {
        let leaving = world.worker(name, 1);
        assert_eq!(within(leaving.next()).await.unwrap().attempt, 1);
        assert!(leaving.hand_back(run.uuid()));
        assert!(!leaving.hand_back(run.uuid()), "it is no longer its own");
        assert_eq!(leaving.event(run.uuid(), TaskEvent::ToolCall, Map::new()).await.unwrap_err().code(), "foreign_lease");
    }
    // Crashes count as before.
    for (attempt, name) in [(1, "c1"), (2, "c2"), (3, "c3")] {
        let worker = world.worker(name, 1);
        assert_eq!(within(worker.next()).await.unwrap().attempt, attempt);
    }
    let ended = world.ended(run).await;
    assert_eq!((ended.error.unwrap().code.as_str(), ended.attempt), ("worker_lost", 3));
    let (_, events) = world.runs.events(&alice, run, 0, 100).await.unwrap();
    let reasons: Vec<_> = events.iter().filter_map(|event| event.payload["reason"].as_str()).collect();
    assert_eq!(reasons, [["worker_draining"; 4].as_slice(), &["worker_lost"; 2]].concat());
});

both_dbs!(a_hub_that_stops_loses_no_attempt, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let run = world.submit(&alice, &agent, "hello").await;
    let worker = world.worker("w1", 1);
    within(worker.next()).await.unwrap();
    let mut signals = aiox_core::ports::Events::subscribe(&*world.events, run).await;
    world.dispatch.close_all();
    drop(worker);
    within(signals.next()).await.unwrap();
    let world = world.restart().await;
    assert_eq!(world.dispatch.recover().await.unwrap(), 1);
    let worker = world.worker("w1", 1);
    assert_eq!(within(worker.next()).await.unwrap().attempt, 1);
});

both_dbs!(the_end_tells_what_it_took, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let worker = world.worker("w1", 1);
    let end = async |outcome: TaskOutcome| {
        let run = world.submit(&alice, &agent, "hello").await;
        within(worker.next()).await.unwrap();
        worker.complete(run.uuid(), outcome).await.unwrap();
        world.runs.events(&alice, run, 5, 1).await.unwrap().1.pop().unwrap().payload
    };
    let payload = end(TaskOutcome { duration_ms: 1200, finish_reason: Some("length"), ..answer("hi") }).await;
    assert_eq!((&payload["duration_ms"], &payload["finish_reason"]), (&json!(1200), &json!("length")));
    assert_eq!(payload["usage"], json!({ "input_tokens": 3, "output_tokens": 5 }));
    let silent = end(answer("hi")).await;
    assert_eq!((&silent["duration_ms"], silent.get("finish_reason")), (&json!(0), None));
    let error = RunError { code: "provider_error".into(), message: "x".into(), retryable: false };
    let failed = end(TaskOutcome { duration_ms: 7, ..TaskOutcome::failed(error) }).await;
    assert_eq!(failed["duration_ms"], 7);
});

both_dbs!(an_agent_that_fails_comes_after_one_that_does_not, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let (bad, good) = (world.agent(&alice, "bad").await, world.agent(&alice, "good").await);
    let worker = world.worker("w1", 1);
    let error = || TaskOutcome::failed(RunError { code: "provider_error".into(), message: "x".into(), retryable: false });
    for _ in 0..4 {
        for (agent, outcome) in [(&bad, error()), (&good, answer("hi"))] {
            let run = world.submit(&alice, agent, "x").await;
            within(worker.next()).await.unwrap();
            worker.complete(run.uuid(), outcome).await.unwrap();
        }
    }
    drop(worker);
    // Read back from the database after a restart.
    let world = world.restart().await;
    world.dispatch.recover().await.unwrap();
    let (first, second) = (world.submit(&alice, &bad, "first").await, world.submit(&alice, &good, "second").await);
    let worker = world.worker("w1", 2);
    assert_eq!(within(worker.next()).await.unwrap().run, second.uuid());
    assert_eq!(within(worker.next()).await.unwrap().run, first.uuid());
});

both_dbs!(an_unreasonable_registration_is_refused, |db| async move {
    let world = World::on(db).await;
    let refused = |info: WorkerInfo| world.dispatch.register(info).map(drop).unwrap_err().to_string();
    for (info, field) in [
        (WorkerInfo { pool: "a b".into(), ..worker_info("w", 1) }, "pool"),
        (WorkerInfo { tools: [String::new()].into(), ..worker_info("w", 1) }, "tools"),
        (WorkerInfo { tools: (0..1001).map(|n| n.to_string()).collect(), ..worker_info("w", 1) }, "tools"),
        (WorkerInfo { models: ["no-provider".to_owned()].into(), ..worker_info("w", 1) }, "models"),
    ] {
        assert!(refused(info).contains(field), "{field}");
    }
});
