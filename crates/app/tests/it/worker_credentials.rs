//! Keys and certificates of workers.

use aiox_app::WorkerCredentials;
use aiox_crypto::sha256;
use aiox_testkit::{World, both_dbs};
use secrecy::ExposeSecret as _;

both_dbs!(a_worker_key_is_good_until_it_is_revoked_and_kept_as_a_digest, |db| async move {
    let world = World::on(db.clone()).await;
    let credentials = WorkerCredentials::new(world.store.clone(), world.clock.clone(), world.ids.clone());
    let key = credentials.issue_key("w1").await.unwrap();
    let second = credentials.issue_key("w1").await.unwrap();
    let other = credentials.issue_key("w2").await.unwrap();
    assert!(key.expose_secret().len() >= 64 && key.expose_secret() != second.expose_secret());
    let digest = |key: &secrecy::SecretString| sha256(key.expose_secret().as_bytes());
    let known = credentials.known().await.unwrap();
    assert_eq!(known.keys.get(&digest(&key)).map(String::as_str), Some("w1"));
    assert_eq!(known.keys.len(), 3);
    for file in db.files() {
        let bytes = std::fs::read(file).unwrap();
        assert!(!bytes.windows(key.expose_secret().len()).any(|window| window == key.expose_secret().as_bytes()));
    }
    assert_eq!(credentials.revoke_keys("w1").await.unwrap(), 2);
    assert_eq!(credentials.revoke_keys("w1").await.unwrap_err().code(), "not_found");
    let known = credentials.known().await.unwrap();
    assert_eq!(known.keys.into_iter().collect::<Vec<_>>(), [(digest(&other), "w2".to_owned())]);
    assert_eq!(credentials.issue_key("").await.unwrap_err().code(), "invalid_request");
});

both_dbs!(a_revoked_certificate_stays_revoked_and_every_change_is_audited, |db| async move {
    let world = World::on(db.clone()).await;
    let credentials = WorkerCredentials::new(world.store.clone(), world.clock.clone(), world.ids.clone());
    assert!(credentials.revoke_certificate("w1", [7; 32]).await.unwrap());
    assert!(!credentials.revoke_certificate("w1", [7; 32]).await.unwrap());
    credentials.issue_key("w2").await.unwrap();
    credentials.revoke_keys("w2").await.unwrap();
    let world = world.restart().await;
    let credentials = WorkerCredentials::new(world.store.clone(), world.clock.clone(), world.ids.clone());
    assert_eq!(credentials.known().await.unwrap().revoked, [[7; 32]]);
    let listed = credentials.list().await.unwrap();
    let listed: Vec<_> = listed.iter().map(|one| (one.worker_id.as_str(), one.kind.as_str(), one.revoked)).collect();
    assert_eq!(listed, [("w1", "certificate", true), ("w2", "key", true)]);
    assert_eq!(db.number("SELECT COUNT(*) FROM audit WHERE action LIKE 'worker.%' AND actor = 'operator'").await, 3);
});
