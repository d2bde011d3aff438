//! Against a scripted server, over real TCP and TLS.

mod server;
mod session;

use server::{Listener, PASSWORD, within};

use crate::{Cause, Client, ProbeError, Step};

/// Everything that an operator could get to see of an error.
fn shown(error: &ProbeError) -> String {
    let cause = &error.cause;
    format!("{error} {cause} {error:?}")
}

#[tokio::test]
async fn a_login_survives_a_network_that_delivers_single_bytes() {
    let listener = Listener::new("hub-a.example").await;
    let server = async {
        let mut peer = listener.secured().await.unwrap();
        peer.slice = 1;
        peer.scram(None).await.unwrap();
        peer.bind().await;
        peer.say("<message from='a@hub-a.example/x'><body>é🦀&amp;</body></message>").await;
        peer.until("</stream:stream>").await;
        peer.say("</stream:stream>").await;
    };
    let client = async {
        let mut client = Client::connect(listener.options()).await.unwrap();
        assert_eq!(client.jid(), "probe@hub-a.example/look");
        let crate::Event::Message(message) = client.next_event(within(10)).await.unwrap() else { unreachable!("not a message") };
        assert_eq!(message.body.as_deref(), Some("é🦀&"));
        client.close().await.unwrap();
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn a_wrong_password_fails_at_auth_and_is_not_shown() {
    let listener = Listener::new("hub-a.example").await;
    let mut options = listener.options();
    options.password = "wrong secret".into();
    assert!(!format!("{options:?}").contains("wrong secret"));
    let server = async { listener.secured().await.unwrap().scram(None).await };
    let (server, client) = tokio::join!(server, Client::connect(options));
    let error = client.unwrap_err();
    assert_eq!((server, error.step), (Err(()), Step::Auth));
    assert!(matches!(&error.cause, Cause::Refused { condition } if condition == "not-authorized"));
    assert!(!shown(&error).contains("wrong secret"));
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_not_believed() {
    for lie in ["v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", ""] {
        let listener = Listener::new("hub-a.example").await;
        let server = async { listener.secured().await.unwrap().scram(Some(lie)).await };
        let (_, client) = tokio::join!(server, Client::connect(listener.options()));
        let error = client.unwrap_err();
        assert!(error.step == Step::Auth && matches!(error.cause, Cause::Scram(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_domain_or_of_another_authority_fails_at_tls() {
    let listener = Listener::new("hub-b.example").await;
    let (server, client) = tokio::join!(listener.secured(), Client::connect(listener.options()));
    assert!(server.is_none());
    assert_eq!(client.unwrap_err().step, Step::Tls);

    let (listener, other) = (Listener::new("hub-a.example").await, Listener::new("hub-a.example").await);
    let mut options = listener.options();
    options.roots = other.options().roots;
    let (server, client) = tokio::join!(listener.secured(), Client::connect(options));
    assert!(server.is_none());
    assert_eq!(client.unwrap_err().step, Step::Tls);
}

#[tokio::test]
async fn plain_is_used_when_there_is_nothing_better_and_never_after_a_refusal() {
    let listener = Listener::new("hub-a.example").await;
    let server = async {
        let mut peer = listener.secured().await.unwrap();
        peer.offer(&["SCRAM-SHA-1", "PLAIN"]).await;
        assert_eq!(peer.sasl("auth").await, format!("\0probe\0{PASSWORD}"));
        peer.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        peer.bind().await;
    };
    let (_, client) = tokio::join!(server, Client::connect(listener.options()));
    assert_eq!(client.unwrap().jid(), "probe@hub-a.example/look");

    let server = async {
        let mut peer = listener.secured().await.unwrap();
        peer.offer(&["SCRAM-SHA-256", "PLAIN"]).await;
        assert!(peer.sasl("auth").await.starts_with("n,,n=probe,r="));
        peer.refuse().await;
        peer.hung_up().await;
    };
    let (_, client) = tokio::join!(server, Client::connect(listener.options()));
    assert!(matches!(client.unwrap_err().cause, Cause::Refused { .. }));
}

#[tokio::test]
async fn without_a_usable_mechanism_the_offer_is_named() {
    let listener = Listener::new("hub-a.example").await;
    let server = async { listener.secured().await.unwrap().offer(&["EXTERNAL"]).await };
    let (_, client) = tokio::join!(server, Client::connect(listener.options()));
    let error = client.unwrap_err();
    assert!(error.step == Step::Auth && error.cause.to_string().contains("EXTERNAL"), "{error:?}");
}

#[tokio::test]
async fn no_password_goes_out_without_tls() {
    let listener = Listener::new("hub-a.example").await;
    let server = async {
        let mut peer = listener.accept().await;
        peer.open("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>").await;
    };
    let (_, client) = tokio::join!(server, Client::connect(listener.options()));
    let error = client.unwrap_err();
    assert!(error.step == Step::StartTls && matches!(error.cause, Cause::NoTls), "{error:?}");
}

#[tokio::test]
async fn what_is_slipped_in_before_tls_is_not_taken_for_protected() {
    let listener = Listener::new("hub-a.example").await;
    let server = async {
        let mut peer = listener.accept().await;
        peer.open("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        peer.until("<starttls").await;
        peer.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><stream:features/>").await;
        peer.hung_up().await;
    };
    let (_, client) = tokio::join!(server, Client::connect(listener.options()));
    let error = client.unwrap_err();
    assert!(error.step == Step::StartTls && matches!(error.cause, Cause::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn a_silent_server_ends_at_the_deadline_and_an_absent_one_at_connect() {
    let listener = Listener::new("hub-a.example").await;
    let mut options = listener.options();
    options.deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(100);
    let (_peer, client) = tokio::join!(listener.accept(), Client::connect(options));
    let error = client.unwrap_err();
    assert!(error.step == Step::StartTls && matches!(error.cause, Cause::Timeout), "{error:?}");

    let options = listener.options();
    drop(listener);
    assert_eq!(Client::connect(options).await.unwrap_err().step, Step::Connect);
}
