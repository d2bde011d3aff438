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
        self.send(method, &format!("/api/v1/admin/peers{path}"), body).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
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
async fn what_cannot_be_read_is_refused_as_documented() {
    let hub = MeshHub::start(Site::new("hub-a.example").await).await;
    let operator = Operator::of(&hub, Role::PlatformAdmin).await;
    let post = |body: Value| operator.call(Method::POST, "", Some(body));
    for body in [json!(["hub-b.example", "https://localhost:1"]), json!("x"), json!({ "domain": 5, "url": "secret words" })] {
        let (status, told) = post(body).await;
        assert_eq!((status, told["code"].as_str()), (400, Some("invalid_request")), "{told}");
        assert!(!told["error"].as_str().unwrap().contains("secret"), "{told}");
    }
    let (status, told) = post(json!({ "domain": "x".repeat(70_000), "url": "" })).await;
    assert_eq!((status, told["code"].as_str()), (413, Some("too_large")), "{told}");
    // A path that is not UTF-8 names no peer.
    let (status, told) = operator.call(Method::GET, "/%FF", None).await;
    assert_eq!((status, told["code"].as_str()), (404, Some("not_found")), "{told}");
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

#[tokio::test]
async fn a_result_is_published_signed_and_a_peer_can_be_asked_for_one() {
    let (a, b) = (MeshHub::start(Site::new("hub-a.example").await).await, MeshHub::start(Site::new("hub-b.example").await).await);
    let (of_a, of_b) = (Operator::of(&a, Role::PlatformAdmin).await, Operator::of(&b, Role::PlatformAdmin).await);
    let get = async |base: &str| of_a.client.get(format!("{base}/.well-known/aiox-conformance.json")).send().await.unwrap();
    assert_eq!(get(&b.public).await.status(), 404, "nothing is published yet");

    let result = json!({
        "suite": { "name": "aiox-conformance", "version": "1", "digest": "d" },
        "requirements": [{ "id": "RUN-001", "level": "MUST", "profile": "core", "verdict": "pass" }]
    });
    let path = "/api/v1/admin/conformance";
    for wrong in [json!({ "suite": result["suite"], "requirements": [] }), json!({ "requirements": [] }), json!([])] {
        assert_eq!(of_b.send(Method::PUT, path, Some(wrong)).await.0, 400);
    }
    let (status, signed) = of_b.send(Method::PUT, path, Some(result)).await;
    assert_eq!((status, &signed["data"]["domain"], &signed["data"]["build"]), (200, &json!("hub-b.example"), &json!("a-program")));
    let served: Value = get(&b.public).await.json().await.unwrap();
    assert_eq!(served, signed["data"]);

    of_a.call(Method::POST, "", Some(json!({ "domain": "hub-b.example", "url": b.public }))).await;
    let fingerprint = of_a.call(Method::GET, "/hub-b.example", None).await.1["data"]["fingerprint"].clone();
    of_a.call(Method::POST, "/hub-b.example/confirm", Some(json!({ "fingerprint": fingerprint }))).await;
    let require = async |rule: Value| of_a.call(Method::PUT, "/hub-b.example/conformance", Some(rule)).await;
    assert_eq!(require(json!({ "profiles": ["gold"], "max_age_days": 30 })).await.0, 400);
    assert_eq!(require(json!({ "profiles": ["core"] })).await.0, 400);
    let (status, peer) = require(json!({ "profiles": ["core"], "max_age_days": 30 })).await;
    assert_eq!((status, &peer["data"]["state"], &peer["data"]["conformance"]["problem"]), (200, &json!("active"), &Value::Null));
    let (status, peer) = require(json!({ "profiles": ["federation"], "max_age_days": 30 })).await;
    assert_eq!((status, &peer["data"]["state"]), (200, &json!("stale")), "it was not judged for that profile");
    assert_eq!(peer["data"]["conformance"]["problem"], "these requirements did not pass: FED-001");
    let (status, peer) = of_a.call(Method::DELETE, "/hub-b.example/conformance", None).await;
    assert_eq!((status, &peer["data"]["state"]), (200, &json!("active")));
    assert_eq!(of_a.call(Method::DELETE, "/hub-c.example/conformance", None).await.0, 404);
}
