//! Tenants, their tokens, and what they use of their limits.

use aiox_core::{
    Role,
    tenant::{Budget, Denied, Limits, Measure, Pace, Status, Window},
};
use aiox_model::{
    ApiKeyId, TenantId,
    run::RunStatus,
    v1::tenants::{Entitlements, ModelPolicy, Quotas, RunQuotas},
};
use aiox_store::{
    Accept, Accepted, Advance, Exhausted, Journal, Store,
    accounts::{self, ApiKeyRow, UserRow},
    audit::{self, AuditRow, Search},
    quotas, service_tokens, tenant_use,
    tenants::{self, TenantRow},
};
use aiox_testkit::both_dbs;
use serde_json::json;
use uuid::Uuid;

use crate::make::{NOW, PLENTY, accept, advance, at, audit_row, ending, id, user_row};

fn tenant_row(name: &str) -> TenantRow {
    TenantRow {
        id: TenantId(id()),
        name: name.into(),
        display: "Display".into(),
        status: Status::Active,
        plan_tier: "gold".into(),
        default_policy_id: Some("pol_1".into()),
        entitlements: Entitlements { tool_ids_allowed: Some(vec!["tool.echo".into()]), ..Entitlements::default() },
        quotas: Quotas { runs: Some(RunQuotas { run_create_qps: Some(2.5), ..RunQuotas::default() }), ..Quotas::default() },
        policy: ModelPolicy { denied_models: Some(vec!["m".into()]), ..ModelPolicy::default() },
        metadata: json!({ "a": [1, null] }).as_object().cloned().unwrap(),
        created_at: NOW,
        updated_at: NOW,
    }
}

both_dbs!(a_tenant_reads_back_as_it_was_written, |db| async move {
    let store = db.open().await;
    let first = tenant_row("tnt_b");
    let mut tx = store.begin().await.unwrap();
    assert!(tenants::insert(&mut tx, &first).await.unwrap());
    assert!(!tenants::insert(&mut tx, &TenantRow { id: TenantId(id()), ..first.clone() }).await.unwrap(), "the name is taken");
    assert!(!tenants::insert(&mut tx, &TenantRow { name: "tnt_c".into(), ..first.clone() }).await.unwrap(), "the id is taken");
    assert_eq!(tenants::by_id(&mut tx, first.id.uuid()).await.unwrap().as_ref(), Some(&first));
    let changed = TenantRow {
        display: "Other".into(),
        status: Status::Deleted,
        plan_tier: "free".into(),
        default_policy_id: None,
        entitlements: Entitlements::default(),
        quotas: Quotas::default(),
        policy: ModelPolicy::default(),
        metadata: serde_json::Map::new(),
        updated_at: at(5),
        ..first
    };
    tenants::update(&mut tx, &changed).await.unwrap();
    let other = tenant_row("tnt_a");
    assert!(tenants::insert(&mut tx, &other).await.unwrap());
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    assert_eq!(tenants::page(&mut reader, "", 10).await.unwrap(), [other.clone(), changed.clone()]);
    assert_eq!(tenants::page(&mut reader, "tnt_a", 10).await.unwrap(), [changed]);
    assert_eq!(tenants::living(&mut reader, "", 10).await.unwrap(), [other]);
});

both_dbs!(a_pace_allows_its_burst_and_then_one_after_each_interval, |db| async move {
    let store = db.open().await;
    let (tenant, pace) = (id(), Pace { interval: 2_000_000, burst: 3 });
    let mut tx = store.begin().await.unwrap();
    for _ in 0..3 {
        assert_eq!(tenant_use::take(&mut tx, tenant, tenant_use::Kind::Create, pace, NOW).await.unwrap(), Ok(()));
    }
    let fourth = tenant_use::take(&mut tx, tenant, tenant_use::Kind::Create, pace, NOW).await.unwrap();
    assert_eq!(fourth, Err(Denied::TooFast(std::time::Duration::from_secs(2))));
    // Kinds and tenants have paces of their own.
    for (tenant, kind) in [
        (tenant, tenant_use::Kind::Invoke),
        (tenant, tenant_use::Kind::Requests),
        (tenant, tenant_use::Kind::Tools),
        (id(), tenant_use::Kind::Create),
    ] {
        assert_eq!(tenant_use::take(&mut tx, tenant, kind, pace, NOW).await.unwrap(), Ok(()));
    }
    assert!(tenant_use::take(&mut tx, tenant, tenant_use::Kind::Create, pace, at(1)).await.unwrap().is_err());
    assert_eq!(tenant_use::take(&mut tx, tenant, tenant_use::Kind::Create, pace, at(2)).await.unwrap(), Ok(()));
    assert!(tenant_use::take(&mut tx, tenant, tenant_use::Kind::Create, pace, at(2)).await.unwrap().is_err());
    // However long nothing was used, the burst does not grow.
    for _ in 0..3 {
        assert_eq!(tenant_use::take(&mut tx, tenant, tenant_use::Kind::Create, pace, at(1000)).await.unwrap(), Ok(()));
    }
    assert!(tenant_use::take(&mut tx, tenant, tenant_use::Kind::Create, pace, at(1000)).await.unwrap().is_err());
    let never = Pace { burst: 0, ..pace };
    assert!(tenant_use::take(&mut tx, id(), tenant_use::Kind::Tools, never, NOW).await.unwrap().is_err());
    tx.commit().await.unwrap();
});

both_dbs!(a_budget_is_reserved_whole_or_not_at_all, |db| async move {
    let store = db.open().await;
    let tenant = id();
    let budget = Budget { window: Window::Hour, tokens: Some(100), cost: Some(10) };
    let mut tx = store.begin().await.unwrap();
    let mut reserve = async |tokens, cost, at| tenant_use::reserve(&mut tx, tenant, &budget, tokens, cost, at).await.unwrap();
    assert_eq!(reserve(101, 0, NOW).await, Err(Denied::Spent(Measure::Tokens, 100, 0, Window::Hour)));
    assert_eq!(reserve(60, 4, NOW).await, Ok(()));
    assert_eq!(reserve(41, 0, NOW).await, Err(Denied::Spent(Measure::Tokens, 100, 60, Window::Hour)));
    assert_eq!(reserve(1, 7, NOW).await, Err(Denied::Spent(Measure::Cost, 10, 4, Window::Hour)));
    assert_eq!(reserve(40, 6, NOW).await, Ok(()));
    assert_eq!(reserve(1, 0, at(3600)).await, Ok(()), "another hour");
    tenant_use::settle(&mut tx, tenant, &Window::Hour.id(NOW), -40, -1).await.unwrap();
    assert_eq!(tenant_use::used(&mut tx, tenant, &Window::Hour.id(NOW)).await.unwrap(), (60, 9));
    assert_eq!(tenant_use::purge(&mut tx, at(3600)).await.unwrap(), 1, "the first hour is forgotten");
    assert_eq!(tenant_use::used(&mut tx, tenant, &Window::Hour.id(at(3600))).await.unwrap(), (1, 0));
    tx.commit().await.unwrap();
});

struct Hub {
    store: Store,
    journal: Journal,
    tenant: Uuid,
}

impl Hub {
    fn on(store: Store) -> Self {
        let (journal, work) = Journal::new(store.clone());
        tokio::spawn(work);
        Self { store, journal, tenant: id() }
    }
    fn run(&self, limits: Limits) -> Accept {
        Accept { tenant: self.tenant, tenant_limits: limits, ..accept(&format!("user:{}", id())) }
    }
    async fn unfinished(&self) -> u64 {
        tenant_use::unfinished(&mut self.store.read().await.unwrap(), self.tenant).await.unwrap()
    }
    async fn used(&self) -> (u64, u64) {
        tenant_use::used(&mut self.store.read().await.unwrap(), self.tenant, &Window::Day.id(NOW)).await.unwrap()
    }
}

both_dbs!(a_hundred_at_once_never_exceed_the_runs_at_once_and_an_end_returns_the_slot, |db| async move {
    let hub = Hub::on(db.open().await);
    let limits = Limits { concurrent: Some(7), ..Limits::default() };
    let all = futures::future::join_all((0..100).map(|_| hub.journal.accept(hub.run(limits)))).await;
    let new = all.iter().filter(|one| matches!(one, Ok(Accepted::New))).count();
    let denied = all.iter().filter(|one| matches!(one, Ok(Accepted::Denied(Denied::TooMany(7))))).count();
    assert_eq!((new, denied, hub.unfinished().await), (7, 93, 7));
    // Other tenants, and those without limits, are unaffected.
    assert_eq!(hub.journal.accept(accept("user:x")).await.unwrap(), Accepted::New);
    let one: Uuid = {
        let unfinished =
            aiox_store::runs::unfinished(&mut hub.store.read().await.unwrap(), (aiox_model::Ts::from_micros(0), Uuid::nil()), 1000)
                .await
                .unwrap();
        unfinished.iter().find(|row| row.tenant == hub.tenant).unwrap().id
    };
    for status in [RunStatus::Failed, RunStatus::Completed] {
        // The second end changes nothing: a slot comes back once.
        let end = Advance { ending: Some(aiox_store::Ending { status, ..ending("done") }), ..advance(one, "run.completed") };
        hub.journal.advance(end).await.unwrap();
    }
    assert_eq!(hub.unfinished().await, 6);
    assert_eq!(hub.journal.accept(hub.run(limits)).await.unwrap(), Accepted::New);
    assert!(matches!(hub.journal.accept(hub.run(limits)).await.unwrap(), Accepted::Denied(_)));
});

both_dbs!(a_repeated_request_uses_nothing, |db| async move {
    let hub = Hub::on(db.open().await);
    let limits = Limits { concurrent: Some(1), create: Some(Pace { interval: 1_000_000, burst: 1 }), ..Limits::default() };
    let first = Accept { idempotency: Some(("k".into(), vec![1])), ..hub.run(limits) };
    assert_eq!(hub.journal.accept(first.clone()).await.unwrap(), Accepted::New);
    for _ in 0..5 {
        let again = Accept { run: id(), event: id(), message: id(), audit: audit_row(NOW, "run.accepted"), ..first.clone() };
        assert_eq!(hub.journal.accept(again).await.unwrap(), Accepted::Replayed(first.run));
    }
    assert!(matches!(hub.journal.accept(hub.run(limits)).await.unwrap(), Accepted::Denied(Denied::TooFast(_))));
});

both_dbs!(a_run_reserves_of_the_budget_and_its_end_settles_it, |db| async move {
    let hub = Hub::on(db.open().await);
    let limits = Limits { budget: Some(Budget { window: Window::Day, tokens: Some(25), cost: None }), ..Limits::default() };
    let (first, second) = (hub.run(limits), hub.run(limits));
    assert_eq!(hub.journal.accept(first.clone()).await.unwrap(), Accepted::New);
    assert_eq!(hub.journal.accept(second.clone()).await.unwrap(), Accepted::New);
    let denied = hub.journal.accept(hub.run(limits)).await.unwrap();
    assert_eq!(denied, Accepted::Denied(Denied::Spent(Measure::Tokens, 25, 20, Window::Day)));
    // A principal whose own allowance is used up leaves nothing reserved.
    let poor = Accept { limits: aiox_core::quota::Limits { requests_day: 0, ..PLENTY }, reserved: 5, ..hub.run(limits) };
    assert_eq!(hub.journal.accept(poor).await.unwrap(), Accepted::OverQuota(Exhausted::RequestsDay));
    assert_eq!(hub.used().await, (20, 0));
    // 2 + 3 tokens were used of the 10 that were reserved.
    hub.journal.advance(Advance { ending: Some(ending("done")), ..advance(first.run, "run.completed") }).await.unwrap();
    assert_eq!(hub.used().await, (15, 0));
    // A canceled run gives all of it back, and what its worker reports afterwards is charged.
    let canceled =
        aiox_store::Ending { status: RunStatus::Canceled, output: None, input_tokens: 0, output_tokens: 0, reply: None, ..ending("") };
    hub.journal.advance(Advance { ending: Some(canceled), ..advance(second.run, "run.canceled") }).await.unwrap();
    assert_eq!(hub.used().await, (5, 0));
    let mut tx = hub.store.begin().await.unwrap();
    assert!(quotas::charge_late(&mut tx, second.run, 4, 2, NOW).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(hub.used().await, (11, 0));
});

both_dbs!(service_tokens_are_of_their_tenant_alone, |db| async move {
    let store = db.open().await;
    let mut tx = store.begin().await.unwrap();
    let (mine, other) = (tenant_row("tnt_mine"), tenant_row("tnt_other"));
    for tenant in [&mine, &other] {
        assert!(tenants::insert(&mut tx, tenant).await.unwrap());
    }
    let service = UserRow { role: Role::Service, ..user_row(mine.id, "svc") };
    let person = user_row(mine.id, "person");
    for user in [&service, &person] {
        assert!(accounts::insert_user(&mut tx, user).await.unwrap());
    }
    let key = |user: &UserRow, expires| ApiKeyRow {
        id: ApiKeyId(id()),
        user: user.id,
        name: "n".into(),
        scopes: "runs:create".into(),
        created_at: NOW,
        expires_at: expires,
    };
    let (token, old, own) = (key(&service, None), key(&service, Some(at(5))), key(&person, None));
    service_tokens::insert(&mut tx, mine.id, &token, &[1], "user:a").await.unwrap();
    service_tokens::insert(&mut tx, mine.id, &old, &[2], "user:a").await.unwrap();
    accounts::insert_key(&mut tx, mine.id, &own, &[3]).await.unwrap();

    let found = service_tokens::of_tenant(&mut tx, mine.id, token.id).await.unwrap().unwrap();
    assert_eq!((found.key.user, found.role, found.rotated_at), (service.id, Role::Service, None));
    assert!(service_tokens::of_tenant(&mut tx, other.id, token.id).await.unwrap().is_none());
    assert!(service_tokens::of_tenant(&mut tx, mine.id, own.id).await.unwrap().is_none(), "the key of an account is no service token");
    assert_eq!(service_tokens::list(&mut tx, mine.id, 10).await.unwrap().len(), 2);
    assert!(service_tokens::is_service(&mut tx, mine.id, service.id).await.unwrap());
    assert!(!service_tokens::is_service(&mut tx, other.id, service.id).await.unwrap());
    assert!(!service_tokens::is_service(&mut tx, mine.id, person.id).await.unwrap());

    assert!(!service_tokens::rotate(&mut tx, other.id, token.id, &[9], at(6)).await.unwrap());
    assert!(!service_tokens::rotate(&mut tx, mine.id, own.id, &[9], at(6)).await.unwrap());
    assert!(!service_tokens::rotate(&mut tx, mine.id, old.id, &[9], at(6)).await.unwrap(), "it has expired");
    assert!(service_tokens::rotate(&mut tx, mine.id, token.id, &[4], at(6)).await.unwrap());
    assert!(accounts::key_by_hash(&mut tx, &[1], at(6)).await.unwrap().is_none());
    assert!(accounts::key_by_hash(&mut tx, &[4], at(6)).await.unwrap().is_some());
    assert_eq!(service_tokens::of_tenant(&mut tx, mine.id, token.id).await.unwrap().unwrap().rotated_at, Some(at(6)));

    assert!(!service_tokens::revoke(&mut tx, other.id, token.id, at(7)).await.unwrap());
    assert!(service_tokens::revoke(&mut tx, mine.id, token.id, at(7)).await.unwrap());
    assert!(!service_tokens::revoke(&mut tx, mine.id, token.id, at(7)).await.unwrap());
    assert!(accounts::key_by_hash(&mut tx, &[4], at(7)).await.unwrap().is_none());
    assert_eq!(service_tokens::revoke_all(&mut tx, mine.id, at(8)).await.unwrap(), 2);
    assert!(accounts::key_by_hash(&mut tx, &[3], at(8)).await.unwrap().is_none());
    tx.commit().await.unwrap();
});

both_dbs!(audit_records_are_searched_in_pages_and_by_tenant, |db| async move {
    let store = db.open().await;
    let (mine, other) = (id(), id());
    let mut tx = store.begin().await.unwrap();
    for second in 0..6 {
        let tenant = if second % 2 == 0 { mine } else { other };
        let outcome = if second == 4 { "denied" } else { "allowed" };
        let row = AuditRow { tenant, outcome: outcome.into(), actor: format!("user:{second}"), ..audit_row(at(second), "tenants.create") };
        audit::insert(&mut tx, &row).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    let mut search = async |search: Search, limit| -> Vec<(Uuid, i64)> {
        let found = audit::search(&mut reader, &search, limit).await.unwrap();
        found.into_iter().map(|(row, _)| (row.id, row.at.millis_since(NOW) as i64 / 1000)).collect()
    };
    let seconds = |found: &[(Uuid, i64)]| found.iter().map(|one| one.1).collect::<Vec<_>>();
    assert_eq!(seconds(&search(Search::default(), 10).await), [5, 4, 3, 2, 1, 0]);
    let of_mine = Search { tenant: Some(mine), ..Search::default() };
    let first = search(of_mine.clone(), 2).await;
    assert_eq!(seconds(&first), [4, 2]);
    let rest = search(Search { before: Some(first[1].0), ..of_mine.clone() }, 2).await;
    assert_eq!(seconds(&rest), [0]);
    assert_eq!(seconds(&search(Search { outcome: Some("denied".into()), ..of_mine.clone() }, 10).await), [4]);
    assert_eq!(seconds(&search(Search { actor: Some("user:3".into()), ..of_mine }, 10).await), [] as [i64; 0]);
    assert_eq!(seconds(&search(Search { actor: Some("user:3".into()), ..Search::default() }, 10).await), [3]);
    let narrow = Search { from: Some(at(1)), to: Some(at(3)), action: Some("tenants.create".into()), ..Search::default() };
    assert_eq!(seconds(&search(narrow, 10).await), [2, 1]);
    assert!(search(Search { action: Some("other".into()), ..Search::default() }, 10).await.is_empty());
});
