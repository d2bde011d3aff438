//! One message on its way: accepted, ordered, remembered, answered once.

use aiox_app::{NewRun, ReplyTo, TaskEvent, WorkerInfo};
use aiox_core::{Caller, Error, ports::Signal, quota::Limits, run::Priority};
use aiox_model::run::RunStatus;
use aiox_testkit::{World, answer, both_dbs, within, worker_info};
use futures::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

both_dbs!(a_message_is_answered, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent =
        world.agent_with(&alice, "helper", json!({ "personality_traits": ["calm"], "handle": "helper", "tools": { "clock": {} } })).await;
    let reply = ReplyTo {
        to: "alice@hub-a.example".into(),
        to_full: "alice@hub-a.example/phone".into(),
        from: "helper@agents.hub-a.example".into(),
        stanza_id: Some("s1".into()),
        thread: None,
        streamed_id: None,
    };
    let message = NewRun { reply: Some(reply.clone()), ..world.message(&agent, "hello") };
    let run = world.runs.submit(&alice, message).await.unwrap().run;
    assert_eq!((run.status, run.input.as_str(), run.agent_jid.as_str()), (RunStatus::Queued, "hello", agent.jid.as_str()));
    let id = aiox_model::RunId(run.id);
    let mut signals = std::pin::pin!(world.runs.follow(id, 0, true));
    let mut seen = Vec::new();
    let mut next = async || match within(signals.next()).await {
        Some(Ok(Signal::Event(event))) => format!("{} {}", event.sequence, event.kind),
        Some(Ok(Signal::Delta(delta))) => format!("delta {}", delta.text),
        Some(Err(error)) => error.chain(),
        None => "end".into(),
    };
    seen.push(next().await);
    let info = WorkerInfo { tools: ["clock".to_owned()].into(), ..worker_info("w1", 1) };
    let worker = world.dispatch.register(info).unwrap();
    let task = within(worker.next()).await.unwrap();
    assert_eq!((task.run, task.message.as_str(), task.attempt, task.provider.as_str()), (run.id, "hello", 1, "echo"));
    assert_eq!((task.from_jid.as_str(), task.agent_name.as_str()), ("alice@hub-a.example", "helper"));
    assert_eq!(secrecy_text(&task.system_prompt), "Be kind.\n\nPersonality: calm.");
    seen.push(next().await);
    seen.push(next().await);
    worker.delta(task.run, "hi ".into()).await;
    seen.push(next().await);
    let call = json!({ "tool_call_id": "tcall_1", "name": "clock" }).as_object().cloned().unwrap();
    assert!(worker.event(task.run, TaskEvent::ToolCall, call.clone()).await.unwrap());
    let twice = worker.event(task.run, TaskEvent::ToolCall, call.clone()).await.unwrap_err();
    assert_eq!(twice.code(), "invalid_request", "a call of that id waits for its result");
    assert!(worker.event(task.run, TaskEvent::ToolResult, call.clone()).await.unwrap());
    assert_eq!(worker.event(task.run, TaskEvent::ToolResult, call).await.unwrap_err().code(), "invalid_request");
    assert!(worker.complete(task.run, answer("hi there")).await.unwrap());
    while seen.last().is_none_or(|last| last != "end") {
        seen.push(next().await);
    }
    let before = ["1 run.created", "2 run.started", "3 model.requested", "delta hi "];
    let behind = ["4 tool.call", "5 tool.result", "6 model.completed", "7 step.completed", "8 run.completed", "end"];
    assert_eq!(seen, [&before[..], &behind].concat());
    let done = world.ended(id).await;
    assert_eq!((done.status, done.output.as_deref(), done.model_used.as_deref()), (RunStatus::Completed, Some("hi there"), Some("echo/1")));
    assert_eq!((done.input_tokens, done.output_tokens, done.attempt, done.worker_id.as_deref()), (3, 5, 1, Some("w1")));
    let waiting = world.replies.due(Uuid::nil(), 10).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].run, waiting[0].text.as_str(), &waiting[0].to), (1, run.id, "hi there", &reply));
    within(world.replies.news()).await;
    world.replies.confirm(vec![waiting[0].id]).await.unwrap();
    assert!(world.replies.due(Uuid::nil(), 10).await.unwrap().is_empty());
    let late: Vec<_> = within(world.runs.follow(id, 2, true).collect::<Vec<_>>()).await;
    assert_eq!(late.len(), 6, "whoever comes later reads the store");
    let quota = world.runs.quota(&alice).await.unwrap();
    assert_eq!((quota.requests_today, quota.tokens_used_today), (1, 8), "settled to what was used");
});

fn secrecy_text(secret: &impl secrecy::ExposeSecret<str>) -> String {
    secret.expose_secret().to_owned()
}

both_dbs!(what_cannot_be_accepted_leaves_nothing, |db| async move {
    let world = World::on(db.clone()).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let blocked = world.agent_with(&alice, "x", json!({ "governance": { "blocked": true } })).await;
    let closed = world.agent_with(&alice, "x", json!({ "governance": { "allowed_domains": ["hub-b.example"] } })).await;
    let foreign = world
        .agent_with(&alice, "x", json!({ "llm_config": { "provider": "other" }, "governance": { "allowed_providers": ["echo"] } }))
        .await;
    let unknown = world.agent_with(&alice, "x", json!({ "llm_config": { "provider": "nobody" } })).await;
    let large = "x".repeat(65_537);
    let poor = Caller { limits: Limits { tokens_minute: 5, ..alice.limits }, ..alice.clone() };
    for (caller, message, code) in [
        (&alice, world.message(&agent, " \n "), "invalid_request"),
        (&alice, world.message(&agent, &large), "too_large"),
        (&alice, NewRun { timeout_ms: Some(0), ..world.message(&agent, "x") }, "invalid_request"),
        (&alice, NewRun { idempotency_key: Some("k".repeat(257)), ..world.message(&agent, "x") }, "invalid_request"),
        (&alice, NewRun { conversation: Some(world.fresh()), ..world.message(&agent, "x") }, "not_found"),
        (&alice, world.message(&blocked, "x"), "agent_blocked"),
        (&alice, world.message(&closed, "x"), "domain_not_allowed"),
        (&alice, world.message(&foreign, "x"), "provider_not_allowed"),
        (&alice, world.message(&unknown, "x"), "unknown_provider"),
        (&poor, world.message(&agent, "x"), "quota_exceeded"),
    ] {
        assert_eq!(world.runs.submit(caller, message).await.map(drop).unwrap_err().code(), code);
    }
    for table in ["runs", "run_events", "messages", "conversations", "quota_usage"] {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(world.dispatch.waiting().await, (0, 0));
    let Err(Error::Limited { retry_after, .. }) = world.runs.submit(&poor, world.message(&agent, "x")).await else { panic!("not limited") };
    assert!((1..=60).contains(&retry_after.as_secs()), "{retry_after:?}");
});

both_dbs!(of_a_hundred_senders_with_ten_requests_ten_get_through, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let poor = Caller { limits: Limits { requests_day: 10, ..alice.limits }, ..alice.clone() };
    let outcomes = futures::future::join_all((0..100).map(|_| world.runs.submit(&poor, world.message(&agent, "hello")))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
    world.clock.advance(86_400);
    world.runs.submit(&poor, world.message(&agent, "a new day")).await.unwrap();
});

both_dbs!(fifty_submits_with_one_key_are_one_run, |db| async move {
    let world = World::on(db.clone()).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let keyed = |input: &str| NewRun { idempotency_key: Some("k1".into()), ..world.message(&agent, input) };
    let outcomes = futures::future::join_all((0..50).map(|_| world.runs.submit(&alice, keyed("hello")))).await;
    let made: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().filter(|made| !made.replayed).count(), 1);
    assert!(made.iter().all(|one| one.run.id == made[0].run.id));
    assert_eq!(db.number("SELECT COUNT(*) FROM runs").await, 1);
    assert_eq!(world.dispatch.waiting().await.0, 1);
    assert_eq!(world.runs.submit(&alice, keyed("other")).await.map(drop).unwrap_err().code(), "idempotency_conflict");
    let urgent = NewRun { priority: Priority::High, ..keyed("hello") };
    assert_eq!(world.runs.submit(&alice, urgent).await.map(drop).unwrap_err().code(), "idempotency_conflict");
    let world = world.restart().await;
    let again = NewRun { idempotency_key: Some("k1".into()), ..world.message(&agent, "hello") };
    assert!(world.runs.submit(&alice, again).await.unwrap().replayed);
});

both_dbs!(two_thousand_instant_answers_lose_no_run, |db| async move {
    let world = World::on(db.clone()).await;
    let alice = world.user("alice").await;
    let agents = [world.agent(&alice, "one").await, world.agent(&alice, "two").await];
    // Everybody else's runs of one agent are one conversation: many senders keep the workers busy.
    let mut senders = Vec::new();
    for index in 0..50 {
        let sender = world.user(&format!("sender-{index}")).await;
        senders.push(Caller { role: aiox_core::Role::Manager, ..sender });
    }
    let workers = [world.serve("w1", 8), world.serve("w2", 8)];
    let runs = futures::future::join_all((0..2000).map(|index| {
        let (sender, agent) = (&senders[index % 50], &agents[index / 50 % 2]);
        let world = &world;
        async move { (index, world.submit(sender, agent, &format!("{index}")).await) }
    }))
    .await;
    for (index, run) in runs {
        let ended = world.ended(run).await;
        assert_eq!((ended.status, ended.output), (RunStatus::Completed, Some(format!("answer to {index}"))));
        assert_eq!(ended.attempt, 1);
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM run_events").await, 12_000);
    assert_eq!(world.dispatch.waiting().await, (0, 0));
    within(async {
        while world.dispatch.workers().iter().any(|(worker, free, _)| *free < worker.max_concurrent as usize) {
            // Every place comes back.
            tokio::task::yield_now().await;
        }
    })
    .await;
    for worker in workers {
        worker.abort();
    }
});

both_dbs!(forty_unfinished_runs_are_answered_once_after_a_crash, |db| async move {
    let world = World::on(db.clone()).await;
    let mut runs = Vec::new();
    for index in 0..40 {
        let user = world.user(&format!("user-{index}")).await;
        let agent = world.agent(&user, "helper").await;
        runs.push(world.submit(&user, &agent, &format!("{index}")).await);
    }
    let worker = world.worker("before", 5);
    for _ in 0..5 {
        within(worker.next()).await.unwrap();
    }
    let world = world.restart().await;
    drop(worker);
    assert_eq!(world.dispatch.recover().await.unwrap(), 40);
    assert_eq!(world.dispatch.waiting().await.0, 40);
    let serve = world.serve("after", 4);
    for (index, run) in runs.iter().enumerate() {
        assert_eq!(world.ended(*run).await.output, Some(format!("answer to {index}")));
        let kinds = world.kinds(*run).await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "run.completed").count(), 1, "{kinds:?}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM messages WHERE role = 'assistant'").await, 40);
    let world = world.restart().await;
    assert_eq!(world.dispatch.recover().await.unwrap(), 0);
    serve.abort();
});

both_dbs!(a_flood_of_one_tenant_keeps_no_other_waiting, |db| async move {
    let world = World::on(db).await;
    let mut flood = Vec::new();
    for index in 0..100 {
        let user = world.user(&format!("flood-{index}")).await;
        let agent = world.agent(&user, "helper").await;
        flood.push(world.submit(&user, &agent, "flood").await);
    }
    let worker = world.worker("w1", 1);
    let finish = async || {
        let task = within(worker.next()).await.unwrap();
        worker.complete(task.run, answer("x")).await.unwrap();
        task.message
    };
    for _ in 0..10 {
        finish().await;
    }
    let other = world.user_of(world.tenant("other").await, "quiet", aiox_core::Role::User).await;
    let agent = world.agent(&other, "helper").await;
    world.submit(&other, &agent, "quiet").await;
    let next = [finish().await, finish().await];
    assert!(next.contains(&"quiet".to_owned()), "{next:?}");
});

both_dbs!(a_conversation_is_worked_on_in_order_one_at_a_time, |db| async move {
    let world = World::on(db).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let agent = world.agent_with(&alice, "helper", json!({ "visibility": "tenant" })).await;
    for index in 0..5 {
        // A later message is never more urgent than an earlier one of the same conversation.
        let message = NewRun { priority: Priority::High, ..world.message(&agent, &format!("a{index}")) };
        world.runs.submit(&alice, message).await.unwrap();
    }
    world.submit(&bob, &agent, "b0").await;
    let worker = world.worker("w1", 8);
    let first = [within(worker.next()).await.unwrap(), within(worker.next()).await.unwrap()];
    let mut said: Vec<_> = first.iter().map(|task| task.message.clone()).collect();
    said.sort();
    assert_eq!(said, ["a0", "b0"], "the next of a conversation waits for the one before");
    for task in &first {
        worker.complete(task.run, answer("x")).await.unwrap();
    }
    for expected in ["a1", "a2", "a3", "a4"] {
        let task = within(worker.next()).await.unwrap();
        assert_eq!(task.message, expected);
        worker.complete(task.run, answer("x")).await.unwrap();
    }
});

both_dbs!(memory_holds_earlier_messages_only_where_it_is_on, |db| async move {
    let world = World::on(db).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let memory =
        json!({ "memory_config": { "enabled": true, "max_short_term_msgs": 3, "short_term_ttl_sec": 60 }, "visibility": "tenant" });
    let with = world.agent_with(&alice, "with", memory).await;
    let without = world.agent(&alice, "without").await;
    let worker = world.worker("w1", 1);
    let ask = async |caller: &Caller, agent, input: &str| {
        let run = world.submit(caller, agent, input).await;
        let task = within(worker.next()).await.unwrap();
        assert_eq!(task.run, run.uuid());
        worker.complete(task.run, answer(&format!("re {input}"))).await.unwrap();
        let context: Value = serde_json::from_str(&task.memory_context_json).unwrap();
        let recent = context["recent_messages"].as_array().unwrap().iter();
        recent.map(|message| format!("{} {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert!(ask(&alice, &with, "one").await.is_empty());
    assert_eq!(ask(&alice, &with, "two").await, ["user one", "assistant re one"]);
    assert_eq!(ask(&alice, &with, "three").await, ["assistant re one", "user two", "assistant re two"], "the last three");
    assert!(ask(&bob, &with, "mine").await.is_empty(), "others' conversations are others'");
    world.clock.advance(61);
    assert!(ask(&alice, &with, "late").await.is_empty(), "forgotten after its time");
    ask(&alice, &without, "one").await;
    assert!(ask(&alice, &without, "two").await.is_empty());
});

both_dbs!(runs_and_conversations_are_their_principals_alone, |db| async move {
    let world = World::on(db).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let agent = world.agent_with(&alice, "helper", json!({ "visibility": "tenant" })).await;
    let run = world.submit(&bob, &agent, "private question").await;
    let missing = aiox_model::RunId(world.fresh());
    for other in [&alice, &world.caller("x@hub-b.example").await] {
        for id in [run, missing] {
            assert_eq!(world.runs.get(other, id).await.map(drop).unwrap_err().to_string(), "run not found");
            assert_eq!(world.runs.cancel(other, id).await.map(drop).unwrap_err().to_string(), "run not found");
            assert_eq!(world.runs.events(other, id, 0, 9).await.map(drop).unwrap_err().to_string(), "run not found");
        }
    }
    let conversation = world.runs.get(&bob, run).await.unwrap().conversation_id;
    assert_eq!(world.runs.messages(&alice, conversation, 9, 0).await.map(drop).unwrap_err().code(), "not_found");
    let theirs = NewRun { conversation: Some(conversation), ..world.message(&agent, "me too") };
    assert_eq!(world.runs.submit(&alice, theirs).await.map(drop).unwrap_err().code(), "not_found");
    assert_eq!(world.runs.messages(&bob, conversation, 9, 0).await.unwrap().0[0].content, "private question");
    assert_eq!(world.runs.conversations(&bob, None, 9, 0).await.unwrap().0[0].principal, "bob@hub-a.example");
    assert!(world.runs.latest(&alice, 9).await.unwrap().is_empty());
    assert_eq!(world.runs.events(&bob, run, 0, 9).await.unwrap().1.len(), 1);
});

both_dbs!(a_caller_that_goes_away_leaves_no_run_behind, |db| async move {
    let world = World::on(db.clone()).await;
    let alice = world.user("alice").await;
    let agent = world.agent(&alice, "helper").await;
    let runs = || db.number("SELECT COUNT(*) FROM runs");
    // Dropped as soon as the run is there, whatever still has to be done for it.
    for round in 0..20 {
        let before = runs().await;
        let mut submit = Box::pin(world.runs.submit(&alice, world.message(&agent, &format!("{round}"))));
        within(async {
            while runs().await == before {
                let _ = futures::poll!(submit.as_mut());
            }
        })
        .await;
    }
    let worker = world.serve("w1", 4);
    within(async {
        while db.number("SELECT COUNT(*) FROM runs WHERE status IN ('queued', 'running')").await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    worker.abort();
});
