//! Presence, discovery, commands.

use super::{Server, World, attr, body, options, start};

const STRANGER: &str = "eve@elsewhere.example/x";

#[tokio::test]
async fn subscribing_is_for_those_who_may_use_the_agent() {
    let server = Server::start().await;
    let world = World::default();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    peer.write("<presence from='u@hub-a.example' to='bot@agents.hub-a.example' type='subscribe'/>").await;
    let subscribed = peer.next().await;
    assert_eq!((attr(&subscribed, "type"), attr(&subscribed, "from")), ("subscribed", "bot@agents.hub-a.example"));
    let available = peer.next().await;
    assert_eq!((available.attr::<str>("type"), attr(&available, "from")), (None, "bot@agents.hub-a.example/aiox"));
    assert!(available.has_child("c", "http://jabber.org/protocol/caps") && available.has_child("x", "vcard-temp:x:update"));
    assert_eq!(world.state.lock().unwrap().contacts.len(), 1);

    peer.write("<presence from='u@hub-a.example/dino' to='bot@agents.hub-a.example' type='probe'/>").await;
    let probed = peer.next().await;
    assert_eq!((probed.attr::<str>("type"), attr(&probed, "to")), (None, "u@hub-a.example/dino"));

    for (from, to) in [("eve@elsewhere.example", "bot"), ("u@hub-a.example", "nobody")] {
        peer.write(&format!("<presence from='{from}' to='{to}@agents.hub-a.example' type='subscribe'/>")).await;
        assert_eq!(attr(&peer.next().await, "type"), "unsubscribed");
    }
    // A probe of a stranger, and plain presence of anybody, have no answer at all.
    peer.write(&format!("<presence from='{STRANGER}' to='bot@agents.hub-a.example' type='probe'/>")).await;
    peer.write("<presence from='u@hub-a.example/dino' to='bot@agents.hub-a.example'/>").await;
    peer.write("<presence from='u@hub-a.example' to='bot@agents.hub-a.example' type='unsubscribe'/>").await;
    assert_eq!(attr(&peer.next().await, "type"), "unsubscribed");
    assert_eq!(attr(&peer.next().await, "type"), "unavailable");
    assert!(world.state.lock().unwrap().contacts.is_empty());
}

#[tokio::test]
async fn every_request_has_an_answer_and_strangers_learn_nothing() {
    let server = Server::start().await;
    let _door = start(options(&server), &World::default());
    let mut peer = server.accept().await;
    let requests = [
        ("get", "<query xmlns='http://jabber.org/protocol/disco#info' node='n#v'/>", true),
        ("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>", true),
        ("get", "<query xmlns='jabber:iq:version'/>", true),
        ("get", "<vCard xmlns='vcard-temp'/>", true),
        ("get", "<ping xmlns='urn:xmpp:ping'/>", true),
        ("get", "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'/>", true),
        ("get", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:avatar:metadata'/></pubsub>", true),
        ("get", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:vcard4'/></pubsub>", true),
        (
            "get",
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='eu.siacs.conversations.axolotl.devicelist'/></pubsub>",
            false,
        ),
        ("set", "<query xmlns='jabber:iq:roster'/>", false),
    ];
    for (index, (type_, payload, known)) in requests.iter().enumerate() {
        for resource in ["", "/aiox"] {
            let ask = |from: &str| {
                format!("<iq from='{from}' to='bot@agents.hub-a.example{resource}' type='{type_}' id='i{index}'>{payload}</iq>")
            };
            peer.write(&ask("u@hub-a.example/dino")).await;
            let answer = peer.next().await;
            assert_eq!(attr(&answer, "type"), if *known { "result" } else { "error" }, "{payload}");
            assert_eq!((attr(&answer, "id"), attr(&answer, "to")), (format!("i{index}").as_str(), "u@hub-a.example/dino"));
            if index == 0 {
                assert_eq!(attr(answer.children().next().unwrap(), "node"), "n#v");
            }
            peer.write(&ask(STRANGER)).await;
            let refused = peer.next().await;
            let error = refused.get_child("error", crate::stanza::NS_COMPONENT).unwrap();
            assert!(error.has_child("item-not-found", "urn:ietf:params:xml:ns:xmpp-stanzas"), "{payload}");
        }
    }
    peer.write("<iq from='u@hub-a.example/dino' to='agents.hub-a.example' type='get' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        .await;
    let answer = peer.next().await;
    assert_eq!(attr(answer.children().next().unwrap().children().next().unwrap(), "category"), "component");
}

#[tokio::test]
async fn who_loses_access_is_left_at_once_and_the_others_stay() {
    let server = Server::start().await;
    let world = World::default();
    {
        let mut state = world.state.lock().unwrap();
        state.contacts = ["gone@hub-a.example", "u@hub-a.example", "v@hub-a.example"].map(|jid| jid.parse().unwrap()).to_vec();
        state.shut_out = vec!["gone@hub-a.example".parse().unwrap()];
    }
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    let mut next = async || {
        let presence = peer.next().await;
        (attr(&presence, "type").to_owned(), attr(&presence, "from").to_owned(), attr(&presence, "to").to_owned())
    };
    let expected =
        |type_: &str, from: &str, to: &str| (type_.to_owned(), format!("bot@agents.hub-a.example{from}"), format!("{to}@hub-a.example"));
    // Who lost access while the link was down hears of it before the others are greeted.
    assert_eq!(next().await, expected("unavailable", "/aiox", "gone"));
    assert_eq!(next().await, expected("unsubscribed", "", "gone"));
    assert_eq!(next().await, expected("", "/aiox", "u"));
    assert_eq!(next().await, expected("", "/aiox", "v"));
    // Then somebody loses it while the link is up.
    world.state.lock().unwrap().shut_out.push("u@hub-a.example".parse().unwrap());
    world.narrowed.notify_one();
    assert_eq!(next().await, expected("unavailable", "/aiox", "u"));
    assert_eq!(next().await, expected("unsubscribed", "", "u"));
    peer.write("<iq from='v@hub-a.example/x' to='bot@agents.hub-a.example' type='get' id='last'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    assert_eq!(attr(&peer.next().await, "id"), "last");
    let left: Vec<String> = world.state.lock().unwrap().contacts.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["v@hub-a.example"]);
}

#[tokio::test]
async fn a_stranger_is_recorded_once_however_it_knocks() {
    let server = Server::start().await;
    let world = World::default();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    for (from, to) in [(STRANGER, "bot"), (STRANGER, "nobody"), ("mallory@elsewhere.example/x", "bot")] {
        for _ in 0..3 {
            let to = format!("{to}@agents.hub-a.example");
            peer.write(&format!("<message from='{from}' to='{to}' type='chat' id='q'><body>hi</body></message>")).await;
            peer.write(&format!("<iq from='{from}' to='{to}' type='get' id='q'><ping xmlns='urn:xmpp:ping'/></iq>")).await;
            peer.write(&format!("<presence from='{from}' to='{to}' type='subscribe'/>")).await;
            for _ in 0..3 {
                peer.next().await;
            }
        }
    }
    let both = async {
        while world.state.lock().unwrap().denied.len() < 2 {
            world.confirms.notified().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), both).await.expect("not recorded in time");
    let mut denied: Vec<String> = world.state.lock().unwrap().denied.iter().map(ToString::to_string).collect();
    denied.sort();
    assert_eq!(denied, ["eve@elsewhere.example", "mallory@elsewhere.example"]);
}

#[tokio::test]
async fn a_run_is_canceled_by_an_adhoc_command() {
    let server = Server::start().await;
    let world = World::default();
    let _door = start(options(&server), &world);
    let mut peer = server.accept().await;
    let command = |attributes: &str, children: &str| {
        format!(
            "<iq from='u@hub-a.example/dino' to='bot@agents.hub-a.example' type='set' id='c'>\
             <command xmlns='http://jabber.org/protocol/commands' {attributes}>{children}</command></iq>"
        )
    };
    peer.write(&command("node='quota' action='execute'", "")).await;
    let answer = peer.next().await.children().next().unwrap().clone();
    assert_eq!(attr(&answer, "status"), "completed");
    assert!(answer.text().is_empty() && answer.children().next().unwrap().text().contains("3 of 1000"));

    peer.write(&command("node='cancel' action='execute'", "")).await;
    let form = peer.next().await.children().next().unwrap().clone();
    assert_eq!(attr(&form, "status"), "executing");
    let session = attr(&form, "sessionid");
    let choice = form.get_child("x", "jabber:x:data").unwrap().children().find(|child| child.name() == "field").unwrap();
    let run = choice.children().find(|child| child.name() == "option").unwrap().text();
    let run =
        if run.is_empty() { choice.children().find(|c| c.name() == "option").unwrap().children().next().unwrap().text() } else { run };
    peer.write(&command(
        &format!("node='cancel' action='complete' sessionid='{session}'"),
        &format!("<x xmlns='jabber:x:data' type='submit'><field var='run'><value>{run}</value></field></x>"),
    ))
    .await;
    assert_eq!(attr(peer.next().await.children().next().unwrap(), "status"), "completed");
    assert_eq!(world.state.lock().unwrap().canceled.len(), 1);

    peer.write(&command("node='nonsense'", "")).await;
    assert_eq!(attr(&peer.next().await, "type"), "error");
    peer.message("after", "!runs").await;
    assert!(body(&peer.next_relevant().await).contains("a long question"));
}
