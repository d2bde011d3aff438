//! What every door asks of a tenant, from memory.
//!
//! Each tenant is read once and kept; whoever changes one puts it back here in the same breath, so a change holds for the next request
//! at every door of this process. Others that share a Postgres database hear of it within [`FRESH_SECONDS`], because each reads a tenant
//! in use again after that time. What a tenant has used is not here: that is counted in the database.

use std::{fmt, sync::Arc};

use aiox_core::{
    Caller, Door, Error, Result,
    ports::Clock,
    tenant::{self, Denied, Limits},
};
use aiox_model::{TenantId, Ts};
use aiox_store::{
    Backend, Store,
    tenant_use::{self, Kind},
    tenants::{self, TenantRow},
};
use dashmap::DashMap;
use tokio::sync::Notify;

/// How long a tenant is believed to be as it was read, where other processes may change it.
const FRESH_SECONDS: i64 = 2;

/// A tenant and what follows from it.
#[derive(Debug, Clone)]
pub struct Known {
    /// The tenant.
    pub row: Arc<TenantRow>,
    /// The limits that it sets itself.
    pub limits: Limits,
    /// When it was read.
    read_at: Ts,
}

/// The tenants of a hub. Cheap to clone; a clone is the same book.
#[derive(Clone)]
pub struct TenantBook {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Limits at `/v1` of tenants that set none.
    node: Limits,
    known: Arc<DashMap<TenantId, Known>>,
    standing: Arc<Notify>,
}

impl fmt::Debug for TenantBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantBook").field("node", &self.node).field("known", &self.known.len()).finish_non_exhaustive()
    }
}

/// What was taken of a tenant's limits for a call of a model. Settle it with [`TenantBook::settle`], whatever became of the call.
#[derive(Debug, Clone)]
pub struct Reservation {
    tenant: TenantId,
    window: Option<String>,
    tokens: u64,
    cost: u64,
    /// Most tokens of the answer: the wanted ones, or fewer if the tenant's limit of one request leaves fewer.
    pub answer_tokens: u32,
}

impl TenantBook {
    /// An empty book. `node` holds at `/v1` for tenants that set no limits of their own.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, node: Limits) -> Self {
        Self { store, clock, node, known: Arc::default(), standing: Arc::default() }
    }

    /// A tenant, whatever its status.
    ///
    /// # Errors
    /// Database errors.
    pub async fn get(&self, id: TenantId) -> Result<Option<Known>> {
        if let Some(mut known) = self.known.get_mut(&id) {
            // SQLite has one process.
            let now = self.clock.now();
            if self.store.backend() == Backend::Sqlite || now < known.read_at.plus_seconds(FRESH_SECONDS) {
                return Ok(Some(known.clone()));
            }
            // One reads it again; whoever comes meanwhile still takes what is here.
            known.read_at = now;
        }
        let row = tenants::by_id(&mut self.store.read().await?, id.uuid()).await?;
        Ok(row.map(|row| self.note(row)))
    }

    /// Notes a tenant that was made or changed, after its commit.
    pub(crate) fn put(&self, row: TenantRow) {
        self.note(row);
    }

    fn note(&self, row: TenantRow) -> Known {
        let new = Known { limits: Limits::of(&row.quotas), row: Arc::new(row), read_at: self.clock.now() };
        let mut changed = false;
        let mut entry = self.known.entry(new.row.id).or_insert_with(|| {
            changed = true;
            new.clone()
        });
        // Of two the newer one stays, whichever comes first.
        if entry.row.updated_at < new.row.updated_at {
            changed = entry.row.status != new.row.status;
            *entry = new;
        }
        let known = entry.clone();
        drop(entry);
        if changed {
            self.standing.notify_one();
        }
        known
    }

    /// Waits until the status of a tenant has changed since the last call.
    pub(crate) async fn standing_changed(&self) {
        self.standing.notified().await;
    }

    /// The tenant that a text names, if its credentials work: its id as it is written, its UUID, or the name `default`.
    ///
    /// # Errors
    /// [`Error::Forbidden`] `tenant_unknown`, or `forbidden` when it is disabled; database errors.
    pub async fn named(&self, text: &str) -> Result<TenantId> {
        let id = self.find(text).await?.ok_or_else(tenant::unknown)?;
        self.admit(id).await?;
        Ok(id)
    }

    /// The id of the tenant that a text names, whatever its status.
    ///
    /// # Errors
    /// Database errors.
    pub async fn find(&self, text: &str) -> Result<Option<TenantId>> {
        if let Ok(id) = text.parse::<TenantId>()
            && self.get(id).await?.is_some()
        {
            return Ok(Some(id));
        }
        Ok(tenants::by_name(&mut self.store.read().await?, text).await?.map(TenantId::from))
    }

    /// A tenant whose credentials work.
    ///
    /// # Errors
    /// [`Error::Forbidden`] `tenant_unknown`, or `forbidden` when it is disabled; database errors.
    pub async fn admit(&self, id: TenantId) -> Result<Known> {
        let known = self.get(id).await?.ok_or_else(tenant::unknown)?;
        known.row.status.admit()?;
        Ok(known)
    }

    /// The text of a tenant's id on the wire.
    ///
    /// # Errors
    /// Database errors.
    pub async fn text(&self, id: TenantId) -> Result<String> {
        Ok(self.get(id).await?.map_or_else(|| id.to_string(), |known| tenant::text(&known.row.name, id)))
    }

    /// The limits that hold for what this caller does.
    fn limits(&self, caller: &Caller, known: &Known) -> Limits {
        match caller.door {
            Door::V1 => known.limits.or(self.node),
            Door::Rest | Door::Xmpp | Door::Federation | Door::Hub => known.limits,
        }
    }

    /// Lets a run in: the tenants of the caller and of the agent must be active. The limits that the run then has to pass.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for the caller's tenant, [`Error::NotFound`] for another one's agent; database errors.
    pub(crate) async fn enter(&self, caller: &Caller, agent: TenantId) -> Result<Limits> {
        let known = self.admit(caller.tenant).await?;
        if agent != caller.tenant {
            self.admit(agent).await.map_err(|error| match error {
                Error::Forbidden { .. } => Error::NotFound("agent"),
                other => other,
            })?;
        }
        Ok(self.limits(caller, &known))
    }

    /// The error of a denied run or call, which is counted.
    pub(crate) async fn denied(&self, tenant: TenantId, denied: Denied) -> Error {
        let text = self.text(tenant).await.unwrap_or_else(|_| tenant.to_string());
        metrics::counter!("agentos_quota_denied_total", "service" => "agent-orchestrator", "kind" => denied.kind()).increment(1);
        denied.error(text)
    }

    /// Takes what a call of a model needs: a place in the tenant's pace, tokens and money of its budget. `question` and `wanted` are
    /// tokens, `cost` is millionths of a US dollar, at most.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when the tenant's credentials do not work, [`Error::Limited`], [`Error::Spent`], [`Error::Invalid`] when
    /// the question alone is too long; database errors.
    pub async fn reserve_call(&self, caller: &Caller, question: u64, wanted: u32, cost: u64) -> Result<Reservation> {
        let known = self.admit(caller.tenant).await?;
        let limits = self.limits(caller, &known);
        let answer_tokens = limits.answer_tokens(question, wanted)?;
        let tokens = question.saturating_add(u64::from(answer_tokens));
        let window = limits.budget.map(|budget| budget.window.id(self.clock.now()));
        let paces = [(Kind::Invoke, limits.invoke), (Kind::Requests, limits.requests)];
        if window.is_some() || paces.iter().any(|(_, pace)| pace.is_some()) {
            self.take(caller.tenant, &limits, paces, tokens, cost).await?;
        }
        Ok(Reservation { tenant: caller.tenant, window, tokens, cost, answer_tokens })
    }

    /// Takes a run that is made at another hub and is in no log of this one.
    ///
    /// # Errors
    /// [`Error::Limited`], [`Error::Forbidden`]; database errors.
    pub(crate) async fn take_run(&self, caller: &Caller) -> Result<()> {
        let known = self.admit(caller.tenant).await?;
        let limits = self.limits(caller, &known);
        if limits.create.is_none() {
            return Ok(());
        }
        let only = Limits { budget: None, ..limits };
        self.take(caller.tenant, &only, [(Kind::Create, limits.create), (Kind::Requests, None)], 0, 0).await
    }

    /// Takes a call of a tool.
    ///
    /// # Errors
    /// [`Error::Limited`], [`Error::Forbidden`]; database errors.
    pub async fn take_tool_call(&self, caller: &Caller) -> Result<()> {
        let known = self.admit(caller.tenant).await?;
        let limits = self.limits(caller, &known);
        if limits.tools.is_none() {
            return Ok(());
        }
        let only = Limits { budget: None, ..limits };
        self.take(caller.tenant, &only, [(Kind::Tools, limits.tools), (Kind::Requests, None)], 0, 0).await
    }

    async fn take(
        &self,
        tenant: TenantId,
        limits: &Limits,
        paces: [(Kind, Option<tenant::Pace>); 2],
        tokens: u64,
        cost: u64,
    ) -> Result<()> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let mut asked = Ok(());
        for (kind, pace) in paces {
            if let (Ok(()), Some(pace)) = (&asked, pace) {
                asked = tenant_use::take(&mut tx, tenant.uuid(), kind, pace, now).await?;
            }
        }
        if let (Ok(()), Some(budget)) = (&asked, limits.budget) {
            asked = tenant_use::reserve(&mut tx, tenant.uuid(), &budget, tokens, cost, now).await?;
        }
        // A denied call has used its place in the pace all the same, so that asking again and again does not help.
        tx.commit().await?;
        match asked {
            Ok(()) => Ok(()),
            Err(denied) => Err(self.denied(tenant, denied).await),
        }
    }

    /// Puts what a call has really used in place of what was reserved for it. A failed call that used tokens is charged too.
    ///
    /// # Errors
    /// Database errors.
    pub async fn settle(&self, reservation: Reservation, tokens: u64, cost: u64) -> Result<()> {
        let Some(window) = reservation.window else { return Ok(()) };
        let difference = |used: u64, reserved: u64| i64::try_from(i128::from(used) - i128::from(reserved)).unwrap_or(i64::MAX);
        let (tokens, cost) = (difference(tokens, reservation.tokens), difference(cost, reservation.cost));
        if tokens == 0 && cost == 0 {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        tenant_use::settle(&mut tx, reservation.tenant.uuid(), &window, tokens, cost).await?;
        tx.commit().await
    }

    /// Forgets what was used in windows that are long over; how many.
    ///
    /// # Errors
    /// Database errors.
    pub async fn purge(&self) -> Result<u64> {
        let mut tx = self.store.begin().await?;
        // Two days: the longest window is one, and a run may be settled long after it began.
        let purged = tenant_use::purge(&mut tx, self.clock.now().plus_seconds(-2 * 86_400)).await?;
        tx.commit().await?;
        Ok(purged)
    }
}
