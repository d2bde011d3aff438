//! Cancelling, wherever the run is.

use aiox_app::Notice;
use aiox_model::run::RunStatus;
use aiox_testkit::{World, answer, both_dbs, within};

const BEGUN: [&str; 3] = ["run.created", "run.started", "model.requested"];

both_dbs!(a_waiting_run_ends_at_once, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let run = world.submit(&alice, &agent, "first").await;
    let next = world.submit(&alice, &agent, "second").await;
    let canceled = world.runs.cancel(&alice, run).await.unwrap();
    assert_eq!((canceled.status, canceled.output), (RunStatus::Canceled, None));
    assert_eq!(world.kinds(run).await, ["run.created", "run.canceled"]);
    let quota = world.runs.quota(&alice).await.unwrap();
    assert_eq!(quota.requests_today, 2);
    let worker = world.worker("w1", 1);
    assert_eq!(within(worker.next()).await.unwrap().run, next.uuid());
    assert_eq!(world.runs.cancel(&alice, run).await.map(drop).unwrap_err().code(), "invalid_state_transition");
});

both_dbs!(a_running_run_ends_its_worker_is_told_and_its_conversation_goes_on, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let run = world.submit(&alice, &agent, "first").await;
    let next = world.submit(&alice, &agent, "second").await;
    let worker = world.worker("w1", 1);
    within(worker.next()).await.unwrap();
    assert_eq!(world.runs.cancel(&alice, run).await.unwrap().status, RunStatus::Canceled);
    assert_eq!(within(worker.notice()).await, Notice::Cancel { run: run.uuid(), reason: "canceled" });
    assert_eq!(within(worker.next()).await.unwrap().run, next.uuid(), "place and conversation are free again");
    assert!(!worker.complete(run.uuid(), answer("too late")).await.unwrap());
    assert!(worker.complete(next.uuid(), answer("hi")).await.unwrap());
    assert_eq!(world.ended(run).await.output, None);
    assert_eq!(world.kinds(run).await, BEGUN.into_iter().chain(["model.completed", "step.completed", "run.canceled"]).collect::<Vec<_>>());
    assert_eq!(world.dispatch.waiting().await, (0, 0));
});

both_dbs!(of_a_cancel_and_a_result_at_once_one_wins, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let worker = world.worker("w1", 1);
    for _ in 0..20 {
        let run = world.submit(&alice, &agent, "hello").await;
        let task = within(worker.next()).await.unwrap();
        let (canceled, completed) = tokio::join!(world.runs.cancel(&alice, run), worker.complete(task.run, answer("hi")));
        // The stopped worker may have lost its lease already, but not its right to try.
        assert_ne!(canceled.is_ok(), completed.unwrap());
        let ends = world.kinds(run).await.into_iter().filter(|kind| kind == "run.canceled" || kind == "run.completed").count();
        assert_eq!(ends, 1);
    }
});
