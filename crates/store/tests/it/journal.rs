//! What a group commit promises.

use std::sync::atomic::Ordering;

use aiox_model::run::RunStatus;
use aiox_store::{Accepted, Journal, Store, audit, outbox, quotas, runs};
use aiox_testkit::both_dbs;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::make::{NOW, accept, advance, at, ending, event, id};

fn start(store: &Store) -> (Journal, JoinHandle<()>) {
    let (journal, task) = Journal::new(store.clone());
    (journal, tokio::spawn(task))
}

both_dbs!(each_caller_of_a_batch_gets_its_own_answer, |db| async move {
    let store = db.open().await;
    let (journal, task) = Journal::new(store.clone());
    // Everything waits before the task begins, so that it is one batch.
    let mut all: Vec<_> = (0..200).map(|_| accept("user:a")).collect();
    all[3].limits.requests_day = 0;
    all[5].idempotency = Some(("key".into(), vec![1]));
    all[6].idempotency = Some(("key".into(), vec![1]));
    all[7].idempotency = Some(("key".into(), vec![2]));
    let first = all[5].run;
    let mut waiting = futures::future::join_all(all.iter().cloned().map(|one| journal.accept(one)));
    assert!(futures::poll!(&mut waiting).is_pending());
    let task = tokio::spawn(task);
    let outcomes = waiting.await;
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let expected = match index {
            3 => Accepted::OverQuota(aiox_store::Exhausted::RequestsDay),
            6 => Accepted::Replayed(first),
            7 => Accepted::KeyConflict,
            _ => Accepted::New,
        };
        assert_eq!(outcome.unwrap(), expected, "{index}");
    }
    let commits = journal.stats().commits.load(Ordering::Relaxed);
    assert_eq!(journal.stats().operations.load(Ordering::Relaxed), 200);
    assert!(commits < 20, "{commits} commits");
    assert_eq!(audit::list(&mut store.read().await.unwrap(), &audit::Filter::default(), 1, 0).await.unwrap().1, 197);
    task.abort();
});

both_dbs!(a_poisoned_operation_fails_alone, |db| async move {
    let store = db.open().await;
    let (journal, task) = Journal::new(store.clone());
    let mut all: Vec<_> = (0..40).map(|_| accept("user:a")).collect();
    // A run that repeats another's id, and one whose audit record repeats another's, poison the batch each in its own way.
    all[9].run = all[2].run;
    all[20].audit.id = all[4].audit.id;
    let mut waiting = futures::future::join_all(all.iter().cloned().map(|one| journal.accept(one)));
    assert!(futures::poll!(&mut waiting).is_pending());
    let task = tokio::spawn(task);
    let outcomes = waiting.await;
    let failed: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_err()).map(|(index, _)| index).collect();
    assert_eq!(failed, [9, 20]);
    assert!(runs::by_id(&mut store.read().await.unwrap(), all[20].run).await.unwrap().is_none(), "nothing of it is kept");
    assert_eq!(journal.accept(accept("user:a")).await.unwrap(), Accepted::New, "the journal goes on");
    task.abort();
});

both_dbs!(one_batch_moves_a_run_on_twice_and_confirms_another, |db| async move {
    let store = db.open().await;
    let (journal, task) = Journal::new(store.clone());
    let task = tokio::spawn(task);
    let runs: Vec<_> = (0..40).map(|_| accept("user:a")).collect();
    for run in &runs {
        assert_eq!(journal.accept(run.clone()).await.unwrap(), Accepted::New);
    }
    task.abort();
    let (journal, task) = Journal::new(store.clone());
    let mut changes = Vec::new();
    for run in &runs {
        let mut started = advance(run.run, "run.started");
        (started.status, started.worker, started.attempts) = (Some(RunStatus::Running), Some("w".into()), 1);
        let mut ended = advance(run.run, "run.completed");
        ended.ending = Some(ending("done"));
        changes.extend([started, ended.clone(), ended]);
    }
    let mut waiting = futures::future::join_all(changes.iter().cloned().map(|change| journal.advance(change)));
    assert!(futures::poll!(&mut waiting).is_pending());
    let task = tokio::spawn(task);
    let got: Vec<_> = waiting.await.into_iter().map(Result::unwrap).collect();
    assert_eq!(got, [Some(2), Some(3), None].repeat(40), "an end is final, in one batch too");
    assert!(journal.stats().commits.load(Ordering::Relaxed) <= 1, "it was one batch");
    let mut reader = store.read().await.unwrap();
    let row = runs::by_id(&mut reader, runs[39].run).await.unwrap().unwrap();
    assert_eq!((row.status, row.attempt, row.worker.as_deref()), (RunStatus::Completed, 1, Some("w")));
    assert!(row.started_at.is_some() && row.completed_at.is_some());
    assert_eq!(quotas::used(&mut reader, "user:a", NOW).await.unwrap(), (200, 40, 200));
    let due = outbox::due(&mut reader, Uuid::nil(), 100).await.unwrap();
    assert_eq!(due.len(), 40);
    drop(reader);
    journal.confirm(due.into_iter().map(|(id, _)| id).collect()).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM xmpp_outbox").await, 0);
    task.abort();
});

both_dbs!(an_accepted_run_is_at_hand_once, |db| async move {
    let store = db.open().await;
    let (journal, task) = start(&store);
    let (here, mut there, mut long, mut refused) = (accept("user:a"), accept("user:a"), accept("user:a"), accept("user:a"));
    there.peer = Some("hub-b.example".into());
    long.input = "x".repeat(5000);
    refused.limits.requests_day = 0;
    for run in [&here, &there, &long, &refused] {
        journal.accept(run.clone()).await.unwrap();
    }
    let at_hand = journal.fresh(here.run).unwrap();
    let stored = runs::by_id(&mut store.read().await.unwrap(), here.run).await.unwrap().unwrap();
    assert_eq!(format!("{at_hand:?}"), format!("{stored:?}"));
    for run in [&here, &there, &long, &refused] {
        assert!(journal.fresh(run.run).is_none());
    }
    task.abort();
});

both_dbs!(a_hundred_senders_never_exceed_a_limit_together, |db| async move {
    let store = db.open().await;
    // Two journals are two replicas.
    let ((one, first), (two, second)) = (start(&store), start(&store));
    let outcomes = futures::future::join_all((0..100).map(|index| {
        let mut run = accept("user:a");
        run.limits.requests_day = 17;
        if index % 2 == 0 { one.accept(run) } else { two.accept(run) }
    }))
    .await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Accepted::New))).count(), 17);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Accepted::OverQuota(_)))).count(), 83);
    let used = quotas::used(&mut store.read().await.unwrap(), "user:a", NOW).await.unwrap();
    assert_eq!(used, (170, 17, 170));
    assert_eq!(db.number("SELECT COUNT(*) FROM runs").await, 17);
    first.abort();
    second.abort();
});

both_dbs!(an_end_is_final, |db| async move {
    let store = db.open().await;
    let (journal, task) = start(&store);
    let run = accept("user:a");
    journal.accept(run.clone()).await.unwrap();
    let mut end = advance(run.run, "run.completed");
    end.ending = Some(ending("first"));
    let reply = end.ending.as_ref().unwrap().reply.as_ref().unwrap().0;
    assert_eq!(journal.advance(end.clone()).await.unwrap(), Some(2));
    let mut second = advance(run.run, "run.failed");
    second.ending = Some(ending("second"));
    assert_eq!(journal.advance(second).await.unwrap(), None);
    let mut back = advance(run.run, "run.retried");
    back.status = Some(RunStatus::Queued);
    assert_eq!(journal.advance(back).await.unwrap(), None);
    assert_eq!(journal.advance(advance(id(), "run.started")).await.unwrap(), None, "unknown");
    let mut reader = store.read().await.unwrap();
    let row = runs::by_id(&mut reader, run.run).await.unwrap().unwrap();
    assert_eq!((row.status, row.output.as_deref(), row.last_seq), (RunStatus::Completed, Some("first"), 2));
    assert_eq!(runs::events(&mut reader, run.run, 0, 10).await.unwrap().len(), 2);
    assert_eq!(quotas::used(&mut reader, "user:a", NOW).await.unwrap(), (5, 1, 5), "settled once, to what was used");
    assert_eq!(outbox::due(&mut reader, Uuid::nil(), 10).await.unwrap(), [(reply, "{\"text\":\"reply\"}".to_owned())]);
    drop(reader);
    journal.confirm(vec![reply, id()]).await.unwrap();
    assert!(outbox::due(&mut store.read().await.unwrap(), Uuid::nil(), 10).await.unwrap().is_empty());
    task.abort();
});

both_dbs!(fifty_parallel_changes_leave_no_gap, |db| async move {
    let store = db.open().await;
    let ((one, first), (two, second)) = (start(&store), start(&store));
    let run = accept("user:a");
    one.accept(run.clone()).await.unwrap();
    let mut sequences: Vec<u64> = futures::future::join_all((0..50).map(|index| {
        let change = advance(run.run, "tool.call");
        if index % 2 == 0 { one.advance(change) } else { two.advance(change) }
    }))
    .await
    .into_iter()
    .map(|sequence| sequence.unwrap().unwrap())
    .collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (2..=51).collect::<Vec<_>>());
    let events = runs::events(&mut store.read().await.unwrap(), run.run, 0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), (1..=51).collect::<Vec<_>>());
    first.abort();
    second.abort();
});

both_dbs!(the_events_of_one_change_follow_one_another, |db| async move {
    let store = db.open().await;
    let (journal, task) = start(&store);
    let run = accept("user:a");
    journal.accept(run.clone()).await.unwrap();
    let with = |kinds: &[&str], first| {
        let events = kinds.iter().map(|kind| event(kind, at(1))).collect();
        aiox_store::Advance { events, first, ..advance(run.run, "") }
    };
    assert_eq!(journal.advance(with(&["run.started", "model.requested"], None)).await.unwrap(), Some(3));
    assert_eq!(journal.advance(with(&["model.completed", "run.completed"], Some(3))).await.unwrap(), None);
    let mut end = with(&["model.completed", "step.completed", "run.completed"], Some(4));
    end.ending = Some(ending("done"));
    assert_eq!(journal.advance(end.clone()).await.unwrap(), Some(6));
    assert_eq!(journal.advance(end).await.unwrap(), None);
    let events = runs::events(&mut store.read().await.unwrap(), run.run, 0, 100).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.sequence, event.kind.as_str())).collect();
    let kinds = ["run.created", "run.started", "model.requested", "model.completed", "step.completed", "run.completed"];
    assert_eq!(told, (1..).zip(kinds).collect::<Vec<_>>());
    task.abort();
});

both_dbs!(an_event_of_a_peer_comes_in_its_turn_or_not_at_all, |db| async move {
    let store = db.open().await;
    let (journal, task) = start(&store);
    let run = accept("user:a");
    journal.accept(run.clone()).await.unwrap();
    let numbered = |sequence| {
        let mut change = advance(run.run, "tool.call");
        change.first = Some(sequence);
        change
    };
    assert_eq!(journal.advance(numbered(3)).await.unwrap(), None);
    assert_eq!(journal.advance(numbered(2)).await.unwrap(), Some(2));
    assert_eq!(journal.advance(numbered(2)).await.unwrap(), None);
    assert_eq!(journal.advance(numbered(3)).await.unwrap(), Some(3));
    task.abort();
});

both_dbs!(keys_are_of_one_principal_and_one_agent, |db| async move {
    let store = db.open().await;
    let (journal, task) = start(&store);
    let keyed = |principal: &str, agent: &str| {
        let mut run = accept(principal);
        run.agent_jid = agent.into();
        run.idempotency = Some(("key".into(), vec![1]));
        run
    };
    for (principal, agent) in [("user:a", "x@h"), ("user:b", "x@h"), ("user:a", "y@h")] {
        assert_eq!(journal.accept(keyed(principal, agent)).await.unwrap(), Accepted::New);
    }
    assert!(matches!(journal.accept(keyed("user:a", "x@h")).await.unwrap(), Accepted::Replayed(_)));
    task.abort();
});

both_dbs!(what_was_answered_survives_a_crash, |db| async move {
    let store = db.open().await;
    let (journal, task) = start(&store);
    let all: Vec<_> = (0..30).map(|_| accept("user:a")).collect();
    for run in &all {
        assert_eq!(journal.accept(run.clone()).await.unwrap(), Accepted::New);
    }
    let mut end = advance(all[0].run, "run.completed");
    end.ending = Some(ending("done"));
    journal.advance(end).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // The first store is still open: nothing was closed in an orderly way.
    let again = db.open().await;
    let mut reader = again.read().await.unwrap();
    let left = runs::unfinished(&mut reader, (at(-1), Uuid::nil()), 100).await.unwrap();
    assert_eq!(left.len(), 29);
    assert_eq!(runs::by_id(&mut reader, all[0].run).await.unwrap().unwrap().output.as_deref(), Some("done"));
    assert_eq!(outbox::due(&mut reader, Uuid::nil(), 10).await.unwrap().len(), 1);
    assert_eq!(journal.accept(accept("user:a")).await.unwrap_err().code(), "shutting_down");
});
