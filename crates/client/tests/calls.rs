//! The client against a server that says what the test wants.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap or panic is a failed test")]

use std::time::Duration;

use aiox_client::{Chat, Client, Error, Frame};
use aiox_model::v1::tenants::TenantCreate;
use futures::StreamExt as _;
use serde_json::json;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_partial_json, header, method, path},
};

fn client(server: &MockServer) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::new(&server.uri(), None).unwrap().with_credential("aiox_key_1".to_owned().into())
}

#[tokio::test]
async fn the_hubs_own_words_are_the_error() {
    let server = MockServer::start().await;
    let body = json!({ "error": "Quota exceeded", "code": "quota_exceeded", "correlation_id": "corr_1", "retryable": true });
    let answer = ResponseTemplate::new(429).set_body_json(body).insert_header("retry-after", "7");
    Mock::given(path("/api/v1/governance/quota"))
        .and(header("authorization", "Bearer aiox_key_1"))
        .respond_with(answer)
        .mount(&server)
        .await;
    match client(&server).quota().await.unwrap_err() {
        Error::Hub { status, code, retryable, retry_after, .. } => {
            assert_eq!((status, code.as_str(), retryable, retry_after), (429, "quota_exceeded", true, Some(Duration::from_secs(7))));
        }
        other => panic!("{other:?}"),
    }
    // Something that is no hub.
    let error = client(&server).me().await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Some("unknown"), "HTTP 404 Not Found (unknown)"));
}

#[tokio::test]
async fn names_cannot_leave_their_segment_and_keys_are_sent() {
    let server = MockServer::start().await;
    let run = "0190f5fe-7c00-7000-8000-000000000001";
    let reply = json!({ "data": {
        "request_id": run, "run_id": run, "conversation_id": run, "response": "hi", "model_used": "echo", "tokens_used": 1, "duration_ms": 2,
    }});
    Mock::given(method("POST"))
        .and(path("/api/v1/agents/a%2F..%2Fb@agents.hub-b.example/chat"))
        .and(header("idempotency-key", "k"))
        .and(body_partial_json(json!({ "message": "hello", "stream": false })))
        .respond_with(ResponseTemplate::new(200).set_body_json(reply))
        .mount(&server)
        .await;
    let chat =
        Chat { agent: "a/../b@agents.hub-b.example".into(), message: "hello".into(), idempotency_key: Some("k".into()), ..Chat::default() };
    assert_eq!(client(&server).chat(&chat).await.unwrap().response, "hi");
}

#[tokio::test]
async fn a_stream_is_read_to_its_end_and_an_error_ends_it() {
    let server = MockServer::start().await;
    let run = "0190f5fe-7c00-7000-8000-000000000001";
    let text = format!(
        "retry: 2000\n\nevent: accepted\ndata: {{}}\n\n: heartbeat\n\nevent: run.delta\ndata: {{\"run_id\":\"{run}\",\"text\":\"h\\u00e9\"}}\n\n\
         event: error\ndata: {{\"error\":\"it failed\",\"code\":\"provider_error\",\"correlation_id\":\"c\",\"retryable\":false}}\n\n\
         event: run.delta\ndata: never read\n\n"
    );
    Mock::given(path(format!("/api/v1/runs/{run}/events")))
        .and(header("last-event-id", "2"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(text, "text/event-stream"))
        .mount(&server)
        .await;
    let client = client(&server);
    let frames: Vec<_> = client.follow(run.parse().unwrap(), 2, true).await.unwrap().collect().await;
    assert_eq!(frames.len(), 2);
    assert!(matches!(&frames[0], Ok(Frame::Delta(delta)) if delta.text == "hé"));
    assert_eq!(frames[1].as_ref().unwrap_err().code(), Some("provider_error"));
}

#[tokio::test]
async fn a_streamed_chat_ends_with_its_answer_or_with_an_error() {
    let server = MockServer::start().await;
    let run = "0190f5fe-7c00-7000-8000-000000000001";
    let delta = format!("event: run.delta\ndata: {{\"run_id\":\"{run}\",\"text\":\"a\"}}\n\n");
    let done = format!(
        "event: done\ndata: {{\"request_id\":\"{run}\",\"run_id\":\"{run}\",\"conversation_id\":\"{run}\",\"response\":\"ab\",\
         \"model_used\":\"echo\",\"tokens_used\":1,\"duration_ms\":2}}\n\n"
    );
    for (agent, text) in [("whole", format!("{delta}{done}{delta}")), ("cut", delta)] {
        Mock::given(path(format!("/api/v1/agents/{agent}/chat")))
            .and(body_partial_json(json!({ "stream": true })))
            .respond_with(ResponseTemplate::new(200).set_body_raw(text, "text/event-stream"))
            .mount(&server)
            .await;
    }
    let client = client(&server);
    let frames = async |agent: &str| {
        let chat = Chat { agent: agent.to_owned(), message: "m".to_owned(), ..Chat::default() };
        client.chat_stream(&chat).await.unwrap().collect::<Vec<_>>().await
    };
    let whole = frames("whole").await;
    assert!(matches!(&whole[..], [Ok(Frame::Delta(_)), Ok(Frame::Done(reply))] if reply.response == "ab"), "{whole:?}");
    let cut = frames("cut").await;
    assert!(matches!(&cut[..], [Ok(Frame::Delta(_)), Err(Error::Answer(_))]), "{cut:?}");
}

#[tokio::test]
async fn a_hub_that_is_down_tells_how_it_is_and_something_else_does_not() {
    let server = MockServer::start().await;
    let body = json!({ "data": {
        "status": "degraded", "database": "unhealthy", "version": "1",
        "checks": [{ "name": "database", "status": "unhealthy" }],
    }});
    Mock::given(path("/health/ready")).respond_with(ResponseTemplate::new(503).set_body_json(&body)).mount(&server).await;
    let health = client(&server).health().await.unwrap();
    assert_eq!((health.status.as_str(), health.part("database"), health.part("xmpp")), ("degraded", Some("unhealthy"), None));
    assert_eq!(serde_json::to_value(health).unwrap(), body["data"]);
    server.reset().await;
    assert_eq!(client(&server).health().await.unwrap_err().code(), Some("unknown"));
}

#[tokio::test]
async fn who_signs_in_is_known_and_sees_peers_as_the_hub_shows_them() {
    let server = MockServer::start().await;
    Mock::given(path("/api/v1/auth/login"))
        .and(body_partial_json(json!({ "username": "operator", "password": "secret" })))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(json!({ "data": { "access_token": "t", "refresh_token": "r", "expires_in": 900 } })),
        )
        .mount(&server)
        .await;
    let shown = json!({
        "domain": "hub-b.example", "trust_url": "https://hub-b.example", "fingerprint": "00", "state": "suspended",
        "document": { "issued": 1 }, "document_read_at": "2026-01-01T00:00:00.000000Z", "tenants": {}, "agents": ["*"],
        "operations": { "send": true, "stream": true, "cancel": true, "directory": true },
        "quotas": { "requests_per_second": 1, "open_streams": 2, "max_envelope_bytes": 3, "max_hop": 4 },
        "created_at": "2026-01-01T00:00:00.000000Z", "updated_at": "2026-01-01T00:00:00.000000Z", "waiting": 3,
    });
    Mock::given(path("/api/v1/admin/peers"))
        .and(header("authorization", "Bearer t"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "data": [shown] })))
        .mount(&server)
        .await;
    let peers = client(&server).signed_in("operator", "secret").await.unwrap().peers().await.unwrap();
    assert_eq!((peers[0].state(), peers[0].waiting), ("suspended", 3));
    assert_eq!(serde_json::to_value(&peers[0]).unwrap(), shown);
}

#[test]
fn bad_addresses_are_refused_and_credentials_are_not_printed() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    for bad in ["", "hub-a.example", "ftp://hub-a.example", "mailto:a@b.c"] {
        assert!(matches!(Client::new(bad, None), Err(Error::Setting(_))), "{bad}");
    }
    let client = Client::new("https://hub-a.example", None).unwrap().with_credential("hunter2".to_owned().into());
    assert!(!format!("{client:?}").contains("hunter2"));
}

#[tokio::test]
async fn tenants_are_administered_and_the_errors_of_v1_are_read() {
    let server = MockServer::start().await;
    let refused = json!({ "error": { "code": "conflict", "message": "taken", "retryable": false }, "correlation_id": "corr_1" });
    Mock::given(method("POST"))
        .and(path("/v1/admin/tenants"))
        .respond_with(ResponseTemplate::new(409).set_body_json(refused))
        .mount(&server)
        .await;
    let tenant = json!({
        "tenant_id": "tnt_a", "name": "A", "status": "disabled", "plan_tier": "standard", "created_at": "2026-03-01T00:00:00Z",
        "updated_at": "2026-03-01T00:00:00Z", "entitlements": {}, "quotas": {}, "policy": {}, "metadata": {}, "member_of_a_later_version": 1,
    });
    let answer = ResponseTemplate::new(200).set_body_json(json!({ "tenant": tenant, "correlation_id": "corr_2" }));
    Mock::given(method("POST")).and(path("/v1/admin/tenants/tnt_a:disable")).respond_with(answer).mount(&server).await;
    match client(&server).create_tenant(&TenantCreate::default()).await.unwrap_err() {
        Error::Hub { status, code, message, correlation_id, retryable, .. } => {
            assert_eq!((status, code.as_str(), message.as_str(), correlation_id.as_str()), (409, "conflict", "taken", "corr_1"));
            assert!(!retryable);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client(&server).set_tenant_enabled("tnt_a", false).await.unwrap().status, "disabled");
}
