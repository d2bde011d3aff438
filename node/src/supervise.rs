//! Background tasks that come back when they end, and tell how they are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The tasks of a hub that stop together.
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

    /// Other tasks of the same hub, which end when `stop` is cancelled. What is wrong with either is told by both.
    pub fn beside(&self, stop: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stop, troubled: self.troubled.clone() }
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

    /// Runs something that cannot be started again, a listener for example, until the hub stops. If it ends or panics before,
    /// readiness shows it from then on.
    pub fn once<Fut>(&self, name: &'static str, make: impl FnOnce(CancellationToken) -> Fut)
    where
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (this, work) = (self.clone(), make(self.stop.clone()));
        self.tracker.spawn(async move {
            let why = match this.tracker.spawn(work).await {
                _ if this.stop.is_cancelled() => return,
                Ok(Ok(())) => "ended".to_owned(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(panic) => format!("panicked: {panic}"),
            };
            tracing::error!(task = name, why, "a part of the hub ended; it needs a restart of the hub");
            this.note(name, Some(why));
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    /// Fails the test instead of hanging it.
    async fn within<F: Future>(future: F) -> F::Output {
        tokio::time::timeout(Duration::from_secs(30), future).await.unwrap()
    }

    async fn until(condition: impl Fn() -> bool) {
        within(async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_task_that_ends_in_whatever_way_is_started_again_and_shown_meanwhile() {
        let stop = CancellationToken::new();
        let tasks = Supervisor::new(stop.clone());
        let (started, mut starts) = mpsc::unbounded_channel();
        let (fate, fates) = mpsc::unbounded_channel();
        let fates = Arc::new(tokio::sync::Mutex::new(fates));
        tasks.run("worker of the test", move |_| {
            let (started, fates) = (started.clone(), fates.clone());
            async move {
                started.send(()).unwrap();
                match fates.lock().await.recv().await {
                    Some("ends") => Ok(()),
                    Some("fails") => anyhow::bail!("the disk is full"),
                    Some(_) => panic!("on purpose"),
                    None => std::future::pending().await,
                }
            }
        });
        for (what, shown) in [("ends", "ended"), ("fails", "the disk is full"), ("panics", "panicked")] {
            within(starts.recv()).await.unwrap();
            assert!(tasks.troubled().is_empty(), "it runs");
            fate.send(what).unwrap();
            until(|| tasks.troubled().get("worker of the test").is_some_and(|why| why.contains(shown))).await;
        }
        within(starts.recv()).await.unwrap();
        assert!(tasks.troubled().is_empty(), "it runs again");
        assert!(!tasks.finish(Duration::from_millis(1)).await, "it goes on until it is stopped");
        drop(fate);
    }

    #[tokio::test]
    async fn a_stop_ends_a_task_that_waits_to_be_started_again() {
        let stop = CancellationToken::new();
        let tasks = Supervisor::new(stop.clone());
        tasks.run("broken", |_| async { anyhow::bail!("always") });
        until(|| !tasks.troubled().is_empty()).await;
        stop.cancel();
        assert!(tasks.finish(Duration::from_secs(30)).await);
    }

    #[tokio::test]
    async fn what_cannot_be_started_again_is_shown_unless_the_hub_stops() {
        let stop = CancellationToken::new();
        let tasks = Supervisor::new(stop.clone());
        let inner = tasks.beside(CancellationToken::new());
        inner.once("listener", |_| async { anyhow::bail!("too many open files") });
        until(|| tasks.troubled().get("listener").is_some_and(|why| why == "too many open files")).await;
        tasks.once("door", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        stop.cancel();
        assert!(tasks.finish(Duration::from_secs(30)).await);
        assert!(!tasks.troubled().contains_key("door"));
    }
}
