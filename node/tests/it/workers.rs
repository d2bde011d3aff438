//! Credentials of single workers, given and taken at the machine of a running hub.

use std::process::Stdio;

use aiox_worker::Credential;

use crate::process::{Place, within};

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
