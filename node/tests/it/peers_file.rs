//! The peers file: who this hub is, and whom programs are told of.

use serde_json::{Value, json};

use crate::process::{HubProcess, Place, within};

async fn ask(place: &Place, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(60)).build().unwrap();
    let request = client.request(method, format!("http://127.0.0.1:{}{path}", place.http));
    let mut request = request.header("X-Tenant-Id", "tnt_demo").header("X-Principal-Id", "usr_tnt_demo_admin");
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = within(request.send()).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn get(place: &Place, path: &str) -> Value {
    let (status, body) = ask(place, reqwest::Method::GET, path, None).await;
    assert_eq!(status, 200, "{body}");
    body
}

/// Every peer with its standing.
async fn peers(place: &Place) -> Vec<(String, String)> {
    let body = get(place, "/v1/federation/peers").await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    body["peers"].as_array().unwrap().iter().map(|peer| (text(&peer["stack_id"]), text(&peer["health"]["status"]))).collect()
}

fn peer(stack_id: &str, port: u16) -> Value {
    json!({ "stack_id": stack_id, "environment": "local", "region": "eu", "api_versions": ["v1"],
        "endpoints": { "agent-orchestrator_base_url": format!("http://127.0.0.1:{port}") },
        "build": { "version": "1.02", "git_sha": "abc", "timestamp": "2026-01-01T00:00:00Z" } })
}

fn listed(stack_id: &str) -> (String, String) {
    (stack_id.into(), "proposed".into())
}

async fn refused(place: &Place, settings: &[String]) -> String {
    let output = within(place.command(&["serve"], settings).output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[tokio::test]
async fn a_peers_file_says_who_is_who_gives_no_trust_and_is_read_again() {
    let place = Place::new();
    let file = place.file("peers.json");
    let write = |local: Value, peers: Value| std::fs::write(&file, json!({ "local": local, "peers": peers }).to_string()).unwrap();
    let settings = [format!("federation.peers_file={}", file.display())];
    let said = refused(&place, &settings).await;
    assert!(said.contains("federation.peers_file") && said.contains(&file.display().to_string()), "{said}");
    write(peer("stk_local_node_a", 8081), json!([peer("stk_local_node_b", 8084), { "stack_id": 7 }]));
    assert!(refused(&place, &settings).await.contains("/peers/1/stack_id"));

    write(peer("stk_local_node_a", 8081), json!([peer("stk_local_node_a", 8081), peer("stk_local_node_b", 8084)]));
    let environment = [("AGENTOS_REGION", "us".to_owned()), ("AGENTOS_PEERS_FILE", file.display().to_string())];
    let mut hub: HubProcess = place.serve_in(&[], environment).await;
    let own = get(&place, "/v1/federation/peer").await;
    assert_eq!((&own["peer"]["stack_id"], &own["peer"]["region"]), (&json!("stk_local_node_a"), &json!("us")));
    assert_eq!(own["peer"]["environment"], "local");
    assert_eq!(own["peer"]["endpoints"]["agent-orchestrator_base_url"], "http://127.0.0.1:8081");
    assert_eq!(peers(&place).await, [listed("stk_local_node_b")]);
    let all = get(&place, "/v1/federation/peers").await;
    let mut shown = all["peers"][0].clone();
    shown.as_object_mut().unwrap().remove("health");
    assert_eq!(shown, peer("stk_local_node_b", 8084));
    let forward = json!({ "forward": { "agent_id": "agt_demo", "target_selector": { "stack_id": "stk_local_node_b" }, "run": { "input": "hello" } } });
    let (status, body) = ask(&place, reqwest::Method::POST, "/v1/federation/runs:forward", Some(forward)).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("dependency_unavailable")), "named is not trusted");

    std::fs::write(&file, "{ \"peers\": [").unwrap();
    hub.hang_up();
    hub.says("the peers stay as they were").await;
    assert_eq!(peers(&place).await, [listed("stk_local_node_b")]);
    write(peer("stk_local_node_a", 8081), json!([peer("stk_c", 8087)]));
    hub.hang_up();
    hub.says("changed=1 removed=1").await;
    assert_eq!(peers(&place).await, [listed("stk_c")]);
    assert!(!hub.log().contains("counts after a restart"));
    write(peer("stk_other", 8081), json!([peer("stk_c", 8087)]));
    hub.hang_up();
    hub.says("counts after a restart").await;
    hub.terminate();
    assert!(hub.ended().await.0.success());
}
