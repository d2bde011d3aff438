//! Cases of `spec/security.md`: what holds at every door.

use reqwest::Method;
use serde_json::{Value, json};

use super::common::{body_of, make_run, until};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    exchange::has_members,
    scene::Scene,
};

cases! {
    "SEC-001" => headers_of_every_answer,
    "SEC-002" => origins,
    "SEC-003" => sign_in_is_limited @ last,
    "SEC-004" => hostile_bodies,
    "SEC-008" => secrets_do_not_come_back,
    "SEC-009" => everything_leaves_a_record @ slow,
    "SEC-010" => the_record_names_the_authenticated @ slow,
    "SEC-011" => records_of_ones_own,
    "SEC-012" => records_are_chained,
}

const HEADERS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
];

async fn headers_of_every_answer(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let answers = [
        scene.call(Method::GET, "/v1/health").send().await?,
        scene.call(Method::GET, "/health/live").send().await?,
        scene.call(Method::GET, "/nothing-of-this-name").send().await?,
        scene.call(Method::GET, "/v1/nothing-of-this-name").send().await?,
        scene.call(Method::GET, "/v1/agents").send().await?,
        scene.get(&alice, "/v1/agents").await?,
        scene.get(&alice, "/api/v1/me").await?,
        scene.call(Method::POST, "/api/v1/agents").bearer(&alice.access).raw("{").send().await?,
        scene.call(Method::PATCH, "/v1/agents").bearer(&alice.access).send().await?,
    ];
    for answer in answers {
        for (name, wanted) in HEADERS {
            ensure!(answer.header(name) == wanted, "{}: `{name}` is `{}`, expected `{wanted}`", answer.what, answer.header(name));
        }
    }
    Ok(())
}

async fn origins(scene: Scene) -> Outcome {
    let origin = "https://conformance-evil.example";
    for method in [Method::GET, Method::OPTIONS] {
        let call = scene.call(method, "/v1/agents").header("origin", origin).header("access-control-request-method", "GET");
        let answer = call.send().await?;
        let allowed = answer.header("access-control-allow-origin");
        let credentials = answer.header("access-control-allow-credentials");
        ensure!(allowed != origin, "{}: a foreign origin is allowed", answer.what);
        ensure!(!(allowed == "*" && credentials == "true"), "{}: credentials are allowed beside `*`", answer.what);
    }
    Ok(())
}

async fn sign_in_is_limited(scene: Scene) -> Outcome {
    let client = scene.world.other_address(&scene.world.options.target)?;
    let body = json!({ "email": format!("nobody-{}@conformance.example", scene.world.mark), "password": "wrong-password" });
    let mut limited = 0;
    for number in 0..40 {
        let call = scene.call(Method::POST, "/api/v1/auth/login").from(client.clone()).json(&body);
        let call = match number % 3 {
            0 => call.header("x-forwarded-for", &format!("203.0.113.{number}")),
            1 => call.header("x-real-ip", &format!("203.0.113.{number}")),
            _ => call.header("forwarded", &format!("for=203.0.113.{number}")),
        };
        let answer = call.send().await?;
        if answer.status == 429 {
            answer.refused(429, "rate_limited")?;
            ensure!(!answer.header("retry-after").is_empty(), "{}: 429 without `Retry-After`", answer.what);
            limited += 1;
        }
    }
    ensure!(limited >= 15, "only {limited} of 40 attempts to sign in were refused with 429");
    Ok(())
}

async fn hostile_bodies(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let inside = format!("{{\"input\":{deep}}}");
    let noise: Vec<u8> = (0..50_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for path in [format!("/v1/agents/{}/runs", agent.id), "/api/v1/agents".to_owned(), "/v1/models:invoke".to_owned()] {
        for body in [deep.clone().into_bytes(), inside.clone().into_bytes(), noise.clone()] {
            let answer = scene.call(Method::POST, &path).bearer(&alice.access).raw(body).send().await?;
            ensure!([400, 413].contains(&answer.status), "{}: a hostile body was answered by {}", answer.what, answer.status);
        }
    }
    scene.get(&alice, "/v1/agents").await?.expect(200)
}

async fn secrets_do_not_come_back(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let secret = format!("secret-{}", scene.world.mark);
    for (path, body) in [
        ("/api/v1/auth/login", json!({ "email": secret, "password": { "x": secret } })),
        ("/api/v1/auth/refresh", json!({ "refresh_token": secret })),
        ("/api/v1/me/password", json!({ "old_password": secret, "new_password": "x" })),
    ] {
        let client = scene.world.other_address(&scene.world.options.target)?;
        let answer = scene.call(Method::POST, path).from(client).bearer(&alice.access).json(&body).send().await?;
        ensure!(answer.status >= 400, "{}: status {}", answer.what, answer.status);
        ensure!(!body_of(&answer).contains(&secret), "{}: the secret comes back: {}", answer.what, answer.json);
    }
    let answer = scene.call(Method::GET, "/v1/agents").bearer(&secret).send().await?;
    ensure!(!body_of(&answer).contains(&secret), "{}: the token comes back", answer.what);
    Ok(())
}

/// Longest wait for a record to be shown.
const SHOWN: std::time::Duration = std::time::Duration::from_secs(10);

/// The records of a tenant with a correlation id.
async fn records(scene: &Scene, query: &str, correlation: &str) -> Result<Vec<Value>, Stop> {
    let admin = scene.world.admin().await?;
    let page = scene.get(&admin, &format!("/v1/admin/audit?{query}")).await?;
    page.expect(200)?;
    Ok(page.list("/records")?.iter().filter(|record| record["correlation_id"] == json!(correlation)).cloned().collect())
}

async fn everything_leaves_a_record(scene: Scene) -> Outcome {
    let (alice, agent, admin) = (scene.world.alice().await?, scene.world.agent().await?, scene.world.admin().await?);
    let mark = |name: &str| format!("audit-{name}-{}", scene.world.mark);
    let call = |method: Method, path: &str, name: &str| scene.call(method, path).header("x-correlation-id", &mark(name));
    let made = call(Method::POST, &format!("/v1/agents/{}/runs", agent.id), "run")
        .bearer(&alice.access)
        .json(&json!({ "input": "x" }))
        .send()
        .await?;
    made.expect(201)?;
    let denied = call(Method::GET, "/v1/admin/tenants", "denied").bearer(&alice.access).send().await?;
    denied.expect(403)?;
    let tenant = call(Method::POST, "/v1/admin/tenants", "tenant")
        .bearer(&admin.access)
        .json(&json!({ "tenant": { "name": mark("tenant") } }))
        .send()
        .await?;
    tenant.expect(201)?;
    let id = tenant.some_text("/tenant/tenant_id")?;
    scene.world.remember_tenant(&admin, &id);
    for (name, query, action, outcome) in [
        ("run", "action=runs.create", "runs.create", "allowed"),
        ("denied", "outcome=denied", "auth.denied", "denied"),
        ("tenant", "action=tenants.create", "tenants.create", "allowed"),
    ] {
        until(&format!("the record of {name} is shown"), SHOWN, || async { Ok(!records(&scene, query, &mark(name)).await?.is_empty()) })
            .await?;
        let found = records(&scene, query, &mark(name)).await?;
        ensure!(found.len() == 1, "{name} left {} records", found.len());
        has_members(
            "a record",
            &found[0],
            &["time", "tenant_id", "principal_id", "action", "resource", "outcome", "correlation_id"],
            None,
        )?;
        ensure!(found[0]["action"] == json!(action) && found[0]["outcome"] == json!(outcome), "the record of {name} is {}", found[0]);
    }
    Ok(())
}

async fn the_record_names_the_authenticated(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let mark = format!("audit-who-{}", scene.world.mark);
    let body = json!({ "input": "x", "auth": { "principal": { "principal_id": "usr_somebody_else", "principal_type": "user" } } });
    let call = scene.call(Method::POST, &format!("/v1/agents/{}/runs", agent.id)).bearer(&alice.access);
    let made = call.header("x-correlation-id", &mark).header("x-principal-id", "usr_a_third").json(&body).send().await?;
    made.expect(201)?;
    until("the record is shown", SHOWN, || async { Ok(!records(&scene, "action=runs.create", &mark).await?.is_empty()) }).await?;
    let found = records(&scene, "action=runs.create", &mark).await?;
    let who = found[0]["principal_id"].as_str().unwrap_or_default();
    ensure!(!who.is_empty() && who != "usr_somebody_else" && who != "usr_a_third", "the record names {who}");
    Ok(())
}

async fn records_of_ones_own(scene: Scene) -> Outcome {
    let (alice, bob, agent, admin) =
        (scene.world.alice().await?, scene.world.bob().await?, scene.world.agent().await?, scene.world.admin().await?);
    make_run(&scene, &alice, &agent.id, json!({ "input": "x" })).await?;
    let tenant = scene.world.make_tenant("audit").await?;
    let tokens = format!("/v1/admin/tenants/{}/tokens", tenant.id);
    let made = scene.post(&admin, &tokens, &json!({ "name": "auditor", "role": "tenant_admin" })).await?;
    made.expect(201)?;
    let auditor = made.some_text("/token/secret")?;
    let page = scene.call(Method::GET, "/v1/admin/audit").bearer(&auditor).send().await?;
    page.expect(200)?;
    for record in page.list("/records")? {
        ensure!(record["tenant_id"] == json!(tenant.id), "a tenant's administrator sees a record of {}", record["tenant_id"]);
    }
    let me = scene.get(&bob, "/api/v1/me").await?.some_text("/data/id")?;
    let own = scene.get(&bob, "/api/v1/governance/audit?page_size=100").await?;
    own.expect(200)?;
    for record in own.list("/data")? {
        ensure!(record["owner_user_id"] == json!(me), "an account sees a record of {}", record["owner_user_id"]);
    }
    Ok(())
}

async fn records_are_chained(scene: Scene) -> Outcome {
    let admin = scene.world.admin().await?;
    let page = scene.get(&admin, "/v1/admin/audit").await?;
    page.expect(200)?;
    let Some(first) = page.list("/records")?.first() else { return Err(Stop::NotRun("there is no record yet".into())) };
    has_members("a record", first, &["seq", "prev_hash", "hash"], None)
}
