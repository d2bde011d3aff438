//! Workers that come, go, are slow, or lie.

use std::time::{Duration, Instant};

use aiox_app::{NewRun, Notice, WorkerInfo};
use aiox_model::{AgentId, run::RunStatus};
use aiox_testkit::{World, answer, both_dbs, within, worker_info};
use serde_json::json;

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
    let started = ["run.started", "run.retried", "run.started", "run.retried", "run.started"];
    assert_eq!(world.kinds(run).await, [&["run.created"], &started[..], &["run.failed"]].concat());
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
    assert_eq!(other.event(task.run, "tool.call", json!({})).await.unwrap_err().code(), "foreign_lease");
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
