//! Runs that no connected worker can serve. They wait and say why; one that has waited so for as long as it may take ends with
//! `no_capable_worker`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aiox_core::{
    Result,
    ports::{Offers, missing},
};
use aiox_model::{RunId, run::RunError};
use aiox_store::runs;
use futures::{StreamExt as _, stream};
use serde_json::json;

use super::{Inner, TaskOutcome};

/// A run says that it waits for a worker after so long, or after half of what it may take if that is less: a worker that only
/// connects again is not worth an event.
const TELL_AFTER: Duration = Duration::from_secs(5);
/// Runs that are told of or ended at once. They share commits.
const AT_ONCE: usize = 64;

/// Since when which runs have been without a worker. Bounded by the runs that wait.
#[derive(Default)]
pub(super) struct Stranded(HashMap<RunId, Since>);

struct Since {
    at: Instant,
    told: bool,
}

enum Act {
    Tell(RunId, Vec<&'static str>),
    GiveUp(RunId),
}

impl Stranded {
    /// Looks who waits, tells and ends.
    pub(super) async fn look(&mut self, inner: &Inner) {
        let workers = inner.offers();
        let lanes = inner.queue.stranded(&workers).await;
        if lanes.is_empty() && self.0.is_empty() {
            return;
        }
        let acts = self.note(&lanes, &workers, Instant::now());
        let done = stream::iter(acts).for_each_concurrent(AT_ONCE, |act| async move {
            let (run, result) = match act {
                Act::Tell(run, why) => (run, tell(inner, run, &why).await),
                Act::GiveUp(run) => (run, give_up(inner, run).await),
            };
            if let Err(error) = result {
                tracing::error!(%run, error = %error.chain(), "a run that no worker can serve could not be noted");
            }
        });
        done.await;
    }

    fn note(&mut self, lanes: &[aiox_core::ports::Stranded], workers: &[Offers], now: Instant) -> Vec<Act> {
        let mut before = std::mem::take(&mut self.0);
        let mut acts = Vec::new();
        for lane in lanes {
            for (run, patience) in &lane.runs {
                let mut since = before.remove(run).unwrap_or(Since { at: now, told: false });
                let waited = now.duration_since(since.at);
                if waited >= *patience {
                    acts.push(Act::GiveUp(*run));
                } else if !since.told && waited >= TELL_AFTER.min(*patience / 2) {
                    since.told = true;
                    acts.push(Act::Tell(*run, missing(&lane.needs, workers)));
                }
                self.0.insert(*run, since);
            }
        }
        acts
    }
}

async fn tell(inner: &Inner, run: RunId, why: &[&'static str]) -> Result<()> {
    tracing::warn!(%run, missing = ?why, "a run waits, and no connected worker can serve it");
    let waiting = json!({ "reason": "no_capable_worker", "missing": why });
    inner.log.add(inner.change(run.uuid()), vec![("run.waiting", waiting)]).await.map(drop)
}

async fn give_up(inner: &Inner, run: RunId) -> Result<()> {
    // Whoever takes it out of the queue has it: it cannot be given to a worker at the same moment.
    if !inner.queue.remove(run).await? {
        return Ok(());
    }
    let Some(row) = runs::by_id(&mut inner.store.read().await?, run.uuid()).await? else { return Ok(()) };
    let error = RunError {
        code: "no_capable_worker".into(),
        message: "no connected worker can serve this agent, and the time limit is over".into(),
        retryable: true,
    };
    if let Err(error) = inner.end(&row, TaskOutcome::failed(error), None).await {
        inner.offer(&row).await?;
        return Err(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_core::ports::Needs;
    use uuid::Uuid;

    fn lane(run: u128, patience: Duration) -> aiox_core::ports::Stranded {
        let needs = Needs { provider: "openai".into(), ..Needs::default() };
        aiox_core::ports::Stranded { needs, runs: vec![(RunId(Uuid::from_u128(run)), patience)] }
    }

    fn words(acts: &[Act]) -> Vec<&'static str> {
        acts.iter().map(|act| if matches!(act, Act::Tell(..)) { "tell" } else { "give up" }).collect()
    }

    #[test]
    fn a_run_tells_once_and_is_given_up_at_its_limit() {
        let (mut stranded, start) = (Stranded::default(), Instant::now());
        let lanes = [lane(1, Duration::from_secs(60))];
        let mut at = |seconds| words(&stranded.note(&lanes, &[], start + Duration::from_secs(seconds)));
        assert!(at(0).is_empty() && at(4).is_empty());
        assert_eq!(at(5), ["tell"]);
        assert!(at(6).is_empty() && at(59).is_empty());
        assert_eq!(at(60), ["give up"]);
    }

    #[test]
    fn a_worker_that_comes_and_goes_gives_the_whole_time_again() {
        let (mut stranded, start) = (Stranded::default(), Instant::now());
        let lanes = [lane(1, Duration::from_secs(2))];
        assert!(stranded.note(&lanes, &[], start).is_empty());
        assert_eq!(words(&stranded.note(&lanes, &[], start + Duration::from_secs(1))), ["tell"]);
        assert!(stranded.note(&[], &[], start + Duration::from_secs(2)).is_empty());
        assert!(stranded.0.is_empty());
        assert!(stranded.note(&lanes, &[], start + Duration::from_secs(3)).is_empty());
        assert_eq!(words(&stranded.note(&lanes, &[], start + Duration::from_secs(5))), ["give up"]);
    }
}
