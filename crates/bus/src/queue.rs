//! Waiting runs, in process.
//!
//! Runs with equal needs wait in one lane, so that a worker looks only at what it can serve. In a lane each tenant has its own
//! order; between tenants, whoever has had least goes next (virtual time). Runs of a conversation follow one another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aiox_core::{
    Result,
    ports::{Needs, Offers, Stranded, Waiting, WorkQueue},
};
use aiox_model::{ConversationId, RunId, TenantId};
use async_trait::async_trait;
use tokio::sync::Notify;

/// In-process adapter.
#[derive(Default)]
pub struct MemoryQueue {
    state: Mutex<State>,
    news: Notify,
    revoked: Notify,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Needs, BTreeMap<TenantId, BTreeSet<(i64, RunId)>>>,
    /// Every run that is known here.
    runs: HashMap<RunId, Entry>,
    conversations: HashMap<ConversationId, Conversation>,
    /// How many runs of each tenant have been taken, in virtual time.
    served: HashMap<TenantId, u64>,
    /// Taken runs that have been ended by others and whose taker has not heard of it yet.
    revoked: VecDeque<RunId>,
}

struct Entry {
    waiting: Waiting,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In its lane.
    Lane,
    /// Behind an earlier run of its conversation.
    Behind,
    /// With a taker.
    Taken,
}

#[derive(Default)]
struct Conversation {
    /// The run that is in the lane or with a taker.
    front: Option<RunId>,
    behind: VecDeque<RunId>,
}

impl State {
    fn offer(&mut self, waiting: Waiting) -> bool {
        if self.runs.contains_key(&waiting.run) {
            return false;
        }
        let (run, conversation) = (waiting.run, waiting.conversation);
        let talk = self.conversations.entry(conversation).or_default();
        let place = if talk.front.is_none() { Place::Lane } else { Place::Behind };
        if place == Place::Lane {
            talk.front = Some(run)
        } else {
            talk.behind.push_back(run)
        }
        if place == Place::Lane {
            self.enter(&waiting);
        }
        self.runs.insert(run, Entry { waiting, place });
        place == Place::Lane
    }

    fn enter(&mut self, waiting: &Waiting) {
        let active = self.lanes.values().flat_map(BTreeMap::keys).filter_map(|tenant| self.served.get(tenant)).min().copied();
        // A tenant that comes back has no credit from the time of its absence.
        let served = self.served.entry(waiting.tenant).or_default();
        *served = (*served).max(active.unwrap_or(0));
        self.lanes.entry(waiting.needs.clone()).or_default().entry(waiting.tenant).or_default().insert((waiting.order, waiting.run));
    }

    fn leave(&mut self, waiting: &Waiting) {
        let Some(lane) = self.lanes.get_mut(&waiting.needs) else { return };
        if let Some(tenant) = lane.get_mut(&waiting.tenant) {
            tenant.remove(&(waiting.order, waiting.run));
            if tenant.is_empty() {
                lane.remove(&waiting.tenant);
            }
        }
        if lane.is_empty() {
            self.lanes.remove(&waiting.needs);
        }
    }

    fn take(&mut self, offers: &Offers) -> Option<Waiting> {
        let served = &self.served;
        let (_, _, run) = self
            .lanes
            .iter()
            .filter(|(needs, _)| offers.fits(needs))
            .flat_map(|(_, lane)| lane.iter())
            .filter_map(|(tenant, order)| order.first().map(|(key, run)| (served.get(tenant).copied().unwrap_or(0), *key, *run)))
            .min()?;
        let entry = self.runs.get_mut(&run)?;
        entry.place = Place::Taken;
        let waiting = entry.waiting.clone();
        self.leave(&waiting);
        *self.served.entry(waiting.tenant).or_default() += 1;
        Some(waiting)
    }

    /// Lets the next run of a conversation into its lane.
    fn advance(&mut self, conversation: ConversationId) -> bool {
        let Some(talk) = self.conversations.get_mut(&conversation) else { return false };
        talk.front = talk.behind.pop_front();
        let Some(next) = talk.front else {
            self.conversations.remove(&conversation);
            return false;
        };
        let Some(entry) = self.runs.get_mut(&next) else { return false };
        entry.place = Place::Lane;
        let waiting = entry.waiting.clone();
        self.enter(&waiting);
        true
    }

    /// Forgets a run; whether another one may go on.
    fn forget(&mut self, run: RunId) -> bool {
        let Some(entry) = self.runs.remove(&run) else { return false };
        match entry.place {
            Place::Lane => self.leave(&entry.waiting),
            Place::Behind => {
                if let Some(talk) = self.conversations.get_mut(&entry.waiting.conversation) {
                    talk.behind.retain(|other| *other != run);
                }
                return false;
            }
            Place::Taken => {}
        }
        self.advance(entry.waiting.conversation)
    }

    /// The runs of a lane, each followed by those behind it.
    fn of_lane(&self, lane: &BTreeMap<TenantId, BTreeSet<(i64, RunId)>>) -> Vec<(RunId, Duration)> {
        let mut found = Vec::new();
        for (_, run) in lane.values().flatten() {
            let Some(front) = self.runs.get(run) else { continue };
            found.push((*run, front.waiting.patience));
            let behind = self.conversations.get(&front.waiting.conversation).into_iter().flat_map(|talk| &talk.behind);
            found.extend(behind.filter_map(|run| Some((*run, self.runs.get(run)?.waiting.patience))));
        }
        found
    }

    fn give_back(&mut self, run: RunId) -> bool {
        let Some(entry) = self.runs.get_mut(&run).filter(|entry| entry.place == Place::Taken) else { return false };
        entry.place = Place::Lane;
        let waiting = entry.waiting.clone();
        self.enter(&waiting);
        true
    }
}

impl MemoryQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl WorkQueue for MemoryQueue {
    async fn offer(&self, waiting: Waiting) -> Result<()> {
        if self.state().offer(waiting) {
            self.news.notify_waiters();
        }
        Ok(())
    }

    async fn take(&self, offers: &Offers) -> Result<Waiting> {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            // Registered before looking, so that no offer falls between.
            news.as_mut().enable();
            if let Some(waiting) = self.state().take(offers) {
                return Ok(waiting);
            }
            news.await;
        }
    }

    async fn done(&self, run: RunId) -> Result<()> {
        if self.state().forget(run) {
            self.news.notify_waiters();
        }
        Ok(())
    }

    async fn give_back(&self, run: RunId) -> Result<()> {
        if self.state().give_back(run) {
            self.news.notify_waiters();
        }
        Ok(())
    }

    async fn remove(&self, run: RunId) -> Result<bool> {
        let (removed, more) = {
            let mut state = self.state();
            let waiting = state.runs.get(&run).is_some_and(|entry| entry.place != Place::Taken);
            (waiting, waiting && state.forget(run))
        };
        if more {
            self.news.notify_waiters();
        }
        Ok(removed)
    }

    async fn revoke(&self, run: RunId) -> Result<()> {
        {
            let mut state = self.state();
            if state.runs.get(&run).is_some_and(|entry| entry.place == Place::Taken) {
                state.revoked.push_back(run);
                self.revoked.notify_one();
                return Ok(());
            }
        }
        self.remove(run).await.map(drop)
    }

    async fn revoked(&self) -> RunId {
        loop {
            if let Some(run) = self.state().revoked.pop_front() {
                return run;
            }
            self.revoked.notified().await;
        }
    }

    async fn depth(&self) -> usize {
        self.state().runs.values().filter(|entry| entry.place != Place::Taken).count()
    }

    async fn stranded(&self, workers: &[Offers]) -> Vec<Stranded> {
        let state = self.state();
        let unserved = state.lanes.iter().filter(|(needs, _)| !workers.iter().any(|worker| worker.fits(needs)));
        unserved.map(|(needs, lane)| Stranded { needs: needs.clone(), runs: state.of_lane(lane) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use uuid::Uuid;

    fn waiting(run: u128, tenant: u128, conversation: u128, provider: &str, order: i64) -> Waiting {
        Waiting {
            run: RunId(Uuid::from_u128(run)),
            tenant: TenantId(Uuid::from_u128(tenant)),
            conversation: ConversationId(Uuid::from_u128(conversation)),
            needs: Needs { provider: provider.into(), ..Needs::default() },
            order,
            patience: Duration::from_secs(60),
        }
    }
    fn offers(providers: &[&str]) -> Offers {
        Offers { providers: providers.iter().map(|name| (*name).to_owned()).collect(), ..Offers::default() }
    }
    fn now(queue: &MemoryQueue, offers: &Offers) -> Option<u128> {
        queue.take(offers).now_or_never().map(|taken| taken.unwrap().run.uuid().as_u128())
    }

    #[tokio::test]
    async fn a_worker_gets_only_what_it_can_serve_in_order() {
        let queue = MemoryQueue::default();
        queue.offer(waiting(1, 1, 1, "openai", 5)).await.unwrap();
        queue.offer(waiting(2, 1, 2, "echo", 9)).await.unwrap();
        queue.offer(waiting(3, 1, 3, "echo", 7)).await.unwrap();
        assert_eq!(queue.depth().await, 3);
        assert_eq!(now(&queue, &offers(&["echo"])), Some(3));
        assert_eq!(now(&queue, &offers(&["echo"])), Some(2));
        assert_eq!(now(&queue, &offers(&["echo"])), None);
        assert_eq!(now(&queue, &offers(&["anthropic", "openai"])), Some(1));
    }

    #[tokio::test]
    async fn what_no_worker_fits_is_told_with_what_waits_behind_it() {
        let queue = MemoryQueue::default();
        queue.offer(waiting(1, 1, 1, "openai", 0)).await.unwrap();
        queue.offer(waiting(2, 1, 2, "echo", 0)).await.unwrap();
        queue.offer(waiting(3, 1, 1, "openai", 0)).await.unwrap();
        let told = async |workers: &[Offers]| {
            let stranded = queue.stranded(workers).await;
            let runs = stranded.iter().flat_map(|lane| lane.runs.iter().map(|(run, _)| run.uuid().as_u128()));
            let mut runs: Vec<u128> = runs.collect();
            runs.sort_unstable();
            runs
        };
        assert_eq!(told(&[]).await, [1, 2, 3]);
        assert_eq!(told(&[offers(&["echo"])]).await, [1, 3]);
        assert!(told(&[offers(&["echo"]), offers(&["openai"])]).await.is_empty());
        assert_eq!(now(&queue, &offers(&["openai"])), Some(1));
        assert_eq!(told(&[offers(&["echo"])]).await, Vec::<u128>::new(), "what waits for a taken run may still be served by its taker");
    }

    #[tokio::test]
    async fn runs_of_a_conversation_follow_one_another() {
        let queue = MemoryQueue::default();
        let echo = offers(&["echo"]);
        for run in 1..=3 {
            queue.offer(waiting(run, 1, 1, "echo", -i64::try_from(run).unwrap())).await.unwrap();
        }
        assert_eq!(now(&queue, &echo), Some(1));
        assert_eq!(now(&queue, &echo), None);
        queue.give_back(RunId(Uuid::from_u128(1))).await.unwrap();
        assert_eq!(now(&queue, &echo), Some(1));
        assert!(queue.remove(RunId(Uuid::from_u128(2))).await.unwrap());
        queue.done(RunId(Uuid::from_u128(1))).await.unwrap();
        assert_eq!(now(&queue, &echo), Some(3));
        queue.done(RunId(Uuid::from_u128(3))).await.unwrap();
        assert_eq!(queue.depth().await, 0);
        assert!(queue.state().conversations.is_empty() && queue.state().lanes.is_empty());
    }

    #[tokio::test]
    async fn a_flood_of_one_tenant_does_not_keep_another_waiting() {
        let queue = MemoryQueue::default();
        let echo = offers(&["echo"]);
        for run in 0..100 {
            queue.offer(waiting(run, 1, run, "echo", 0)).await.unwrap();
        }
        for _ in 0..10 {
            now(&queue, &echo);
        }
        queue.offer(waiting(1000, 2, 1000, "echo", i64::MAX)).await.unwrap();
        let next: Vec<_> = (0..2).filter_map(|_| now(&queue, &echo)).collect();
        assert!(next.contains(&1000), "{next:?}");
    }

    #[tokio::test]
    async fn offering_twice_is_offering_once_and_a_dropped_take_takes_nothing() {
        let queue = MemoryQueue::default();
        let echo = offers(&["echo"]);
        drop(queue.take(&echo));
        queue.offer(waiting(1, 1, 1, "echo", 0)).await.unwrap();
        queue.offer(waiting(1, 1, 1, "echo", 0)).await.unwrap();
        assert_eq!(now(&queue, &echo), Some(1));
        queue.offer(waiting(1, 1, 1, "echo", 0)).await.unwrap();
        assert_eq!(now(&queue, &echo), None);
    }

    #[tokio::test]
    async fn a_taker_hears_of_what_others_have_ended() {
        let queue = MemoryQueue::default();
        let echo = offers(&["echo"]);
        for run in 1..=3 {
            queue.offer(waiting(run, 1, 1, "echo", 0)).await.unwrap();
        }
        assert_eq!(now(&queue, &echo), Some(1));
        queue.revoke(RunId(Uuid::from_u128(2))).await.unwrap();
        assert!(queue.revoked().now_or_never().is_none(), "nobody had taken it");
        queue.revoke(RunId(Uuid::from_u128(1))).await.unwrap();
        assert_eq!(queue.revoked().now_or_never(), Some(RunId(Uuid::from_u128(1))));
        assert_eq!(now(&queue, &echo), None, "its conversation waits until its taker is done");
        queue.done(RunId(Uuid::from_u128(1))).await.unwrap();
        assert_eq!(now(&queue, &echo), Some(3));
    }

    #[tokio::test]
    async fn a_waiting_taker_is_woken_by_the_offer_that_fits() {
        let queue = std::sync::Arc::new(MemoryQueue::default());
        let taker = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take(&offers(&["echo"])).await.unwrap().run }
        });
        queue.offer(waiting(1, 1, 1, "other", 0)).await.unwrap();
        queue.offer(waiting(2, 1, 2, "echo", 0)).await.unwrap();
        assert_eq!(taker.await.unwrap(), RunId(Uuid::from_u128(2)));
    }
}
