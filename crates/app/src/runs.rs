//! The one path of a message, whatever the door: [`Runs::submit`]. And everything that reads or watches runs.

mod detail;
mod dry;
mod follow;
mod forward;
mod from_peer;
mod plain;
mod view;

use std::{collections::HashSet, sync::Arc, time::Duration};

use aiox_core::{
    Caller, Error, Principal, Result, Scope,
    access::Access,
    agent::{AgentConfig, MAX_MESSAGE_BYTES},
    ports::{Clock, Events, Ids, Signal, Waiting, WorkQueue},
    quota,
    run::Priority,
    steps::End,
    tenant,
};
use aiox_model::{
    RunId, Ts,
    run::{Conversation, HistoryMessage, Run, RunError, RunEvent, RunStatus},
    v1::run::RunOptions,
};
use aiox_store::{
    Accept, Accepted, Advance, Ending, Exhausted, Journal, Store, agents::AgentRow, conversations, quotas, runs, runs::RunRow,
};
use dashmap::DashMap;
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) use self::dry::is_dry;
pub use self::{
    detail::Detail,
    from_peer::{PeerEnvelope, Taken},
};
use self::{
    from_peer::{FromPeer, FromPeerResult},
    view::view,
};
use crate::{
    AgentRef, Directory, ModelGateway, Replies, ReplyTo, Target, TenantBook,
    agent_config::{Setup, parse_config},
    audit,
    bounds::{Bounds, ChosenModel},
    federated::{Federated, NewRemote},
    log::Log,
    replies::reply_for,
    same,
    urgency::{Candidate, Urgency},
    whole::whole,
};

/// What audit records call the acceptance of a run.
const ACCEPTED: &str = "run.accepted";

/// A message for an agent.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Whom it is for.
    pub agent: AgentRef,
    /// What is asked, 1 to 65,536 bytes.
    pub input: String,
    /// Continue this conversation; absent = the caller's standing one with the agent.
    pub conversation: Option<Uuid>,
    /// Same key and same request: the first run again. At most 256 bytes.
    pub idempotency_key: Option<String>,
    /// Where the answer goes on XMPP.
    pub reply: Option<ReplyTo>,
    /// Class of urgency.
    pub priority: Priority,
    /// Time for one attempt, in milliseconds; absent = the hub's default, too large = the most that the hub gives.
    pub timeout_ms: Option<u64>,
    /// What a program bounds it to.
    pub bounds: Bounds,
    /// What a program asked for besides, at `/v1`.
    pub asked: Option<Asked>,
}

/// What a program asked for at `/v1` besides its message.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How the run is to be run. Kept with its first event, so that every hub that has the run knows it.
    pub options: RunOptions,
    /// The request without its idempotency key. Two requests are the same if their canonical forms (RFC 8785) are.
    pub body: Value,
    /// A session of the caller: its runs with the agent have a conversation of their own.
    pub session: Option<String>,
}

/// What [`Runs::submit`] made.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The run.
    pub run: Run,
    /// Whether it existed already: the idempotency key was used before for the same request.
    pub replayed: bool,
}

/// What the composition root decides.
#[derive(Clone)]
pub struct RunsOptions {
    /// Provider of agents that name none.
    pub default_provider: String,
    /// Providers that some worker may offer, in lower case; others are refused at the door.
    pub known_providers: HashSet<String>,
    /// Milliseconds of one attempt where nobody asks for another time.
    pub timeout_ms: u64,
    /// Most milliseconds of one attempt that somebody may ask for.
    pub max_timeout_ms: u64,
    /// Limits of the tenants.
    pub tenants: TenantBook,
    /// Order in the queue, shared with the dispatcher.
    pub urgency: Urgency,
}

/// Runs: submit, watch, cancel, read.
#[derive(Clone)]
pub struct Runs {
    store: Store,
    journal: Journal,
    directory: Directory,
    queue: Arc<dyn WorkQueue>,
    events: Arc<dyn Events>,
    log: Log,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    replies: Replies,
    federated: Federated,
    /// Chooses models by tier.
    models: Option<ModelGateway>,
    /// Runs at peers that are being canceled. Bounded by the requests under way.
    canceling: Arc<DashMap<Uuid, ()>>,
    options: Arc<RunsOptions>,
}

impl Runs {
    /// Runs over the given ports.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each dependency is named once, by the composition root alone")]
    pub fn new(
        store: Store,
        journal: Journal,
        directory: Directory,
        queue: Arc<dyn WorkQueue>,
        events: Arc<dyn Events>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        replies: Replies,
        federated: Federated,
        options: RunsOptions,
    ) -> Self {
        let log = Log { store: store.clone(), journal: journal.clone(), watchers: events.clone(), ids: ids.clone() };
        Self {
            store,
            journal,
            directory,
            queue,
            events,
            log,
            clock,
            ids,
            replies,
            federated,
            models: None,
            canceling: Arc::default(),
            options: Arc::new(options),
        }
    }

    /// The same, with models that runs can be given by their tier.
    #[must_use]
    pub fn with_models(self, models: ModelGateway) -> Self {
        Self { models: Some(models), ..self }
    }

    /// Accepts a message. When this returns, the run is durable and will be answered, whatever dies.
    ///
    /// # Errors
    /// [`Error::NotFound`] for agents that do not exist or that the caller may not use, [`Error::Invalid`] and
    /// [`Error::TooLarge`] for bad input, [`Error::Conflict`] for a key used for another request, [`Error::Limited`] for a used-up
    /// allowance or limit of the tenant, [`Error::Spent`] for its used-up budget, [`Error::Forbidden`] when the agent's governance or the
    /// tenant's standing denies it.
    pub async fn submit(&self, caller: &Caller, new: NewRun) -> Result<Submitted> {
        self.submit_as(caller, new, ACCEPTED).await
    }

    /// As [`submit`](Self::submit), with the action that the audit record names.
    async fn submit_as(&self, caller: &Caller, new: NewRun, action: &'static str) -> Result<Submitted> {
        caller.require(Scope::RunsCreate)?;
        check_input(&new)?;
        match self.directory.resolve(caller, &new.agent).await? {
            Target::Local(agent, _) => self.submit_local(caller, new, &agent, None).await?.run(),
            Target::Remote { peer, jid, .. } => {
                let principal = caller.principal.key();
                let conversation = self.conversation(&principal, &jid, &new).await?;
                new.bounds.tier()?;
                let mut accept = self.accept(caller, &new, jid.clone(), conversation)?;
                accept.audit.action = action.into();
                accept.tenant_limits = self.options.tenants.enter(caller, caller.tenant).await?;
                let remote = NewRemote { peer, agent_jid: jid, priority: new.priority, bounds: new.bounds };
                let accept: Arc<Accept> = self.federated.outbound(caller, accept, &remote).await?.into();
                let this = self.clone();
                whole(async move {
                    let submitted = this.write(accept).await?.run()?;
                    this.federated.news(&remote.peer);
                    Ok(submitted)
                })
                .await
            }
        }
    }

    /// Accepts a run that a peer hub asks for, under the id that it has there.
    pub(crate) async fn submit_from_peer(&self, caller: &Caller, new: NewRun, identity: FromPeer) -> Result<FromPeerResult> {
        check_input(&new)?;
        match self.directory.resolve(caller, &new.agent).await? {
            Target::Local(agent, _) => Ok(match self.submit_local(caller, new, &agent, Some(identity)).await? {
                Written::Run(_) | Written::Canceled => FromPeerResult::New,
                Written::Seen { digest, verdict } => FromPeerResult::Seen { digest, verdict },
            }),
            // One link only: a hub does not pass a third party's run on.
            Target::Remote { .. } => Err(Error::NotFound("agent")),
        }
    }

    async fn submit_local(&self, caller: &Caller, mut new: NewRun, agent: &AgentRow, from_peer: Option<FromPeer>) -> Result<Written> {
        let mut caller = caller.clone();
        // A remote principal runs in the tenant of the agent that it addresses.
        if matches!(caller.principal, Principal::Remote { .. }) {
            caller.tenant = agent.tenant;
        }
        let limits = self.options.tenants.enter(&caller, agent.tenant).await?;
        let config = parse_config(agent)?;
        self.governed(&caller, agent, &config)?;
        let jid = self.directory.names().agent_jid(agent.id);
        let conversation = self.conversation(&caller.principal.key(), &jid, &new).await?;
        let max_tokens = match config.governance.max_tokens_per_request {
            0 => config.llm.max_tokens,
            cap => config.llm.max_tokens.min(cap),
        };
        let max_tokens = limits.answer_tokens(quota::reserve(&new.input, 0), max_tokens)?;
        new.bounds.model = self.model_for(&caller, &new, &config, max_tokens).await?;
        let mut accept = self.accept(&caller, &new, jid, conversation)?;
        accept.agent = Some(agent.id.uuid());
        accept.tenant_limits = limits;
        accept.reserved = quota::reserve(&new.input, max_tokens);
        accept.audit = audit::owned_by(accept.audit, Some(agent.owner.uuid()));
        if let Some(from) = from_peer {
            accept.run = from.run;
            accept.event = from.event;
            accept.at = accept.at.max(from.created_at);
            accept.event_payload = from.event_payload;
            accept.event_at = from.created_at;
            accept.origin = Some(from.inbound.origin.clone());
            accept.inbound = Some(from.inbound);
        }
        let setup = Setup::of(&config, &agent.config.tools, &self.options.default_provider, &new.bounds);
        let needs = setup.needs(&config);
        let order = self.options.urgency.order(&Candidate {
            accepted: accept.at,
            priority: new.priority,
            tenant: agent.tenant.uuid(),
            agent: agent.id.uuid(),
            owner: config.capabilities.priority_weight,
            tools: &needs.tools,
        });
        let waiting = Waiting {
            run: RunId(accept.run),
            tenant: agent.tenant,
            conversation: conversation.into(),
            needs,
            order,
            patience: Duration::from_millis(accept.timeout_ms),
        };
        let plan = dry::is_dry(&accept.event_payload).then(|| setup.plan(agent, &config));
        let (this, accept): (_, Arc<Accept>) = (self.clone(), accept.into());
        whole(async move {
            let mut written = this.write(accept).await?;
            if let Written::Run(submitted) = &mut written
                && !submitted.replayed
            {
                match plan {
                    Some(plan) => submitted.run = this.end_dry(submitted.run.id, plan).await?,
                    None => this.queue.offer(waiting).await?,
                }
            }
            Ok(written)
        })
        .await
    }

    /// The model that a run gets instead of its agent's own, if it asks for a tier.
    async fn model_for(&self, caller: &Caller, new: &NewRun, config: &AgentConfig, tokens: u32) -> Result<Option<ChosenModel>> {
        let Some(tier) = new.bounds.tier()? else { return Ok(None) };
        let none = || Error::unavailable("dependency_unavailable", "this hub has no models by tier");
        let allowed = &config.governance.allowed_providers;
        let found = match &self.models {
            Some(models) => models.for_agent(caller, tier, (quota::reserve(&new.input, 0), tokens), allowed).await,
            None => Err(none()),
        };
        match found {
            Ok(chosen) => Ok(Some(chosen)),
            Err(error) if new.bounds.tier_is_a_wish => {
                tracing::debug!(tier = tier.as_str(), error = error.chain(), "a wish for a tier cannot be met");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn accept(&self, caller: &Caller, new: &NewRun, agent_jid: String, conversation: Uuid) -> Result<Box<Accept>> {
        let run = self.ids.uuid();
        let at = self.clock.now();
        let idempotency = new.idempotency_key.as_ref().map(|key| (key.clone(), aiox_crypto::sha256(&form(new)).to_vec()));
        let mut first = json!({ "status": "queued", "door": caller.door.as_str(), "agent_jid": &agent_jid });
        // A time that is asked for may be longer than the usual one.
        let most = self.options.max_timeout_ms.max(self.options.timeout_ms);
        let timeout_ms = new.timeout_ms.map_or(self.options.timeout_ms, |asked| asked.min(most));
        if let Some(asked) = &new.asked {
            first["run_options"] = json!(RunOptions { timeout_ms, ..asked.options.clone() });
        }
        let audit = audit::record(&*self.clock, &*self.ids, caller, ACCEPTED, Some(("run", run.to_string())));
        Ok(Box::new(Accept {
            run,
            tenant: caller.tenant.uuid(),
            agent: None,
            peer: None,
            origin: None,
            conversation,
            principal: caller.principal.key(),
            door: caller.door.as_str(),
            priority: new.priority.number(),
            input: new.input.clone(),
            reserved: quota::reserve(&new.input, 0),
            limits: caller.limits,
            tenant_limits: tenant::Limits::default(),
            idempotency,
            reply: new.reply.as_ref().and_then(|reply| serde_json::to_string(reply).ok()),
            timeout_ms,
            bounds: new.bounds.to_store()?,
            trace: caller.trace.to_string(),
            at,
            event: self.ids.uuid(),
            event_at: at,
            event_payload: first.to_string(),
            agent_jid,
            message: self.ids.uuid(),
            audit,
            inbound: None,
            outbound: None,
        }))
    }

    async fn write(&self, accept: Arc<Accept>) -> Result<Written> {
        match self.journal.accept(Arc::clone(&accept)).await? {
            Accepted::New => {
                metrics::counter!("aiox_runs_accepted_total", "door" => accept.door).increment(1);
                Ok(Written::Run(Box::new(Submitted { run: view(accept.row()), replayed: false })))
            }
            Accepted::Canceled => {
                metrics::counter!("aiox_runs_accepted_total", "door" => accept.door).increment(1);
                metrics::counter!("aiox_tasks_completed_total", "status" => "canceled").increment(1);
                Ok(Written::Canceled)
            }
            Accepted::Replayed(first) => {
                let row = runs::by_id(&mut self.store.read().await?, first).await?.ok_or(Error::NotFound("run"))?;
                Ok(Written::Run(Box::new(Submitted { run: view(row), replayed: true })))
            }
            Accepted::KeyConflict => Err(Error::conflict("idempotency_conflict", "this idempotency key was used for another request")),
            Accepted::OverQuota(which) => {
                metrics::counter!("aiox_policy_violations_total", "kind" => violation(which)).increment(1);
                Err(over_quota(which, accept.at, accept.limits))
            }
            Accepted::Denied(denied) => Err(self.options.tenants.denied(accept.tenant.into(), denied).await),
            Accepted::Seen { digest, verdict } => Ok(Written::Seen { digest, verdict }),
        }
    }

    /// Whether governance lets this caller use this agent at all.
    fn governed(&self, caller: &Caller, agent: &AgentRow, config: &AgentConfig) -> Result<()> {
        let rules = &config.governance;
        if rules.blocked {
            return Err(Error::forbidden("agent_blocked", "this agent is blocked"));
        }
        let domain = caller.principal.jid().domain();
        if !rules.allowed_domains.is_empty() && !rules.allowed_domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain)) {
            return Err(Error::forbidden("domain_not_allowed", "this agent does not answer your domain"));
        }
        let provider = config.llm.provider.clone().unwrap_or_else(|| self.options.default_provider.clone()).to_lowercase();
        if !rules.allowed_providers.is_empty() && !rules.allowed_providers.iter().any(|allowed| allowed.eq_ignore_ascii_case(&provider)) {
            return Err(Error::forbidden("provider_not_allowed", "this agent may not use its provider"));
        }
        if !self.options.known_providers.contains(&provider) {
            tracing::warn!(agent = %agent.id, provider, "agent names a provider that this hub does not know");
            return Err(Error::unavailable(
                "unknown_provider",
                "this agent's provider is not known to the hub; its owner has to change llm_config.provider",
            ));
        }
        Ok(())
    }

    /// The conversation to use: the caller's standing one, that of the caller's session, or the named one if it is the caller's with
    /// this agent.
    async fn conversation(&self, principal: &str, agent_jid: &str, new: &NewRun) -> Result<Uuid> {
        let Some(named) = new.conversation else {
            let session = new.asked.as_ref().and_then(|asked| asked.session.as_deref());
            return Ok(match session {
                Some(session) => standing_conversation(principal, &format!("{agent_jid}\nsession\n{session}")),
                None => standing_conversation(principal, agent_jid),
            });
        };
        let found = conversations::of_principal(&mut self.store.read().await?, named, principal).await?;
        found.filter(|found| found.agent_jid == agent_jid).map(|found| found.id).ok_or(Error::NotFound("conversation"))
    }

    /// A run that the caller asked for.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown and for others' runs alike.
    pub async fn get(&self, caller: &Caller, run: RunId) -> Result<Run> {
        caller.require(Scope::RunsRead)?;
        Ok(view(self.own(caller, run).await?))
    }

    async fn own(&self, caller: &Caller, run: RunId) -> Result<RunRow> {
        let found = runs::by_id(&mut self.store.read().await?, run.uuid()).await?;
        found.filter(|row| row.principal == caller.principal.key()).ok_or(Error::NotFound("run"))
    }

    /// Events of a run after a sequence, and its status at that moment.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn events(&self, caller: &Caller, run: RunId, after: u64, limit: u32) -> Result<(RunStatus, Vec<RunEvent>)> {
        caller.require(Scope::RunsRead)?;
        let row = self.own(caller, run).await?;
        let events = runs::events(&mut self.store.read().await?, run.uuid(), after, limit).await?;
        Ok((row.status, events))
    }

    /// Watches a run from after a sequence: first what is stored, then what happens, until the final event. Live deltas come only
    /// with `deltas`; who begins at the beginning gets the live text so far, too. Authorise with [`get`](Self::get) first.
    pub fn follow(&self, run: RunId, after: u64, deltas: bool) -> impl futures::Stream<Item = Result<Signal>> + Send + 'static {
        let text = match (deltas, after) {
            (false, _) => follow::Text::No,
            (true, 0) => follow::Text::SoFar,
            (true, _) => follow::Text::FromNow,
        };
        follow::follow(self.store.clone(), self.events.clone(), run, after, text)
    }

    /// Waits for the end of a run.
    ///
    /// # Errors
    /// Database errors.
    pub async fn wait(&self, run: RunId) -> Result<Run> {
        use futures::StreamExt as _;
        let mut signals = std::pin::pin!(self.follow(run, 0, false));
        while let Some(signal) = signals.next().await {
            signal?;
        }
        let row = runs::by_id(&mut self.store.read().await?, run.uuid()).await?.ok_or(Error::NotFound("run"))?;
        Ok(view(row))
    }

    /// Cancels a run of the caller: a waiting one at once, a running one at its worker too, one at a peer hub by an envelope.
    ///
    /// # Errors
    /// [`Error::Conflict`] `invalid_state_transition` when it has ended.
    pub async fn cancel(&self, caller: &Caller, run: RunId) -> Result<Run> {
        caller.require(Scope::RunsCancel)?;
        let row = self.own(caller, run).await?;
        let ended = || Error::conflict("invalid_state_transition", "the run has ended");
        if row.status.is_final() {
            return Err(ended());
        }
        let record = audit::record(&*self.clock, &*self.ids, caller, "run.canceled", Some(("run", run.uuid().to_string())));
        let this = self.clone();
        let done = match row.peer.clone() {
            None => whole(async move { this.end_canceled(&row, Some(record)).await }).await?,
            Some(peer) => {
                let caller = caller.clone();
                whole(async move { this.cancel_at(&caller, &row, &peer, record).await }).await?
            }
        };
        if done { self.get(caller, run).await } else { Err(ended()) }
    }

    /// Cancels a run at a peer, and here. `false`: it had ended, or somebody else is canceling it.
    async fn cancel_at(&self, caller: &Caller, row: &RunRow, peer: &str, record: aiox_store::audit::AuditRow) -> Result<bool> {
        if self.canceling.insert(row.id, ()).is_some() {
            return Ok(false);
        }
        let done = async {
            self.federated.cancel(caller, row, peer).await?;
            if self.end_canceled(row, Some(record.clone())).await? {
                return Ok(true);
            }
            // The peer may have been quicker with the end that this cancel made.
            let now = runs::by_id(&mut self.store.read().await?, row.id).await?;
            let canceled = now.is_some_and(|row| row.status == RunStatus::Canceled);
            if canceled {
                audit::write(&self.store, &record).await;
            }
            Ok(canceled)
        };
        let done = done.await;
        self.canceling.remove(&row.id);
        done
    }

    /// Ends a run as canceled; `false` if it has ended already.
    pub(crate) async fn end_canceled(&self, row: &RunRow, record: Option<aiox_store::audit::AuditRow>) -> Result<bool> {
        let at = self.clock.now();
        let error = RunError { code: "canceled".into(), message: "the run was canceled".into(), retryable: false };
        let ending = Ending {
            status: RunStatus::Canceled,
            output: None,
            error: None,
            model_used: None,
            input_tokens: 0,
            output_tokens: 0,
            message: self.ids.uuid(),
            reply: reply_for(row, self.ids.uuid(), Err(&error)),
        };
        let replies = ending.reply.is_some();
        let change = Advance { ending: Some(ending), audit: record, ..Advance::new(row.id, at) };
        if !self.log.close(change, None, End::Canceled, ("run.canceled", json!({ "status": "canceled" }))).await? {
            return Ok(false);
        }
        self.queue.revoke(RunId(row.id)).await?;
        if replies {
            self.replies.added();
        }
        metrics::counter!("aiox_tasks_completed_total", "status" => "canceled").increment(1);
        Ok(true)
    }

    /// Runs of the caller with one agent, newest first.
    ///
    /// # Errors
    /// As [`Directory::resolve`].
    pub async fn with_agent(&self, caller: &Caller, agent: &AgentRef, limit: u32, offset: u64) -> Result<(Vec<Run>, u64)> {
        caller.require(Scope::RunsRead)?;
        let jid = self.jid_of(caller, agent).await?;
        let (rows, count) = runs::of_principal(&mut self.store.read().await?, &caller.principal.key(), &jid, limit, offset).await?;
        Ok((rows.into_iter().map(view).collect(), count))
    }

    /// The latest runs of the caller.
    ///
    /// # Errors
    /// Database errors.
    pub async fn latest(&self, caller: &Caller, limit: u32) -> Result<Vec<Run>> {
        caller.require(Scope::RunsRead)?;
        let rows = runs::latest_of_principal(&mut self.store.read().await?, &caller.principal.key(), limit).await?;
        Ok(rows.into_iter().map(view).collect())
    }

    /// Conversations of the caller, the latest first, optionally with one agent.
    ///
    /// # Errors
    /// As [`Directory::resolve`].
    pub async fn conversations(
        &self,
        caller: &Caller,
        agent: Option<&AgentRef>,
        limit: u32,
        offset: u64,
    ) -> Result<(Vec<Conversation>, u64)> {
        caller.require(Scope::RunsRead)?;
        let jid = match agent {
            Some(agent) => Some(self.jid_of(caller, agent).await?),
            None => None,
        };
        let mut db = self.store.read().await?;
        let (mut found, count) = conversations::list(&mut db, &caller.principal.key(), jid.as_deref(), limit, offset).await?;
        for conversation in &mut found {
            conversation.principal = caller.principal.jid().to_string();
        }
        Ok((found, count))
    }

    /// Messages of a conversation of the caller, in order.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown and for others' conversations alike.
    pub async fn messages(&self, caller: &Caller, conversation: Uuid, limit: u32, offset: u64) -> Result<(Vec<HistoryMessage>, u64)> {
        caller.require(Scope::RunsRead)?;
        let mut db = self.store.read().await?;
        let found = conversations::of_principal(&mut db, conversation, &caller.principal.key()).await?;
        let found = found.ok_or(Error::NotFound("conversation"))?;
        conversations::messages(&mut db, found.id, limit, offset).await
    }

    /// Messages of the caller's standing conversation with a local agent, in order: what a peer hub shows its user.
    ///
    /// # Errors
    /// As [`Directory::resolve`].
    pub async fn history_with(&self, caller: &Caller, agent: &AgentRef, limit: u32, offset: u64) -> Result<(Vec<HistoryMessage>, u64)> {
        let jid = self.jid_of(caller, agent).await?;
        let id = standing_conversation(&caller.principal.key(), &jid);
        conversations::messages(&mut self.store.read().await?, id, limit, offset).await
    }

    /// Messages of the caller with one agent, wherever it lives. What a peer hub has is asked of that hub; its count is then what
    /// has been seen so far.
    ///
    /// # Errors
    /// As [`Directory::resolve`] and [`Federated::history`].
    pub async fn history(&self, caller: &Caller, agent: &AgentRef, limit: u32, offset: u64) -> Result<(Vec<HistoryMessage>, u64)> {
        caller.require(Scope::RunsRead)?;
        if let Target::Remote { peer, jid, .. } = self.directory.resolve(caller, agent).await? {
            let found = self.federated.history(caller, &peer, &jid, limit, offset).await?;
            let seen = offset + found.len() as u64;
            return Ok((found, seen));
        }
        self.history_with(caller, agent, limit, offset).await
    }

    /// What of the caller's allowance is used: (limits, tokens today, requests today, tokens this minute).
    ///
    /// # Errors
    /// Database errors.
    pub async fn quota(&self, caller: &Caller) -> Result<aiox_model::account::Quota> {
        let (tokens, requests, minute) = quotas::used(&mut self.store.read().await?, &caller.principal.key(), self.clock.now()).await?;
        Ok(aiox_model::account::Quota {
            tokens_used_today: tokens,
            tokens_limit_day: caller.limits.tokens_day,
            requests_today: requests,
            requests_limit_day: caller.limits.requests_day,
            tokens_used_minute: minute,
            tokens_limit_minute: caller.limits.tokens_minute,
        })
    }

    async fn jid_of(&self, caller: &Caller, agent: &AgentRef) -> Result<String> {
        Ok(match self.directory.resolve(caller, agent).await? {
            Target::Local(agent, Access::Own | Access::Use) => self.directory.names().agent_jid(agent.id),
            Target::Local(_, Access::None) => return Err(Error::NotFound("agent")),
            Target::Remote { jid, .. } => jid,
        })
    }
}

/// What the journal made of an accepted run.
enum Written {
    Run(Box<Submitted>),
    /// The peer that asks for it had canceled it before: it has ended.
    Canceled,
    /// The envelope that brought it was here before.
    Seen {
        digest: String,
        verdict: String,
    },
}
impl Written {
    fn run(self) -> Result<Submitted> {
        match self {
            Self::Run(submitted) => Ok(*submitted),
            Self::Canceled | Self::Seen { .. } => Err(Error::internal("a run without an envelope was seen before")),
        }
    }
}

/// What makes two requests under one idempotency key the same.
fn form(new: &NewRun) -> Vec<u8> {
    match &new.asked {
        Some(asked) => same::form(&asked.body),
        None => json!([new.input, new.conversation, new.priority.number(), new.timeout_ms]).to_string().into_bytes(),
    }
}

fn check_input(new: &NewRun) -> Result<()> {
    if new.input.trim().is_empty() {
        return Err(Error::invalid("message", "must not be empty"));
    }
    if new.input.len() > MAX_MESSAGE_BYTES {
        return Err(Error::TooLarge { what: "message", limit: MAX_MESSAGE_BYTES as u64 });
    }
    if new.idempotency_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > 256) {
        return Err(Error::invalid("Idempotency-Key", "must have 1 to 256 bytes"));
    }
    if new.timeout_ms == Some(0) {
        return Err(Error::invalid("timeout_ms", "must be at least 1"));
    }
    Ok(())
}

/// Id of the standing conversation of a principal with an agent: made of both, so that every door and every replica finds the same
/// one without asking (RFC 9562 version 8).
pub(crate) fn standing_conversation(principal: &str, agent_jid: &str) -> Uuid {
    let digest = aiox_crypto::sha256(format!("conversation\n{principal}\n{agent_jid}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

const fn violation(which: Exhausted) -> &'static str {
    match which {
        Exhausted::TokensMinute => "rate_limit_minute",
        Exhausted::TokensDay => "daily_token_limit",
        Exhausted::RequestsDay => "daily_request_limit",
    }
}

pub(crate) fn over_quota(which: Exhausted, at: Ts, limits: quota::Limits) -> Error {
    let (minute, day) = quota::seconds_to_next(at);
    let (message, wait) = match which {
        Exhausted::TokensMinute => (format!("Quota exceeded: {} tokens per minute", limits.tokens_minute), minute),
        Exhausted::TokensDay => (format!("Quota exceeded: {} tokens per day", limits.tokens_day), day),
        Exhausted::RequestsDay => (format!("Quota exceeded: {} requests per day", limits.requests_day), day),
    };
    Error::Limited { code: "quota_exceeded", message, retry_after: std::time::Duration::from_secs(wait) }
}
