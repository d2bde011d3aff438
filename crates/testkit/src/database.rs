//! A database of one test, gone with it.

use std::{future::Future, io::Write as _, panic::AssertUnwindSafe, path::PathBuf, sync::Arc};

use aiox_store::{Store, StoreOptions};
use futures::FutureExt as _;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

/// The database of a test. Clones mean the same one.
#[derive(Clone)]
pub struct Database {
    kind: Arc<Kind>,
}

enum Kind {
    Sqlite(TempDir),
    Postgres(String),
}

impl Database {
    /// A SQLite file in a directory of its own, removed with the last clone.
    #[must_use]
    pub fn sqlite() -> Self {
        Self { kind: Arc::new(Kind::Sqlite(tempfile::tempdir().unwrap())) }
    }

    /// Opens it and brings it up to date; any number of times.
    pub async fn open(&self) -> Store {
        let options = match &*self.kind {
            Kind::Sqlite(dir) => StoreOptions::Sqlite(dir.path().join("hub.db")),
            Kind::Postgres(url) => StoreOptions::Postgres { url: url.clone(), connections: 8 },
        };
        Store::open(options).await.unwrap()
    }

    /// The files of a SQLite database (main file, write-ahead log); empty for Postgres.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        match &*self.kind {
            Kind::Sqlite(dir) => std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect(),
            Kind::Postgres(_) => Vec::new(),
        }
    }

    /// Runs a statement behind the store's back; how many rows it touched.
    pub async fn execute(&self, sql: &str) -> u64 {
        match &*self.kind {
            Kind::Sqlite(_) => {
                let mut db = sqlx::SqliteConnection::connect(&self.address()).await.unwrap();
                sqlx::query(AssertSqlSafe(sql)).execute(&mut db).await.unwrap().rows_affected()
            }
            Kind::Postgres(url) => {
                let mut db = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::query(AssertSqlSafe(sql)).execute(&mut db).await.unwrap().rows_affected()
            }
        }
    }

    /// The one number that a query gives.
    pub async fn number(&self, sql: &str) -> i64 {
        match &*self.kind {
            Kind::Sqlite(_) => {
                let mut db = sqlx::SqliteConnection::connect(&self.address()).await.unwrap();
                sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut db).await.unwrap().get(0)
            }
            Kind::Postgres(url) => {
                let mut db = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut db).await.unwrap().get(0)
            }
        }
    }

    /// Every column as (table, column, whether it may be null), without the migrations' own table.
    pub async fn columns(&self) -> Vec<(String, String, bool)> {
        const LITE: &str = "SELECT t.name, c.name, c.\"notnull\" = 0 AND c.pk = 0 FROM sqlite_master t JOIN pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> '_sqlx_migrations' ORDER BY 1, 2";
        const PG: &str = "SELECT table_name::text, column_name::text, is_nullable = 'YES' FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations' ORDER BY 1, 2";
        self.open().await.close().await;
        let mut found: Vec<(String, String, bool)> = match &*self.kind {
            Kind::Sqlite(_) => {
                let mut db = sqlx::SqliteConnection::connect(&self.address()).await.unwrap();
                sqlx::query_as(LITE).fetch_all(&mut db).await.unwrap()
            }
            Kind::Postgres(url) => {
                let mut db = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::query_as(PG).fetch_all(&mut db).await.unwrap()
            }
        };
        found.sort();
        found
    }

    fn address(&self) -> String {
        match &*self.kind {
            Kind::Sqlite(dir) => format!("sqlite://{}", dir.path().join("hub.db").display()),
            Kind::Postgres(url) => url.clone(),
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs a test on a fresh SQLite file.
pub fn on_sqlite<F: Future<Output = ()>>(test: impl FnOnce(Database) -> F) {
    runtime().block_on(test(Database::sqlite()));
}

/// Runs a test on a fresh Postgres database, which is dropped afterwards, whatever happens.
///
/// # Panics
/// If there is no server and `AIOX_TEST_REQUIRE` names `postgres`.
pub fn on_postgres<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Database) -> F) {
    let Ok(server) = std::env::var("AIOX_TEST_POSTGRES_URL") else {
        let required = std::env::var("AIOX_TEST_REQUIRE").is_ok_and(|list| list.split([',', ' ']).any(|word| word == "postgres"));
        assert!(!required, "AIOX_TEST_REQUIRE names postgres and AIOX_TEST_POSTGRES_URL is not set; see scripts/with-postgres.sh");
        // Not through the macro: the test runner would swallow it, and a test that is not run has to say so.
        let _ = writeln!(std::io::stderr(), "NOT RUN: {name} needs AIOX_TEST_POSTGRES_URL; see scripts/with-postgres.sh");
        return;
    };
    runtime().block_on(async {
        let database = format!("aiox_{}", Uuid::now_v7().simple());
        on_server(&server, &format!("CREATE DATABASE {database}")).await;
        let mut url: Url = server.parse().unwrap();
        url.set_path(&database);
        let db = Database { kind: Arc::new(Kind::Postgres(url.to_string())) };
        let outcome = AssertUnwindSafe(test(db)).catch_unwind().await;
        on_server(&server, &format!("DROP DATABASE {database} WITH (FORCE)")).await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

async fn on_server(server: &str, sql: &str) {
    let mut db = sqlx::PgConnection::connect(server).await.unwrap();
    sqlx::query(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
}
