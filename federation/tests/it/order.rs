//! The order of what comes in, and what a hello tells of it (D4, D10).

use std::{sync::atomic::Ordering, time::Duration};

use aiox_federation::order::{GIVE_UP_SECONDS, MAX_MARKS};
use aiox_model::{
    EnvelopeId, RunId,
    federation::{RunCancel, envelope_type},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::hub::{Hub, Raw, two};

/// An envelope for the writer of `to`, at a place of a conversation.
fn numbered(from: &Hub, to: &Hub, conv: &str, seq: u64) -> Value {
    let (mut header, payload) = from.run_create(to, conv, "writer");
    header.seq = seq;
    from.sealed(header, payload)
}

fn cancel(from: &Hub, to: &Hub, conv: &str, seq: u64) -> Value {
    let (mut header, _) = from.run_create(to, conv, "writer");
    header.seq = seq;
    header.kind = envelope_type::RUN_CANCEL.to_owned();
    let cancel = RunCancel { run_id: RunId(Uuid::now_v7()), reason: None };
    from.sealed(header, serde_json::to_string(&cancel).unwrap())
}

fn id(envelope: &Value) -> EnvelopeId {
    envelope["id"].as_str().unwrap().parse().unwrap()
}

/// What had an effect at `hub`, in order.
fn effects(hub: &Hub) -> Vec<EnvelopeId> {
    hub.inbox.effects.lock().unwrap().iter().map(|incoming| incoming.envelope.header.id).collect()
}

async fn verdicts(raw: &mut Raw, from: &Hub, to: &Hub, envelopes: &[Value]) -> Vec<String> {
    let judged = raw.deliver(from, to, envelopes).await;
    judged.into_iter().map(|one| one["verdict"].as_str().unwrap().to_owned()).collect()
}

async fn marks(raw: &mut Raw, from: &Hub, to: &Hub) -> Value {
    let hello = json!({ "node": from.node, "time": "2026-01-01T00:00:00Z", "profiles": ["aiox-federation/1"] });
    let bearer = from.bearer(to, "hello");
    let answer = raw.send("POST", "/fed/v1/hello", Some(&bearer), hello.to_string().into_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["marks"].clone()
}

#[tokio::test]
async fn what_skips_a_number_waits_and_is_taken_in_order() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let [one, two, three, four] = [1, 2, 3, 4].map(|seq| numbered(&a, &b, "c1", seq));
    assert_eq!(verdicts(&mut raw, &a, &b, &[three.clone(), four.clone()]).await, ["held", "held"]);
    assert_eq!(verdicts(&mut raw, &a, &b, std::slice::from_ref(&one)).await, ["accepted"]);
    assert_eq!(effects(&b), [id(&one)], "the second is missing still");
    assert_eq!(marks(&mut raw, &a, &b).await, json!({ "c1": 1 }));
    assert_eq!(verdicts(&mut raw, &a, &b, std::slice::from_ref(&two)).await, ["accepted"]);
    assert_eq!(effects(&b), [&one, &two, &three, &four].map(id));
    assert_eq!(marks(&mut raw, &a, &b).await, json!({ "c1": 4 }));
    // Their sender has no receipts of those that waited: it sends them again, and gets them.
    let again = raw.deliver(&a, &b, &[three, four]).await;
    assert!(again.iter().all(|one| one["verdict"] == "duplicate" && one["receipt"].is_object()), "{again:?}");
    assert_eq!(effects(&b).len(), 4, "nothing happened twice");
}

#[tokio::test]
async fn one_batch_in_disorder_is_taken_in_order() {
    let (a, b) = two().await;
    let batch = [3, 1, 2].map(|seq| numbered(&a, &b, "c1", seq));
    assert_eq!(verdicts(&mut a.raw(&b).await, &a, &b, &batch).await, ["held", "accepted", "accepted"]);
    assert_eq!(effects(&b), [&batch[1], &batch[2], &batch[0]].map(id));
}

#[tokio::test]
async fn a_missing_envelope_is_given_up_after_a_while_and_that_is_recorded() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let [three, four] = [3, 4].map(|seq| numbered(&a, &b, "c1", seq));
    assert_eq!(verdicts(&mut raw, &a, &b, &[three.clone(), four.clone()]).await, ["held", "held"]);
    b.clock.0.store(GIVE_UP_SECONDS - 1, Ordering::SeqCst);
    assert_eq!(verdicts(&mut raw, &a, &b, &[four.clone(), three.clone()]).await, ["held", "held"], "not yet");
    b.clock.0.store(GIVE_UP_SECONDS, Ordering::SeqCst);
    assert_eq!(verdicts(&mut raw, &a, &b, std::slice::from_ref(&four)).await, ["held"], "the third comes first");
    assert_eq!(verdicts(&mut raw, &a, &b, std::slice::from_ref(&three)).await, ["accepted"]);
    assert_eq!(effects(&b), [id(&three), id(&four)]);
    let recorded = b.audit.0.lock().unwrap().clone();
    let gaps: Vec<_> = recorded.iter().filter(|(action, _)| action == "federation.gap").collect();
    assert_eq!(gaps.len(), 1);
    assert!(gaps[0].1.contains("1 to 2"), "{gaps:?}");
    // What was given up may come all the same.
    assert_eq!(verdicts(&mut raw, &a, &b, &[numbered(&a, &b, "c1", 2)]).await, ["accepted"]);
}

#[tokio::test]
async fn what_was_refused_for_good_is_not_waited_for() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let (mut header, payload) = a.run_create(&b, "c1", "nobody");
    header.seq = 1;
    let refused = a.sealed(header, payload);
    assert_eq!(verdicts(&mut raw, &a, &b, &[refused, numbered(&a, &b, "c1", 2)]).await, ["refused", "accepted"]);
    // The number of an envelope for another hub says nothing here.
    let (mut header, payload) = a.run_create(&b, "c2", "writer");
    header.dest.node = a.node.clone();
    let astray = a.sealed(header, payload);
    assert_eq!(verdicts(&mut raw, &a, &b, &[astray, numbered(&a, &b, "c2", 2)]).await, ["refused", "held"]);
}

#[tokio::test]
async fn a_flood_of_early_envelopes_is_bounded_and_loses_nothing() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let early: Vec<Value> = (2..1102).map(|seq| numbered(&a, &b, "c1", seq)).collect();
    let mut judged = Vec::new();
    for batch in early.chunks(100) {
        judged.extend(verdicts(&mut raw, &a, &b, batch).await);
    }
    assert!(judged[..1000].iter().all(|verdict| verdict == "held"), "{judged:?}");
    assert!(judged[1000..].iter().all(|verdict| verdict == "retry"), "{judged:?}");
    // Another conversation has no place either, until there is one; what comes in its turn has.
    assert_eq!(verdicts(&mut raw, &a, &b, &[numbered(&a, &b, "c2", 2)]).await, ["retry"]);
    assert_eq!(verdicts(&mut raw, &a, &b, &[numbered(&a, &b, "c3", 1)]).await, ["accepted"]);
    assert_eq!(verdicts(&mut raw, &a, &b, &[numbered(&a, &b, "c1", 1)]).await, ["accepted"]);
    assert_eq!(verdicts(&mut raw, &a, &b, &early[1000..]).await, vec!["accepted"; 100]);
    assert_eq!(effects(&b).len(), 1102);
    assert_eq!(effects(&b)[2..], early.iter().map(id).collect::<Vec<_>>());

    // Few that are large have a bound too.
    let large = |seq| {
        let (mut header, _) = a.run_create(&b, "c4", "writer");
        header.seq = seq;
        a.sealed(header, "x".repeat(200_000))
    };
    let mut judged = Vec::new();
    for seq in 2..50 {
        judged.extend(verdicts(&mut raw, &a, &b, &[large(seq)]).await);
    }
    assert_eq!(judged.iter().filter(|verdict| *verdict == "held").count(), 41, "8 MiB");
    assert_eq!(judged.last().unwrap(), "retry");
}

#[tokio::test]
async fn a_peer_is_told_of_its_own_conversations_and_moves_no_other() {
    let (a, b) = two().await;
    let c = Hub::start("hub-c.example").await;
    b.trusts(&c, |_| {});
    c.trusts(&b, |_| {});
    let (mut of_a, mut of_c) = (a.raw(&b).await, c.raw(&b).await);
    let early = numbered(&a, &b, "c1", 2);
    assert_eq!(verdicts(&mut of_a, &a, &b, std::slice::from_ref(&early)).await, ["held"]);
    // The conversation of the same name at another hub is another one.
    assert_eq!(verdicts(&mut of_c, &c, &b, &[numbered(&c, &b, "c1", 1)]).await, ["accepted"]);
    assert!(!effects(&b).contains(&id(&early)));
    assert_eq!(marks(&mut of_c, &c, &b).await, json!({ "c1": 1 }));
    assert_eq!(marks(&mut of_a, &a, &b).await, json!({ "c1": 0 }), "what is waited for is told, though nothing of it is here");
}

#[tokio::test]
async fn marks_are_bounded() {
    let (a, b) = two().await;
    for index in 0..MAX_MARKS + 10 {
        b.inbox.marks.lock().unwrap().insert((a.node.clone(), format!("c{index:05}")), 7);
    }
    let mut raw = a.raw(&b).await;
    assert_eq!(verdicts(&mut raw, &a, &b, &[numbered(&a, &b, "z", 2)]).await, ["held"]);
    let marks = marks(&mut raw, &a, &b).await;
    assert_eq!(marks.as_object().unwrap().len(), MAX_MARKS);
    assert_eq!(marks["z"], 0, "what is waited for comes first");
}

#[tokio::test]
async fn a_cancel_whose_turn_has_not_come_has_its_effect() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let early = cancel(&a, &b, "c1", 2);
    assert_eq!(verdicts(&mut raw, &a, &b, std::slice::from_ref(&early)).await, ["held"]);
    assert_eq!(*b.inbox.ahead.lock().unwrap(), [id(&early)]);
    // Not one that the peer may not send.
    b.trusts(&a, |record| record.operations.cancel = false);
    let mut raw = a.raw(&b).await;
    assert_eq!(verdicts(&mut raw, &a, &b, &[cancel(&a, &b, "c2", 2)]).await, ["held"]);
    assert_eq!(b.inbox.ahead.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn marks_of_a_hello_reach_the_outbox() {
    let (a, b) = two().await;
    let hello = json!({ "node": a.node, "time": "2026-01-01T00:00:00Z", "profiles": ["aiox-federation/1"], "marks": { "c1": 3 } });
    let answer = a.raw(&b).await.send("POST", "/fed/v1/hello", Some(&a.bearer(&b, "hello")), hello.to_string().into_bytes()).await.unwrap();
    assert_eq!(answer.status, 200);
    let told = b.outbox.refills.subscribe().wait_for(|told| !told.is_empty()).await.unwrap().clone();
    assert_eq!(json!(told), json!([{ "c1": 3 }]));
    // Looking is work: nobody makes us do it all the time. Without marks a hello costs nothing.
    b.limiter.1.store(true, Ordering::SeqCst);
    let mut raw = a.raw(&b).await;
    let refused = raw.send("POST", "/fed/v1/hello", Some(&a.bearer(&b, "hello")), hello.to_string().into_bytes()).await.unwrap();
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(marks(&mut raw, &a, &b).await, Value::Null);
    assert_eq!(b.outbox.refills.borrow().iter().filter(|marks| !marks.is_empty()).count(), 1);
}

#[tokio::test]
async fn what_is_missing_is_asked_for() {
    let (a, b) = two().await;
    let sending = crate::delivery::sending(&b, b.outbox.clone());
    let mut told = a.outbox.refills.subscribe();
    tokio::time::timeout(Duration::from_secs(10), told.wait_for(|told| !told.is_empty())).await.unwrap().unwrap();
    assert_eq!(verdicts(&mut a.raw(&b).await, &a, &b, &[numbered(&a, &b, "c1", 5)]).await, ["held"]);
    let asked = told.wait_for(|told| told.iter().any(|marks| marks.get("c1") == Some(&0)));
    tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap().unwrap();
    drop(sending);
}
