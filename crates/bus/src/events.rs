//! Live signals of runs, by broadcast channel.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use aiox_core::ports::{Events, Signal, SignalReader};
use aiox_model::{RunId, run::RunDelta};
use async_trait::async_trait;
use dashmap::DashMap;
use tokio::sync::broadcast;

/// Signals that a slow reader may be behind.
const BEHIND: usize = 1024;
/// Bytes of live text that are kept of one run. Of a longer answer, whoever comes late gets what follows alone.
const MAX_SAID: usize = 256 * 1024;
/// The same of all runs together.
const MAX_KEPT: usize = 64 * 1024 * 1024;

/// In-process adapter. Cheap to clone.
#[derive(Clone, Default)]
pub struct MemoryEvents {
    runs: Arc<DashMap<RunId, Live>>,
    /// Bytes of text in all of them.
    kept: Arc<AtomicUsize>,
}

/// One run that is watched or answered.
#[derive(Default)]
struct Live {
    readers: Option<broadcast::Sender<Signal>>,
    said: Option<Said>,
}

/// The answer of the current attempt.
struct Said {
    /// Bytes of it, whether they are kept or not.
    length: u64,
    /// All of it; `None` when it is too long or a part is missing.
    text: Option<String>,
    kept: Arc<AtomicUsize>,
}

impl Said {
    fn nothing(kept: Arc<AtomicUsize>) -> Self {
        Self { length: 0, text: Some(String::new()), kept }
    }

    /// Adds a delta. What of it is new, with its place; `None`: nothing.
    fn add(&mut self, delta: RunDelta) -> Option<RunDelta> {
        let Some(offset) = delta.offset else {
            self.forget();
            return Some(delta);
        };
        let new = match self.length.checked_sub(offset) {
            Some(0) => delta,
            Some(known) => {
                let text = delta.text.get(usize::try_from(known).ok()?..).filter(|text| !text.is_empty())?.to_owned();
                RunDelta { text, offset: Some(self.length), ..delta }
            }
            None => {
                self.forget();
                delta
            }
        };
        self.length = new.offset.unwrap_or(self.length).saturating_add(new.text.len() as u64);
        self.keep(&new.text);
        Some(new)
    }

    fn keep(&mut self, new: &str) {
        let Some(text) = &mut self.text else { return };
        let before = self.kept.fetch_add(new.len(), Ordering::Relaxed);
        text.push_str(new);
        if text.len() > MAX_SAID || before + new.len() > MAX_KEPT {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let bytes = self.text.take().map_or(0, |text| text.len());
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        self.forget();
    }
}

struct Reader {
    run: RunId,
    runs: Arc<DashMap<RunId, Live>>,
    signals: Option<broadcast::Receiver<Signal>>,
    so_far: Option<RunDelta>,
}

#[async_trait]
impl Events for MemoryEvents {
    async fn publish(&self, run: RunId, signal: Signal) {
        let kind = match &signal {
            Signal::Event(event) => event.kind.as_str(),
            Signal::Delta(_) => "",
        };
        match kind {
            "run.started" | "run.retried" => self.runs.entry(run).or_default().said = Some(Said::nothing(self.kept.clone())),
            "run.completed" | "run.failed" | "run.canceled" => {
                if let Some(mut live) = self.runs.get_mut(&run) {
                    live.said = None;
                }
            }
            _ => {}
        }
        // Most runs have no watcher: then this is one look-up.
        let Some(mut live) = self.runs.get_mut(&run) else { return };
        let signal = match (signal, &mut live.said) {
            (Signal::Delta(delta), Some(said)) => said.add(delta).map(Signal::Delta),
            (signal, _) => Some(signal),
        };
        if let (Some(readers), Some(signal)) = (&live.readers, signal) {
            let _ = readers.send(signal);
        }
        let over = live.is_idle();
        drop(live);
        if over {
            self.runs.remove_if(&run, |_, live| live.is_idle());
        }
    }

    async fn subscribe(&self, run: RunId) -> Box<dyn SignalReader> {
        let mut live = self.runs.entry(run).or_default();
        let signals = live.readers.get_or_insert_with(|| broadcast::channel(BEHIND).0).subscribe();
        // Together with the subscription, so that no delta is in both or in neither.
        let text = live.said.as_ref().and_then(|said| said.text.clone()).filter(|text| !text.is_empty());
        let so_far = text.map(|text| RunDelta { run_id: run.uuid(), text, offset: Some(0) });
        Box::new(Reader { run, runs: self.runs.clone(), signals: Some(signals), so_far })
    }
}

impl Live {
    fn is_idle(&self) -> bool {
        self.said.is_none() && self.readers.as_ref().is_none_or(|readers| readers.receiver_count() == 0)
    }
}

#[async_trait]
impl SignalReader for Reader {
    fn so_far(&mut self) -> Option<RunDelta> {
        self.so_far.take()
    }

    async fn next(&mut self) -> Option<Signal> {
        // Both kinds of error mean that signals were lost: the caller reads the store.
        self.signals.as_mut()?.recv().await.ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.signals = None;
        self.runs.remove_if(&self.run, |_, live| live.is_idle());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_model::{Ts, run::RunEvent};
    use uuid::Uuid;

    fn delta(text: &str) -> Signal {
        Signal::Delta(RunDelta { run_id: Uuid::nil(), text: text.into(), offset: None })
    }

    fn placed(offset: u64, text: &str) -> Signal {
        Signal::Delta(RunDelta { run_id: Uuid::nil(), text: text.into(), offset: Some(offset) })
    }

    fn event(kind: &str) -> Signal {
        let (id, time, payload) = (Uuid::nil(), Ts::from_seconds(1), Default::default());
        Signal::Event(RunEvent { id, run_id: Uuid::nil(), sequence: 1, kind: kind.into(), time, payload })
    }

    #[tokio::test]
    async fn whoever_comes_late_gets_the_text_so_far_and_then_what_follows_it() {
        let events = MemoryEvents::default();
        let run = RunId(Uuid::nil());
        events.publish(run, event("run.started")).await;
        assert_eq!(events.subscribe(run).await.so_far(), None);
        events.publish(run, placed(0, "one ")).await;
        events.publish(run, placed(4, "two ")).await;
        let mut late = events.subscribe(run).await;
        assert_eq!(late.so_far().map(Signal::Delta), Some(placed(0, "one two ")));
        assert_eq!(late.so_far(), None);
        events.publish(run, placed(8, "three")).await;
        assert_eq!(late.next().await, Some(placed(8, "three")));
        // Another attempt begins anew.
        events.publish(run, event("run.retried")).await;
        events.publish(run, event("run.started")).await;
        events.publish(run, placed(0, "again")).await;
        assert_eq!(events.subscribe(run).await.so_far().map(Signal::Delta), Some(placed(0, "again")));
        drop(late);
        events.publish(run, event("run.completed")).await;
        assert_eq!((events.runs.len(), events.kept.load(Ordering::Relaxed)), (0, 0), "nothing is left behind");
        events.publish(run, placed(5, "late")).await;
        assert_eq!(events.runs.len(), 0);
    }

    #[tokio::test]
    async fn what_is_told_twice_reaches_nobody_twice_and_what_is_missing_shows() {
        let events = MemoryEvents::default();
        let run = RunId(Uuid::nil());
        events.publish(run, event("run.started")).await;
        let mut reader = events.subscribe(run).await;
        for (offset, text) in [(0, "süß"), (0, "süß"), (0, "süß und"), (1, "x"), (4, "ß und gut"), (30, "end")] {
            events.publish(run, placed(offset, text)).await;
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.extend(reader.next().await);
        }
        assert_eq!(seen, [placed(0, "süß"), placed(5, " und"), placed(9, "d gut"), placed(30, "end")]);
        assert_eq!(events.subscribe(run).await.so_far(), None, "a part of it is missing");
        assert_eq!(events.kept.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_text_that_is_too_long_is_not_kept() {
        let events = MemoryEvents::default();
        let run = RunId(Uuid::nil());
        events.publish(run, event("run.started")).await;
        let mut reader = events.subscribe(run).await;
        events.publish(run, placed(0, &"x".repeat(MAX_SAID))).await;
        assert!(events.subscribe(run).await.so_far().is_some());
        events.publish(run, placed(MAX_SAID as u64, "y")).await;
        assert_eq!((events.subscribe(run).await.so_far(), events.kept.load(Ordering::Relaxed)), (None, 0));
        reader.next().await;
        assert_eq!(reader.next().await, Some(placed(MAX_SAID as u64, "y")), "its place is known all the same");
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
