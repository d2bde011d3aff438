//! Programs whose tokens somebody else signs, and the ports that they may expect.

use std::time::{SystemTime, UNIX_EPOCH};

use aiox_crypto::jws::SigningKey;
use serde_json::{Value, json};

use crate::process::{Place, within};

/// A new key, with the file that it was made in removed again.
fn key(place: &Place) -> SigningKey {
    let file = place.file("issuer.key");
    let pem = aiox_certs::create_signing_key().unwrap();
    aiox_certs::write_private("test", &file, pem.as_bytes(), aiox_certs::Overwrite::Replace).unwrap();
    SigningKey::from_pkcs8(aiox_certs::load_key("test", &file).unwrap().secret_der()).unwrap()
}

fn claims() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({ "iss": "https://login.example", "aud": ["api", "hub-a.example"], "exp": now + 60, "tid": "default", "sub": "svc_1",
        "scope": "agents:read runs:write tenants:admin", "subject_type": "service" })
}

fn token(key: &SigningKey, claims: &Value) -> String {
    key.sign("JWT", claims.to_string().as_bytes()).unwrap()
}

async fn get(port: u16, path: &str, bearer: Option<&str>) -> (u16, Value) {
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(60)).build().unwrap();
    let mut request = client.get(format!("http://127.0.0.1:{port}{path}"));
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    let response = within(request.send()).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_configured_issuers_tokens_work_at_v1_on_every_port_and_no_others_do() {
    let place = Place::new();
    let (good, stranger) = (key(&place), key(&place));
    let keys = place.file("partner.jwks.json");
    std::fs::write(&keys, json!({ "keys": [good.public()] }).to_string()).unwrap();
    let models = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = [
        format!("http.ports.model_policy={models}"),
        "auth.issuers.partner.issuer=https://login.example".to_owned(),
        format!("auth.issuers.partner.jwks_file={}", keys.display()),
        "auth.issuers.partner.tenants=[\"default\"]".to_owned(),
        "auth.issuers.partner.scopes=[\"runs:write\", \"agents:read\"]".to_owned(),
    ];
    let _hub = place.serve_with(&settings).await;
    assert_eq!(get(place.http, "/v1/health", None).await.1["service"], "agent-orchestrator");
    assert_eq!(get(models, "/v1/health", None).await.1["service"], "model-policy");

    let mine = token(&good, &claims());
    for port in [place.http, models] {
        let (status, body) = get(port, "/v1/agents", Some(&mine)).await;
        assert_eq!(status, 200, "{body}");
    }
    // What the entry does not give, no token has; what the token does not name, neither.
    assert_eq!(get(place.http, "/v1/models", Some(&mine)).await.0, 403);
    assert_eq!(get(place.http, "/v1/admin/tenants", Some(&mine)).await.0, 403);
    assert_eq!(get(place.http, "/api/v1/agents", Some(&mine)).await.0, 401, "such tokens are known at /v1 alone");

    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        token(&good, &claims)
    };
    let mut silent = claims();
    silent.as_object_mut().unwrap().remove("scope");
    assert_eq!(get(place.http, "/v1/agents", Some(&token(&good, &silent))).await.0, 403);
    let (head, rest) = mine.split_once('.').unwrap();
    for (what, bad) in [
        ("another key", token(&stranger, &claims())),
        ("another issuer", with("iss", json!("https://other.example"))),
        ("another audience", with("aud", json!("hub-b.example"))),
        ("expired", with("exp", json!(1_000_000_000))),
        ("no end", with("exp", Value::Null)),
        ("no such tenant", with("tid", json!("tnt_none"))),
        ("no tenant", with("tid", Value::Null)),
        ("no subject", with("sub", Value::Null)),
        ("another header", format!("{}A.{rest}", &head[..head.len() - 1])),
        ("unsigned", format!("eyJhbGciOiJub25lIn0.{}.", rest.split_once('.').unwrap().0)),
    ] {
        let (status, body) = get(place.http, "/v1/agents", Some(&bad)).await;
        assert_eq!((status, body["error"]["code"].as_str()), (401, Some("unauthorized")), "{what}: {body}");
    }
}

#[tokio::test]
async fn keys_that_cannot_be_trusted_stop_the_start_and_are_named() {
    let place = Place::new();
    let keys = place.file("partner.jwks.json");
    for text in ["", "{}", r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#] {
        std::fs::write(&keys, text).unwrap();
        let settings = [
            "auth.issuers.partner.issuer=https://login.example".to_owned(),
            format!("auth.issuers.partner.jwks_file={}", keys.display()),
            "auth.issuers.partner.tenants=[\"*\"]".to_owned(),
        ];
        let output = within(place.command(&["serve"], &settings).output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("auth.issuers.partner") && said.contains(&keys.display().to_string()), "{said}");
    }
}
