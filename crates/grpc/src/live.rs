//! Who is connected to this replica: what a heartbeat, which comes beside the stream, is told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use aiox_app::WorkerSession;
use aiox_crypto::worker_token::Proof;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::WorkerIdentity;

/// The connected workers by name.
#[derive(Clone, Default)]
pub(crate) struct Live(Arc<Mutex<HashMap<String, Entry>>>);

#[derive(Clone)]
struct Entry {
    session: Weak<WorkerSession>,
    seen: watch::Sender<Instant>,
    proof: Proof,
    until: watch::Sender<Option<Instant>>,
}

/// A worker in the list. Dropping it takes the worker out.
pub(crate) struct Present {
    live: Live,
    worker_id: String,
    seen: watch::Sender<Instant>,
    until: watch::Sender<Option<Instant>>,
}

/// When what a worker presents is no longer good.
fn end(identity: &WorkerIdentity) -> Option<Instant> {
    identity.remaining.map(|remaining| Instant::now() + remaining)
}

impl Live {
    fn workers(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lists a worker. The hub lets only one session have a name at a time.
    pub(crate) fn enter(&self, session: &Arc<WorkerSession>, identity: &WorkerIdentity) -> Present {
        let worker_id = session.info().worker_id.clone();
        let (seen, until) = (watch::Sender::new(Instant::now()), watch::Sender::new(end(identity)));
        let entry = Entry { session: Arc::downgrade(session), seen: seen.clone(), proof: identity.proof, until: until.clone() };
        self.workers().insert(worker_id.clone(), entry);
        Present { live: self.clone(), worker_id, seen, until }
    }

    /// The session of a worker that has given a sign of life beside its stream. A younger token of the same credential lengthens
    /// the session.
    pub(crate) fn heard(&self, worker_id: &str, identity: &WorkerIdentity) -> Option<Arc<WorkerSession>> {
        let entry = self.workers().get(worker_id).cloned()?;
        entry.seen.send_replace(Instant::now());
        if entry.proof == identity.proof {
            // None: with the credential itself in each call there is no end.
            let shown = end(identity);
            entry.until.send_modify(|until| *until = until.zip(shown).map(|(before, shown)| before.max(shown)));
        }
        entry.session.upgrade()
    }
}

impl Present {
    /// Notes a sign of life on the stream.
    pub(crate) fn heard(&self) {
        self.seen.send_replace(Instant::now());
    }

    /// When the last token that the worker showed ends.
    pub(crate) fn until(&self) -> Option<Instant> {
        *self.until.borrow()
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
