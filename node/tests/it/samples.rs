//! What a hub has from the start, as its mode says.

use std::{process::Stdio, time::Duration};

use aiox_store::{Store, StoreOptions, agents, tenants};
use aiox_worker::Credential;

use crate::process::{KEY, Place, within};

/// A request of somebody whom nobody has registered.
fn ask(place: &Place, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
    let request = client.request(method, format!("http://127.0.0.1:{}{path}", place.http));
    request.header("x-tenant-id", "tnt_demo").header("x-principal-id", "usr_1")
}

async fn post(place: &Place, path: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
    let response = ask(place, reqwest::Method::POST, path).json(&body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn a_hub_for_trying_out_has_agents_that_answer_without_a_provider() {
    let place = Place::new();
    for start in 0..2 {
        let hub = place.serve().await;
        let _worker = place.worker(Credential::ApiKey(KEY.into()), None);
        for agent in ["agt_demo", "agt_sample_echo_v1"] {
            let (status, made) = post(&place, &format!("/v1/agents/{agent}/runs"), serde_json::json!({ "input": "hello demo" })).await;
            assert_eq!(status, 201, "{start} {agent}: {made}");
            let events = ask(&place, reqwest::Method::GET, made["run"]["events_url"].as_str().unwrap());
            let events = within(async { events.send().await.unwrap().text().await.unwrap() }).await;
            assert!(events.contains("agentos.run.completed") && events.contains("hello demo"), "{start} {agent}: {events}");
        }
        hub.terminate();
        assert!(hub.ended().await.0.success());
    }
}

#[tokio::test]
async fn a_hub_in_production_has_none() {
    let place = Place::new();
    let certs = place.file("certs");
    let create = ["certs", "create", "--domain", "hub-a.example", "--host", "localhost", "--dir"];
    let made =
        within(tokio::process::Command::new(env!("CARGO_BIN_EXE_aiox")).args(create).arg(&certs).stdout(Stdio::null()).status()).await;
    assert!(made.unwrap().success());
    let secret = |name: &str, text: &str| {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
        let path = place.file(name);
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path.display().to_string()
    };
    let settings = [
        "hub.mode=prod".to_owned(),
        "http.behind_tls_proxy=true".to_owned(),
        format!("grpc.tls_cert={}", certs.join("grpc.pem").display()),
        format!("grpc.tls_key={}", certs.join("grpc.key").display()),
        format!("auth.access_secret_file={}", secret("access", &"a".repeat(64))),
        format!("auth.refresh_secret_file={}", secret("refresh", &"b".repeat(64))),
        format!("auth.encryption_key_file={}", secret("master", &"ab".repeat(32))),
    ];
    let hub = place.serve_with(&settings).await;
    hub.terminate();
    assert!(hub.ended().await.0.success());
    let store = Store::open(StoreOptions::Sqlite(place.file("data").join("aiox.sqlite"))).await.unwrap();
    let mut db = store.read().await.unwrap();
    assert_eq!(tenants::by_name(&mut db, "tnt_demo").await.unwrap(), None);
    assert!(agents::by_name(&mut db, "agt_demo").await.unwrap().is_none());
}
