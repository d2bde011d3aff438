//! Administration of tenants through the real router.

use aiox_core::{Role, tenant};
use reqwest::Method;
use serde_json::{Value, json};

use crate::hub::{Answer, Hub, Setting};

const TENANTS: &str = "/v1/admin/tenants";

async fn made(hub: &Hub, root: &str, id: &str) {
    let answer = hub.post(TENANTS, root, json!({ "tenant_id": id, "name": id })).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
}

async fn token(hub: &Hub, root: &str, tenant: &str, body: Value) -> (String, Value) {
    let answer = hub.post(&format!("{TENANTS}/{tenant}/tokens"), root, body).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    (answer.body["token"]["secret"].as_str().unwrap().to_owned(), answer.body["token"].clone())
}

fn code(answer: &Answer) -> (u16, &str) {
    let code = answer.body["error"]["code"].as_str().or_else(|| answer.body["code"].as_str());
    (answer.status, code.unwrap_or_default())
}

#[tokio::test]
async fn a_tenant_lives_through_every_operation() {
    let hub = Hub::start().await;
    let root = hub.admin("root", Role::PlatformAdmin).await;
    // Bare, under `tenant`, or under `tenant_create`, with members that nobody knows.
    for (id, body) in [
        ("tnt_a", json!({ "tenant_id": "tnt_a", "name": "A", "quotas": { "runs": { "run_create_qps": 3 } }, "unknown": 1 })),
        ("tnt_b", json!({ "tenant": { "tenant_id": "tnt_b" } })),
        ("tnt_c", json!({ "tenant_create": { "tenant_id": "tnt_c" } })),
    ] {
        let answer = hub.post(TENANTS, &root, body).await;
        assert_eq!((answer.status, answer.body["tenant"]["tenant_id"].as_str()), (201, Some(id)), "{:?}", answer.body);
        assert!(answer.body["correlation_id"].is_string() && answer.body["tenant"].get("unknown").is_none());
    }
    let made = hub.post(TENANTS, &root, json!({ "name": "Fresh" })).await;
    assert!(made.body["tenant"]["tenant_id"].as_str().unwrap().starts_with("tnt_"));
    assert_eq!(code(&hub.post(TENANTS, &root, json!({ "tenant_id": "tnt_a" })).await), (409, "conflict"));
    for bad in [json!([]), json!({ "tenant": 5 }), json!({ "tenant_id": "x" }), json!({ "quotas": { "runs": { "run_create_qps": 0 } } })] {
        assert_eq!(code(&hub.post(TENANTS, &root, bad).await), (400, "invalid_request"));
    }
    let first = hub.get(&format!("{TENANTS}?limit=2"), &root).await;
    assert_eq!((first.status, first.body["tenants"].as_array().unwrap().len()), (200, 2));
    let next = first.body["next_cursor"].as_str().unwrap();
    let rest = hub.get(&format!("{TENANTS}?limit=1000&cursor={next}"), &root).await;
    assert_eq!((rest.body["tenants"].as_array().unwrap().len(), rest.body.get("next_cursor")), (3, None));
    for bad in ["limit=0", "limit=1001", "limit=x"] {
        assert_eq!(code(&hub.get(&format!("{TENANTS}?{bad}"), &root).await), (400, "invalid_request"), "{bad}");
    }

    let one = format!("{TENANTS}/tnt_a");
    let shown = hub.get(&one, &root).await;
    assert_eq!((shown.status, &shown.body["tenant"]["quotas"]), (200, &json!({ "runs": { "run_create_qps": 3 } })));
    let patched = hub.send(Method::PATCH, &one, &root, json!({ "plan_tier": "gold", "metadata": { "x": 1 } })).await;
    assert_eq!((patched.status, patched.body["tenant"]["plan_tier"].as_str()), (200, Some("gold")));
    assert_eq!(patched.body["tenant"]["name"], "A");
    // A list is no object at any depth, here neither.
    let listed = hub.send(Method::PATCH, &one, &root, json!({ "quotas": { "models": [null, null] } })).await;
    assert_eq!(code(&listed), (400, "invalid_request"));
    let replaced = hub.send(Method::PUT, &one, &root, json!({ "tenant": { "name": "AA" } })).await;
    assert_eq!((replaced.body["tenant"]["name"].as_str(), &replaced.body["tenant"]["metadata"]), (Some("AA"), &json!({})));
    for (verb, status) in [("disable", "disabled"), ("disable", "disabled"), ("enable", "active")] {
        let answer = hub.send(Method::POST, &format!("{one}:{verb}"), &root, json!({})).await;
        assert_eq!((answer.status, answer.body["tenant"]["status"].as_str()), (200, Some(status)));
    }
    assert_eq!(code(&hub.send(Method::DELETE, &one, &root, json!({})).await), (400, "invalid_request"));
    let gone = hub.send(Method::DELETE, &format!("{one}?confirm=tnt_a"), &root, json!({})).await;
    assert_eq!((gone.status, gone.body["deleted"].as_bool()), (200, Some(true)));
    assert_eq!(code(&hub.get(&one, &root).await), (404, "not_found"));
    assert_eq!(code(&hub.send(Method::POST, &format!("{TENANTS}/default:disable"), &root, json!({})).await), (409, "conflict"));

    let audit = hub.get("/v1/admin/audit?tenant=tnt_a&limit=3", &root).await;
    let actions = |answer: &Answer| -> Vec<String> {
        answer.body["records"].as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(actions(&audit), ["tenants.delete", "tenants.enable", "tenants.disable"]);
    let record = &audit.body["records"][0];
    assert_eq!((record["outcome"].as_str(), record["resource"].as_str()), (Some("allowed"), Some("tenant/tnt_a")));
    assert!(record["meta"]["ip_address"].is_string() && record["principal_id"].as_str().unwrap().starts_with("usr_"));
    let older = hub.get(&format!("/v1/admin/audit?tenant=tnt_a&cursor={}", audit.body["next_cursor"].as_str().unwrap()), &root).await;
    assert_eq!(actions(&older), ["tenants.disable", "tenants.update", "tenants.update", "tenants.create"]);
    assert!(older.body.get("next_cursor").is_none());
    let denied = hub.get("/v1/admin/audit?outcome=denied&action=tenants.delete", &root).await;
    assert_eq!(actions(&denied), ["tenants.delete"]);
    for bad in ["outcome=maybe", "from=yesterday", "cursor=x", "limit=0"] {
        assert_eq!(code(&hub.get(&format!("/v1/admin/audit?{bad}"), &root).await), (400, "invalid_request"), "{bad}");
    }
    assert_eq!(code(&hub.get("/v1/admin/audit?tenant=tnt_nobody", &root).await), (404, "not_found"));
}

#[tokio::test]
async fn nobody_administers_without_a_credential_that_says_so() {
    let hub = Hub::start().await;
    let root = hub.admin("root", Role::PlatformAdmin).await;
    let user = hub.user("alice").await;
    made(&hub, &root, "tnt_a").await;
    let operations = [
        (Method::GET, TENANTS.to_owned()),
        (Method::POST, TENANTS.to_owned()),
        (Method::GET, format!("{TENANTS}/tnt_a")),
        (Method::PUT, format!("{TENANTS}/tnt_a")),
        (Method::PATCH, format!("{TENANTS}/tnt_a")),
        (Method::DELETE, format!("{TENANTS}/tnt_a?confirm=tnt_a")),
        (Method::POST, format!("{TENANTS}/tnt_a:enable")),
        (Method::POST, format!("{TENANTS}/tnt_a:disable")),
        (Method::GET, format!("{TENANTS}/tnt_a/tokens")),
        (Method::POST, format!("{TENANTS}/tnt_a/tokens")),
        (Method::POST, format!("{TENANTS}/tnt_a/tokens/key_00000000000000000000000001:rotate")),
        (Method::DELETE, format!("{TENANTS}/tnt_a/tokens/key_00000000000000000000000001")),
        (Method::GET, "/v1/admin/audit".to_owned()),
    ];
    for (method, path) in operations {
        let nobody = hub.call(method.clone(), &path).header("X-Tenant-Id", "tnt_a").header("X-Principal-Id", "usr_platform_admin");
        // A header never gives it, whatever it says.
        let nobody = nobody.header("X-Scopes", "tenants:admin").json(&json!({}));
        let status = nobody.send().await.unwrap().status().as_u16();
        assert!([401, 403].contains(&status), "{method} {path}: {status}");
        assert_eq!(code(&hub.send(method.clone(), &path, &user, json!({})).await), (403, "forbidden"), "{method} {path}");
        assert_eq!(code(&hub.send(method, &path, "aiox_key_wrong", json!({})).await), (401, "unauthorized"), "{path}");
    }
    assert_eq!(hub.get(&format!("{TENANTS}/tnt_a"), &root).await.body["tenant"]["status"], "active");
    let denied = hub.get("/v1/admin/audit?outcome=denied&limit=1000", &root).await;
    assert_eq!(denied.body["records"].as_array().unwrap().len(), 3 * 13, "one record each");
}

#[tokio::test]
async fn a_service_token_works_until_its_tenant_is_disabled() {
    let hub = Hub::start().await;
    let root = hub.admin("root", Role::PlatformAdmin).await;
    made(&hub, &root, "tnt_a").await;
    let bare = hub.call(Method::POST, &format!("{TENANTS}/tnt_a/tokens")).bearer_auth(&root).send().await.unwrap();
    assert_eq!(bare.status(), 201, "no body at all");
    let (secret, issued) = token(&hub, &root, "tnt_a", json!({ "token": { "name": "ci" } })).await;
    assert_eq!((issued["role"].as_str(), issued["tenant_id"].as_str()), (Some("tenant_service"), Some("tnt_a")));
    assert_eq!(hub.get("/api/v1/me", &secret).await.status, 200);
    let by_header = hub.call(Method::GET, "/api/v1/me").header("X-API-Key", &secret).send().await.unwrap();
    assert_eq!(by_header.status(), 200);
    let path = format!("{TENANTS}/tnt_a/tokens/{}", issued["token_id"].as_str().unwrap());
    let listed = hub.get(&format!("{TENANTS}/tnt_a/tokens"), &root).await;
    assert!(listed.body["tokens"].as_array().unwrap().iter().all(|token| token.get("secret").is_none()));

    let rotated = hub.send(Method::POST, &format!("{path}:rotate"), &root, json!({})).await;
    let fresh = rotated.body["token"]["secret"].as_str().unwrap().to_owned();
    assert_eq!((hub.get("/api/v1/me", &secret).await.status, hub.get("/api/v1/me", &fresh).await.status), (401, 200));
    for (verb, status) in [("disable", 403), ("enable", 200)] {
        hub.send(Method::POST, &format!("{TENANTS}/tnt_a:{verb}"), &root, json!({})).await;
        assert_eq!(hub.get("/api/v1/me", &fresh).await.status, status, "{verb}");
    }
    let revoked = hub.send(Method::DELETE, &path, &root, json!({})).await;
    assert_eq!((revoked.status, revoked.body["deleted"].as_bool()), (200, Some(true)));
    assert_eq!(hub.get("/api/v1/me", &fresh).await.status, 401);
    assert_eq!(code(&hub.send(Method::DELETE, &path, &root, json!({})).await), (404, "not_found"));
    let own = hub.get("/api/v1/governance/audit", &root).await;
    assert!(own.body["data"][0]["ip_address"].is_string(), "{:?}", own.body["data"][0]);
}

#[tokio::test]
async fn what_belongs_to_another_tenant_is_404_everywhere() {
    let hub = Hub::start().await;
    let root = hub.admin("root", Role::PlatformAdmin).await;
    let mut both = Vec::new();
    for id in ["tnt_a", "tnt_b"] {
        made(&hub, &root, id).await;
        let (admin, _) = token(&hub, &root, id, json!({ "role": "tenant_admin" })).await;
        let (service, issued) = token(&hub, &root, id, json!({})).await;
        let agent = hub.agent(&service, "helper").await;
        let run = hub.post(&format!("/api/v1/agents/{agent}/chat"), &service, json!({ "message": "hi", "detach": true })).await;
        let run = run.body["data"]["id"].as_str().unwrap().to_owned();
        both.push((admin, service, issued["token_id"].as_str().unwrap().to_owned(), agent, run));
    }
    let (admin, service, ..) = &both[0];
    let (.., other_token, other_agent, other_run) = &both[1];
    for path in [
        format!("{TENANTS}/tnt_b"),
        format!("{TENANTS}/tnt_b/tokens"),
        "/v1/admin/audit?tenant=tnt_b".to_owned(),
        format!("/api/v1/agents/{other_agent}"),
        format!("/api/v1/agents/{other_agent}/history"),
        format!("/api/v1/runs/{other_run}"),
    ] {
        for who in [admin, service] {
            let answer = hub.get(&path, who).await;
            // A service administers nothing: it does not even get to know whether the tenant is there.
            let wanted = if path.starts_with("/v1/admin") && who == service { 403 } else { 404 };
            assert_eq!(answer.status, wanted, "{path}: {:?}", answer.body);
        }
    }
    // The other's token is not there, under either tenant's name.
    for tenant in ["tnt_a", "tnt_b"] {
        let path = format!("{TENANTS}/{tenant}/tokens/{other_token}");
        assert_eq!(hub.send(Method::POST, &format!("{path}:rotate"), admin, json!({})).await.status, 404);
        assert_eq!(hub.send(Method::DELETE, &path, admin, json!({})).await.status, 404);
    }
    assert_eq!(
        hub.send(Method::POST, &format!("/api/v1/agents/{other_agent}/chat"), service, json!({ "message": "hi" })).await.status,
        404
    );
    let seen = hub.get("/v1/admin/audit?limit=1000", admin).await;
    assert!(seen.body["records"].as_array().unwrap().iter().all(|record| record["tenant_id"] == "tnt_a"));
    let listed = hub.get(TENANTS, admin).await;
    assert_eq!(listed.body["tenants"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn limits_of_a_tenant_are_answered_as_the_contract_says() {
    let node_limits = tenant::Limits { concurrent: Some(1), ..tenant::Limits::default() };
    let hub = Hub::with(Setting { node_limits, ..Setting::default() }).await;
    let root = hub.admin("root", Role::PlatformAdmin).await;
    let quotas = json!({
        "runs": { "max_concurrent_runs": 2, "run_create_qps": 0.01, "run_create_burst": 4 },
        "models": { "token_budget": { "window": "day", "max_tokens": 1 } },
    });
    hub.post(TENANTS, &root, json!({ "tenant_id": "tnt_a", "quotas": { "runs": quotas["runs"] } })).await;
    let (service, _) = token(&hub, &root, "tnt_a", json!({})).await;
    let agent = hub.agent(&service, "helper").await;
    let chat = format!("/api/v1/agents/{agent}/chat");
    let ask = async || {
        hub.call(Method::POST, &chat).bearer_auth(&service).json(&json!({ "message": "hi", "detach": true })).send().await.unwrap()
    };
    for _ in 0..2 {
        assert!(ask().await.status().is_success());
    }
    let full = ask().await;
    assert_eq!((full.status().as_u16(), full.headers().contains_key("retry-after")), (429, true));
    assert_eq!(full.json::<Value>().await.unwrap()["code"], "quota_exceeded");
    // A place in the pace was used by the refused one as well.
    ask().await;
    let fast = ask().await;
    let wait: u64 = fast.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(fast.status() == 429 && wait > 1 && wait <= 100, "{wait}");
    assert_eq!(fast.json::<Value>().await.unwrap()["code"], "rate_limited");
    // A change holds for the next request.
    let spent = json!({ "quotas": { "runs": null, "models": quotas["models"] } });
    hub.send(Method::PATCH, &format!("{TENANTS}/tnt_a"), &root, spent).await;
    let spent = ask().await;
    assert_eq!((spent.status().as_u16(), spent.headers().contains_key("retry-after")), (429, false));
    let body: Value = spent.json().await.unwrap();
    assert_eq!((body["code"].as_str(), body["retryable"].as_bool()), (Some("quota_exceeded"), Some(false)), "{body}");
    hub.send(Method::PATCH, &format!("{TENANTS}/tnt_a"), &root, json!({ "quotas": null })).await;
    assert!(ask().await.status().is_success(), "without limits of its own nothing limits it at /api/v1");
}

#[tokio::test]
async fn administration_takes_idempotency_keys() {
    let hub = Hub::start().await;
    let root = hub.admin("root", Role::PlatformAdmin).await;
    let send = async |path: &str, key: Option<&str>, body: Value| {
        let mut request = hub.call(Method::POST, path).bearer_auth(&root).json(&body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        Answer::of(request.send().await.unwrap()).await
    };
    let replayed = |answer: &Answer| answer.headers.get("idempotency-replayed").map(|value| value.to_str().unwrap().to_owned());
    let body = json!({ "tenant": { "name": "Acme", "plan_tier": "gold" } });
    let first = send(TENANTS, Some("k"), body.clone()).await;
    assert_eq!((first.status, replayed(&first)), (201, None));
    // In the header or in the body, and whatever the order of the members.
    for again in [
        send(TENANTS, Some("k"), body.clone()).await,
        send(TENANTS, None, json!({ "idempotency_key": "k", "tenant": { "plan_tier": "gold", "name": "Acme" } })).await,
    ] {
        assert_eq!((again.status, replayed(&again).as_deref()), (200, Some("true")));
        assert_eq!(again.body["tenant"], first.body["tenant"]);
        assert_ne!(again.body["correlation_id"], first.body["correlation_id"]);
    }
    assert_eq!(hub.get(TENANTS, &root).await.body["tenants"].as_array().unwrap().len(), 2);
    assert_eq!(code(&send(TENANTS, Some("k"), json!({ "tenant": { "name": "Other" } })).await), (409, "conflict"));
    let long = "x".repeat(257);
    for (key, member) in
        [(Some("k"), json!("l")), (None, json!("")), (None, json!(5)), (Some(long.as_str()), json!(long)), (None, json!(long))]
    {
        assert_eq!(code(&send(TENANTS, key, json!({ "idempotency_key": member })).await), (400, "invalid_request"), "{key:?} {member}");
    }

    let tokens = format!("{TENANTS}/default/tokens");
    let (issued, again) = (send(&tokens, Some("k"), json!({})).await, send(&tokens, Some("k"), json!({})).await);
    assert_eq!((issued.status, again.status, replayed(&again).as_deref()), (201, 200, Some("true")));
    assert!(issued.body["token"]["secret"].is_string() && again.body["token"].get("secret").is_none());
    assert_eq!(code(&send(&tokens, Some("k"), json!({ "name": "other" })).await), (409, "conflict"));
    let rotate = format!("{tokens}/{}:rotate", issued.body["token"]["token_id"].as_str().unwrap());
    let (rotated, again) = (send(&rotate, Some("k"), json!({})).await, send(&rotate, Some("k"), json!({})).await);
    assert_eq!((rotated.status, again.status, replayed(&rotated), replayed(&again).as_deref()), (200, 200, None, Some("true")));
    let fresh = rotated.body["token"]["secret"].as_str().unwrap();
    assert!(again.body["token"].get("secret").is_none() && hub.get("/api/v1/me", fresh).await.status == 200);
}
