//! Workers of a running hub: who they are, and what they cannot serve.

use std::process::Stdio;

use aiox_client::Chat;
use aiox_model::agent::AgentCreate;
use aiox_worker::Credential;
use serde_json::json;

use crate::process::{KEY, Place, within};

#[tokio::test]
async fn a_worker_works_with_a_key_of_its_own_until_it_is_revoked() {
    let place = Place::new();
    let hub = place.serve().await;
    let run = async |words: &[&str]| {
        let output = within(place.command(words, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).output()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let key = run(&["workers", "key", "w1"]).await;
    let _worker = place.worker(Credential::ApiKey(key.into()), None);
    place.ready("workers", "healthy").await;
    assert!(run(&["workers", "list"]).await.contains("good"));
    run(&["workers", "revoke", "w1"]).await;
    place.ready("workers", "no workers connected").await;
    assert!(run(&["workers", "list"]).await.contains("revoked"));
    hub.terminate();
    assert!(hub.ended().await.0.success());
}

#[tokio::test]
async fn a_run_that_no_worker_fits_shows_in_readiness() {
    let place = Place::new();
    let _hub = place.serve().await;
    let _worker = place.worker(Credential::ApiKey(KEY.into()), None);
    place.ready("workers", "healthy").await;
    let alice = place.user().await;
    let members = json!({ "name": "owl", "system_prompt": "Be awake.", "capabilities": { "worker_pool": "night" } });
    let new: AgentCreate = serde_json::from_value(members).unwrap();
    let agent = alice.create_agent(&new).await.unwrap();
    let run = alice.submit(&Chat { agent: agent.id.to_string(), message: "hello".into(), ..Chat::default() }).await.unwrap().id;
    place.ready("workers", "runs wait for a worker that fits").await;
    alice.cancel(run).await.unwrap();
    place.ready("workers", "healthy").await;
}
