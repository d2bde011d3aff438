//! What a worker does with its tasks.

use std::time::{Duration, Instant};

use aiox_proto::worker::v1::server_message::Payload as FromHub;
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::{CancelTask, TaskRequest};

use crate::bench::{Worker, config, hanging, slow, task, with_double};
use crate::double::{Double, Step, within};
use crate::hub::Hub;

#[tokio::test]
async fn registers_and_answers_with_deltas_before_the_result() {
    let mut hub = Hub::start().await;
    let mut config = config(&hub);
    config.labels.insert("region".into(), "north".into());
    config.max_concurrent = 3;
    config.pool = "night".into();
    config.providers.get_mut("echo").unwrap().models = ["echo".to_owned(), "org/Large".to_owned()].into();
    let _worker = Worker::start(config);
    let (mut session, register) = hub.registered().await;
    assert_eq!(session.api_key, "k".repeat(32));
    assert_eq!(register.worker_id, "w1");
    assert_eq!(register.max_concurrent, 3);
    assert_eq!(register.supported_providers, ["echo"]);
    assert_eq!(register.protocol, 2);
    assert_eq!(register.labels["region"], "north");
    assert_eq!(register.pool, "night");
    assert_eq!(register.models, ["echo/echo", "echo/org/Large"]);

    session.give(task("r1")).await;
    let (result, deltas) = session.result().await;
    assert_eq!(deltas.concat(), "echo: hello there");
    assert!(deltas.len() > 1);
    assert_eq!(result.response_text, "echo: hello there");
    assert_eq!(result.request_id, "r1");
    assert_eq!(result.lease_id, "lease-r1");
    assert_eq!(result.worker_id, "w1");
    assert_eq!(result.model_used, "echo");
    assert_eq!(result.finish_reason, "stop");
    assert_eq!(result.error_message, "");
    assert_eq!((result.input_tokens, result.output_tokens), (4, 3));
    assert_eq!(result.tokens_used, 7);

    let mut quiet = task("r2");
    quiet.stream = false;
    session.give(quiet).await;
    let (result, deltas) = session.result().await;
    assert_eq!(result.response_text, "echo: hello there");
    assert!(deltas.is_empty());
}

#[tokio::test]
async fn a_hub_of_the_first_protocol_gets_only_what_it_knows() {
    let mut hub = Hub::start().await;
    let _worker = Worker::start(config(&hub));
    let mut session = hub.session().await;
    assert!(matches!(session.next().await, ToHub::Register(_)));
    session.accept(0).await;
    for run in ["r1", "r2"] {
        session.give(task(run)).await;
        let (result, deltas) = session.result().await;
        assert_eq!(result.request_id, run);
        assert!(deltas.is_empty(), "a delta went to a hub that does not know it");
    }
    drop(session);
    // Nothing is sent again: such a hub acknowledges nothing.
    let (mut session, register) = hub.registered().await;
    assert!(register.held.is_empty());
    session.give(task("r3")).await;
    assert_eq!(session.result().await.0.request_id, "r3");
}

#[tokio::test]
async fn a_result_survives_a_reconnect_until_it_is_acknowledged() {
    let mut hub = Hub::start().await;
    let _worker = Worker::start(config(&hub));
    let (mut session, _) = hub.registered().await;
    session.give(task("r1")).await;
    let (first, _) = session.result().await;
    drop(session);

    let (mut session, register) = hub.registered().await;
    assert_eq!(register.held.len(), 1);
    assert_eq!(register.held[0].request_id, "r1");
    assert_eq!(register.held[0].lease_id, "lease-r1");
    let (again, deltas) = session.result().await;
    assert_eq!(again, first);
    assert!(deltas.is_empty());
    session.ack(&again).await;
    // The acknowledgement is processed before the task after it is answered.
    session.give(task("r2")).await;
    let (second, _) = session.result().await;
    session.ack(&second).await;
    session.give(task("r3")).await;
    assert_eq!(session.result().await.0.request_id, "r3");
    drop(session);
    let (_session, register) = hub.registered().await;
    let held: Vec<_> = register.held.iter().map(|held| &held.request_id).collect();
    assert_eq!(held, ["r3"]);
}

#[tokio::test]
async fn a_run_offered_again_is_not_done_twice() {
    let mut hub = Hub::start().await;
    let mut double = hanging().await;
    let _worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;
    session.give(slow("r1")).await;
    double.request().await;
    session.give(task("r2")).await;
    let done = loop {
        match session.next().await {
            ToHub::TaskResponse(response) => break response,
            ToHub::TaskDelta(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(done.request_id, "r2");
    drop(session);

    let (mut session, register) = hub.registered().await;
    assert_eq!(register.held.len(), 2);
    assert_eq!(session.result().await.0.request_id, "r2");
    // The hub took both back and gives them out again, under new leases.
    for run in ["r1", "r2"] {
        let task = TaskRequest { lease_id: "lease-new".into(), attempt: 2, ..slow(run) };
        session.give(task).await;
    }
    let (again, _) = session.result().await;
    assert_eq!(again.request_id, "r2");
    assert_eq!(again.lease_id, "lease-new");
    assert_eq!(again.response_text, done.response_text);
    session.say(FromHub::CancelTask(CancelTask { request_id: "r1".into(), reason: "canceled".into() })).await;
    let (stopped, _) = session.result().await;
    assert_eq!(stopped.request_id, "r1");
    assert_eq!(stopped.lease_id, "lease-new");
    assert!(double.seen.try_recv().is_err(), "the provider was asked twice");
}

#[tokio::test]
async fn a_failed_result_does_not_stand_for_a_new_attempt() {
    let mut hub = Hub::start().await;
    let mut double = Double::failing("503 Service Unavailable", "canary").await;
    let _worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;
    for attempt in 1..=2 {
        session.give(TaskRequest { attempt, ..slow("r1") }).await;
        double.request().await;
        let (result, _) = session.result().await;
        assert_eq!(result.error_code, "provider_unavailable");
        assert!(result.retryable);
        assert!(!result.error_message.contains("canary"));
    }
}

#[tokio::test]
async fn cancel_and_deadline_close_the_providers_connection() {
    let mut hub = Hub::start().await;
    let mut double = hanging().await;
    let _worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;

    session.give(slow("r1")).await;
    assert!(matches!(session.next().await, ToHub::TaskDelta(delta) if delta.text == "first"));
    session.say(FromHub::CancelTask(CancelTask { request_id: "r1".into(), reason: "canceled".into() })).await;
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "canceled");
    assert!(!result.retryable);
    within(double.closed.recv()).await.unwrap();

    let started = Instant::now();
    session.give(TaskRequest { timeout_ms: 300, ..slow("r2") }).await;
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "timeout");
    assert!(started.elapsed() < Duration::from_secs(5));
    within(double.closed.recv()).await.unwrap();
}

#[tokio::test]
async fn a_malformed_or_misrouted_task_is_an_error_result_at_once() {
    let mut hub = Hub::start().await;
    let _worker = Worker::start(config(&hub));
    let (mut session, _) = hub.registered().await;
    session.give(TaskRequest { llm_config_json: "[not json".into(), ..task("r1") }).await;
    assert_eq!(session.result().await.0.error_code, "invalid_task");
    session.give(TaskRequest { provider: "anthropic".into(), ..task("r2") }).await;
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "provider_not_configured");
    assert!(result.retryable);
}

#[tokio::test]
async fn a_tool_call_is_told_and_ends_the_run_honestly() {
    let call = serde_json::json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,
        "id":"call_1","function":{"name":"clock","arguments":"{}"}}]}}]});
    let last = serde_json::json!({"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],
        "usage":{"prompt_tokens":5,"completion_tokens":2}});
    let script = vec![Step::Say(format!("data: {call}\n\ndata: {last}\n\ndata: [DONE]\n\n")), Step::Finish];
    let mut hub = Hub::start().await;
    let double = Double::streaming("text/event-stream", script).await;
    let _worker = Worker::start(with_double(&hub, &double));
    let (mut session, _) = hub.registered().await;
    session.give(slow("r1")).await;
    let ToHub::TaskEvent(event) = session.next().await else {
        panic!("no event");
    };
    assert_eq!(event.r#type, "tool.call");
    assert_eq!(event.lease_id, "lease-r1");
    let payload: serde_json::Value = serde_json::from_str(&event.payload_json).unwrap();
    assert_eq!(payload, serde_json::json!({"call_id":"call_1","name":"clock","arguments":{}}));
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "tools_unavailable");
    assert!(!result.retryable);
    assert_eq!((result.input_tokens, result.output_tokens), (5, 2));
}

#[tokio::test]
async fn places_are_bounded_and_independent() {
    let mut hub = Hub::start().await;
    let mut double = hanging().await;
    let mut config = with_double(&hub, &double);
    config.max_concurrent = 2;
    let _worker = Worker::start(config);
    let (mut session, _) = hub.registered().await;
    session.give(slow("r1")).await;
    double.request().await;
    assert!(matches!(session.next().await, ToHub::TaskDelta(_)));
    // The second place works while the first one waits for its provider.
    session.give(task("r2")).await;
    assert_eq!(session.result().await.0.error_code, "");
    session.give(slow("r3")).await;
    double.request().await;
    assert!(matches!(session.next().await, ToHub::TaskDelta(_)));
    session.give(task("r4")).await;
    let (result, _) = session.result().await;
    assert_eq!(result.error_code, "worker_busy");
    assert!(result.retryable);
}

#[tokio::test]
async fn a_stopped_task_leaves_its_place_at_once() {
    let mut hub = Hub::start().await;
    let mut double = hanging().await;
    let mut config = with_double(&hub, &double);
    config.max_concurrent = 1;
    let _worker = Worker::start(config);
    let (mut session, _) = hub.registered().await;
    for round in 0..20 {
        let (stopped, next) = (format!("s{round}"), format!("n{round}"));
        session.give(slow(&stopped)).await;
        double.request().await;
        session.say(FromHub::CancelTask(CancelTask { request_id: stopped.clone(), reason: "canceled".into() })).await;
        session.give(task(&next)).await;
        let mut codes = std::collections::BTreeMap::new();
        for _ in 0..2 {
            let (result, _) = session.result().await;
            codes.insert(result.request_id, result.error_code);
        }
        assert_eq!(codes[&stopped], "canceled");
        assert_eq!(codes[&next], "");
    }
}

#[tokio::test]
async fn a_long_answer_is_cut_at_its_bound() {
    let mut hub = Hub::start().await;
    let mut config = config(&hub);
    config.max_answer_bytes = 8;
    let _worker = Worker::start(config);
    let (mut session, _) = hub.registered().await;
    let task = TaskRequest { user_message: "äöü".into(), ..task("r1") };
    session.give(task).await;
    let (result, deltas) = session.result().await;
    // Nine bytes would be too many, and half a letter is none.
    assert_eq!(result.response_text, "echo: ä");
    assert_eq!(deltas.concat(), "echo: ä");
    assert_eq!(result.finish_reason, "length");
}
