//! Cases of `spec/tenancy.md`: tenants, identities, credentials, scopes, accounts.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::common::{agent_with, body_of, ended, make_run};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    exchange::Answer,
    scene::{Call, Scene},
    world::{Account, Tenant},
};

cases! {
    "TEN-001" => answers_name_the_tenant,
    "TEN-002" => two_tenants_are_refused,
    "TEN-003" => no_tenant_at_all,
    "TEN-004" => an_unknown_tenant,
    "TEN-005" => a_disabled_tenant,
    "TEN-006" => another_tenants_things_look_missing,
    "TEN-007" => forms_of_a_tenant,
    "TEN-008" => an_id_twice,
    "TEN-009" => tokens_of_a_tenant,
    "TEN-010" => the_demo_tenant,
    "TEN-011" => without_a_credential,
    "TEN-012" => forms_of_a_credential,
    "TEN-013" => one_credential_for_both_surfaces,
    "TEN-014" => bad_tokens,
    "TEN-015" => a_bad_credential_never_falls_back,
    "TEN-016" => header_identity_outside_of_prod,
    "TEN-017" => header_identity_in_prod,
    "TEN-018" => no_administrator_by_header,
    "TEN-019" => scopes_are_those_of_the_credential,
    "TEN-020" => registering,
    "TEN-021" => addresses_without_case,
    "TEN-022" => a_failed_login_tells_nothing,
    "TEN-023" => a_refresh_token_works_once,
    "TEN-024" => a_stolen_refresh_token_ends_the_session @ slow,
    "TEN-025" => logging_out,
    "TEN-026" => keys,
    "TEN-027" => administration_is_for_administrators,
    "TEN-028" => two_forms_of_an_id,
    "TEN-029" => times,
}

/// A call that is limited per address goes out from an address of its own.
fn fresh(scene: &Scene, method: Method, path: &str) -> Result<Call, Stop> {
    let client = scene.world.other_address(&scene.world.options.target)?;
    Ok(scene.call(method, path).from(client))
}

async fn answers_name_the_tenant(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let made = scene.post(&alice, &format!("/v1/agents/{}/runs", agent.id), &json!({ "input": "x" })).await?;
    made.expect(201)?;
    let tenant = made.some_text("/run/tenant_id")?;
    for answer in [made, scene.get(&alice, "/v1/agents").await?, scene.get(&alice, &format!("/v1/agents/{}", agent.id)).await?] {
        ensure!(
            answer.header("x-tenant-id") == tenant,
            "{}: `X-Tenant-Id` is `{}`, expected {tenant}",
            answer.what,
            answer.header("x-tenant-id")
        );
    }
    Ok(())
}

async fn two_tenants_are_refused(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let other = "tnt_00000000000000000000000000";
    let run = || scene.call(Method::POST, &format!("/v1/agents/{}/runs", agent.id)).bearer(&alice.access);
    run().header("x-tenant-id", other).json(&json!({ "input": "x" })).send().await?.refused(400, "tenant_mismatch")?;
    run().json(&json!({ "input": "x", "auth": { "tenant_id": other } })).send().await?.refused(400, "tenant_mismatch")?;
    let tenant = scene.get(&alice, "/v1/agents").await?.header("x-tenant-id").to_owned();
    let both = run().header("x-tenant-id", &tenant).json(&json!({ "input": "x", "auth": { "tenant_id": other } }));
    both.send().await?.refused(400, "tenant_mismatch")?;
    run().header("x-tenant-id", &tenant).json(&json!({ "input": "x", "auth": { "tenant_id": tenant } })).send().await?.expect(201)
}

/// Whether this hub serves a header identity, as in the modes `dev` and `demo`.
async fn header_identity(scene: &Scene) -> Result<Option<Answer>, Stop> {
    let tenant = scene.get(&scene.world.alice().await?, "/v1/agents").await?.header("x-tenant-id").to_owned();
    let call = scene.call(Method::GET, "/v1/agents").header("x-tenant-id", &tenant).header("x-principal-id", "usr_conformance");
    let answer = call.send().await?;
    Ok((answer.status != 401).then_some(answer))
}

fn not_in_prod() -> Stop {
    Stop::NotRun("the hub takes no header identity: it is in mode prod".into())
}

async fn no_tenant_at_all(scene: Scene) -> Outcome {
    if header_identity(&scene).await?.is_none() {
        return Err(not_in_prod());
    }
    let answer = scene.call(Method::GET, "/v1/agents").header("x-principal-id", "usr_conformance").send().await?;
    if answer.status == 200 {
        return Err(Stop::NotRun("the hub has a default tenant".into()));
    }
    answer.refused(400, "invalid_request")
}

async fn an_unknown_tenant(scene: Scene) -> Outcome {
    if header_identity(&scene).await?.is_none() {
        return Err(not_in_prod());
    }
    let call = scene.call(Method::GET, "/v1/agents").header("x-principal-id", "usr_conformance");
    call.header("x-tenant-id", "tnt_00000000000000000000000000").send().await?.refused(403, "tenant_unknown")
}

fn as_service(scene: &Scene, tenant: &Tenant, method: Method, path: &str) -> Call {
    scene.call(method, path).bearer(&tenant.secret)
}

async fn a_disabled_tenant(scene: Scene) -> Outcome {
    let admin = scene.world.admin().await?;
    let tenant = scene.world.make_tenant("disabled").await?;
    let path = format!("/v1/admin/tenants/{}", tenant.id);
    as_service(&scene, &tenant, Method::GET, "/v1/agents").send().await?.expect(200)?;
    scene.post(&admin, &format!("{path}:disable"), &json!({})).await?.expect(200)?;
    for path in ["/v1/agents", "/v1/runs/run_00000000000000000000000000", "/v1/models"] {
        as_service(&scene, &tenant, Method::GET, path).send().await?.refused(403, "forbidden")?;
    }
    scene.post(&admin, &format!("{path}:enable"), &json!({})).await?.expect(200)?;
    as_service(&scene, &tenant, Method::GET, "/v1/agents").send().await?.expect(200)
}

async fn another_tenants_things_look_missing(scene: Scene) -> Outcome {
    let (alice, agent, tenant) = (scene.world.alice().await?, scene.world.agent().await?, scene.world.tenant().await?);
    let run = make_run(&scene, &alice, &agent.id, json!({ "input": "mine" })).await?;
    ended(&scene, &alice, &run).await?;
    let (no_run, no_agent) = ("run_00000000000000000000000000", "00000000-0000-7000-8000-000000000000");
    for (real, missing) in [
        (format!("/v1/runs/{run}"), format!("/v1/runs/{no_run}")),
        (format!("/v1/runs/{run}/events"), format!("/v1/runs/{no_run}/events")),
        (format!("/v1/agents/{}", agent.id), format!("/v1/agents/{no_agent}")),
    ] {
        let (real, missing) = (
            as_service(&scene, &tenant, Method::GET, &real).send().await?,
            as_service(&scene, &tenant, Method::GET, &missing).send().await?,
        );
        for answer in [&real, &missing] {
            answer.refused(404, "not_found")?;
        }
        ensure!(
            real.at("/error") == missing.at("/error"),
            "{}: another tenant's object is told apart from a missing one: {} and {}",
            real.what,
            real.json,
            missing.json
        );
    }
    let cancel = as_service(&scene, &tenant, Method::POST, &format!("/v1/runs/{run}:cancel")).send().await?;
    cancel.refused(404, "not_found")
}

async fn forms_of_a_tenant(scene: Scene) -> Outcome {
    let admin = scene.world.admin().await?;
    for form in ["tenant", "tenant_create", ""] {
        let bare = json!({ "name": format!("Conformance {} {form}", scene.world.mark) });
        let body = if form.is_empty() { bare } else { json!({ form: bare }) };
        let made = scene.post(&admin, "/v1/admin/tenants", &body).await?;
        made.expect(201)?;
        made.members("", &["tenant", "correlation_id"], Some(&[]))?;
        let id = made.some_text("/tenant/tenant_id")?;
        scene.world.remember_tenant(&admin, &id);
        let read = scene.get(&admin, &format!("/v1/admin/tenants/{id}")).await?;
        read.expect(200)?;
        read.equals("/tenant", made.at("/tenant"))?;
        ensure!(listed(&scene, &admin, &id).await?, "the tenant {id} is not in the list");
    }
    Ok(())
}

async fn listed(scene: &Scene, admin: &Account, id: &str) -> Result<bool, Stop> {
    let mut path = "/v1/admin/tenants".to_owned();
    loop {
        let page = scene.get(admin, &path).await?;
        page.expect(200)?;
        if page.list("/tenants")?.iter().any(|tenant| tenant["tenant_id"] == json!(id)) {
            return Ok(true);
        }
        let Some(cursor) = page.at("/next_cursor").as_str() else { return Ok(false) };
        path = format!("/v1/admin/tenants?cursor={cursor}");
    }
}

async fn an_id_twice(scene: Scene) -> Outcome {
    let (admin, tenant) = (scene.world.admin().await?, scene.world.tenant().await?);
    let before = scene.get(&admin, &format!("/v1/admin/tenants/{}", tenant.id)).await?;
    let again = json!({ "tenant": { "tenant_id": tenant.id, "name": "another name" } });
    scene.post(&admin, "/v1/admin/tenants", &again).await?.refused(409, "conflict")?;
    let after = scene.get(&admin, &format!("/v1/admin/tenants/{}", tenant.id)).await?;
    after.equals("/tenant", before.at("/tenant"))
}

async fn tokens_of_a_tenant(scene: Scene) -> Outcome {
    let admin = scene.world.admin().await?;
    let tenant = scene.world.make_tenant("tokens").await?;
    let tokens = format!("/v1/admin/tenants/{}/tokens", tenant.id);
    let made = scene.post(&admin, &tokens, &json!({ "name": "conformance" })).await?;
    made.expect(201)?;
    let (id, first) = (made.some_text("/token/token_id")?, made.some_text("/token/secret")?);
    let works = |secret: String| scene.call(Method::GET, "/v1/agents").bearer(&secret).send();
    works(first.clone()).await?.expect(200)?;
    for path in [tokens.clone(), format!("/v1/admin/tenants/{}", tenant.id)] {
        let later = scene.get(&admin, &path).await?;
        ensure!(!body_of(&later).contains(&first), "{}: a later answer holds the secret", later.what);
    }
    let rotated = scene.post(&admin, &format!("{tokens}/{id}:rotate"), &json!({})).await?;
    rotated.expect(200)?;
    let second = rotated.some_text("/token/secret")?;
    ensure!(second != first, "{}: the secret is the old one", rotated.what);
    works(first).await?.refused(401, "unauthorized")?;
    works(second.clone()).await?.expect(200)?;
    scene.call(Method::DELETE, &format!("{tokens}/{id}")).bearer(&admin.access).send().await?.expect(200)?;
    works(second).await?.refused(401, "unauthorized")
}

async fn the_demo_tenant(scene: Scene) -> Outcome {
    if header_identity(&scene).await?.is_none() {
        return Err(not_in_prod());
    }
    let demo =
        |method: Method, path: &str| scene.call(method, path).header("x-tenant-id", "tnt_demo").header("x-principal-id", "usr_conformance");
    for agent in ["agt_demo", "agt_sample_echo_v1"] {
        let shown = demo(Method::GET, &format!("/v1/agents/{agent}")).send().await?;
        shown.expect(200)?;
        shown.equals("/agent/status", &json!("active"))?;
        let made = demo(Method::POST, &format!("/v1/agents/{agent}/runs")).json(&json!({ "input": "hello demo" })).send().await?;
        made.expect(201)?;
        let run = made.some_text("/run/run_id")?;
        demo(Method::GET, &format!("/v1/runs/{run}/events")).open().await?.read_to_end(super::common::END).await?;
        let read = demo(Method::GET, &format!("/v1/runs/{run}")).send().await?;
        read.equals("/run/status", &json!("completed"))?;
    }
    Ok(())
}

async fn without_a_credential(scene: Scene) -> Outcome {
    for (method, path) in [
        (Method::GET, "/v1/agents"),
        (Method::GET, "/v1/runs/run_00000000000000000000000000"),
        (Method::POST, "/v1/agents/agt_00000000000000000000000000/runs"),
        (Method::GET, "/v1/models"),
        (Method::GET, "/v1/admin/tenants"),
        (Method::GET, "/api/v1/me"),
        (Method::GET, "/api/v1/agents"),
        (Method::PATCH, "/v1/agents"),
        (Method::PATCH, "/api/v1/agents"),
    ] {
        scene.call(method, path).send().await?.refused(401, "unauthorized")?;
    }
    Ok(())
}

async fn new_key(scene: &Scene, who: &Account, scopes: Value) -> Result<(String, String), Stop> {
    let body = if scopes.is_null() { json!({ "name": "conformance" }) } else { json!({ "name": "conformance", "scopes": scopes }) };
    let made = scene.post(who, "/api/v1/keys", &body).await?;
    made.expect(201)?;
    let (id, secret) = (made.some_text("/data/id")?, made.some_text("/data/secret")?);
    scene.world.remember(&scene.world.options.target, who, &format!("/api/v1/keys/{id}"));
    Ok((id, secret))
}

async fn forms_of_a_credential(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let (_, key) = new_key(&scene, &alice, Value::Null).await?;
    for path in ["/v1/agents", "/api/v1/agents"] {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            for secret in [&alice.access, &key] {
                scene.call(Method::GET, path).header("authorization", &format!("{scheme} {secret}")).send().await?.expect(200)?;
            }
        }
        scene.call(Method::GET, path).header("x-api-key", &key).send().await?.expect(200)?;
    }
    Ok(())
}

async fn one_credential_for_both_surfaces(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let (_, key) = new_key(&scene, &alice, Value::Null).await?;
    let run = make_run(&scene, &alice, &agent.id, json!({ "input": "x" })).await?;
    for secret in [&alice.access, &key] {
        for path in [format!("/v1/runs/{run}"), format!("/api/v1/runs/{run}")] {
            scene.call(Method::GET, &path).bearer(secret).send().await?.expect(200)?;
        }
    }
    Ok(())
}

/// A token with another header or other claims, and the signature of the true one.
fn altered(token: &str, header: Option<Value>, change: impl FnOnce(&mut Value)) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if let Some(header) = header {
        parts[0] = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
    }
    if let Some(mut claims) = parts.get(1).and_then(|part| decode(part)) {
        change(&mut claims);
        parts[1] = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    }
    parts.join(".")
}

async fn bad_tokens(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let none = altered(&alice.access, Some(json!({ "alg": "none", "typ": "JWT" })), |_| {});
    let unsigned = format!("{}.", none.rsplit_once('.').map_or("", |(start, _)| start));
    let bad = [
        "x".to_owned(),
        "a.b.c".to_owned(),
        none,
        unsigned,
        altered(&alice.access, Some(json!({ "alg": "HS384", "typ": "JWT" })), |_| {}),
        altered(&alice.access, Some(json!({ "alg": "RS256", "typ": "JWT" })), |_| {}),
        altered(&alice.access, None, |claims| claims["exp"] = json!(4_000_000_000_u64)),
        altered(&alice.access, None, |claims| {
            claims.as_object_mut().map(|claims| claims.remove("exp"));
        }),
        altered(&alice.access, None, |claims| claims["aud"] = json!("somebody-else")),
        alice.refresh.clone(),
    ];
    for token in bad {
        for path in ["/v1/agents", "/api/v1/me"] {
            scene.call(Method::GET, path).bearer(&token).send().await?.refused(401, "unauthorized")?;
        }
    }
    let exchange = fresh(&scene, Method::POST, "/api/v1/auth/refresh")?.json(&json!({ "refresh_token": alice.access })).send().await?;
    exchange.refused(401, "unauthorized")
}

async fn a_bad_credential_never_falls_back(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let tenant = scene.get(&alice, "/v1/agents").await?.header("x-tenant-id").to_owned();
    let identity = || scene.call(Method::GET, "/v1/agents").header("x-tenant-id", &tenant).header("x-principal-id", "usr_conformance");
    identity().bearer("not-valid").send().await?.refused(401, "unauthorized")?;
    identity().header("x-api-key", "not-valid").send().await?.refused(401, "unauthorized")?;
    identity().header("authorization", "Basic eDp5").send().await?.refused(401, "unauthorized")
}

async fn header_identity_outside_of_prod(scene: Scene) -> Outcome {
    let Some(answer) = header_identity(&scene).await? else { return Err(not_in_prod()) };
    answer.expect(200)?;
    let tenant = answer.header("x-tenant-id").to_owned();
    let call = |path: &str| scene.call(Method::GET, path).header("x-tenant-id", &tenant).header("x-principal-id", "usr_conformance");
    call("/v1/models").send().await?.expect(200)?;
    call("/v1/runs/run_00000000000000000000000000").send().await?.refused(404, "not_found")?;
    let admin = call("/v1/admin/tenants").send().await?;
    ensure!([401, 403].contains(&admin.status), "{}: a header identity reached the administration: {}", admin.what, admin.status);
    Ok(())
}

async fn header_identity_in_prod(scene: Scene) -> Outcome {
    if !scene.world.options.production {
        return Err(Stop::NotRun("nobody said that the hub is in mode prod (--production)".into()));
    }
    let tenant = scene.get(&scene.world.alice().await?, "/v1/agents").await?.header("x-tenant-id").to_owned();
    for (method, path, body) in [
        (Method::GET, "/v1/agents", None),
        (Method::GET, "/v1/models", None),
        (Method::POST, "/v1/agents/x/runs", Some(json!({ "input": "x" }))),
    ] {
        let call = scene.call(method, path).header("x-tenant-id", &tenant).header("x-principal-id", "usr_conformance");
        let call = call.header("x-subject-type", "service").header("x-scopes", "agents:read runs:create");
        let call = match &body {
            Some(body) => call.json(body),
            None => call,
        };
        call.send().await?.refused(401, "unauthorized")?;
    }
    Ok(())
}

async fn no_administrator_by_header(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let tenant = scene.get(&alice, "/v1/agents").await?.header("x-tenant-id").to_owned();
    for path in ["/v1/admin/tenants", "/v1/admin/audit"] {
        let call = scene.call(Method::GET, path).header("x-tenant-id", &tenant).header("x-principal-id", "usr_conformance");
        let answer = call.header("x-scopes", "tenants:admin").header("x-subject-type", "service").send().await?;
        ensure!([401, 403].contains(&answer.status), "{}: a header opened the administration: {}", answer.what, answer.status);
        let account = scene.call(Method::GET, "/v1/admin/tenants").bearer(&alice.access).header("x-scopes", "tenants:admin").send().await?;
        account.refused(403, "forbidden")?;
    }
    Ok(())
}

async fn scopes_are_those_of_the_credential(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let (_, reader) = new_key(&scene, &alice, json!(["runs:read", "agents:read"])).await?;
    let run = |key: &str| scene.call(Method::POST, &format!("/v1/agents/{}/runs", agent.id)).bearer(key);
    scene.call(Method::GET, "/v1/agents").bearer(&reader).send().await?.expect(200)?;
    run(&reader).json(&json!({ "input": "x" })).send().await?.refused(403, "forbidden")?;
    run(&reader)
        .header("x-scopes", "runs:create")
        .json(&json!({ "input": "x", "auth": { "scopes": ["runs:create"] } }))
        .send()
        .await?
        .refused(403, "forbidden")?;
    let (_, writer) = new_key(&scene, &alice, json!(["runs:write", "events:read", "agents:read"])).await?;
    let made = run(&writer).json(&json!({ "input": "x" })).send().await?;
    made.expect(201)?;
    let id = made.some_text("/run/run_id")?;
    scene.call(Method::GET, &format!("/v1/runs/{id}")).bearer(&writer).send().await?.expect(200)
}

async fn registering(scene: Scene) -> Outcome {
    let email = |name: &str| format!("{name}-{}-{}@conformance.example", scene.world.mark, &uuid::Uuid::new_v4().simple().to_string()[..6]);
    let register = |email: String, password: String| {
        let mut body = json!({ "email": email, "password": password });
        if let Some(invite) = &scene.world.options.invite {
            body["invite"] = json!(invite);
        }
        let call = fresh(&scene, Method::POST, "/api/v1/auth/register").map(|call| call.json(&body));
        async move { call?.send().await }
    };
    let made = register(email("reg"), "12345678".into()).await?;
    made.expect(201)?;
    made.members("/data", &["access_token", "refresh_token", "expires_in"], None)?;
    for (address, password, member) in [
        (email("short"), "1234567".to_owned(), "password"),
        (email("long"), "x".repeat(257), "password"),
        ("no-address".to_owned(), "12345678".to_owned(), "email"),
        (String::new(), "12345678".to_owned(), "email"),
    ] {
        let answer = register(address, password).await?;
        answer.refused(400, "invalid_request")?;
        ensure!(answer.text("/error").contains(member), "{}: the text does not name `{member}`: {}", answer.what, answer.at("/error"));
    }
    Ok(())
}

async fn addresses_without_case(scene: Scene) -> Outcome {
    let carol = scene.world.register("Case").await?;
    let mut body = json!({ "email": carol.email.to_uppercase(), "password": "another-secret" });
    if let Some(invite) = &scene.world.options.invite {
        body["invite"] = json!(invite);
    }
    fresh(&scene, Method::POST, "/api/v1/auth/register")?.json(&body).send().await?.refused(409, "email_taken")?;
    let name = format!("once-{}", scene.world.mark);
    let bodies: Vec<Value> = (0..10)
        .map(|index| {
            let mut body = json!({ "email": format!("{name}@conformance.example"), "username": format!("{name}-{index}"), "password": "another-secret" });
            if let Some(invite) = &scene.world.options.invite {
                body["invite"] = json!(invite);
            }
            body
        })
        .collect();
    let mut sent = Vec::new();
    for body in &bodies {
        sent.push(fresh(&scene, Method::POST, "/api/v1/auth/register")?.json(body).send());
    }
    let answers = try_join_all(sent).await?;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    ensure!(made == 1, "{made} of 10 registrations of one address at once were accepted");
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        refused.refused(409, "email_taken")?;
    }
    Ok(())
}

async fn a_failed_login_tells_nothing(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let login = |email: String| {
        let call = fresh(&scene, Method::POST, "/api/v1/auth/login")
            .map(|call| call.json(&json!({ "email": email, "password": "wrong-password" })));
        async move { call?.send().await }
    };
    let (known, unknown) = (login(alice.email.clone()).await?, login(format!("nobody-{}@conformance.example", scene.world.mark)).await?);
    for answer in [&known, &unknown] {
        answer.refused(401, "unauthorized")?;
        answer.equals("/error", &json!("invalid email or password"))?;
    }
    let names = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>();
    ensure!(names(&known) == names(&unknown), "the headers of the two differ: {:?} and {:?}", names(&known), names(&unknown));
    ensure!(known.bytes.len() == unknown.bytes.len(), "the bodies of the two differ: {} and {}", known.json, unknown.json);
    Ok(())
}

async fn exchange(scene: &Scene, refresh: &str) -> Result<Answer, Stop> {
    fresh(scene, Method::POST, "/api/v1/auth/refresh")?.json(&json!({ "refresh_token": refresh })).send().await
}

async fn a_refresh_token_works_once(scene: Scene) -> Outcome {
    let carol = scene.world.register("refresh").await?;
    let first = exchange(&scene, &carol.refresh).await?;
    first.expect(200)?;
    exchange(&scene, &carol.refresh).await?.expect(401)?;
    let dave = scene.world.register("refresh").await?;
    let answers = try_join_all((0..10).map(|_| exchange(&scene, &dave.refresh))).await?;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    ensure!(won <= 1, "{won} of 10 parallel uses of one refresh token were accepted");
    Ok(())
}

async fn a_stolen_refresh_token_ends_the_session(scene: Scene) -> Outcome {
    let carol = scene.world.register("stolen").await?;
    let first = exchange(&scene, &carol.refresh).await?;
    first.expect(200)?;
    let (access, refresh) = (first.some_text("/data/access_token")?, first.some_text("/data/refresh_token")?);
    // The requirement grants ten seconds to a client that lost the answer.
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    exchange(&scene, &carol.refresh).await?.expect(401)?;
    scene.call(Method::GET, "/api/v1/me").bearer(&access).send().await?.refused(401, "unauthorized")?;
    exchange(&scene, &refresh).await?.expect(401)
}

async fn logging_out(scene: Scene) -> Outcome {
    let carol = scene.world.register("logout").await?;
    fresh(&scene, Method::POST, "/api/v1/auth/logout")?.bearer(&carol.access).send().await?.expect(200)?;
    scene.call(Method::GET, "/api/v1/me").bearer(&carol.access).send().await?.refused(401, "unauthorized")?;
    scene.call(Method::GET, "/v1/agents").bearer(&carol.access).send().await?.refused(401, "unauthorized")?;
    exchange(&scene, &carol.refresh).await?.expect(401)
}

async fn keys(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let (id, secret) = new_key(&scene, &alice, Value::Null).await?;
    let list = scene.get(&alice, "/api/v1/keys").await?;
    list.expect(200)?;
    ensure!(body_of(&list).contains(&id) && !body_of(&list).contains(&secret), "{}: the list lacks the key or holds its secret", list.what);
    let more = scene.post(&alice, "/api/v1/keys", &json!({ "name": "more", "scopes": ["peers:admin"] })).await?;
    ensure!(more.status == 403 || more.status == 400, "{}: a key got a scope that its maker does not have: {}", more.what, more.status);
    more.refused(403, "forbidden")?;
    scene.call(Method::GET, "/api/v1/me").bearer(&secret).send().await?.expect(200)?;
    scene.call(Method::DELETE, &format!("/api/v1/keys/{id}")).bearer(&alice.access).send().await?.expect(200)?;
    scene.call(Method::GET, "/api/v1/me").bearer(&secret).send().await?.refused(401, "unauthorized")
}

async fn administration_is_for_administrators(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for path in ["/api/v1/admin/users", "/api/v1/admin/workers"] {
        scene.get(&alice, path).await?.refused(403, "forbidden")?;
    }
    scene.post(&alice, "/api/v1/admin/invites", &json!({})).await?.refused(403, "forbidden")
}

/// Whether a text is the prefix and 26 characters of the ULID alphabet.
fn is_ulid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')).is_some_and(|rest| {
        rest.len() == 26 && rest.bytes().all(|byte| byte.is_ascii_digit() || (byte.is_ascii_uppercase() && !b"ILOU".contains(&byte)))
    })
}

async fn two_forms_of_an_id(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let run = make_run(&scene, &alice, &agent.id, json!({ "input": "x" })).await?;
    let v1 = scene.get(&alice, &format!("/v1/runs/{run}")).await?;
    for (pointer, prefix) in [("/run/run_id", "run"), ("/run/agent_id", "agt")] {
        ensure!(is_ulid(v1.text(pointer), prefix), "{}: {pointer} is {}", v1.what, v1.at(pointer));
    }
    let event = super::common::first_event(&scene, &alice, &run).await?;
    ensure!(is_ulid(event["event_id"].as_str().unwrap_or_default(), "evt"), "an event id is {}", event["event_id"]);
    let api = scene.get(&alice, &format!("/api/v1/runs/{run}")).await?;
    api.expect(200)?;
    let uuid = api.some_text("/data/id")?;
    ensure!(super::runs::same_id(&json!(run), &json!(uuid)), "{run} and {uuid} are not the same 128 bits");
    scene.get(&alice, &format!("/v1/runs/{uuid}")).await?.equals("/run/run_id", &json!(run))?;
    let other = agent_with(&scene, &alice, "ids", json!({})).await?;
    scene.get(&alice, &format!("/v1/agents/{}", other.id)).await?.expect(200)
}

fn check_times(value: &Value, found: &mut usize) -> Outcome {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if let (true, Some(text)) = (name.ends_with("_at") || name == "time", value.as_str()) {
                    let shaped = text.len() >= 20 && text.as_bytes()[4] == b'-' && text.as_bytes()[10] == b'T' && text.ends_with('Z');
                    ensure!(shaped, "the time `{name}` is {text}: not RFC 3339 in UTC with the suffix `Z`");
                    *found += 1;
                }
                check_times(value, found)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_times(item, found)),
        _ => Ok(()),
    }
}

async fn times(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let run = make_run(&scene, &alice, &agent.id, json!({ "input": "x" })).await?;
    ended(&scene, &alice, &run).await?;
    let mut found = 0;
    for path in
        [format!("/v1/runs/{run}"), "/v1/agents".into(), "/api/v1/agents".into(), format!("/api/v1/runs/{run}"), "/api/v1/me".into()]
    {
        check_times(&scene.get(&alice, &path).await?.json, &mut found)?;
    }
    check_times(&super::common::first_event(&scene, &alice, &run).await?, &mut found)?;
    ensure!(found > 8, "only {found} times were found in the answers");
    Ok(())
}
