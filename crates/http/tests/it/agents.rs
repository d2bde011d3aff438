//! Agents, ownership, grants, audit.

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::hub::Hub;

#[tokio::test]
async fn the_life_of_an_agent() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let made = hub.post("/api/v1/agents", &token, json!({ "name": "A", "system_prompt": "Be kind.", "unknown": 1 })).await;
    assert_eq!(made.status, 201);
    let agent = &made.body["data"];
    let id = agent["id"].as_str().unwrap();
    assert_eq!(agent["jid"], format!("agent-{id}@agents.hub-a.example"));
    assert_eq!((&agent["visibility"], &agent["profile"]["system_prompt"]), (&json!("private"), &json!("Be kind.")));
    assert_eq!((&agent["profile"]["encrypted"], &agent["llm_config"]), (&json!(true), &json!({})));

    let path = format!("/api/v1/agents/{id}");
    for path in [path.clone(), format!("{path}/"), format!("/api/v1/agents/{}", aiox_model::AgentId(id.parse().unwrap()))] {
        assert_eq!(hub.get(&path, &token).await.body["data"]["id"], id, "{path}");
    }
    let changed = hub.send(Method::PUT, &path, &token, json!({ "description": "new" })).await;
    assert_eq!((&changed.body["data"]["profile"]["description"], &changed.body["data"]["version"]), (&json!("new"), &json!(2)));
    let list = hub.get("/api/v1/agents?page=x&page_size=0", &token).await;
    assert_eq!((&list.body["total_count"], &list.body["page"], &list.body["page_size"]), (&json!(1), &json!(1), &json!(20)));
    assert_eq!(hub.get("/api/v1/agents?page=99", &token).await.body["data"], json!([]));

    let gone = hub.send(Method::DELETE, &path, &token, json!({})).await;
    assert_eq!((gone.status, &gone.body), (200, &json!({ "message": "agent deleted successfully" })));
    let missing = hub.get(&path, &token).await;
    assert_eq!((missing.status, missing.error()), (404, "agent not found"));
    assert_eq!(hub.get("/api/v1/agents/", &token).await.body["data"], json!([]));
    assert_eq!(hub.post(&format!("{path}/restore"), &token, json!({})).await.status, 200);
    assert_eq!(hub.get(&path, &token).await.status, 200);
}

#[tokio::test]
async fn bad_members_and_ids_are_named() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    for (body, text) in [
        (json!({ "system_prompt": "x" }), "name: is required"),
        (json!({ "name": "x" }), "system_prompt: is required"),
        (json!({ "name": "x", "system_prompt": "y", "llm_config": null }), "llm_config: must be an object"),
        (json!({ "name": ["x"], "system_prompt": "y" }), "name: must be a text"),
    ] {
        let refused = hub.post("/api/v1/agents", &token, body).await;
        assert_eq!((refused.status, refused.error()), (400, text));
    }
    let refused = hub.post("/api/v1/agents", &token, json!({ "name": "", "system_prompt": "y" })).await;
    assert!(refused.status == 400 && refused.error().starts_with("name"), "{}", refused.error());
    let refused =
        hub.post("/api/v1/agents", &token, json!({ "name": "x", "system_prompt": "y", "llm_config": { "temperature": "hot" } })).await;
    assert_eq!((refused.status, refused.error()), (400, "llm_config.temperature: must be a number in its range"));
    let path = format!("/api/v1/agents/{}", hub.agent(&token, "A").await);
    let refused = hub.send(Method::PUT, &path, &token, json!({ "llm_config": null })).await;
    assert_eq!((refused.status, refused.error()), (400, "llm_config: must be an object"));
    let bad = hub.get("/api/v1/agents/not-a-uuid", &token).await;
    assert_eq!((bad.status, bad.error()), (400, "invalid agent ID"));
}

#[tokio::test]
async fn a_foreign_agent_is_403_in_the_tenant_and_404_outside_it() {
    let hub = Hub::start().await;
    let (alice, bob) = (hub.user("alice").await, hub.user("bob").await);
    let id = hub.agent(&alice, "A").await;
    let path = format!("/api/v1/agents/{id}");
    for (method, suffix) in [(Method::GET, ""), (Method::PUT, ""), (Method::DELETE, ""), (Method::GET, "/audit"), (Method::GET, "/grants")]
    {
        let answer = hub.send(method, &format!("{path}{suffix}"), &bob, json!({})).await;
        assert_eq!((answer.status, answer.error()), (403, "access denied: ownership mismatch"));
    }
    // Beyond that list nobody learns that it is there.
    assert_eq!(hub.post(&format!("{path}/chat"), &bob, json!({ "message": "hi" })).await.status, 404);
    assert_eq!(hub.post(&format!("{path}/restore"), &bob, json!({})).await.status, 404);

    // Somebody of another tenant of the same hub.
    let mut tx = hub.store.begin().await.unwrap();
    let other = aiox_store::tenants::ensure(&mut tx, Uuid::now_v7(), "other", aiox_model::Ts::from_micros(1)).await.unwrap();
    tx.commit().await.unwrap();
    let carol = hub.tenant_user("carol", other).await;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = hub.send(method, &path, &carol, json!({})).await;
        assert_eq!((answer.status, answer.error()), (404, "agent not found"));
    }
}

#[tokio::test]
async fn five_users_see_only_their_own_agents() {
    let hub = Hub::start().await;
    let mut users = Vec::new();
    for index in 0..5 {
        let token = hub.user(&format!("user{index}")).await;
        let id = hub.agent(&token, &format!("A{index}")).await;
        users.push((token, id));
    }
    for (token, own) in &users {
        let listed = hub.get("/api/v1/agents", token).await;
        assert_eq!((&listed.body["total_count"], &listed.body["data"][0]["id"]), (&json!(1), &json!(own)));
        for (_, id) in &users {
            let status = hub.get(&format!("/api/v1/agents/{id}"), token).await.status;
            assert_eq!(status, if id == own { 200 } else { 403 });
        }
    }
}

#[tokio::test]
async fn of_concurrent_changes_one_wins() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let path = format!("/api/v1/agents/{}", hub.agent(&token, "A").await);
    let change = |index: usize| hub.send(Method::PUT, &path, &token, json!({ "description": format!("{index}"), "version": 1 }));
    let answers = join_all((0..10).map(change)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(answers.iter().filter(|answer| answer.status != 200).all(|answer| answer.code() == "version_conflict"));
}

#[tokio::test]
async fn a_grant_opens_and_its_end_closes() {
    let hub = Hub::start().await;
    let (alice, bob) = (hub.user("alice").await, hub.user("bob").await);
    let _worker = hub.echo();
    let id = hub.agent(&alice, "A").await;
    let (chat, grants) = (format!("/api/v1/agents/{id}/chat"), format!("/api/v1/agents/{id}/grants"));
    let hello = json!({ "message": "hello" });
    assert_eq!(hub.post(&chat, &bob, hello.clone()).await.status, 404);
    let grant = hub.post(&grants, &alice, json!({ "kind": "user", "grantee": "bob" })).await;
    assert_eq!(grant.status, 201, "{:?}", grant.body);
    assert_eq!(hub.get(&grants, &alice).await.body["data"][0]["grantee"], "bob");
    assert_eq!(hub.post(&chat, &bob, hello.clone()).await.status, 200);
    assert_eq!(hub.get("/api/v1/mesh/agents", &bob).await.body["data"][0]["id"], json!(id));
    let path = format!("{grants}/{}", grant.body["data"]["id"].as_str().unwrap());
    assert_eq!(hub.send(Method::DELETE, &path, &alice, json!({})).await.status, 200);
    assert_eq!(hub.post(&chat, &bob, hello).await.status, 404);
    assert_eq!(hub.get("/api/v1/mesh/agents", &bob).await.body["data"], json!([]));
}

#[tokio::test]
async fn audit_is_filtered_and_own() {
    let hub = Hub::start().await;
    let (alice, bob) = (hub.user("alice").await, hub.user("bob").await);
    let id = hub.agent(&alice, "A").await;
    hub.agent(&alice, "B").await;
    let all = hub.get("/api/v1/governance/audit?event_type=agent.created", &alice).await;
    assert_eq!(all.body["total_count"], 2);
    let of_agent = hub.get(&format!("/api/v1/agents/{id}/audit"), &alice).await;
    assert_eq!((&of_agent.body["total_count"], &of_agent.body["data"][0]["resource_id"]), (&json!(1), &json!(id)));
    assert_eq!(hub.get("/api/v1/governance/audit?severity=error", &alice).await.body["data"], json!([]));
    assert_eq!(hub.get("/api/v1/governance/audit?event_type=agent.created", &bob).await.body["data"], json!([]));
    let bad = hub.get("/api/v1/governance/audit?from=yesterday", &alice).await;
    assert_eq!((bad.status, bad.error()), (400, "from: must be an RFC 3339 time"));
    assert_eq!(hub.get("/api/v1/governance/audit?from=2100-01-01T00:00:00Z", &alice).await.body["data"], json!([]));
}
