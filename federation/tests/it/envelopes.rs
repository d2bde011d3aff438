//! Envelopes at the door: proof, deduplication, the peer record, items judged one by one.

use aiox_core::ports::Clock as _;
use aiox_crypto::system::SystemClock;
use std::sync::atomic::Ordering;

use aiox_federation::{
    envelope::{self, EnvelopeError},
    roster::Peer,
};
use aiox_model::{
    Ts,
    federation::{NodeId, PathEntry, envelope_type},
};
use serde_json::{Value, json};

use crate::hub::{Hub, tenants, two};

async fn one(a: &Hub, b: &Hub, envelope: Value) -> (String, String) {
    let verdicts = a.raw(b).await.deliver(a, b, &[envelope]).await;
    let text = |name: &str| verdicts[0][name].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("code"))
}

fn effects(b: &Hub) -> usize {
    b.inbox.effects.lock().unwrap().len()
}

#[tokio::test]
async fn an_accepted_envelope_has_one_effect_and_the_same_answer_for_ever() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let envelope = a.envelope(&b, "c1");
    let first = raw.deliver(&a, &b, std::slice::from_ref(&envelope)).await.remove(0);
    assert_eq!(first["verdict"], "accepted");
    assert_eq!(first["id"], envelope["id"]);
    assert_eq!(first["receipt"]["node"], json!(b.node));
    b.clock.0.store(100_000, Ordering::SeqCst);
    // The token needs the receiver's clock; the envelope is long past its end and was taken all the same.
    let mut claims = a.claims(&b, "deliver");
    let now = claims["iat"].as_i64().unwrap() + 100_000;
    (claims["iat"], claims["exp"]) = (json!(now), json!(now + 60));
    let body = json!({ "envelopes": [envelope, envelope] }).to_string().into_bytes();
    let again = raw.send("POST", "/fed/v1/envelopes", Some(&a.sign(&claims)), body).await.unwrap().json();
    for verdict in again["verdicts"].as_array().unwrap() {
        assert_eq!(verdict["verdict"], "duplicate");
        assert_eq!((&verdict["receipt"]["at"], &verdict["receipt"]["digest"]), (&first["receipt"]["at"], &first["receipt"]["digest"]));
    }
    assert_eq!(effects(&b), 1);
    let taken = b.inbox.effects.lock().unwrap()[0].clone();
    assert_eq!((taken.tenant.as_str(), &taken.sender), ("*", &a.node));
    assert_eq!(taken.envelope.document, envelope, "kept as it was received");
}

#[tokio::test]
async fn the_same_id_with_another_digest_is_refused() {
    let (a, b) = two().await;
    let (header, payload) = a.run_create(&b, "c1", "writer");
    assert_eq!(one(&a, &b, a.sealed(header.clone(), payload.clone())).await.0, "accepted");
    let changed = a.sealed(header, payload.replace("hello", "hullo"));
    assert_eq!(one(&a, &b, changed).await, ("refused".to_owned(), "digest_changed".to_owned()));
    assert_eq!(effects(&b), 1);
}

#[tokio::test]
async fn one_poisoned_item_stops_no_other() {
    let (a, b) = two().await;
    let mut tampered = a.envelope(&b, "c2");
    tampered["seq"] = json!(7);
    let mut payload = a.envelope(&b, "c2");
    payload["payload"] = json!("{}");
    let mut unknown_member = a.envelope(&b, "c3");
    unknown_member["injected"] = json!(true);
    let envelopes = [a.envelope(&b, "c1"), json!("garbage"), tampered, a.envelope(&b, "c2"), payload, unknown_member, a.envelope(&b, "c1")];
    let verdicts = a.raw(&b).await.deliver(&a, &b, &envelopes).await;
    let seen: Vec<_> = verdicts.iter().map(|v| (v["verdict"].as_str().unwrap(), v["code"].as_str().unwrap_or_default())).collect();
    let expected = [
        ("accepted", ""),
        ("refused", "malformed_envelope"),
        ("refused", "bad_signature"),
        ("accepted", ""),
        ("refused", "payload_mismatch"),
        ("refused", "bad_signature"),
        ("accepted", ""),
    ];
    assert_eq!(seen, expected);
    assert_eq!(effects(&b), 3);
}

#[tokio::test]
async fn envelopes_that_prove_the_wrong_thing_are_refused() {
    let (a, b) = two().await;
    let c = Hub::start("hub-c.example").await;
    b.trusts(&c, |_| {});
    let now = SystemClock.now();
    let entry = |node: &NodeId, agent: &str| PathEntry { node: node.clone(), agent: agent.to_owned(), digest: "x".to_owned() };
    let writer = "writer@agents.hub-b.example";
    type Change<'a> = Box<dyn Fn(&mut aiox_model::federation::EnvelopeHeader) + 'a>;
    let cases: Vec<(&str, Change<'_>)> = vec![
        ("wrong_origin", Box::new(|h| h.origin.node = c.node.clone())),
        ("wrong_origin", Box::new(|h| h.auth.sub = "alice@hub-c.example".to_owned())),
        ("wrong_origin", Box::new(|h| h.auth.sub = "alice@evil-hub-a.example".to_owned())),
        ("wrong_origin", Box::new(|h| h.auth.sub = "alice@hub-a.example/phone".to_owned())),
        ("wrong_origin", Box::new(|h| h.auth.sub = "spiffe://hub-a.example.evil/agent/x".to_owned())),
        ("wrong_destination", Box::new(|h| h.dest.node = c.node.clone())),
        ("expired", Box::new(|h| h.expires = now)),
        ("expired", Box::new(|h| h.created = now.plus_seconds(300))),
        ("expired", Box::new(|h| (h.created, h.expires) = (now.plus_seconds(20), now.plus_seconds(10)))),
        ("loop_detected", Box::new(|h| h.hop = 1)),
        ("loop_detected", Box::new(|h| (h.hop, h.path) = (9, (0..9).map(|n| entry(&c.node, &format!("a{n}"))).collect()))),
        ("loop_detected", Box::new(|h| (h.hop, h.path) = (1, vec![entry(&b.node, writer)]))),
        ("insufficient_scope", Box::new(|h| h.auth.scope = "runs:cancel runs:create-nothing".to_owned())),
        ("unknown_type", Box::new(|h| h.kind = "run.teleport".to_owned())),
    ];
    for (code, change) in cases {
        let (mut header, payload) = a.run_create(&b, "c1", "writer");
        change(&mut header);
        let envelope = a.sealed(header, payload);
        assert_eq!(one(&a, &b, envelope.clone()).await, ("refused".to_owned(), code.to_owned()), "{envelope}");
    }
    // F12: hub C hands over an envelope that hub A signed.
    let stolen = a.envelope(&b, "c1");
    assert_eq!(one(&c, &b, stolen).await.1, "wrong_origin");
    assert_eq!(effects(&b), 0);
    let (mut delegated, payload) = a.run_create(&b, "c1", "writer");
    (delegated.hop, delegated.path) = (1, vec![entry(&c.node, "planner@agents.hub-c.example")]);
    assert_eq!(one(&a, &b, a.sealed(delegated, payload)).await.0, "accepted");
}

#[tokio::test]
async fn the_peer_record_decides_and_forbidden_looks_like_unknown() {
    let (a, b) = two().await;
    let try_agent = async |agent: &str| {
        let (header, payload) = a.run_create(&b, "c1", agent);
        one(&a, &b, a.sealed(header, payload)).await
    };
    let hidden = ("refused".to_owned(), "not_found".to_owned());
    assert_eq!(try_agent("nobody").await, hidden);
    assert_eq!(try_agent("secret").await, hidden, "an agent that the record does not list");
    b.trusts(&a, |record| record.agents = vec!["uuid-of-secret".to_owned()]);
    assert_eq!(try_agent("secret").await.0, "accepted", "listed under another of its names");
    assert_eq!(try_agent("writer").await, hidden);
    b.trusts(&a, |record| record.operations.send = false);
    assert_eq!(try_agent("writer").await, hidden);
    b.trusts(&a, |record| record.tenants.clear());
    assert_eq!(try_agent("writer").await, hidden, "no tenant is mapped");
    b.trusts(&a, |record| record.tenants = tenants(&[("default", "guests")]));
    assert_eq!(try_agent("writer").await.0, "accepted");
    assert_eq!(b.inbox.effects.lock().unwrap().last().unwrap().tenant, "guests");
    b.trusts(&a, |record| record.operations.cancel = false);
    let (mut header, payload) = a.run_create(&b, "c1", "writer");
    header.kind = envelope_type::RUN_CANCEL.to_owned();
    assert_eq!(one(&a, &b, a.sealed(header, payload)).await, hidden);
    b.trusts(&a, |record| record.quotas.max_envelope_bytes = 100);
    assert_eq!(try_agent("writer").await.1, "envelope_too_large");
}

#[tokio::test]
async fn what_follows_a_retry_in_its_conversation_must_come_again_too() {
    let (a, b) = two().await;
    b.inbox.retries.store(1, Ordering::SeqCst);
    let envelopes = [a.envelope(&b, "c1"), a.envelope(&b, "c1"), a.envelope(&b, "c1")];
    let verdicts = a.raw(&b).await.deliver(&a, &b, &envelopes).await;
    assert!(verdicts.iter().all(|verdict| verdict["verdict"] == "retry"), "{verdicts:?}");
    let verdicts = a.raw(&b).await.deliver(&a, &b, &envelopes).await;
    assert!(verdicts.iter().all(|verdict| verdict["verdict"] == "accepted"), "{verdicts:?}");
}

#[tokio::test]
async fn batches_are_bounded_and_unambiguous() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let mut status =
        async |body: Vec<u8>| raw.send("POST", "/fed/v1/envelopes", Some(&a.bearer(&b, "deliver")), body).await.unwrap().status;
    assert_eq!(status(json!({ "envelopes": vec![1; 101] }).to_string().into_bytes()).await, 413);
    assert_eq!(status(json!({ "envelopes": ["x".repeat(1024 * 1024)] }).to_string().into_bytes()).await, 413);
    assert_eq!(status(json!({ "envelopes": [] }).to_string().into_bytes()).await, 413);
    assert_eq!(status(br#"{"envelopes":[1],"envelopes":[2]}"#.to_vec()).await, 400);
    assert_eq!(status(b"[".to_vec()).await, 400);
    assert_eq!(status(vec![b'['; 100_000]).await, 400, "nesting without end");
}

#[tokio::test]
async fn reads_show_what_the_record_allows() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let mut get = async |path: &str, scope: &str| raw.send("GET", path, Some(&a.bearer(&b, scope)), vec![]).await.unwrap();
    let directory = get("/fed/v1/directory", "directory").await.json();
    assert_eq!(directory["agents"].as_array().unwrap().len(), 1);
    assert_eq!(directory["agents"][0]["name"], "writer");
    let history = |principal: &str, agent: &str| format!("/fed/v1/conversations?principal={principal}&agent={agent}@agents.hub-b.example");
    let own = get(&history("alice@hub-a.example", "writer"), "history").await;
    assert_eq!(own.json()["messages"][0]["content"], "alice@hub-a.example");
    let missing = get(&history("alice@hub-a.example", "nobody"), "history").await;
    let forbidden = get(&history("alice@hub-a.example", "secret"), "history").await;
    let foreign = get(&history("carol@hub-c.example", "writer"), "history").await;
    let run = "/fed/v1/runs/run_00000000000000000000000001/events";
    let unknown = get(run, "stream").await;
    b.trusts(&a, |record| (record.operations.directory, record.operations.stream) = (false, false));
    let off = get("/fed/v1/directory", "directory").await;
    let stream_off = get(run, "stream").await;
    for answer in [&missing, &forbidden, &foreign, &unknown, &off, &stream_off] {
        assert_eq!((answer.status, &answer.body), (404, &missing.body), "F23: one answer");
    }
}

/// Every place in a document: a path of member names and indexes.
fn places(value: &Value, path: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                path.push(name.clone());
                places(value, path, all);
                path.pop();
            }
        }
        _ => all.push(path.clone()),
    }
}

#[tokio::test]
async fn every_member_of_an_envelope_is_covered_by_its_proof() {
    let (a, b) = two().await;
    let peer = b.roster.peer("hub-a.example").unwrap();
    let (mut header, payload) = a.run_create(&b, "c1", "writer");
    header.idem = Some("key".to_owned());
    header.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    header.deadline = Some(header.expires);
    let envelope = a.sealed(header, payload);
    let prove = |document: Value| envelope::prove(document, &a.node, &peer);
    assert!(prove(envelope.clone()).is_ok());
    let mut all = Vec::new();
    places(&envelope, &mut Vec::new(), &mut all);
    assert!(all.len() > 15);
    for path in all {
        let pointer = format!("/{}", path.join("/"));
        let mut changed = envelope.clone();
        let value = changed.pointer_mut(&pointer).unwrap();
        *value = match &*value {
            Value::Number(number) => json!(number.as_u64().unwrap() + 1),
            Value::String(text) if text.parse::<Ts>().is_ok() => json!(text.replacen("20", "21", 1)),
            Value::String(text) => json!(format!("{text}x")),
            other => panic!("{pointer}: {other}"),
        };
        assert!(prove(changed).is_err(), "{pointer} was changed");
        let mut removed = envelope.clone();
        let parent = removed.pointer_mut(&pointer[..pointer.rfind('/').unwrap()]).unwrap();
        parent.as_object_mut().unwrap().remove(path.last().unwrap());
        assert!(prove(removed).is_err(), "{pointer} was removed");
    }
}

#[tokio::test]
async fn the_published_vectors_hold() {
    let vectors: Value = serde_json::from_str(include_str!("../../../spec/vectors/envelope.json")).unwrap();
    let mut record = Hub::prepare("hub-a.example").await.record();
    record.document["envelope_keys"] = json!([vectors["envelope_key"]]);
    let peer = Peer::new(record).unwrap();
    let sender: NodeId = vectors["sender"].as_str().unwrap().parse().unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let proven = envelope::prove(case["envelope"].clone(), &sender, &peer);
        match proven {
            Ok(proven) => {
                assert_eq!((json!(proven.digest), &proven.document), (case["digest"].clone(), &case["envelope"]), "{}", case["name"])
            }
            Err(error) => assert_eq!(json!(error.code()), case["code"], "{}", case["name"]),
        }
    }
}

#[tokio::test]
async fn a_clock_ahead_is_tolerated_as_far_as_the_setting_says() {
    let (a, b) = two().await;
    let (now, peer) = (SystemClock.now(), b.roster.peer("hub-a.example").unwrap());
    let (mut header, _) = a.run_create(&b, "c1", "writer");
    (header.created, header.expires) = (now.plus_seconds(100), now.plus_seconds(200));
    let admit = |skew| envelope::admit(&header, &peer, &b.node, skew, now);
    assert_eq!((admit(99), admit(100)), (Err(EnvelopeError::Expired), Ok(())));
}
