//! Group commit for hot writes.
//!
//! Accepting a run, moving it on and confirming a reply go through one task that takes what has queued up meanwhile, applies it in
//! one transaction, and answers each caller for itself after the commit. One fsync then serves many callers.
//!
//! Bound: [`QUEUE`] operations may wait; further callers wait for a place. If a batch fails as a whole, its operations are applied
//! one by one, so a poisoned one fails alone.

mod accept;
mod advance;
mod fresh;
mod insert;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aiox_core::{Error, Result};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

pub use accept::{Accept, Accepted, Inbound, Outbound, Seal, Sealed};
pub use advance::{Advance, Ending, NewEvent};

use self::fresh::Fresh;
use crate::{
    Store,
    hold::Hold,
    many::{Many, exec_many},
    runs::RunRow,
};

/// Operations that may wait.
const QUEUE: usize = 4096;
/// Operations that share a commit at most.
const BATCH: usize = 256;
/// How long a confirmation waits for another operation to share its commit. Lost with the process, it comes again.
const LINGER: Duration = Duration::from_millis(10);

enum Op {
    Accept(Arc<Accept>, oneshot::Sender<Result<Accepted>>),
    Advance(Box<Advance>, oneshot::Sender<Result<Option<u64>>>),
    Confirm(Vec<Uuid>, oneshot::Sender<Result<()>>),
}

enum Outcome {
    Accepted(Accepted),
    Advanced(Option<u64>),
    Confirmed,
}

impl Op {
    fn answer(self, outcome: Result<Outcome>) {
        // A caller that has gone away does not want its answer.
        let unexpected = || Error::internal("journal answered another kind of operation");
        match (self, outcome) {
            (Self::Accept(_, to), Ok(Outcome::Accepted(done))) => drop(to.send(Ok(done))),
            (Self::Advance(_, to), Ok(Outcome::Advanced(done))) => drop(to.send(Ok(done))),
            (Self::Confirm(_, to), Ok(Outcome::Confirmed)) => drop(to.send(Ok(()))),
            (Self::Accept(_, to), outcome) => drop(to.send(Err(outcome.err().unwrap_or_else(unexpected)))),
            (Self::Advance(_, to), outcome) => drop(to.send(Err(outcome.err().unwrap_or_else(unexpected)))),
            (Self::Confirm(_, to), outcome) => drop(to.send(Err(outcome.err().unwrap_or_else(unexpected)))),
        }
    }
}

/// Counters of a journal since it started.
#[derive(Debug, Default)]
pub struct JournalStats {
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Operations in them.
    pub operations: AtomicU64,
}

/// The way to the batching task. Cheap to clone; the task ends when the last clone is dropped.
#[derive(Clone)]
pub struct Journal {
    queue: mpsc::Sender<Op>,
    stats: Arc<JournalStats>,
    fresh: Arc<Fresh>,
    hold: Hold,
}

impl Journal {
    /// Starts the journal of a store: its handle, and the task to supervise.
    pub fn new(store: Store) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, work) = mpsc::channel(QUEUE);
        let stats = Arc::new(JournalStats::default());
        let hold = store.hold().clone();
        (Self { queue, stats: stats.clone(), fresh: Arc::default(), hold }, run(store, work, stats))
    }

    /// Makes a run durable, with its first event, message, quota reservation and audit record.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while changes are held ([`Store::hold_changes`]); database errors. Nothing is kept then.
    pub fn accept(&self, accept: impl Into<Arc<Accept>>) -> impl Future<Output = Result<Accepted>> + Send {
        // Out of the futures of all callers before the first of them is made.
        let accept = accept.into();
        let kept = accept.peer.is_none().then(|| Arc::clone(&accept));
        let fresh = Arc::clone(&self.fresh);
        let held = self.hold.check();
        let (to, answer) = oneshot::channel();
        let asked = self.ask(Op::Accept(accept, to), answer);
        async move {
            held?;
            let accepted = asked.await?;
            if let (Accepted::New, Some(accept)) = (&accepted, kept) {
                fresh.keep(accept);
            }
            Ok(accepted)
        }
    }

    /// A run of this hub's agents as it was accepted, once, if that was lately. It may have ended since: [`advance`](Self::advance)
    /// tells.
    #[must_use]
    pub fn fresh(&self, run: Uuid) -> Option<RunRow> {
        self.fresh.take(run).map(|accept| accept.row())
    }

    /// Moves a run on. `None`: it has ended already (or is not known), and nothing was changed. Otherwise the sequence of the last
    /// event that was added.
    ///
    /// # Errors
    /// Database errors; nothing is kept then.
    pub fn advance(&self, advance: Advance) -> impl Future<Output = Result<Option<u64>>> + Send {
        let (to, answer) = oneshot::channel();
        self.ask(Op::Advance(Box::new(advance), to), answer)
    }

    /// Removes replies that the XMPP server has confirmed.
    ///
    /// # Errors
    /// Database errors.
    pub fn confirm(&self, replies: Vec<Uuid>) -> impl Future<Output = Result<()>> + Send {
        let (to, answer) = oneshot::channel();
        self.ask(Op::Confirm(replies, to), answer)
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &JournalStats {
        &self.stats
    }

    fn ask<T: Send>(&self, op: Op, answer: oneshot::Receiver<Result<T>>) -> impl Future<Output = Result<T>> + Send + use<T> {
        let stopped = || Error::unavailable("shutting_down", "the hub is shutting down");
        let queue = self.queue.clone();
        async move {
            queue.send(op).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        }
    }
}

async fn run(store: Store, mut work: mpsc::Receiver<Op>, stats: Arc<JournalStats>) {
    let mut batch = Vec::with_capacity(BATCH);
    while work.recv_many(&mut batch, BATCH).await > 0 {
        gather(&mut work, &mut batch).await;
        let began = Instant::now();
        let outcomes = commit(&store, &batch).await;
        metrics::histogram!("aiox_journal_commit_seconds").record(began.elapsed().as_secs_f64());
        stats.commits.fetch_add(1, Ordering::Relaxed);
        stats.operations.fetch_add(batch.len() as u64, Ordering::Relaxed);
        match outcomes {
            Ok(outcomes) => {
                for (op, outcome) in batch.drain(..).zip(outcomes) {
                    op.answer(Ok(outcome));
                }
            }
            Err(error) if batch.len() == 1 => {
                if let Some(op) = batch.pop() {
                    op.answer(Err(error));
                }
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), operations = batch.len(), "a batch failed; its operations are applied one by one");
                for op in batch.drain(..) {
                    let outcome = commit(&store, std::slice::from_ref(&op))
                        .await
                        .and_then(|mut outcomes| outcomes.pop().ok_or_else(|| Error::internal("an operation had no outcome")));
                    op.answer(outcome);
                }
            }
        }
    }
}

/// Lets others join a batch: as long as the tasks that can run now bring more, and for confirmations, which make nobody wait, whoever
/// comes soon.
async fn gather(work: &mut mpsc::Receiver<Op>, batch: &mut Vec<Op>) {
    let until = tokio::time::Instant::now() + LINGER;
    loop {
        let had = batch.len();
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && let Ok(op) = work.try_recv()
        {
            batch.push(op);
        }
        if batch.len() >= BATCH {
            return;
        }
        if batch.len() > had {
            continue;
        }
        if !batch.iter().all(|op| matches!(op, Op::Confirm(..))) {
            return;
        }
        match tokio::time::timeout_at(until, work.recv()).await {
            Ok(Some(op)) => batch.push(op),
            Ok(None) | Err(_) => return,
        }
    }
}

async fn commit(store: &Store, ops: &[Op]) -> Result<Vec<Outcome>> {
    let (mut accepts, mut advances, mut confirms) = (Vec::new(), Vec::new(), Vec::new());
    for op in ops {
        match op {
            Op::Accept(accept, _) => accepts.push(&**accept),
            Op::Advance(advance, _) => advances.push(&**advance),
            Op::Confirm(replies, _) => confirms.extend_from_slice(replies),
        }
    }
    let mut tx = store.begin_unnoticed().await?;
    let mut rows = insert::Rows::default();
    // A run moves on only after its acceptance was answered, so whatever is accepted here is not moved here.
    let accepted = accept::apply(&mut tx, &accepts, &mut rows).await?;
    let advanced = advance::apply(&mut tx, &advances, &mut rows).await?;
    exec_many!(&mut tx, CONFIRMED, confirms, |reply| [*reply]);
    rows.write(&mut tx).await?;
    tx.commit().await?;
    let (mut accepted, mut advanced) = (accepted.into_iter(), advanced.into_iter());
    ops.iter()
        .map(|op| match op {
            Op::Accept(..) => accepted.next().map(Outcome::Accepted),
            Op::Advance(..) => advanced.next().map(Outcome::Advanced),
            Op::Confirm(..) => Some(Outcome::Confirmed),
        })
        .map(|outcome| outcome.ok_or_else(|| Error::internal("an operation had no outcome")))
        .collect()
}

static CONFIRMED: Many = Many::new("DELETE FROM xmpp_outbox WHERE id IN (SELECT column1 FROM {rows} WHERE column1 IS NOT NULL)", 1);
