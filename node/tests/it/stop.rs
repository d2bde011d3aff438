//! SIGTERM.

use aiox_client::{Chat, Frame};
use aiox_model::{agent::AgentCreate, run::RunStatus};
use aiox_worker::Credential;
use futures::StreamExt as _;
use serde_json::json;

use crate::{
    process::{KEY, Place, within},
    provider::Provider,
};

#[tokio::test]
async fn a_hub_that_is_stopped_in_mid_run_ends_cleanly_and_answers_after_its_next_start() {
    let place = Place::new();
    let mut provider = Provider::start().await;
    let hub = place.serve().await;
    let _worker = place.worker(Credential::ApiKey(KEY.into()), Some(&provider.url));
    let alice = place.user().await;
    let new: AgentCreate = serde_json::from_value(json!({ "name": "helper", "system_prompt": "Be kind." })).unwrap();
    let agent = alice.create_agent(&new).await.unwrap();
    let chat = Chat { agent: agent.id.to_string(), message: "hello".into(), ..Chat::default() };
    let run = alice.submit(&chat).await.unwrap().id;
    within(provider.asked.recv()).await.unwrap();
    // A second one waits behind it, and somebody watches: neither keeps the hub.
    let second = alice.submit(&Chat { message: "and then?".into(), ..chat }).await.unwrap().id;
    let mut watching = Box::pin(alice.follow(run, 0, true).await.unwrap());
    loop {
        let frame = within(watching.next()).await.unwrap().unwrap();
        if matches!(frame, Frame::Event(event) if event.kind == "run.started") {
            break;
        }
    }

    hub.terminate();
    let (status, log) = hub.ended().await;
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("hub has stopped") && !log.contains("in time"), "{log}");
    drop(watching);

    let hub = place.serve().await;
    assert_eq!(alice.run(second).await.unwrap().status, RunStatus::Queued);
    provider.answer();
    for run in [run, second] {
        let mut events = Box::pin(alice.follow(run, 0, false).await.unwrap());
        while let Some(frame) = within(events.next()).await {
            frame.unwrap();
        }
        let ended = alice.run(run).await.unwrap();
        assert_eq!((ended.status, ended.output.as_deref()), (RunStatus::Completed, Some("late answer")), "{}", hub.log());
        // What was given back does not count; an answer that came meanwhile is taken without a new attempt.
        assert!(ended.attempt <= 1, "a hub that stops politely costs no attempt, and this run had {}", ended.attempt);
    }
    hub.terminate();
    assert!(hub.ended().await.0.success());
}

#[tokio::test]
async fn a_hub_that_was_never_used_stops_too() {
    let place = Place::new();
    let hub = place.serve().await;
    hub.terminate();
    let (status, log) = hub.ended().await;
    assert!(status.success() && log.contains("hub has stopped"), "{log}");
}
