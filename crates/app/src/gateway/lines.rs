//! Lines to the workers that serve calls of models.
//!
//! A worker's session opens a line for as long as it lasts. A call goes to the free line with the fewest calls; when all are busy it
//! waits its time, and when no line serves the model it fails at once. A call whose caller has gone is stopped at its worker. Nothing
//! here is durable: a call is not repeated after a crash.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aiox_core::gateway::Operation;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use uuid::Uuid;

use super::call::{Ended, Order};

/// Calls that may wait for a free place, of all tenants together; a further one fails at once.
const MAX_WAITING: usize = 1024;
/// Most bytes of text that a worker may send for one call; its own bound is lower.
const MAX_TEXT: usize = 4 * 1024 * 1024;

/// What a worker serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Provider names in lower case.
    pub providers: Vec<String>,
    /// Those that make embeddings.
    pub embedding_providers: Vec<String>,
    /// The only models that it serves, as `provider/model`; empty = any of its providers.
    pub only_models: Vec<String>,
    /// Models, as `provider/model`, that it offers to the hub's users.
    pub named_models: Vec<String>,
    /// Calls at once; 0 = none, and no line is opened.
    pub places: u32,
}
impl Served {
    fn serves(&self, operation: Operation, provider: &str, model: &str) -> bool {
        let providers = match operation {
            Operation::Chat => &self.providers,
            Operation::Embed => &self.embedding_providers,
        };
        let full = || format!("{provider}/{model}");
        providers.iter().any(|name| name == provider) && (self.only_models.is_empty() || self.only_models.contains(&full()))
    }
}

/// What a session has to tell its worker.
pub enum LineOrder {
    /// Make this call.
    Call(Box<Order>),
    /// Stop a call.
    Cancel(Uuid),
}

/// What comes back of a call.
pub(super) enum Said {
    /// Text to append.
    Delta(String),
    /// The end; nothing follows.
    End(Box<Ended>),
}

/// All lines of a hub. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    open: Mutex<BTreeMap<Uuid, Arc<State>>>,
    /// Told when a place gets free or a line opens.
    changed: Notify,
    waiting: AtomicUsize,
}

struct State {
    id: Uuid,
    served: Served,
    /// The calls at this worker.
    calls: Mutex<HashMap<Uuid, Pending>>,
    /// Bounded by two for each place.
    orders: mpsc::UnboundedSender<LineOrder>,
}

struct Pending {
    /// Bounded by [`MAX_TEXT`].
    said: mpsc::UnboundedSender<Said>,
    bytes: usize,
}

/// One worker's line. Dropped, its calls are lost.
pub struct Line {
    state: Arc<State>,
    lines: Lines,
    orders: AsyncMutex<mpsc::UnboundedReceiver<LineOrder>>,
}

/// Why a call did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoLine {
    /// No connected worker serves it.
    Unserved,
    /// All were busy for as long as it could wait.
    Busy,
}

/// A call that has begun. Dropped before its end, it is stopped at the worker.
pub(super) struct Ongoing {
    id: Uuid,
    line: Arc<State>,
    lines: Lines,
    said: mpsc::UnboundedReceiver<Said>,
    ended: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    /// Opens a line for a session.
    #[must_use]
    pub fn open(&self, id: Uuid, served: Served) -> Line {
        let (orders, receiver) = mpsc::unbounded_channel();
        let state = Arc::new(State { id, served, calls: Mutex::default(), orders });
        if state.served.places > 0 {
            lock(&self.0.open).insert(id, state.clone());
            self.0.changed.notify_waiters();
        }
        Line { state, lines: self.clone(), orders: AsyncMutex::new(receiver) }
    }

    /// Whether some line serves a model, busy or not.
    #[must_use]
    pub fn serve(&self, operation: Operation, provider: &str, model: &str) -> bool {
        lock(&self.0.open).values().any(|line| line.served.serves(operation, provider, model))
    }

    /// What the connected workers serve.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        lock(&self.0.open).values().map(|line| line.served.clone()).collect()
    }

    /// Begins a call, waiting for a free place for at most `patience`.
    pub(super) async fn begin(&self, order: Order, patience: Duration) -> Result<Ongoing, NoLine> {
        let order = match self.try_begin(order) {
            Ok(ongoing) => return Ok(ongoing),
            Err((_, NoLine::Unserved)) => return Err(NoLine::Unserved),
            Err((order, NoLine::Busy)) => order,
        };
        let place = Waiting::enter(&self.0).ok_or(NoLine::Busy)?;
        let mut order = Some(order);
        let begun = tokio::time::timeout(patience, async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                match order.take().map(|order| self.try_begin(order)) {
                    Some(Ok(ongoing)) => return Ok(ongoing),
                    Some(Err((back, NoLine::Busy))) => order = Some(back),
                    Some(Err((_, NoLine::Unserved))) | None => return Err(NoLine::Unserved),
                }
                changed.await;
            }
        });
        let begun = begun.await;
        drop(place);
        begun.unwrap_or(Err(NoLine::Busy))
    }

    fn try_begin(&self, order: Order) -> Result<Ongoing, (Order, NoLine)> {
        let open = lock(&self.0.open);
        let operation = order.input.operation();
        let mut serving = open.values().filter(|line| line.served.serves(operation, &order.provider, &order.model)).peekable();
        if serving.peek().is_none() {
            return Err((order, NoLine::Unserved));
        }
        let free = serving
            .map(|line| (lock(&line.calls).len(), line))
            .filter(|(busy, line)| *busy < line.served.places as usize)
            .min_by_key(|(busy, line)| (*busy, line.id));
        let Some((_, line)) = free else { return Err((order, NoLine::Busy)) };
        let (said, receiver) = mpsc::unbounded_channel();
        let id = order.id;
        lock(&line.calls).insert(id, Pending { said, bytes: 0 });
        // The session that has just ended takes its calls with it: the reader then sees a lost call.
        let _ = line.orders.send(LineOrder::Call(Box::new(order)));
        Ok(Ongoing { id, line: line.clone(), lines: self.clone(), said: receiver, ended: false })
    }

    fn close(&self, id: Uuid) {
        lock(&self.0.open).remove(&id);
        self.0.changed.notify_waiters();
    }
}

/// A call that waits for a place.
struct Waiting<'a>(&'a Shared);
impl<'a> Waiting<'a> {
    fn enter(shared: &'a Shared) -> Option<Self> {
        let entered = Self(shared);
        // Dropped at once when there is no room.
        (shared.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(entered)
    }
}
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    /// Waits for something to tell the worker. For ever, when the worker serves no calls.
    pub async fn next(&self) -> LineOrder {
        match self.orders.lock().await.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }

    /// A live piece of an answer. Of an unknown call it is ignored.
    pub fn delta(&self, call: Uuid, text: String) {
        let mut calls = lock(&self.state.calls);
        let Some(pending) = calls.get_mut(&call) else { return };
        pending.bytes += text.len();
        if pending.bytes > MAX_TEXT {
            tracing::warn!(%call, "a worker sent more text than it may");
            calls.remove(&call);
            drop(calls);
            let _ = self.state.orders.send(LineOrder::Cancel(call));
            self.lines.0.changed.notify_waiters();
            return;
        }
        let _ = pending.said.send(Said::Delta(text));
    }

    /// The end of a call. Of an unknown call it is ignored.
    pub fn ended(&self, call: Uuid, ended: Ended) {
        let pending = lock(&self.state.calls).remove(&call);
        if let Some(pending) = pending {
            let _ = pending.said.send(Said::End(Box::new(ended)));
            self.lines.0.changed.notify_waiters();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.lines.close(self.state.id);
        lock(&self.state.calls).clear();
    }
}

impl Ongoing {
    /// What comes next. `None`: the worker was lost.
    pub(super) async fn next(&mut self) -> Option<Said> {
        let said = self.said.recv().await;
        self.ended = matches!(said, None | Some(Said::End(_)));
        said
    }

    /// Asks the worker to stop. Its end, with what the call has cost so far, still comes.
    pub(super) fn stop(&self) {
        let _ = self.line.orders.send(LineOrder::Cancel(self.id));
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if lock(&self.line.calls).remove(&self.id).is_some() {
            self.stop();
            self.lines.0.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::call::{Answer, Input};

    fn served(places: u32) -> Served {
        Served { providers: vec!["echo".into()], embedding_providers: Vec::new(), places, ..Served::default() }
    }

    fn order(id: u128) -> Order {
        Order {
            id: Uuid::from_u128(id),
            provider: "echo".into(),
            model: "echo".into(),
            input: Input::Chat {
                messages: Vec::new(),
                tools: Vec::new(),
                tool_choice: super::super::call::ToolChoice::Auto,
                generation: super::super::call::Generation::default(),
            },
            stream: true,
            timeout_ms: 1000,
            trace: "t".into(),
        }
    }

    fn id_of(order: LineOrder) -> Uuid {
        match order {
            LineOrder::Call(order) => order.id,
            LineOrder::Cancel(id) => id,
        }
    }

    const LONG: Duration = Duration::from_secs(3600);
    const NOW: Duration = Duration::ZERO;

    #[tokio::test]
    async fn a_call_goes_to_the_line_with_the_fewest_and_its_answer_comes_back() {
        let lines = Lines::default();
        assert_eq!(lines.begin(order(1), LONG).await.err(), Some(NoLine::Unserved));
        let (first, second) = (lines.open(Uuid::from_u128(1), served(2)), lines.open(Uuid::from_u128(2), served(2)));
        let mut one = lines.begin(order(1), NOW).await.ok().unwrap();
        let _two = lines.begin(order(2), NOW).await.ok().unwrap();
        assert_eq!(id_of(first.next().await), Uuid::from_u128(1));
        assert_eq!(id_of(second.next().await), Uuid::from_u128(2));
        first.delta(Uuid::from_u128(1), "a".into());
        first.ended(Uuid::from_u128(1), Ended { answer: Answer { text: "ab".into(), ..Answer::default() }, error: None });
        first.delta(Uuid::from_u128(1), "late".into());
        assert!(matches!(one.next().await, Some(Said::Delta(text)) if text == "a"));
        assert!(matches!(one.next().await, Some(Said::End(end)) if end.answer.text == "ab"));
        assert!(!lines.serve(Operation::Embed, "echo", "echo") && !lines.serve(Operation::Chat, "openai", "echo"));
    }

    #[tokio::test]
    async fn a_full_line_is_waited_for_and_a_dropped_call_makes_room_and_is_stopped() {
        let lines = Lines::default();
        let line = lines.open(Uuid::from_u128(1), served(1));
        let held = lines.begin(order(1), NOW).await.ok().unwrap();
        assert_eq!(lines.begin(order(2), NOW).await.err(), Some(NoLine::Busy));
        let waiting = {
            let lines = lines.clone();
            tokio::spawn(async move { lines.begin(order(3), LONG).await.is_ok() })
        };
        while lines.0.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert!(waiting.await.unwrap());
        assert_eq!(lines.0.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(id_of(line.next().await), Uuid::from_u128(1));
        assert!(matches!(line.next().await, LineOrder::Cancel(id) if id == Uuid::from_u128(1)));
    }

    #[tokio::test]
    async fn a_lost_worker_loses_its_calls_and_whoever_waits_hears_of_it() {
        let lines = Lines::default();
        let line = lines.open(Uuid::from_u128(1), served(1));
        let mut ongoing = lines.begin(order(1), NOW).await.ok().unwrap();
        let waiting = {
            let lines = lines.clone();
            tokio::spawn(async move { lines.begin(order(2), LONG).await.err() })
        };
        while lines.0.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(line);
        assert!(ongoing.next().await.is_none());
        assert_eq!(waiting.await.unwrap(), Some(NoLine::Unserved));
    }

    #[tokio::test]
    async fn a_worker_that_talks_without_end_is_stopped() {
        let lines = Lines::default();
        let line = lines.open(Uuid::from_u128(1), served(1));
        let mut ongoing = lines.begin(order(1), NOW).await.ok().unwrap();
        let _ = line.next().await;
        for _ in 0..5 {
            line.delta(Uuid::from_u128(1), "x".repeat(MAX_TEXT / 4));
        }
        for _ in 0..4 {
            assert!(matches!(ongoing.next().await, Some(Said::Delta(_))));
        }
        assert!(ongoing.next().await.is_none());
        assert!(matches!(line.next().await, LineOrder::Cancel(_)));
    }

    #[tokio::test]
    async fn a_worker_serves_only_the_models_that_it_says() {
        let lines = Lines::default();
        let only = Served { only_models: vec!["echo/big".into()], ..served(1) };
        let _line = lines.open(Uuid::from_u128(1), only);
        assert!(lines.serve(Operation::Chat, "echo", "big") && !lines.serve(Operation::Chat, "echo", "echo"));
        let none = Lines::default();
        let _closed = none.open(Uuid::from_u128(1), served(0));
        assert!(none.served().is_empty());
    }
}
