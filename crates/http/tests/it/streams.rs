//! Server-sent events: order, resumption at every index, the end.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};

use crate::hub::Hub;

/// One server-sent event: name, id, data.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    name: String,
    id: Option<String>,
    data: Value,
}

fn parse(text: &str) -> Vec<Sent> {
    assert!(text.is_ascii(), "{text}");
    let mut all = Vec::new();
    for block in text.split("\n\n") {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        if let Some(data) = field("data") {
            assert_eq!(block.lines().filter(|line| line.starts_with("data")).count(), 1);
            all.push(Sent { name: field("event").unwrap(), id: field("id"), data: serde_json::from_str(&data).unwrap() });
        }
    }
    all
}

async fn events(hub: &Hub, run: &str, token: &str, query: &str, last: Option<u64>) -> (u16, Vec<Sent>) {
    let mut request = hub.call(reqwest::Method::GET, &format!("/api/v1/runs/{run}/events{query}")).bearer_auth(token);
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), parse(&response.text().await.unwrap()))
}

async fn finished() -> (Hub, String, String, Vec<Sent>) {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    let _worker = hub.echo();
    let answer = hub.post(&format!("/api/v1/agents/{id}/chat"), &token, json!({ "message": "ünï \u{2028} code 🎈" })).await;
    let run = answer.body["data"]["run_id"].as_str().unwrap().to_owned();
    let (status, all) = events(&hub, &run, &token, "", None).await;
    assert_eq!(status, 200);
    (hub, token, run, all)
}

#[tokio::test]
async fn a_stream_resumes_at_every_index_without_loss_or_repetition() {
    let (hub, token, run, all) = finished().await;
    let ids: Vec<String> = all.iter().map(|event| event.id.clone().unwrap()).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6"]);
    assert!(all.iter().all(|event| event.name == "run.event"));
    let kinds: Vec<&str> = all.iter().map(|event| event.data["type"].as_str().unwrap()).collect();
    let whole = ["run.created", "run.started", "model.requested", "model.completed", "step.completed", "run.completed"];
    assert_eq!(kinds, whole);
    let last = all.len() as u64;
    for cut in 0..last {
        let rest = &all[usize::try_from(cut).unwrap()..];
        assert_eq!(events(&hub, &run, &token, "", Some(cut)).await.1, rest, "{cut}");
        for name in ["after", "after_sequence", "from_sequence"] {
            assert_eq!(events(&hub, &run, &token, &format!("?{name}={cut}"), None).await.1, rest, "{name}={cut}");
        }
        // The header wins over the query that the client first came with.
        assert_eq!(events(&hub, &run, &token, "?after=0", Some(cut)).await.1, rest);
    }
    assert_eq!(events(&hub, &run, &token, "", Some(last)).await, (204, Vec::new()));
    assert_eq!(events(&hub, &run, &token, "", Some(last + 1)).await.0, 400);
    assert_eq!(events(&hub, &run, &token, "?after=soon", None).await.0, 400);
    let bob = hub.user("bob").await;
    assert_eq!(events(&hub, &run, &bob, "", None).await.0, 404);
}

/// Reads a live stream until `wanted` is in it.
async fn read_until(response: &mut Response, text: &mut String, wanted: &str) {
    let read = async {
        while !text.contains(wanted) {
            let chunk = response.chunk().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
}

#[tokio::test]
async fn two_live_readers_see_the_same_and_closing_one_does_not_touch_the_other() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    let session = hub.connect("w1");
    let started = hub.post(&format!("/api/v1/agents/{id}/chat"), &token, json!({ "message": "go", "detach": true })).await;
    let run = started.body["data"]["id"].as_str().unwrap();
    let open = async |query: &str| {
        hub.call(reqwest::Method::GET, &format!("/api/v1/runs/{run}/events{query}")).bearer_auth(&token).send().await.unwrap()
    };
    let (mut one, mut two) = (open("?deltas=true").await, open("").await);
    assert_eq!(one.headers()["content-type"], "text/event-stream; charset=utf-8");
    let (mut seen, mut other) = (String::new(), String::new());
    read_until(&mut one, &mut seen, "run.created").await;
    assert!(seen.starts_with("retry: 2000\n\n"), "{seen}");
    let task = session.next().await.unwrap();
    read_until(&mut one, &mut seen, "run.started").await;
    read_until(&mut two, &mut other, "run.started").await;
    session.delta(task.run, "süß".into()).await;
    read_until(&mut one, &mut seen, "run.delta").await;
    drop(one);
    // Who comes late gets the text so far, once; who resumes gets what follows.
    let (mut late, mut resumed) = (open("?deltas=true").await, open("?deltas=true&after=2").await);
    let (mut of_late, mut of_resumed) = (String::new(), String::new());
    read_until(&mut late, &mut of_late, "run.delta").await;
    read_until(&mut resumed, &mut of_resumed, "model.requested").await;
    session.delta(task.run, "er".into()).await;
    read_until(&mut late, &mut of_late, r#""text":"er""#).await;
    read_until(&mut resumed, &mut of_resumed, "run.delta").await;
    let outcome = aiox_app::TaskOutcome { text: "süß".into(), model_used: "echo".into(), ..aiox_app::TaskOutcome::default() };
    session.complete(task.run, outcome).await.unwrap();
    read_until(&mut two, &mut other, "run.completed").await;
    assert!(two.chunk().await.unwrap().is_none());
    assert!(!other.contains("run.delta"));
    let delta = parse(&seen).into_iter().find(|event| event.name == "run.delta").unwrap();
    assert_eq!((delta.id, &delta.data["text"], &delta.data["offset"]), (None, &json!("süß"), &json!(0)));
    let places = |seen: &str| -> Vec<Value> {
        let deltas = parse(seen).into_iter().filter(|event| event.name == "run.delta");
        deltas.map(|event| json!([event.data["offset"], event.data["text"]])).collect()
    };
    assert_eq!(places(&of_late), [json!([0, "süß"]), json!([5, "er"])]);
    assert_eq!(places(&of_resumed), [json!([5, "er"])]);
    let ids: Vec<Option<String>> = parse(&other).into_iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=6).map(|sequence| Some(sequence.to_string())).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_streamed_chat_joins_to_its_answer() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    let _worker = hub.echo();
    let path = format!("/api/v1/agents/{id}/chat");
    let stream = async |message: &str| {
        let request = hub.call(reqwest::Method::POST, &path).bearer_auth(&token).json(&json!({ "message": message, "stream": true }));
        parse(&request.send().await.unwrap().text().await.unwrap())
    };
    let all = stream("one two three").await;
    assert_eq!(all.first().unwrap().name, "accepted");
    let done = all.last().unwrap();
    assert_eq!((done.name.as_str(), &done.data["response"]), ("done", &json!("one two three")));
    let joined: String = all.iter().filter(|event| event.name == "run.delta").map(|event| event.data["text"].as_str().unwrap()).collect();
    assert!(joined.is_empty() || "one two three".ends_with(&joined), "{joined}");
    let failed = stream("fail provider_error").await;
    let error = failed.last().unwrap();
    assert_eq!((error.name.as_str(), &error.data["code"]), ("error", &json!("provider_error")));
    assert_eq!(error.data["run_id"], failed[0].data["run_id"]);
}
