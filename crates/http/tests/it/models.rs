//! `/v1/models`, `/v1/models:invoke` and `/v1/policy:check` as a client sees them.

use aiox_core::tenant::{Limits as TenantLimits, Pace};
use http::Method;
use serde_json::{Value, json};

use crate::{
    hub::{Answer, Hub, Setting},
    model_worker::connect,
};

fn chat(model_ref: &str, text: &str) -> Value {
    json!({ "request": { "request_id": "req_1", "operation": "chat", "model_ref": model_ref, "input": { "messages": [{ "role": "user", "content": text }] } } })
}

async fn invoke(hub: &Hub, token: &str, body: Value) -> Answer {
    hub.post("/v1/models:invoke", token, body).await
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["error"]["code"].as_str().unwrap_or_default())
}

/// Rows of the ledger, newest first: state, input tokens, output tokens, cost, error.
async fn ledger(hub: &Hub) -> Vec<(String, u64, u64, Option<u64>, Option<String>)> {
    let rows = aiox_store::ledger::latest(&mut hub.store.read().await.unwrap(), hub.tenant, 100).await.unwrap();
    rows.into_iter().map(|row| (row.state, row.input_tokens, row.output_tokens, row.cost, row.error)).collect()
}

#[tokio::test]
async fn models_are_listed_and_every_listed_one_can_be_called() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let _worker = connect(&hub.dispatch);
    let list = hub.get("/v1/models", &token).await;
    assert_eq!(list.status, 200);
    assert_eq!(list.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["models"]);
    let ids: Vec<&str> = list.body["models"].as_array().unwrap().iter().map(|model| model["model_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["absent", "backup", "broken", "chain", "echo", "main", "paid/named"]);
    assert_eq!(
        list.body["models"][4],
        json!({ "model_id": "echo", "provider": "echo", "capabilities": ["chat", "embed"], "max_output_tokens": 1000, "context_window_tokens": 10000 })
    );
    let named = invoke(&hub, &token, chat("paid/named", "hi")).await;
    assert_eq!(named.body["response"]["route"]["model"], "paid/named");
    assert_eq!(named.body["response"]["route"].get("cost_usd"), None, "a model without a price has no cost");
    let nobody = Answer::of(hub.call(Method::GET, "/v1/models").send().await.unwrap()).await;
    assert_eq!(code(&nobody), (401, "unauthorized"));
}

#[tokio::test]
async fn a_chat_answers_with_usage_route_policy_and_exact_cost() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let _worker = connect(&hub.dispatch);
    let request = hub.call(Method::POST, "/v1/models:invoke").bearer_auth(&token).header("x-correlation-id", "corr_7");
    let answer = Answer::of(request.json(&chat("main", "hello")).send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.headers["x-correlation-id"], "corr_7");
    assert!(answer.headers["x-tenant-id"].to_str().unwrap().starts_with("tnt_"));
    let mut body = answer.body;
    assert!(body["response"]["latency_ms"].as_u64().is_some());
    body["response"].as_object_mut().unwrap().remove("latency_ms");
    assert_eq!(
        body,
        json!({ "correlation_id": "corr_7", "response": {
            "request_id": "req_1", "status": "ok",
            "output": { "type": "chat", "message": { "role": "assistant", "content": "paid: hello" } },
            "usage": { "input_tokens": 3, "output_tokens": 4, "total_tokens": 7 },
            "policy_outcome": { "decision": "allowed", "reasons": [], "redactions": [] },
            "route": { "backend": "paid", "model": "main", "node": "hub-a.example", "fallback_used": false, "tier": "premium",
                       "reason": "named by the request", "cost_usd": 0.000007 } } })
    );
    assert_eq!(ledger(&hub).await, [("done".into(), 3, 4, Some(7), None)]);
    let quota = hub.get("/api/v1/governance/quota", &token).await;
    assert_eq!(quota.body["data"]["tokens_used_today"], 7, "settled to what was used");
}

#[tokio::test]
async fn embeddings_come_in_order_in_both_forms() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let worker = connect(&hub.dispatch);
    let texts: Vec<String> = (1..=300).map(|length| "x".repeat(length)).collect();
    let embed = |format: &str| json!({ "request": { "operation": "embed", "model_ref": "tier:fast", "input": { "texts": texts, "encoding_format": format } } });
    let plain = invoke(&hub, &token, embed("float")).await;
    let made = plain.body["response"]["output"]["embeddings"].as_array().unwrap().clone();
    assert_eq!(made.len(), 300);
    assert_eq!(made[299], json!({ "index": 299, "vector": [300.0, 1.0] }));
    assert_eq!(worker.asked.count(), 3, "many texts are sent in parts");
    assert!(plain.body["response"]["request_id"].as_str().unwrap().starts_with("req_"));
    let packed = invoke(&hub, &token, embed("base64")).await;
    assert_eq!(packed.body["response"]["output"]["embeddings"][1]["vector"], "AAAAQAAAgD8=");
    for (body, fault) in [
        (json!({ "request": { "operation": "embed", "model_ref": "echo", "input": { "texts": [] } } }), "request.input.texts"),
        (json!({ "request": { "operation": "embed", "model_ref": "main", "input": { "texts": ["a"] } } }), "model"),
        (
            json!({ "request": { "operation": "embed", "model_ref": "echo", "input": { "texts": ["a"], "messages": [{ "role": "user" }] } } }),
            "request.input.messages",
        ),
        (json!({ "request": { "operation": "chat", "model_ref": "echo", "input": { "texts": ["a"] } } }), "request.input.texts"),
        (json!({ "request": { "operation": "paint", "model_ref": "echo", "input": { "texts": ["a"] } } }), "request.operation"),
        (json!({ "request": { "model_ref": "echo", "input": {} } }), "request.operation"),
        (json!({ "request": { "operation": "chat", "model_ref": "echo" } }), "request.input"),
        (json!({}), "request"),
    ] {
        let refused = invoke(&hub, &token, body.clone()).await;
        assert_eq!(code(&refused), (400, "invalid_request"), "{body}");
        let pointer = format!("/{}", fault.replace('.', "/"));
        assert_eq!(refused.body["error"]["details"]["issues"][0]["path"], pointer, "{body}");
    }
    let request = hub.call(Method::POST, "/v1/models:invoke").bearer_auth(&token).body("{");
    assert_eq!(code(&Answer::of(request.send().await.unwrap()).await), (400, "invalid_json"));
}

#[tokio::test]
async fn the_tier_routes_by_price_and_the_next_allowed_model_stands_in() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let worker = connect(&hub.dispatch);
    // `broken` is the cheapest of its tier, `main` the next.
    let answer = invoke(&hub, &token, chat("tier:premium", "hi")).await;
    let route = &answer.body["response"]["route"];
    assert_eq!((&route["model"], &route["fallback_used"]), (&json!("main"), &json!(true)));
    assert_eq!(route["reason"], "next of tier premium");
    assert_eq!(route["cost_usd"], json!(0.000008), "the failed attempt used 2 tokens at half the price, and is paid for");
    assert_eq!(ledger(&hub).await[0], ("done".into(), 5, 4, Some(8), None));
    let chained = invoke(&hub, &token, chat("chain", "hi")).await;
    let route = &chained.body["response"]["route"];
    assert_eq!(
        (&route["model"], &route["fallback_used"], &route["reason"]),
        (&json!("backup"), &json!(true), &json!("stand-in for chain"))
    );
    let alone = invoke(&hub, &token, chat("broken", "hi")).await;
    assert_eq!(code(&alone), (503, "dependency_unavailable"));
    assert_eq!((&alone.body["error"]["retryable"], alone.headers.contains_key("retry-after")), (&json!(true), true));
    assert_eq!(ledger(&hub).await[0], ("failed".into(), 2, 0, Some(1), Some("provider_unavailable".into())));
    assert_eq!(code(&invoke(&hub, &token, chat("absent", "hi")).await), (503, "dependency_unavailable"));
    assert_eq!(code(&invoke(&hub, &token, chat("gpt-none", "hi")).await), (404, "model_not_found"));
    assert_eq!(code(&invoke(&hub, &token, chat("tier:best", "hi")).await), (404, "model_not_found"));
    assert_eq!(code(&invoke(&hub, &token, chat("main", "long")).await), (400, "invalid_request"));
    drop(worker);
    assert_eq!(code(&invoke(&hub, &token, chat("echo", "hi")).await), (503, "dependency_unavailable"));
}

#[tokio::test]
async fn requirements_choose_or_are_refused() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let _worker = connect(&hub.dispatch);
    let with = |requirements: Value| {
        let mut body = chat("tier:premium", "hi");
        body["request"]["requirements"] = requirements;
        body["request"]["generation"] = json!({ "max_output_tokens": 100 });
        body
    };
    let unmet = invoke(&hub, &token, with(json!({ "min_context_tokens": 20_000, "max_cost_usd": 0.0 }))).await;
    assert_eq!(code(&unmet), (409, "conflict"));
    assert_eq!(unmet.body["error"]["details"]["unmet"], json!(["max_cost_usd", "min_context_tokens"]));
    let free = invoke(&hub, &token, with(json!({ "max_cost_usd": 0.0 }))).await;
    assert_eq!(free.body["response"]["route"]["model"], "echo");
    assert_eq!(code(&invoke(&hub, &token, with(json!({ "max_cost_usd": -1 }))).await), (400, "invalid_request"));
}

#[tokio::test]
async fn personal_data_is_masked_before_a_model_sees_it_and_secrets_stop_the_call() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let worker = connect(&hub.dispatch);
    let masked = invoke(&hub, &token, chat("echo", "mail ann@mail.example or +1 415 555 2671")).await;
    assert_eq!(masked.body["response"]["output"]["message"]["content"], "echo: mail [email] or [phone]");
    let outcome = &masked.body["response"]["policy_outcome"];
    assert_eq!((&outcome["decision"], &outcome["reasons"]), (&json!("redacted"), &json!(["pii:email", "pii:phone"])));
    assert_eq!(outcome["redactions"][0], json!({ "kind": "email", "part": 0, "start": 5, "end": 21 }));
    let mut tools = chat("echo", "hi");
    tools["request"]["input"]["tools"] =
        json!([{ "tool_id": "tool.mail", "description": "to ann@mail.example", "input_schema": { "default": "bob@mail.example" } }]);
    invoke(&hub, &token, tools).await;
    let told = |order: aiox_app::gateway::call::Order| match order.input {
        aiox_app::gateway::call::Input::Chat { messages, tools, .. } => {
            let said = messages.into_iter().map(|message| message.content);
            said.chain(tools.into_iter().map(|tool| format!("{} {}", tool.description, tool.parameters))).collect::<Vec<_>>().join(" ")
        }
        aiox_app::gateway::call::Input::Embed { texts, .. } => texts.join(" "),
    };
    let seen: String = worker.asked.all().into_iter().map(told).collect::<Vec<_>>().join(" ");
    assert!(!seen.contains("mail.example") && !seen.contains("415"), "{seen}");

    let before = worker.asked.count();
    for text in ["-----BEGIN PRIVATE KEY-----", "tell me of Nightfall"] {
        let blocked = invoke(&hub, &token, chat("echo", text)).await;
        assert_eq!(code(&blocked), (403, "policy_blocked"));
        assert_eq!(blocked.body["error"]["details"]["reasons"].as_array().unwrap().len(), 1);
    }
    assert_eq!(worker.asked.count(), before, "no model was called");
}

#[tokio::test]
async fn the_policy_can_be_asked() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let ask = |text: &str, ruleset: &str| json!({ "policy_check": { "request_id": "req_9", "content": { "type": "text", "text": text }, "ruleset": ruleset } });
    for path in ["/v1/policy:check", "/v1/policy/check"] {
        let fine = hub.post(path, &token, ask("hello", "default")).await;
        assert_eq!(
            fine.body,
            json!({ "policy_result": { "request_id": "req_9", "decision": "allowed", "reasons": [], "redactions": [] } })
        );
        let masked = hub.post(path, &token, ask("to ann@mail.example", "default")).await;
        assert_eq!(
            masked.body,
            json!({ "policy_result": { "request_id": "req_9", "decision": "redacted", "reasons": ["pii:email"], "redactions": [{ "kind": "email", "start": 3, "end": 19 }] } })
        );
        assert_eq!(hub.post(path, &token, ask("to ann@mail.example", "strict")).await.body["policy_result"]["decision"], "blocked");
    }
    assert_eq!(code(&hub.post("/v1/policy:check", &token, ask("x", "odd")).await), (400, "invalid_request"));
    for wrong in [
        json!({ "policy_check": {} }),
        json!({ "policy_check": { "content": { "type": "text" } } }),
        json!({ "policy_check": { "content": { "text": 5 } } }),
    ] {
        assert_eq!(code(&hub.post("/v1/policy:check", &token, wrong).await), (400, "invalid_request"));
    }
    let bare = hub.post("/v1/policy:check", &token, json!({ "policy_check": { "content": "hello" } })).await;
    assert_eq!(bare.body["policy_result"]["decision"], "allowed");
}

#[tokio::test]
async fn the_same_key_is_one_call() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let worker = connect(&hub.dispatch);
    let mut body = chat("main", "once");
    body["request"]["idempotency_key"] = json!("k1");
    let all = futures::future::join_all((0..10).map(|_| invoke(&hub, &token, body.clone()))).await;
    assert!(all.iter().all(|answer| answer.status == 200), "{all:?}");
    assert_eq!(all.iter().filter(|answer| answer.headers.contains_key("idempotency-replayed")).count(), 9);
    assert_eq!(worker.asked.count(), 1);
    assert_eq!(all[0].body["response"], all[9].body["response"]);
    body["request"]["input"]["messages"][0]["content"] = json!("twice");
    assert_eq!(code(&invoke(&hub, &token, body.clone()).await), (409, "conflict"));
    // A failed call gives its key free.
    let mut failing = chat("broken", "x");
    failing["request"]["idempotency_key"] = json!("k2");
    assert_eq!(invoke(&hub, &token, failing.clone()).await.status, 503);
    failing["request"]["model_ref"] = json!("main");
    assert_eq!(invoke(&hub, &token, failing).await.status, 200);
    let stranger = hub.user("bob").await;
    assert_eq!(invoke(&hub, &stranger, body).await.status, 200, "another principal's key is another key");
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_call_and_pays_for_what_was_used() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let mut worker = connect(&hub.dispatch);
    let request = hub.call(Method::POST, "/openai/v1/chat/completions").bearer_auth(&token);
    let body = json!({ "model": "main", "stream": true, "messages": [{ "role": "user", "content": "hang" }] });
    let mut response = request.json(&body).send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    worker.stopped.recv().await.unwrap();
    // The row is closed when the worker has said what it used.
    loop {
        let rows = ledger(&hub).await;
        if rows[0].0 != "open" {
            assert_eq!(rows[0], ("failed".into(), 5, 1, Some(6), Some("canceled".into())));
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn limits_of_the_tenant_hold_for_calls() {
    let pace = TenantLimits { invoke: Some(Pace { interval: 3_600_000_000, burst: 2 }), ..TenantLimits::default() };
    let hub = Hub::with(Setting { node_limits: pace, ..Setting::default() }).await;
    let token = hub.user("ann").await;
    let _worker = connect(&hub.dispatch);
    assert_eq!(invoke(&hub, &token, chat("echo", "1")).await.status, 200);
    assert_eq!(invoke(&hub, &token, chat("echo", "2")).await.status, 200);
    let fast = invoke(&hub, &token, chat("echo", "3")).await;
    assert_eq!(code(&fast), (429, "rate_limited"));
    assert!(fast.headers.contains_key("retry-after"));
}

/// Changes the tenant of the test's users.
async fn change_tenant(hub: &Hub, patch: Value) {
    let token = hub.admin(&format!("root-{}", uuid::Uuid::now_v7().simple()), aiox_core::Role::PlatformAdmin).await;
    let origin = aiox_app::accounts::Origin { address: None, trace: aiox_model::TraceId(uuid::Uuid::nil()) };
    let admin = hub.accounts.authenticate(&token, origin, aiox_core::Door::V1).await.unwrap();
    let id = aiox_model::TenantId(hub.tenant).to_string();
    hub.tenants.patch(&admin, &id, patch.as_object().unwrap().clone()).await.unwrap();
}

#[tokio::test]
async fn a_tenant_uses_only_what_it_is_entitled_to_and_deny_wins() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let worker = connect(&hub.dispatch);
    let entitlements = json!({ "model_tiers_allowed": ["premium"], "model_backends_allowed": ["paid", "broken"] });
    let policy = json!({ "allowed_models": ["main", "backup", "broken"], "denied_models": ["main"] });
    change_tenant(&hub, json!({ "entitlements": entitlements, "policy": policy })).await;
    let list = hub.get("/v1/models", &token).await;
    let ids: Vec<&str> = list.body["models"].as_array().unwrap().iter().map(|model| model["model_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["backup", "broken"]);
    for (model_ref, reason) in [("main", "model_denied:main"), ("echo", "tier_not_entitled:fast"), ("tier:fast", "tier_not_entitled:fast")]
    {
        let refused = invoke(&hub, &token, chat(model_ref, "hi")).await;
        assert_eq!(code(&refused), (403, "policy_blocked"), "{model_ref}");
        assert!(refused.body["error"]["details"]["reasons"].as_array().unwrap().contains(&json!(reason)), "{:?}", refused.body);
        let openai = json!({ "model": model_ref, "messages": [{ "role": "user", "content": "hi" }] });
        let refused = hub.post("/v1/chat/completions", &token, openai).await;
        assert_eq!(code(&refused), (403, "policy_blocked"), "{model_ref}");
    }
    assert_eq!(worker.asked.count(), 0);
    // The cheapest fails; the denied one, which is next, is passed over.
    let answer = invoke(&hub, &token, chat("tier:premium", "hi")).await;
    assert_eq!(answer.body["response"]["route"]["model"], "backup");
}

#[tokio::test]
async fn a_used_up_budget_is_429_that_nobody_repeats_and_a_long_answer_is_clamped() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let _worker = connect(&hub.dispatch);
    let budget = json!({ "window": "day", "max_tokens": 1100, "max_cost_usd": 1 });
    change_tenant(&hub, json!({ "quotas": { "models": { "token_budget": budget, "max_tokens_per_request": 60 } } })).await;
    let mut long = chat("main", "hi");
    long["request"]["generation"] = json!({ "max_output_tokens": 900 });
    let clamped = invoke(&hub, &token, long).await;
    assert_eq!(clamped.status, 200, "{:?}", clamped.body);
    assert_eq!(clamped.body["response"]["policy_outcome"]["reasons"], json!(["max_output_tokens:clamped"]));
    change_tenant(&hub, json!({ "quotas": { "models": { "max_tokens_per_request": null } } })).await;
    let refused = invoke(&hub, &token, chat("main", &"x ".repeat(400))).await;
    assert_eq!(code(&refused), (429, "quota_exceeded"));
    let error = &refused.body["error"];
    assert_eq!(
        (&error["retryable"], &error["details"]["limit"], &error["details"]["used"], &error["details"]["window"]),
        (&json!(false), &json!(1100), &json!(7), &json!("day"))
    );
    let openai = json!({ "model": "main", "messages": [{ "role": "user", "content": "x ".repeat(400) }] });
    let refused = hub.post("/openai/v1/chat/completions", &token, openai).await;
    assert_eq!(code(&refused), (429, "quota_exceeded"));
    assert_eq!(refused.headers["x-should-retry"], "false");
    // A budget of money cannot hold what has no price.
    assert_eq!(code(&invoke(&hub, &token, chat("paid/named", "hi")).await), (409, "conflict"));
}

#[tokio::test]
async fn a_tier_chooses_the_model_of_a_run_or_the_run_is_refused() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let id = hub.agent(&token, "A").await;
    let run = async |tier: &str| {
        hub.post(&format!("/v1/agents/{id}/runs"), &token, json!({ "input": "hi", "run_options": { "model_tier": tier } })).await
    };
    assert_eq!(code(&run("premium").await), (503, "dependency_unavailable"), "nobody serves a model now");
    let _line = connect(&hub.dispatch);
    assert_eq!(code(&run("best").await), (400, "invalid_request"));
    let offers = aiox_app::WorkerInfo {
        worker_id: "runs".into(),
        max_concurrent: 1,
        providers: vec!["paid".into(), "broken".into(), "echo".into()],
        ..aiox_app::WorkerInfo::default()
    };
    let worker = hub.dispatch.register(offers).unwrap();
    let made = run("premium").await;
    assert_eq!((made.status, &made.body["run"]["run_options"]["model_tier"]), (201, &json!("premium")));
    let task = tokio::time::timeout(std::time::Duration::from_secs(20), worker.next()).await.unwrap().unwrap();
    assert_eq!((task.provider.as_str(), task.model.as_deref()), ("broken", Some("broken-1")), "the cheapest of the tier");
    let config: Value = serde_json::from_str(&task.llm_config_json).unwrap();
    assert_eq!((&config["provider"], &config["model"]), (&json!("broken"), &json!("broken-1")));
    // What the agent may not use is not taken.
    let rules = json!({ "governance": { "allowed_providers": ["echo"] } });
    let changed = hub.send(reqwest::Method::PUT, &format!("/api/v1/agents/{id}"), &token, rules).await;
    assert_eq!(changed.status, 200);
    let other = run("premium").await;
    assert_eq!(other.status, 201, "another tier stands in: {:?}", other.body);
    change_tenant(&hub, json!({ "entitlements": { "model_tiers_allowed": ["premium"] } })).await;
    assert_eq!(code(&run("fast").await), (403, "policy_blocked"));
}
