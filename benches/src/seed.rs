//! Accounts and agents put straight into a stopped hub's store: by REST, thousands would take hours.

use aiox_config::{Engine, Settings};
use aiox_model::{AgentId, UserId};
use aiox_store::{Store, StoreOptions, accounts, agents};
use anyhow::{Context, Result, bail};
use uuid::Uuid;

use crate::hub::Place;

/// The embedded database in a hub's data directory.
const SQLITE: &str = "aiox.sqlite";
/// Rows of one transaction.
const BATCH: u64 = 5_000;

/// Adds accounts `load-0` to `load-<users - 1>` and this many agents, as copies of an agent and of
/// its owner.
///
/// What is sealed in a row is bound to that row: a copy's password proof and prompt cannot be opened.
/// The users of a load never sign in, since the fake XMPP server vouches for them, and only the agent
/// that was copied is talked to.
pub(crate) async fn seed(place: &Place, agent: Uuid, users: u64, copies: u64) -> Result<()> {
    let store = Store::open(options(place, &place.settings()?)?).await?;
    let filled = fill(&store, AgentId(agent), users, copies).await;
    store.close().await;
    filled
}

fn options(place: &Place, settings: &Settings) -> Result<StoreOptions> {
    Ok(match settings.database.engine {
        Engine::Sqlite => StoreOptions::Sqlite(place.data().join(SQLITE)),
        Engine::Postgres => StoreOptions::Postgres { url: settings.database.postgres_url()?, connections: 2 },
    })
}

async fn fill(store: &Store, agent: AgentId, users: u64, copies: u64) -> Result<()> {
    let mut db = store.read().await?;
    let agent = agents::by_id(&mut db, agent).await?.context("the agent is not in the store")?;
    let owner = accounts::user(&mut db, agent.owner).await?.context("the owner is not in the store")?;
    drop(db);
    for first in (0..users).step_by(step()) {
        let mut tx = store.begin().await?;
        for number in first..users.min(first + BATCH) {
            let username = format!("load-{number}");
            let copy =
                accounts::UserRow { id: UserId(Uuid::now_v7()), email: format!("{username}@load.example"), username, ..owner.clone() };
            if !accounts::insert_user(&mut tx, &copy).await? {
                bail!("the account {} exists already; use a fresh database", copy.username);
            }
        }
        tx.commit().await?;
    }
    for first in (0..copies).step_by(step()) {
        let mut tx = store.begin().await?;
        for _ in first..copies.min(first + BATCH) {
            let copy = agents::AgentRow { id: AgentId(Uuid::now_v7()), handle: None, ..agent.clone() };
            agents::insert(&mut tx, &copy).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

fn step() -> usize {
    usize::try_from(BATCH).unwrap_or(usize::MAX)
}
