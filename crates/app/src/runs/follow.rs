//! Watching a run without gaps: the store says what has been, the bus what happens.

use std::sync::Arc;

use aiox_core::{
    Result,
    ports::{Events, Signal},
};
use aiox_model::{RunId, run::RunEvent};
use aiox_store::{Store, runs};
use futures::Stream;

const PAGE: u32 = 200;

/// Whether nothing comes after an event.
pub(crate) fn is_final(event: &RunEvent) -> bool {
    matches!(event.kind.as_str(), "run.completed" | "run.failed" | "run.canceled")
}

pub(super) fn follow(
    store: Store,
    events: Arc<dyn Events>,
    run: RunId,
    mut after: u64,
    deltas: bool,
) -> impl Stream<Item = Result<Signal>> + Send + 'static {
    async_stream::stream! {
        // Subscribed before the store is read, so that nothing falls between the two.
        let given = after;
        let mut reader = events.subscribe(run).await;
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
                    let last = is_final(&event);
                    yield Ok(Signal::Event(event));
                    if last { return }
                }
            }
            loop {
                match reader.next().await {
                    Some(Signal::Event(event)) if event.sequence <= after => if is_final(&event) { return },
                    Some(Signal::Event(event)) if event.sequence == after + 1 => {
                        after = event.sequence;
                        let last = is_final(&event);
                        yield Ok(Signal::Event(event));
                        if last { return }
                    }
                    // An event was missed: the store has it.
                    Some(Signal::Event(_)) => continue 'replay,
                    Some(Signal::Delta(delta)) => if deltas { yield Ok(Signal::Delta(delta)) },
                    None => {
                        reader = events.subscribe(run).await;
                        continue 'replay;
                    }
                }
            }
        }
    }
}

/// Whether the run has ended, at or before this sequence. If it cannot be read, the live signals will tell.
async fn has_ended(store: &Store, run: RunId, after: u64) -> bool {
    let Ok(mut db) = store.read().await else { return false };
    let row = runs::by_id(&mut db, run.uuid()).await.ok().flatten();
    row.is_some_and(|row| row.status.is_final() && row.last_seq <= after)
}
