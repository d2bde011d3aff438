//! Signed conformance results: what a hub publishes, and what a peer that asks for one believes.

use std::sync::{Arc, Mutex};

use aiox_core::ports::Clock as _;
use aiox_crypto::system::SystemClock;
use aiox_federation::{
    conformance::{self, Unmet},
    peers::{Allowances, Peers},
    trust::{self, Publication},
};
use aiox_model::{
    conformance::{ConformanceRule, NewConformanceResult, RequirementVerdict, Suite},
    federation::{PeerState, TrustDocument},
};
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse as _, routing::get};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use crate::{
    doubles::MemoryPeers,
    hub::Hub,
    peers::{musts, peers, serve_router},
};

const BUILD: &str = "the-program";

fn found(verdicts: &[(&str, &str, &str)]) -> NewConformanceResult {
    let requirements = verdicts.iter().map(|(id, profile, verdict)| RequirementVerdict {
        id: (*id).into(),
        level: "MUST".into(),
        profile: (*profile).into(),
        verdict: (*verdict).into(),
    });
    NewConformanceResult {
        suite: Suite { name: "aiox-conformance".into(), version: "1".into(), digest: "d".into() },
        requirements: requirements.collect(),
    }
}
fn good() -> NewConformanceResult {
    found(&[("RUN-001", "core", "pass"), ("RUN-002", "core", "pass"), ("TEN-017", "core", "not_run"), ("FED-001", "federation", "pass")])
}
fn rule(profiles: &[&str]) -> ConformanceRule {
    ConformanceRule { profiles: profiles.iter().map(|&one| one.to_owned()).collect(), max_age_days: 30 }
}

/// The hub's trust document, which says that it runs this build.
fn document(hub: &Hub, sequence: u64, build: &str) -> Value {
    let local = hub.with_build(build);
    let roots = vec![CertificateDer::from_pem_slice(hub.authority.certificate_pem().as_bytes()).unwrap()];
    let (endpoint, not_after) = (format!("https://{}", hub.address), SystemClock.now().plus_seconds(3600));
    trust::publish(&local, &Publication { endpoint, roots, sequence, not_after }).unwrap()
}

#[tokio::test]
async fn only_a_signed_fresh_result_of_this_build_with_everything_passed_satisfies_a_rule() {
    let hub = Hub::prepare("hub-a.example").await;
    let now = SystemClock.now();
    let told: TrustDocument = serde_json::from_value(document(&hub, 1, BUILD)).unwrap();
    let judged = |raw: &Value, profiles: &[&str], days: i64| {
        conformance::satisfies(raw, &told, &rule(profiles), &musts(), now.plus_seconds(days * 86_400)).map(drop)
    };
    let signed = |found| conformance::sign(&hub.local, found, BUILD, now).unwrap();
    let whole = signed(good());
    assert_eq!(judged(&whole, &["core", "federation"], 0), Ok(()));
    assert_eq!(judged(&whole, &["core"], 29), Ok(()));

    assert_eq!(judged(&whole, &["core"], 31), Err(Unmet::Age(30)), "too old");
    assert_eq!(judged(&whole, &["core"], -1), Err(Unmet::Age(30)), "of a time to come");
    assert_eq!(judged(&whole, &["xmpp"], 0), Err(Unmet::Unknown("xmpp".into())));
    for (pointer, value) in [
        ("/requirements/0/verdict", json!("fail")),
        ("/requirements/0/id", json!("RUN-009")),
        ("/judged_at", json!("2099-01-01T00:00:00Z")),
        ("/build", json!("other")),
        ("/suite/version", json!("2")),
    ] {
        let mut altered = whole.clone();
        *altered.pointer_mut(pointer).unwrap() = value;
        assert!(matches!(judged(&altered, &["core"], 0), Err(Unmet::Signature(_))), "{pointer} was altered");
    }
    let stranger = Hub::prepare("hub-a.example").await;
    let theirs = conformance::sign(&stranger.local, good(), BUILD, now).unwrap();
    assert!(matches!(judged(&theirs, &["core"], 0), Err(Unmet::Signature(_))), "signed by a stranger's key");
    let other = Hub::prepare("hub-b.example").await;
    let of_other: TrustDocument = serde_json::from_value(document(&other, 1, BUILD)).unwrap();
    let borrowed = conformance::satisfies(&whole, &of_other, &rule(&["core"]), &musts(), now);
    assert!(matches!(borrowed, Err(Unmet::Signature(_))), "another hub's result");
    assert_eq!(judged(&conformance::sign(&hub.local, good(), "older", now).unwrap(), &["core"], 0), Err(Unmet::Build));

    let not_passed = |ids: &[&str]| Err(Unmet::NotPassed(ids.iter().map(|&id| id.to_owned()).collect()));
    for verdict in ["fail", "not_run", "error", "uncovered", "PASS"] {
        let some = signed(found(&[("RUN-001", "core", "pass"), ("RUN-002", "core", verdict), ("TEN-017", "core", "pass")]));
        assert_eq!(judged(&some, &["core"], 0), not_passed(&["RUN-002"]), "{verdict} is not passed");
    }
    assert_eq!(
        judged(&signed(found(&[("RUN-001", "core", "pass"), ("TEN-017", "core", "pass")])), &["core"], 0),
        not_passed(&["RUN-002"]),
        "one is left out"
    );
    let twice = [("RUN-001", "core", "pass"), ("RUN-002", "core", "pass"), ("RUN-002", "core", "fail"), ("TEN-017", "core", "pass")];
    let twice = signed(found(&twice));
    assert_eq!(judged(&twice, &["core"], 0), not_passed(&["RUN-002"]), "one is told twice");
    let conditional = |verdict| signed(found(&[("RUN-001", "core", "pass"), ("RUN-002", "core", "pass"), ("TEN-017", "core", verdict)]));
    assert_eq!(judged(&conditional("not_run"), &["core"], 0), Ok(()), "what it is about is switched off there");
    assert_eq!(judged(&conditional("fail"), &["core"], 0), not_passed(&["TEN-017"]));
    assert_eq!(judged(&json!({ "domain": "hub-a.example" }), &["core"], 0), Err(Unmet::Malformed));
}

/// What hub B publishes, as the test wants it.
#[derive(Clone)]
struct Site {
    document: Arc<Mutex<Value>>,
    result: Arc<Mutex<Option<Value>>>,
}

async fn site(document: Value) -> (Site, String) {
    let site = Site { document: Arc::new(Mutex::new(document)), result: Arc::default() };
    let router = Router::new().route(trust::PATH, get(async |State(site): State<Site>| site.document.lock().unwrap().to_string())).route(
        conformance::PATH,
        get(async |State(site): State<Site>| match &*site.result.lock().unwrap() {
            Some(result) => result.to_string().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }),
    );
    (site.clone(), serve_router(router.with_state(site)).await)
}

async fn stands(peers: &Peers) -> (PeerState, Option<String>) {
    let record = peers.show("hub-b.example").await.unwrap();
    (record.state, record.conformance.and_then(|known| known.problem))
}

#[tokio::test]
async fn a_peer_is_active_only_while_its_result_satisfies_the_rule() {
    let (a, b) = (Hub::start("hub-a.example").await, Hub::start("hub-b.example").await);
    let (site, url) = site(document(&b, 1, BUILD)).await;
    let peers = peers(&a, Arc::<MemoryPeers>::default());
    let fingerprint = peers.propose("hub-b.example", &url).await.unwrap().fingerprint;
    peers.confirm("hub-b.example", &fingerprint, Allowances::everything()).await.unwrap();
    let there = || a.roster.peer("hub-b.example").is_some();
    let publish = |found| *site.result.lock().unwrap() = Some(conformance::sign(&b.local, found, BUILD, SystemClock.now()).unwrap());
    assert!(there());

    let asked = peers.require("hub-b.example", Some(rule(&["core"]))).await.unwrap();
    assert_eq!(asked.state, PeerState::Stale, "it publishes none");
    assert!(!there());
    publish(good());
    peers.refresh("hub-b.example").await.unwrap();
    assert_eq!(stands(&peers).await, (PeerState::Active, None));
    assert!(there());

    publish(found(&[("RUN-001", "core", "pass"), ("RUN-002", "core", "not_run"), ("TEN-017", "core", "not_run")]));
    peers.refresh("hub-b.example").await.unwrap();
    let (state, problem) = stands(&peers).await;
    assert_eq!((state, problem.as_deref()), (PeerState::Stale, Some("these requirements did not pass: RUN-002")));
    assert!(!there());
    publish(good());
    peers.refresh("hub-b.example").await.unwrap();
    assert!(there(), "it comes back by itself");

    // A new build has not been judged.
    *site.document.lock().unwrap() = document(&b, 2, "newer");
    peers.refresh("hub-b.example").await.unwrap();
    assert_eq!(stands(&peers).await.0, PeerState::Stale);
    *site.document.lock().unwrap() = document(&b, 3, BUILD);
    peers.refresh("hub-b.example").await.unwrap();
    assert!(there());

    // A result that cannot be asked for keeps what it gave, until it is too old.
    let record = peers.show("hub-b.example").await.unwrap();
    let later = SystemClock.now().plus_seconds(31 * 86_400);
    let mut still = record.clone();
    still.document_read_at = later;
    a.roster.install(vec![still], later);
    assert!(!there(), "the result is too old");
    a.roster.install(vec![record], SystemClock.now());
    assert!(there());

    // A suspended peer comes back only with its result.
    *site.result.lock().unwrap() = None;
    peers.suspend("hub-b.example").await.unwrap();
    assert_eq!(peers.resume("hub-b.example").await.unwrap().state, PeerState::Stale);
    assert!(!there());
    let free = peers.require("hub-b.example", None).await.unwrap();
    assert_eq!((free.state, free.conformance), (PeerState::Active, None));
    assert!(there());
}

#[tokio::test]
async fn a_rule_that_is_none_is_refused() {
    let a = Hub::start("hub-a.example").await;
    let peers = peers(&a, Arc::default());
    for wrong in [rule(&[]), rule(&["gold"]), ConformanceRule { max_age_days: 0, ..rule(&["core"]) }] {
        assert!(peers.require("hub-b.example", Some(wrong)).await.is_err());
    }
    assert!(matches!(peers.require("hub-b.example", Some(rule(&["core"]))).await, Err(aiox_federation::peers::PeerError::NotFound)));
}
