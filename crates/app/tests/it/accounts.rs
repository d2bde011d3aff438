//! Register, sign in, sessions, keys.

use aiox_app::{SignUp, accounts::Origin};
use aiox_core::{Caller, Door, Error, Result, Role, Scope};
use aiox_model::{
    ApiKeyId, TraceId, UserId,
    account::{Login, NewApiKey, Register, TokenPair},
};
use aiox_testkit::{World, WorldOptions, both_dbs};
use serde_json::json;

const PASSWORD: &str = "correct horse";

fn origin(world: &World) -> Origin {
    Origin { address: None, trace: TraceId(world.fresh()) }
}

async fn register(world: &World, email: &str, username: Option<&str>, invite: Option<String>) -> Result<TokenPair> {
    let body = Register { email: email.into(), password: PASSWORD.into(), username: username.map(str::to_owned), invite };
    world.accounts.register(body, origin(world)).await
}

async fn login(world: &World, email: &str, password: &str) -> Result<TokenPair> {
    let body = Login { email: Some(email.into()), username: None, password: password.into() };
    world.accounts.login(body, origin(world)).await
}

async fn enter(world: &World, credential: &str) -> Result<Caller> {
    world.accounts.authenticate(credential, origin(world), Door::Rest).await
}

async fn refresh(world: &World, pair: &TokenPair) -> Result<TokenPair> {
    world.accounts.refresh(&pair.refresh_token, origin(world)).await
}

fn key(scopes: &[&str], expires_at: Option<aiox_model::Ts>) -> NewApiKey {
    NewApiKey { name: "ci".into(), scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(), expires_at }
}

both_dbs!(a_new_account_is_signed_in_and_can_sign_in_again, |db| async move {
    let world = World::on(db).await;
    let pair = register(&world, " Alice@Mail.Example ", None, None).await.unwrap();
    let caller = enter(&world, &pair.access_token).await.unwrap();
    assert_eq!((caller.tenant, caller.role, caller.principal.jid().as_str()), (world.tenant, Role::User, "alice@hub-a.example"));
    assert_eq!(world.accounts.me(&caller).await.unwrap().email, "alice@mail.example");
    let again = login(&world, "ALICE@mail.example", PASSWORD).await.unwrap();
    assert_eq!(enter(&world, &again.access_token).await.unwrap().principal, caller.principal);
    let by_name = Login { email: None, username: Some("alice".into()), password: PASSWORD.into() };
    world.accounts.login(by_name, origin(&world)).await.unwrap();
    for (email, password) in [("alice@mail.example", "wrong password"), ("nobody@mail.example", PASSWORD)] {
        let error = login(&world, email, password).await.map(drop).unwrap_err();
        assert_eq!(error.to_string(), "invalid email or password", "both look the same");
    }
    assert_eq!(db_count(&world, "action = 'auth.denied' AND outcome = 'denied'").await, 2);
    assert_eq!(register(&world, "alice@mail.example", None, None).await.map(drop).unwrap_err().code(), "email_taken");
    assert_eq!(register(&world, "b@mail.example", Some("alice"), None).await.map(drop).unwrap_err().code(), "username_taken");
    register(&world, "alice@other.example", None, None).await.unwrap();
});

async fn db_count(world: &World, condition: &str) -> i64 {
    world.database.number(&format!("SELECT COUNT(*) FROM audit WHERE {condition}")).await
}

both_dbs!(an_access_token_dies_with_time_logout_and_its_account, |db| async move {
    let world = World::on(db).await;
    let pair = register(&world, "alice@mail.example", None, None).await.unwrap();
    let caller = enter(&world, &pair.access_token).await.unwrap();
    world.clock.advance(899);
    enter(&world, &pair.access_token).await.unwrap();
    world.clock.advance(2);
    enter(&world, &pair.access_token).await.unwrap_err();
    let next = refresh(&world, &pair).await.unwrap();
    enter(&world, &next.access_token).await.unwrap();
    world.accounts.logout(&caller).await.unwrap();
    enter(&world, &next.access_token).await.unwrap_err();
    refresh(&world, &next).await.map(drop).unwrap_err();
    let fresh = login(&world, "alice@mail.example", PASSWORD).await.unwrap();
    enter(&world, &fresh.access_token).await.unwrap();
    let admin = world.user_of(world.tenant, "admin", Role::TenantAdmin).await;
    let alice = caller.principal.user().unwrap();
    world.accounts.set_user(&admin, alice, None, Some(false), None).await.unwrap();
    enter(&world, &fresh.access_token).await.unwrap_err();
    login(&world, "alice@mail.example", PASSWORD).await.map(drop).unwrap_err();
    for nonsense in ["", "x", "a.b.c", fresh.refresh_token.as_str(), "aiox_key_", "aiox_key_00"] {
        assert!(matches!(enter(&world, nonsense).await, Err(Error::Unauthenticated(_))), "{nonsense}");
    }
});

both_dbs!(a_spent_refresh_token_ends_its_session_but_not_within_the_grace, |db| async move {
    let world = World::on(db).await;
    let first = register(&world, "alice@mail.example", None, None).await.unwrap();
    let second = refresh(&world, &first).await.unwrap();
    refresh(&world, &first).await.map(drop).unwrap_err();
    let third = refresh(&world, &second).await.unwrap();
    let elsewhere = login(&world, "alice@mail.example", PASSWORD).await.unwrap();
    world.clock.advance(30);
    refresh(&world, &first).await.map(drop).unwrap_err();
    refresh(&world, &third).await.map(drop).unwrap_err();
    enter(&world, &third.access_token).await.unwrap_err();
    enter(&world, &elsewhere.access_token).await.unwrap();
    refresh(&world, &elsewhere).await.unwrap();
});

both_dbs!(of_fifty_parallel_refreshes_one_succeeds, |db| async move {
    let world = World::on(db).await;
    let pair = register(&world, "alice@mail.example", None, None).await.unwrap();
    let outcomes = futures::future::join_all((0..50).map(|_| refresh(&world, &pair))).await;
    let mut good: Vec<_> = outcomes.into_iter().filter_map(Result::ok).collect();
    assert_eq!(good.len(), 1);
    refresh(&world, &good.pop().unwrap()).await.unwrap();
});

both_dbs!(of_fifty_parallel_registrations_one_succeeds_and_the_rest_conflict, |db| async move {
    let world = World::on(db).await;
    let outcomes = futures::future::join_all((0..50).map(|_| register(&world, "alice@mail.example", Some("alice"), None))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(error, Error::Conflict { .. }), "{}", error.chain());
    }
});

both_dbs!(an_api_key_does_what_it_may_and_no_more, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let made = world.accounts.create_key(&alice, key(&["runs:read"], None)).await.unwrap();
    let secret = made.secret.unwrap();
    let caller = enter(&world, &secret).await.unwrap();
    assert_eq!(caller.scopes, [Scope::RunsRead]);
    assert_eq!(caller.principal.key(), alice.principal.key());
    assert_eq!(world.accounts.keys(&alice).await.unwrap()[0].secret, None, "shown once");
    let aliases = key(&["runs:write", "events:read", "runs:cancel", "events:write"], None);
    assert_eq!(
        world.accounts.create_key(&alice, aliases).await.unwrap().scopes,
        ["runs:create", "runs:cancel", "runs:forward", "runs:read", "events:ingest"]
    );
    for scope in ["accounts:admin", "nonsense"] {
        world.accounts.create_key(&alice, key(&[scope], None)).await.map(drop).unwrap_err();
    }
    let error = world.accounts.create_key(&caller, key(&["runs:write"], None)).await.map(drop).unwrap_err();
    assert_eq!(error.code(), "forbidden", "a key makes no key that may more than itself");
    let agent = world.agent(&alice, "helper").await;
    let error = world.runs.submit(&caller, world.message(&agent, "hello")).await.map(drop).unwrap_err();
    assert_eq!(error.code(), "forbidden");
    let bob = world.user("bob").await;
    assert_eq!(world.accounts.revoke_key(&bob, ApiKeyId(made.id)).await.unwrap_err().code(), "not_found");
    world.accounts.revoke_key(&alice, ApiKeyId(made.id)).await.unwrap();
    enter(&world, &secret).await.unwrap_err();
    let short = aiox_core::ports::Clock::now(&*world.clock).plus_seconds(10);
    let secret = world.accounts.create_key(&alice, key(&[], Some(short))).await.unwrap().secret.unwrap();
    enter(&world, &secret).await.unwrap();
    world.clock.advance(11);
    enter(&world, &secret).await.unwrap_err();
    assert_eq!(world.accounts.create_key(&alice, key(&[], Some(short))).await.map(drop).unwrap_err().code(), "invalid_request");
});

both_dbs!(sign_up_may_need_an_invitation, |db| async move {
    let world = World::with(db, WorldOptions { sign_up: SignUp::Invite, ..WorldOptions::default() }).await;
    let admin = world.user_of(world.tenant, "admin", Role::TenantAdmin).await;
    assert_eq!(register(&world, "a@mail.example", None, None).await.map(drop).unwrap_err().code(), "invite_required");
    assert_eq!(register(&world, "a@mail.example", None, Some("x".into())).await.map(drop).unwrap_err().code(), "invite_invalid");
    let code = world.accounts.invite(&admin, Role::Operator).await.unwrap();
    let pair = register(&world, "a@mail.example", None, Some(code.clone())).await.unwrap();
    assert_eq!(enter(&world, &pair.access_token).await.unwrap().role, Role::Operator);
    assert_eq!(register(&world, "b@mail.example", None, Some(code)).await.map(drop).unwrap_err().code(), "invite_invalid");
    assert_eq!(world.accounts.invite(&admin, Role::PlatformAdmin).await.unwrap_err().code(), "forbidden");
    let alice = world.user("alice").await;
    assert_eq!(world.accounts.invite(&alice, Role::User).await.unwrap_err().code(), "forbidden");
    let world = world.restart_with(WorldOptions { sign_up: SignUp::Closed, ..WorldOptions::default() }).await;
    assert_eq!(register(&world, "c@mail.example", None, None).await.map(drop).unwrap_err().code(), "signup_closed");
});

both_dbs!(nobody_changes_accounts_above_or_beside_themselves, |db| async move {
    let world = World::on(db).await;
    let admin = world.user_of(world.tenant, "admin", Role::TenantAdmin).await;
    let root = world.user_of(world.tenant, "platform", Role::PlatformAdmin).await;
    let stranger = world.user_of(world.tenant("other").await, "stranger", Role::User).await;
    let id = |caller: &Caller| caller.principal.user().unwrap();
    let set = |who: UserId, role| world.accounts.set_user(&admin, who, role, None, None);
    assert_eq!(set(id(&root), Some(Role::User)).await.unwrap_err().code(), "forbidden");
    assert_eq!(set(id(&admin), Some(Role::PlatformAdmin)).await.unwrap_err().code(), "forbidden");
    assert_eq!(set(id(&stranger), Some(Role::Viewer)).await.unwrap_err().code(), "not_found");
    let alice = world.user("alice").await;
    world.accounts.set_user(&admin, id(&alice), Some(Role::Viewer), None, Some(json!({ "requests_day": 1 }))).await.unwrap();
    let alice = world.caller("alice@hub-a.example").await;
    assert_eq!((alice.role, alice.limits.requests_day), (Role::Viewer, 1));
    assert_eq!(world.accounts.users(&admin, 10, 0).await.unwrap().1, 3, "of the own tenant only");
    assert_eq!(world.accounts.users(&alice, 10, 0).await.unwrap_err().code(), "forbidden");
});

both_dbs!(a_new_password_ends_every_session, |db| async move {
    let world = World::on(db).await;
    let pair = register(&world, "alice@mail.example", None, None).await.unwrap();
    let caller = enter(&world, &pair.access_token).await.unwrap();
    let change = |old: &str| world.accounts.change_password(&caller, old.to_owned().into(), "battery staple".to_owned().into());
    change("wrong password").await.unwrap_err();
    enter(&world, &pair.access_token).await.unwrap();
    change(PASSWORD).await.unwrap();
    enter(&world, &pair.access_token).await.unwrap_err();
    login(&world, "alice@mail.example", PASSWORD).await.map(drop).unwrap_err();
    login(&world, "alice@mail.example", "battery staple").await.unwrap();
    assert_eq!(world.accounts.xmpp_accounts().await.unwrap().len(), 1);
});
