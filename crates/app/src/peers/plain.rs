//! Plain nodes: peers that speak `/v1` alone, over HTTP, and believe headers. An operator lets each of them in by hand, never in production.

use std::time::Duration;

use aiox_core::{Caller, Error, Principal, Result, Scope, agentos};
use aiox_model::{
    Ts,
    run::RunStatus,
    v1::{
        event::Event,
        federation::{API_VERSION, Build, PeerInfo},
    },
};
use aiox_store::{
    ingested,
    listed::{self, ListedRow, PlainRunRow},
};
use async_trait::async_trait;
use dashmap::DashMap;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::{PeerBook, listed::document};
use crate::audit;

/// Member of a peer's endpoints where its runs are made.
const BASE: &str = "agent-orchestrator_base_url";
/// How often plain nodes are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Nodes that are looked at together.
const TOGETHER: usize = 16;
/// A broken event stream is opened again after this long, then after twice as long, and so on.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Until this.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Events that programs brought in that are read at once.
const PAGE: u32 = 200;

/// Who asks, as a plain node is told.
#[derive(Debug, Clone)]
pub struct PlainCaller {
    /// The tenant.
    pub tenant: String,
    /// The principal.
    pub principal: String,
    /// Joins both nodes' log lines.
    pub correlation: String,
    /// W3C `traceparent`.
    pub traceparent: String,
}

impl PlainCaller {
    /// A caller of this hub, whose tenant has the name `tenant`.
    #[must_use]
    pub fn of(caller: &Caller, tenant: &str) -> Self {
        let principal = match &caller.principal {
            Principal::User { id, .. } => id.to_string(),
            Principal::Remote { jid } => jid.to_string(),
        };
        let traceparent = agentos::trace(caller.trace, caller.trace.uuid()).traceparent;
        Self { tenant: tenant.to_owned(), principal, correlation: caller.correlation(), traceparent }
    }
}

/// A run for an agent of a plain node.
#[derive(Debug, Clone)]
pub struct PlainAsk {
    /// Who asks.
    pub caller: PlainCaller,
    /// The agent there.
    pub agent: String,
    /// Idempotency key: asking again makes no second run.
    pub key: String,
    /// The body of the request.
    pub body: Value,
}

/// What a plain node made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainMade {
    /// The run's id there.
    pub run: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Where its events are, relative or absolute.
    pub events_url: String,
    /// Whether it was there before.
    pub replayed: bool,
}

/// Calls to plain nodes. `base` is what an operator wrote down.
#[async_trait]
pub trait PlainWire: Send + Sync {
    /// Makes a run, within the time that a forward has.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the node did not take it in time; what it refuses, in this hub's words.
    async fn create(&self, base: &str, ask: &PlainAsk) -> Result<PlainMade>;

    /// The events of a run after a sequence, as they come. `None`: there are none after it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the node cannot be reached, [`Error::NotFound`] when it does not know the run.
    async fn events(&self, base: &str, url: &str, caller: &PlainCaller, after: u64) -> Result<Option<BoxStream<'static, Result<Value>>>>;

    /// Whether it is well.
    async fn well(&self, base: &str) -> bool;
}

/// How a plain node was when it was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) well: bool,
    pub(super) last: Option<Ts>,
}
pub(super) type Seen = DashMap<String, Look>;

fn insecure_is_off() -> Error {
    Error::invalid("insecure", "this hub talks to no peers without mutual TLS: that is for the modes dev and demo")
}

impl PeerBook {
    /// Lets plain nodes be peers. Never in production.
    #[must_use]
    pub fn with_plain(self, wire: std::sync::Arc<dyn PlainWire>) -> Self {
        Self { plain: Some(wire), ..self }
    }

    /// Lets a peer in without mutual TLS: one that a peers file names, or, with a `url`, one that nothing names.
    ///
    /// # Errors
    /// [`Error::Invalid`] where that is not allowed, or without a base URL; [`Error::NotFound`]; [`Error::Conflict`] for a peer with a
    /// trust document; database errors.
    pub async fn let_in_insecurely(&self, stack_id: &str, url: Option<&str>) -> Result<()> {
        if self.plain.is_none() {
            return Err(insecure_is_off());
        }
        if self.candidates().await?.iter().any(|(candidate, _)| candidate.stack.peer.stack_id == stack_id) {
            return Err(Error::conflict("peer_state", "this peer has a trust document, so it is reached by mutual TLS"));
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let known = listed::all(&mut tx).await?.into_iter().find(|row| row.stack_id == stack_id);
        let mut peer = match (&known, url) {
            (Some(row), _) => document(row)?,
            (None, Some(_)) => PeerInfo {
                stack_id: stack_id.to_owned(),
                environment: String::new(),
                region: String::new(),
                api_versions: vec![API_VERSION.into()],
                endpoints: Map::new(),
                build: Build::default(),
                health: None,
            },
            (None, None) => return Err(Error::NotFound("peer")),
        };
        if let Some(url) = url {
            peer.endpoints.insert(BASE.into(), url.into());
        }
        if base(&peer).is_none() {
            return Err(Error::invalid("url", format!("nothing says where its runs are made ({BASE})")));
        }
        let row =
            ListedRow { stack_id: stack_id.to_owned(), document: serde_json::to_string(&peer).map_err(Error::internal)?, insecure: true };
        listed::put(&mut tx, &row, now).await?;
        let record = audit::of_peer(&*self.clock, &*self.ids, self.audit_tenant, stack_id, "peer.allow_insecure", "allowed", "");
        aiox_store::audit::insert(&mut tx, &record).await?;
        tx.commit().await
    }

    /// Talks no more with a peer that was let in without mutual TLS. A peers file that names it proposes it anew.
    ///
    /// # Errors
    /// [`Error::NotFound`]; database errors.
    pub async fn put_out(&self, stack_id: &str) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let known = listed::all(&mut tx).await?;
        if !known.iter().any(|row| row.stack_id == stack_id && row.insecure) {
            return Err(Error::NotFound("peer"));
        }
        listed::remove(&mut tx, stack_id).await?;
        let record = audit::of_peer(&*self.clock, &*self.ids, self.audit_tenant, stack_id, "peer.remove", "allowed", "");
        aiox_store::audit::insert(&mut tx, &record).await?;
        tx.commit().await
    }

    /// Peers that are let in without mutual TLS.
    ///
    /// # Errors
    /// Database errors.
    pub async fn insecure(&self) -> Result<Vec<String>> {
        let all = listed::all(&mut self.store.read().await?).await?;
        Ok(all.into_iter().filter(|row| row.insecure).map(|row| row.stack_id).collect())
    }

    /// Looks at every plain node again and again, until `stop`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn watch_plain(&self, stop: CancellationToken) -> Result<()> {
        let Some(wire) = &self.plain else {
            stop.cancelled().await;
            return Ok(());
        };
        loop {
            let rows: Vec<ListedRow> = listed::all(&mut self.store.read().await?).await?.into_iter().filter(|row| row.insecure).collect();
            self.seen.retain(|stack_id, _| rows.iter().any(|row| row.stack_id == *stack_id));
            let looks: Vec<_> = rows.into_iter().map(|row| look(wire.clone(), row)).collect();
            let mut looks = futures::stream::iter(looks).buffer_unordered(TOGETHER);
            while let Some((stack_id, well)) = looks.next().await {
                let last = self.seen.get(&stack_id).and_then(|before| before.last);
                let last = if well { Some(self.clock.now()) } else { last };
                self.seen.insert(stack_id, Look { well, last });
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Forgets where runs of plain nodes are that were made before a time; how many.
    ///
    /// # Errors
    /// Database errors.
    pub async fn forget_plain_runs(&self, before: Ts) -> Result<u64> {
        let mut tx = self.store.begin().await?;
        let forgotten = listed::forget_runs(&mut tx, before).await?;
        tx.commit().await?;
        Ok(forgotten)
    }

    /// Makes a run at a plain node, and notes where it is.
    pub(crate) async fn make_plain(&self, caller: &Caller, stack_id: &str, ask: &PlainAsk) -> Result<PlainMade> {
        self.store.takes_changes()?;
        let (wire, base) = self.reach(stack_id).await?;
        let made = wire.create(&base, ask).await?;
        let run = PlainRunRow {
            tenant: caller.tenant.uuid(),
            run: made.run.clone(),
            principal: caller.principal.key(),
            stack_id: stack_id.to_owned(),
            events_url: made.events_url.clone(),
        };
        let mut tx = self.store.begin().await?;
        if listed::note_run(&mut tx, &run, self.clock.now()).await? {
            let resource = Some(("run", made.run.clone()));
            let record = audit::record(&*self.clock, &*self.ids, caller, "federation.runs.forward", resource);
            // The run is there already: what was done is recorded, whatever holds changes now.
            aiox_store::audit::note(&mut tx, &record).await?;
        }
        tx.commit().await?;
        Ok(made)
    }

    /// The run of the caller at a plain node, if it is one.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope; database errors.
    pub async fn plain_run(&self, caller: &Caller, run: &str) -> Result<Option<PlainRunRow>> {
        caller.require(Scope::RunsRead)?;
        let found = listed::run(&mut self.store.read().await?, caller.tenant.uuid(), run).await?;
        Ok(found.filter(|found| found.principal == caller.principal.key()))
    }

    /// The events of such a run after a sequence, with the node's ids and numbers, each once, until the end of the run. While the node
    /// is away what programs brought in goes on. `None`: the run has no event after it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the node does not know the run.
    pub async fn follow_plain(
        &self,
        run: PlainRunRow,
        caller: PlainCaller,
        mut after: u64,
    ) -> Result<Option<impl Stream<Item = Result<Event>> + Send + use<>>> {
        let mut opened = match self.open(&run, &caller, after).await {
            Ok(None) => return Ok(None),
            Ok(Some(stream)) => Some(stream),
            Err(Error::NotFound(what)) => return Err(Error::NotFound(what)),
            Err(error) => {
                tracing::debug!(peer = run.stack_id, error = error.chain(), "events of a plain node cannot be read");
                None
            }
        };
        let this = self.clone();
        Ok(Some(async_stream::stream! {
            let mut wait = FIRST_WAIT;
            loop {
                if let Some(mut stream) = opened.take() {
                    while let Some(Ok(given)) = stream.next().await {
                        let Some(event) = this.of_run(&run, &caller, &given) else { continue };
                        // A node that knows no cursors begins at the first event.
                        if event.sequence <= after {
                            continue;
                        }
                        (after, wait) = (event.sequence, FIRST_WAIT);
                        let last = agentos::is_final(&event);
                        yield Ok(event);
                        if last { return }
                    }
                }
                let brought = async { ingested::events(&mut this.store.read().await?, run.tenant, &run.run, after, PAGE).await };
                for (sequence, document) in brought.await.unwrap_or_default() {
                    let Ok(event) = serde_json::from_str::<Event>(&document) else { break };
                    if sequence != after + 1 {
                        break;
                    }
                    after = sequence;
                    let last = agentos::is_final(&event);
                    yield Ok(event);
                    if last { return }
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LAST_WAIT);
                opened = match this.open(&run, &caller, after).await {
                    Ok(None) => return,
                    Ok(stream) => stream,
                    Err(Error::NotFound(what)) => { yield Err(Error::NotFound(what)); return }
                    Err(_) => None,
                };
            }
        }))
    }

    async fn open(&self, run: &PlainRunRow, caller: &PlainCaller, after: u64) -> Result<Option<BoxStream<'static, Result<Value>>>> {
        let (wire, base) = self.reach(&run.stack_id).await?;
        wire.events(&base, &run.events_url, caller, after).await
    }

    /// An event that a node sent for a run. What is of another run or tenant is never shown.
    fn of_run(&self, run: &PlainRunRow, caller: &PlainCaller, given: &Value) -> Option<Event> {
        let event = given.get("event").unwrap_or(given);
        let other = |member: &str, own: &str| event[member].as_str().is_some_and(|named| named != own);
        if other("tenant_id", &caller.tenant) || other("run_id", &run.run) {
            tracing::warn!(peer = run.stack_id, "a plain node sent an event of another run or tenant; it is dropped");
            return None;
        }
        agentos::read(given, &caller.tenant, || {
            let id = self.ids.uuid();
            agentos::trace(aiox_model::TraceId(id), id)
        })
    }

    /// The way to a plain node, as its record says now.
    async fn reach(&self, stack_id: &str) -> Result<(std::sync::Arc<dyn PlainWire>, String)> {
        let wire = self.plain.clone().ok_or_else(insecure_is_off)?;
        let all = listed::all(&mut self.store.read().await?).await?;
        let row = all.iter().find(|row| row.stack_id == stack_id && row.insecure);
        let base = row.map(document).transpose()?.as_ref().and_then(base).map(str::to_owned);
        let base = base.ok_or_else(|| Error::unavailable("peer_unreachable", "the peer is not let in any more"))?;
        Ok((wire, base))
    }
}

async fn look(wire: std::sync::Arc<dyn PlainWire>, row: ListedRow) -> (String, bool) {
    let well = match document(&row).ok().as_ref().and_then(base) {
        Some(base) => wire.well(base).await,
        None => false,
    };
    (row.stack_id, well)
}

fn base(peer: &PeerInfo) -> Option<&str> {
    peer.endpoints.get(BASE).and_then(Value::as_str).filter(|url| !url.is_empty())
}
