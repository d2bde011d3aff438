//! The link: handshake, loss, return, goodbye.

use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;
use xmpp_parsers::jid::BareJid;

use super::{Running, Server, World, attr, body, options, start};
use crate::{LinkState, hub::Reply, outgoing::Envelope};

impl Running {
    async fn until(&mut self, wanted: impl FnMut(&LinkState) -> bool) {
        timeout(Duration::from_secs(10), self.state.wait_for(wanted)).await.expect("the state did not come").unwrap();
    }
    async fn down(&mut self) -> String {
        self.until(|state| matches!(state, LinkState::Down { reason } if reason != "not started")).await;
        match self.state.borrow().clone() {
            LinkState::Down { reason } => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn reply(number: u128) -> Reply {
    let id = Uuid::from_u128(number);
    Reply {
        id,
        stanza_id: id.to_string(),
        run: None,
        envelope: Envelope {
            from: "bot@agents.hub-a.example/aiox".parse().unwrap(),
            to: BareJid::new("u@hub-a.example").unwrap(),
            thread: None,
            reference: None,
        },
        body: format!("reply {number}"),
    }
}

#[tokio::test]
async fn the_server_may_be_absent_at_start_close_politely_or_die() {
    let server = Server::start().await;
    let mut other = options(&server);
    // Nobody listens there: the listener is dropped at once.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    other.address = gone.to_string();
    let mut absent = start(other, &World::default());
    assert!(absent.down().await.contains("cannot reach"));
    // It comes to life later.
    let late = Server::at(gone).await;
    let _peer = late.accept().await;
    absent.until(LinkState::is_up).await;

    let mut door = start(options(&server), &World::echoing());
    let mut peer = server.accept().await;
    door.until(LinkState::is_up).await;
    peer.write("</stream:stream>").await;
    let mut peer = server.accept().await;
    door.until(LinkState::is_up).await;
    drop(peer);
    peer = server.accept().await;
    door.until(LinkState::is_up).await;
    peer.message("m1", "still there?").await;
    peer.next_relevant().await;
    assert_eq!(body(&peer.next_relevant().await), "echo: still there?");
}

#[tokio::test]
async fn a_wrong_secret_and_a_conflict_are_told_and_tried_again() {
    let server = Server::start().await;
    let mut door = start(options(&server), &World::default());
    for (condition, words) in [("not-authorized", "not-authorized"), ("conflict", "another component")] {
        let mut peer = server.accept_stream().await;
        peer.next().await;
        peer.write(&format!("<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"))
            .await;
        let reason = door.down().await;
        assert!(reason.contains(words), "{reason}");
    }
    // Thrown out later, by a second component of our domain.
    let mut peer = server.accept().await;
    door.until(LinkState::is_up).await;
    peer.write("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>").await;
    assert!(door.down().await.contains("another component"));
    let _peer = server.accept().await;
    door.until(LinkState::is_up).await;
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_left() {
    let server = Server::start().await;
    let mut short = options(&server);
    short.open_timeout = Duration::from_millis(50);
    let mut door = start(short, &World::default());
    let _silent = server.accept_silent().await;
    assert!(door.down().await.contains("in time"));
    server.accept().await;
}

#[tokio::test]
async fn a_link_that_answers_no_ping_is_dead_and_one_that_does_is_not() {
    let server = Server::start().await;
    let mut short = options(&server);
    short.ping_after = Duration::from_millis(30);
    short.dead_after = Duration::from_millis(300);
    let mut door = start(short, &World::default());
    let mut peer = server.accept().await;
    peer.pong = false;
    for _ in 0..3 {
        let ping = peer.next().await;
        assert_eq!((attr(&ping, "from"), attr(&ping, "to")), ("agents.hub-a.example", "hub-a.example"));
        peer.answer_ping(&ping).await;
    }
    door.until(LinkState::is_up).await;
    peer.next().await;
    assert!(door.down().await.contains("ping"));
}

#[tokio::test]
async fn replies_without_confirmation_are_sent_again_with_the_same_ids_and_then_never_more() {
    let server = Server::start().await;
    let world = World::default();
    for number in 1..=3 {
        world.reply(reply(number));
    }
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    peer.pong = false;
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(peer.next().await);
    }
    assert!(peer.next().await.has_child("ping", "urn:xmpp:ping"));
    // The server dies with everything in its buffers.
    drop(peer);
    assert!(world.state.lock().unwrap().confirmed.is_empty());

    let mut peer = server.accept().await;
    peer.pong = false;
    let mut second = Vec::new();
    for _ in 0..3 {
        second.push(peer.next().await);
    }
    assert_eq!(first, second);
    assert_eq!(attr(&first[0], "id"), Uuid::from_u128(1).to_string());
    let ping = peer.next().await;
    // An error counts as well: it came after everything before it.
    let id = attr(&ping, "id");
    peer.write(&format!("<iq type='error' from='hub-a.example' to='agents.hub-a.example' id='{id}'/>")).await;
    peer.serve_until(world.confirmed(3)).await;

    // Nobody waits for the confirmation of another one, and a reply that shows up late, before those already read, is seen.
    for number in [5, 4] {
        world.reply(reply(number));
        assert_eq!(body(&peer.next().await), format!("reply {number}"));
        assert!(peer.next().await.has_child("ping", "urn:xmpp:ping"));
    }
    world.reply(reply(6));
    assert_eq!(body(&peer.next().await), "reply 6");
    let ping = peer.next().await;
    peer.answer_ping(&ping).await;
    peer.serve_until(world.confirmed(6)).await;
    assert!(world.state.lock().unwrap().outbox.is_empty());
}

#[tokio::test]
async fn shutdown_says_goodbye_and_closes_the_stream() {
    let server = Server::start().await;
    let world = World::default();
    world.state.lock().unwrap().contacts.push("u@hub-a.example".parse().unwrap());
    let mut door = start(options(&server), &world);
    let mut peer = server.accept().await;
    let hello = peer.next().await;
    assert_eq!((hello.name(), attr(&hello, "from"), attr(&hello, "to")), ("presence", "bot@agents.hub-a.example/aiox", "u@hub-a.example"));
    assert_eq!(hello.attr::<str>("type"), None);
    door.shutdown.cancel();
    assert_eq!(attr(&peer.next().await, "type"), "unavailable");
    assert!(peer.next_or_end().await.is_none());
    timeout(Duration::from_secs(5), &mut door.task).await.expect("did not end").unwrap();
    assert_eq!(*door.state.borrow(), LinkState::Down { reason: "shut down".into() });
}
