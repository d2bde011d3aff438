//! Who is let in, and under which name.

use std::collections::BTreeMap;
use std::sync::Arc;

use aiox_grpc::{ApiKeys, CertificateOrKey, Certificates, Options};
use aiox_proto::worker::v1::worker_message::Payload as ToHub;
use aiox_proto::worker::v1::worker_service_client::WorkerServiceClient;
use aiox_proto::worker::v1::{HeartbeatRequest, TaskResponse};
use secrecy::SecretString;
use tokio::sync::watch;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};

use crate::pki::Ca;
use crate::stranger::{Stranger, keyed, register, register2};
use crate::world::{KEY, World, within};

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
    let own = BTreeMap::from([("w1".to_owned(), SecretString::from(KEY))]);
    let keys = Arc::new(ApiKeys::new(None, &own).unwrap());
    let world = World::start_with(Options::default(), None, Some(keys)).await;
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

#[tokio::test]
async fn a_certificate_is_a_name_and_may_be_renewed_while_the_hub_runs() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (ca, foreign) = (Ca::new(), Ca::new());
    let (swap, tls) = watch::channel(ca.server());
    let auth =
        Arc::new(CertificateOrKey { certificate: Certificates { and: None }, key: ApiKeys::new(Some(&KEY.into()), &[].into()).unwrap() });
    let world = World::start_with(Options::default(), Some(tls), Some(auth)).await;

    // Its certificate is its name, and no other.
    let client = dial(&world.url, &ca, Some(ca.leaf("w1"))).await.unwrap();
    let mut worker = Stranger::open_on(client.clone()).await.unwrap();
    assert!(worker.register(register2("w1")).await.accepted);
    let mut liar = Stranger::open_on(client).await.unwrap();
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
        client.heartbeat(keyed(HeartbeatRequest::default())).await.ok()
    };
    assert!(within(refused).await.is_none());

    // After a change of CA new connections follow the new one, and old ones stay.
    swap.send_replace(foreign.server());
    assert!(dial(&world.url, &ca, None).await.is_err());
    let client = dial(&world.url, &foreign, Some(foreign.leaf("w3"))).await.unwrap();
    let mut renewed = Stranger::open_on(client).await.unwrap();
    assert!(renewed.register(register2("w3")).await.accepted);
    assert!(worker.beat("w1").await.unwrap());
}
