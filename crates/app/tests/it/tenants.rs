//! Tenants: who administers them, whose credentials work, and what limits hold at which door.

use std::time::Duration;

use aiox_app::{Answered, AuditQuery, NewRun, Repeatable, accounts::Origin};
use aiox_core::{Caller, Door, Error, Role, Scope, tenant};
use aiox_model::{
    TenantId, TraceId,
    agent::Agent,
    v1::tenants::{AuditRecord, Tenant, TenantCreate, TokenCreate},
};
use aiox_testkit::{World, WorldOptions, both_dbs};
use serde_json::{Map, Value, json};

fn wanted(body: Value) -> TenantCreate {
    serde_json::from_value(body).unwrap()
}

fn patch(body: Value) -> Map<String, Value> {
    body.as_object().cloned().unwrap()
}

async fn root(world: &World) -> Caller {
    world.user_of(world.tenant, "root", Role::PlatformAdmin).await
}

/// A tenant with this id, and its id inside.
async fn made(world: &World, root: &Caller, id: &str) -> (Tenant, TenantId) {
    let tenant = world.tenants.create(root, wanted(json!({ "tenant_id": id })), None).await.unwrap().value;
    let inside = world.tenants.book().find(id).await.unwrap().unwrap();
    (tenant, inside)
}

async fn records(world: &World, root: &Caller, query: AuditQuery) -> Vec<AuditRecord> {
    world.tenants.audit(root, AuditQuery { limit: 1000, ..query }).await.unwrap().0
}

fn origin(world: &World) -> Origin {
    Origin { address: None, trace: TraceId(world.fresh()) }
}

async fn authenticated(world: &World, secret: &str) -> aiox_core::Result<Caller> {
    world.accounts.authenticate(secret, origin(world), Door::V1).await
}

both_dbs!(a_tenant_is_made_read_changed_switched_and_deleted_with_one_record_each, |db| async move {
    let world = World::on(db).await;
    let root = root(&world).await;
    let body = json!({
        "tenant_id": "tnt_acme", "name": "Acme", "plan_tier": "gold", "metadata": { "a": 1 },
        "quotas": { "runs": { "max_concurrent_runs": 3, "run_create_qps": 5 } },
        "entitlements": { "tool_ids_allowed": [] }, "policy": { "denied_models": ["m"] },
    });
    let tenant = world.tenants.create(&root, wanted(body.clone()), None).await.unwrap().value;
    assert_eq!((tenant.tenant_id.as_str(), tenant.status.as_str(), tenant.plan_tier.as_str()), ("tnt_acme", "active", "gold"));
    assert_eq!(serde_json::to_value(&tenant.quotas).unwrap(), body["quotas"]);
    assert_eq!(world.tenants.create(&root, wanted(body), None).await.unwrap_err().code(), "conflict");

    let changed =
        patch(json!({ "name": "Other", "quotas": { "runs": { "run_create_qps": null, "run_create_burst": 2 } }, "metadata": null }));
    let changed = world.tenants.patch(&root, "tnt_acme", changed).await.unwrap();
    assert_eq!(serde_json::to_value(&changed.quotas).unwrap(), json!({ "runs": { "max_concurrent_runs": 3, "run_create_burst": 2 } }));
    assert_eq!((changed.name.as_str(), changed.metadata.len(), changed.plan_tier.as_str()), ("Other", 0, "gold"));
    assert!(changed.updated_at > changed.created_at);
    let replaced = world.tenants.replace(&root, "tnt_acme", wanted(json!({ "name": "Third" }))).await.unwrap();
    assert_eq!((replaced.quotas, replaced.plan_tier.as_str()), (aiox_model::v1::tenants::Quotas::default(), "standard"));
    assert_eq!(world.tenants.read(&root, "tnt_acme").await.unwrap().name, "Third");

    assert_eq!(world.tenants.set_enabled(&root, "tnt_acme", false).await.unwrap().status, "disabled");
    let world = world.restart().await;
    assert_eq!(world.tenants.read(&root, "tnt_acme").await.unwrap().status, "disabled", "it survives a restart");
    assert_eq!(world.tenants.set_enabled(&root, "tnt_acme", true).await.unwrap().status, "active");

    assert_eq!(world.tenants.delete(&root, "tnt_acme", None).await.unwrap_err().code(), "invalid_request");
    world.tenants.delete(&root, "tnt_acme", Some("tnt_acme")).await.unwrap();
    assert_eq!(world.tenants.read(&root, "tnt_acme").await.unwrap_err().code(), "not_found");
    assert_eq!(world.tenants.create(&root, wanted(json!({ "tenant_id": "tnt_acme" })), None).await.unwrap_err().code(), "conflict");
    let listed = world.tenants.list(&root, "", 10).await.unwrap().0;
    assert!(listed.iter().all(|tenant| tenant.tenant_id != "tnt_acme") && listed.len() == 1);

    let kept = records(&world, &root, AuditQuery { tenant: Some("tnt_acme".into()), ..AuditQuery::default() }).await;
    let actions: Vec<&str> = kept.iter().rev().map(|record| record.action.as_str()).collect();
    assert_eq!(actions, ["tenants.create", "tenants.update", "tenants.update", "tenants.disable", "tenants.enable", "tenants.delete"]);
    assert!(
        kept.iter().all(|record| record.tenant_id == "tnt_acme" && record.resource == "tenant/tnt_acme" && record.outcome == "allowed")
    );
    assert!(kept.iter().all(|record| record.principal_id == root.principal.user().map(|id| id.to_string())));
    let denied = records(&world, &root, AuditQuery { outcome: Some("denied".into()), ..AuditQuery::default() }).await;
    assert_eq!(denied.iter().map(|record| record.action.as_str()).collect::<Vec<_>>(), ["tenants.delete"]);
});

both_dbs!(the_hubs_own_tenant_cannot_be_switched_off, |db| async move {
    let world = World::on(db).await;
    let root = root(&world).await;
    let own = world.tenant.to_string();
    assert_eq!(world.tenants.read(&root, "default").await.unwrap().tenant_id, own);
    assert_eq!(world.tenants.set_enabled(&root, &own, false).await.unwrap_err().code(), "conflict");
    assert_eq!(world.tenants.patch(&root, &own, patch(json!({ "status": "disabled" }))).await.unwrap_err().code(), "conflict");
    assert_eq!(world.tenants.delete(&root, &own, Some(&own)).await.unwrap_err().code(), "conflict");
    assert_eq!(world.tenants.read(&root, &own).await.unwrap().status, "active");
    let denied = records(&world, &root, AuditQuery { outcome: Some("denied".into()), ..AuditQuery::default() }).await;
    assert_eq!(denied.len(), 3);
});

both_dbs!(a_tenant_admin_sees_the_own_tenant_alone, |db| async move {
    let world = World::on(db).await;
    let root = root(&world).await;
    let (_, mine) = made(&world, &root, "tnt_mine").await;
    made(&world, &root, "tnt_other").await;
    let admin = world.user_of(mine, "admin", Role::TenantAdmin).await;
    let tenants = &world.tenants;
    let listed = tenants.list(&admin, "", 10).await.unwrap().0;
    assert_eq!(listed.iter().map(|tenant| tenant.tenant_id.as_str()).collect::<Vec<_>>(), ["tnt_mine"]);
    assert_eq!(tenants.read(&admin, "tnt_mine").await.unwrap().tenant_id, "tnt_mine");
    // What is another tenant's looks like what is not there, for every operation.
    for id in ["tnt_other", "tnt_nobody"] {
        let codes = [
            tenants.read(&admin, id).await.unwrap_err(),
            tenants.replace(&admin, id, TenantCreate::default()).await.unwrap_err(),
            tenants.patch(&admin, id, Map::new()).await.unwrap_err(),
            tenants.delete(&admin, id, Some(id)).await.unwrap_err(),
            tenants.set_enabled(&admin, id, false).await.unwrap_err(),
            tenants.issue_token(&admin, id, TokenCreate::default(), None).await.map(drop).unwrap_err(),
            tenants.tokens(&admin, id).await.map(drop).unwrap_err(),
            tenants.rotate_token(&admin, id, "key_00000000000000000000000001", None).await.map(drop).unwrap_err(),
            tenants.revoke_token(&admin, id, "key_00000000000000000000000001").await.unwrap_err(),
            tenants.audit(&admin, AuditQuery { tenant: Some(id.into()), ..AuditQuery::default() }).await.unwrap_err(),
        ];
        assert!(codes.iter().all(|error| error.code() == "not_found"), "{id}: {codes:?}");
    }
    // The own one: what it is called, but not what it may use.
    assert_eq!(tenants.patch(&admin, "tnt_mine", patch(json!({ "name": "Mine" }))).await.unwrap().name, "Mine");
    for body in [
        json!({ "quotas": { "runs": { "max_concurrent_runs": 9 } } }),
        json!({ "plan_tier": "gold" }),
        json!({ "status": "disabled" }),
        json!({ "entitlements": { "tool_ids_allowed": [] } }),
    ] {
        assert_eq!(tenants.patch(&admin, "tnt_mine", patch(body)).await.unwrap_err().code(), "forbidden");
    }
    for error in [
        tenants.create(&admin, TenantCreate::default(), None).await.map(drop).unwrap_err(),
        tenants.set_enabled(&admin, "tnt_mine", false).await.map(drop).unwrap_err(),
        tenants.delete(&admin, "tnt_mine", Some("tnt_mine")).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), "forbidden");
    }
    let seen = records(&world, &admin, AuditQuery::default()).await;
    assert!(!seen.is_empty() && seen.iter().all(|record| record.tenant_id == "tnt_mine"), "{seen:?}");
    // Nobody else administers anything, whatever their standing.
    for (name, role) in [("u", Role::User), ("m", Role::Manager), ("s", Role::Service), ("o", Role::Operator)] {
        let user = world.user_of(mine, name, role).await;
        assert_eq!(tenants.list(&user, "", 10).await.unwrap_err().code(), "forbidden");
        assert_eq!(tenants.audit(&user, AuditQuery::default()).await.unwrap_err().code(), "forbidden");
    }
});

both_dbs!(wrong_members_are_named_and_change_nothing, |db| async move {
    let world = World::on(db).await;
    let root = root(&world).await;
    made(&world, &root, "tnt_a").await;
    let field = |error: Error| match error {
        Error::Invalid { field, .. } => field,
        other => format!("{other:?}"),
    };
    for (body, name) in [
        (json!({ "quotas": { "runs": { "run_create_qps": "fast" } } }), "quotas"),
        (json!({ "quotas": { "runs": { "run_create_qps": -2 } } }), "quotas.runs.run_create_qps"),
        (json!({ "metadata": [] }), "metadata"),
        (json!({ "name": 5 }), "name"),
        (json!({ "tenant_id": "tnt_b" }), "tenant_id"),
        (json!({ "status": "gone" }), "status"),
    ] {
        assert_eq!(field(world.tenants.patch(&root, "tnt_a", patch(body)).await.unwrap_err()), name);
    }
    let tenant = world.tenants.read(&root, "tnt_a").await.unwrap();
    assert_eq!(tenant.created_at, tenant.updated_at);
});

both_dbs!(a_disabled_tenants_credentials_stop_at_once_and_work_again_when_it_is_enabled, |db| async move {
    let world = World::on(db).await;
    let root = root(&world).await;
    let (_, mine) = made(&world, &root, "tnt_mine").await;
    let alice = world.user_of(mine, "alice", Role::User).await;
    let agent = world.agent_with(&alice, "helper", json!({ "visibility": "public" })).await;
    let secret = world.tenants.issue_token(&root, "tnt_mine", TokenCreate::default(), None).await.unwrap().value.secret.unwrap();
    assert!(authenticated(&world, &secret).await.is_ok());
    let jid = "alice@hub-a.example".parse().unwrap();
    let stranger = world.caller("bob@hub-b.example").await;

    let asleep = tokio::time::timeout(Duration::from_secs(30), async {
        // A change of the standing reaches whoever waits for changed accounts.
        let changed = tokio::spawn({
            let accounts = world.accounts.clone();
            async move { accounts.changed().await }
        });
        world.tenants.set_enabled(&root, "tnt_mine", false).await.unwrap();
        changed.await.unwrap();
    });
    asleep.await.unwrap();
    let code = |error: Error| error.code().to_owned();
    // REST and /v1, XMPP, and a caller that authenticated before, as a WebSocket does.
    assert_eq!(code(authenticated(&world, &secret).await.unwrap_err()), "forbidden");
    assert_eq!(code(world.accounts.caller_for_jid(&jid, TraceId(world.fresh())).await.unwrap_err()), "forbidden");
    assert_eq!(code(world.runs.submit(&alice, world.message(&agent, "hello")).await.unwrap_err()), "forbidden");
    // Somebody of another domain, by XMPP or federation, who asks an agent of this tenant.
    assert_eq!(code(world.runs.submit(&stranger, world.message(&agent, "hello")).await.unwrap_err()), "forbidden");
    // Somebody of another tenant: the agent is not there.
    assert_eq!(code(world.runs.submit(&root, world.message(&agent, "hello")).await.unwrap_err()), "not_found");
    assert!(
        world
            .accounts
            .xmpp_accounts()
            .await
            .unwrap()
            .iter()
            .filter(|account| account.username.starts_with("svc-"))
            .all(|account| !account.active)
    );
    assert_eq!(code(world.tenants.book().named("tnt_mine").await.unwrap_err()), "forbidden");
    assert_eq!(code(world.tenants.book().named("tnt_nobody").await.unwrap_err()), "tenant_unknown");

    world.tenants.set_enabled(&root, "tnt_mine", true).await.unwrap();
    assert!(authenticated(&world, &secret).await.is_ok());
    assert!(world.runs.submit(&alice, world.message(&agent, "hello")).await.is_ok());
    assert_eq!(world.tenants.book().named("tnt_mine").await.unwrap(), mine);

    world.tenants.delete(&root, "tnt_mine", Some("tnt_mine")).await.unwrap();
    assert_eq!(code(authenticated(&world, &secret).await.unwrap_err()), "unauthorized", "its keys are revoked");
    assert_eq!(code(world.accounts.caller_for_jid(&jid, TraceId(world.fresh())).await.unwrap_err()), "tenant_unknown");
    assert_eq!(code(world.runs.submit(&alice, world.message(&agent, "hello")).await.unwrap_err()), "tenant_unknown");
    let denied = AuditQuery { action: Some("auth.denied".into()), ..AuditQuery::default() };
    assert_eq!(records(&world, &root, denied).await.len(), 3);
});

both_dbs!(a_service_token_acts_as_its_service_until_it_is_rotated_or_revoked, |db| async move {
    let world = World::on(db).await;
    let root = root(&world).await;
    let (_, mine) = made(&world, &root, "tnt_mine").await;
    let new = TokenCreate {
        name: Some("ci".into()),
        scopes: Some(vec!["runs:write".into(), "agents:write".into(), "agents:read".into()]),
        ..TokenCreate::default()
    };
    let token = world.tenants.issue_token(&root, "tnt_mine", new, None).await.unwrap().value;
    assert_eq!((token.role.as_str(), token.tenant_id.as_str()), ("tenant_service", "tnt_mine"));
    assert_eq!(token.scopes, ["runs:create", "runs:cancel", "runs:forward", "agents:write", "agents:read"]);
    let first = token.secret.clone().unwrap();
    let service = authenticated(&world, &first).await.unwrap();
    assert_eq!((service.tenant, service.role, service.scopes.len()), (mine, Role::Service, 5));
    assert!(service.require(Scope::TenantsAdmin).is_err() && service.require(Scope::ModelsInvoke).is_err());
    // A service owns agents and asks them as everybody does.
    let agent = world.agent(&service, "helper").await;
    let run = world.submit(&service, &agent, "hello").await;
    let _worker = world.serve("w1", 1);
    assert_eq!(world.ended(run).await.output.as_deref(), Some("answer to hello"));
    // The same service gets a second token; nobody signs in with a password.
    let again = TokenCreate { principal_id: Some(token.principal_id.clone()), ..TokenCreate::default() };
    let second = world.tenants.issue_token(&root, "tnt_mine", again, None).await.unwrap().value;
    assert_eq!(second.principal_id, token.principal_id);
    assert!(second.scopes.iter().any(|scope| scope == "models:invoke"));
    let login = serde_json::from_value(json!({ "username": service.principal.jid().local(), "password": "none" })).unwrap();
    assert_eq!(world.accounts.login(login, origin(&world)).await.map(drop).unwrap_err().code(), "unauthorized");

    let rotated = world.tenants.rotate_token(&root, "tnt_mine", &token.token_id, None).await.unwrap().value;
    assert!(rotated.rotated_at.is_some() && rotated.token_id == token.token_id);
    assert_eq!(authenticated(&world, &first).await.unwrap_err().code(), "unauthorized");
    let fresh = rotated.secret.unwrap();
    assert!(authenticated(&world, &fresh).await.is_ok());
    let listed = world.tenants.tokens(&root, "tnt_mine").await.unwrap();
    assert!(listed.len() == 2 && listed.iter().all(|token| token.secret.is_none()));
    world.tenants.revoke_token(&root, "tnt_mine", &token.token_id).await.unwrap();
    assert_eq!(authenticated(&world, &fresh).await.unwrap_err().code(), "unauthorized");
    assert_eq!(world.tenants.revoke_token(&root, "tnt_mine", &token.token_id).await.unwrap_err().code(), "not_found");
    let rotate = world.tenants.rotate_token(&root, "tnt_mine", &token.token_id, None).await;
    assert_eq!(rotate.map(drop).unwrap_err().code(), "not_found");
    assert!(authenticated(&world, &second.secret.unwrap()).await.is_ok(), "the other token is not concerned");

    let query = AuditQuery { tenant: Some("tnt_mine".into()), ..AuditQuery::default() };
    let kept = records(&world, &root, query).await;
    let of = |action: &str| kept.iter().filter(|record| record.action == action).count();
    assert_eq!((of("tokens.issue"), of("tokens.rotate"), of("tokens.revoke"), of("runs.create")), (2, 1, 1, 1));
    let runs = AuditQuery { action: Some("runs.create".into()), principal: Some(token.principal_id), ..AuditQuery::default() };
    assert_eq!(records(&world, &root, runs).await.len(), 1);
});

both_dbs!(nobody_gives_a_token_more_than_they_have, |db| async move {
    let world = World::on(db).await;
    let root = root(&world).await;
    let (_, mine) = made(&world, &root, "tnt_mine").await;
    let admin = world.user_of(mine, "admin", Role::TenantAdmin).await;
    let alice = world.user_of(mine, "alice", Role::User).await;
    let issue = async |caller: &Caller, body: Value| {
        let new: TokenCreate = serde_json::from_value(body).unwrap();
        world.tenants.issue_token(caller, "tnt_mine", new, None).await.map(|issued| issued.value)
    };
    let code = |result: aiox_core::Result<_>| result.map(|_: aiox_model::v1::tenants::Token| ()).unwrap_err().code();
    assert_eq!(code(issue(&admin, json!({ "role": "platform_admin" })).await), "invalid_request");
    assert_eq!(code(issue(&admin, json!({ "scopes": ["tenants:admin"] })).await), "invalid_request", "a service administers nothing");
    assert_eq!(code(issue(&admin, json!({ "scopes": ["runs:fly"] })).await), "invalid_request");
    assert_eq!(code(issue(&admin, json!({ "scopes": [] })).await), "invalid_request");
    assert_eq!(code(issue(&admin, json!({ "expires_at": "2020-01-01T00:00:00Z" })).await), "invalid_request");
    // Nobody issues tokens in the name of a person.
    let person = alice.principal.user().unwrap().to_string();
    assert_eq!(code(issue(&admin, json!({ "principal_id": person })).await), "not_found");
    // An administrator's token is for administrators, and what a narrow credential issues is as narrow.
    let token = issue(&admin, json!({ "role": "tenant_admin" })).await.unwrap();
    let by_token = authenticated(&world, &token.secret.unwrap()).await.unwrap();
    assert!(by_token.require(Scope::TenantsAdmin).is_ok() && by_token.role == Role::TenantAdmin);
    let narrow = Caller { scopes: vec![Scope::TenantsAdmin, Scope::RunsRead], ..admin.clone() };
    assert_eq!(issue(&narrow, json!({})).await.unwrap().scopes, ["runs:read"]);
    assert_eq!(code(issue(&narrow, json!({ "scopes": ["runs:create"] })).await), "forbidden");
    assert_eq!(code(issue(&alice, json!({})).await), "forbidden");
});

/// Two tenants with an agent each, as `/v1` sees their users.
async fn two(world: &World) -> (Caller, (Caller, Agent), (Caller, Agent)) {
    let root = root(world).await;
    let mut both = Vec::new();
    for name in ["one", "two"] {
        let (_, tenant) = made(world, &root, &format!("tnt_{name}")).await;
        let user = Caller { door: Door::V1, ..world.user_of(tenant, name, Role::User).await };
        let agent = world.agent(&user, "helper").await;
        both.push((user, agent));
    }
    let second = both.pop().unwrap();
    (root, both.pop().unwrap(), second)
}

async fn code(world: &World, caller: &Caller, new: NewRun) -> &'static str {
    world.runs.submit(caller, new).await.map_or_else(|error| error.code(), |_| "accepted")
}

both_dbs!(limits_of_the_node_hold_at_v1_and_own_ones_everywhere_at_once, |db| async move {
    let node_limits = tenant::Limits { concurrent: Some(2), ..tenant::Limits::default() };
    let world = World::with(db, WorldOptions { node_limits, ..WorldOptions::default() }).await;
    let (root, (one, agent), (two, other)) = two(&world).await;
    let rest = Caller { door: Door::Rest, ..one.clone() };
    for _ in 0..2 {
        assert_eq!(code(&world, &one, world.message(&agent, "x")).await, "accepted");
    }
    let third = world.runs.submit(&one, world.message(&agent, "x")).await.unwrap_err();
    assert!(third.code() == "quota_exceeded" && third.retryable(), "{third:?}");
    assert_eq!(code(&world, &two, world.message(&other, "x")).await, "accepted", "another tenant is unaffected");
    // The node's limits are of /v1 alone.
    assert_eq!(code(&world, &rest, world.message(&agent, "x")).await, "accepted");
    // A limit of its own holds at every door, with the next request.
    let own = patch(json!({ "quotas": { "runs": { "max_concurrent_runs": 4 } } }));
    world.tenants.patch(&root, "tnt_one", own).await.unwrap();
    assert_eq!(code(&world, &one, world.message(&agent, "x")).await, "accepted");
    assert_eq!(code(&world, &rest, world.message(&agent, "x")).await, "quota_exceeded");
    // An end gives its slot back, without anybody asking: a worker answers all four.
    let runs: Vec<_> = world.runs.latest(&one, 10).await.unwrap();
    assert_eq!(runs.len(), 4);
    let _worker = world.serve("w1", 4);
    for run in runs {
        world.ended(run.id.into()).await;
    }
    assert_eq!(code(&world, &rest, world.message(&agent, "x")).await, "accepted");
});

both_dbs!(slots_are_there_again_after_a_crash, |db| async move {
    let world = World::on(db).await;
    let (root, (one, agent), _) = two(&world).await;
    let own = patch(json!({ "quotas": { "runs": { "max_concurrent_runs": 1 } } }));
    world.tenants.patch(&root, "tnt_one", own).await.unwrap();
    let run = world.submit(&one, &agent, "hello").await;
    let world = world.restart().await;
    assert_eq!(code(&world, &one, world.message(&agent, "x")).await, "quota_exceeded", "it has not ended");
    world.dispatch.recover().await.unwrap();
    let worker = world.serve("w1", 1);
    world.ended(run).await;
    worker.abort();
    assert_eq!(code(&world, &one, world.message(&agent, "x")).await, "accepted");
    world.runs.cancel(&one, world.runs.latest(&one, 1).await.unwrap()[0].id.into()).await.unwrap();
    assert_eq!(code(&world, &one, world.message(&agent, "x")).await, "accepted", "a cancel gives its slot back");
});

both_dbs!(too_fast_is_told_with_the_time_to_wait_and_repeats_are_free, |db| async move {
    let world = World::on(db).await;
    let (root, (one, agent), _) = two(&world).await;
    let own = patch(json!({ "quotas": { "runs": { "run_create_qps": 0.5, "run_create_burst": 2 } } }));
    world.tenants.patch(&root, "tnt_one", own).await.unwrap();
    let keyed = NewRun { idempotency_key: Some("k".into()), ..world.message(&agent, "x") };
    for _ in 0..50 {
        assert_eq!(code(&world, &one, keyed.clone()).await, "accepted");
    }
    assert_eq!(code(&world, &one, world.message(&agent, "x")).await, "accepted");
    let Err(Error::Limited { code: "rate_limited", retry_after, .. }) = world.runs.submit(&one, world.message(&agent, "x")).await else {
        unreachable!("a third new run passed")
    };
    assert!(retry_after > Duration::from_secs(1) && retry_after <= Duration::from_secs(2), "{retry_after:?}");
    world.clock.advance(2);
    assert_eq!(code(&world, &one, world.message(&agent, "x")).await, "accepted");
});

both_dbs!(a_budget_is_told_with_its_numbers_and_comes_back_with_the_window, |db| async move {
    let world = World::on(db).await;
    let (root, (one, _), _) = two(&world).await;
    let agent = world.agent_with(&one, "small", json!({ "llm_config": { "max_tokens": 40 } })).await;
    let own = json!({ "quotas": { "models": { "token_budget": { "window": "hour", "max_tokens": 100 }, "max_tokens_per_request": 50 } } });
    world.tenants.patch(&root, "tnt_one", patch(own)).await.unwrap();
    // 2 tokens of the question and 40 of the answer are reserved.
    let first = world.submit(&one, &agent, "12345678").await;
    assert_eq!(code(&world, &one, world.message(&agent, "12345678")).await, "accepted");
    let Err(Error::Spent(spent)) = world.runs.submit(&one, world.message(&agent, "12345678")).await else {
        unreachable!("a third run passed")
    };
    let told = Value::Object(spent.details());
    assert_eq!(told, json!({ "tenant_id": "tnt_one", "limit": 100, "used": 84, "window": "hour" }));
    // The settled run leaves room again: what it did not use comes back.
    let _worker = world.serve("w1", 1);
    world.ended(first).await;
    assert_eq!(code(&world, &one, world.message(&agent, "12345678")).await, "accepted");
    // A question that leaves nothing for an answer is refused, a long one shortens the answer.
    assert_eq!(code(&world, &one, world.message(&agent, &"x".repeat(200))).await, "invalid_request");
    world.clock.advance(3600);
    assert_eq!(code(&world, &one, world.message(&agent, &"x".repeat(196))).await, "accepted", "another hour");
});

both_dbs!(calls_of_models_and_tools_pass_the_same_limits, |db| async move {
    let node_limits = tenant::Limits { invoke: Some(tenant::Pace::per_second(2.0, None)), ..tenant::Limits::default() };
    let world = World::with(db, WorldOptions { node_limits, ..WorldOptions::default() }).await;
    let (root, (one, _), (two, _)) = two(&world).await;
    let own = json!({ "quotas": {
        "tools": { "tool_calls_per_minute": 1 },
        "models": { "token_budget": { "window": "day", "max_tokens": 1000, "max_cost_usd": 0.5 }, "max_tokens_per_request": 500, "max_requests_per_minute": 3 },
    } });
    world.tenants.patch(&root, "tnt_one", patch(own)).await.unwrap();
    let book = world.tenants.book();
    let first = book.reserve_call(&one, 100, 1000, 100_000).await.unwrap();
    assert_eq!(first.answer_tokens, 400, "cut to what a request may have");
    // It failed after it had used some: that is charged, and the rest is free again.
    book.settle(first, 150, 20_000).await.unwrap();
    let second = book.reserve_call(&one, 400, 100, 400_000).await.unwrap();
    assert_eq!(book.reserve_call(&one, 1, 1, 1).await.unwrap_err().code(), "rate_limited", "two in a second");
    world.clock.advance(2);
    let Err(Error::Spent(spent)) = book.reserve_call(&one, 10, 10, 90_000).await else { unreachable!("over its budget of money") };
    assert_eq!(Value::Object(spent.details()), json!({ "tenant_id": "tnt_one", "limit": 0.5, "used": 0.42, "window": "day" }));
    book.settle(second, 500, 400_000).await.unwrap();
    world.clock.advance(2);
    assert_eq!(book.reserve_call(&one, 10, 10, 0).await.unwrap_err().code(), "rate_limited", "three in a minute");
    // Another tenant has limits of its own: none but the node's.
    assert_eq!(book.reserve_call(&two, 10, 5000, 0).await.unwrap().answer_tokens, 5000);
    assert!(book.take_tool_call(&one).await.is_ok());
    assert_eq!(book.take_tool_call(&one).await.unwrap_err().code(), "rate_limited");
    assert!(book.take_tool_call(&two).await.is_ok());
    world.clock.advance(3 * 86_400);
    assert_eq!(book.purge().await.unwrap(), 1);
});

both_dbs!(another_process_on_the_same_postgres_hears_of_a_change, |db| async move {
    let world = World::on(db.clone()).await;
    let root = root(&world).await;
    let (_, mine) = made(&world, &root, "tnt_mine").await;
    let other = World::on(db).await;
    assert!(other.tenants.book().admit(mine).await.is_ok());
    world.tenants.set_enabled(&root, "tnt_mine", false).await.unwrap();
    assert!(world.tenants.book().admit(mine).await.is_err());
    // SQLite has one process: there nothing is read again.
    let shared = other.store.backend() == aiox_store::Backend::Postgres;
    assert!(other.tenants.book().admit(mine).await.is_ok());
    other.clock.advance(3);
    assert_eq!(other.tenants.book().admit(mine).await.is_err(), shared);
});

fn keyed(key: &str, body: Value) -> Option<Repeatable> {
    Some(Repeatable { key: key.into(), body })
}

both_dbs!(a_request_of_administration_with_a_key_acts_once, |db| async move {
    let world = World::on(db).await;
    let (root, other) = (root(&world).await, world.user_of(world.tenant, "other", Role::PlatformAdmin).await);
    let body = json!({ "name": "Acme" });
    let create =
        async |who: &Caller, key: &str, body: &Value| world.tenants.create(who, wanted(body.clone()), keyed(key, body.clone())).await;

    // However many come at once, one acts; the others get its answer.
    let all = futures::future::join_all((0..20).map(|_| create(&root, "k", &body))).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert_eq!(all.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(all.iter().all(|answer| answer.value == all[0].value));
    let first = all[0].value.clone();
    // The first answer, whatever became of the tenant since, and over a restart.
    world.tenants.set_enabled(&root, &first.tenant_id, false).await.unwrap();
    let world = world.restart().await;
    let create =
        async |who: &Caller, key: &str, body: &Value| world.tenants.create(who, wanted(body.clone()), keyed(key, body.clone())).await;
    assert_eq!(create(&root, "k", &body).await.unwrap(), Answered { value: first.clone(), replayed: true });
    assert_eq!(create(&root, "k", &json!({ "name": "Other" })).await.unwrap_err().code(), "conflict");
    // Somebody else's key, and another key, are others.
    assert!(!create(&other, "k", &body).await.unwrap().replayed && !create(&root, "l", &body).await.unwrap().replayed);
    let made = records(&world, &root, AuditQuery { action: Some("tenants.create".into()), ..AuditQuery::default() }).await;
    assert_eq!(made.len(), 3, "whoever is answered by a key leaves no record");
    // What failed keeps no key, and a key is asked only of those who may.
    let taken = json!({ "tenant_id": first.tenant_id });
    assert_eq!(create(&root, "m", &taken).await.unwrap_err().code(), "conflict");
    assert!(!create(&root, "m", &body).await.unwrap().replayed);
    let user = world.user("user").await;
    assert_eq!(create(&user, "k", &body).await.unwrap_err().code(), "forbidden");

    // A day later the key is free.
    world.clock.advance(23 * 3600);
    world.tenants.tidy().await.unwrap();
    assert!(create(&root, "k", &body).await.unwrap().replayed);
    world.clock.advance(2 * 3600);
    world.tenants.tidy().await.unwrap();
    assert!(!create(&root, "k", &body).await.unwrap().replayed);
});

both_dbs!(a_token_is_issued_and_rotated_once_and_its_secret_is_kept_nowhere, |db| async move {
    let world = World::on(db).await;
    let root = root(&world).await;
    made(&world, &root, "tnt_mine").await;
    made(&world, &root, "tnt_other").await;
    let issue =
        async |tenant: &str| world.tenants.issue_token(&root, tenant, TokenCreate::default(), keyed("k", Value::Null)).await.unwrap();
    let (first, again) = (issue("tnt_mine").await, issue("tnt_mine").await);
    let secret = first.value.secret.clone().unwrap();
    assert_eq!((first.replayed, again.replayed, again.value.secret), (false, true, None));
    assert_eq!(first.value.token_id, again.value.token_id);
    assert!(!issue("tnt_other").await.replayed, "another tenant's tokens are another operation");
    assert_eq!(world.tenants.tokens(&root, "tnt_mine").await.unwrap().len(), 1);

    let id = first.value.token_id.clone();
    let rotate = async |key: &str| world.tenants.rotate_token(&root, "tnt_mine", &id, keyed(key, Value::Null)).await.unwrap();
    let (rotated, again) = (rotate("k").await, rotate("k").await);
    let fresh = rotated.value.secret.clone().unwrap();
    assert_eq!(
        (rotated.replayed, again.replayed, again.value.secret, again.value.rotated_at),
        (false, true, None, rotated.value.rotated_at)
    );
    assert!(authenticated(&world, &fresh).await.is_ok() && authenticated(&world, &secret).await.is_err());
    assert!(!rotate("l").await.replayed && authenticated(&world, &fresh).await.is_err());

    assert_eq!(world.database.number("SELECT COUNT(*) FROM idempotency_keys").await, 4);
    let kept = world.database.number("SELECT COUNT(*) FROM idempotency_keys WHERE answer LIKE '%aiox_key_%'").await;
    assert_eq!(kept, 0, "no secret is kept");
});
