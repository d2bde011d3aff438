//! What any local or federated user can send. After each of these the next ordinary message must be answered on the same link.

use super::{Server, World, attr, body, options, start};

#[tokio::test]
async fn no_stanza_ends_the_link() {
    let server = Server::start().await;
    let _door = start(options(&server), &World::echoing());
    let mut peer = server.accept().await;

    let head = "from='u@hub-a.example/x' to='bot@agents.hub-a.example'";
    let long = "x".repeat(100_000);
    // (stanza, the condition of the error that must come back)
    let hostile = [
        (format!("<message {head} id='h0'>{}{}</message>", "<x>".repeat(35_000), "</x>".repeat(35_000)), Some("bad-request")),
        (format!("<message {head} id='h1'>{}</message>", "<x/>".repeat(20_000)), Some("bad-request")),
        (format!("<iq {head} id='h2' type='get'/>"), Some("bad-request")),
        (format!("<iq {head} id='h3' type='error'/>"), None),
        (format!("<iq {head} id='h4' type='nonsense'><x xmlns='y'/></iq>"), Some("bad-request")),
        (format!("<iq {head} id='h5' type='get'><x xmlns='{long}'/></iq>"), Some("service-unavailable")),
        (format!("<message {head} id='h6' extra='{long}'/>"), None),
        (format!("<presence {head} id='h7'><priority>999</priority></presence>"), None),
        (format!("<presence {head} id='h8'><priority/><show/><show>away</show><show>bogus</show></presence>"), None),
        (format!("<presence {head} id='h9' type='bogus'/>"), None),
        (format!("<message {head} id='h10' type='groupchat'><body>x</body></message>"), Some("service-unavailable")),
        ("<message from='@' to='bot@agents.hub-a.example' id='h11'><body>x</body></message>".to_owned(), Some("bad-request")),
        ("<message to='bot@agents.hub-a.example' id='h12'><body>x</body></message>".to_owned(), None),
        (format!("<message {head} type='error' id='h13'><body>x</body></message>"), None),
        ("<message from='u@hub-a.example/x' to='bot@other.example' id='h14'><body>x</body></message>".to_owned(), None),
        ("<unknown xmlns='urn:x'><message/></unknown>".to_owned(), None),
        (format!("<message {head} id='h15'><undeclared:x/></message>"), Some("bad-request")),
        (format!("<iq {head} type='get' id='{}'><ping xmlns='urn:xmpp:ping'/></iq>", "i".repeat(6000)), Some("")),
    ];
    for (index, (stanza, condition)) in hostile.iter().enumerate() {
        let from = match index {
            13 => "w@hub-a.example/w",
            _ => "v@hub-a.example/v",
        };
        peer.write(stanza).await;
        if let Some(condition) = condition {
            let answer = peer.next_relevant().await;
            let error = answer.get_child("error", crate::stanza::NS_COMPONENT).and_then(|error| error.children().next());
            assert_eq!(error.map_or("", |condition| condition.name()), *condition, "{index}: {answer:?}");
        }
        peer.write(&format!(
            "<message from='{from}' to='bot@agents.hub-a.example' type='foo' id='m{index}'><body>alive {index}</body><thread>1</thread><thread>2</thread></message>"
        ))
        .await;
        // The first thing that follows is the conversation: nothing else was answered.
        let state = peer.next_relevant().await;
        assert!(state.has_child("composing", "http://jabber.org/protocol/chatstates"), "{index}: {state:?}");
        let answer = peer.next_relevant().await;
        assert_eq!(body(&answer), format!("echo: alive {index}"), "{index}");
        assert_eq!(attr(&answer, "to"), from.split('/').next().unwrap());
    }
}
