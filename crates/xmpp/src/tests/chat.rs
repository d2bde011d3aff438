//! Messages: answers, acknowledgements, repetitions, refusals, loops, live answers.

use std::time::Duration;

use aiox_core::Error;
use tokio::sync::mpsc;

use super::{Server, World, attr, body, options, start};
use crate::hub::Progress;

const CHATSTATES: &str = "http://jabber.org/protocol/chatstates";
const CORRECT: &str = "urn:xmpp:message-correct:0";

#[tokio::test]
async fn a_question_is_acknowledged_then_thought_about_then_answered() {
    let server = Server::start().await;
    let world = World::echoing();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    peer.write(
        "<message from='u@hub-a.example/dino' to='bot@agents.hub-a.example' type='chat' id='q1'><body>hello</body><thread>t1</thread>\
         <request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/></message>",
    )
    .await;
    let receipt = peer.next_relevant().await;
    assert_eq!(attr(&receipt, "to"), "u@hub-a.example/dino");
    assert_eq!(attr(receipt.get_child("received", "urn:xmpp:receipts").unwrap(), "id"), "q1");
    assert_eq!(attr(receipt.get_child("displayed", "urn:xmpp:chat-markers:0").unwrap(), "id"), "q1");
    let composing = peer.next_relevant().await;
    assert!(composing.has_child("composing", CHATSTATES));
    let answer = peer.next_relevant().await;
    assert_eq!(body(&answer), "echo: hello");
    assert_eq!((attr(&answer, "from"), attr(&answer, "to")), ("bot@agents.hub-a.example/aiox", "u@hub-a.example"));
    assert!(answer.has_child("active", CHATSTATES));
    assert_eq!(answer.get_child("thread", crate::stanza::NS_COMPONENT).unwrap().text(), "t1");
    assert_ne!(attr(&answer, "id"), "q1");
    peer.serve_until(world.confirmed(1)).await;
}

#[tokio::test]
async fn the_same_stanza_twice_is_one_question_with_two_receipts() {
    let server = Server::start().await;
    let world = World::echoing();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    let question = "<message from='u@hub-a.example/dino' to='bot@agents.hub-a.example' type='chat' id='q1'><body>hello</body>\
                    <request xmlns='urn:xmpp:receipts'/></message>";
    peer.write(question).await;
    peer.write(question).await;
    peer.message("q2", "next").await;
    let mut receipts = 0;
    loop {
        let element = peer.next_relevant().await;
        receipts += usize::from(element.has_child("received", "urn:xmpp:receipts"));
        if body(&element) == "echo: next" {
            break;
        }
    }
    assert_eq!(receipts, 2);
    assert_eq!(world.state.lock().unwrap().questions.len(), 2);
}

#[tokio::test]
async fn strangers_and_unknown_agents_get_the_same_error() {
    let server = Server::start().await;
    let world = World::echoing();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    let mut answers = Vec::new();
    for (from, to) in [("eve@elsewhere.example/x", "bot"), ("u@hub-a.example/x", "nobody")] {
        for children in ["<body>hi</body>", "<body>!help</body>", "<body>x</body><encryption xmlns='urn:xmpp:eme:0' namespace='y'/>"] {
            peer.write(&format!("<message from='{from}' to='{to}@agents.hub-a.example' type='chat' id='q'>{children}</message>")).await;
            let answer = peer.next_relevant().await;
            assert_eq!(attr(&answer, "type"), "error");
            answers.push(answer.get_child("error", crate::stanza::NS_COMPONENT).unwrap().clone());
        }
    }
    assert!(answers.iter().all(|error| *error == answers[0]), "{answers:?}");
    assert!(answers[0].has_child("item-not-found", "urn:ietf:params:xml:ns:xmpp-stanzas"));
    assert!(world.state.lock().unwrap().questions.is_empty());
}

#[tokio::test]
async fn a_used_up_quota_is_an_error_and_a_text() {
    let server = Server::start().await;
    let world = World::default();
    let wait = Duration::from_secs(60);
    world.state.lock().unwrap().fail =
        Some(Error::Limited { code: "quota_exceeded", message: "Quota exceeded: 5 requests per day".into(), retry_after: wait });
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    peer.message("q1", "hello").await;
    let error = peer.next_relevant().await;
    assert_eq!((attr(&error, "type"), attr(&error, "id")), ("error", "q1"));
    let condition = error.get_child("error", crate::stanza::NS_COMPONENT).unwrap();
    assert_eq!(attr(condition, "type"), "wait");
    assert!(condition.has_child("resource-constraint", "urn:ietf:params:xml:ns:xmpp-stanzas"));
    assert_eq!(body(&peer.next_relevant().await), "Error: Quota exceeded: 5 requests per day");
}

#[tokio::test]
async fn a_bounced_answer_causes_nothing() {
    let server = Server::start().await;
    let world = World::echoing();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    for _ in 0..50 {
        peer.write(
            "<message from='u@hub-a.example/dino' to='bot@agents.hub-a.example/aiox' type='error' id='x'><body>echo: a</body>\
             <error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
        )
        .await;
    }
    peer.message("q", "end").await;
    peer.next_relevant().await;
    assert_eq!(body(&peer.next_relevant().await), "echo: end");
    assert_eq!(world.state.lock().unwrap().questions.len(), 1);
}

#[tokio::test]
async fn two_programs_that_answer_each_other_stop() {
    let server = Server::start().await;
    let world = World::echoing();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    let say = |turn: usize| {
        format!(
            "<message from='other@agents.hub-a.example/x' to='bot@agents.hub-a.example' type='chat' id='q{turn}'><body>again {turn}</body></message>"
        )
    };
    for turn in 0..40 {
        peer.write(&say(turn)).await;
    }
    // Somebody else is not affected; when this answer is there, all of the above has been judged.
    peer.message("end", "end").await;
    loop {
        if body(&peer.next_relevant().await) == "echo: end" {
            break;
        }
    }
    assert!(world.state.lock().unwrap().questions.len() <= 11);
}

#[tokio::test]
async fn commands_in_plain_text_are_no_questions() {
    let server = Server::start().await;
    let world = World::echoing();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    for (command, mark) in
        [("quota", "3 of 1000 requests"), ("!quota", "3 of 1000"), ("!agents", "bot@agents.hub-a.example"), ("!help", "!quota")]
    {
        peer.message(command, command).await;
        let answer = peer.next_relevant().await;
        assert!(body(&answer).contains(mark), "{answer:?}");
    }
    assert!(world.state.lock().unwrap().questions.is_empty());
}

#[tokio::test]
async fn an_answer_grows_on_devices_that_show_corrections_and_ends_with_the_durable_one() {
    let server = Server::start().await;
    let world = World::default();
    let (steps, live) = mpsc::unbounded_channel();
    world.state.lock().unwrap().live = Some(live);
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    peer.message("q1", "tell me a story").await;
    assert!(peer.next_relevant().await.has_child("composing", CHATSTATES));
    let query = peer.next().await;
    assert!(query.has_child("query", "http://jabber.org/protocol/disco#info"));
    peer.write(&format!(
        "<iq type='result' from='u@hub-a.example/dino' to='bot@agents.hub-a.example/aiox' id='{}'>\
         <query xmlns='http://jabber.org/protocol/disco#info'><feature var='{CORRECT}'/></query></iq>\
         <iq type='get' from='u@hub-a.example/dino' to='bot@agents.hub-a.example' id='p'><ping xmlns='urn:xmpp:ping'/></iq>",
        attr(&query, "id")
    ))
    .await;
    // Requests of one device keep their order, so with this answer the result above has been taken too.
    assert_eq!(attr(&peer.next().await, "id"), "p");
    steps.send(Progress::Text("Once".into())).unwrap();
    let first = peer.next_relevant().await;
    assert_eq!(body(&first), "Once");
    assert!(!first.has_child("replace", CORRECT));
    steps.send(Progress::Text(" upon a time".into())).unwrap();
    let second = peer.next_relevant().await;
    assert_eq!(body(&second), "Once upon a time");
    assert_eq!(attr(second.get_child("replace", CORRECT).unwrap(), "id"), attr(&first, "id"));
    assert!(second.has_child("no-store", "urn:xmpp:hints"));

    let question = world.state.lock().unwrap().questions[0].1.clone();
    let run = crate::hub::Reply {
        id: uuid::Uuid::now_v7(),
        stanza_id: "final".into(),
        run: world.last_run(),
        envelope: question.envelope,
        body: "Once upon a time. The end.".into(),
    };
    world.reply(run);
    let last = peer.next_relevant().await;
    assert_eq!((attr(&last, "id"), body(&last).as_str()), ("final", "Once upon a time. The end."));
    assert_eq!(attr(last.get_child("replace", CORRECT).unwrap(), "id"), attr(&first, "id"));
    assert!(last.has_child("store", "urn:xmpp:hints") && last.has_child("active", CHATSTATES));
    peer.serve_until(world.confirmed(1)).await;
    // Nothing follows the answer, whatever the worker still says.
    steps.send(Progress::Text(" Or not?".into())).unwrap();
    steps.closed().await;
}

#[tokio::test]
async fn an_answer_that_was_lost_behind_the_server_is_sent_again_under_its_id() {
    let server = Server::start().await;
    let world = World::echoing();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    peer.message("q1", "hello").await;
    peer.next_relevant().await;
    let answer = peer.next_relevant().await;
    peer.serve_until_quiet(world.confirmed(1)).await;

    // The same session asks again at once: question and answer have crossed.
    peer.message("q1", "hello").await;
    // A new session asks again: it cannot have the answer.
    peer.write("<message from='u@hub-a.example/new' to='bot@agents.hub-a.example' type='chat' id='q1'><body>hello</body></message>").await;
    let again = peer.next_relevant().await;
    assert_eq!((attr(&again, "id"), body(&again)), (attr(&answer, "id"), body(&answer)));

    // It comes back because the user's server is away, and is sent again after a while.
    let id = attr(&answer, "id");
    for (type_, condition) in [("cancel", "service-unavailable"), ("wait", "remote-server-timeout")] {
        peer.write(&format!(
            "<message from='u@hub-a.example' to='bot@agents.hub-a.example/aiox' type='error' id='{id}'><error type='{type_}'>\
             <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        ))
        .await;
    }
    let again = peer.next_relevant().await;
    assert_eq!((attr(&again, "id"), body(&again)), (id, body(&answer)));
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_braked_sender_gets_one_error_with_the_time_to_wait_and_then_silence() {
    let server = Server::start().await;
    let world = World::echoing();
    let mut options = options(&server);
    options.brakes = crate::Brakes { burst: 2, per_second: 0.001, ..crate::Brakes::default() };
    let _door = start(options, &world);
    let mut peer = server.accept().await;
    for number in 0..20 {
        peer.message(&format!("q{number}"), &format!("number {number}")).await;
    }
    // Refused whatever the brakes say: with its error, everything before it has been judged.
    peer.write("<message from='u@hub-a.example/dino' to='bot@agents.hub-a.example' type='groupchat' id='end'><body>x</body></message>")
        .await;
    let mut errors = Vec::new();
    loop {
        let element = peer.next_relevant().await;
        match (attr(&element, "type"), attr(&element, "id")) {
            ("error", "end") => break,
            ("error", _) => errors.push(element),
            _ => {}
        }
    }
    assert_eq!(world.asked(), 2);
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!(attr(error, "id"), "q2");
    let condition = error.get_child("error", crate::stanza::NS_COMPONENT).unwrap();
    assert_eq!(attr(condition, "type"), "wait");
    assert!(condition.has_child("policy-violation", "urn:ietf:params:xml:ns:xmpp-stanzas"));
    assert!(condition.get_child("text", "urn:ietf:params:xml:ns:xmpp-stanzas").unwrap().text().contains("Please wait"), "{condition:?}");
}
