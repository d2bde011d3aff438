//! Two whole hubs: a user of hub A and an agent of hub B.

use std::{pin::pin, time::Duration};

use aiox_app::{AgentRef, TaskEvent};
use aiox_core::{Error, ports::Signal};
use aiox_model::{agent::Visibility, run::RunStatus};
use futures::StreamExt;
use serde_json::Map;
use tokio::time::timeout;

use crate::mesh_hub::{MeshHub, Site, answer};

async fn two() -> (MeshHub, MeshHub) {
    let a = MeshHub::start(Site::new("hub-a.example").await).await;
    let b = MeshHub::start(Site::new("hub-b.example").await).await;
    a.befriend(&b).await;
    (a, b)
}

const WRITER: &str = "writer@agents.hub-b.example";
/// The log of a run with one call of a tool, which its worker did not end.
const WHOLE: [&str; 8] =
    ["run.created", "run.started", "model.requested", "tool.call", "tool.result", "model.completed", "step.completed", "run.completed"];

#[tokio::test]
async fn a_run_for_a_peers_agent_is_one_run_on_both_hubs() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let worker = b.worker();
    let run = a.ask(&alice, WRITER, "hello").await.unwrap();
    let mut watched = pin!(a.runs.follow(run, 0, true));

    let task = timeout(Duration::from_secs(10), worker.next()).await.unwrap().unwrap();
    assert_eq!((task.run, task.message.as_str(), task.from_jid.as_str()), (run.uuid(), "hello", "alice@hub-a.example"));
    // Wait until hub A follows, so that the live piece has somewhere to go.
    let mut seen = Vec::new();
    while let Some(signal) = timeout(Duration::from_secs(10), watched.next()).await.unwrap() {
        let Signal::Event(event) = signal.unwrap() else { continue };
        let started = event.kind == "model.requested";
        seen.push(event);
        if started {
            break;
        }
    }
    worker.delta(task.run, "hi ".to_owned()).await;
    let delta = timeout(Duration::from_secs(10), watched.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(delta, Signal::Delta(delta) if delta.text == "hi "), "live text reaches the asking hub");
    worker.event(task.run, TaskEvent::ToolCall, Map::new()).await.unwrap();
    worker.complete(task.run, answer("hi there")).await.unwrap();
    while let Some(signal) = timeout(Duration::from_secs(10), watched.next()).await.unwrap() {
        if let Signal::Event(event) = signal.unwrap() {
            seen.push(event);
        }
    }
    let done = a.ended(run).await;
    assert_eq!((done.status, done.output.as_deref(), done.model_used.as_deref()), (RunStatus::Completed, Some("hi there"), Some("echo/1")));
    assert_eq!((done.peer.as_deref(), done.delivery.as_deref()), (Some("hub-b.example"), Some("delivered")));

    let there = b.runs.follow(run, 0, false).map(|signal| match signal.unwrap() {
        Signal::Event(event) => event,
        Signal::Delta(_) => panic!("no deltas were asked for"),
    });
    let there: Vec<_> = there.collect().await;
    let short = |events: &[aiox_model::run::RunEvent]| events.iter().map(|e| (e.id, e.sequence, e.kind.clone())).collect::<Vec<_>>();
    assert_eq!(short(&seen), short(&there), "the same ids and numbers on both hubs");
    assert_eq!(there.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), WHOLE);

    // The principal is the address that an XMPP stanza of the same user would come from: one conversation for both doors.
    let history = b.runs.history_for_peer("alice@hub-a.example".parse().unwrap(), &AgentRef::parse(WRITER).unwrap(), 10, 0).await.unwrap();
    let texts: Vec<_> = history.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
    assert_eq!(texts, [("user", "hello"), ("assistant", "hi there")]);
}

#[tokio::test]
async fn live_text_of_a_peer_comes_whole_and_once_over_cuts_of_the_link() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let worker = b.worker();
    let run = a.ask(&alice, WRITER, "hello").await.unwrap();
    let task = timeout(Duration::from_secs(10), worker.next()).await.unwrap().unwrap();
    // Before hub A can follow.
    worker.delta(task.run, "süß ".to_owned()).await;
    let mut watched = pin!(a.runs.follow(run, 0, true));
    let mut told = async |length: usize| {
        let mut text = String::new();
        while text.len() < length {
            let signal = timeout(Duration::from_secs(20), watched.next()).await.unwrap().unwrap().unwrap();
            if let Signal::Delta(delta) = signal {
                text.push_str(&delta.text);
            }
        }
        text
    };
    assert_eq!(told(6).await, "süß ");
    worker.delta(task.run, "und ".to_owned()).await;
    assert_eq!(told(4).await, "und ");
    b.federation.peers().suspend("hub-a.example").await.unwrap();
    worker.delta(task.run, "auch ".to_owned()).await;
    b.federation.peers().resume("hub-a.example").await.unwrap();
    worker.delta(task.run, "gut".to_owned()).await;
    assert_eq!(told(8).await, "auch gut");
    // Who comes late at the asking hub gets all of it.
    let mut late = pin!(a.runs.follow(run, 0, true));
    let text = loop {
        if let Signal::Delta(delta) = timeout(Duration::from_secs(10), late.next()).await.unwrap().unwrap().unwrap() {
            break (delta.text, delta.offset);
        }
    };
    assert_eq!(text, ("süß und auch gut".to_owned(), Some(0)));
    worker.complete(task.run, answer("süß und auch gut")).await.unwrap();
    a.ended(run).await;
}

#[tokio::test]
async fn agents_that_are_not_for_the_mesh_look_like_missing_ones() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "private", Visibility::Private).await;
    b.agent(&bob, "writer", Visibility::Mesh).await;
    for name in ["private", "nobody"] {
        let run = a.ask(&alice, &format!("{name}@agents.hub-b.example"), "hello").await.unwrap();
        let ended = a.ended(run).await;
        let error = ended.error.unwrap();
        assert_eq!(
            (ended.status, error.code.as_str(), ended.delivery.as_deref()),
            (RunStatus::Failed, "not_found", Some("refused")),
            "{name}"
        );
    }
    a.federation.peers().read_directory("hub-b.example").await.unwrap();
    let card = a.agents.card(&alice, &AgentRef::parse(WRITER).unwrap()).await.unwrap();
    assert_eq!((card.name.as_str(), card.handle.as_deref(), card.domain.as_str()), ("writer", Some("writer"), "hub-b.example"));
    let unlisted = AgentRef::parse("private@agents.hub-b.example").unwrap();
    assert!(matches!(a.agents.card(&alice, &unlisted).await, Err(Error::NotFound(_))));
    assert!(matches!(a.ask(&alice, "writer@agents.hub-c.example", "hello").await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_cancel_follows_its_run_to_the_peer() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let worker = b.worker();
    let run = a.ask(&alice, WRITER, "hello").await.unwrap();
    timeout(Duration::from_secs(10), worker.next()).await.unwrap().unwrap();
    assert_eq!(a.runs.cancel(&alice, run).await.unwrap().status, RunStatus::Canceled);
    assert_eq!(b.ended(run).await.status, RunStatus::Canceled);
}

#[tokio::test]
async fn work_taken_while_the_peer_is_down_is_done_after_both_hubs_were_killed() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let b = b.crash().await;
    let runs = [a.ask(&alice, WRITER, "one").await.unwrap(), a.ask(&alice, WRITER, "two").await.unwrap()];
    let a = MeshHub::start(a.crash().await).await;
    let b = MeshHub::start(b).await;
    let worker = b.worker();
    for (run, text) in runs.into_iter().zip(["one", "two"]) {
        let task = timeout(Duration::from_secs(20), worker.next()).await.unwrap().unwrap();
        assert_eq!((task.run, task.message.as_str()), (run.uuid(), text), "in order");
        worker.complete(task.run, answer(text)).await.unwrap();
        assert_eq!(a.ended(run).await.output.as_deref(), Some(text));
    }
}

#[tokio::test]
async fn a_run_goes_on_over_a_crash_of_the_asking_hub() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let worker = b.worker();
    let run = a.ask(&alice, WRITER, "hello").await.unwrap();
    let task = timeout(Duration::from_secs(10), worker.next()).await.unwrap().unwrap();
    let site = a.crash().await;
    worker.event(task.run, TaskEvent::ToolCall, Map::new()).await.unwrap();
    worker.complete(task.run, answer("late")).await.unwrap();
    let a = MeshHub::start(site).await;
    let done = a.ended(run).await;
    assert_eq!((done.status, done.output.as_deref()), (RunStatus::Completed, Some("late")));
    let (_, events) = a.runs.events(&alice, run, 0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), (1..=WHOLE.len() as u64).collect::<Vec<_>>());
    assert_eq!(b.runs.follow(run, 0, false).count().await, WHOLE.len());
}

#[tokio::test]
async fn a_hub_restored_from_a_backup_gets_again_what_it_lost() {
    let (a, b) = two().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    b.agent(&bob, "writer", Visibility::Mesh).await;
    let worker = b.worker();
    let first = a.ask(&alice, WRITER, "one").await.unwrap();
    let task = timeout(Duration::from_secs(10), worker.next()).await.unwrap().unwrap();
    worker.complete(task.run, answer("one")).await.unwrap();
    a.ended(first).await;
    let b = b.crash().await;
    let backup = b.backup();
    let b = MeshHub::start(b).await;
    let worker = b.worker();
    let second = a.ask(&alice, WRITER, "two").await.unwrap();
    let mut watched = pin!(a.runs.follow(second, 0, false));
    timeout(Duration::from_secs(20), worker.next()).await.unwrap().unwrap();
    // Hub A has the receipt once it follows.
    timeout(Duration::from_secs(20), watched.by_ref().take(2).count()).await.unwrap();
    let b = b.crash().await;
    b.restore(backup);
    let b = MeshHub::start(b).await;
    let worker = b.worker();
    let task = timeout(Duration::from_secs(20), worker.next()).await.unwrap().unwrap();
    assert_eq!((task.run, task.message.as_str()), (second.uuid(), "two"), "that alone");
    worker.complete(task.run, answer("two")).await.unwrap();
    let done = a.ended(second).await;
    assert_eq!((done.status, done.output.as_deref()), (RunStatus::Completed, Some("two")));
    assert_eq!(b.ended(first).await.output.as_deref(), Some("one"), "and nothing twice");
}
