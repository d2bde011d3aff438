//! Runs that a program of hub A sends to hub B by its name, and their log as `/v1` shows it.

use std::time::Duration;

use aiox_app::{AgentRef, Asked, Bounds, NewRun, TaskEvent};
use aiox_core::{Caller, Error, agentos, forward::choose, run::Priority};
use aiox_model::{
    RunId,
    agent::Visibility,
    federation::PeerState,
    run::{RunEvent, RunStatus},
    v1::{federation::TargetSelector, run::RunOptions},
};
use aiox_store::audit::Filter;
use serde_json::{Map, json};
use tokio::time::timeout;

use crate::mesh_hub::{MeshHub, Site, answer};

async fn two() -> (MeshHub, MeshHub) {
    let a = MeshHub::start(Site::new("hub-a.example").await).await;
    let b = MeshHub::start(Site::new("hub-b.example").await).await;
    a.befriend(&b).await;
    (a, b)
}

fn new(input: &str, key: Option<&str>, options: RunOptions) -> NewRun {
    NewRun {
        agent: AgentRef::Handle("writer".into()),
        input: input.into(),
        conversation: None,
        idempotency_key: key.map(str::to_owned),
        reply: None,
        priority: Priority::Normal,
        timeout_ms: None,
        bounds: Bounds::default(),
        asked: Some(Asked { options, body: json!({ "input": input }), session: None }),
    }
}

/// The lines that a reader of the hub's `/v1` stream gets.
async fn lines(hub: &MeshHub, reader: &Caller, run: RunId) -> Vec<String> {
    let detail = hub.runs.detail(reader, run).await.unwrap();
    let (_, events): (_, Vec<RunEvent>) = hub.runs.events(reader, run, 0, 100).await.unwrap();
    let of = detail.subject("tnt_demo");
    events.iter().map(|event| json!({ "event": agentos::event(&of, event) }).to_string()).collect()
}

#[tokio::test]
async fn a_forwarded_run_has_one_log_on_both_hubs_and_after_a_restart() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let worker = b.worker();
    let made = a.runs.forward(&alice, "hub-b.example", "writer", new("hello", Some("k"), RunOptions::default())).await.unwrap();
    assert_eq!(made.run.delivery.as_deref(), Some("delivered"));
    let run = RunId(made.run.id);
    let again = a.runs.forward(&alice, "hub-b.example", "writer", new("hello", Some("k"), RunOptions::default())).await.unwrap();
    assert!(again.replayed && again.run.id == made.run.id);
    let forwarded = Filter { action: Some("federation.runs.forward".into()), ..Filter::default() };
    assert_eq!(a.agents.audit(&alice, None, forwarded, 10, 0).await.unwrap().1, 1, "one record, and none for the repetition");
    let task = timeout(Duration::from_secs(10), worker.next()).await.unwrap().unwrap();
    worker.complete(task.run, answer("hi")).await.unwrap();
    assert_eq!(a.ended(run).await.status, RunStatus::Completed);
    let here = lines(&a, &alice, run).await;
    assert_eq!(here.len(), 6);
    // The executing hub knows the reader as a remote principal.
    let there = Caller { principal: aiox_core::Principal::Remote { jid: "alice@hub-a.example".parse().unwrap() }, ..bob.clone() };
    let theirs = lines(&b, &there, run).await;
    let of = |lines: &[String]| -> Vec<serde_json::Value> {
        let mut all: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        // Hub A has not read the directory, so it knows the agent by the name that it was asked for.
        all.iter_mut().for_each(|event| event["event"]["agent_id"] = json!(null));
        all
    };
    assert_eq!(of(&here), of(&theirs), "the same ids, sequences, times, traces and payloads");
    let options = b.runs.detail(&there, run).await.unwrap().options;
    assert_eq!(options, Some(RunOptions { timeout_ms: 60_000, ..RunOptions::default() }), "what the asking hub gives");
    let a = MeshHub::start(a.crash().await).await;
    assert_eq!(lines(&a, &alice, run).await, here, "the same bytes after a restart");
}

#[tokio::test]
async fn the_bounds_of_a_run_hold_at_the_peer() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let worker = b.worker();
    let bounds = Bounds { max_steps: Some(1), tools: Some(["clock".to_owned()].into()), ..Bounds::default() };
    let run = NewRun { bounds, timeout_ms: Some(2_000_000), ..new("hello", None, RunOptions::default()) };
    let made = a.runs.forward(&alice, "hub-b.example", "writer", run).await.unwrap();
    let task = timeout(Duration::from_secs(10), worker.next()).await.unwrap().unwrap();
    assert_eq!((task.max_steps, task.tools_json.as_str()), (Some(1), "{}"), "the agent has no such tool");
    assert_eq!(task.timeout_ms, 60_000, "the most that the executing hub gives");
    assert!(!worker.event(task.run, TaskEvent::ToolCall, Map::new()).await.unwrap());
    let ended = a.ended(RunId(made.run.id)).await;
    assert_eq!((ended.status, ended.error.unwrap().code.as_str()), (RunStatus::Failed, "max_steps_exceeded"));
    // A wish for a tier is no condition; a tier that is asked for is one, and this hub has no models by tier.
    let tier = |tier_is_a_wish| Bounds { tier: Some("fast".into()), tier_is_a_wish, ..Bounds::default() };
    let wished = NewRun { bounds: tier(true), ..new("hello", None, RunOptions::default()) };
    a.runs.forward(&alice, "hub-b.example", "writer", wished).await.unwrap();
    assert_eq!(timeout(Duration::from_secs(10), worker.next()).await.unwrap().unwrap().message, "hello");
    let unknown = NewRun { bounds: Bounds { tier: Some("best".into()), ..Bounds::default() }, ..new("x", None, RunOptions::default()) };
    assert_eq!(a.runs.forward(&alice, "hub-b.example", "writer", unknown).await.map(drop).unwrap_err().code(), "invalid_request");
}

#[tokio::test]
async fn a_dry_run_completes_at_the_peer_without_a_worker() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let options = RunOptions { dry_run: true, ..RunOptions::default() };
    let made = a.runs.forward(&alice, "hub-b.example", "writer", new("hello", None, options)).await.unwrap();
    let done = a.ended(RunId(made.run.id)).await;
    assert_eq!(done.status, RunStatus::Completed);
    assert!(done.output.unwrap().starts_with("Dry run: the agent writer"));
}

#[tokio::test]
async fn what_the_peer_refuses_comes_back_as_it_is() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "private", Visibility::Private).await;
    let refused = a.runs.forward(&alice, "hub-b.example", "private", new("hello", None, RunOptions::default())).await;
    assert!(matches!(refused, Err(Error::NotFound("agent"))), "{refused:?}");
}

#[tokio::test]
async fn a_peer_that_is_away_is_told_in_time_and_a_late_delivery_has_no_effect() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let away = b.crash().await;
    let refused =
        timeout(Duration::from_secs(10), a.runs.forward(&alice, "hub-b.example", "writer", new("late", None, RunOptions::default())));
    let refused = refused.await.unwrap();
    assert!(matches!(refused, Err(Error::Unavailable { code: "peer_unreachable", .. })), "{refused:?}");
    let run = a.runs.latest(&alice, 1).await.unwrap().remove(0);
    assert_eq!(run.status, RunStatus::Canceled);
    let b = MeshHub::start(away).await;
    let worker = b.worker();
    // The next run of the conversation is worked on; the late one never was.
    let next = a.ask(&alice, "writer@agents.hub-b.example", "next").await.unwrap();
    let ended = timeout(Duration::from_secs(30), async {
        loop {
            let task = worker.next().await.unwrap();
            // A worker may get the late run before its cancel is there; its result counts for nothing then.
            let _ = worker.complete(task.run, answer(&task.message)).await;
            if task.run == next.uuid() {
                break;
            }
        }
    });
    ended.await.unwrap();
    assert_eq!(a.ended(next).await.output.as_deref(), Some("next"));
    let late = a.runs.get(&alice, RunId(run.id)).await.unwrap();
    assert_eq!((late.status, late.output), (RunStatus::Canceled, None));
}

#[tokio::test]
async fn a_peer_is_chosen_by_what_its_signed_document_tells() {
    let (a, _b) = two().await;
    let all = a.peers.candidates().await.unwrap();
    let (peer, record) = &all[0];
    assert_eq!(
        (record.state, peer.active, peer.healthy, peer.stack.peer.stack_id.as_str()),
        (PeerState::Active, true, true, "stk_hub-b.example")
    );
    let candidates: Vec<_> = all.iter().map(|(candidate, _)| candidate.clone()).collect();
    let selector = TargetSelector { stack_id: Some("stk_hub-b.example".into()), ..TargetSelector::default() };
    assert!(choose(&selector, "stk_hub-a.example", &candidates).is_ok());
    let region = TargetSelector { region: Some("test-region".into()), ..TargetSelector::default() };
    assert!(choose(&region, "stk_hub-a.example", &candidates).is_ok(), "{peer:?}");
}
