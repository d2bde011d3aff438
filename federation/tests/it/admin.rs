//! The peers' administration over HTTP, as an operator's program uses it.

use aiox_core::Role;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::mesh_hub::{MeshHub, Site};

struct Operator {
    client: Client,
    base: String,
    token: String,
}

impl Operator {
    async fn of(hub: &MeshHub, role: Role) -> Self {
        let name = role.as_str().replace('_', "-");
        let email = format!("{name}@mail.example");
        hub.accounts.seed_user(&email, &name, "correct horse battery".to_owned().into(), role).await.unwrap();
        let login = serde_json::from_value(json!({ "email": email, "password": "correct horse battery" })).unwrap();
        let origin = aiox_app::accounts::Origin { address: None, trace: aiox_model::TraceId(uuid::Uuid::now_v7()) };
        let token = hub.accounts.login(login, origin).await.unwrap().access_token;
        Self { client: Client::builder().no_proxy().build().unwrap(), base: hub.public.clone(), token }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}/api/v1/admin/peers{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

#[tokio::test]
async fn an_operator_leads_a_peer_through_its_life() {
    let (a, b) = (MeshHub::start(Site::new("hub-a.example").await).await, MeshHub::start(Site::new("hub-b.example").await).await);
    let operator = Operator::of(&a, Role::PlatformAdmin).await;
    let get = |path: &'static str| operator.call(Method::GET, path, None);
    let post = |path: &'static str, body: Value| operator.call(Method::POST, path, Some(body));

    let (status, own) = get("/self").await;
    assert_eq!((status, own["data"]["fingerprint"].as_str()), (200, Some(a.federation.publisher().fingerprint().unwrap().as_str())));
    assert_eq!(own["data"]["document"]["domain"], "hub-a.example");

    assert_eq!(get("/hub-b.example").await.1["code"], "not_found");
    assert_eq!(post("", json!({ "domain": "hub-b.example" })).await.0, 400);
    assert_eq!(post("", json!({ "domain": "hub-a.example", "url": b.public })).await.0, 400, "a hub is not its own peer");
    let (status, proposed) = post("", json!({ "domain": "hub-b.example", "url": b.public })).await;
    assert_eq!((status, &proposed["data"]["state"], &proposed["data"]["waiting"]), (200, &json!("proposed"), &json!(0)));
    assert_eq!(post("/hub-b.example/suspend", json!({})).await.1["code"], "peer_state");
    assert_eq!(post("/hub-b.example/confirm", json!({ "fingerprint": "0".repeat(64) })).await.0, 400);
    let (status, active) = post("/hub-b.example/confirm", json!({ "fingerprint": proposed["data"]["fingerprint"] })).await;
    assert_eq!((status, &active["data"]["state"]), (200, &json!("active")));
    assert_eq!(post("/hub-b.example/suspend", json!({})).await.1["data"]["state"], "suspended");
    assert_eq!(post("/hub-b.example/resume", json!({})).await.1["data"]["state"], "active");
    assert_eq!(get("/hub-b.example").await.1["data"]["state"], "active");
    assert_eq!(get("").await.1["data"][0]["domain"], "hub-b.example");
    assert_eq!(operator.call(Method::DELETE, "/hub-b.example", None).await.0, 200);
    assert_eq!(get("/hub-b.example").await.0, 404);
}

#[tokio::test]
async fn only_an_operator_gets_in() {
    let hub = MeshHub::start(Site::new("hub-a.example").await).await;
    let mut operator = Operator::of(&hub, Role::User).await;
    for (method, path) in [(Method::GET, ""), (Method::GET, "/self"), (Method::POST, ""), (Method::DELETE, "/hub-b.example")] {
        let (status, body) = operator.call(method, path, None).await;
        assert_eq!((status, &body["code"]), (403, &json!("forbidden")));
    }
    operator.token = "nonsense".into();
    for path in ["", "/self", "/hub-b.example"] {
        assert_eq!(operator.call(Method::GET, path, None).await.0, 401);
    }
}
