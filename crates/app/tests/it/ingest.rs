//! Events of other hubs' runs that programs bring in.

use aiox_app::{
    Ingest,
    ingest::{Brought, Counts},
};
use aiox_core::Caller;
use aiox_model::v1::event::Event;
use aiox_testkit::{World, both_dbs, within};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;

fn event(sequence: u64, kind: &str) -> Brought {
    let event: Event = serde_json::from_value(json!({
        "event_id": format!("evt_{sequence}"), "sequence": sequence, "time": "2026-01-02T03:04:05Z", "type": kind, "tenant_id": "tnt_x",
        "agent_id": "agt_x", "run_id": "run_x", "payload": {},
        "trace": { "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "span_id": "00f067aa0ba902b7" }
    }))
    .unwrap();
    Brought::Event(Box::new(event))
}

async fn bring(ingest: &Ingest, caller: &Caller, sequence: u64, kind: &str) -> Counts {
    ingest.take(caller, "stk_b", vec![event(sequence, kind)]).await.unwrap()
}

both_dbs!(an_open_stream_waits_for_an_event_that_comes_late, |db| async move {
    let world = World::on(db).await;
    let alice = world.user("alice").await;
    let ingest = Ingest::new(world.store.clone(), world.clock.clone(), world.ids.clone());
    bring(&ingest, &alice, 1, "agentos.run.created").await;
    bring(&ingest, &alice, 3, "later").await;
    let mut stream = Box::pin(ingest.follow(&alice, "run_x", 0));
    let next = async |stream: &mut std::pin::Pin<Box<_>>| {
        within(futures::StreamExt::next(stream)).await.map(|event: Result<Event, _>| event.unwrap().sequence)
    };
    assert_eq!(next(&mut stream).await, Some(1));
    assert!(stream.next().now_or_never().is_none(), "the second is missing");
    bring(&ingest, &alice, 2, "later").await;
    assert_eq!(next(&mut stream).await, Some(2));
    assert_eq!(next(&mut stream).await, Some(3));

    // Once the end is known nothing is waited for: the fourth may never come.
    bring(&ingest, &alice, 5, "agentos.run.completed").await;
    assert_eq!(next(&mut stream).await, Some(5));
    assert_eq!(next(&mut stream).await, None);
});
