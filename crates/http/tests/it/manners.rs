//! What holds for every request.

use std::time::Duration;

use aiox_core::Role;
use aiox_http::HttpOptions;
use reqwest::Method;
use serde_json::json;

use crate::hub::{Answer, Hub, Setting};

#[tokio::test]
async fn every_answer_has_its_headers_and_every_error_its_body() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = "0190f5fe-7c00-7000-8000-000000000001";
    for (method, path, token, status, code) in [
        (Method::GET, "/health/live", "", 200, ""),
        (Method::GET, "/nowhere", "", 404, "not_found"),
        (Method::DELETE, "/health/live", "", 405, "method_not_allowed"),
        (Method::PUT, "/api/v1/auth/login", "", 405, "method_not_allowed"),
        // 401 before 405 behind the gate, and no hint at routes for strangers beyond that.
        (Method::PATCH, "/api/v1/agents", "", 401, "unauthorized"),
        (Method::PATCH, "/api/v1/agents", &token, 405, "method_not_allowed"),
        (Method::GET, "/api/v1/agents", "garbage", 401, "unauthorized"),
        (Method::GET, "/api/v1/agents/0190f5fe-7c00-7000-8000-000000000001/memories", &token, 404, "not_found"),
        (Method::GET, "/panics", "", 500, "internal_error"),
    ] {
        let mut request = hub.call(method.clone(), path).header("x-request-id", id);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, status, "{method} {path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "strict-origin-when-cross-origin"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
            ("content-type", "application/json"),
            ("x-request-id", id),
        ] {
            assert_eq!(answer.headers[name], value, "{method} {path}");
        }
        if !code.is_empty() {
            assert_eq!(answer.code(), code, "{method} {path}");
            let correlation: aiox_model::TraceId = answer.body["correlation_id"].as_str().unwrap().parse().unwrap();
            assert_eq!(correlation.uuid().to_string(), id);
            assert!(!answer.body.to_string().contains("secret"));
        }
    }
}

/// serde would fill a struct from a list, member by member.
#[tokio::test]
async fn a_list_is_no_object_wherever_an_object_is_documented() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    for (path, body) in [
        ("/api/v1/auth/login", json!(["alice@mail.example", null, "correct horse battery"])),
        ("/api/v1/keys", json!(["key", null, null])),
        ("/api/v1/agents", json!({ "name": "a", "system_prompt": "b", "llm_config": ["echo"] })),
        ("/openai/v1/chat/completions", json!({ "model": "echo", "messages": [["user", "hi"]] })),
    ] {
        let answer = hub.post(path, &token, body).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn request_ids_are_echoed_or_made() {
    let hub = Hub::start().await;
    let of = async |given: Option<&str>| {
        let mut request = hub.call(Method::GET, "/health/live");
        if let Some(given) = given {
            request = request.header("x-request-id", given);
        }
        request.send().await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(of(Some("my-request.1")).await, "my-request.1");
    let made: uuid::Uuid = of(None).await.parse().unwrap();
    assert_eq!(made.get_version_num(), 4);
    for bad in ["x y", &"x".repeat(129)] {
        assert!(of(Some(bad)).await.parse::<uuid::Uuid>().is_ok(), "{bad}");
    }
}

#[tokio::test]
async fn large_bodies_are_413_whether_or_not_they_say_how_large_they_are() {
    let hub = Hub::start().await;
    let large = vec![b' '; 10 * 1024 * 1024];
    for path in ["/api/v1/auth/register", "/api/v1/auth/login"] {
        let answer = Answer::of(hub.call(Method::POST, path).body(large.clone()).send().await.unwrap()).await;
        assert_eq!((answer.status, answer.code(), answer.error()), (413, "too_large", "body is larger than 1048576 bytes"));
    }
    let chunks = futures::stream::iter(large.chunks(64 * 1024).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>());
    let request = hub.call(Method::POST, "/api/v1/auth/login").body(reqwest::Body::wrap_stream(chunks));
    // The hub stops reading; a client may see its write fail before it sees the answer.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
    assert_eq!(hub.call(Method::GET, "/health/live").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn sign_in_attempts_are_limited_per_socket_address_and_no_header_lifts_it() {
    let hub = Hub::with(Setting { limited: true, ..Setting::default() }).await;
    let attempt = async |index: usize| {
        let request = hub.call(Method::POST, "/api/v1/auth/refresh").header("x-forwarded-for", format!("203.0.113.{index}"));
        let request = request.header("x-real-ip", format!("203.0.113.{index}")).header("forwarded", format!("for=203.0.113.{index}"));
        Answer::of(request.json(&json!({ "refresh_token": "garbage" })).send().await.unwrap()).await
    };
    let mut refused = 0;
    for index in 0..40 {
        let answer = attempt(index).await;
        if answer.status == 429 {
            refused += 1;
            assert_eq!((answer.error(), &answer.headers["retry-after"]), ("too many requests", &"60".parse().unwrap()));
        } else {
            assert_eq!(answer.status, 401);
        }
    }
    // Uses come back one every three seconds while the test runs.
    assert!(refused >= 15, "{refused}");
    assert_eq!(hub.call(Method::GET, "/api/v1/agents").send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_trusted_proxy_tells_clients_apart() {
    let options = HttpOptions { trusted_proxies: vec!["127.0.0.1".parse().unwrap()], ..HttpOptions::default() };
    let hub = Hub::with(Setting { limited: true, options, ..Setting::default() }).await;
    for index in 0..40 {
        let request = hub.call(Method::POST, "/api/v1/auth/refresh").header("x-forwarded-for", format!("203.0.113.{index}"));
        assert_eq!(request.json(&json!({ "refresh_token": "garbage" })).send().await.unwrap().status(), 401);
    }
}

#[tokio::test]
async fn cors_is_for_configured_origins() {
    let options = HttpOptions { cors_origins: vec!["https://console.hub-a.example".into()], ..HttpOptions::default() };
    let hub = Hub::with(Setting { options, ..Setting::default() }).await;
    let preflight = async |origin: &str| {
        let request = hub.call(Method::OPTIONS, "/api/v1/agents").header("origin", origin);
        let request = request.header("access-control-request-method", "PUT").header("access-control-request-headers", "authorization");
        request.send().await.unwrap()
    };
    let answer = preflight("https://console.hub-a.example").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://console.hub-a.example");
    assert_eq!(answer.headers()["access-control-allow-credentials"], "true");
    assert_eq!(answer.headers()["access-control-max-age"], "300");
    // Whoever may not read the answer is told nothing of credentials either.
    let evil = hub.call(Method::GET, "/v1/agents").header("origin", "https://evil.example").send().await.unwrap();
    let nobody = hub.call(Method::GET, "/v1/agents").send().await.unwrap();
    for answer in [preflight("https://evil.example").await, evil, nobody] {
        assert!(!answer.headers().contains_key("access-control-allow-origin"), "{:?}", answer.headers());
        assert!(!answer.headers().contains_key("access-control-allow-credentials"), "{:?}", answer.headers());
    }
    // Errors are readable for the origin too.
    let refused = hub.call(Method::GET, "/api/v1/agents").header("origin", "https://console.hub-a.example").send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(refused.headers()["access-control-expose-headers"].to_str().unwrap().split(',').any(|name| name == "x-request-id"));
}

#[tokio::test]
async fn health_tells_the_parts_and_metrics_are_for_operators() {
    let hub = Hub::start().await;
    for path in ["/health", "/health/ready", "/health/ready/"] {
        let answer = hub.get(path, "").await;
        assert_eq!((answer.status, &answer.body["data"]["status"]), (200, &json!("degraded")));
        assert_eq!((&answer.body["data"]["database"], &answer.body["data"]["nats"]), (&json!("healthy"), &json!("not configured")));
        assert_eq!(answer.body["data"]["workers"], "no workers connected");
        assert_eq!(answer.body["data"]["checks"][0]["name"], "database");
    }
    let (user, operator) = (hub.user("alice").await, hub.admin("op", Role::Operator).await);
    assert_eq!(hub.call(Method::GET, "/metrics").send().await.unwrap().status(), 401);
    assert_eq!(hub.get("/metrics", &user).await.status, 403);
    let text = hub.call(Method::GET, "/metrics").bearer_auth(operator).timeout(Duration::from_secs(5)).send().await.unwrap();
    assert!(text.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert_eq!(text.text().await.unwrap(), "aiox_up 1\n");
}
