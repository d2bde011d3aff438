//! What every request below `/v1` leaves in the audit log.

use aiox_core::Role;
use aiox_http::{HttpOptions, V1Options};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    hub::{Answer, Hub, Setting},
    model_worker::connect,
};

const TENANTS: &str = "/v1/admin/tenants";

/// The records of the request with this correlation id.
async fn left(hub: &Hub, root: &str, query: &str, correlation: &str) -> Vec<Value> {
    let page = hub.get(&format!("/v1/admin/audit?limit=1000&{query}"), root).await;
    assert_eq!(page.status, 200, "{:?}", page.body);
    page.body["records"].as_array().unwrap().iter().filter(|record| record["correlation_id"] == correlation).cloned().collect()
}

async fn sent(request: RequestBuilder, correlation: &str, body: &Value) -> Answer {
    Answer::of(request.header("x-correlation-id", correlation).json(body).send().await.unwrap()).await
}

async fn principal(hub: &Hub, token: &str) -> Value {
    let id: aiox_model::UserId = hub.get("/api/v1/me", token).await.body["data"]["id"].as_str().unwrap().parse().unwrap();
    json!(id.to_string())
}

#[tokio::test]
async fn every_mutation_leaves_one_record_with_the_correlation_id_of_its_request() {
    let v1 = V1Options { open_ingest: true, ..V1Options::default() };
    let hub = Hub::with(Setting { options: HttpOptions { v1, ..HttpOptions::default() }, ..Setting::default() }).await;
    let _worker = connect(&hub.dispatch);
    let (root, alice) = (hub.admin("root", Role::PlatformAdmin).await, hub.user("alice").await);
    let agent = hub.agent(&alice, "A").await;
    let (owner, admin) = (principal(&hub, &alice).await, principal(&hub, &root).await);
    let own = hub.get("/v1/agents", &alice).await.body["agents"][0]["tenant_id"].clone();

    let runs = format!("/v1/agents/{agent}/runs");
    let run = sent(hub.call(Method::POST, &runs).bearer_auth(&alice), "c-run", &json!({ "input": "x", "idempotency_key": "k" })).await;
    let run = run.body["run"]["run_id"].as_str().unwrap().to_owned();
    let call = json!({ "request": { "request_id": "r", "operation": "chat", "model_ref": "echo",
        "input": { "messages": [{ "role": "user", "content": "hi" }] } } });
    let check = json!({ "policy_check": { "request_id": "r", "content": { "type": "text", "text": "hi" }, "ruleset": "default" } });
    let ingest = json!({ "ingest": { "source_stack_id": "stk_b" }, "events": [] });
    let tenant = json!({ "tenant": { "tenant_id": "tnt_a" } });
    let one = format!("{TENANTS}/tnt_a");
    let issued = hub.call(Method::POST, &format!("{TENANTS}/default/tokens")).bearer_auth(&root);
    let token = sent(issued, "c-issue", &json!({})).await.body["token"]["token_id"].as_str().unwrap().to_owned();
    for (method, path, who, body, name) in [
        (Method::POST, format!("/v1/runs/{run}:cancel"), &alice, json!({}), "cancel"),
        (Method::POST, "/v1/models:invoke".into(), &alice, call, "invoke"),
        (Method::POST, "/v1/policy:check".into(), &alice, check, "check"),
        (Method::POST, "/v1/federation/events:ingest".into(), &alice, ingest, "ingest"),
        (Method::POST, TENANTS.into(), &root, tenant, "create"),
        (Method::PUT, one.clone(), &root, json!({ "name": "B" }), "replace"),
        (Method::PATCH, one.clone(), &root, json!({ "name": "A" }), "update"),
        (Method::POST, format!("{one}:disable"), &root, json!({}), "disable"),
        (Method::POST, format!("{one}:enable"), &root, json!({}), "enable"),
        (Method::DELETE, format!("{one}?confirm=tnt_a"), &root, json!({}), "delete"),
        (Method::POST, format!("{TENANTS}/default/tokens/{token}:rotate"), &root, json!({}), "rotate"),
        (Method::DELETE, format!("{TENANTS}/default/tokens/{token}"), &root, json!({}), "revoke"),
    ] {
        let answer = sent(hub.call(method, &path).bearer_auth(who), &format!("c-{name}"), &body).await;
        assert!(answer.status < 300, "{name}: {:?}", answer.body);
    }
    for (name, action, who, tenant, kind) in [
        ("run", "runs.create", &owner, &own, "run/run_"),
        ("cancel", "runs.cancel", &owner, &own, "run/run_"),
        ("invoke", "models.invoke", &owner, &own, "model/echo"),
        ("check", "policy.check", &owner, &own, ""),
        ("ingest", "federation.events.ingest", &owner, &own, "stack/stk_b"),
        ("create", "tenants.create", &admin, &json!("tnt_a"), "tenant/tnt_a"),
        ("replace", "tenants.update", &admin, &json!("tnt_a"), "tenant/tnt_a"),
        ("update", "tenants.update", &admin, &json!("tnt_a"), "tenant/tnt_a"),
        ("disable", "tenants.disable", &admin, &json!("tnt_a"), "tenant/tnt_a"),
        ("enable", "tenants.enable", &admin, &json!("tnt_a"), "tenant/tnt_a"),
        ("delete", "tenants.delete", &admin, &json!("tnt_a"), "tenant/tnt_a"),
        ("issue", "tokens.issue", &admin, &own, "service_token/key_"),
        ("rotate", "tokens.rotate", &admin, &own, "service_token/key_"),
        ("revoke", "tokens.revoke", &admin, &own, "service_token/key_"),
    ] {
        let found = left(&hub, &root, &format!("action={action}&outcome=allowed"), &format!("c-{name}")).await;
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(left(&hub, &root, "", &format!("c-{name}")).await.len(), 1, "{name} left others besides");
        let record = &found[0];
        assert_eq!((&record["principal_id"], &record["tenant_id"]), (who, tenant), "{name}");
        let hex = |name: &str| record[name].as_str().is_some_and(|text| text.len() == 64);
        assert!(record["seq"].is_u64() && hex("prev_hash") && hex("hash"), "{record}");
        assert!(record["time"].is_string() && record["resource"].as_str().unwrap().starts_with(kind), "{record}");
    }

    // Whoever only looks, or repeats what was done, leaves nothing.
    for (name, path) in [("agents", "/v1/agents".to_owned()), ("look", format!("/v1/runs/{run}"))] {
        let answer =
            Answer::of(hub.call(Method::GET, &path).bearer_auth(&alice).header("x-correlation-id", name).send().await.unwrap()).await;
        assert_eq!((answer.status, left(&hub, &root, "", name).await.len()), (200, 0), "{name}");
    }
    let again = sent(hub.call(Method::POST, &runs).bearer_auth(&alice), "c-again", &json!({ "input": "x", "idempotency_key": "k" })).await;
    assert_eq!((again.status, left(&hub, &root, "", "c-again").await.len()), (200, 0));
}

#[tokio::test]
async fn every_denial_leaves_one_record() {
    let v1 = V1Options { header_identity: true, ..V1Options::default() };
    let hub = Hub::with(Setting { options: HttpOptions { v1, ..HttpOptions::default() }, ..Setting::default() }).await;
    let (root, alice) = (hub.admin("root", Role::PlatformAdmin).await, hub.user("alice").await);
    for id in ["tnt_a", "tnt_off"] {
        assert_eq!(hub.post(TENANTS, &root, json!({ "tenant_id": id })).await.status, 201);
    }
    let issue = hub.post(&format!("{TENANTS}/tnt_off/tokens"), &root, json!({})).await;
    let asleep = issue.body["token"]["secret"].as_str().unwrap().to_owned();
    let issue = hub.post(&format!("{TENANTS}/tnt_a/tokens"), &root, json!({ "role": "tenant_admin" })).await;
    let admin = issue.body["token"]["secret"].as_str().unwrap().to_owned();
    hub.send(Method::POST, &format!("{TENANTS}/tnt_off:disable"), &root, json!({})).await;
    let agent = hub.agent(&alice, "A").await;
    let key = hub.post("/api/v1/keys", &alice, json!({ "name": "k", "scopes": ["agents:read"] })).await;
    let key = key.body["data"]["secret"].as_str().unwrap().to_owned();
    let (me, own) = (principal(&hub, &alice).await, hub.get("/v1/agents", &alice).await.body["agents"][0]["tenant_id"].clone());
    let runs = format!("/v1/agents/{agent}/runs");
    let input = json!({ "input": "x" });
    let mismatch = json!({ "input": "x", "auth": { "tenant_id": "tnt_a" } });
    let narrow = json!({ "input": "x", "auth": { "scopes": ["agents:read"] } });

    let call = |method: Method, path: &str| hub.call(method, path);
    let nobody = Value::Null;
    let known = json!("tnt_off");
    for (name, request, body, status, tenant, who) in [
        ("scope", call(Method::GET, TENANTS).bearer_auth(&alice), &input, 403, &own, Some(&me)),
        ("narrow key", call(Method::POST, &runs).bearer_auth(&key), &input, 403, &own, Some(&me)),
        ("narrow body", call(Method::POST, &runs).bearer_auth(&alice), &narrow, 403, &own, Some(&me)),
        ("nobody", call(Method::GET, "/v1/agents"), &input, 401, &own, Some(&nobody)),
        ("wrong key", call(Method::POST, &runs).bearer_auth("aiox_key_wrong"), &input, 401, &own, Some(&nobody)),
        ("disabled", call(Method::GET, "/v1/agents").bearer_auth(&asleep), &input, 403, &known, None),
        ("header", call(Method::GET, "/v1/agents").bearer_auth(&alice).header("x-tenant-id", "tnt_a"), &input, 400, &own, Some(&me)),
        ("body", call(Method::POST, &runs).bearer_auth(&alice), &mismatch, 400, &own, Some(&me)),
        (
            "unknown",
            call(Method::GET, "/v1/agents").header("x-tenant-id", "tnt_no").header("x-principal-id", "x"),
            &input,
            403,
            &own,
            Some(&nobody),
        ),
        ("verb", call(Method::POST, &format!("{TENANTS}/tnt_a:disable")).bearer_auth(&alice), &input, 403, &own, Some(&me)),
        ("openai", call(Method::GET, "/openai/v1/models").bearer_auth("aiox_key_wrong"), &input, 401, &own, Some(&nobody)),
        (
            "allowance",
            call(Method::PATCH, &format!("{TENANTS}/tnt_a")).bearer_auth(&admin),
            &json!({ "plan_tier": "gold" }),
            403,
            &json!("tnt_a"),
            None,
        ),
    ] {
        let mark = format!("d-{}", name.replace(' ', "-"));
        let answer = sent(request, &mark, body).await;
        assert_eq!(answer.status, status, "{name}: {:?}", answer.body);
        let found = left(&hub, &root, "outcome=denied&action=auth.denied", &mark).await;
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(left(&hub, &root, "", &mark).await.len(), 1, "{name}");
        assert_eq!(&found[0]["tenant_id"], tenant, "{name}");
        match who {
            Some(who) => assert_eq!(&found[0]["principal_id"], who, "{name}"),
            None => assert!(found[0]["principal_id"].as_str().unwrap().starts_with("usr_"), "{name}"),
        }
        assert!(found[0]["resource"].as_str().unwrap().starts_with("request/"), "{}", found[0]);
    }
    let verb = left(&hub, &root, "", "d-verb").await;
    assert_eq!(verb[0]["resource"], "request/POST /v1/admin/tenants/tnt_a:disable");

    // What is hidden is recorded too, under the name of what was tried.
    let hidden = sent(call(Method::DELETE, &format!("{TENANTS}/tnt_off?confirm=tnt_off")).bearer_auth(&admin), "d-hidden", &input).await;
    let found = left(&hub, &root, "outcome=denied&action=tenants.delete", "d-hidden").await;
    assert_eq!((hidden.status, found.len(), left(&hub, &root, "", "d-hidden").await.len()), (404, 1, 1));
    // And what the content policy blocks, under the name of the call.
    let blocked = json!({ "request": { "request_id": "r", "operation": "chat", "model_ref": "echo",
        "input": { "messages": [{ "role": "user", "content": "nightfall" }] } } });
    let blocked = sent(call(Method::POST, "/v1/models:invoke").bearer_auth(&alice), "d-blocked", &blocked).await;
    let found = left(&hub, &root, "outcome=denied&action=models.invoke", "d-blocked").await;
    assert_eq!((blocked.status, found.len(), left(&hub, &root, "", "d-blocked").await.len()), (403, 1, 1));
}

#[tokio::test]
async fn a_record_names_whoever_was_authenticated_and_nobody_else() {
    let hub = Hub::start().await;
    let (root, alice) = (hub.admin("root", Role::PlatformAdmin).await, hub.user("alice").await);
    let agent = hub.agent(&alice, "A").await;
    let me = principal(&hub, &alice).await;
    let body = json!({ "input": "x", "auth": { "principal": { "principal_id": "usr_somebody_else", "principal_type": "user" } } });
    for (name, path, status) in [("made", format!("/v1/agents/{agent}/runs"), 201), ("denied", TENANTS.to_owned(), 403)] {
        let call = hub.call(Method::POST, &path).bearer_auth(&alice).header("x-principal-id", "usr_a_third");
        assert_eq!(sent(call, name, &body).await.status, status);
        let found = left(&hub, &root, "", name).await;
        assert_eq!(found.iter().map(|record| &record["principal_id"]).collect::<Vec<_>>(), [&me], "{name}");
    }
}

#[tokio::test]
async fn whoever_has_no_credential_cannot_fill_the_log() {
    let hub = Hub::with(Setting { limited: true, ..Setting::default() }).await;
    let root = hub.admin("root", Role::PlatformAdmin).await;
    for _ in 0..100 {
        let nobody = hub.call(Method::GET, "/v1/agents").header("x-correlation-id", "flood").send().await.unwrap();
        assert_eq!(nobody.status(), 401);
    }
    let kept = left(&hub, &root, "outcome=denied", "flood").await.len();
    assert!((60..100).contains(&kept), "{kept}");
}
