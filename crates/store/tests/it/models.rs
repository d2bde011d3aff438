//! The usage ledger and stored responses.

use aiox_store::{
    ledger::{self, Earlier, Ended, NewCall},
    responses::{self, ResponseRow},
};
use aiox_testkit::both_dbs;
use uuid::Uuid;

use crate::make::{NOW, at, id};

fn call(tenant: Uuid, key: Option<&str>) -> NewCall {
    NewCall {
        id: id(),
        tenant,
        principal: "user:x".into(),
        request_id: "req_1".into(),
        operation: "chat",
        model_ref: "tier:fast".into(),
        decision: "allowed",
        reserved_tokens: 100,
        reserved_cost: 7,
        idempotency: key.map(|key| (key.to_owned(), vec![1, 2])),
        trace: "t".into(),
        at: NOW,
    }
}

both_dbs!(a_call_is_closed_once_and_keeps_what_it_cost, |db| async move {
    let store = db.open().await;
    let mut tx = store.begin().await.unwrap();
    let one = call(id(), None);
    assert!(ledger::open(&mut tx, &one).await.unwrap());
    let ended = Ended { model: Some("echo".into()), input_tokens: 3, output_tokens: 4, cost: Some(9), fallback: true, ..Ended::default() };
    assert!(ledger::close(&mut tx, one.id, &ended, at(1)).await.unwrap());
    let other = Ended { input_tokens: 1000, ..Ended::default() };
    assert!(!ledger::close(&mut tx, one.id, &other, at(2)).await.unwrap());
    tx.commit().await.unwrap();
    let sum = "SELECT CAST(SUM(input_tokens + output_tokens + cost + fallback) AS BIGINT) FROM model_calls WHERE state = 'done'";
    assert_eq!(db.number(sum).await, 17);
});

both_dbs!(a_key_is_used_once_until_its_call_fails_or_its_time_is_over, |db| async move {
    let store = db.open().await;
    let tenant = id();
    let mut tx = store.begin().await.unwrap();
    let first = call(tenant, Some("k"));
    assert!(ledger::open(&mut tx, &first).await.unwrap());
    assert!(!ledger::open(&mut tx, &call(tenant, Some("k"))).await.unwrap());
    assert!(ledger::open(&mut tx, &call(id(), Some("k"))).await.unwrap(), "another tenant's key is another key");
    let going_on = Some(Earlier { digest: vec![1, 2], answer: None });
    assert_eq!(ledger::earlier(&mut tx, tenant, "user:x", "k").await.unwrap(), going_on);
    assert_eq!(ledger::earlier(&mut tx, tenant, "user:y", "k").await.unwrap(), None);
    let failed = Ended { error: Some("dependency_unavailable".into()), ..Ended::default() };
    assert!(ledger::close(&mut tx, first.id, &failed, at(1)).await.unwrap());
    assert_eq!(ledger::earlier(&mut tx, tenant, "user:x", "k").await.unwrap(), None);

    let second = call(tenant, Some("k"));
    assert!(ledger::open(&mut tx, &second).await.unwrap());
    let answered = Ended { answer: Some("{}".into()), ..Ended::default() };
    assert!(ledger::close(&mut tx, second.id, &answered, at(1)).await.unwrap());
    assert_eq!(ledger::earlier(&mut tx, tenant, "user:x", "k").await.unwrap().unwrap().answer.as_deref(), Some("{}"));
    assert_eq!(ledger::forget_keys(&mut tx, NOW).await.unwrap(), 0);
    assert_eq!(ledger::forget_keys(&mut tx, at(5)).await.unwrap(), 2);
    assert_eq!(ledger::earlier(&mut tx, tenant, "user:x", "k").await.unwrap(), None);
});

both_dbs!(calls_of_a_dead_process_are_closed_at_the_next_start, |db| async move {
    let store = db.open().await;
    let mut tx = store.begin().await.unwrap();
    let one = call(id(), Some("k"));
    ledger::open(&mut tx, &one).await.unwrap();
    assert_eq!(ledger::interrupt(&mut tx, NOW, at(1)).await.unwrap(), 0, "it may still go on");
    assert_eq!(ledger::interrupt(&mut tx, at(1), at(1)).await.unwrap(), 1);
    assert!(!ledger::close(&mut tx, one.id, &Ended::default(), at(2)).await.unwrap());
});

both_dbs!(responses_belong_to_their_principal_and_the_oldest_go_first, |db| async move {
    let store = db.open().await;
    let (tenant, other) = (id(), id());
    let response = |number: i64| ResponseRow {
        id: format!("resp_{number}"),
        tenant,
        principal: "user:x".into(),
        previous: (number > 0).then(|| format!("resp_{}", number - 1)),
        conversation: Some(other),
        turn: "[]".into(),
        body: "{}".into(),
        created_at: at(number),
    };
    let mut tx = store.begin().await.unwrap();
    for number in 0..=responses::MOST {
        responses::insert(&mut tx, &response(number)).await.unwrap();
    }
    assert_eq!(responses::get(&mut tx, tenant, "user:x", "resp_0").await.unwrap(), None);
    assert_eq!(responses::get(&mut tx, tenant, "user:x", "resp_1").await.unwrap(), Some(response(1)));
    assert_eq!(responses::get(&mut tx, other, "user:x", "resp_1").await.unwrap(), None);
    assert_eq!(responses::get(&mut tx, tenant, "user:y", "resp_1").await.unwrap(), None);
    assert!(!responses::delete(&mut tx, tenant, "user:y", "resp_1").await.unwrap());
    assert!(responses::delete(&mut tx, tenant, "user:x", "resp_1").await.unwrap());
    assert_eq!(responses::purge(&mut tx, at(5)).await.unwrap(), 3);
});
