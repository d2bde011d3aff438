//! Many at once.

use aiox_model::SessionId;
use aiox_store::accounts::{self, Refreshed};
use aiox_testkit::both_dbs;

use crate::make::{at, id, tenant, user, user_row};

both_dbs!(of_fifty_parallel_uses_of_a_refresh_token_one_is_the_first, |db| async move {
    let store = db.open().await;
    let alice = user(&store, tenant(&store).await, "alice").await;
    let (token, session) = (id(), SessionId(id()));
    let mut tx = store.begin().await.unwrap();
    accounts::insert_refresh(&mut tx, token, session, alice.id, at(100)).await.unwrap();
    tx.commit().await.unwrap();
    let uses = futures::future::join_all((0..50).map(|_| async {
        let mut tx = store.begin().await.unwrap();
        let outcome = accounts::use_refresh(&mut tx, token, alice.id, at(1)).await.unwrap();
        tx.commit().await.unwrap();
        outcome
    }))
    .await;
    assert_eq!(uses.iter().filter(|outcome| **outcome == Refreshed::First(session)).count(), 1);
    assert_eq!(uses.iter().filter(|outcome| matches!(outcome, Refreshed::Again(..))).count(), 49);
});

both_dbs!(of_fifty_parallel_accounts_with_one_name_one_is_made, |db| async move {
    let store = db.open().await;
    let tenant = tenant(&store).await;
    let made = futures::future::join_all((0..50).map(|_| async {
        let mut tx = store.begin().await.unwrap();
        let made = accounts::insert_user(&mut tx, &user_row(tenant, "alice")).await.unwrap();
        tx.commit().await.unwrap();
        made
    }))
    .await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
});
