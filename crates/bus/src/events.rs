//! Live signals of runs, by broadcast channel.

use std::sync::Arc;

use aiox_core::ports::{Events, Signal, SignalReader};
use aiox_model::RunId;
use async_trait::async_trait;
use dashmap::DashMap;
use tokio::sync::broadcast;

/// Signals that a slow reader may be behind.
const BEHIND: usize = 1024;

/// In-process adapter. Cheap to clone.
#[derive(Clone, Default)]
pub struct MemoryEvents {
    runs: Arc<DashMap<RunId, broadcast::Sender<Signal>>>,
}

struct Reader {
    run: RunId,
    runs: Arc<DashMap<RunId, broadcast::Sender<Signal>>>,
    signals: Option<broadcast::Receiver<Signal>>,
}

#[async_trait]
impl Events for MemoryEvents {
    async fn publish(&self, run: RunId, signal: Signal) {
        // Most runs have no watcher: then this is one look-up.
        if let Some(readers) = self.runs.get(&run) {
            let _ = readers.send(signal);
        }
    }

    async fn subscribe(&self, run: RunId) -> Box<dyn SignalReader> {
        let signals = self.runs.entry(run).or_insert_with(|| broadcast::channel(BEHIND).0).subscribe();
        Box::new(Reader { run, runs: self.runs.clone(), signals: Some(signals) })
    }
}

#[async_trait]
impl SignalReader for Reader {
    async fn next(&mut self) -> Option<Signal> {
        // Both kinds of error mean that signals were lost: the caller reads the store.
        self.signals.as_mut()?.recv().await.ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.signals = None;
        self.runs.remove_if(&self.run, |_, readers| readers.receiver_count() == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_model::run::RunDelta;
    use uuid::Uuid;

    fn delta(text: &str) -> Signal {
        Signal::Delta(RunDelta { run_id: Uuid::nil(), text: text.into() })
    }

    #[tokio::test]
    async fn readers_get_what_is_published_while_they_read_and_leave_nothing_behind() {
        let events = MemoryEvents::default();
        let run = RunId(Uuid::nil());
        events.publish(run, delta("before")).await;
        let (mut one, mut two) = (events.subscribe(run).await, events.subscribe(run).await);
        events.publish(run, delta("now")).await;
        assert_eq!(one.next().await, Some(delta("now")));
        assert_eq!(two.next().await, Some(delta("now")));
        drop(one);
        assert_eq!(events.runs.len(), 1);
        drop(two);
        assert_eq!(events.runs.len(), 0);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_that_it_lost_signals() {
        let events = MemoryEvents::default();
        let run = RunId(Uuid::nil());
        let mut reader = events.subscribe(run).await;
        for _ in 0..=BEHIND {
            events.publish(run, delta("x")).await;
        }
        assert_eq!(reader.next().await, None);
        assert_eq!(reader.next().await, Some(delta("x")));
    }
}
