//! Background tasks that come back when they end, and tell how they are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The tasks of a hub.
#[derive(Clone)]
pub struct Supervisor {
    tracker: TaskTracker,
    stop: CancellationToken,
    troubled: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Supervisor {
    /// Tasks that end when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stop, troubled: Arc::default() }
    }

    /// Runs a task until the hub stops. If it ends or panics before, it is started again after a while, and readiness shows it.
    pub fn run<F, Fut>(&self, name: &'static str, make: F)
    where
        F: Fn(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let this = self.clone();
        self.tracker.spawn(async move {
            let mut wait = FIRST_RETRY;
            while !this.stop.is_cancelled() {
                // A task of its own, so that a panic ends it and nothing else.
                let ended = this.tracker.spawn(make(this.stop.clone())).await;
                if this.stop.is_cancelled() {
                    break;
                }
                let why = match ended {
                    Ok(Ok(())) => "ended".to_owned(),
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(panic) => format!("panicked: {panic}"),
                };
                tracing::error!(task = name, why, retry_in = ?wait, "a background task ended; it is started again");
                this.note(name, Some(why));
                tokio::select! {
                    () = this.stop.cancelled() => break,
                    () = tokio::time::sleep(wait) => {}
                }
                wait = (wait * 2).min(LAST_RETRY);
                this.note(name, None);
            }
        });
    }

    /// Runs something that is meant to end, beside the others.
    pub fn once(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(work);
    }

    /// The same for something that takes the stop itself.
    pub fn stoppable<Fut: Future<Output = ()> + Send + 'static>(&self, make: impl FnOnce(CancellationToken) -> Fut) {
        self.once(make(self.stop.clone()));
    }

    /// Tasks that are down at this moment, with the reason.
    pub fn troubled(&self) -> BTreeMap<&'static str, String> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until everything has ended; `false` if that takes longer than `limit`.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }

    fn note(&self, name: &'static str, why: Option<String>) {
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => drop(troubled.insert(name, why)),
            None => drop(troubled.remove(name)),
        }
    }
}
