//! The life of a peer (F8, F9) and the public trust document.

use aiox_core::ports::Clock as _;
use aiox_crypto::system::SystemClock;
use std::sync::{Arc, Mutex, atomic::Ordering};

use aiox_federation::{
    conformance::Must,
    fetch::Fetcher,
    peers::{Allowances, PeerError, Peers},
    publish::{self, Published, Publisher},
    token::Operation,
    trust::{self, Publication, TrustError},
};
use aiox_model::federation::PeerState;
use axum::{Router, extract::State, routing::get};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{doubles::MemoryPeers, hub::Hub};

/// Serves whatever document the test wants, on a loopback port.
async fn site(document: Arc<Mutex<Value>>) -> String {
    async fn serve(State(document): State<Arc<Mutex<Value>>>) -> String {
        document.lock().unwrap().to_string()
    }
    serve_router(Router::new().route(trust::PATH, get(serve)).with_state(document)).await
}

pub async fn serve_router(router: Router) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
    format!("http://{address}")
}

pub fn peers(hub: &Hub, store: Arc<MemoryPeers>) -> Peers {
    Peers::new(hub.local.clone(), hub.links.clone(), store, Fetcher::new(&[]).unwrap(), hub.clock.clone(), hub.audit.clone(), musts())
}

/// What this hub asks of a peer whose record wants a conformance result.
pub fn musts() -> Vec<Must> {
    let musts = [("RUN-001", "core", false), ("RUN-002", "core", false), ("TEN-017", "core", true), ("FED-001", "federation", false)];
    musts.map(|(id, profile, conditional)| Must { id: id.into(), profile: profile.into(), conditional }).into()
}

fn document(hub: &Hub, sequence: u64, seconds: i64) -> Value {
    let now = SystemClock.now();
    let roots = vec![CertificateDer::from_pem_slice(hub.authority.certificate_pem().as_bytes()).unwrap()];
    let endpoint = format!("https://{}", hub.address);
    trust::publish(&hub.local, &Publication { endpoint, roots, sequence, not_after: now.plus_seconds(seconds) }).unwrap()
}

#[tokio::test]
async fn a_peer_is_proposed_confirmed_suspended_resumed_and_removed() {
    let (a, b) = (Hub::start("hub-a.example").await, Hub::start("hub-b.example").await);
    let roots = vec![CertificateDer::from_pem_slice(b.authority.certificate_pem().as_bytes()).unwrap()];
    let publisher = Arc::new(Publisher::new(b.local.clone(), format!("https://{}", b.address), roots, b.clock.clone()));
    let url = serve_router(publish::routes(Published { publisher: publisher.clone(), store: Arc::<MemoryPeers>::default() })).await;
    let store = Arc::<MemoryPeers>::default();
    let peers = peers(&a, store.clone());
    b.trusts(&a, |_| {});

    assert!(matches!(peers.propose("hub-a.example", &url).await, Err(PeerError::Self_)));
    let proposed = peers.propose("hub-b.example", &url).await.unwrap();
    assert_eq!((proposed.state, &proposed.fingerprint), (PeerState::Proposed, &publisher.fingerprint().unwrap()));
    assert!(a.roster.peer("hub-b.example").is_none(), "nothing is allowed before the fingerprint is confirmed");
    let wrong = peers.confirm("hub-b.example", &"0".repeat(64), Allowances::everything()).await;
    assert!(matches!(wrong, Err(PeerError::Fingerprint)));
    let typed = proposed.fingerprint.to_uppercase();
    let spaced: String = typed.as_bytes().chunks(4).map(|four| String::from_utf8(four.to_vec()).unwrap()).collect::<Vec<_>>().join(" ");
    let active = peers.confirm("hub-b.example", &spaced, Allowances::everything()).await.unwrap();
    assert_eq!(active.state, PeerState::Active);
    assert!(matches!(peers.propose("hub-b.example", &url).await, Err(PeerError::State(PeerState::Active))));
    assert_eq!(peers.read_directory("hub-b.example").await.unwrap(), 1);
    assert_eq!(store.agents.lock().unwrap()[0].jid, "writer@agents.hub-b.example");

    let probe = peers.probe("hub-b.example").await.unwrap();
    assert!(probe.clock_difference_seconds.abs() <= 1);
    assert_eq!(probe.capabilities.capabilities, ["run.create", "run.cancel", "stream", "directory"]);

    peers.suspend("hub-b.example").await.unwrap();
    assert!(peers.probe("hub-b.example").await.is_err());
    assert!(peers.read_directory("hub-b.example").await.is_err());
    peers.resume("hub-b.example").await.unwrap();
    assert_eq!(peers.read_directory("hub-b.example").await.unwrap(), 1);
    let mut nothing = Allowances::everything();
    nothing.agents.clear();
    assert!(peers.allow("hub-b.example", nothing).await.unwrap().agents.is_empty());
    peers.remove("hub-b.example").await.unwrap();
    assert!(a.roster.peer("hub-b.example").is_none());
    assert!(matches!(peers.show("hub-b.example").await, Err(PeerError::NotFound)));
}

#[tokio::test]
async fn documents_that_must_not_be_believed_are_refused() {
    let (a, b) = (Hub::start("hub-a.example").await, Hub::start("hub-b.example").await);
    let served = Arc::new(Mutex::new(document(&b, 1, 3600)));
    let url = site(served.clone()).await;
    let peers = peers(&a, Arc::default());
    let refused = async |change: &dyn Fn(&mut Value)| {
        let mut wrong = document(&b, 1, 3600);
        change(&mut wrong);
        *served.lock().unwrap() = wrong;
        match peers.propose("hub-b.example", &url).await {
            Err(PeerError::Trust(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&|d| d["domain"] = json!("hub-c.example")).await, TrustError::Domain);
    assert_eq!(refused(&|d| d["nodes"][0]["id"] = json!("spiffe://hub-c.example/node/n1")).await, TrustError::Domain);
    assert!(matches!(refused(&|d| d["sequence"] = json!(2)).await, TrustError::Signature(_)));
    assert!(matches!(refused(&|d| d["added"] = json!(2)).await, TrustError::Signature(_)));
    assert_eq!(refused(&|d| *d = document(&b, 1, -1)).await, TrustError::Expired);
    assert_eq!(refused(&|d| *d = json!([])).await, TrustError::Malformed);
    assert!(matches!(peers.propose("hub-b.example", "http://192.0.2.1").await, Err(PeerError::Fetch(_))));
}

#[tokio::test]
async fn only_a_newer_document_by_a_known_key_replaces_the_accepted_one() {
    let (a, b) = (Hub::start("hub-a.example").await, Hub::start("hub-b.example").await);
    let impostor = Hub::prepare("hub-b.example").await;
    let served = Arc::new(Mutex::new(document(&b, 5, 3600)));
    let url = site(served.clone()).await;
    let peers = peers(&a, Arc::default());
    let fingerprint = peers.propose("hub-b.example", &url).await.unwrap().fingerprint;
    peers.confirm("hub-b.example", &fingerprint, Allowances::everything()).await.unwrap();
    let serve = |document| *served.lock().unwrap() = document;
    let sequence = async || peers.show("hub-b.example").await.unwrap().document["sequence"].clone();

    serve(document(&b, 4, 3600));
    assert!(matches!(peers.refresh("hub-b.example").await, Err(PeerError::Trust(TrustError::Older))));
    serve(document(&impostor, 6, 3600));
    assert!(matches!(peers.refresh("hub-b.example").await, Err(PeerError::Trust(TrustError::Signature(_)))));
    assert_eq!(sequence().await, 5);
    serve(document(&b, 6, 7200));
    peers.refresh("hub-b.example").await.unwrap();
    assert_eq!(sequence().await, 6);
    assert!(a.roster.peer("hub-b.example").is_some());
    serve(document(&b, 6, 9999));
    assert!(matches!(peers.refresh("hub-b.example").await, Err(PeerError::Trust(TrustError::Contradiction))));
    assert_eq!(peers.show("hub-b.example").await.unwrap().state, PeerState::Suspended, "F9");
    assert!(a.roster.peer("hub-b.example").is_none());
}

#[tokio::test]
async fn a_document_counts_for_seven_days_at_most() {
    let (a, b) = (Hub::start("hub-a.example").await, Hub::start("hub-b.example").await);
    let now = SystemClock.now();
    let mut record = b.record();
    record.document = document(&b, 1, 30 * 86_400);
    a.roster.install(vec![record.clone()], now);
    assert!(a.roster.peer("hub-b.example").is_some());
    a.roster.install(vec![record.clone()], now.plus_seconds(7 * 86_400 + 60));
    assert!(a.roster.peer("hub-b.example").is_none(), "30 days are treated as 7");
    record.document_read_at = now.plus_seconds(7 * 86_400);
    a.roster.install(vec![record], now.plus_seconds(7 * 86_400 + 60));
    assert!(a.roster.peer("hub-b.example").is_some(), "read again, it counts again");
}

#[tokio::test]
async fn when_a_peer_was_seen_is_written_once_a_minute() {
    let (a, b) = crate::hub::two().await;
    let store = Arc::<MemoryPeers>::default();
    let peers = peers(&b, store.clone());
    let seen = || store.seen.lock().unwrap().clone();
    peers.note_seen().await.unwrap();
    assert!(seen().is_empty(), "never");
    let mut raw = a.raw(&b).await;
    assert_eq!(raw.ask(None).await.status, 401);
    peers.note_seen().await.unwrap();
    assert!(seen().is_empty(), "whoever has no token may be anybody who holds the certificate");
    for (seconds, times) in [(0, 1), (59, 1), (61, 2)] {
        b.clock.0.store(seconds, Ordering::SeqCst);
        a.clock.0.store(seconds, Ordering::SeqCst);
        b.links.send("hub-a.example", http::Method::GET, "/nowhere", Operation::Hello, Default::default()).await.unwrap();
        peers.note_seen().await.unwrap();
        assert_eq!(seen().len(), times, "{seconds}");
    }
    // A request of the peer counts like an answer.
    let (c, d) = crate::hub::two().await;
    let store = Arc::<MemoryPeers>::default();
    assert_eq!(c.raw(&d).await.ask(Some(&c.bearer(&d, "hello"))).await.status, 200);
    self::peers(&d, store.clone()).note_seen().await.unwrap();
    assert_eq!(store.seen.lock().unwrap()[0].0, "hub-a.example");
}
