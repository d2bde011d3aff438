//! Certificates, authorities and live connections (F7, F11, F22).

use std::{sync::Arc, time::Duration};

use aiox_certs::Leaf;
use aiox_federation::{link::Links, local::LocalError, token::Operation};
use aiox_model::federation::PeerState;
use bytes::Bytes;
use http::{Method, StatusCode};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{
    doubles::TestIds,
    hub::{Hub, Pair, Raw, client_config, issue, pair, two},
};

/// TLS 1.3 tells a client of its refusal only with the first answer, so a refused handshake shows at the first request.
async fn refused(to: &Hub, certificate: Option<&Pair>) -> bool {
    match Raw::connect(to.address, certificate).await {
        Ok(mut raw) => raw.send("GET", "/fed/v1/capabilities", None, vec![]).await.is_err(),
        Err(_) => true,
    }
}

fn custom(hub: &Hub, uris: &[&str], purposes: &[ExtendedKeyUsagePurpose]) -> Pair {
    let authority = KeyPair::from_pem(&hub.authority.key_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(hub.authority.certificate_pem(), authority).unwrap();
    let mut params = CertificateParams::new(vec!["hub-a.example".to_owned()]).unwrap();
    params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
    params.extended_key_usages = purposes.to_vec();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    pair(&certificate.pem(), &key.serialize_pem())
}

#[tokio::test]
async fn an_authority_speaks_for_its_own_domain_alone() {
    let (a, b) = two().await;
    let c = Hub::start("hub-c.example").await;
    b.trusts(&c, |_| {});
    assert!(!refused(&b, Some(&a.pair)).await);
    let forged = issue(&a.authority, &Leaf::federation("hub-c.example", "n1", "127.0.0.1").unwrap());
    assert!(refused(&b, Some(&forged)).await, "F7: the authority of one peer must not name another");
}

#[tokio::test]
async fn certificates_that_do_not_name_an_active_node_are_refused() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let (a, b) = two().await;
    let stranger = Hub::start("hub-x.example").await;
    let node = "spiffe://hub-a.example/node/n1";
    assert!(!refused(&b, Some(&custom(&a, &[node], &[ClientAuth]))).await);
    assert!(refused(&b, None).await, "no certificate");
    assert!(refused(&b, Some(&stranger.pair)).await, "no peer");
    let expired = Leaf::federation("hub-a.example", "n1", "127.0.0.1").unwrap().valid_days(0);
    assert!(refused(&b, Some(&issue(&a.authority, &expired))).await, "expired");
    let unlisted = Leaf::federation("hub-a.example", "n2", "127.0.0.1").unwrap();
    assert!(refused(&b, Some(&issue(&a.authority, &unlisted))).await, "a node that the trust document does not list");
    assert!(refused(&b, Some(&custom(&a, &[node], &[ServerAuth]))).await, "no clientAuth");
    assert!(refused(&b, Some(&custom(&a, &[node], &[]))).await, "no purposes");
    assert!(refused(&b, Some(&custom(&a, &[], &[ClientAuth]))).await, "no URI name");
    assert!(refused(&b, Some(&custom(&a, &[node, "spiffe://hub-a.example/node/n2"], &[ClientAuth]))).await, "two URI names");
    assert!(refused(&b, Some(&custom(&a, &["https://hub-a.example"], &[ClientAuth]))).await, "not a node id");
}

#[tokio::test]
async fn tls_1_2_and_other_protocols_are_not_spoken() {
    let (a, b) = two().await;
    let old = client_config(Some(&a.pair), &[&rustls::version::TLS12]);
    assert!(Raw::connect_with(b.address, old).await.is_err(), "F22");
    let mut other = client_config(Some(&a.pair), &[&rustls::version::TLS13]);
    other.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(Raw::connect_with(b.address, other).await.is_err());
}

#[tokio::test]
async fn the_server_must_be_the_node_that_was_called() {
    let (a, b) = two().await;
    let c = Hub::start("hub-c.example").await;
    c.trusts(&a, |_| {});
    a.trusts(&c, |_| {});
    let ask = |domain: &'static str| a.links.send(domain, Method::GET, "/fed/v1/capabilities", Operation::Hello, Bytes::new());
    assert_eq!(ask("hub-b.example").await.unwrap().status(), 200);
    // Hub C answers where hub B should: a valid peer, and not the one that was called.
    a.trusts(&b, |record| record.document["nodes"][0]["endpoint"] = format!("https://{}", c.address).into());
    assert!(ask("hub-b.example").await.is_err());
    assert_eq!(ask("hub-c.example").await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_suspended_peers_connection_is_closed_and_it_cannot_come_back_until_it_is_resumed() {
    let (a, b) = two().await;
    let mut raw = a.raw(&b).await;
    assert_eq!(raw.ask(Some(&a.bearer(&b, "hello"))).await.status, 200);
    b.trusts(&a, |record| record.state = PeerState::Suspended);
    timeout(Duration::from_secs(2), raw.closed).await.unwrap().unwrap();
    assert!(refused(&b, Some(&a.pair)).await);
    b.trusts(&a, |_| {});
    assert_eq!(a.raw(&b).await.ask(Some(&a.bearer(&b, "hello"))).await.status, 200);
}

#[tokio::test]
async fn our_own_connection_to_a_suspended_peer_is_not_used_again() {
    let (a, b) = two().await;
    let ask = || a.links.send("hub-b.example", Method::GET, "/fed/v1/capabilities", Operation::Hello, Bytes::new());
    assert_eq!(ask().await.unwrap().status(), 200);
    a.trusts(&b, |record| record.state = PeerState::Suspended);
    assert!(ask().await.is_err());
    a.trusts(&b, |_| {});
    assert_eq!(ask().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_off_and_a_swapped_root_counts_at_once() {
    let (a, b) = two().await;
    let mut silent = TcpStream::connect(b.address).await.unwrap();
    assert_eq!(timeout(Duration::from_secs(5), silent.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    // The domain changes its authority: the old certificate stops working, on live connections too.
    let raw = a.raw(&b).await;
    let next = Hub::prepare("hub-a.example").await;
    b.trusts(&next, |_| {});
    timeout(Duration::from_secs(2), raw.closed).await.unwrap().unwrap();
    assert!(refused(&b, Some(&a.pair)).await);
    assert!(!refused(&b, Some(&next.pair)).await);
}

#[tokio::test]
async fn one_peer_cannot_take_all_connections() {
    let (a, b) = two().await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut raw = a.raw(&b).await;
        assert_eq!(raw.ask(Some(&a.bearer(&b, "hello"))).await.status, 200);
        open.push(raw);
    }
    assert!(refused(&b, Some(&a.pair)).await, "the fifth");
    let c = Hub::start("hub-c.example").await;
    b.trusts(&c, |_| {});
    assert!(!refused(&b, Some(&c.pair)).await, "another peer has its own");
    drop(open.remove(0));
    while refused(&b, Some(&a.pair)).await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_show_a_certificate_of_their_own_where_there_is_one() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let (a, _b) = two().await;
    let node = "spiffe://hub-a.example/node/n1";
    let local = Arc::new(a.with_client(custom(&a, &[node], &[ClientAuth])).unwrap());
    let links = Links::new(local, a.roster.clone(), a.clock.clone(), Arc::new(TestIds));
    let answer = links.send("hub-b.example", Method::GET, "/fed/v1/capabilities", Operation::Hello, Bytes::new()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "the token is bound to the certificate that was shown");
    assert!(matches!(a.with_client(custom(&a, &[node], &[ServerAuth])), Err(LocalError::Leaf(_))), "no clientAuth");
    let other = custom(&a, &["spiffe://hub-a.example/node/n2"], &[ClientAuth]);
    assert!(matches!(a.with_client(other), Err(LocalError::OtherNode)));
}
