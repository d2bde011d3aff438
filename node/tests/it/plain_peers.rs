//! Plain AgentOS nodes as peers: a hub of the mode demo, which believes headers, plays one.

use std::{collections::BTreeSet, path::Path, time::Duration};

use aiox_worker::Credential;
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::process::{KEY, Place, within};

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(120)).build().unwrap()
}

fn ask(place: &Place, principal: &str, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
    let request = client().request(method, format!("http://127.0.0.1:{}{path}", place.http));
    request.header("X-Tenant-Id", "tnt_demo").header("X-Principal-Id", principal)
}

async fn forward(place: &Place, agent: &str, run: Value) -> (u16, Value) {
    let body = json!({ "forward": { "agent_id": agent, "target_selector": { "stack_id": "stk_b" }, "run": run } });
    let request = ask(place, "usr_1", reqwest::Method::POST, "/v1/federation/runs:forward").json(&body);
    let response = within(request.send()).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn peer(place: &Place, command: &[&str], more: &[String]) -> (bool, String) {
    let words: Vec<&str> = ["peer"].into_iter().chain(command.iter().copied()).collect();
    let output = within(place.command(&words, more).output()).await.unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Lets B in at A under the name `stk_b`.
async fn let_in(a: &Place, b: &Place) {
    let (done, said) = peer(a, &["allow-insecure", "stk_b", "--url", &format!("http://127.0.0.1:{}", b.http)], &[]).await;
    assert!(done, "{said}");
}

/// Waits until A says this of B.
async fn is(a: &Place, status: &str) {
    let client = client();
    within(async {
        loop {
            let request = client.get(format!("http://127.0.0.1:{}/v1/federation/peers", a.http));
            let all = request.header("X-Tenant-Id", "tnt_demo").header("X-Principal-Id", "usr_1").send().await.unwrap();
            let all: Value = all.json().await.unwrap();
            if all["peers"].as_array().unwrap().iter().any(|peer| peer["stack_id"] == "stk_b" && peer["health"]["status"] == status) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn events(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

async fn read(place: &Place, principal: &str, path: &str) -> (u16, String) {
    within(async {
        let response = ask(place, principal, reqwest::Method::GET, path).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    })
    .await
}

fn demo() -> Vec<String> {
    vec!["hub.mode=demo".to_owned()]
}

/// Waits for the one audit record of an action.
async fn recorded(sink: &Path, action: &str) -> Value {
    within(async {
        loop {
            let text = std::fs::read_to_string(sink).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut found: Vec<Value> = lines.filter(|line| line["action"] == action).collect();
            assert!(found.len() <= 1, "{found:?}");
            if let Some(found) = found.pop() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_run_is_made_at_a_plain_node_and_its_events_are_those_of_the_node() {
    let (a, b) = (Place::new(), Place::new());
    let sink = a.file("audit.jsonl");
    let (at_a, at_b) = (a.serve_with(&[format!("audit.sink=file:{}", sink.display())]).await, b.serve_with(&demo()).await);
    let_in(&a, &b).await;
    is(&a, "healthy").await;
    let run = json!({ "input": "hello", "run_options": { "dry_run": true }, "idempotency_key": "k1" });
    let (status, made) = forward(&a, "agt_demo", run.clone()).await;
    assert_eq!(status, 200, "{made}");
    let (id, url) = (made["forwarded"]["remote_run_id"].as_str().unwrap(), made["forwarded"]["remote_events_url"].as_str().unwrap());
    assert_eq!(made["forwarded"]["remote_stack_id"], "stk_b");
    let (_, again) = forward(&a, "agt_demo", run).await;
    assert_eq!(again["forwarded"]["remote_run_id"], id, "the caller's key counts at the node");
    let (status, here) = read(&a, "usr_1", url).await;
    // The node is told the principal as this hub names it in its records.
    let record = recorded(&sink, "federation.runs.forward").await;
    assert_eq!((&record["resource"], &record["outcome"]), (&json!(format!("run/{id}")), &json!("allowed")));
    let (_, there) = read(&b, record["principal_id"].as_str().unwrap(), &format!("/v1/runs/{id}/events")).await;
    assert_eq!(status, 200, "{here}");
    assert_eq!(events(&here), events(&there), "ids, sequences, times and payloads are the node's");
    assert_eq!(events(&here).last().unwrap()["event"]["type"], "agentos.run.completed");
    let (_, rest) = read(&a, "usr_1", &format!("{url}?after_sequence=1")).await;
    assert_eq!(events(&rest), events(&here)[1..]);
    let last = events(&here).len();
    assert_eq!(read(&a, "usr_1", &format!("{url}?after_sequence={last}")).await.0, 204);
    for (principal, path) in [("usr_2", url.to_owned()), ("usr_1", "/v1/federation/runs/run_none/events".to_owned())] {
        assert_eq!(read(&a, principal, &path).await.0, 404, "{principal} {path}");
    }
    // What the node refuses comes back as it is, and the rest in our words.
    assert_eq!(forward(&a, "agt_none", json!({ "input": "hello" })).await.0, 404);
    let other = json!({ "input": "another", "run_options": { "dry_run": true }, "idempotency_key": "k1" });
    let (status, said) = forward(&a, "agt_demo", other).await;
    assert_eq!((status, &said["error"]["code"]), (409, &json!("conflict")));
    drop(at_b);
    is(&a, "unreachable").await;
    let (status, said) = forward(&a, "agt_demo", json!({ "input": "hello" })).await;
    assert_eq!((status, &said["error"]["code"], &said["error"]["retryable"]), (503, &json!("dependency_unavailable"), &json!(true)));
    let (done, said) = peer(&a, &["remove-insecure", "stk_b"], &[]).await;
    assert!(done, "{said}");
    assert_eq!(forward(&a, "agt_demo", json!({ "input": "hello" })).await.0, 404);
    at_a.terminate();
    assert!(at_a.ended().await.0.success());
}

#[tokio::test]
async fn a_proxied_stream_goes_on_after_the_node_was_killed_without_loss_or_repetition() {
    let (a, b) = (Place::new(), Place::new());
    let (_at_a, at_b) = (a.serve().await, b.serve_with(&demo()).await);
    let_in(&a, &b).await;
    let (status, made) = forward(&a, "agt_sample_echo_v1", json!({ "input": "hello again" })).await;
    assert_eq!(status, 200, "{made}");
    let url = made["forwarded"]["remote_events_url"].as_str().unwrap();
    let response = within(ask(&a, "usr_1", reqwest::Method::GET, url).send()).await.unwrap();
    let mut body = response.bytes_stream();
    let mut text = String::new();
    while !text.contains("agentos.run.created") {
        text.push_str(std::str::from_utf8(&within(body.next()).await.unwrap().unwrap()).unwrap());
    }
    at_b.kill();
    let _ = at_b.ended().await;
    let _at_b = b.serve_with(&demo()).await;
    let _worker = b.worker(Credential::ApiKey(KEY.into()), None);
    within(async {
        while let Some(piece) = body.next().await {
            text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
    })
    .await;
    let all = events(&text);
    let sequences: Vec<u64> = all.iter().map(|event| event["event"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=all.len() as u64).collect::<Vec<_>>(), "{text}");
    let ids: BTreeSet<&str> = all.iter().map(|event| event["event"]["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len());
    assert_eq!(all.last().unwrap()["event"]["type"], "agentos.run.completed");
    assert!(text.contains("hello again"));
}

#[tokio::test]
async fn production_lets_no_plain_node_in() {
    let place = Place::new();
    let (done, said) = peer(&place, &["allow-insecure", "stk_b", "--url", "http://169.254.169.254/"], &[]).await;
    assert!(!done && said.contains("--url"), "{said}");
    let (done, said) = peer(&place, &["allow-insecure", "stk_b"], &[]).await;
    assert!(!done && said.contains("not found"), "{said}");
    let (done, said) = peer(&place, &["allow-insecure", "stk_b", "--url", "http://127.0.0.1:9"], &[]).await;
    assert!(done, "{said}");
    let secret = |letter: &str| letter.repeat(64);
    let prod: Vec<String> = [
        "hub.mode=prod".to_owned(),
        "http.behind_tls_proxy=true".to_owned(),
        "grpc.tls_cert=absent.pem".to_owned(),
        "grpc.tls_key=absent.key".to_owned(),
        format!("auth.access_secret={}", secret("a")),
        format!("auth.refresh_secret={}", secret("b")),
        format!("auth.encryption_key={}", secret("c")),
    ]
    .to_vec();
    let output = within(place.command(&["serve"], &prod).output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("stk_b") && said.contains("mutual TLS"), "{said}");
    let (done, said) = peer(&place, &["allow-insecure", "stk_c", "--url", "http://127.0.0.1:9"], &prod).await;
    assert!(!done && said.contains("dev and demo"), "{said}");
    let (done, said) = peer(&place, &["remove-insecure", "stk_b"], &prod).await;
    assert!(done, "{said}");
}
