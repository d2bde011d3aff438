//! How the hub is, part by part.

use std::time::Duration;

use aiox_app::{Dispatch, PeerBook};
use aiox_http::{Check, Health as HealthPort, Standing};
use aiox_model::federation::PeerState;
use aiox_store::Store;
use aiox_xmpp::LinkState;
use async_trait::async_trait;
use tokio::sync::watch;

use crate::{hub::Hub, supervise::Supervisor};

/// The answer has to be there within a second.
const PATIENCE: Duration = Duration::from_millis(800);

/// Looks at each part when it is asked.
pub struct Health {
    store: Store,
    dispatch: Dispatch,
    xmpp: Option<watch::Receiver<LinkState>>,
    peers: Option<PeerBook>,
    tasks: Supervisor,
    /// Whether audit records go anywhere besides the database.
    sink: bool,
}

impl Health {
    /// The health of a hub.
    pub fn new(hub: &Hub, xmpp: Option<watch::Receiver<LinkState>>, tasks: Supervisor) -> Self {
        let peers = hub.federation.as_ref().map(|_| hub.book.clone());
        Self { store: hub.store.clone(), dispatch: hub.dispatch.clone(), xmpp, peers, tasks, sink: hub.settings.audit.sink.is_some() }
    }

    async fn database(&self) -> Standing {
        match tokio::time::timeout(PATIENCE, self.store.ping()).await {
            Ok(Ok(())) => Standing::Healthy,
            _ => Standing::Unhealthy,
        }
    }

    async fn peers(&self) -> Standing {
        let Some(book) = &self.peers else { return Standing::NotConfigured };
        match tokio::time::timeout(PATIENCE, book.all()).await {
            Ok(Ok(all)) if all.iter().any(|peer| peer.state == PeerState::Stale) => Standing::Degraded("a peer is stale"),
            Ok(Ok(_)) => Standing::Healthy,
            _ => Standing::Unhealthy,
        }
    }
}

#[async_trait]
impl HealthPort for Health {
    async fn checks(&self) -> Vec<Check> {
        let workers = if self.dispatch.workers().is_empty() {
            Standing::Degraded("no workers connected")
        } else if !self.dispatch.stranded().await.is_empty() {
            Standing::Degraded("runs wait for a worker that fits")
        } else {
            Standing::Healthy
        };
        let xmpp = match &self.xmpp {
            None => Standing::NotConfigured,
            Some(state) => match &*state.borrow() {
                LinkState::Up { .. } => Standing::Healthy,
                _ => Standing::Degraded("not connected"),
            },
        };
        let tasks = if self.tasks.troubled().is_empty() { Standing::Healthy } else { Standing::Degraded("a background task is down") };
        // Nothing can be changed: another hub, or an operator, has to help.
        let audit = match self.sink {
            false => Standing::NotConfigured,
            true if self.store.holds_changes() => Standing::Unhealthy,
            true => Standing::Healthy,
        };
        let (database, peers) = tokio::join!(self.database(), self.peers());
        let check = |name, standing, required| Check { name, standing, required };
        vec![
            check("database", database, true),
            check("nats", Standing::NotConfigured, false),
            check("redis", Standing::NotConfigured, false),
            check("workers", workers, false),
            check("xmpp", xmpp, false),
            check("peers", peers, false),
            check("audit", audit, true),
            check("tasks", tasks, false),
        ]
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap or panic is a failed test")]
mod tests {
    use super::*;
    use aiox_config::Settings;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_task_that_is_down_degrades_readiness() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display().to_string();
        let settings = Settings::from_layers(None, vec![("AIOX__HUB__DATA_DIR".to_owned(), place)], None).unwrap();
        let tasks = Supervisor::new(CancellationToken::new());
        let hub = Hub::build(settings, &tasks).await.unwrap();
        let health = Health::new(&hub, None, tasks.clone());
        let standing = async || health.checks().await.into_iter().find(|check| check.name == "tasks").unwrap().standing;
        assert_eq!(standing().await, Standing::Healthy);
        tasks.once("listener", |_| async { anyhow::bail!("gone") });
        tokio::time::timeout(Duration::from_secs(30), async {
            while tasks.troubled().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert_eq!(standing().await, Standing::Degraded("a background task is down"));
        assert_eq!(health.checks().await.into_iter().find(|check| check.name == "database").unwrap().standing, Standing::Healthy);
    }
}
