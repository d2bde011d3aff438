//! Envelopes in and out.

use std::sync::Arc;

use aiox_core::Error;
use aiox_store::{Accepted, Inbound, Journal, Outbound, Sealed, Store, federation, listed, runs};
use aiox_testkit::both_dbs;
use uuid::Uuid;

use crate::make::{NOW, accept, at, id};

const PEER: &str = "hub-b.example";

fn outbound(conv: &str) -> Outbound {
    let own = id();
    Outbound {
        id: own,
        peer: PEER.into(),
        conv: conv.into(),
        kind: "run.create",
        expires: at(1000),
        seal: Arc::new(move |seq, prev| {
            Ok(Sealed {
                envelope: format!("{seq} after {}", prev.unwrap_or("nothing")),
                digest: format!("{conv}-{seq}", conv = own.simple()),
            })
        }),
    }
}

async fn enqueue(store: &Store, conv: &str, when: i64) -> Uuid {
    let envelope = outbound(conv);
    let mut tx = store.begin().await.unwrap();
    federation::enqueue(&mut tx, &envelope, None, at(when)).await.unwrap();
    tx.commit().await.unwrap();
    envelope.id
}

async fn due(store: &Store, now: i64) -> Vec<Uuid> {
    federation::due(&mut store.read().await.unwrap(), PEER, at(now), 100).await.unwrap().into_iter().map(|row| row.id).collect()
}

both_dbs!(envelopes_are_numbered_and_chained_within_their_conversation, |db| async move {
    let store = db.open().await;
    let a1 = enqueue(&store, "a", 0).await;
    let b1 = enqueue(&store, "b", 1).await;
    let a2 = enqueue(&store, "a", 2).await;
    let rows = federation::due(&mut store.read().await.unwrap(), PEER, at(5), 100).await.unwrap();
    assert_eq!(rows.iter().map(|row| (row.id, row.seq)).collect::<Vec<_>>(), [(a1, 1), (b1, 1), (a2, 2)]);
    assert_eq!(rows[0].envelope, "1 after nothing");
    assert_eq!(rows[2].envelope, format!("2 after {}-1", a1.simple()));
    assert_eq!((rows[0].expires_at, rows[0].attempts, rows[0].kind.as_str()), (at(1000), 0, "run.create"));
    assert_eq!(federation::due(&mut store.read().await.unwrap(), PEER, at(5), 1).await.unwrap().len(), 1);
    assert!(federation::due(&mut store.read().await.unwrap(), "hub-z.example", at(5), 9).await.unwrap().is_empty());
});

both_dbs!(a_first_envelope_that_waits_holds_its_conversation_back_and_no_other, |db| async move {
    let store = db.open().await;
    let (a1, b1, a2) = (enqueue(&store, "a", 0).await, enqueue(&store, "b", 1).await, enqueue(&store, "a", 2).await);
    let mut tx = store.begin().await.unwrap();
    federation::postpone(&mut tx, a1, at(100), "away").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(due(&store, 50).await, [b1]);
    assert_eq!(due(&store, 100).await, [a1, b1, a2]);
    let mut reader = store.read().await.unwrap();
    assert_eq!(federation::next_due(&mut reader, PEER).await.unwrap(), Some(at(1)));
    assert_eq!(federation::waiting(&mut reader, PEER).await.unwrap(), 3);
    assert_eq!(federation::due(&mut reader, PEER, at(100), 9).await.unwrap()[0].attempts, 1);
    drop(reader);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(federation::flush(&mut tx, PEER, at(50)).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(due(&store, 50).await, [a1, b1, a2]);
    let mut tx = store.begin().await.unwrap();
    federation::finish(&mut tx, a1, "delivered", None, at(51)).await.unwrap();
    federation::finish(&mut tx, b1, "refused", Some("not_found"), at(51)).await.unwrap();
    federation::postpone(&mut tx, a1, at(900), "late").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(due(&store, 51).await, [a2]);
    assert_eq!(federation::waiting(&mut store.read().await.unwrap(), PEER).await.unwrap(), 1);
    let mut tx = store.begin().await.unwrap();
    federation::finish(&mut tx, a2, "expired", None, at(52)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(federation::next_due(&mut store.read().await.unwrap(), PEER).await.unwrap(), None);
});

both_dbs!(an_envelope_that_cannot_be_signed_takes_no_place_and_no_run, |db| async move {
    let store = db.open().await;
    let (journal, task) = Journal::new(store.clone());
    let task = tokio::spawn(task);
    let mut remote = accept("user:a");
    remote.peer = Some(PEER.into());
    let refusing = Arc::new(|_: u64, _: Option<&str>| Err(Error::unavailable("peer_unavailable", "not active")));
    remote.outbound = Some(Outbound { seal: refusing, ..outbound("a") });
    assert_eq!(journal.accept(remote.clone()).await.unwrap_err().code(), "peer_unavailable");
    assert!(runs::by_id(&mut store.read().await.unwrap(), remote.run).await.unwrap().is_none());
    remote.outbound = Some(outbound("a"));
    assert_eq!(journal.accept(remote.clone()).await.unwrap(), Accepted::New);
    let rows = federation::due(&mut store.read().await.unwrap(), PEER, at(5), 9).await.unwrap();
    assert_eq!((rows.len(), rows[0].seq, rows[0].run), (1, 1, Some(remote.run)));
    let envelope = rows[0].id;
    let delivery = async || runs::by_id(&mut store.read().await.unwrap(), remote.run).await.unwrap().unwrap().delivery;
    assert_eq!(delivery().await.as_deref(), Some("queued"));
    let mut tx = store.begin().await.unwrap();
    federation::mark_sent(&mut tx, envelope).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(delivery().await.as_deref(), Some("sent"));
    let mut tx = store.begin().await.unwrap();
    let done = federation::finish(&mut tx, envelope, "delivered", None, at(6)).await.unwrap();
    assert_eq!(done, Some((remote.run, "run.create".to_owned())));
    assert_eq!(federation::finish(&mut tx, envelope, "refused", None, at(7)).await.unwrap(), None, "an end is an end");
    tx.commit().await.unwrap();
    task.abort();
});

both_dbs!(parallel_senders_leave_no_hole_in_a_conversation, |db| async move {
    let store = db.open().await;
    futures::future::join_all((0..40).map(|_| enqueue(&store, "a", 0))).await;
    let rows = federation::due(&mut store.read().await.unwrap(), PEER, at(5), 100).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    for pair in rows.windows(2) {
        assert_eq!(pair[1].envelope, format!("{} after {}-{}", pair[1].seq, pair[0].id.simple(), pair[0].seq));
    }
});

both_dbs!(a_copy_of_an_envelope_gets_the_first_verdict, |db| async move {
    let store = db.open().await;
    let (journal, task) = Journal::new(store.clone());
    let task = tokio::spawn(task);
    let inbound = |digest: &str, verdict: &str, id: Uuid| Inbound {
        origin: "spiffe://hub-b.example/node/n1".into(),
        id,
        digest: digest.into(),
        envelope: "{}".into(),
        verdict: verdict.into(),
        conv: "c".into(),
        seq: 1,
        canceled: None,
    };
    let envelope = id();
    let mut first = accept("jid:x@hub-b.example");
    first.inbound = Some(inbound("d1", "v1", envelope));
    assert_eq!(journal.accept(first.clone()).await.unwrap(), Accepted::New);
    let mut copy = accept("jid:x@hub-b.example");
    copy.inbound = Some(inbound("d2", "v2", envelope));
    let seen = Accepted::Seen { digest: "d1".into(), verdict: "v1".into() };
    assert_eq!(journal.accept(copy.clone()).await.unwrap(), seen);
    assert!(runs::by_id(&mut store.read().await.unwrap(), copy.run).await.unwrap().is_none());
    let mut reader = store.read().await.unwrap();
    let origin = "spiffe://hub-b.example/node/n1";
    assert_eq!(federation::received(&mut reader, origin, envelope).await.unwrap(), Some(("d1".into(), "v1".into())));
    assert_eq!(federation::received(&mut reader, "spiffe://hub-c.example/node/n1", envelope).await.unwrap(), None);
    drop(reader);

    // An envelope refused for want of allowance may come again.
    let mut poor = accept("jid:y@hub-b.example");
    poor.inbound = Some(inbound("d3", "v3", id()));
    poor.limits.requests_day = 0;
    assert!(matches!(journal.accept(poor.clone()).await.unwrap(), Accepted::OverQuota(_)));
    poor.limits.requests_day = 9;
    assert_eq!(journal.accept(poor).await.unwrap(), Accepted::New);

    // Fifty copies at once: one run.
    let envelope = id();
    let outcomes = futures::future::join_all((0..50).map(|_| {
        let mut copy = accept("jid:z@hub-b.example");
        copy.inbound = Some(inbound("d4", "v4", envelope));
        journal.accept(copy)
    }))
    .await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Accepted::New))).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Accepted::Seen { .. }))).count(), 49);

    let mut tx = store.begin().await.unwrap();
    let cancel = inbound("d5", "v5", id());
    assert_eq!(federation::receive(&mut tx, &cancel, NOW).await.unwrap(), None);
    let again = federation::receive(&mut tx, &cancel, NOW).await.unwrap();
    assert_eq!(again, Some(Accepted::Seen { digest: "d5".into(), verdict: "v5".into() }));
    tx.commit().await.unwrap();
    task.abort();
});

both_dbs!(listed_peers_are_kept_changed_and_removed, |db| async move {
    let store = db.open().await;
    let row =
        |stack_id: &str, document: &str, insecure| listed::ListedRow { stack_id: stack_id.into(), document: document.into(), insecure };
    let mut tx = store.begin().await.unwrap();
    for (stack_id, document, insecure) in [("stk_b", "{}", false), ("stk_a", "{}", true), ("stk_b", "[]", true)] {
        listed::put(&mut tx, &row(stack_id, document, insecure), NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
    let all = listed::all(&mut store.read().await.unwrap()).await.unwrap();
    assert_eq!(all, [row("stk_a", "{}", true), row("stk_b", "[]", true)]);
    let mut tx = store.begin().await.unwrap();
    assert!(listed::remove(&mut tx, "stk_a").await.unwrap());
    assert!(!listed::remove(&mut tx, "stk_a").await.unwrap());
});

both_dbs!(a_run_at_a_plain_node_is_noted_once_for_its_tenant_and_forgotten_in_time, |db| async move {
    let store = db.open().await;
    let run = listed::PlainRunRow {
        tenant: id(),
        run: "run_1".into(),
        principal: "user:a".into(),
        stack_id: "stk_b".into(),
        events_url: "/v1/runs/run_1/events".into(),
    };
    let mut tx = store.begin().await.unwrap();
    assert!(listed::note_run(&mut tx, &run, NOW).await.unwrap());
    assert!(!listed::note_run(&mut tx, &listed::PlainRunRow { stack_id: "stk_c".into(), ..run.clone() }, NOW).await.unwrap());
    tx.commit().await.unwrap();
    let mut db = store.read().await.unwrap();
    assert_eq!(listed::run(&mut db, run.tenant, "run_1").await.unwrap(), Some(run.clone()));
    assert_eq!(listed::run(&mut db, id(), "run_1").await.unwrap(), None, "another tenant");
    drop(db);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(listed::forget_runs(&mut tx, NOW).await.unwrap(), 0);
    assert_eq!(listed::forget_runs(&mut tx, at(1)).await.unwrap(), 1);
});
