//! The code holds what `spec/vectors` says: request tokens, trust documents, receipts, event streams.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aiox_federation::{
    envelope,
    follow::Follow,
    roster::Peer,
    tls::PeerIdentity,
    token::{Judge, Operation},
    trust::{self, TrustError},
};
use aiox_model::{EnvelopeId, RunId, Ts, federation::NodeId, run::RunEvent};
use axum::{Router, body::Body, extract::Query, response::IntoResponse, routing::get};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    doubles::{MemoryGuard, MemoryRuns, TestIds},
    hub::{Hub, two},
};

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn list<'a>(vectors: &'a Value, name: &str) -> &'a Vec<Value> {
    vectors[name].as_array().unwrap()
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap()
}

#[tokio::test]
async fn published_request_tokens_are_judged_as_they_say() {
    let vectors = read(include_str!("../../../spec/vectors/tokens.json"));
    let mut record = Hub::prepare("hub-a.example").await.record();
    record.document["token_keys"] = vectors["token_keys"].clone();
    let peer = Peer::new(record).unwrap();
    let local: NodeId = text(&vectors, "receiver").parse().unwrap();
    let connection =
        PeerIdentity { node: text(&vectors, "sender").parse().unwrap(), thumbprint: text(&vectors, "certificate_thumbprint").to_owned() };
    let mut guards: BTreeMap<String, MemoryGuard> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in list(&vectors, "cases") {
        let name = case["after"].as_str().unwrap_or(text(case, "name"));
        let judge = Judge {
            local: &local,
            connection: &connection,
            peer: &peer,
            operation: Operation::Hello,
            now: Ts::from_seconds(vectors["now"].as_i64().unwrap()),
            skew: vectors["skew"].as_i64().unwrap(),
            guard: guards.entry(name.to_owned()).or_default(),
        };
        let judged = judge.verify(case["authorization"].as_str()).await;
        if judged.is_ok() != case["taken"].as_bool().unwrap() {
            wrong.push(format!("{}: {judged:?}", case["name"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(list(&vectors, "cases").iter().filter(|case| case["taken"] == true).count() >= 5);
    assert!(list(&vectors, "cases").len() > 50);
}

#[test]
fn published_trust_documents_are_taken_or_refused_as_they_say() {
    let vectors = read(include_str!("../../../spec/vectors/trust.json"));
    let now = Ts::from_seconds(vectors["now"].as_i64().unwrap());
    for case in list(&vectors, "documents") {
        let bytes = case["document"].to_string();
        let read = trust::read(bytes.as_bytes(), text(&vectors, "domain"), None, now);
        assert_eq!(read.is_ok(), case["taken"].as_bool().unwrap(), "{}: {read:?}", case["name"]);
        if let Ok(accepted) = read {
            assert_eq!(json!(trust::fingerprint(&accepted.raw).unwrap()), case["fingerprint"], "{}", case["name"]);
        }
    }
    let accepted = &list(&vectors, "documents")[0]["document"];
    for case in list(&vectors, "updates") {
        let outcome = match trust::update(case["document"].to_string().as_bytes(), accepted, now) {
            Ok(Some(_)) => "newer",
            Ok(None) => "same",
            Err(TrustError::Contradiction) => "contradiction",
            Err(_) => "refused",
        };
        assert_eq!(outcome, text(case, "outcome"), "{}", case["name"]);
    }
    assert!(list(&vectors, "documents").len() > 20);
}

#[tokio::test]
async fn published_receipts_hold_or_do_not_as_they_say() {
    let vectors = read(include_str!("../../../spec/vectors/trust.json"));
    let mut record = Hub::prepare("hub-a.example").await.record();
    record.document = list(&vectors, "documents")[0]["document"].clone();
    let peer = Peer::new(record).unwrap();
    let receipts = &vectors["receipts"];
    let id: EnvelopeId = text(receipts, "id").parse().unwrap();
    for case in list(receipts, "cases") {
        let receipt = serde_json::from_value(case["receipt"].clone()).unwrap();
        let holds = envelope::receipt_holds(&receipt, &peer, id, text(receipts, "digest"));
        assert_eq!(holds, case["holds"].as_bool().unwrap(), "{}", case["name"]);
    }
}

/// Event name, id and data of each message in a stream of a hub.
fn messages(stream: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for block in stream.split("\n\n") {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let Some(data) = field("data") {
            all.push(json!({ "event": field("event"), "id": field("id"), "data": read(data) }));
        }
    }
    all
}

#[tokio::test]
async fn a_published_run_is_sent_from_every_cursor_as_it_says() {
    let vectors = read(include_str!("../../../spec/vectors/streams.json"));
    let (a, b) = two().await;
    let run: RunId = text(&vectors["run"], "id").parse().unwrap();
    let events: Vec<RunEvent> = serde_json::from_value(vectors["run"]["events"].clone()).unwrap();
    b.feed.runs.lock().unwrap().insert(run, (a.node.clone(), events.clone()));
    let mut raw = a.raw(&b).await;
    for case in list(&vectors["run"], "resume") {
        let path = format!("/fed/v1/runs/{run}/events?after={}", case["after"]);
        let answer = raw.send("GET", &path, Some(&a.bearer(&b, "stream")), vec![]).await.unwrap();
        assert_eq!(json!(answer.status), case["status"], "{case}");
        let sent: Vec<Value> = messages(&answer.body).into_iter().filter(|message| message["event"] == "event").collect();
        let sequences: Vec<&Value> = sent.iter().map(|message| &message["data"]["sequence"]).collect();
        assert_eq!(json!(sequences), case["sequences"], "{case}");
        for message in &sent {
            let event = events.iter().find(|event| json!(event.sequence) == message["data"]["sequence"]).unwrap();
            assert_eq!((&message["data"], &message["id"]), (&json!(event), &json!(event.sequence.to_string())));
        }
    }
}

/// A peer whose event streams are what the vector says; it tells from where each was asked for. Later streams say nothing.
fn scripted(stream: String, asked: mpsc::UnboundedSender<u64>) -> Router {
    let fresh = Arc::new(AtomicBool::new(true));
    let answer = move |Query(query): Query<BTreeMap<String, String>>| async move {
        let first = asked.send(query["after"].parse().unwrap()).is_ok() && fresh.swap(false, Ordering::SeqCst);
        let body = futures::stream::iter(first.then_some(Ok::<_, std::convert::Infallible>(stream)));
        let more = futures::stream::once(async move {
            if !first {
                std::future::pending::<()>().await;
            }
        });
        let body = body.chain(more.filter_map(|()| async { None }));
        ([("content-type", "text/event-stream")], Body::from_stream(body)).into_response()
    };
    Router::new().route("/fed/v1/runs/{run}/events", get(answer))
}

#[tokio::test]
async fn a_follower_takes_of_published_transcripts_what_they_say() {
    let vectors = read(include_str!("../../../spec/vectors/streams.json"));
    let run: RunId = text(&vectors["run"], "id").parse().unwrap();
    let last = list(&vectors["run"], "events").len() as u64;
    for case in list(&vectors, "transcripts") {
        let (a, b) = (Hub::start("hub-a.example").await, Hub::prepare("hub-b.example").await);
        a.trusts(&b, |_| {});
        b.trusts(&a, |_| {});
        let (asked, mut requests) = mpsc::unbounded_channel();
        b.listen_with(scripted(text(case, "stream").to_owned(), asked));
        let runs = Arc::new(MemoryRuns::new(run, 0, last));
        let stop = CancellationToken::new();
        let follow = Follow { links: a.links.clone(), runs: runs.clone(), ids: Arc::new(TestIds) };
        let task = tokio::spawn(Arc::new(follow).run(stop.clone()));
        let mut next = async || timeout(Duration::from_secs(20), requests.recv()).await.unwrap().unwrap();
        assert_eq!(next().await, 0, "{}", case["name"]);
        let taken: Vec<u64> = serde_json::from_value(case["taken"].clone()).unwrap();
        if case["ends"] == true {
            let mut log = runs.log.subscribe();
            let ended = log.wait_for(|log| log.last().is_some_and(|event| event.sequence == last));
            timeout(Duration::from_secs(20), ended).await.unwrap().unwrap();
        } else {
            assert_eq!(next().await, taken.last().copied().unwrap_or_default(), "{}: asks again from what it has", case["name"]);
        }
        stop.cancel();
        task.await.unwrap();
        let found: Vec<u64> = runs.log.borrow().iter().map(|event| event.sequence).collect();
        assert_eq!(found, taken, "{}", case["name"]);
        let deltas: Vec<String> = runs.deltas.lock().unwrap().iter().map(|delta| delta.text.clone()).collect();
        assert_eq!(json!(deltas), case["deltas"], "{}", case["name"]);
    }
}
