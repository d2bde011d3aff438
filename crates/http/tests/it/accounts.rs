//! Sign-up, sign-in, sessions and keys.

use aiox_core::Role;
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::hub::{Answer, Hub};

const REFRESH: &str = "/api/v1/auth/refresh";

async fn open(hub: &Hub, path: &str, body: serde_json::Value) -> Answer {
    Answer::of(hub.call(Method::POST, path).json(&body).send().await.unwrap()).await
}

#[tokio::test]
async fn the_contract_of_sign_up_and_sign_in() {
    let hub = Hub::start().await;
    let pair = hub.register("alice").await;
    assert_eq!(pair["expires_in"], 900);
    let register = |email: &str, password: &str| open(&hub, "/api/v1/auth/register", json!({ "email": email, "password": password }));
    let twice = register("Alice@Mail.example", "another password").await;
    assert_eq!((twice.status, twice.error(), twice.code()), (409, "email already registered", "email_taken"));
    let bad = register("no address", "long enough").await;
    assert_eq!((bad.status, bad.error()), (400, "email: must be an e-mail address"));
    let short = register("bob@mail.example", "short").await;
    assert_eq!(short.status, 400);
    assert!(short.error().starts_with("password"), "{}", short.error());

    for login in ["alice@mail.example", " ALICE@mail.example "] {
        let body = json!({ "email": login, "password": "correct horse battery" });
        assert_eq!(open(&hub, "/api/v1/auth/login", body).await.status, 200);
    }
    for (login, password) in [("alice@mail.example", "wrong password"), ("nobody@mail.example", "correct horse battery")] {
        let refused = open(&hub, "/api/v1/auth/login", json!({ "email": login, "password": password })).await;
        assert_eq!((refused.status, refused.error(), refused.code()), (401, "invalid email or password", "unauthorized"));
    }
}

#[tokio::test]
async fn wrong_types_name_their_member() {
    let hub = Hub::start().await;
    let body = json!({ "email": "a@mail.example", "password": 12345678 });
    let refused = open(&hub, "/api/v1/auth/register", body).await;
    assert_eq!((refused.status, refused.error(), refused.code()), (400, "password: must be a text", "invalid_request"));
    let missing = open(&hub, "/api/v1/auth/login", json!({ "email": "a@mail.example" })).await;
    assert_eq!((missing.status, missing.error()), (400, "password: is required"));
    let garbage = hub.call(Method::POST, "/api/v1/auth/login").body("{").send().await.unwrap();
    assert_eq!(Answer::of(garbage).await.error(), "bad request");
}

#[tokio::test]
async fn a_refresh_token_works_once_and_garbage_never() {
    let hub = Hub::start().await;
    let pair = hub.register("alice").await;
    let refreshed = open(&hub, REFRESH, json!({ "refresh_token": pair["refresh_token"] })).await;
    assert_eq!(refreshed.status, 200);
    let token = refreshed.body["data"]["access_token"].as_str().unwrap();
    assert_eq!(hub.get("/api/v1/me", token).await.body["data"]["email"], "alice@mail.example");
    for spent in [pair["refresh_token"].clone(), json!("garbage"), pair["access_token"].clone()] {
        assert_eq!(open(&hub, REFRESH, json!({ "refresh_token": spent })).await.status, 401);
    }
    // A refresh token is no access token.
    assert_eq!(hub.get("/api/v1/me", pair["refresh_token"].as_str().unwrap()).await.status, 401);
}

#[tokio::test]
async fn of_fifty_parallel_refreshes_one_succeeds() {
    let hub = Hub::start().await;
    let pair = hub.register("alice").await;
    let body = json!({ "refresh_token": pair["refresh_token"] });
    let answers = join_all((0..50).map(|_| open(&hub, REFRESH, body.clone()))).await;
    let successes = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(successes, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 401)));
}

#[tokio::test]
async fn of_fifty_parallel_registrations_one_succeeds() {
    let hub = Hub::start().await;
    let body = json!({ "email": "alice@mail.example", "password": "correct horse battery" });
    // Each hashes a password on purpose slowly; the time limit of quick requests is for the whole queue.
    let answers = join_all((0..50).map(|_| open(&hub, "/api/v1/auth/register", body.clone()))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 49, "{statuses:?}");
}

#[tokio::test]
async fn logout_kills_access_and_refresh_tokens_at_once() {
    let hub = Hub::start().await;
    let pair = hub.register("alice").await;
    let token = pair["access_token"].as_str().unwrap();
    let out = hub.post("/api/v1/auth/logout", token, json!({})).await;
    assert_eq!((out.status, &out.body), (200, &json!({ "message": "logged out successfully" })));
    let after = hub.get("/api/v1/me", token).await;
    assert_eq!((after.status, after.error()), (401, "invalid or expired token"));
    assert_eq!(open(&hub, REFRESH, json!({ "refresh_token": pair["refresh_token"] })).await.status, 401);
    let without = Answer::of(hub.call(Method::POST, "/api/v1/auth/logout").send().await.unwrap()).await;
    assert_eq!((without.status, without.error()), (401, "unauthorized"));
}

#[tokio::test]
async fn a_new_password_ends_every_session_and_replaces_the_old_one() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let change = |old: &str| json!({ "old_password": old, "new_password": "an even better horse" });
    assert_eq!(hub.post("/api/v1/me/password", &token, change("wrong password")).await.status, 401);
    assert_eq!(hub.post("/api/v1/me/password", &token, change("correct horse battery")).await.status, 200);
    assert_eq!(hub.get("/api/v1/me", &token).await.status, 401);
    let login = |password: &str| open(&hub, "/api/v1/auth/login", json!({ "username": "alice", "password": password }));
    assert_eq!(login("correct horse battery").await.status, 401);
    assert_eq!(login("an even better horse").await.status, 200);
}

#[tokio::test]
async fn keys_work_in_both_headers_within_their_scopes_until_they_are_revoked() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let made = hub.post("/api/v1/keys", &token, json!({ "name": "reader", "scopes": ["agents:read"] })).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let secret = made.body["data"]["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("aiox_key_"));
    assert_eq!(hub.get("/api/v1/agents", &secret).await.status, 200);
    let by_header = hub.call(Method::GET, "/api/v1/agents").header("x-api-key", &secret).send().await.unwrap();
    assert_eq!(by_header.status(), 200);
    let refused = hub.post("/api/v1/agents", &secret, json!({ "name": "a", "system_prompt": "b" })).await;
    assert_eq!((refused.status, refused.error()), (403, "this needs the scope agents:write"));
    let listed = hub.get("/api/v1/keys", &token).await;
    assert!(listed.body["data"][0]["secret"].is_null() && !listed.body.to_string().contains(&secret));
    let more = hub.post("/api/v1/keys", &secret, json!({ "name": "more", "scopes": ["agents:write"] })).await;
    assert_eq!(more.status, 403);
    let aliases = hub.post("/api/v1/keys", &token, json!({ "name": "writer", "scopes": ["runs:write", "events:read"] })).await;
    assert_eq!(
        (aliases.status, &aliases.body["data"]["scopes"]),
        (201, &json!(["runs:create", "runs:cancel", "runs:forward", "runs:read"]))
    );
    let writer = aliases.body["data"]["secret"].as_str().unwrap();
    let agent = hub.agent(&token, "A").await;
    assert_eq!(hub.post(&format!("/v1/agents/{agent}/runs"), writer, json!({ "input": "x" })).await.status, 201);
    assert_eq!(hub.get("/v1/agents", writer).await.status, 403);
    let id = made.body["data"]["id"].as_str().unwrap();
    assert_eq!(hub.send(Method::DELETE, &format!("/api/v1/keys/{id}"), &token, json!({})).await.status, 200);
    assert_eq!(hub.get("/api/v1/agents", &secret).await.status, 401);
}

#[tokio::test]
async fn administration_is_for_administrators() {
    let hub = Hub::start().await;
    let (user, admin) = (hub.user("alice").await, hub.admin("root", Role::TenantAdmin).await);
    for path in ["/api/v1/admin/users", "/api/v1/admin/workers"] {
        assert_eq!(hub.get(path, &user).await.status, 403, "{path}");
        assert_eq!(hub.get(path, &admin).await.status, 200, "{path}");
    }
    let new = json!({ "email": "bob@mail.example", "username": "bob", "password": "correct horse battery" });
    let bob = hub.post("/api/v1/admin/users", &admin, new).await;
    assert_eq!((bob.status, &bob.body["data"]["jid"]), (201, &json!("bob@hub-a.example")));
    let too_high = json!({ "email": "eve@mail.example", "password": "correct horse battery", "role": "platform_admin" });
    assert_eq!(hub.post("/api/v1/admin/users", &admin, too_high).await.status, 403);
    let path = format!("/api/v1/admin/users/{}", bob.body["data"]["id"].as_str().unwrap());
    let disabled = hub.send(Method::PATCH, &path, &admin, json!({ "status": "disabled" })).await;
    assert_eq!(disabled.body["data"]["status"], "disabled");
    let login = open(&hub, "/api/v1/auth/login", json!({ "username": "bob", "password": "correct horse battery" })).await;
    assert_eq!(login.status, 401);
    let invite = hub.post("/api/v1/admin/invites", &admin, json!({})).await;
    assert!(invite.body["data"]["invite"].as_str().unwrap().starts_with("aiox_invite_"));
    let worker = hub.connect("w1");
    let workers = hub.get("/api/v1/admin/workers", &admin).await;
    assert_eq!(workers.body["data"]["workers"][0]["worker_id"], worker.info().worker_id.as_str());
}
