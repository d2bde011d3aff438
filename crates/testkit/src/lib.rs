//! A whole hub without doors, for tests: real database, real use cases, a clock driven by hand.
//!
//! For tests only: nothing may name this crate outside `dev-dependencies` (checked by `cargo test -p xtask`). It is the one crate
//! besides the store that names `sqlx`: it makes and drops databases, and looks into them behind the store's back.
//!
//! ```text
//! both_dbs!(a_restart_loses_nothing, |db| async move {
//!     let world = World::on(db).await;
//!     let alice = world.user("alice").await;
//!     let agent = world.agent(&alice, "helper").await;
//!     let run = world.submit(&alice, &agent, "hello").await;
//!     let world = world.restart().await;
//!     assert_eq!(world.dispatch.recover().await.unwrap(), 1);
//!     let _worker = world.serve("w1", 1);
//!     assert_eq!(world.ended(run).await.output.as_deref(), Some("answer to hello"));
//! });
//! ```
#![expect(clippy::unwrap_used, reason = "in a test a failed unwrap is the failed test")]

mod clock;
mod database;
pub mod responses;
mod wire;
mod worker;
mod world;

pub use clock::HandClock;
pub use database::{Database, on_postgres, on_sqlite};
pub use wire::TestWire;
pub use worker::{answer, worker_info};
pub use world::{World, WorldOptions, within};

/// Makes two tests of one body, `name::sqlite` and `name::postgres`. The body is a closure from a fresh [`Database`] to a future.
///
/// The second needs `AIOX_TEST_POSTGRES_URL` (`scripts/with-postgres.sh` sets it); without it, it says that it was not run, and
/// fails if `AIOX_TEST_REQUIRE` names `postgres`.
#[macro_export]
macro_rules! both_dbs {
    ($(#[$doc:meta])* $name:ident, $body:expr) => {
        $(#[$doc])*
        mod $name {
            use super::*;
            #[test]
            fn sqlite() {
                $crate::on_sqlite($body);
            }
            #[test]
            fn postgres() {
                $crate::on_postgres(concat!(module_path!(), "::postgres"), $body);
            }
        }
    };
}
