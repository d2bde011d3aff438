//! Who is connected to this replica: what a heartbeat, which comes beside the stream, is told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use aiox_app::WorkerSession;
use tokio::sync::watch;
use tokio::time::Instant;

/// The connected workers by name.
#[derive(Clone, Default)]
pub(crate) struct Live(Arc<Mutex<HashMap<String, Entry>>>);

#[derive(Clone)]
struct Entry {
    session: Weak<WorkerSession>,
    seen: watch::Sender<Instant>,
}

/// A worker in the list. Dropping it takes the worker out.
pub(crate) struct Present {
    live: Live,
    worker_id: String,
    seen: watch::Sender<Instant>,
}

impl Live {
    fn workers(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lists a worker. The hub lets only one session have a name at a time.
    pub(crate) fn enter(&self, session: &Arc<WorkerSession>) -> Present {
        let worker_id = session.info().worker_id.clone();
        let seen = watch::Sender::new(Instant::now());
        let entry = Entry { session: Arc::downgrade(session), seen: seen.clone() };
        self.workers().insert(worker_id.clone(), entry);
        Present { live: self.clone(), worker_id, seen }
    }

    /// The session of a worker that has given a sign of life beside its stream.
    pub(crate) fn heard(&self, worker_id: &str) -> Option<Arc<WorkerSession>> {
        let entry = self.workers().get(worker_id).cloned()?;
        entry.seen.send_replace(Instant::now());
        entry.session.upgrade()
    }
}

impl Present {
    /// Notes a sign of life on the stream.
    pub(crate) fn heard(&self) {
        self.seen.send_replace(Instant::now());
    }

    /// The last sign of life.
    pub(crate) fn last_heard(&self) -> Instant {
        *self.seen.borrow()
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut workers = self.live.workers();
        // A successor with the same name stays.
        if workers.get(&self.worker_id).is_some_and(|entry| entry.seen.same_channel(&self.seen)) {
            workers.remove(&self.worker_id);
        }
    }
}
