//! Events that programs bring in from other hubs, and reading them back.

use std::sync::Arc;

use aiox_core::{
    Caller, Error, Result, Scope,
    agentos::is_final,
    ports::{Clock, Ids},
};
use aiox_model::{Ts, v1::event::Event};
use aiox_store::{
    Store,
    ingested::{self, IngestedRow},
};
use futures::Stream;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{audit, whole::whole};

/// Events that one read takes.
const PAGE: u32 = 200;

/// What became of the events of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Durable now.
    pub accepted: u64,
    /// Dropped.
    pub rejected: u64,
}

/// One event of a call.
#[derive(Debug, Clone)]
pub enum Brought {
    /// It can be kept.
    Event(Box<Event>),
    /// It names another tenant: never kept, and recorded.
    Foreign,
    /// It cannot be an event.
    Unreadable,
}

/// Events that programs bring in. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    added: Arc<Notify>,
}

impl Ingest {
    /// Ingest over the given ports.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { store, clock, ids, added: Arc::default() }
    }

    /// Keeps the events of one call, each for itself, in one transaction.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope; database errors, and then nothing is kept.
    pub async fn take(&self, caller: &Caller, source: &str, brought: Vec<Brought>) -> Result<Counts> {
        caller.require(Scope::EventsIngest)?;
        let at = self.clock.now();
        let mut record = audit::record(&*self.clock, &*self.ids, caller, "federation.events.ingest", Some(("stack", source.to_owned())));
        let (this, source, tenant) = (self.clone(), source.to_owned(), caller.tenant.uuid());
        let foreign = brought.iter().filter(|event| matches!(event, Brought::Foreign)).count();
        let counts = whole(async move {
            let mut counts = Counts::default();
            let mut tx = this.store.begin().await?;
            for event in brought {
                let kept = match event {
                    Brought::Event(event) => ingested::insert(&mut tx, &row(tenant, &source, &event, at)).await?,
                    Brought::Foreign | Brought::Unreadable => false,
                };
                if kept { counts.accepted += 1 } else { counts.rejected += 1 }
            }
            if foreign > 0 {
                record.outcome = "denied".into();
                record.severity = "warn".into();
                record.detail = Some(format!("{foreign} events of another tenant"));
            }
            aiox_store::audit::insert(&mut tx, &record).await?;
            tx.commit().await?;
            Ok::<_, Error>(counts)
        })
        .await?;
        self.added.notify_waiters();
        Ok(counts)
    }

    /// Whether anything of a run was brought into the caller's tenant.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope; database errors.
    pub async fn knows(&self, caller: &Caller, run: &str) -> Result<bool> {
        caller.require(Scope::RunsRead)?;
        Ok(!ingested::events(&mut self.store.read().await?, caller.tenant.uuid(), run, 0, 1).await?.is_empty())
    }

    /// The events of a run that were brought into the caller's tenant after a sequence, in order, and those that come; until its end.
    /// What comes before its turn waits for those before it.
    pub fn follow(&self, caller: &Caller, run: &str, mut after: u64) -> impl Stream<Item = Result<Event>> + Send + 'static {
        let (this, tenant, run) = (self.clone(), caller.tenant.uuid(), run.to_owned());
        async_stream::stream! {
            loop {
                let added = this.added.notified();
                let mut added = std::pin::pin!(added);
                // From here on nothing that is added is missed.
                added.as_mut().enable();
                let page = match this.store.read().await {
                    Ok(mut db) => ingested::events(&mut db, tenant, &run, after, PAGE).await,
                    Err(error) => Err(error),
                };
                let page = match page {
                    Ok(page) => page,
                    Err(error) => { yield Err(error); return }
                };
                let before = after;
                for (sequence, document) in page {
                    // One that is missing may still come, until the end of the run is here.
                    if sequence != after + 1 {
                        match this.end_of(tenant, &run).await {
                            Ok(Some(_)) => {}
                            Ok(None) => break,
                            Err(error) => { yield Err(error); return }
                        }
                    }
                    after = sequence;
                    match serde_json::from_str::<Event>(&document) {
                        Ok(event) => {
                            let last = is_final(&event);
                            yield Ok(event);
                            if last { return }
                        }
                        Err(error) => { yield Err(Error::internal(error)); return }
                    }
                }
                if after == before {
                    added.await;
                }
            }
        }
    }

    /// The sequence of the final event of a run that was brought in, if it is there.
    ///
    /// # Errors
    /// Database errors.
    pub async fn end(&self, caller: &Caller, run: &str) -> Result<Option<u64>> {
        self.end_of(caller.tenant.uuid(), run).await
    }

    async fn end_of(&self, tenant: Uuid, run: &str) -> Result<Option<u64>> {
        let mut after = 0;
        let mut db = self.store.read().await?;
        loop {
            let page = ingested::events(&mut db, tenant, run, after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(None) };
            after = *last;
            let found = page.iter().find(|(_, event)| serde_json::from_str(event).is_ok_and(|event| is_final(&event)));
            if let Some((sequence, _)) = found {
                return Ok(Some(*sequence));
            }
        }
    }
}

fn row(tenant: Uuid, source: &str, event: &Event, at: Ts) -> IngestedRow {
    IngestedRow {
        tenant,
        source: source.to_owned(),
        run: event.run_id.clone(),
        event: event.event_id.clone(),
        sequence: event.sequence,
        document: json!(event).to_string(),
        at,
    }
}
