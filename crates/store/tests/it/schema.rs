//! Both schemas are one, and opening twice changes nothing.

use std::{collections::BTreeSet, path::Path};

use aiox_store::Backend;
use aiox_store::tenants;
use aiox_testkit::{Database, both_dbs, on_postgres};

fn names(backend: &str) -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(backend);
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn both_databases_have_the_same_migrations() {
    assert_eq!(names("sqlite"), names("postgres"));
    assert!(!names("sqlite").is_empty());
}

#[test]
fn both_databases_have_the_same_tables_and_columns() {
    on_postgres("both_databases_have_the_same_tables_and_columns", |postgres| async move {
        let (lite, postgres) = (Database::sqlite().columns().await, postgres.columns().await);
        assert!(lite.len() > 100, "{} columns", lite.len());
        assert_eq!(lite, postgres);
    });
}

#[test]
fn every_sqlite_table_is_strict() {
    aiox_testkit::on_sqlite(|db| async move {
        db.open().await.close().await;
        let loose = "SELECT COUNT(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0 \
             AND name NOT LIKE 'sqlite_%' AND name <> '_sqlx_migrations'";
        assert_eq!(db.number(loose).await, 0);
    });
}

both_dbs!(a_database_opens_again_and_answers, |db| async move {
    let first = db.open().await;
    first.ping().await.unwrap();
    let second = db.open().await;
    second.ping().await.unwrap();
    assert_eq!(first.backend() == Backend::Sqlite, !db.files().is_empty());
    first.close().await;
    assert_eq!(first.ping().await.unwrap_err().code(), "dependency_unavailable");
    second.ping().await.unwrap();
});

both_dbs!(a_dropped_transaction_leaves_nothing, |db| async move {
    let store = db.open().await;
    let mut tx = store.begin().await.unwrap();
    tenants::ensure(&mut tx, uuid::Uuid::nil(), "gone", aiox_model::Ts::from_micros(1)).await.unwrap();
    drop(tx);
    assert_eq!(tenants::by_name(&mut store.read().await.unwrap(), "gone").await.unwrap(), None);
});
