//! Who is let in, and under which name.

use std::sync::Arc;
use std::time::Duration;

use aiox_crypto::sha256;
use aiox_grpc::{Admission, Known, Options};
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::worker_service_client::WorkerServiceClient;
use aiox_proto::worker::v1::{HeartbeatRequest, IssueTokenRequest, TaskResponse};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::watch;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};

use crate::pki::Ca;
use crate::stranger::{Stranger, answer, bearing, keyed, register, register2, token};
use crate::world::{KEY, World, admission_of, within};

#[tokio::test]
async fn a_stranger_without_the_key_is_told_what_is_missing() {
    let world = World::start().await;
    let mut client = Stranger::connect(&world.url).await;
    let status = client.heartbeat(HeartbeatRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "missing api key");
    let mut wrong = Request::new(HeartbeatRequest::default());
    wrong.metadata_mut().insert("x-api-key", KEY.replace('k', "x").parse().unwrap());
    let status = client.heartbeat(wrong).await.unwrap_err();
    assert_eq!(status.message(), "invalid api key");
    let stream = client.task_stream(futures::stream::empty()).await;
    assert_eq!(stream.unwrap_err().message(), "missing api key");
}

#[tokio::test]
async fn the_first_message_is_a_registration() {
    let world = World::start().await;
    let mut stranger = Stranger::open(&world.url).await;
    stranger.say(ToHub::TaskResponse(TaskResponse::default())).await;
    let ack = stranger.ack().await;
    assert!(!ack.accepted);
    assert_eq!(ack.message, "first message must be RegisterWorker");
    assert!(stranger.message().await.is_none());
}

#[tokio::test]
async fn a_live_duplicate_is_refused_and_a_closed_one_makes_room() {
    let world = World::start().await;
    let first = Stranger::registered(&world.url, register("w1")).await;
    let mut second = Stranger::open(&world.url).await;
    let ack = second.register(register("w1")).await;
    assert!(!ack.accepted);
    assert_eq!(ack.message, "worker_id already registered");
    assert!(second.message().await.is_none());
    drop(first);
    // The hub needs a moment to see the end of the first.
    within(async { while !Stranger::open(&world.url).await.register(register("w1")).await.accepted {} }).await;
}

#[tokio::test]
async fn a_key_of_one_worker_opens_for_no_other() {
    let (_keep, admission) = admission_of(own_key("w1"));
    let world = World::start_with(Options::default(), None, Some(admission)).await;
    let mut other = Stranger::open(&world.url).await;
    let ack = other.register(register("w2")).await;
    assert!(!ack.accepted);
    assert_eq!(ack.message, "worker_id does not belong to the credential");
    let mut worker = Stranger::registered(&world.url, register("w1")).await;
    assert!(worker.beat("w1").await.unwrap());
    let status = worker.beat("w2").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

async fn dial(url: &str, ca: &Ca, identity: Option<(String, String)>) -> Result<WorkerServiceClient<Channel>, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca.pem));
    if let Some((cert, key)) = identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Endpoint::from_shared(url.to_owned())?.tls_config(tls)?;
    Ok(WorkerServiceClient::new(endpoint.connect().await?))
}

fn own_key(worker: &str) -> Known {
    Known { own: [(sha256(KEY.as_bytes()), worker.to_owned())].into(), ..Known::default() }
}

fn asking(worker_id: &str) -> IssueTokenRequest {
    IssueTokenRequest { worker_id: worker_id.into() }
}

fn beat(worker_id: &str) -> HeartbeatRequest {
    HeartbeatRequest { worker_id: worker_id.into(), ..HeartbeatRequest::default() }
}

#[tokio::test]
async fn a_certificate_is_a_name_and_may_be_renewed_while_the_hub_runs() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (ca, foreign) = (Ca::new(), Ca::new());
    let (swap, tls) = watch::channel(ca.server());
    let world = World::start_with(Options::default(), Some(tls), None).await;

    // Its certificate is its name, and no other.
    let mut client = dial(&world.url, &ca, Some(ca.leaf("w1"))).await.unwrap();
    let refusal = token(&mut client, Request::new(asking("w2"))).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.message()), (Code::PermissionDenied, "worker_id does not belong to the credential"));
    let own = token(&mut client, Request::new(asking("w1"))).await.unwrap();
    let mut worker = Stranger::open_as(client.clone(), |stream| bearing(&own, stream)).await.unwrap();
    assert!(worker.register(register2("w1")).await.accepted);
    let mut liar = Stranger::open_as(client, |stream| bearing(&own, stream)).await.unwrap();
    let ack = liar.register(register2("w2")).await;
    assert_eq!(ack.message, "worker_id does not belong to the credential");

    // An older worker comes with the key over TLS.
    let client = dial(&world.url, &ca, None).await.unwrap();
    let mut older = Stranger::open_on(client.clone()).await.unwrap();
    assert!(older.register(register("w2")).await.accepted);
    let mut keyless = client;
    let refusal = keyless.heartbeat(HeartbeatRequest::default()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);

    // A stranger's certificate is no certificate.
    let refused = async {
        let mut client = dial(&world.url, &ca, Some(foreign.leaf("w3"))).await.ok()?;
        client.issue_token(asking("w3")).await.ok()
    };
    assert!(within(refused).await.is_none());

    // After a change of CA new connections follow the new one, and old ones stay.
    swap.send_replace(foreign.server());
    assert!(dial(&world.url, &ca, None).await.is_err());
    let mut client = dial(&world.url, &foreign, Some(foreign.leaf("w3"))).await.unwrap();
    let own_too = token(&mut client, Request::new(asking("w3"))).await.unwrap();
    let mut renewed = Stranger::open_as(client, |stream| bearing(&own_too, stream)).await.unwrap();
    assert!(renewed.register(register2("w3")).await.accepted);
    assert!(worker.client.heartbeat(bearing(&own, beat("w1"))).await.unwrap().into_inner().ok);
}

#[tokio::test]
async fn a_certificate_alone_does_not_work_and_its_token_works_with_it_alone() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = Ca::new();
    let (_keep, tls) = watch::channel(ca.server());
    let world = World::start_with(Options::default(), Some(tls), None).await;
    let dial = async |identity| dial(&world.url, &ca, identity).await.unwrap();
    let mut first = dial(Some(ca.leaf("w1"))).await;
    let of_first = token(&mut first, Request::new(asking("w1"))).await.unwrap();
    let words = async |client: &WorkerServiceClient<Channel>, request: Request<HeartbeatRequest>| {
        let refusal = client.clone().heartbeat(request).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated);
        refusal.message().to_owned()
    };
    assert_eq!(words(&first, Request::new(beat("w1"))).await, "missing worker token");
    assert_eq!(words(&first, keyed(beat("w1"))).await, "missing worker token");
    let mut wrong_key = Request::new(beat("w1"));
    wrong_key.metadata_mut().insert("x-api-key", KEY.replace('k', "x").parse().unwrap());
    assert_eq!(words(&first, wrong_key).await, "invalid api key");
    assert_eq!(words(&first, bearing("forged", beat("w1"))).await, "invalid worker token");
    // Of the same name, and another certificate.
    let second = dial(Some(ca.leaf("w1"))).await;
    let foreign = "the worker token belongs to another credential";
    assert_eq!(words(&second, bearing(&of_first, beat("w1"))).await, foreign);
    let mut bare = dial(None).await;
    assert_eq!(words(&bare, bearing(&of_first, beat("w1"))).await, foreign);
    // Neither does a token of the key fit a certificate.
    let of_key = token(&mut bare, keyed(asking("w1"))).await.unwrap();
    assert_eq!(words(&first, bearing(&of_key, beat("w1"))).await, foreign);
    assert!(!bare.heartbeat(bearing(&of_key, beat("w1"))).await.unwrap().into_inner().ok, "let in, and not registered");

    // Another hub's machines may have certificates of the same authority.
    let mut theirs = dial(Some(ca.leaf_with("w1", Some("spiffe://hub-b.example/worker/w1")))).await;
    let refusal = token(&mut theirs, Request::new(asking("w1"))).await.unwrap_err();
    assert_eq!(refusal.message(), "invalid client certificate");
    let mut ours = dial(Some(ca.leaf_with("w1", Some("spiffe://hub-a.example/worker/w1")))).await;
    token(&mut ours, Request::new(asking("w1"))).await.unwrap();
}

#[tokio::test]
async fn a_session_ends_with_its_token_unless_a_younger_one_was_shown() {
    let (_keep, admission) = admission_of(Known::shared(&KEY.into()).unwrap());
    let admission = Admission { token_life: Duration::from_secs(3), ..admission };
    let world = World::start_with(Options::default(), None, Some(admission)).await;
    let mut client = Stranger::connect(&world.url).await;
    let old = token(&mut client, keyed(asking("w1"))).await.unwrap();
    let mut worker = Stranger::open_as(client.clone(), |stream| bearing(&old, stream)).await.unwrap();
    assert!(worker.register(register2("w1")).await.accepted);
    let agent = world.agent("echo", serde_json::Map::new()).await;
    let run = world.submit(agent, "echo", "hello").await;
    let task = worker.task().await;
    // The old one is shown until it is dead; before that a younger one keeps the session.
    let mut young = token(&mut client, keyed(asking("w1"))).await.unwrap();
    let refusal = loop {
        let next = token(&mut client, keyed(asking("w1"))).await.unwrap();
        assert!(client.heartbeat(bearing(&young, beat("w1"))).await.unwrap().into_inner().ok);
        young = next;
        if let Err(refusal) = client.heartbeat(bearing(&old, beat("w1"))).await {
            break refusal;
        }
    };
    assert_eq!((refusal.code(), refusal.message()), (Code::Unauthenticated, "worker token expired"));
    worker.say(ToHub::TaskResponse(answer(&task, "done"))).await;
    assert_eq!(world.ended(run).await.output.as_deref(), Some("done"));
    // Nothing more is shown.
    let farewell = worker.farewell().await.unwrap();
    assert_eq!((farewell.code(), farewell.message()), (Code::Unauthenticated, "worker token expired"));
    assert!(world.dispatch.workers().is_empty());
}

#[tokio::test]
async fn a_revoked_credential_ends_its_session_and_no_other() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = Ca::new();
    let (_keep, tls) = watch::channel(ca.server());
    let (change, admission) = admission_of(own_key("w1"));
    let world = World::start_with(Options::default(), Some(tls), Some(admission)).await;
    let leaf = ca.leaf("w2");
    let digest = sha256(&CertificateDer::from_pem_slice(leaf.0.as_bytes()).unwrap());
    let mut bare = dial(&world.url, &ca, None).await.unwrap();
    let mut certified = dial(&world.url, &ca, Some(leaf)).await.unwrap();
    let of_key = token(&mut bare, keyed(asking("w1"))).await.unwrap();
    let of_certificate = token(&mut certified, Request::new(asking("w2"))).await.unwrap();
    let mut first = Stranger::open_as(bare.clone(), |stream| bearing(&of_key, stream)).await.unwrap();
    assert!(first.register(register2("w1")).await.accepted);
    let mut second = Stranger::open_as(certified.clone(), |stream| bearing(&of_certificate, stream)).await.unwrap();
    assert!(second.register(register2("w2")).await.accepted);

    change.send_replace(Arc::new(Known::default()));
    assert_eq!(first.farewell().await.unwrap().message(), "api key is revoked");
    assert_eq!(bare.heartbeat(bearing(&of_key, beat("w1"))).await.unwrap_err().message(), "api key is revoked");
    assert_eq!(token(&mut bare, keyed(asking("w1"))).await.unwrap_err().message(), "invalid api key");
    assert!(certified.heartbeat(bearing(&of_certificate, beat("w2"))).await.unwrap().into_inner().ok);

    change.send_replace(Arc::new(Known { revoked: [digest].into(), ..Known::default() }));
    assert_eq!(second.farewell().await.unwrap().message(), "client certificate is revoked");
    for refusal in [
        token(&mut certified, Request::new(asking("w2"))).await.unwrap_err(),
        certified.heartbeat(bearing(&of_certificate, beat("w2"))).await.unwrap_err(),
    ] {
        assert_eq!((refusal.code(), refusal.message()), (Code::Unauthenticated, "client certificate is revoked"));
    }
}
