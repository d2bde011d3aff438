//! Agents, names, grants, subscribers.

use aiox_model::{
    GrantId,
    agent::{GranteeKind, Visibility},
};
use aiox_store::agents::{self, AgentRow, GrantRow};
use aiox_testkit::both_dbs;

use crate::make::{NOW, agent, agent_row, at, id, tenant, user};

both_dbs!(an_agent_is_kept_whole, |db| async move {
    let store = db.open().await;
    let owner = user(&store, tenant(&store).await, "alice").await;
    let mut row = agent_row(&owner, "helper");
    row.config.llm.insert("seed".into(), 4.into());
    row.visibility = Visibility::Mesh;
    row.handle = Some("helper".into());
    let mut tx = store.begin().await.unwrap();
    agents::insert(&mut tx, &row).await.unwrap();
    assert!(agents::claim_name(&mut tx, "helper", row.id, NOW).await.unwrap());
    assert!(agents::claim_name(&mut tx, "helper", row.id, NOW).await.unwrap(), "its own name stays its own");
    tx.commit().await.unwrap();
    let other = agent(&store, &owner, "other").await;
    let mut tx = store.begin().await.unwrap();
    assert!(!agents::claim_name(&mut tx, "helper", other.id, NOW).await.unwrap());
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    let found = agents::by_id(&mut reader, row.id).await.unwrap().unwrap();
    assert_eq!((found.config, found.visibility, found.prompt_sealed), (row.config, row.visibility, row.prompt_sealed));
    assert_eq!((found.version, found.created_at, found.deleted_at), (1, NOW, None));
    assert_eq!(agents::by_name(&mut reader, "helper").await.unwrap().unwrap().id, row.id);
    assert!(agents::by_name(&mut reader, "nobody").await.unwrap().is_none());
    let (page, count) = agents::of_owner(&mut reader, owner.id, 1, 0).await.unwrap();
    assert_eq!((page.len(), count), (1, 2));
});

both_dbs!(a_change_needs_the_version_that_it_is_based_on, |db| async move {
    let store = db.open().await;
    let owner = user(&store, tenant(&store).await, "alice").await;
    let row = agent(&store, &owner, "helper").await;
    let changed = AgentRow { name: "new".into(), version: 2, updated_at: at(1), ..row.clone() };
    let mut tx = store.begin().await.unwrap();
    assert!(agents::update(&mut tx, &changed, 1).await.unwrap());
    assert!(!agents::update(&mut tx, &changed, 1).await.unwrap());
    assert!(agents::reseal(&mut tx, row.id, &row.prompt_sealed, &[5]).await.unwrap());
    assert!(!agents::reseal(&mut tx, row.id, &row.prompt_sealed, &[6]).await.unwrap());
    tx.commit().await.unwrap();
    let found = agents::by_id(&mut store.read().await.unwrap(), row.id).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.version, found.prompt_sealed), ("new", 2, vec![5]));
});

both_dbs!(deleting_restoring_and_purging, |db| async move {
    let store = db.open().await;
    let owner = user(&store, tenant(&store).await, "alice").await;
    let row = agent(&store, &owner, "helper").await;
    let mut tx = store.begin().await.unwrap();
    assert!(!agents::restore(&mut tx, row.id, at(1)).await.unwrap());
    assert!(agents::delete(&mut tx, row.id, at(1)).await.unwrap());
    assert!(!agents::delete(&mut tx, row.id, at(2)).await.unwrap());
    assert!(!agents::update(&mut tx, &row, 2).await.unwrap(), "the dead do not change");
    assert_eq!(agents::of_owner(&mut tx, owner.id, 10, 0).await.unwrap().1, 0);
    assert!(agents::restore(&mut tx, row.id, at(3)).await.unwrap());
    assert_eq!(agents::by_id(&mut tx, row.id).await.unwrap().unwrap().version, 3);
    assert_eq!(agents::purge(&mut tx, at(100)).await.unwrap(), 0);
    agents::delete(&mut tx, row.id, at(4)).await.unwrap();
    assert_eq!(agents::purge(&mut tx, at(4)).await.unwrap(), 0);
    assert_eq!(agents::purge(&mut tx, at(5)).await.unwrap(), 1);
    assert_eq!(agents::purge(&mut tx, at(5)).await.unwrap(), 0);
    let empty = agents::by_id(&mut tx, row.id).await.unwrap().unwrap();
    assert!(empty.prompt_sealed.is_empty() && empty.name.is_empty() && empty.config.traits.is_empty());
    tx.commit().await.unwrap();
});

both_dbs!(grants_and_candidates, |db| async move {
    let store = db.open().await;
    let owner = user(&store, tenant(&store).await, "alice").await;
    let (private, public) = (agent(&store, &owner, "private").await, agent_row(&owner, "public"));
    let grant = |kind, grantee: &str| GrantRow { id: GrantId(id()), agent: private.id, kind, grantee: grantee.into(), created_at: NOW };
    let mut tx = store.begin().await.unwrap();
    agents::insert(&mut tx, &AgentRow { visibility: Visibility::Public, ..public.clone() }).await.unwrap();
    let given = grant(GranteeKind::Jid, "x@hub-b.example");
    assert!(agents::insert_grant(&mut tx, &given, owner.id).await.unwrap());
    assert!(!agents::insert_grant(&mut tx, &grant(GranteeKind::Jid, "x@hub-b.example"), owner.id).await.unwrap());
    for kind in [GranteeKind::User, GranteeKind::Role, GranteeKind::Domain, GranteeKind::Peer] {
        assert!(agents::insert_grant(&mut tx, &grant(kind, "y"), owner.id).await.unwrap());
    }
    let kinds: Vec<_> = agents::grants(&mut tx, private.id).await.unwrap().into_iter().map(|grant| grant.kind).collect();
    assert_eq!(kinds.len(), 5);
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    let ask = |jid| [(GranteeKind::User, "-"), (GranteeKind::User, "-"), (GranteeKind::Jid, jid), (GranteeKind::Domain, "-")];
    assert_eq!(agents::candidates(&mut reader, ask("x@hub-b.example"), 10).await.unwrap().len(), 2);
    let found = agents::candidates(&mut reader, ask("z@hub-b.example"), 10).await.unwrap();
    assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [public.id]);
    assert_eq!(agents::candidates(&mut reader, ask("x@hub-b.example"), 1).await.unwrap().len(), 1);
    drop(reader);
    let mut tx = store.begin().await.unwrap();
    assert!(!agents::delete_grant(&mut tx, public.id, given.id).await.unwrap());
    assert!(agents::delete_grant(&mut tx, private.id, given.id).await.unwrap());
    assert!(!agents::delete_grant(&mut tx, private.id, given.id).await.unwrap());
    tx.commit().await.unwrap();
});

both_dbs!(subscribers_are_paged_in_order, |db| async move {
    let store = db.open().await;
    let owner = user(&store, tenant(&store).await, "alice").await;
    let (one, two) = (agent(&store, &owner, "one").await, agent(&store, &owner, "two").await);
    let mut tx = store.begin().await.unwrap();
    for (agent, jid) in [(one.id, "b@x.example"), (one.id, "a@x.example"), (two.id, "a@x.example"), (one.id, "a@x.example")] {
        agents::add_contact(&mut tx, agent, jid, NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut all = Vec::new();
    loop {
        let page = agents::contacts(&mut store.read().await.unwrap(), all.last().cloned(), 1).await.unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    let sorted = [(one.id, "a@x.example".to_owned()), (one.id, "b@x.example".into()), (two.id, "a@x.example".into())];
    assert_eq!(all, sorted);
    let mut tx = store.begin().await.unwrap();
    agents::remove_contact(&mut tx, one.id, "a@x.example").await.unwrap();
    agents::delete(&mut tx, two.id, at(1)).await.unwrap();
    // Those of a deleted agent stay, until they have been told.
    assert_eq!(agents::contacts(&mut tx, None, 10).await.unwrap(), sorted[1..]);
    tx.commit().await.unwrap();
});
