//! Handling stanzas side by side, but those of one lane one after the other.
//!
//! A lane is a pair of sender and receiver: XMPP promises order between two entities (RFC 6120 section 10.1) and nothing else.
//! Two bounds: how many are handled at once, and how many bytes wait. At the second one [`Lanes::push`] waits, so the socket is
//! not read and the server holds what it has.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

type Waiting<K, T> = Mutex<HashMap<K, VecDeque<(T, OwnedSemaphorePermit)>>>;

/// All lanes of a door.
#[derive(Debug)]
pub(crate) struct Lanes<K, T> {
    waiting: Arc<Waiting<K, T>>,
    room: Arc<Semaphore>,
    budget: u32,
    at_once: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl<K: Hash + Eq + Clone + Send + 'static, T: Send + 'static> Lanes<K, T> {
    /// `at_once`: stanzas handled at the same time. `budget`: bytes that may wait or be handled.
    pub(crate) fn new(at_once: usize, budget: u32, tasks: TaskTracker) -> Self {
        Self {
            waiting: Arc::default(),
            room: Arc::new(Semaphore::new(budget as usize)),
            budget,
            at_once: Arc::new(Semaphore::new(at_once.max(1))),
            tasks,
        }
    }

    /// Adds an item at the end of its lane; waits while there is no room.
    pub(crate) async fn push<F, Fut>(&self, lane: K, item: T, cost: usize, handle: F)
    where
        F: Fn(T) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX).clamp(1, self.budget);
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(cost).await else { return };
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(queue) = waiting.get_mut(&lane) {
                queue.push_back((item, permit));
                return;
            }
            waiting.insert(lane.clone(), VecDeque::new());
        }
        let (waiting, at_once) = (Arc::clone(&self.waiting), Arc::clone(&self.at_once));
        self.tasks.spawn(async move {
            let mut next = Some((item, permit));
            while let Some((item, room)) = next {
                let turn = at_once.acquire().await;
                // A defect in the handling of one stanza must not block its sender for ever.
                if AssertUnwindSafe(handle(item)).catch_unwind().await.is_err() {
                    tracing::error!("handling a stanza failed unexpectedly");
                }
                drop((turn, room));
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                next = waiting.get_mut(&lane).and_then(VecDeque::pop_front);
                if next.is_none() {
                    waiting.remove(&lane);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::mpsc;

    #[tokio::test(start_paused = true)]
    async fn a_lane_keeps_its_order_and_a_slow_one_delays_no_other() {
        let lanes = Lanes::new(8, 1 << 20, TaskTracker::new());
        let (done, mut finished) = mpsc::unbounded_channel();
        for (lane, item, millis) in [("slow", 1, 500u64), ("slow", 2, 1), ("fast", 3, 1), ("fast", 4, 1)] {
            let done = done.clone();
            let handle = move |item: u32| {
                let done = done.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    done.send(item).unwrap();
                }
            };
            lanes.push(lane, item, 10, handle).await;
        }
        let mut order = Vec::new();
        for _ in 0..4 {
            order.push(finished.recv().await.unwrap());
        }
        assert_eq!(order, [3, 4, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_one_item_only_and_room_is_given_back() {
        let lanes = Lanes::new(1, 100, TaskTracker::new());
        let (done, mut finished) = mpsc::unbounded_channel();
        for item in 0..5u32 {
            let done = done.clone();
            let handle = move |item: u32| {
                let done = done.clone();
                async move {
                    assert_ne!(item, 2, "this one fails");
                    done.send(item).unwrap();
                }
            };
            // 60 of 100: each one needs the one before to be over.
            lanes.push("x", item, 60, handle).await;
        }
        for expected in [0, 1, 3, 4] {
            assert_eq!(finished.recv().await, Some(expected));
        }
    }
}
