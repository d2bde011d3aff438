//! What happens on an open session.

use std::time::Duration;

use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::server::TlsStream;

use super::server::{Listener, Peer, within};
use crate::{Cause, ChatState, Client, Element, Event, MessageKind, ProbeError, SETTLE, Step, Transcript};

const STATES: &str = "xmlns='http://jabber.org/protocol/chatstates'";
const AGENT: &str = "helper@agents.hub-a.example";

async fn session() -> (Peer<TlsStream<TcpStream>>, Client) {
    let listener = Listener::new("hub-a.example").await;
    let (peer, client) = tokio::join!(listener.session(), Client::connect(listener.options()));
    (peer, client.unwrap())
}

/// A message of the agent. `first` is the message that it corrects.
fn said(id: &str, thread: &str, first: Option<&str>, body: &str, state: &str) -> String {
    let replace = first.map(|first| format!("<replace xmlns='urn:xmpp:message-correct:0' id='{first}'/>")).unwrap_or_default();
    let state = if state.is_empty() { String::new() } else { format!("<{state} {STATES}/>") };
    format!("<message from='{AGENT}/aiox' type='chat' id='{id}'><body>{body}</body><thread>{thread}</thread>{replace}{state}</message>")
}

async fn ask(client: &mut Client, seconds: u64) -> Result<Transcript, ProbeError> {
    client.ask(AGENT, "how <are> you & yours?", within(seconds)).await
}

#[tokio::test]
async fn a_streamed_answer_is_its_last_correction() {
    let (mut peer, mut client) = session().await;
    let server = async {
        let (id, thread) = peer.question().await;
        peer.say(&format!("<presence from='{AGENT}/aiox'/>")).await;
        peer.say(&format!("<message from='{AGENT}/aiox'><received xmlns='urn:xmpp:receipts' id='{id}'/></message>")).await;
        peer.say(&said("old", "another thread", None, "an old answer", "active")).await;
        peer.say(&said("x", &thread, None, "from a stranger", "active").replace("helper@", "stranger@")).await;
        peer.say(&format!("<message from='{AGENT}/aiox' type='chat'><composing {STATES}/></message>")).await;
        peer.say(&said("1", &thread, None, "I", "composing")).await;
        peer.say(&said("2", &thread, Some("1"), "I am", "composing")).await;
        peer.say(&said("3", &thread, Some("1"), "I am well &amp; glad", "active")).await;
        id
    };
    let (id, transcript) = tokio::join!(server, ask(&mut client, 10));
    let transcript = transcript.unwrap();
    assert_eq!(transcript.answer, "I am well & glad");
    assert_eq!(transcript.bodies, ["I am well & glad"]);
    assert_eq!((transcript.corrections, transcript.ids), (2, ["1", "2", "3"].map(str::to_owned).to_vec()));
    assert!(transcript.composing_seen && transcript.presence_seen && transcript.receipt_seen);
    assert_eq!(transcript.question_id, id);
}

#[tokio::test]
async fn the_parts_of_a_long_answer_are_kept_apart() {
    let (mut peer, mut client) = session().await;
    let server = async {
        let (_, thread) = peer.question().await;
        peer.say(&said("a", &thread, None, "one ", "composing")).await;
        peer.say(&said("a.2", &thread, None, "two", "active")).await;
    };
    let (_, transcript) = tokio::join!(server, ask(&mut client, 10));
    let transcript = transcript.unwrap();
    assert_eq!((transcript.answer.as_str(), transcript.bodies.concat().as_str()), ("two", "one two"));
}

#[tokio::test]
async fn without_chat_states_the_last_body_before_the_silence_counts() {
    let (mut peer, mut client) = session().await;
    let server = async {
        let (_, thread) = peer.question().await;
        peer.say(&said("1", &thread, None, "first", "")).await;
        peer.say(&said("2", &thread, None, "second", "")).await;
    };
    let (_, transcript) = tokio::join!(server, ask(&mut client, 10));
    let transcript = transcript.unwrap();
    assert_eq!(transcript.answer, "second");
    assert!(transcript.elapsed >= SETTLE);
}

#[tokio::test]
async fn an_answer_that_never_ends_is_a_time_out() {
    let (mut peer, mut client) = session().await;
    let server = async {
        let (_, thread) = peer.question().await;
        peer.say(&said("1", &thread, None, "I", "composing")).await;
    };
    let (_, outcome) = tokio::join!(server, ask(&mut client, 2));
    assert!(matches!(outcome, Err(ProbeError { step: Step::Receive, cause: Cause::Timeout })), "{outcome:?}");
}

#[tokio::test]
async fn a_refused_question_says_why() {
    let (mut peer, mut client) = session().await;
    let server = async {
        let (id, _) = peer.question().await;
        peer.say(&format!("<message from='{AGENT}' type='error' id='{id}'><body>how</body><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no such agent</text></error></message>")).await;
    };
    let (_, outcome) = tokio::join!(server, ask(&mut client, 10));
    let Err(ProbeError { cause: Cause::Stanza(error), .. }) = outcome else { unreachable!("not refused: {outcome:?}") };
    assert_eq!((error.condition.as_str(), error.text.as_deref()), ("item-not-found", Some("no such agent")));
}

#[tokio::test]
async fn what_comes_while_an_iq_is_awaited_is_kept() {
    let (mut peer, mut client) = session().await;
    let server = async {
        let id = peer.iq("<query xmlns='http://jabber.org/protocol/disco#info'/>").await;
        peer.say(&said("1", "t", None, "hello", "active")).await;
        peer.say(&format!("<iq type='result' id='{id}' from='{AGENT}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")).await;
        let id = peer.iq("urn:x:nothing").await;
        peer.say(&format!("<iq type='error' id='{id}'><error type='cancel'><feature-not-implemented xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")).await;
        peer.iq("urn:x:silence").await;
    };
    let asking = async {
        let limit = Duration::from_secs(10);
        let info = client.iq_get(AGENT, "<query xmlns='http://jabber.org/protocol/disco#info'/>", limit).await.unwrap();
        assert!(info.child("query", "http://jabber.org/protocol/disco#info").is_some());
        let refused = client.iq_get(AGENT, "<x xmlns='urn:x:nothing'><y/></x>", limit).await.unwrap_err();
        assert!(matches!(&refused.cause, Cause::Stanza(error) if error.condition == "feature-not-implemented"), "{refused:?}");
        let silence = client.iq_get(AGENT, "<x xmlns='urn:x:silence'/>", Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(silence.cause, Cause::Timeout), "{silence:?}");
        let slip = client.iq_get(AGENT, "<x", limit).await.unwrap_err();
        assert!(slip.step == Step::Send && matches!(slip.cause, Cause::Xml(_)), "{slip:?}");
        let Event::Message(message) = client.next_event(Instant::now()).await.unwrap() else { unreachable!("not a message") };
        assert_eq!(
            (message.body.as_deref(), message.kind, message.chat_state),
            (Some("hello"), MessageKind::Chat, Some(ChatState::Active))
        );
        assert_eq!((message.id.as_deref(), message.thread.as_deref()), (Some("1"), Some("t")));
    };
    tokio::join!(server, asking);
}

#[tokio::test]
async fn queries_to_the_client_are_answered() {
    let (mut peer, mut client) = session().await;
    let server = async {
        peer.say("<iq type='get' id='q1' from='a@hub-a.example/x'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>").await;
        let told = Element::parse(&peer.until("</iq>").await).unwrap();
        assert_eq!((told.attr("id"), told.attr("to"), told.attr("type")), (Some("q1"), Some("a@hub-a.example/x"), Some("result")));
        let features: Vec<_> = told.children().flat_map(Element::children).filter_map(|child| child.attr("var")).collect();
        assert!(features.contains(&"urn:xmpp:message-correct:0"), "{features:?}");
        peer.say("<iq type='set' id='q2' from='a@hub-a.example/x'><query xmlns='jabber:iq:roster'/></iq>").await;
        assert!(peer.until("</iq>").await.contains("service-unavailable"));
        peer.say("<iq type='set' id='q3'><query xmlns='jabber:iq:roster'/></iq><presence from='end'/>").await;
        assert!(peer.until("/>").await.contains("type='result'"));
    };
    let reading = async {
        let Event::Presence(presence) = client.next_event(within(10)).await.unwrap() else { unreachable!("not presence") };
        assert_eq!(presence.from, "end");
    };
    tokio::join!(server, reading);
}

#[tokio::test]
async fn a_body_goes_out_escaped_and_hostile_text_goes_out_as_it_is() {
    let (mut peer, mut client) = session().await;
    let sending = async {
        client.send_message(AGENT, "a < b & \"c\"", None, false).await.unwrap();
        client.raw("<message><body>&bad;").await.unwrap();
        let refused = client.send_message(AGENT, "\u{1}", None, false).await.unwrap_err();
        assert!(matches!(refused.cause, Cause::Xml(_)), "{refused:?}");
    };
    let (message, _) = tokio::join!(peer.until("</message>"), sending);
    assert!(message.contains("<body>a &lt; b &amp; &quot;c&quot;</body>"), "{message}");
    assert!(!message.contains("<request"), "{message}");
    assert_eq!(peer.until("&bad;").await, "<message><body>&bad;");
}

#[tokio::test]
async fn a_stream_error_names_its_condition() {
    let (mut peer, mut client) = session().await;
    peer.say("<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>").await;
    let error = client.next_event(within(10)).await.unwrap_err();
    assert!(matches!(&error.cause, Cause::Stream { condition, .. } if condition == "policy-violation"), "{error:?}");
    assert!(matches!(client.next_event(within(10)).await.unwrap_err().cause, Cause::Closed));
}

/// What the client makes of a text that it may stop reading in the middle.
async fn outcome_of(text: &str) -> Result<Event, ProbeError> {
    let (mut peer, mut client) = session().await;
    let saying = async {
        peer.try_say(text).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = client.next_event(within(10)) => outcome,
        () = saying => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn stanzas_over_the_bounds_end_the_session() {
    let large = outcome_of(&format!("<message><body>{}</body></message>", "x".repeat(crate::MAX_STANZA_BYTES))).await;
    assert!(matches!(large, Err(ProbeError { cause: Cause::TooLarge, .. })), "{large:?}");
    // Many small parts count as one large one.
    let many = outcome_of(&format!("<message>{}</message>", "<a b='c'/>".repeat(crate::MAX_STANZA_BYTES / 10))).await;
    assert!(matches!(many, Err(ProbeError { cause: Cause::TooLarge, .. })), "{many:?}");
    let deep = outcome_of(&"<a>".repeat(crate::MAX_DEPTH + 1)).await;
    assert!(matches!(deep, Err(ProbeError { cause: Cause::Xml(crate::XmlError::TooDeep), .. })), "{deep:?}");
    let fits = outcome_of(&format!("<message><body>{}</body></message>", "x".repeat(crate::MAX_STANZA_BYTES - 100))).await;
    assert!(fits.is_ok(), "{fits:?}");
}

#[tokio::test]
async fn nothing_is_lost_when_a_deadline_cuts_a_stanza_in_two() {
    let (mut peer, mut client) = session().await;
    peer.say("<message from='a@hub-a.example'><body>be").await;
    let early = client.next_event(Instant::now() + Duration::from_millis(100)).await;
    assert!(matches!(early, Err(ProbeError { cause: Cause::Timeout, .. })));
    peer.say("fore</body></message>").await;
    let Event::Message(message) = client.next_event(within(10)).await.unwrap() else { unreachable!("not a message") };
    assert_eq!(message.body.as_deref(), Some("before"));
}
