//! Messages to agents: waiting, handed over, repeated, refused.

use aiox_core::quota::Limits;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::hub::{Answer, Hub, Setting};

async fn ready() -> (Hub, String, String) {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    (hub, token, id)
}

#[tokio::test]
async fn a_waiting_call_gets_the_answer_and_everything_can_be_read_afterwards() {
    let (hub, token, id) = ready().await;
    let _worker = hub.echo();
    for name in [id.clone(), aiox_model::AgentId(id.parse().unwrap()).to_string(), format!("agent-{id}@agents.hub-a.example")] {
        let answer = hub.post(&format!("/api/v1/agents/{name}/chat"), &token, json!({ "message": "héllo" })).await;
        let reply = &answer.body["data"];
        assert_eq!((answer.status, &reply["response"], &reply["model_used"]), (200, &json!("héllo"), &json!("echo")), "{name}");
        assert_eq!((&reply["tokens_used"], &reply["request_id"]), (&json!(7), &reply["run_id"]));
    }
    let executions = hub.get(&format!("/api/v1/agents/{id}/executions"), &token).await;
    assert_eq!((&executions.body["total_count"], &executions.body["data"][0]["status"]), (&json!(3), &json!("completed")));
    let history = hub.get(&format!("/api/v1/agents/{id}/history"), &token).await;
    let roles: Vec<&str> = history.body["data"].as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user", "assistant"]);
    let conversations = hub.get(&format!("/api/v1/agents/{id}/conversations"), &token).await;
    assert_eq!(
        (&conversations.body["total_count"], &conversations.body["data"][0]["principal"]),
        (&json!(1), &json!("alice@hub-a.example"))
    );
    assert_eq!(hub.get("/api/v1/conversations", &token).await.body, conversations.body, "there is no other agent");
    let path = format!("/api/v1/conversations/{}/messages", conversations.body["data"][0]["id"].as_str().unwrap());
    assert_eq!(hub.get(&path, &token).await.body["total_count"], 6);
    assert_eq!(hub.get("/api/v1/runs", &token).await.body["data"].as_array().unwrap().len(), 3);
    let quota = hub.get("/api/v1/governance/quota", &token).await;
    assert_eq!((&quota.body["data"]["requests_today"], &quota.body["data"]["tokens_used_today"]), (&json!(3), &json!(21)));

    let bob = hub.user("bob").await;
    assert_eq!(hub.get(&path, &bob).await.status, 404);
    let run = executions.body["data"][0]["id"].as_str().unwrap();
    for suffix in ["", "/events"] {
        assert_eq!(hub.get(&format!("/api/v1/runs/{run}{suffix}"), &bob).await.status, 404);
    }
    assert_eq!(hub.post(&format!("/api/v1/runs/{run}/cancel"), &bob, json!({})).await.status, 404);
}

#[tokio::test]
async fn failed_runs_have_the_status_of_their_code() {
    let (hub, token, id) = ready().await;
    let _worker = hub.echo();
    for (code, status) in [("provider_error", 502), ("timeout", 504), ("quota_exceeded", 429), ("internal_error", 500)] {
        let answer = hub.post(&format!("/api/v1/agents/{id}/chat"), &token, json!({ "message": format!("fail {code}") })).await;
        assert_eq!((answer.status, answer.code()), (status, code));
        assert!(answer.body["run_id"].is_string());
    }
    for (body, status, text) in [
        (json!({ "message": "" }), 400, "message: must not be empty"),
        (json!({ "message": 5 }), 400, "message: must be a text"),
        (json!({ "message": "x", "priority": "urgent" }), 400, "priority: must be low, normal or high"),
        (json!({ "message": "x".repeat(70_000) }), 413, "message is larger than 65536 bytes"),
        (json!({ "message": "x", "conversation_id": id }), 404, "conversation not found"),
    ] {
        let answer = hub.post(&format!("/api/v1/agents/{id}/chat"), &token, body).await;
        assert_eq!((answer.status, answer.error()), (status, text));
    }
    let unknown = hub.post("/api/v1/agents/nobody-here/chat", &token, json!({ "message": "x" })).await;
    assert_eq!((unknown.status, unknown.error()), (404, "agent not found"));
}

#[tokio::test]
async fn a_slow_run_times_out_at_its_worker_and_the_call_says_so() {
    let (hub, token, id) = ready().await;
    let session = hub.connect("slow");
    let taken = tokio::spawn(async move {
        let task = session.next().await.unwrap();
        (session, task)
    });
    let answer = hub.post(&format!("/api/v1/agents/{id}/chat"), &token, json!({ "message": "x", "timeout_ms": 50 })).await;
    assert_eq!((answer.status, answer.code()), (504, "timeout"), "{:?}", answer.body);
    drop(taken.await.unwrap());
}

#[tokio::test]
async fn a_run_without_a_worker_for_it_ends_at_its_limit_and_says_so() {
    let (hub, token, id) = ready().await;
    let answer = hub.post(&format!("/api/v1/agents/{id}/chat"), &token, json!({ "message": "x", "timeout_ms": 50 })).await;
    assert_eq!((answer.status, answer.code()), (503, "no_capable_worker"), "{:?}", answer.body);
}

#[tokio::test]
async fn a_run_that_nobody_takes_goes_on_after_its_client_has_given_up() {
    let (hub, token, id) = ready().await;
    // It could serve the run, and is busy for longer than anybody waits.
    let _busy = hub.connect("busy");
    let answer = hub.post(&format!("/api/v1/agents/{id}/chat"), &token, json!({ "message": "x", "timeout_ms": 50 })).await;
    assert_eq!((answer.status, answer.code()), (504, "wait_timeout"));
    let path = format!("/api/v1/runs/{}", answer.body["run_id"].as_str().unwrap());
    assert_eq!(hub.get(&path, &token).await.body["data"]["status"], "queued");
    let canceled = hub.post(&format!("{path}/cancel"), &token, json!({})).await;
    assert_eq!(canceled.body["data"]["status"], "canceled");
    let again = hub.post(&format!("{path}/cancel"), &token, json!({})).await;
    assert_eq!((again.status, again.code()), (409, "invalid_state_transition"));
}

#[tokio::test]
async fn fifty_parallel_posts_with_one_key_are_one_run() {
    let (hub, token, id) = ready().await;
    let _worker = hub.echo();
    let post = async |body: Value| {
        let request = hub.call(Method::POST, &format!("/api/v1/agents/{id}/chat")).bearer_auth(&token).header("idempotency-key", "k1");
        Answer::of(request.json(&body).send().await.unwrap()).await
    };
    let answers = join_all((0..50).map(|_| post(json!({ "message": "once" })))).await;
    let runs: std::collections::HashSet<&str> = answers.iter().map(|answer| answer.body["data"]["run_id"].as_str().unwrap()).collect();
    assert_eq!(runs.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.headers.contains_key("idempotent-replayed")).count(), 49);
    let executions = hub.get(&format!("/api/v1/agents/{id}/executions"), &token).await;
    assert_eq!(executions.body["total_count"], 1);
    let other = post(json!({ "message": "something else" })).await;
    assert_eq!((other.status, other.code()), (409, "idempotency_conflict"));
}

#[tokio::test]
async fn a_detached_run_is_202_with_its_place() {
    let (hub, token, id) = ready().await;
    let answer = hub.post(&format!("/api/v1/agents/{id}/chat"), &token, json!({ "message": "later", "detach": true })).await;
    assert_eq!((answer.status, &answer.body["data"]["status"]), (202, &json!("queued")));
    let place = answer.headers["location"].to_str().unwrap();
    assert_eq!(hub.get(place, &token).await.body["data"]["id"], answer.body["data"]["id"]);
}

#[tokio::test]
async fn a_used_up_allowance_is_429_and_exact_under_parallel_senders() {
    let limits = Limits { tokens_day: u64::MAX >> 2, tokens_minute: u64::MAX >> 2, requests_day: 5 };
    let hub = Hub::with(Setting { limits, ..Setting::default() }).await;
    let token = hub.user("alice").await;
    let path = format!("/api/v1/agents/{}/chat", hub.agent(&token, "A").await);
    let answers = join_all((0..20).map(|_| hub.post(&path, &token, json!({ "message": "x", "detach": true })))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 5);
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!((refused.code(), refused.error()), ("quota_exceeded", "Quota exceeded: 5 requests per day"));
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait));
}
