//! Request tokens (F1 to F6, F12, F23).

use std::sync::atomic::Ordering;

use aiox_certs::Leaf;
use aiox_crypto::jws::{base64url, sha256};
use aws_lc_rs::hmac;
use serde_json::{Value, json};

use crate::hub::{Hub, Raw, issue, two};

/// A refusal says nothing: 401, a bare challenge, no body. The reason is in the audit log.
async fn refused(raw: &mut Raw, b: &Hub, authorization: Option<&str>, reason: &str) {
    let answer = raw.ask(authorization).await;
    assert_eq!((answer.status, answer.body.as_str()), (401, ""), "{reason}");
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    assert!(b.audit.last().contains(reason), "expected {reason:?}, audit says {:?}", b.audit.last());
}

#[tokio::test]
async fn claims_that_are_not_what_they_must_be_are_refused() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let whole = a.claims(&b, "hello");
    let now = whole["iat"].as_i64().unwrap();
    let cases: Vec<(&str, Value, &str)> = vec![
        ("aud", json!("spiffe://hub-c.example/node/n1"), "audience"),
        ("aud", json!([b.node, "spiffe://hub-c.example/node/n1"]), "audience"),
        ("aud", json!([]), "audience"),
        ("aud", Value::Null, "claims"),
        ("iss", json!("spiffe://hub-c.example/node/n1"), "issuer"),
        ("iss", json!("spiffe://hub-a.example/node/n2"), "issuer"),
        ("sub", json!("spiffe://hub-c.example/node/n1"), "issuer"),
        ("cnf", Value::Null, "bound"),
        ("cnf", json!({ "x5t#S256": sha256(b"another certificate") }), "bound"),
        ("exp", Value::Null, "claims"),
        ("exp", json!(now + 61), "times"),
        ("exp", json!(i64::MAX), "times"),
        ("exp", json!(now), "times"),
        ("exp", json!("soon"), "claims"),
        ("iat", Value::Null, "claims"),
        ("nbf", json!(now + 45), "times"),
        ("scope", json!("deliver"), "another operation"),
        ("scope", Value::Null, "claims"),
        ("jti", json!("AAAAAAAA"), "claims"),
        ("jti", Value::Null, "claims"),
    ];
    for (name, value, reason) in cases {
        let mut claims = a.claims(&b, "hello");
        // Of the same second as what the cases say.
        for time in ["iat", "exp"] {
            claims[time] = whole[time].clone();
        }
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        refused(&mut raw, &b, Some(&a.sign(&claims)), reason).await;
    }
    let mut single = a.claims(&b, "hello");
    single["aud"] = json!([b.node]);
    assert_eq!(raw.ask(Some(&a.sign(&single))).await.status, 200, "a one-element audience is the same as a string");
    assert!(b.guard.used.lock().unwrap().len() == 1, "refused tokens do not fill the replay guard");
}

#[tokio::test]
async fn clocks_may_differ_by_thirty_seconds() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    for (iat, exp, passes) in [(29, 89, true), (32, 92, false), (-89, -29, true), (-91, -31, false)] {
        let mut claims = a.claims(&b, "hello");
        let now = claims["iat"].as_i64().unwrap();
        claims["iat"] = json!(now + iat);
        claims["exp"] = json!(now + exp);
        let status = raw.ask(Some(&a.sign(&claims))).await.status;
        assert_eq!(status, if passes { 200 } else { 401 }, "iat {iat}");
    }
    b.clock.0.store(200, Ordering::SeqCst);
    refused(&mut raw, &b, Some(&a.bearer(&b, "hello")), "times").await;
}

#[tokio::test]
async fn a_token_is_used_once_on_its_own_connection() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    let token = a.bearer(&b, "hello");
    assert_eq!(raw.ask(Some(&token)).await.status, 200);
    refused(&mut raw, &b, Some(&token), "used before").await;
    // Another certificate of the same node, by the same authority.
    let other = issue(&a.authority, &Leaf::federation("hub-a.example", "n1", "127.0.0.1").unwrap());
    let mut other = Raw::connect(b.address, Some(&other)).await.unwrap();
    refused(&mut other, &b, Some(&a.bearer(&b, "hello")), "bound").await;
}

#[tokio::test]
async fn no_guard_no_entry() {
    let (a, b) = two().await;
    b.guard.down.store(true, Ordering::SeqCst);
    refused(&mut a.raw(&b).await, &b, Some(&a.bearer(&b, "hello")), "guard").await;
}

#[tokio::test]
async fn algorithm_tricks_and_other_peers_keys_are_refused() {
    let (a, b) = two().await;
    let c = Hub::start("hub-c.example").await;
    b.trusts(&c, |_| {});
    let mut raw = a.raw(&b).await;
    let kid = &a.token_key.public().kid;
    let typ = aiox_federation::token::TYPE;
    let payload = base64url(a.claims(&b, "hello").to_string().as_bytes());
    let head = |header: Value| base64url(header.to_string().as_bytes());
    let none = format!("Bearer {}.{payload}.", head(json!({ "alg": "none", "kid": kid, "typ": typ })));
    refused(&mut raw, &b, Some(&none), "algorithm").await;
    let signed = format!("{}.{payload}", head(json!({ "alg": "HS256", "kid": kid, "typ": typ })));
    let public = serde_json::to_vec(a.token_key.public()).unwrap();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), signed.as_bytes());
    refused(&mut raw, &b, Some(&format!("Bearer {signed}.{}", base64url(mac.as_ref()))), "algorithm").await;
    for (name, value) in
        [("jwk", json!(c.token_key.public())), ("jku", json!("https://hub-c.example/k")), ("crit", json!(["x"])), ("x5u", json!("u"))]
    {
        let mut header = json!({ "alg": "ES256", "kid": kid, "typ": typ });
        header[name] = value;
        refused(&mut raw, &b, Some(&format!("Bearer {}.{payload}.AAAA", head(header))), "header member").await;
    }
    refused(&mut raw, &b, Some(&c.sign(&a.claims(&b, "hello"))), "key id is not known").await;
    let other_type = a.token_key.sign("JWT", a.claims(&b, "hello").to_string().as_bytes()).unwrap();
    refused(&mut raw, &b, Some(&format!("Bearer {other_type}")), "typ").await;
    for text in ["Bearer ", "Bearer a.b.c", "Basic YTpi", ""] {
        let answer = raw.ask(Some(text)).await;
        assert_eq!((answer.status, answer.body.as_str()), (401, ""), "{text}");
    }
    refused(&mut raw, &b, None, "no bearer").await;
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let (a, b) = two().await;
    b.limiter.0.store(true, Ordering::SeqCst);
    let answer = a.raw(&b).await.ask(Some(&a.bearer(&b, "hello"))).await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (429, "7"));
}

#[tokio::test]
async fn a_forwarded_certificate_header_changes_nothing() {
    let (a, b) = two().await;
    let c = Hub::start("hub-c.example").await;
    b.trusts(&c, |_| {});
    let mut raw = c.raw(&b).await;
    let mut claims = a.claims(&b, "hello");
    // F24: hub C holds a token of hub A and claims to be a proxy in front of it.
    for header in ["x-forwarded-client-cert", "x-client-cert", "forwarded"] {
        claims["jti"] = json!(base64url(uuid::Uuid::new_v4().as_bytes()));
        let request = http::Request::get("https://peer.example/fed/v1/capabilities")
            .header("authorization", a.sign(&claims))
            .header(header, format!("URI={}", a.node))
            .body(http_body_util::Full::default())
            .unwrap();
        raw.sender.ready().await.unwrap();
        assert_eq!(raw.sender.send_request(request).await.unwrap().status(), 401, "{header}");
    }
}
