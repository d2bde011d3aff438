//! Watching a run without gaps: the store says what has been, the bus what happens.

use std::sync::Arc;

use aiox_core::{
    Result,
    ports::{Events, Signal},
};
use aiox_model::{
    RunId,
    run::{RunDelta, RunEvent},
};
use aiox_store::{Store, runs};
use futures::Stream;

const PAGE: u32 = 200;

/// Whether nothing comes after an event.
pub(crate) fn is_final(event: &RunEvent) -> bool {
    matches!(event.kind.as_str(), "run.completed" | "run.failed" | "run.canceled")
}

/// Which live text a watcher gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// None.
    No,
    /// What comes from now on.
    FromNow,
    /// What there is of the current attempt, in one piece, and what comes then.
    SoFar,
}

/// The live text of one attempt as one watcher has it: each piece once, in order.
#[derive(Default)]
struct Told {
    /// Bytes; `None` before the first piece.
    length: Option<u64>,
}

impl Told {
    /// What of a piece is new. `None`: nothing.
    fn unheard(&mut self, delta: RunDelta) -> Option<RunDelta> {
        let Some(offset) = delta.offset else { return Some(delta) };
        let length = self.length.unwrap_or(offset);
        let known = usize::try_from(length.saturating_sub(offset)).ok()?;
        let text = delta.text.get(known..).filter(|text| !text.is_empty())?.to_owned();
        let offset = offset.max(length);
        self.length = Some(offset.saturating_add(text.len() as u64));
        Some(RunDelta { text, offset: Some(offset), ..delta })
    }
}

pub(super) fn follow(
    store: Store,
    events: Arc<dyn Events>,
    run: RunId,
    mut after: u64,
    text: Text,
) -> impl Stream<Item = Result<Signal>> + Send + 'static {
    async_stream::stream! {
        // Subscribed before the store is read, so that nothing falls between the two.
        let given = after;
        let mut reader = events.subscribe(run).await;
        let mut told = Told { length: (text == Text::SoFar).then_some(0) };
        'replay: loop {
            loop {
                let page = match store.read().await {
                    Ok(mut db) => runs::events(&mut db, run.uuid(), after, PAGE).await,
                    Err(error) => Err(error),
                };
                let page = match page {
                    Ok(page) => page,
                    Err(error) => { yield Err(error); return }
                };
                if page.is_empty() {
                    // A reader who already has the end, or claims to, must not wait for another one.
                    if given > 0 && has_ended(&store, run, after).await { return }
                    break
                }
                for event in page {
                    after = event.sequence;
                    if begins_anew(&event) { told.length = Some(0); }
                    let last = is_final(&event);
                    yield Ok(Signal::Event(event));
                    if last { return }
                }
            }
            if let Some(delta) = reader.so_far().filter(|_| text != Text::No) {
                if told.length.is_none() {
                    told.length = Some(delta.text.len() as u64);
                } else if let Some(delta) = told.unheard(delta) {
                    yield Ok(Signal::Delta(delta));
                }
            }
            loop {
                match reader.next().await {
                    Some(Signal::Event(event)) if event.sequence <= after => if is_final(&event) { return },
                    Some(Signal::Event(event)) if event.sequence == after + 1 => {
                        after = event.sequence;
                        if begins_anew(&event) { told.length = Some(0); }
                        let last = is_final(&event);
                        yield Ok(Signal::Event(event));
                        if last { return }
                    }
                    // An event was missed: the store has it.
                    Some(Signal::Event(_)) => continue 'replay,
                    Some(Signal::Delta(delta)) => if text != Text::No && let Some(delta) = told.unheard(delta) {
                        yield Ok(Signal::Delta(delta));
                    },
                    None => {
                        reader = events.subscribe(run).await;
                        continue 'replay;
                    }
                }
            }
        }
    }
}

/// Whether the live text before an event is no part of the answer.
fn begins_anew(event: &RunEvent) -> bool {
    matches!(event.kind.as_str(), "run.started" | "run.retried")
}

/// Whether the run has ended, at or before this sequence. If it cannot be read, the live signals will tell.
async fn has_ended(store: &Store, run: RunId, after: u64) -> bool {
    let Ok(mut db) = store.read().await else { return false };
    let row = runs::by_id(&mut db, run.uuid()).await.ok().flatten();
    row.is_some_and(|row| row.status.is_final() && row.last_seq <= after)
}
