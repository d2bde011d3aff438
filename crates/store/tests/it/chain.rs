//! The chain of audit records: whole under many writers, and every kind of damage is found.

use aiox_store::{
    Accept, Advance, Journal, Store,
    audit::{self, AuditRow, Fault, Search},
};
use aiox_testkit::{Database, both_dbs};
use uuid::Uuid;

use crate::make::{NOW, accept, audit_row, id};

fn of(tenant: Uuid) -> AuditRow {
    AuditRow { tenant, ..audit_row(NOW, "tenants.update") }
}

async fn insert(store: &Store, record: &AuditRow) {
    let mut tx = store.begin().await.unwrap();
    audit::insert(&mut tx, record).await.unwrap();
    tx.commit().await.unwrap();
}

async fn look(store: &Store, tenant: Uuid) -> audit::Verified {
    audit::verify(&mut store.read().await.unwrap(), tenant.into()).await.unwrap()
}

async fn fault(store: &Store, tenant: Uuid) -> Option<Fault> {
    look(store, tenant).await.fault
}

both_dbs!(records_of_a_tenant_are_one_chain_however_many_write, |db| async move {
    // Two processes on one database, each with a journal, and use cases beside them.
    let (one, two) = (db.open().await, db.open().await);
    let (mine, other) = (id(), id());
    let mut writing = Vec::new();
    let mut tasks = Vec::new();
    for store in [&one, &two] {
        let (journal, task) = Journal::new(store.clone());
        tasks.push(tokio::spawn(task));
        for number in 0..60 {
            let (journal, store) = (journal.clone(), store.clone());
            writing.push(tokio::spawn(async move {
                let tenant = if number % 3 == 0 { other } else { mine };
                if number % 2 == 0 {
                    insert(&store, &of(tenant)).await;
                } else {
                    journal.accept(Accept { audit: of(tenant), ..accept("user:a") }).await.unwrap();
                }
            }));
        }
    }
    for write in writing {
        write.await.unwrap();
    }
    for (tenant, count) in [(mine, 80), (other, 40)] {
        let found = look(&one, tenant).await;
        assert_eq!((found.records, found.unchained, found.fault), (count, 0, None));
        let search = Search { tenant: Some(tenant), ..Search::default() };
        let mut links: Vec<_> = audit::search(&mut one.read().await.unwrap(), &search, 1000).await.unwrap();
        links.sort_by_key(|(_, link)| link.as_ref().unwrap().seq);
        let links: Vec<_> = links.into_iter().map(|(_, link)| link.unwrap()).collect();
        assert_eq!(links.iter().map(|link| link.seq).collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>());
        assert!(links.windows(2).all(|pair| pair[1].prev == pair[0].hash) && links[0].prev == [0; 32]);
    }
    assert_eq!(audit::chained(&mut one.read().await.unwrap()).await.unwrap().len(), 2);
    tasks.into_iter().for_each(|task| task.abort());
});

both_dbs!(whatever_is_done_to_a_record_is_found, |db: Database| async move {
    let store = db.open().await;
    let fresh = async || {
        let tenant = id();
        for _ in 0..5 {
            insert(&store, &of(tenant)).await;
        }
        assert_eq!(fault(&store, tenant).await, None);
        tenant
    };
    // Only this tenant has records: no text of an id is needed in the statements.
    let clear = async || {
        db.execute("DELETE FROM audit").await;
        db.execute("DELETE FROM audit_heads").await;
    };
    for (damage, expected) in [
        ("UPDATE audit SET detail = 'x' WHERE seq = 3", Fault::Changed(3)),
        ("UPDATE audit SET actor = 'user:y' WHERE seq = 5", Fault::Changed(5)),
        ("UPDATE audit SET at = at + 1 WHERE seq = 1", Fault::Changed(1)),
        ("UPDATE audit SET outcome = 'denied' WHERE seq = 2", Fault::Changed(2)),
        ("UPDATE audit SET hash = prev_hash WHERE seq = 2", Fault::Changed(2)),
        ("UPDATE audit SET prev_hash = hash WHERE seq = 4", Fault::Unlinked(4)),
        ("DELETE FROM audit WHERE seq = 3", Fault::Missing(3)),
        ("DELETE FROM audit WHERE seq = 1", Fault::Missing(1)),
        ("DELETE FROM audit WHERE seq = 5", Fault::Missing(5)),
        ("DELETE FROM audit", Fault::Missing(1)),
        ("UPDATE audit SET seq = NULL, prev_hash = NULL, hash = NULL WHERE seq = 4", Fault::Missing(4)),
        ("UPDATE audit_heads SET seq = 6", Fault::Missing(6)),
        ("UPDATE audit_heads SET seq = 4", Fault::Head),
        ("DELETE FROM audit_heads", Fault::Head),
    ] {
        let tenant = fresh().await;
        db.execute(damage).await;
        assert_eq!(fault(&store, tenant).await, Some(expected), "{damage}");
        clear().await;
    }
    // The fault of one chain is none of another's, and a record from before there were chains is only counted.
    let tenant = fresh().await;
    db.execute("UPDATE audit SET detail = 'x' WHERE seq = 5").await;
    insert(&store, &of(id())).await;
    db.execute("UPDATE audit SET seq = NULL, prev_hash = NULL, hash = NULL WHERE detail IS NULL AND seq > 1").await;
    let found = look(&store, tenant).await;
    assert_eq!((found.records, found.unchained, found.fault), (1, 3, Some(Fault::Missing(2))));
    for other in audit::chained(&mut store.read().await.unwrap()).await.unwrap() {
        assert_eq!(fault(&store, other.uuid()).await.is_none(), other.uuid() != tenant);
    }
});

both_dbs!(a_sink_gets_each_record_once_in_the_order_of_its_chain, |db: Database| async move {
    let store = db.open().await;
    let (one, two) = (id(), id());
    for tenant in [one, two, one, one] {
        insert(&store, &of(tenant)).await;
    }
    let behind = async |sink: &str| audit::behind(&mut store.read().await.unwrap(), sink).await.unwrap();
    let mut all = vec![(one, 0), (two, 0)];
    all.sort();
    assert_eq!(behind("stdout").await, all);
    let found = audit::following(&mut store.read().await.unwrap(), one, 1, 10).await.unwrap();
    assert_eq!(found.iter().map(|(row, link)| (row.tenant, link.seq)).collect::<Vec<_>>(), [(one, 2), (one, 3)]);
    for seq in [1, 3] {
        let mut tx = store.begin().await.unwrap();
        audit::reached(&mut tx, "stdout", one, seq).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(behind("stdout").await, [(two, 0)]);
    assert_eq!(behind("stderr").await, all, "each sink has its own place");
});

both_dbs!(while_changes_are_held_nothing_new_is_taken_and_the_rest_goes_on, |db: Database| async move {
    let store = db.open().await;
    let (journal, task) = Journal::new(store.clone());
    let task = tokio::spawn(task);
    let taken = accept("user:a");
    let run = taken.run;
    journal.accept(taken).await.unwrap();
    store.hold_changes(true);
    assert_eq!(journal.accept(accept("user:a")).await.unwrap_err().code(), "dependency_unavailable");
    let mut tx = store.begin().await.unwrap();
    assert_eq!(audit::insert(&mut tx, &of(id())).await.unwrap_err().code(), "dependency_unavailable");
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    audit::note(&mut tx, &of(id())).await.unwrap();
    tx.commit().await.unwrap();
    assert!(journal.advance(Advance::new(run, NOW)).await.unwrap().is_some(), "what was taken goes on");
    store.hold_changes(false);
    journal.accept(accept("user:a")).await.unwrap();
    task.abort();
});
