//! What is remembered of accounts and agents, and when it is void.

use aiox_core::Role;
use aiox_store::{Remembered, accounts, agents};
use aiox_testkit::both_dbs;

use crate::make::{NOW, agent, at, id, tenant, user};

both_dbs!(a_change_acts_on_the_very_next_look, |db| async move {
    let store = db.open().await;
    let remembered = Remembered::new(store.clone());
    let alice = user(&store, tenant(&store).await, "alice").await;
    let made = agent(&store, &alice, "one").await;
    let mut tx = store.begin().await.unwrap();
    assert!(agents::claim_name(&mut tx, "helper", made.id, NOW).await.unwrap());
    tx.commit().await.unwrap();
    for round in 0..50 {
        let active = round % 2 == 0;
        let mut tx = store.begin().await.unwrap();
        accounts::set_standing(&mut tx, alice.id, Role::User, active, "{}", at(round)).await.unwrap();
        match active {
            true => agents::restore(&mut tx, made.id, at(round)).await.unwrap(),
            false => agents::delete(&mut tx, made.id, at(round)).await.unwrap(),
        };
        tx.commit().await.unwrap();
        for _ in 0..2 {
            assert_eq!(remembered.account(alice.id).await.unwrap().unwrap().active, active);
            assert_eq!(remembered.account_by_name("alice").await.unwrap().unwrap().active, active);
            assert_eq!(remembered.agent(made.id).await.unwrap().unwrap().deleted_at.is_none(), active);
            assert_eq!(remembered.agent_by_name("helper").await.unwrap().unwrap().deleted_at.is_none(), active);
        }
    }
    assert!(remembered.account_by_name("bob").await.unwrap().is_none());
    assert!(remembered.agent(id().into()).await.unwrap().is_none());
});

both_dbs!(nothing_remembered_outlives_a_change_under_load, |db| async move {
    let store = db.open().await;
    let remembered = Remembered::new(store.clone());
    let alice = user(&store, tenant(&store).await, "alice").await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (remembered, id) = (remembered.clone(), alice.id);
            tokio::spawn(async move {
                loop {
                    remembered.account(id).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for round in 0..100 {
        let mut tx = store.begin().await.unwrap();
        let quota = format!("{{\"round\":{round}}}");
        accounts::set_standing(&mut tx, alice.id, Role::User, true, &quota, at(round)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(remembered.account(alice.id).await.unwrap().unwrap().quota, quota);
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
});

both_dbs!(what_another_process_changes_is_seen_soon, |db| async move {
    let store = db.open().await;
    let remembered = Remembered::new(store.clone());
    let alice = user(&store, tenant(&store).await, "alice").await;
    assert!(remembered.account(alice.id).await.unwrap().unwrap().active);
    db.execute("UPDATE users SET status = 'disabled'").await;
    while remembered.account(alice.id).await.unwrap().unwrap().active {
        tokio::task::yield_now().await;
    }
});
