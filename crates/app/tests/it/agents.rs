//! Who sees which agent, what a name means, who wins.

use aiox_app::AgentRef;
use aiox_core::{Caller, Role};
use aiox_model::{
    AgentId, GrantId,
    agent::{Agent, AgentUpdate, GranteeKind, NewGrant},
};
use aiox_testkit::{World, both_dbs};
use serde_json::json;

fn by_id(agent: &Agent) -> AgentRef {
    AgentRef::Id(AgentId(agent.id))
}

/// What each thing that can be done with an agent says to this caller, as one text.
async fn looks(world: &World, caller: &Caller, agent: &AgentRef) -> String {
    let card = world.agents.card(caller, agent).await.map(|card| card.name);
    let mut message = world.message(&world.agent_stub(), "hello");
    message.agent = agent.clone();
    let run = world.runs.submit(caller, message).await.map(|_| ());
    let text = |error: aiox_core::Error| format!("{} {error}", error.code());
    format!("{:?} / {:?}", card.map_err(text), run.map_err(text))
}

trait Stub {
    fn agent_stub(&self) -> Agent;
}
impl Stub for World {
    fn agent_stub(&self) -> Agent {
        serde_json::from_value(json!({
            "id": self.fresh(), "owner_user_id": self.fresh(), "jid": "", "spiffe_id": "",
            "profile": { "name": "", "description": "", "system_prompt": "", "encrypted": true },
            "llm_config": {}, "capabilities": {}, "memory_config": {}, "governance": {}, "tools": {}, "visibility": "private",
            "version": 1, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"
        }))
        .unwrap()
    }
}

both_dbs!(a_private_agent_looks_like_a_missing_one, |db| async move {
    let world = World::on(db).await;
    world.befriend("hub-b.example").await;
    let alice = world.user("alice").await;
    let agent = world.agent_with(&alice, "helper", json!({ "handle": "helper" })).await;
    let missing = AgentRef::Id(AgentId(world.fresh()));
    let strangers = [
        world.user("bob").await,
        world.user_of(world.tenant("other").await, "carol", Role::Manager).await,
        world.caller("x@hub-b.example").await,
        world.caller("y@somewhere.example").await,
    ];
    for stranger in &strangers {
        let nothing = looks(&world, stranger, &missing).await;
        assert!(nothing.contains("not_found"), "{nothing}");
        let jid = AgentRef::Jid(agent.jid.parse().unwrap());
        for name in [by_id(&agent), AgentRef::Handle("helper".into()), jid] {
            assert_eq!(looks(&world, stranger, &name).await, nothing);
        }
        assert!(world.agents.usable(stranger).await.unwrap().is_empty());
    }
    assert!(looks(&world, &alice, &by_id(&agent)).await.starts_with("Ok(\"helper\")"));
    world.agents.delete(&alice, AgentId(agent.id)).await.unwrap();
    assert_eq!(looks(&world, &alice, &by_id(&agent)).await, looks(&world, &alice, &missing).await);
});

both_dbs!(each_kind_of_grant_opens_exactly_one_door, |db| async move {
    let world = World::on(db).await;
    world.befriend("hub-b.example").await;
    let alice = world.user("alice").await;
    let callers = [
        ("bob", world.user("bob").await),
        ("operator", world.user_of(world.tenant, "olga", Role::Manager).await),
        ("x at a friend", world.caller("x@hub-b.example").await),
        ("y at a friend", world.caller("y@hub-b.example").await),
        ("z elsewhere", world.caller("z@somewhere.example").await),
        ("w elsewhere", world.caller("w@other.example").await),
        ("other tenant", world.user_of(world.tenant("other").await, "viola", Role::User).await),
    ];
    // The manager may use every agent of the tenant, with or without a grant.
    let cases = [
        (GranteeKind::User, "bob", vec!["bob", "operator"]),
        (GranteeKind::Role, "user", vec!["bob", "operator"]),
        (GranteeKind::Jid, "x@hub-b.example", vec!["operator", "x at a friend"]),
        (GranteeKind::Jid, "z@somewhere.example", vec!["operator", "z elsewhere"]),
        (GranteeKind::Domain, "other.example", vec!["operator", "w elsewhere"]),
        (GranteeKind::Peer, "hub-b.example", vec!["operator", "x at a friend", "y at a friend"]),
        (GranteeKind::Peer, "other.example", vec!["operator"]),
    ];
    for (kind, grantee, expected) in cases {
        let agent = world.agent(&alice, "helper").await;
        let id = AgentId(agent.id);
        let grant = world.agents.grant(&alice, id, NewGrant { kind, grantee: grantee.to_uppercase() }).await.unwrap();
        let open = async || {
            let mut open = Vec::new();
            for (name, caller) in &callers {
                if world.directory.resolve(caller, &AgentRef::Id(id)).await.is_ok() {
                    open.push(*name);
                }
            }
            open
        };
        assert_eq!(open().await, expected, "{kind:?} {grantee}");
        let twice = world.agents.grant(&alice, id, NewGrant { kind, grantee: grantee.into() }).await;
        assert_eq!(twice.map(drop).unwrap_err().code(), "grant_exists");
        world.agents.revoke(&alice, id, GrantId(grant.id)).await.unwrap();
        assert_eq!(open().await, ["operator"]);
    }
});

both_dbs!(each_visibility_shows_as_far_as_it_says, |db| async move {
    let world = World::on(db).await;
    world.befriend("hub-b.example").await;
    let alice = world.user("alice").await;
    let callers = [
        world.user("bob").await,
        world.user_of(world.tenant("other").await, "carol", Role::User).await,
        world.caller("x@hub-b.example").await,
        world.caller("y@somewhere.example").await,
    ];
    for (visibility, expected) in [
        ("private", [false, false, false, false]),
        ("shared", [false, false, false, false]),
        ("tenant", [true, false, false, false]),
        ("mesh", [true, false, true, false]),
        ("public", [true, true, true, true]),
    ] {
        let agent = world.agent_with(&alice, "helper", json!({ "visibility": visibility })).await;
        for (caller, open) in callers.iter().zip(expected) {
            assert_eq!(world.directory.resolve(caller, &by_id(&agent)).await.is_ok(), open, "{visibility} {:?}", caller.principal);
            let listed = world.agents.usable(caller).await.unwrap().iter().any(|card| card.id == agent.id);
            assert_eq!(listed, open, "{visibility} in the list of {:?}", caller.principal);
        }
    }
    assert_eq!(world.agents.visible_to_peer("hub-b.example").await.unwrap().len(), 2);
    assert_eq!(world.agents.visible_to_peer("somewhere.example").await.unwrap().len(), 1);
});

both_dbs!(a_handle_is_never_given_twice, |db| async move {
    let world = World::on(db).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let agent = world.agent_with(&alice, "helper", json!({ "handle": "helper" })).await;
    let take = async |handle: &str| {
        let body = json!({ "name": "x", "system_prompt": "x", "handle": handle });
        world.agents.create(&bob, serde_json::from_value(body).unwrap()).await.map(drop)
    };
    assert_eq!(take("helper").await.unwrap_err().code(), "handle_taken");
    let id = AgentId(agent.id);
    let renamed = AgentUpdate { handle: Some("assistant".into()), ..AgentUpdate::default() };
    world.agents.update(&alice, id, renamed).await.unwrap();
    assert_eq!(take("helper").await.unwrap_err().code(), "handle_taken");
    for name in ["helper", "assistant"] {
        assert_eq!(world.agents.card(&alice, &AgentRef::Handle(name.into())).await.unwrap().id, agent.id, "old names stay");
    }
    world.agents.delete(&alice, id).await.unwrap();
    world.clock.advance(1);
    let later = aiox_core::ports::Clock::now(&*world.clock);
    assert_eq!(world.agents.purge(later).await.unwrap(), 1);
    for name in ["helper", "assistant"] {
        assert_eq!(take(name).await.unwrap_err().code(), "handle_taken");
    }
    assert_eq!(world.agents.restore(&alice, id).await.map(drop).unwrap_err().code(), "not_found", "purged is gone");
});

both_dbs!(of_parallel_changes_one_wins, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let id = AgentId(agent.id);
    let outcomes = futures::future::join_all((0..20).map(|index| {
        let change = AgentUpdate { name: Some(format!("name {index}")), version: Some(1), ..AgentUpdate::default() };
        world.agents.update(&alice, id, change)
    }))
    .await;
    let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(won[0].version, 2);
    assert_eq!(world.agents.get(&alice, id).await.unwrap().profile.name, won[0].profile.name);
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.code(), "version_conflict");
    }
});

both_dbs!(what_is_not_ones_own_does_not_change, |db| async move {
    let world = World::on(db).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let stranger = world.user_of(world.tenant("other").await, "carol", Role::Manager).await;
    let agent = world.agent_with(&alice, "helper", json!({ "visibility": "public" })).await;
    let id = AgentId(agent.id);
    for (caller, code) in [(&bob, "forbidden"), (&stranger, "not_found")] {
        assert_eq!(world.agents.get(caller, id).await.map(drop).unwrap_err().code(), code);
        assert_eq!(world.agents.update(caller, id, AgentUpdate::default()).await.map(drop).unwrap_err().code(), code);
        assert_eq!(world.agents.delete(caller, id).await.unwrap_err().code(), code);
        let grant = NewGrant { kind: GranteeKind::User, grantee: "bob".into() };
        assert_eq!(world.agents.grant(caller, id, grant).await.map(drop).unwrap_err().code(), code);
    }
    let viewer = Caller { scopes: Role::Viewer.scopes(), ..alice.clone() };
    assert_eq!(world.agents.delete(&viewer, id).await.unwrap_err().code(), "forbidden");
    assert_eq!(world.agents.get(&alice, id).await.unwrap().version, 1);
    world.agents.delete(&alice, id).await.unwrap();
    assert_eq!(world.agents.restore(&bob, id).await.map(drop).unwrap_err().code(), "not_found");
    assert_eq!(world.agents.restore(&alice, id).await.unwrap().version, 3);
    let (log, _) = world.agents.audit(&alice, Some(id), aiox_store::audit::Filter::default(), 10, 0).await.unwrap();
    let actions: Vec<_> = log.iter().rev().map(|row| row.action.as_str()).collect();
    assert_eq!(actions, ["agent.created", "agent.deleted", "agent.restored"]);
});
