//! Delivery from one hub's outbox to another hub's door (D2, D7, F11).

use aiox_core::ports::Clock as _;
use aiox_crypto::system::SystemClock;
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use aiox_federation::{
    delivery::Delivery,
    link::LinkError,
    ports::{Outcome, Outgoing},
    token::Operation,
};
use aiox_model::{EnvelopeId, Ts, federation::PeerState};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    doubles::{MemoryOutbox, TestIds},
    hub::{Hub, two},
};

pub struct Sending {
    pub outbox: Arc<MemoryOutbox>,
    stop: CancellationToken,
}
impl Drop for Sending {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn sending(hub: &Hub, outbox: Arc<MemoryOutbox>) -> Sending {
    let stop = CancellationToken::new();
    let delivery = Delivery {
        local: hub.local.clone(),
        links: hub.links.clone(),
        outbox: outbox.clone(),
        order: hub.order.clone(),
        clock: hub.clock.clone(),
        ids: Arc::new(TestIds),
    };
    tokio::spawn(Arc::new(delivery).run(stop.clone()));
    Sending { outbox, stop }
}

fn outgoing(envelope: Value, expires: Ts) -> Outgoing {
    let id: EnvelopeId = envelope["id"].as_str().unwrap().parse().unwrap();
    Outgoing { id, conv: envelope["conv"].as_str().unwrap().to_owned(), envelope, attempts: 0, expires }
}

fn soon() -> Ts {
    SystemClock.now().plus_seconds(3600)
}

/// Adds `count` envelopes to each of three conversations, in turn.
fn fill(a: &Hub, b: &Hub, outbox: &MemoryOutbox, count: usize) -> Vec<EnvelopeId> {
    let names = (0..count).flat_map(|_| ["c1", "c2", "c3"]);
    let items: Vec<_> = names.map(|conv| outgoing(a.envelope(b, conv), soon())).collect();
    let ids = items.iter().map(|item| item.id).collect();
    items.into_iter().for_each(|item| outbox.add(item));
    ids
}

/// What arrived, by conversation, in order.
fn arrived(b: &Hub) -> HashMap<String, Vec<EnvelopeId>> {
    let mut seen: HashMap<String, Vec<EnvelopeId>> = HashMap::new();
    for incoming in b.inbox.effects.lock().unwrap().iter() {
        seen.entry(incoming.envelope.header.conv.clone()).or_default().push(incoming.envelope.header.id);
    }
    seen
}

fn in_order(ids: &[EnvelopeId], b: &Hub) {
    let seen = arrived(b);
    for (lane, name) in ["c1", "c2", "c3"].into_iter().enumerate() {
        let expected: Vec<_> = ids.iter().copied().skip(lane).step_by(3).collect();
        assert_eq!(seen[name], expected, "{name}: each once, in order");
    }
}

#[tokio::test]
async fn everything_arrives_once_in_order_with_a_receipt() {
    let (a, b) = two().await;
    let sending = sending(&a, Arc::default());
    b.inbox.retries.store(5, Ordering::SeqCst);
    let ids = fill(&a, &b, &sending.outbox, 100);
    let outcomes = sending.outbox.settled(&ids).await;
    for id in &ids {
        let Outcome::Delivered(Some(receipt)) = &outcomes[id] else { panic!("{id}: {:?}", outcomes[id]) };
        assert_eq!((receipt.id, &receipt.node), (*id, &b.node));
    }
    in_order(&ids, &b);
}

#[tokio::test]
async fn work_taken_while_the_peer_is_down_arrives_when_it_is_heard_again() {
    let a = Hub::start("hub-a.example").await;
    let b = Hub::prepare("hub-b.example").await;
    // Whoever connects to this address is hung up on.
    let down = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", down.local_addr().unwrap());
    a.trusts(&b, |record| record.document["nodes"][0]["endpoint"] = endpoint.into());
    b.trusts(&a, |_| {});
    let sending = sending(&a, Arc::default());
    let ids = fill(&a, &b, &sending.outbox, 5);
    for _ in 0..3 {
        drop(tokio::time::timeout(Duration::from_secs(10), down.accept()).await.unwrap().unwrap());
    }
    assert!(sending.outbox.outcomes.borrow().is_empty());
    b.listen();
    a.trusts(&b, |_| {});
    let began = Instant::now();
    // Hub B calls: that alone wakes what waits for it.
    let mut raw = b.raw(&a).await;
    assert_eq!(raw.ask(Some(&b.bearer(&a, "hello"))).await.status, 200);
    sending.outbox.settled(&ids).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    in_order(&ids, &b);
}

#[tokio::test]
async fn a_suspended_peers_queue_is_parked_and_goes_on_without_duplicates() {
    let (a, b) = two().await;
    let sending = sending(&a, Arc::default());
    let first = fill(&a, &b, &sending.outbox, 2);
    sending.outbox.settled(&first).await;
    a.trusts(&b, |record| record.state = PeerState::Suspended);
    let second = fill(&a, &b, &sending.outbox, 2);
    // Nothing to wait for: nothing may happen. The parked task is gone as soon as the roster was swapped.
    tokio::task::yield_now().await;
    assert_eq!(sending.outbox.outcomes.borrow().len(), first.len());
    a.trusts(&b, |_| {});
    sending.outbox.settled(&second).await;
    in_order(&[first, second].concat(), &b);
}

#[tokio::test]
async fn what_cannot_be_delivered_ends_visibly_and_stops_nothing_else() {
    let (a, b) = two().await;
    let outbox = Arc::<MemoryOutbox>::default();
    let past = SystemClock.now().plus_seconds(-1);
    let expired = outgoing(a.envelope(&b, "c1"), past);
    let (header, payload) = a.run_create(&b, "c1", "nobody");
    let refused = outgoing(a.sealed(header, payload), soon());
    let (header, _) = a.run_create(&b, "c1", "writer");
    let huge = outgoing(a.sealed(header, "x".repeat(2 * 1024 * 1024)), soon());
    let good = outgoing(a.envelope(&b, "c1"), soon());
    let ids = [&expired, &refused, &huge, &good].map(|item| item.id);
    [expired, refused, huge, good].into_iter().for_each(|item| outbox.add(item));
    let sending = sending(&a, outbox);
    let outcomes = sending.outbox.settled(&ids).await;
    assert_eq!(outcomes[&ids[0]], Outcome::Expired);
    assert_eq!(outcomes[&ids[1]], Outcome::Refused("not_found".to_owned()));
    assert_eq!(outcomes[&ids[2]], Outcome::Refused("too_large".to_owned()));
    assert!(matches!(outcomes[&ids[3]], Outcome::Delivered(Some(_))));
    assert_eq!(arrived(&b)["c1"], [ids[3]]);
}

#[tokio::test]
async fn a_restarted_sender_sends_again_and_nothing_happens_twice() {
    let (a, b) = two().await;
    let envelope = a.envelope(&b, "c1");
    // The first sender died after the peer had taken the envelope and before it knew.
    a.raw(&b).await.deliver(&a, &b, std::slice::from_ref(&envelope)).await;
    let outbox = Arc::<MemoryOutbox>::default();
    let item = outgoing(envelope, soon());
    let id = item.id;
    outbox.add(item);
    let sending = sending(&a, outbox);
    assert!(matches!(sending.outbox.settled(&[id]).await[&id], Outcome::Delivered(Some(_))));
    assert_eq!(b.inbox.effects.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_hello_follows_any_failed_contact() {
    let (a, b) = two().await;
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sending = sending(&a, Arc::default());
    let mut hellos = b.outbox.refills.subscribe();
    let mut greeted = async |times: usize| {
        tokio::time::timeout(Duration::from_secs(10), hellos.wait_for(|hellos| hellos.len() >= times)).await.unwrap().unwrap();
    };
    greeted(1).await;
    for (times, operation, path) in [(2, Operation::Directory, "/fed/v1/directory"), (3, Operation::Stream, "/fed/v1/runs/x/events")] {
        a.trusts(&b, |record| record.document["nodes"][0]["endpoint"] = format!("https://{closed}").into());
        let failed = a.links.send("hub-b.example", http::Method::GET, path, operation, Default::default()).await;
        assert!(matches!(failed, Err(LinkError::Unreachable(_))), "{failed:?}");
        a.trusts(&b, |_| {});
        greeted(times).await;
    }
    assert!(sending.outbox.sent.lock().unwrap().is_empty(), "nothing was delivered meanwhile");
}
