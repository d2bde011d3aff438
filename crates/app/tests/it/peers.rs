//! Runs that go to a peer hub, and runs that come from one.

use aiox_app::{
    AgentRef, NewRun,
    runs::{PeerEnvelope, Taken},
};
use aiox_core::{Caller, Error, Principal};
use aiox_model::{
    EnvelopeId, EventId, RunId,
    federation::{RunCancel, RunCreate},
    run::{RunEvent, RunStatus},
};
use aiox_testkit::{World, answer, both_dbs, within};
use serde_json::{Value, json};
use uuid::Uuid;

const PEER: &str = "hub-b.example";
const NODE: &str = "spiffe://hub-b.example/node/n1";

fn now(world: &World) -> aiox_model::Ts {
    aiox_core::ports::Clock::now(&*world.clock)
}

fn remote(input: &str) -> NewRun {
    NewRun {
        agent: AgentRef::Jid("helper@agents.hub-b.example".parse().unwrap()),
        input: input.into(),
        conversation: None,
        idempotency_key: None,
        reply: None,
        priority: aiox_core::run::Priority::Normal,
        timeout_ms: None,
        bounds: aiox_app::Bounds::default(),
        asked: None,
    }
}

async fn away(world: &World, caller: &Caller, input: &str) -> RunId {
    RunId(world.runs.submit(caller, remote(input)).await.unwrap().run.id)
}

fn event(world: &World, run: RunId, sequence: u64, kind: &str, payload: Value) -> RunEvent {
    RunEvent { id: world.fresh(), run_id: run.uuid(), sequence, kind: kind.into(), time: now(world), payload }
}

fn envelope(world: &World, node: &str, agent: AgentRef, id: EnvelopeId) -> PeerEnvelope {
    PeerEnvelope {
        origin: node.into(),
        sub: "x@hub-b.example".parse().unwrap(),
        id,
        digest: "d1".into(),
        document: "{}".into(),
        created: now(world),
        idem: None,
        trace: None,
        agent,
        verdict: "\"accepted\"".into(),
        conv: "c".into(),
        seq: 1,
    }
}

both_dbs!(a_run_for_a_peer_is_durable_with_its_envelope_or_not_at_all, |db| async move {
    let world = World::on(db.clone()).await;
    let alice = world.user("alice").await;
    assert_eq!(world.runs.submit(&alice, remote("hello")).await.map(drop).unwrap_err().code(), "not_found", "no such peer");
    world.befriend(PEER).await;
    let run = away(&world, &alice, "hello").await;
    within(world.federated.envelope_added(PEER)).await;
    let due = world.federated.due(PEER, now(&world), 10).await.unwrap();
    assert_eq!((due.len(), due[0].run, due[0].kind.as_str(), due[0].seq), (1, Some(run.uuid()), "run.create", 1));
    let draft = world.wire.sealed().pop().unwrap();
    let create: RunCreate = serde_json::from_str(&draft.payload).unwrap();
    assert_eq!((create.run_id, create.input.as_str(), draft.sub.as_str()), (run, "hello", "alice@hub-a.example"));
    let first = world.runs.events(&alice, run, 0, 10).await.unwrap().1;
    assert_eq!(create.event_id.unwrap().uuid(), first[0].id, "the first event is the same on both hubs");
    assert_eq!(world.dispatch.waiting().await, (0, 0), "no worker here gets it");
    let view = world.runs.get(&alice, run).await.unwrap();
    assert_eq!((view.peer.as_deref(), view.delivery.as_deref()), (Some(PEER), Some("queued")));
    world.wire.refuse();
    assert_eq!(world.runs.submit(&alice, remote("again")).await.map(drop).unwrap_err().code(), "peer_unavailable");
    for table in ["runs", "fed_outbox", "conversations"] {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {table}")).await, 1, "{table}");
    }
    let stranger = world.caller("z@hub-c.example").await;
    assert_eq!(world.runs.submit(&stranger, remote("pass on")).await.map(drop).unwrap_err().code(), "not_found", "nobody is relayed");
    let world = world.restart().await;
    assert_eq!(world.dispatch.recover().await.unwrap(), 0, "a peer's run is not for the workers here");
    assert_eq!(world.federated.waiting(PEER).await.unwrap(), 1);
});

both_dbs!(mirrored_events_keep_their_ids_and_sequences, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    world.befriend(PEER).await;
    let run = away(&world, &alice, "hello").await;
    let sent = EnvelopeId(world.federated.due(PEER, now(&world), 10).await.unwrap()[0].id);
    assert!(world.federated.unfinished(PEER, 10).await.unwrap().is_empty(), "not followed before it is delivered");
    world.federated.delivered(sent).await.unwrap();
    assert_eq!(world.federated.unfinished(PEER, 10).await.unwrap(), [(run, 1)]);
    let usage = json!({ "input_tokens": 4, "output_tokens": 6 });
    let output = json!({ "output": { "type": "text", "text": "from afar" }, "usage": usage, "model": "echo/9" });
    let events = [
        event(&world, run, 2, "run.started", json!({ "status": "running" })),
        event(&world, run, 3, "tool.call", json!({ "tool": "clock" })),
        event(&world, run, 4, "run.completed", output),
    ];
    let gap = world.federated.mirror(PEER, events[1].clone()).await.unwrap_err();
    assert_eq!(gap.code(), "gap");
    assert!(matches!(world.federated.mirror("hub-c.example", events[0].clone()).await, Err(Error::NotFound(_))), "of another peer");
    assert!(!world.federated.mirror(PEER, events[0].clone()).await.unwrap());
    assert!(!world.federated.mirror(PEER, events[0].clone()).await.unwrap(), "a repeated event changes nothing");
    assert!(!world.federated.mirror(PEER, events[1].clone()).await.unwrap());
    assert!(world.federated.mirror(PEER, events[2].clone()).await.unwrap());
    assert!(world.federated.mirror(PEER, events[2].clone()).await.unwrap());
    let (status, stored) = world.runs.events(&alice, run, 1, 10).await.unwrap();
    assert_eq!((status, stored), (RunStatus::Completed, events.to_vec()));
    let ended = world.ended(run).await;
    assert_eq!((ended.output.as_deref(), ended.output_tokens, ended.model_used.as_deref()), (Some("from afar"), 6, Some("echo/9")));
    assert_eq!((ended.delivery.as_deref(), ended.attempt), (Some("delivered"), 1));
    assert!(world.federated.unfinished(PEER, 10).await.unwrap().is_empty());
});

both_dbs!(an_undeliverable_envelope_ends_its_run, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    world.befriend(PEER).await;
    for (state, code, expected) in [("refused", "not_found", "not_found"), ("expired", "expired", "expired")] {
        let run = away(&world, &alice, "hello").await;
        let due = world.federated.due(PEER, now(&world), 10).await.unwrap();
        let envelope = EnvelopeId(due.iter().find(|row| row.run == Some(run.uuid())).unwrap().id);
        world.federated.undeliverable(envelope, state, code).await.unwrap();
        let ended = world.ended(run).await;
        assert_eq!((ended.status, ended.error.unwrap().code.as_str()), (RunStatus::Failed, expected));
        assert_eq!(ended.delivery.as_deref(), Some(state));
        world.federated.undeliverable(envelope, state, code).await.unwrap();
        assert_eq!(world.kinds(run).await, ["run.created", "run.failed"]);
    }
});

both_dbs!(a_cancel_follows_its_run_to_the_peer, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    world.befriend(PEER).await;
    let run = away(&world, &alice, "hello").await;
    assert_eq!(world.runs.cancel(&alice, run).await.unwrap().status, RunStatus::Canceled);
    let due = world.federated.due(PEER, now(&world), 10).await.unwrap();
    assert_eq!(due.iter().map(|row| (row.kind.as_str(), row.seq)).collect::<Vec<_>>(), [("run.create", 1), ("run.cancel", 2)]);
    // A cancel that cannot be delivered leaves the run as it ended.
    world.federated.undeliverable(EnvelopeId(due[1].id), "refused", "not_found").await.unwrap();
    assert_eq!(world.kinds(run).await, ["run.created", "run.canceled"]);
});

both_dbs!(a_run_from_a_peer_keeps_its_identity_and_is_taken_once, |db| async move {
    let world = World::on(db.clone()).await;
    world.befriend(PEER).await;
    let alice = world.user("alice").await;
    let agent = world.agent_with(&alice, "helper", json!({ "visibility": "mesh" })).await;
    let (run, first, id) = (RunId(world.fresh()), EventId(world.fresh()), EnvelopeId(world.fresh()));
    let create = || RunCreate {
        run_id: run,
        input: "from afar".into(),
        conversation_id: None,
        event_id: Some(first),
        other: json!({ "event": { "status": "queued", "door": "xmpp" }, "timeout_ms": 1234 }).as_object().cloned().unwrap(),
    };
    let name = AgentRef::Id(agent.id.into());
    let limits = alice.limits;
    let taken = world.runs.take_create(envelope(&world, NODE, name.clone(), id), create(), limits).await.unwrap();
    assert_eq!(taken, Taken::Accepted);
    let copy = PeerEnvelope { digest: "d2".into(), verdict: "\"other\"".into(), ..envelope(&world, NODE, name.clone(), id) };
    let seen = Taken::Seen { digest: "d1".into(), verdict: "\"accepted\"".into() };
    assert_eq!(world.runs.take_create(copy, create(), limits).await.unwrap(), seen);
    assert_eq!(world.runs.envelope_seen(NODE, id).await.unwrap(), Some(("d1".into(), "\"accepted\"".into())));
    assert_eq!(db.number("SELECT COUNT(*) FROM runs").await, 1);
    let worker = world.worker("w1", 1);
    let task = within(worker.next()).await.unwrap();
    assert_eq!((task.run, task.from_jid.as_str(), task.timeout_ms), (run.uuid(), "x@hub-b.example", 1234));
    worker.complete(task.run, answer("here")).await.unwrap();
    let row = aiox_store::runs::by_id(&mut world.store.read().await.unwrap(), run.uuid()).await.unwrap().unwrap();
    assert_eq!((row.tenant, row.origin.as_deref(), row.principal.as_str()), (world.tenant.uuid(), Some(NODE), "jid:x@hub-b.example"));
    let stored = aiox_store::runs::events(&mut world.store.read().await.unwrap(), run.uuid(), 0, 9).await.unwrap();
    assert_eq!((stored[0].id, stored[0].payload["door"].as_str()), (first.uuid(), Some("xmpp")));
    let watched = world.runs.watch_for_peer(NODE, run, 1, true).await.unwrap().unwrap();
    assert_eq!(within(futures::StreamExt::count(watched)).await, 5);
    assert!(world.runs.watch_for_peer(NODE, run, 6, true).await.unwrap().is_none(), "nothing comes after");
    let other = world.runs.watch_for_peer("spiffe://hub-c.example/node/n1", run, 0, true).await;
    assert_eq!(other.map(drop).unwrap_err().code(), "not_found");
    // The peer's user talks to this agent in a conversation of its own.
    let history = world.runs.history_for_peer("x@hub-b.example".parse().unwrap(), &name, 10, 0).await.unwrap();
    assert_eq!(history.iter().map(|message| message.content.as_str()).collect::<Vec<_>>(), ["from afar", "here"]);
    assert!(world.runs.history_for_peer("y@hub-b.example".parse().unwrap(), &name, 10, 0).await.unwrap().is_empty());
    assert!(world.runs.history_for_peer("y@hub-c.example".parse().unwrap(), &name, 10, 0).await.is_err());
});

both_dbs!(a_peer_cannot_take_the_id_of_another_run, |db| async move {
    let world = World::on(db.clone()).await;
    world.befriend(PEER).await;
    let alice = world.user("alice").await;
    let agent = world.agent_with(&alice, "helper", json!({ "visibility": "mesh" })).await;
    let mine = world.submit(&alice, &agent, "mine").await;
    let create = RunCreate { run_id: mine, input: "stolen".into(), conversation_id: None, event_id: None, other: serde_json::Map::new() };
    let forged = envelope(&world, NODE, AgentRef::Id(agent.id.into()), EnvelopeId(world.fresh()));
    let error = world.runs.take_create(forged.clone(), create, alice.limits).await.unwrap_err();
    assert_eq!(error.code(), "conflict");
    assert_eq!(world.runs.get(&alice, mine).await.unwrap().input, "mine");
    assert_eq!(world.runs.envelope_seen(NODE, forged.id).await.unwrap(), None, "nothing of the envelope is kept");
});

both_dbs!(a_peer_cancels_only_what_it_asked_for, |db| async move {
    let world = World::on(db).await;
    world.befriend(PEER).await;
    let alice = world.user("alice").await;
    let agent = world.agent_with(&alice, "helper", json!({ "visibility": "mesh" })).await;
    let name = AgentRef::Id(agent.id.into());
    let mine = world.submit(&alice, &agent, "mine").await;
    let cancel = |run| RunCancel { run_id: run, reason: None };
    let id = || EnvelopeId(Uuid::from_u128(world.fresh().as_u128()));
    for run in [mine, RunId(world.fresh())] {
        // A run of somebody else and one that may come look the same.
        let taken = world.runs.take_cancel(envelope(&world, NODE, name.clone(), id()), cancel(run), now(&world)).await.unwrap();
        assert_eq!(taken, Taken::Accepted);
    }
    assert_eq!(world.runs.get(&alice, mine).await.unwrap().status, RunStatus::Queued);
    let theirs = RunId(world.fresh());
    let create = RunCreate { run_id: theirs, input: "x".into(), conversation_id: None, event_id: None, other: serde_json::Map::new() };
    world.runs.take_create(envelope(&world, NODE, name.clone(), id()), create, alice.limits).await.unwrap();
    let foreign = envelope(&world, "spiffe://hub-c.example/node/n1", name.clone(), id());
    assert_eq!(world.runs.take_cancel(foreign, cancel(theirs), now(&world)).await.unwrap(), Taken::Accepted);
    assert_eq!(world.kinds(theirs).await, ["run.created"]);
    let once = id();
    let asked = envelope(&world, NODE, name.clone(), once);
    assert_eq!(world.runs.take_cancel(asked.clone(), cancel(theirs), now(&world)).await.unwrap(), Taken::Accepted);
    assert!(matches!(world.runs.take_cancel(asked, cancel(theirs), now(&world)).await.unwrap(), Taken::Seen { .. }));
    assert_eq!(world.kinds(theirs).await, ["run.created", "run.canceled"]);
});

both_dbs!(a_cancel_that_comes_first_cancels_its_run_once_and_after_a_restart_too, |db| async move {
    let (run, name, limits, first) = {
        let world = World::on(db.clone()).await;
        world.befriend(PEER).await;
        let alice = world.user("alice").await;
        let agent = world.agent_with(&alice, "helper", json!({ "visibility": "mesh" })).await;
        let (run, name) = (RunId(world.fresh()), AgentRef::Id(agent.id.into()));
        let first = envelope(&world, NODE, name.clone(), EnvelopeId(world.fresh()));
        let cancel = RunCancel { run_id: run, reason: None };
        assert_eq!(world.runs.take_cancel(first.clone(), cancel.clone(), now(&world)).await.unwrap(), Taken::Accepted);
        let again = world.runs.take_cancel(first.clone(), cancel, now(&world)).await.unwrap();
        assert!(matches!(again, Taken::Seen { .. }));
        (run, name, alice.limits, first)
    };
    let world = World::on(db.clone()).await;
    let worker = world.worker("w1", 1);
    let create = |run| RunCreate { run_id: run, input: "x".into(), conversation_id: None, event_id: None, other: serde_json::Map::new() };
    let id = || EnvelopeId(world.fresh());
    // A run of another peer with this id is another matter.
    let sent = PeerEnvelope { seq: 2, ..envelope(&world, NODE, name.clone(), id()) };
    assert_eq!(world.runs.take_create(sent.clone(), create(run), limits).await.unwrap(), Taken::Accepted);
    assert!(matches!(world.runs.take_create(sent, create(run), limits).await.unwrap(), Taken::Seen { .. }));
    assert_eq!(world.ended(run).await.status, RunStatus::Canceled);
    assert_eq!(world.kinds(run).await, ["run.created", "run.canceled"]);
    assert_eq!(aiox_store::order::waiting_cancels(&mut world.store.read().await.unwrap(), NODE).await.unwrap(), 0);
    // No worker gets it: the next one does.
    let other = RunId(world.fresh());
    let sent = PeerEnvelope { seq: 3, ..envelope(&world, NODE, name.clone(), id()) };
    world.runs.take_create(sent, create(other), limits).await.unwrap();
    assert_eq!(within(worker.next()).await.unwrap().run, other.uuid());
    assert_eq!(world.runs.mark(NODE, "c").await.unwrap(), Some(3));
    assert_eq!(first.seq, 1);
});

both_dbs!(of_a_create_and_its_cancel_at_once_both_are_taken, |db| async move {
    let world = World::on(db).await;
    world.befriend(PEER).await;
    let alice = world.user("alice").await;
    let agent = world.agent_with(&alice, "helper", json!({ "visibility": "mesh" })).await;
    let name = AgentRef::Id(agent.id.into());
    for _ in 0..20 {
        let run = RunId(world.fresh());
        let create = RunCreate { run_id: run, input: "x".into(), conversation_id: None, event_id: None, other: serde_json::Map::new() };
        let cancel = RunCancel { run_id: run, reason: None };
        let [one, two] = [1, 2].map(|_| envelope(&world, NODE, name.clone(), EnvelopeId(world.fresh())));
        let (created, canceled) =
            tokio::join!(world.runs.take_create(one, create, alice.limits), world.runs.take_cancel(two, cancel, now(&world)));
        assert_eq!((created.unwrap(), canceled.unwrap()), (Taken::Accepted, Taken::Accepted));
        assert_eq!(world.ended(run).await.status, RunStatus::Canceled);
        assert_eq!(world.kinds(run).await.iter().filter(|kind| *kind == "run.canceled").count(), 1);
    }
});

both_dbs!(what_a_peer_lost_goes_again_and_nothing_else, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    world.befriend(PEER).await;
    for _ in 0..3 {
        away(&world, &alice, "hello").await;
    }
    let due = world.federated.due(PEER, now(&world), 10).await.unwrap();
    let conv = due[0].conv.clone();
    let ids: Vec<_> = due.iter().map(|row| EnvelopeId(row.id)).collect();
    world.federated.all_delivered(&ids[..2]).await.unwrap();
    let later = now(&world).plus_seconds(1);
    let marks = |mark: u64| std::collections::BTreeMap::from([(conv.clone(), mark), ("other".to_owned(), 0)]);
    let refill = async |mark, before| world.federated.refill(PEER, &marks(mark), before).await.unwrap();
    assert_eq!(refill(2, later).await, 0, "it has both");
    assert_eq!(refill(0, now(&world).plus_seconds(-1)).await, 0, "they were confirmed after the marks were taken");
    assert_eq!(world.federated.refill("hub-c.example", &marks(0), later).await.unwrap(), 0, "of another peer");
    assert_eq!(refill(1, later).await, 1);
    let due = world.federated.due(PEER, now(&world), 10).await.unwrap();
    assert_eq!(due.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3], "in order, with the same envelope");
    assert_eq!(EnvelopeId(due[0].id), ids[1]);
});

both_dbs!(a_stranger_is_a_remote_principal_with_no_rights_of_its_own, |db| async move {
    let world = World::on(db).await;
    let caller = world.caller("x@hub-b.example").await;
    assert!(matches!(caller.principal, Principal::Remote { .. }));
    let body = serde_json::from_value(json!({ "name": "x", "system_prompt": "x" })).unwrap();
    assert_eq!(world.agents.create(&caller, body).await.map(drop).unwrap_err().code(), "forbidden");
    let nobody = world.accounts.caller_for_jid(&"ghost@hub-a.example".parse().unwrap(), caller.trace).await.unwrap();
    assert!(nobody.is_none(), "an address of this hub without an account is nobody");
});
