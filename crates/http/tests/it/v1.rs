//! `/v1`: errors, identity, runs, idempotency, events.

use aiox_http::{HttpOptions, V1Options};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::hub::{Answer, Hub, Setting};

/// A hub that believes headers, as in development.
async fn believing(strict_ingress: bool) -> Hub {
    let v1 = V1Options { strict_ingress, header_identity: true, open_ingest: true, ..V1Options::default() };
    Hub::with(Setting { options: HttpOptions { v1, ..Setting::default().options }, ..Setting::default() }).await
}

fn code(answer: &Answer) -> &str {
    answer.body["error"]["code"].as_str().unwrap_or_default()
}

fn run_id(answer: &Answer) -> String {
    answer.body["run"]["run_id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// The `data` lines of an event stream, and its frames' ids.
async fn events(hub: &Hub, path: &str, token: &str, last: Option<&str>) -> (u16, Vec<String>, String) {
    let mut request = hub.call(Method::GET, path).bearer_auth(token);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    if status == 200 {
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(response.headers()["cache-control"], "no-cache");
    }
    let text = response.text().await.unwrap();
    assert!(text.is_ascii());
    (status, text.lines().filter_map(|line| line.strip_prefix("data: ").map(str::to_owned)).collect(), text)
}

#[tokio::test]
async fn every_error_has_the_body_of_its_surface() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    for (method, path, token, status, wanted) in [
        (Method::GET, "/v1/nowhere", "", 404, "not_found"),
        (Method::GET, "/v1", "", 404, "not_found"),
        (Method::DELETE, "/v1/health", "", 405, "method_not_allowed"),
        (Method::GET, "/v1/agents", "", 401, "unauthorized"),
        (Method::GET, "/v1/agents", "garbage", 401, "unauthorized"),
        (Method::PATCH, "/v1/agents", token.as_str(), 405, "method_not_allowed"),
        (Method::GET, "/v1/agents/no one", token.as_str(), 404, "not_found"),
        (Method::GET, "/v1/runs/run_00000000000000000000000001", token.as_str(), 404, "not_found"),
        (Method::GET, "/v1/runs/x/events", token.as_str(), 404, "not_found"),
        (Method::POST, "/v1/runs/run_00000000000000000000000001:cancel", token.as_str(), 404, "not_found"),
    ] {
        let mut request = hub.call(method.clone(), path).header("x-correlation-id", "mine-1");
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!((answer.status, code(&answer)), (status, wanted), "{method} {path} {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!((&answer.body["correlation_id"], &answer.headers["x-correlation-id"]), (&json!("mine-1"), &"mine-1".parse().unwrap()));
        assert!(answer.headers["x-request-id"].to_str().unwrap().starts_with("req_"));
        assert!(answer.headers["traceparent"].to_str().unwrap().starts_with("00-"));
        assert!(answer.body["error"]["message"].is_string() && answer.body["error"]["retryable"] == false);
        assert_eq!(answer.body.as_object().unwrap().len(), 2, "the body is closed: {:?}", answer.body);
        assert_eq!(status == 405, answer.headers.contains_key("allow"), "{path}");
    }
    let openai = Answer::of(hub.call(Method::GET, "/openai/v1/nowhere").send().await.unwrap()).await;
    assert_eq!((openai.status, &openai.body["error"]["type"]), (404, &json!("invalid_request_error")));
    let agent = hub.agent(&token, "A").await;
    let path = format!("/v1/agents/{agent}/runs");
    let no_json = Answer::of(hub.call(Method::POST, &path).bearer_auth(&token).body("{").send().await.unwrap()).await;
    assert_eq!((no_json.status, code(&no_json)), (400, "invalid_json"));
    let large = json!({ "input": "x".repeat(2 * 1024 * 1024) });
    let large = hub.post(&path, &token, large).await;
    assert_eq!((large.status, code(&large)), (413, "invalid_request"));
    let long = hub.post(&path, &token, json!({ "input": "x".repeat(65_537) })).await;
    assert_eq!((long.status, code(&long)), (413, "invalid_request"));
    let wrong = hub.post(&path, &token, json!({ "input": { "text": 5 }, "run_options": { "timeout_ms": 0 } })).await;
    assert_eq!((wrong.status, code(&wrong)), (400, "invalid_request"));
    let paths: Vec<&Value> = wrong.body["error"]["details"]["issues"].as_array().unwrap().iter().map(|issue| &issue["path"]).collect();
    assert_eq!(paths, [&json!("/input/text"), &json!("/run_options/timeout_ms")]);
}

#[tokio::test]
async fn health_needs_nobody() {
    let hub = Hub::start().await;
    for (path, service) in [("/v1/health", "agent-orchestrator"), ("/v1/federation/health", "federation"), ("/healthz", "hub")] {
        let answer = Answer::of(hub.call(Method::GET, path).send().await.unwrap()).await;
        assert_eq!((answer.status, &answer.body["status"], &answer.body["service"]), (200, &json!("ok"), &json!(service)), "{path}");
        assert_eq!(answer.body.as_object().unwrap().len(), 3);
    }
    let ready = Answer::of(hub.call(Method::GET, "/readyz").send().await.unwrap()).await;
    assert_eq!((ready.status, &ready.body["dependencies"][0]["name"]), (200, &json!("database")));
}

#[tokio::test]
async fn a_run_is_made_read_and_ends_by_itself() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "Answerer").await;
    let _worker = hub.echo();
    let list = hub.get("/v1/agents", &token).await;
    let agent = &list.body["agents"][0];
    assert_eq!((list.status, &agent["name"], &agent["status"]), (200, &json!("Answerer"), &json!("active")));
    assert!(!agent.as_object().unwrap().contains_key("system_prompt") && list.body["correlation_id"].is_string());
    let agent_id = agent["agent_id"].as_str().unwrap();
    assert!(agent_id.starts_with("agt_"));
    for name in [agent_id, id.as_str(), &format!("agent-{id}@agents.hub-a.example")] {
        let one = hub.get(&format!("/v1/agents/{name}"), &token).await;
        assert_eq!((one.status, &one.body["agent"]), (200, agent), "{name}");
    }
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = hub.call(Method::POST, &format!("/v1/agents/{agent_id}/runs")).bearer_auth(&token);
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).json(&json!({ "input": "h\u{2028}i", "x": 1 }));
    let made = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert!(made.headers["traceparent"].to_str().unwrap().contains(trace));
    let run = &made.body["run"];
    assert_eq!(
        run["run_options"],
        json!({ "timeout_ms": 180_000, "max_steps": 30, "priority": "normal", "stream_events": true, "dry_run": false })
    );
    assert_eq!((&run["agent_id"], &run["tenant_id"]), (&agent["agent_id"], &agent["tenant_id"]));
    assert_eq!(made.headers["x-tenant-id"].to_str().unwrap(), run["tenant_id"].as_str().unwrap());
    assert!(run.get("output") == Some(&Value::Null) && run.get("error") == Some(&Value::Null) && run.get("x").is_none());
    let url = run["events_url"].as_str().unwrap();
    // The stream ends when the run does.
    let (status, data, text) = events(&hub, url, &token, None).await;
    assert_eq!(status, 200);
    let all: Vec<Value> = data.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = all.iter().map(|event| event["event"]["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("agentos.run.created", "agentos.run.completed"));
    for (index, event) in all.iter().enumerate() {
        let event = &event["event"];
        assert_eq!(event["sequence"], json!(index + 1));
        assert!(event["trace"]["traceparent"].as_str().unwrap().contains(trace), "{event}");
        assert!(event["event_id"].as_str().unwrap().starts_with("evt_") && event.get("step_id") != Some(&Value::Null));
        assert!(text.contains(&format!("event: agentos.event\nid: {}\ndata: ", index + 1)), "{text}");
    }
    let read = hub.get(&format!("/v1/runs/{}", run_id(&made)), &token).await;
    let run = &read.body["run"];
    assert_eq!((&run["status"], &run["output"]["text"], &run["error"]), (&json!("completed"), &json!("h\u{2028}i"), &Value::Null));
    assert_eq!(run["summary"], json!({ "steps_total": 1, "tool_calls_total": 0, "model_calls_total": 1 }));
    assert!(run["completed_at"].is_string());
    // The same run at the other door.
    let uuid = run_id(&made).parse::<aiox_model::RunId>().unwrap().uuid();
    let other = hub.get(&format!("/api/v1/runs/{uuid}"), &token).await;
    assert_eq!((other.status, &other.body["data"]["door"]), (200, &json!("v1")));
    let ended = hub.post(&format!("/v1/runs/{uuid}:cancel"), &token, json!({})).await;
    assert_eq!((ended.status, code(&ended)), (409, "invalid_state_transition"));
}

#[tokio::test]
async fn a_stream_resumes_at_every_event_with_the_same_bytes() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    let _worker = hub.echo();
    let made = hub.post(&format!("/v1/agents/{id}/runs"), &token, json!({ "input": "ünï" })).await;
    let path = format!("/v1/runs/{}/events", run_id(&made));
    let (_, all, _) = events(&hub, &path, &token, None).await;
    let last = all.len();
    for cut in 0..last {
        let rest = &all[cut..];
        assert_eq!(events(&hub, &path, &token, Some(&cut.to_string())).await.1, rest);
        for query in ["after_sequence", "from_sequence"] {
            assert_eq!(events(&hub, &format!("{path}?{query}={cut}"), &token, None).await.1, rest, "{query}={cut}");
        }
        // The first present in the order of the contract wins.
        let both = format!("{path}?after_sequence={cut}&from_sequence={last}");
        assert_eq!(events(&hub, &both, &token, Some("0")).await.1, rest);
        assert_eq!(events(&hub, &format!("{path}?from_sequence={cut}"), &token, Some("0")).await.1, rest);
    }
    for past in [last, last + 1, 4_000_000_000] {
        assert_eq!(events(&hub, &format!("{path}?after_sequence={past}"), &token, None).await.0, 204, "{past}");
    }
    for bad in ["x", "-1", "1.5", "+1"] {
        assert_eq!(events(&hub, &format!("{path}?after_sequence={}", bad.replace('+', "%2B")), &token, None).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_cursor_past_the_end_of_a_live_run_ends_with_the_run() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    let made = hub.post(&format!("/v1/agents/{id}/runs"), &token, json!({ "input": "x" })).await;
    let path = format!("/v1/runs/{}/events?after_sequence=99", run_id(&made));
    let response = hub.call(Method::GET, &path).bearer_auth(&token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let canceled = hub.post(&format!("/v1/runs/{}:cancel", run_id(&made)), &token, json!({})).await;
    assert_eq!((canceled.status, &canceled.body["run"]["status"]), (200, &json!("canceled")));
    assert!(canceled.body["run"]["completed_at"].is_string());
    assert!(!response.text().await.unwrap().contains("data:"));
}

#[tokio::test]
async fn fifty_posts_with_one_key_are_one_run() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let (id, other) = (hub.agent(&token, "A").await, hub.agent(&token, "B").await);
    let path = format!("/v1/agents/{id}/runs");
    let body = json!({ "input": "hi", "idempotency_key": "k1" });
    let all = futures::future::join_all((0..50).map(|_| hub.post(&path, &token, body.clone()))).await;
    let first = run_id(&all[0]);
    assert!(all.iter().all(|answer| run_id(answer) == first));
    let count = |status: u16| all.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(201), count(200)), (1, 49));
    for answer in &all {
        assert_eq!(answer.status == 200, answer.headers.get("idempotency-replayed").is_some_and(|value| value == "true"));
    }
    // The order of members does not count, and the key may come in the header.
    let keyed = |text: &'static str| hub.call(Method::POST, &path).bearer_auth(&token).header("idempotency-key", "k1").body(text);
    let again = Answer::of(keyed(r#"{ "idempotency_key": "k1",   "input":"hi" }"#).send().await.unwrap()).await;
    assert_eq!((again.status, run_id(&again)), (200, first.clone()));
    let header = Answer::of(keyed(r#"{"input":"hi"}"#).send().await.unwrap()).await;
    assert_eq!((header.status, run_id(&header)), (200, first.clone()));
    let two = Answer::of(keyed(r#"{"input":"hi","idempotency_key":"k2"}"#).send().await.unwrap()).await;
    assert_eq!((two.status, code(&two)), (400, "invalid_request"));
    let changed = hub.post(&path, &token, json!({ "input": "ho", "idempotency_key": "k1" })).await;
    assert_eq!((changed.status, code(&changed)), (409, "conflict"));
    let elsewhere = hub.post(&format!("/v1/agents/{other}/runs"), &token, body.clone()).await;
    assert_eq!(elsewhere.status, 201);
    assert_ne!(run_id(&elsewhere), first);
    let long = hub.post(&path, &token, json!({ "input": "hi", "idempotency_key": "k".repeat(257) })).await;
    assert_eq!((long.status, code(&long)), (400, "invalid_request"));
}

#[tokio::test]
async fn a_dry_run_completes_without_any_worker() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    let made = hub.post(&format!("/v1/agents/{id}/runs"), &token, json!({ "input": "hi", "run_options": { "dry_run": true } })).await;
    assert_eq!((made.status, &made.body["run"]["status"]), (201, &json!("completed")));
    assert!(made.body["run"]["output"]["text"].as_str().unwrap().starts_with("Dry run:"));
    assert_eq!(made.body["run"]["summary"], json!({ "steps_total": 0, "tool_calls_total": 0, "model_calls_total": 0 }));
    let (_, data, _) = events(&hub, &format!("/v1/runs/{}/events", run_id(&made)), &token, None).await;
    assert_eq!(data.len(), 2);
}

#[tokio::test]
async fn nothing_of_others_is_found() {
    let hub = believing(false).await;
    let (alice, bob) = (hub.user("alice").await, hub.user("bob").await);
    let mut tx = hub.store.begin().await.unwrap();
    let other = aiox_store::tenants::ensure(&mut tx, Uuid::now_v7(), "acme", aiox_model::Ts::from_micros(0)).await.unwrap();
    tx.commit().await.unwrap();
    let carol = hub.tenant_user("carol", other).await;
    let id = hub.agent(&alice, "A").await;
    let public = json!({ "name": "P", "system_prompt": "x", "visibility": "public" });
    let public = hub.post("/api/v1/agents", &alice, public).await.body["data"]["id"].as_str().unwrap().to_owned();
    let made = hub.post(&format!("/v1/agents/{id}/runs"), &alice, json!({ "input": "x" })).await;
    let run = run_id(&made);
    for stranger in [&bob, &carol] {
        for (method, path) in [
            (Method::GET, format!("/v1/runs/{run}")),
            (Method::GET, format!("/v1/runs/{run}/events")),
            (Method::POST, format!("/v1/runs/{run}:cancel")),
            (Method::GET, format!("/v1/agents/{id}")),
            (Method::POST, format!("/v1/agents/{id}/runs")),
        ] {
            let answer = hub.send(method.clone(), &path, stranger, json!({ "input": "x" })).await;
            assert_eq!((answer.status, code(&answer)), (404, "not_found"), "{method} {path}");
        }
    }
    // What is open to everybody of this tenant does not exist in another one.
    assert_eq!(hub.get(&format!("/v1/agents/{public}"), &bob).await.status, 200);
    assert_eq!(hub.get(&format!("/v1/agents/{public}"), &carol).await.status, 404);
    assert_eq!(hub.get("/v1/agents", &carol).await.body["agents"], json!([]));
    // Neither header nor body moves a request into another tenant.
    let tenant = aiox_model::TenantId(other).to_string();
    let moved = hub.call(Method::GET, "/v1/agents").bearer_auth(&alice).header("x-tenant-id", &tenant).send().await.unwrap();
    let moved = Answer::of(moved).await;
    assert_eq!((moved.status, code(&moved)), (400, "tenant_mismatch"));
    let moved = hub.post(&format!("/v1/agents/{id}/runs"), &alice, json!({ "input": "x", "auth": { "tenant_id": tenant } })).await;
    assert_eq!((moved.status, code(&moved)), (400, "tenant_mismatch"));
    let narrowed = json!({ "input": "x", "auth": { "principal_id": "u", "scopes": ["runs:read", "tenants:admin"] } });
    let narrowed = hub.post(&format!("/v1/agents/{id}/runs"), &alice, narrowed).await;
    assert_eq!((narrowed.status, code(&narrowed)), (403, "forbidden"));
}

#[tokio::test]
async fn headers_are_an_identity_where_the_hub_believes_them() {
    let hub = believing(false).await;
    let owner = hub.user("owner").await;
    let body = json!({ "name": "T", "system_prompt": "x", "visibility": "tenant" });
    let id = hub.post("/api/v1/agents", &owner, body).await.body["data"]["id"].as_str().unwrap().to_owned();
    let tenant = hub.get(&format!("/v1/agents/{id}"), &owner).await.body["agent"]["tenant_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/agents/{id}/runs");
    let call = async |method: Method, path: &str, headers: &[(&'static str, &str)], body: Value| {
        let mut request = hub.call(method, path).json(&body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await.unwrap()).await
    };
    let both = [("x-tenant-id", tenant.as_str()), ("x-principal-id", "usr_dana")];
    let made = call(Method::POST, &path, &both, json!({ "input": "x" })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let run = format!("/v1/runs/{}", run_id(&made));
    assert_eq!(call(Method::GET, &run, &both, Value::Null).await.status, 200);
    let stranger = [("x-tenant-id", tenant.as_str()), ("x-principal-id", "usr_erin")];
    assert_eq!(call(Method::GET, &run, &stranger, Value::Null).await.status, 404);
    // The body may name what the headers do not, nested or flat.
    for auth in [
        json!({ "tenant_id": tenant, "principal": { "principal_id": "usr_dana" } }),
        json!({ "tenant_id": tenant, "principal_id": "usr_dana" }),
    ] {
        let made = call(Method::POST, &path, &[], json!({ "input": "x", "auth": auth })).await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(call(Method::GET, &format!("/v1/runs/{}", run_id(&made)), &both, Value::Null).await.status, 200);
    }
    let scoped = [both[0], both[1], ("x-scopes", "runs:write tenants:admin")];
    assert_eq!(call(Method::POST, &path, &scoped, json!({ "input": "x" })).await.status, 201);
    assert_eq!(call(Method::GET, &run, &scoped, Value::Null).await.status, 403);
    let nobody = call(Method::POST, &path, &[], json!({ "input": "x" })).await;
    assert_eq!((nobody.status, code(&nobody)), (401, "unauthorized"));
    let nowhere = call(Method::POST, &path, &both[1..], json!({ "input": "x" })).await;
    assert_eq!((nowhere.status, code(&nowhere)), (400, "invalid_request"));
    let unknown = call(Method::GET, "/v1/agents", &[("x-tenant-id", "tnt_nobody"), both[1]], Value::Null).await;
    assert_eq!((unknown.status, code(&unknown)), (403, "tenant_unknown"));
    let forged = call(Method::GET, "/v1/agents", &[both[0], both[1], ("authorization", "Bearer garbage")], Value::Null).await;
    assert_eq!((forged.status, code(&forged)), (401, "unauthorized"));
    let two = json!({ "input": "x", "auth": { "tenant_id": aiox_model::TenantId(Uuid::nil()).to_string(), "principal_id": "u" } });
    let mismatch = call(Method::POST, &path, &both[..1], two).await;
    assert_eq!((mismatch.status, code(&mismatch)), (400, "tenant_mismatch"));

    let careful = Hub::start().await;
    let refused = careful.call(Method::GET, "/v1/agents").header("x-tenant-id", "default").header("x-principal-id", "u");
    assert_eq!(refused.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn strict_ingress_refuses_what_is_otherwise_taken() {
    let whole = json!({
        "auth": { "principal": { "principal_id": "u", "principal_type": "user" }, "scopes": ["runs:create"],
            "policy_context": { "data_classification": "internal", "region": "local", "purpose": "agent_run" } },
        "input": { "type": "text", "text": "hi" }, "context": { "locale": "en-US", "timezone": "UTC" },
        "tooling": { "tool_allowlist": [] }, "run_options": { "timeout_ms": 1000, "max_steps": 1 }
    });
    for strict in [false, true] {
        let hub = believing(strict).await;
        let token = hub.user("alice").await;
        let path = format!("/v1/agents/{}/runs", hub.agent(&token, "A").await);
        assert_eq!(hub.post(&path, &token, whole.clone()).await.status, 201);
        for (pointer, value) in [
            ("/input", json!("hi")),
            ("/input", json!({ "text": "hi" })),
            ("/context", Value::Null),
            ("/tooling", json!({ "tools": [] })),
            ("/run_options", json!({})),
            ("/auth", Value::Null),
            ("/auth/principal", Value::Null),
            ("/auth/policy_context", Value::Null),
            ("/context/locale", Value::Null),
        ] {
            let mut body = whole.clone();
            *body.pointer_mut(pointer).unwrap() = value;
            let answer = hub.post(&path, &token, body).await;
            assert_eq!(answer.status, if strict { 400 } else { 201 }, "{pointer} {answer:?}");
            if strict {
                let issues = answer.body["error"]["details"]["issues"].as_array().unwrap();
                assert!(issues.iter().any(|issue| issue["path"].as_str().unwrap().starts_with(pointer)), "{pointer} {issues:?}");
            }
        }
    }
}

#[tokio::test]
async fn events_of_other_hubs_count_once_and_are_read_in_order() {
    let hub = believing(false).await;
    let token = hub.user("alice").await;
    let event = |id: &str, sequence: u64, kind: &str| {
        json!({ "event_id": id, "sequence": sequence, "time": "2026-01-02T03:04:05Z", "type": kind, "agent_id": "agt_x", "run_id": "run_x",
            "step_id": null, "trace": { "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" }, "payload": { "a": 1 } })
    };
    let path = "/v1/federation/events:ingest";
    let counts = |answer: &Answer| (answer.status, answer.body["accepted"].as_u64().unwrap(), answer.body["rejected"].as_u64().unwrap());
    let mut foreign = event("evt_9", 9, "later");
    foreign["tenant_id"] = json!("tnt_other");
    let first = json!({ "ingest": { "source_stack_id": "stk_b" }, "events": [
        event("evt_3", 3, "agentos.run.completed"), event("evt_1", 1, "agentos.run.created"), event("evt_1", 1, "agentos.run.created"),
        foreign, { "run_id": "run_x", "sequence": 4 }, 5, event("evt_other", 3, "later")
    ] });
    assert_eq!(counts(&hub.post(path, &token, first).await), (200, 2, 5));
    let second = json!({ "peer": { "stack_id": "stk_b" }, "events": [{ "event": event("evt_2", 2, "agentos.run.step.started") }] });
    assert_eq!(counts(&hub.post(path, &token, second.clone()).await), (200, 1, 0));
    assert_eq!(counts(&hub.post(path, &token, second).await), (200, 0, 1));
    let third = json!({ "peer_id": "stk_c", "auth": { "principal_id": "u" }, "events": [{ "event": event("evt_2", 2, "agentos.run.step.started") }] });
    assert_eq!(counts(&hub.post(path, &token, third).await), (200, 1, 0));
    let url = "/v1/federation/runs/run_x/events";
    let (status, data, _) = events(&hub, url, &token, None).await;
    let all: Vec<Value> = data.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = all.iter().map(|event| event["event"]["event_id"].as_str().unwrap()).collect();
    assert_eq!((status, ids), (200, vec!["evt_1", "evt_2", "evt_3"]));
    assert_eq!(all[0]["event"]["trace"]["span_id"], "00f067aa0ba902b7");
    assert!(all[0]["event"].get("step_id").is_none() && all[0]["event"]["tenant_id"].as_str().unwrap().starts_with("tnt_"));
    assert_eq!(events(&hub, &format!("{url}?after_sequence=2"), &token, None).await.1, data[2..]);
    assert_eq!(events(&hub, &format!("{url}?after_sequence=3"), &token, None).await.0, 204);
    let missing = hub.get("/v1/federation/runs/run_y/events", &token).await;
    assert_eq!((missing.status, code(&missing)), (404, "not_found"));
    let nameless = hub.post(path, &token, json!({ "events": [] })).await;
    assert_eq!((nameless.status, code(&nameless)), (400, "invalid_request"));

    let careful = Hub::start().await;
    let token = careful.user("alice").await;
    let refused = careful.post(path, &token, json!({ "peer_id": "stk_b", "events": [] })).await;
    assert_eq!((refused.status, code(&refused)), (403, "forbidden"));
}

#[tokio::test]
async fn a_forward_is_refused_or_runs_here_as_its_selector_says() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    let _worker = hub.echo();
    for path in ["/v1/federation/peer", "/v1/peer/info"] {
        let own = hub.get(path, &token).await;
        assert_eq!((own.status, &own.body["peer"]["stack_id"]), (200, &json!("stk_hub-a.example")), "{path}");
    }
    for path in ["/v1/federation/peer/capabilities", "/v1/peer/capabilities"] {
        let own = hub.get(path, &token).await;
        assert_eq!((own.status, &own.body["capabilities"]["supports"]["runs_forward"]), (200, &json!(true)), "{path}");
    }
    assert_eq!(hub.get("/v1/federation/peers", &token).await.body["peers"], json!([]));
    let forward = async |selector: Value| {
        let body = json!({ "forward": { "agent_id": id, "target_selector": selector, "run": { "input": "hi" } } });
        hub.post("/v1/federation/runs:forward", &token, body).await
    };
    let unknown = forward(json!({ "stack_id": "stk_nobody" })).await;
    assert_eq!((unknown.status, code(&unknown)), (404, "peer_not_found"));
    let unmet = forward(json!({ "required_capabilities": ["runs.forward", "teleport"] })).await;
    assert_eq!((unmet.status, code(&unmet)), (409, "conflict"));
    assert!(unmet.body["error"]["details"]["missing"].as_array().unwrap().contains(&json!("teleport")));
    let own = forward(json!({ "stack_id": "stk_hub-a.example" })).await;
    assert_eq!(own.status, 200, "{own:?}");
    let forwarded = &own.body["forwarded"];
    assert_eq!(forwarded["remote_stack_id"], "stk_hub-a.example");
    let (status, data, _) = events(&hub, forwarded["remote_events_url"].as_str().unwrap(), &token, None).await;
    assert_eq!(status, 200);
    assert!(data.last().unwrap().contains("agentos.run.completed") && data[0].contains(forwarded["remote_run_id"].as_str().unwrap()));
    let empty = hub.post("/v1/federation/runs:forward", &token, json!({})).await;
    assert_eq!((empty.status, &empty.body["error"]["details"]["issues"][0]["path"]), (400, &json!("/forward")));
}
