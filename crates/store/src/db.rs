//! Connections, transactions, and the macro that runs one text on either database.

use std::{path::PathBuf, str::FromStr, time::Duration};

use aiox_core::{Error, Result};
use sqlx::{
    PgConnection, Postgres, Sqlite, SqliteConnection, Transaction,
    pool::{PoolConnection, PoolOptions},
    postgres::{PgConnectOptions, PgPool},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous},
};

use crate::{
    changes::{Change, Changes},
    error::map,
    hold::Hold,
};

/// Counts a statement, for `aiox_sql_statements_total`.
pub(crate) fn counted() {
    metrics::counter!("aiox_sql_statements_total").increment(1);
}

/// Runs `$run` with `$c` bound to the concrete connection of whichever database is in use.
macro_rules! each_db {
    ($db:expr, $c:ident => $run:expr) => {{
        $crate::db::counted();
        match $crate::AsDb::as_db($db) {
            $crate::Db::Pg($c) => $run,
            $crate::Db::Lite($c) => $run,
        }
    }};
}
pub(crate) use each_db;

/// Fetches all rows of `$row` as a vector.
macro_rules! rows {
    ($db:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::db::each_db!($db, c => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_all(&mut *c).await).map_err($crate::error::map)
    };
}
pub(crate) use rows;

/// Fetches at most one row of `$row`.
macro_rules! row {
    ($db:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::db::each_db!($db, c => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.fetch_optional(&mut *c).await).map_err($crate::error::map)
    };
}
pub(crate) use row;

/// Runs a statement and gives the number of rows that it touched.
macro_rules! exec {
    ($db:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::db::each_db!($db, c => sqlx::query($sql)$(.bind($bind))*.execute(&mut *c).await.map(|done| done.rows_affected())).map_err($crate::error::map)
    };
}
pub(crate) use exec;

/// A borrowed connection of one of the two databases.
pub enum Db<'c> {
    /// Postgres.
    Pg(&'c mut PgConnection),
    /// SQLite.
    Lite(&'c mut SqliteConnection),
}

/// Something that queries can run on: a [`Reader`] or a [`Tx`].
pub trait AsDb: Send {
    /// The connection.
    fn as_db(&mut self) -> Db<'_>;
}

/// A connection for reading.
pub enum Reader {
    /// Postgres.
    Pg(PoolConnection<Postgres>),
    /// SQLite, opened read-only.
    Lite(PoolConnection<Sqlite>),
}
impl AsDb for Reader {
    fn as_db(&mut self) -> Db<'_> {
        match self {
            Self::Pg(c) => Db::Pg(&mut *c),
            Self::Lite(c) => Db::Lite(&mut *c),
        }
    }
}

/// A transaction. Dropped without [`commit`](Tx::commit), it is rolled back.
pub struct Tx {
    on: On,
    hold: Hold,
    /// Dropped last, so that the change is counted once it is there.
    change: Option<Change>,
}
enum On {
    Pg(Transaction<'static, Postgres>),
    /// Begun with `BEGIN IMMEDIATE`.
    Lite(Transaction<'static, Sqlite>),
}
impl AsDb for Tx {
    fn as_db(&mut self) -> Db<'_> {
        match &mut self.on {
            On::Pg(c) => Db::Pg(&mut *c),
            On::Lite(c) => Db::Lite(&mut *c),
        }
    }
}
impl Tx {
    /// Whether changes are held.
    pub(crate) const fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Makes the changes durable.
    ///
    /// # Errors
    /// As every database error; nothing of the transaction is then kept.
    pub async fn commit(self) -> Result<()> {
        let Self { on, change, hold: _ } = self;
        let done = match on {
            On::Pg(tx) => tx.commit().await,
            On::Lite(tx) => tx.commit().await,
        };
        drop(change);
        done.map_err(map)
    }
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Embedded.
    Sqlite,
    /// Cluster.
    Postgres,
}

/// Where the data is.
#[derive(Clone)]
pub enum StoreOptions {
    /// A file; its directory must exist. WAL and `synchronous=FULL`.
    Sqlite(PathBuf),
    /// A connection address `postgres://…`, and how many connections each of the two pools may hold.
    Postgres {
        /// The address. A secret: it may hold a password.
        url: String,
        /// Connections per pool.
        connections: u32,
    },
}

/// Two pools of one database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pools: Pools,
    changes: Changes,
    hold: Hold,
}

#[derive(Clone)]
enum Pools {
    Pg {
        read: PgPool,
        write: PgPool,
    },
    Lite {
        /// Opened read-only.
        read: SqlitePool,
        /// The one writer.
        write: SqlitePool,
    },
}

const ACQUIRE: Duration = Duration::from_secs(10);

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot be reached, [`Error::Internal`] when a migration does not fit what is stored.
    pub async fn open(options: StoreOptions) -> Result<Self> {
        match options {
            StoreOptions::Sqlite(path) => {
                let base = SqliteConnectOptions::new()
                    .filename(path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(Duration::from_secs(10))
                    .foreign_keys(true)
                    .pragma("wal_autocheckpoint", "4000")
                    .pragma("cache_size", "-8000")
                    .pragma("temp_store", "memory")
                    .statement_cache_capacity(256);
                // No pool asks a connection first whether it lives: it is a file.
                let write = PoolOptions::new()
                    .test_before_acquire(false)
                    .min_connections(1)
                    .max_connections(1)
                    .idle_timeout(None)
                    .max_lifetime(None)
                    .acquire_timeout(ACQUIRE)
                    .connect_with(base.clone().create_if_missing(true))
                    .await
                    .map_err(map)?;
                sqlx::migrate!("../../migrations/sqlite").run(&write).await.map_err(Error::internal)?;
                let read = PoolOptions::new()
                    .test_before_acquire(false)
                    .max_connections(4)
                    .idle_timeout(None)
                    .max_lifetime(None)
                    .acquire_timeout(ACQUIRE)
                    .connect_with(base.read_only(true))
                    .await
                    .map_err(map)?;
                Ok(Self { pools: Pools::Lite { read, write }, changes: Changes::default(), hold: Hold::default() })
            }
            StoreOptions::Postgres { url, connections } => {
                let base = PgConnectOptions::from_str(&url)
                    .map_err(|_| Error::unavailable("dependency_unavailable", "the Postgres address is not valid"))?
                    .application_name("aiox");
                let pool = || PoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE);
                let write = pool().connect_with(base.clone()).await.map_err(map)?;
                sqlx::migrate!("../../migrations/postgres").run(&write).await.map_err(Error::internal)?;
                let read = pool().connect_with(base).await.map_err(map)?;
                Ok(Self { pools: Pools::Pg { read, write }, changes: Changes::default(), hold: Hold::default() })
            }
        }
    }

    /// Which database this is.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        match self.pools {
            Pools::Pg { .. } => Backend::Postgres,
            Pools::Lite { .. } => Backend::Sqlite,
        }
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none is free within ten seconds.
    pub async fn read(&self) -> Result<Reader> {
        // Boxed, because a future of the pool has 4 KiB, and every use case's future would carry it about.
        match &self.pools {
            Pools::Pg { read, .. } => Box::pin(read.acquire()).await.map(Reader::Pg),
            Pools::Lite { read, .. } => match read.try_acquire() {
                Some(free) => Ok(Reader::Lite(free)),
                None => Box::pin(read.acquire()).await.map(Reader::Lite),
            },
        }
        .map_err(map)
    }

    /// Begins a write transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none can begin within ten seconds.
    pub async fn begin(&self) -> Result<Tx> {
        let mut tx = self.begin_unnoticed().await?;
        tx.change = Some(self.changes.begin());
        Ok(tx)
    }

    /// As [`begin`](Self::begin), for changes of nothing that is remembered.
    pub(crate) async fn begin_unnoticed(&self) -> Result<Tx> {
        let on = match &self.pools {
            Pools::Pg { write, .. } => Box::pin(write.begin()).await.map(On::Pg),
            Pools::Lite { write, .. } => Box::pin(write.begin_with("BEGIN IMMEDIATE")).await.map(On::Lite),
        };
        Ok(Tx { on: on.map_err(map)?, hold: self.hold.clone(), change: None })
    }

    /// Refuses whatever would be recorded as a change, or takes it again. For as long as audit records do not get to where they must:
    /// nothing new is taken, while what was taken before goes on and denials are recorded.
    pub fn hold_changes(&self, held: bool) {
        self.hold.set(held);
    }

    /// Refuses what is about to be done while changes are held, where the record comes after the deed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while they are.
    pub fn takes_changes(&self) -> Result<()> {
        self.hold.check()
    }

    /// Whether changes are held.
    #[must_use]
    pub fn holds_changes(&self) -> bool {
        self.hold.check().is_err()
    }

    pub(crate) const fn hold(&self) -> &Hold {
        &self.hold
    }

    pub(crate) const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Asks the database whether it lives.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn ping(&self) -> Result<()> {
        let mut db = self.read().await?;
        exec!(&mut db, "SELECT 1").map(drop)
    }

    /// Closes both pools, waiting for what is under way.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Pg { read, write } => {
                read.close().await;
                write.close().await;
            }
            Pools::Lite { read, write } => {
                read.close().await;
                // The last connection to close folds the write-ahead log back into the file.
                write.close().await;
            }
        }
    }
}
