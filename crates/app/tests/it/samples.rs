//! What a hub for trying out has from the start.

use aiox_app::{
    AgentRef, NewRun,
    accounts::{Named, Origin},
    samples,
};
use aiox_core::{Caller, Door, Role, run::Priority};
use aiox_model::{RunId, TraceId, run::RunStatus};
use aiox_testkit::{World, both_dbs};

async fn make(world: &World) {
    samples::make(&world.store, &world.accounts, &world.agents, &*world.clock, &*world.ids).await.unwrap();
}

async fn somebody(world: &World) -> Caller {
    let tenant = world.tenants.book().named(samples::TENANT).await.unwrap();
    let named = Named { tenant, principal: "usr_conformance", service: false };
    world.accounts.named(named, Origin { address: None, trace: TraceId(world.fresh()) }, Door::V1).await.unwrap()
}

both_dbs!(the_samples_are_made_once_and_answer, |db| async move {
    let world = World::on(db).await;
    make(&world).await;
    make(&world).await;
    let who = somebody(&world).await;
    let mut listed: Vec<String> = world.agents.summaries(&who).await.unwrap().into_iter().map(|agent| agent.name).collect();
    listed.sort_unstable();
    assert_eq!(listed, ["Demo Agent", "Sample Echo Agent"]);
    let worker = world.serve("w1", 2);
    for name in ["agt_demo", "AGT_SAMPLE_ECHO_V1", "agt_demo@agents.hub-a.example"] {
        let agent = AgentRef::parse(name).unwrap();
        assert!(world.agents.summary(&who, &agent).await.unwrap().active, "{name}");
        let new = NewRun {
            agent,
            input: "hello demo".into(),
            conversation: None,
            idempotency_key: None,
            reply: None,
            priority: Priority::Normal,
            timeout_ms: None,
            bounds: aiox_app::Bounds::default(),
            asked: None,
        };
        let run = world.runs.submit(&who, new).await.unwrap().run;
        let ended = aiox_testkit::within(world.runs.wait(RunId(run.id))).await.unwrap();
        assert_eq!(ended.status, RunStatus::Completed, "{name}: {ended:?}");
    }
    worker.abort();
    // Nobody of another tenant sees them, and nobody else can have such a name.
    let alice = world.user("alice").await;
    assert_eq!(world.agents.summary(&alice, &AgentRef::parse("agt_demo").unwrap()).await.unwrap_err().code(), "not_found");
    let taken = serde_json::json!({ "name": "x", "system_prompt": "x", "handle": "agt_demo" });
    assert_eq!(world.agents.create(&alice, serde_json::from_value(taken).unwrap()).await.map(drop).unwrap_err().code(), "invalid_request");
});

both_dbs!(what_an_administrator_did_to_the_samples_stays, |db| async move {
    let world = World::on(db).await;
    make(&world).await;
    let who = somebody(&world).await;
    let owner = world.accounts.named(
        Named { tenant: who.tenant, principal: "usr_tnt_demo_admin", service: false },
        Origin { address: None, trace: TraceId(world.fresh()) },
        Door::V1,
    );
    let owner = Caller { scopes: Role::User.scopes(), ..owner.await.unwrap() };
    let demo = world.agents.summary(&who, &AgentRef::parse("agt_demo").unwrap()).await.unwrap();
    world.agents.delete(&owner, demo.id).await.unwrap();
    make(&world).await;
    assert_eq!(world.agents.summaries(&who).await.unwrap().len(), 1);
    let root = world.user_of(world.tenant, "root", Role::PlatformAdmin).await;
    world.tenants.set_enabled(&root, samples::TENANT, false).await.unwrap();
    make(&world).await;
    assert_eq!(world.tenants.read(&root, samples::TENANT).await.unwrap().status, "disabled");
    world.tenants.delete(&root, samples::TENANT, Some(samples::TENANT)).await.unwrap();
    make(&world).await;
    assert_eq!(world.tenants.read(&root, samples::TENANT).await.unwrap_err().code(), "not_found");
});
