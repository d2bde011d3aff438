//! Reading runs, whichever way they are looked for.

use aiox_model::{Ts, run::RunStatus};
use aiox_store::{Journal, peers, runs};
use aiox_testkit::both_dbs;
use uuid::Uuid;

use crate::make::{accept, advance, at, ending, id};

both_dbs!(a_run_is_kept_whole_and_found_every_way, |db| async move {
    let store = db.open().await;
    let (journal, task) = Journal::new(store.clone());
    let task = tokio::spawn(task);
    let agent = id();
    let mut first = accept("user:a");
    first.agent = Some(agent);
    first.reply = Some("{\"to\":\"x\"}".into());
    first.origin = Some("spiffe://hub-b.example/node/n1".into());
    let mut second = accept("user:a");
    (second.agent, second.at, second.peer) = (Some(agent), at(5), Some("hub-c.example".into()));
    for run in [&first, &second] {
        journal.accept(run.clone()).await.unwrap();
    }
    let mut started = advance(first.run, "run.started");
    (started.status, started.worker, started.attempts) = (Some(RunStatus::Running), Some("w1".into()), 1);
    assert_eq!(journal.advance(started).await.unwrap(), Some(2));
    let mut reader = store.read().await.unwrap();
    let row = runs::by_id(&mut reader, first.run).await.unwrap().unwrap();
    assert_eq!((row.tenant, row.agent, row.conversation), (first.tenant, first.agent, first.conversation));
    assert_eq!(
        (row.agent_jid, row.principal, row.door, row.input),
        (first.agent_jid.clone(), "user:a".into(), "rest".into(), "hello".into())
    );
    assert_eq!((row.status, row.worker.as_deref(), row.attempt, row.last_seq), (RunStatus::Running, Some("w1"), 1, 2));
    assert_eq!((row.origin, row.reply, row.timeout_ms, row.priority), (first.origin.clone(), first.reply.clone(), 1000, 1));
    assert_eq!((row.created_at, row.started_at, row.completed_at), (first.at, Some(at(1)), None));
    assert!(runs::by_id(&mut reader, id()).await.unwrap().is_none());

    let beginning = (Ts::from_micros(i64::MIN), Uuid::nil());
    let page = runs::unfinished(&mut reader, beginning, 1).await.unwrap();
    assert_eq!(page[0].id, first.run);
    let rest = runs::unfinished(&mut reader, (page[0].created_at, page[0].id), 10).await.unwrap();
    assert_eq!(rest.iter().map(|row| row.id).collect::<Vec<_>>(), [second.run]);
    let (found, count) = runs::of_agent(&mut reader, agent, 1, 0).await.unwrap();
    assert_eq!((found[0].id, count), (second.run, 2));
    let (found, count) = runs::of_principal(&mut reader, "user:a", &first.agent_jid, 10, 1).await.unwrap();
    assert_eq!((found[0].id, count), (first.run, 2));
    assert_eq!(runs::of_principal(&mut reader, "user:b", &first.agent_jid, 10, 0).await.unwrap().1, 0);
    assert_eq!(runs::latest_of_principal(&mut reader, "user:a", 1).await.unwrap()[0].id, second.run);
    let away = runs::at_peer(&mut reader, "hub-c.example", 10).await.unwrap();
    assert_eq!((away[0].id, away[0].delivery.as_deref()), (second.run, Some("queued")));
    assert!(peers::asked_for_run(&mut reader, "spiffe://hub-b.example/node/n1", first.run).await.unwrap());
    assert!(!peers::asked_for_run(&mut reader, "spiffe://hub-c.example/node/n1", first.run).await.unwrap());
    assert!(!peers::asked_for_run(&mut reader, "spiffe://hub-b.example/node/n1", second.run).await.unwrap());
    drop(reader);

    let mut tx = store.begin().await.unwrap();
    runs::set_delivery(&mut tx, second.run, "delivered").await.unwrap();
    tx.commit().await.unwrap();
    for run in [first.run, second.run] {
        let mut end = advance(run, "run.completed");
        end.ending = Some(ending("hi"));
        journal.advance(end).await.unwrap();
    }
    let mut reader = store.read().await.unwrap();
    let row = runs::by_id(&mut reader, second.run).await.unwrap().unwrap();
    assert_eq!(
        (row.delivery.as_deref(), row.output.as_deref(), row.model_used.as_deref()),
        (Some("delivered"), Some("hi"), Some("echo/1"))
    );
    assert_eq!((row.input_tokens, row.output_tokens, row.completed_at), (2, 3, Some(at(1))));
    assert!(runs::unfinished(&mut reader, beginning, 10).await.unwrap().is_empty());
    assert_eq!(runs::latest_ends(&mut reader, 10).await.unwrap(), [(agent, true), (agent, true)]);
    assert_eq!(runs::latest_ends(&mut reader, 1).await.unwrap().len(), 1);
    assert!(runs::at_peer(&mut reader, "hub-c.example", 10).await.unwrap().is_empty());
    let events = runs::events(&mut reader, first.run, 0, 10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["run.created", "run.started", "run.completed"]);
    assert_eq!((events[0].id, &events[0].payload["status"]), (first.event, &"queued".into()));
    let tail = runs::events(&mut reader, first.run, 1, 1).await.unwrap();
    assert_eq!((tail.len(), tail[0].sequence), (1, 2));
    task.abort();
});

both_dbs!(an_error_is_kept_and_a_damaged_one_is_told, |db| async move {
    let store = db.open().await;
    let (journal, task) = Journal::new(store.clone());
    let task = tokio::spawn(task);
    let run = accept("user:a");
    journal.accept(run.clone()).await.unwrap();
    let mut end = advance(run.run, "run.failed");
    let mut failure = ending("");
    (failure.status, failure.output) = (RunStatus::Failed, None);
    failure.error = Some("{\"code\":\"timeout\",\"message\":\"m\",\"retryable\":true}".into());
    end.ending = Some(failure);
    journal.advance(end).await.unwrap();
    let row = runs::by_id(&mut store.read().await.unwrap(), run.run).await.unwrap().unwrap();
    assert_eq!(row.error.unwrap().code, "timeout");
    db.execute("UPDATE runs SET error = 'no json'").await;
    let error = runs::by_id(&mut store.read().await.unwrap(), run.run).await.unwrap_err();
    assert!(error.chain().contains("runs.error"), "{}", error.chain());
    db.execute("UPDATE runs SET error = NULL, status = 'paused'").await;
    let error = runs::by_id(&mut store.read().await.unwrap(), run.run).await.unwrap_err();
    assert!(error.chain().contains("runs.status"), "{}", error.chain());
    task.abort();
});
