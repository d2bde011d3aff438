//! Adding to the log of a run: durable first, then told to whoever watches.

use std::sync::Arc;

use aiox_core::{
    Error, Result,
    ports::{Events, Ids, Signal},
    steps::{End, Open},
};
use aiox_model::{RunId, run::RunEvent};
use aiox_store::{Advance, Journal, NewEvent, Store, runs};
use serde_json::Value;
use uuid::Uuid;

/// Events that are read at once.
const PAGE: u32 = 500;

/// The logs of all runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    pub store: Store,
    pub journal: Journal,
    pub watchers: Arc<dyn Events>,
    pub ids: Arc<dyn Ids>,
}

impl Log {
    /// Makes a change durable, with these events, in order. `false`: the run has ended already, or [`Advance::first`] is not next.
    pub fn add(&self, mut change: Advance, events: Vec<(&'static str, Value)>) -> impl Future<Output = Result<bool>> + Send {
        let (run, at) = (change.run, change.at);
        let made = |(kind, payload): (&str, Value)| RunEvent {
            id: self.ids.uuid(),
            run_id: run,
            sequence: 0,
            kind: kind.to_owned(),
            time: at,
            payload,
        };
        let told: Vec<RunEvent> = events.into_iter().map(made).collect();
        let new = |event: &RunEvent| NewEvent { id: event.id, kind: event.kind.clone(), payload: event.payload.to_string(), at };
        change.events = told.iter().map(new).collect();
        let advanced = self.journal.advance(change);
        let watchers = Arc::clone(&self.watchers);
        async move {
            let Some(last) = advanced.await? else { return Ok(false) };
            let before = last.saturating_sub(told.len() as u64);
            for (sequence, event) in (before + 1..).zip(told) {
                watchers.publish(RunId(run), Signal::Event(RunEvent { sequence, ..event })).await;
            }
            Ok(true)
        }
    }

    /// Ends what the run has begun, and adds one event behind that, all in one change. `open` is what is known to be open; without it
    /// the log is read. `false`: the run has ended already.
    pub async fn close(&self, change: Advance, open: Option<Open>, end: End<'_>, last: (&'static str, Value)) -> Result<bool> {
        let Some(open) = open else { return Box::pin(self.close_as_stored(change, end, last)).await };
        let mut events = open.close(end);
        events.push(last);
        self.add(change, events).await
    }

    async fn close_as_stored(&self, change: Advance, end: End<'_>, last: (&'static str, Value)) -> Result<bool> {
        loop {
            let (open, next) = self.open(change.run).await?;
            let mut events = open.close(end);
            events.push(last.clone());
            if self.add(Advance { first: Some(next), ..change.clone() }, events).await? {
                return Ok(true);
            }
            // Somebody else was quicker: with an end, or with an event that this has to come after.
            let row = runs::by_id(&mut self.store.read().await?, change.run).await?.ok_or(Error::NotFound("run"))?;
            if row.status.is_final() {
                return Ok(false);
            }
        }
    }

    /// What the stored log of a run has begun and not ended, and the sequence that comes next.
    pub async fn open(&self, run: Uuid) -> Result<(Open, u64)> {
        let mut db = self.store.read().await?;
        let mut log: Vec<RunEvent> = Vec::new();
        loop {
            let after = log.last().map_or(0, |event| event.sequence);
            let page = runs::events(&mut db, run, after, PAGE).await?;
            if page.is_empty() {
                return Ok((Open::of(&log), after + 1));
            }
            log.extend(page);
        }
    }
}
