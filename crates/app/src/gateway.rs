//! Calls of models that belong to no agent.
//!
//! A call passes the content policy, the router, the tenant's limits and the principal's allowance; then it goes over a line to a
//! worker, and to the next allowed model if that one fails before anything of its answer was told. It is no run: nothing is queued, and
//! after a crash it is not repeated. What it cost is durable: reserved before the call, settled after it, failed calls too.

pub mod call;
mod catalogue;
mod check;
mod drive;
mod failure;
mod keys;
pub mod lines;
pub mod responses;

use std::{sync::Arc, time::Duration};

use aiox_core::{
    Caller, Error, Result, Scope,
    gateway::{Ask, Choice, Entitlements, Model, Operation, Reference, Tier, estimate, route},
    policy::{Decision, Outcome, Policy, Ruleset},
    ports::{Clock, Ids},
    quota,
};
use aiox_store::{Store, ledger, quotas};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub use failure::CallFailure;

use self::{
    call::{Answer, Input, ToolCall},
    catalogue::Catalogue,
    check::{check_input, tokens_of},
    drive::Drive,
    keys::Keys,
    lines::Lines,
};
use crate::{ChosenModel, TenantBook, audit, whole::whole};

/// Most tokens of an answer unless the request says otherwise.
const DEFAULT_OUTPUT_TOKENS: u32 = 1024;
/// Most texts of one embedding call.
pub const MAX_TEXTS: usize = 2048;
/// Most messages of one conversation.
pub const MAX_MESSAGES: usize = 1000;
/// Most tools of one call.
pub const MAX_TOOLS: usize = 128;
/// Longest vector that can be asked for.
pub const MAX_DIMENSIONS: u32 = 4096;

/// What the composition root decides.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// The configured models.
    pub models: Vec<Model>,
    /// Whether models that workers name are offered too.
    pub announced: bool,
    /// Most time of a whole call, waiting and stand-ins included.
    pub timeout: Duration,
    /// What routes call this hub: its domain.
    pub node: String,
    /// Most time that a call waits for a busy worker before the next model is tried.
    pub patience: Duration,
}

/// A call.
#[derive(Clone)]
pub struct NewCall {
    /// The request's own id.
    pub request_id: String,
    /// `tier:<tier>` or a model's id.
    pub model_ref: String,
    /// What is to be done.
    pub input: Input,
    /// Most milliseconds that the model may usually take.
    pub max_latency_ms: Option<u32>,
    /// Most micro-dollars.
    pub max_cost: Option<u64>,
    /// Least context window.
    pub min_context_tokens: Option<u32>,
    /// Whether the answer is read as it is made.
    pub stream: bool,
    /// Key, and digest of the canonical request: the first answer again. Not with `stream`.
    pub idempotency: Option<(String, Vec<u8>)>,
}

/// Which model answered, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Provider.
    pub backend: String,
    /// Id of the model in the catalogue.
    pub model: String,
    /// The hub that made the call.
    pub node: String,
    /// Its tier.
    pub tier: String,
    /// Whether it stands in for the preferred one.
    pub fallback_used: bool,
    /// Why it was chosen.
    pub reason: String,
}

/// What was decided about the content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyOutcome {
    /// `allowed` or `redacted`; a blocked call has no outcome but an error.
    pub decision: String,
    /// Why.
    pub reasons: Vec<String>,
    /// What was masked.
    pub redactions: Vec<Masked>,
}

/// One masked place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masked {
    /// `email`, `phone` or `card`.
    pub kind: String,
    /// Index of the message or text; `None`: the definition of a tool.
    pub part: Option<usize>,
    /// First character of the original text, from 0.
    pub start: usize,
    /// The character after the last one.
    pub end: usize,
}
impl PolicyOutcome {
    fn of(outcome: Outcome) -> Self {
        let masked =
            |one: aiox_core::policy::Redaction| Masked { kind: one.kind.to_owned(), part: one.part, start: one.start, end: one.end };
        let redactions = outcome.redactions.into_iter().map(masked).collect();
        Self { decision: outcome.decision.as_str().to_owned(), reasons: outcome.reasons, redactions }
    }
}

/// What a call came to.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The answer.
    pub answer: Answer,
    /// Who gave it.
    pub route: Route,
    /// What was decided about the request.
    pub policy: PolicyOutcome,
    /// Micro-dollars; absent when the model has no known price.
    pub cost: Option<u64>,
    /// Milliseconds.
    pub latency_ms: u64,
}

/// A step of an answer.
pub enum Step {
    /// Text to append.
    Delta(String),
    /// The end. Nothing follows.
    End(Box<Result<Finished, CallFailure>>),
}

/// A call whose model has begun to answer.
pub struct Answering {
    /// Who answers.
    pub route: Route,
    /// What was decided about the request.
    pub policy: PolicyOutcome,
    /// Whether it is the answer of an earlier call with the same idempotency key.
    pub replayed: bool,
    steps: mpsc::UnboundedReceiver<Step>,
}
impl Answering {
    /// The next step; after the end there is none.
    pub async fn next(&mut self) -> Option<Step> {
        self.steps.recv().await
    }

    /// The end, whatever is told before it.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn finish(mut self) -> Result<Finished, CallFailure> {
        while let Some(step) = self.next().await {
            if let Step::End(end) = step {
                return *end;
            }
        }
        Err(Error::internal("a call without an end").into())
    }
}

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct ModelGateway {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    book: TenantBook,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    lines: Lines,
    policy: Policy,
    catalogue: Catalogue,
    keys: Keys,
    node: String,
    timeout: Duration,
    patience: Duration,
}

impl ModelGateway {
    /// A gateway over the given ports.
    #[must_use]
    pub fn new(
        store: Store,
        book: TenantBook,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        lines: Lines,
        policy: Policy,
        options: GatewayOptions,
    ) -> Self {
        let GatewayOptions { models, announced, node, timeout, patience } = options;
        let catalogue = Catalogue::new(models, announced);
        Self {
            inner: Arc::new(Inner { store, book, clock, ids, lines, policy, catalogue, keys: Keys::default(), node, timeout, patience }),
        }
    }

    /// Models that the caller's tenant may use, by id.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope `models:list`; database errors.
    pub async fn models(&self, caller: &Caller) -> Result<Vec<Model>> {
        caller.require(Scope::ModelsList)?;
        let entitlements = self.inner.entitlements(caller).await?;
        let all = self.inner.catalogue.models(&self.inner.lines);
        Ok(all.into_iter().filter(|model| entitlements.against(model).is_empty()).collect())
    }

    /// Whether the catalogue has something of this name, whoever may use it.
    #[must_use]
    pub fn knows(&self, model_ref: &str) -> bool {
        match Reference::parse(model_ref) {
            Some(Reference::Tier(_)) => true,
            Some(Reference::Id(id)) => self.inner.catalogue.models(&self.inner.lines).iter().any(|model| model.id == id),
            None => false,
        }
    }

    /// What the content policy says of a text; the text that a model would see is not told.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope `policy:check`, [`Error::Invalid`] for an unknown rule set; database errors.
    pub async fn check(&self, caller: &Caller, text: &str, ruleset: &str) -> Result<PolicyOutcome> {
        caller.require(Scope::PolicyCheck)?;
        let ruleset = Ruleset::parse(ruleset).ok_or_else(|| Error::invalid("policy_check.ruleset", "must be default or strict"))?;
        self.inner.book.admit(caller.tenant).await?;
        let mut review = self.inner.policy.review(ruleset);
        review.part(Some(0));
        review.text(text);
        let outcome = review.outcome();
        count(&outcome);
        let record = self.inner.record(caller, "policy.check", &outcome);
        audit::write(&self.inner.store, &record).await;
        Ok(PolicyOutcome::of(outcome))
    }

    /// Reads the text of a message for an agent as it would read one for a model: what the agent may see.
    ///
    /// # Errors
    /// [`CallFailure::Blocked`].
    pub async fn screen(&self, caller: &Caller, text: &str) -> Result<(String, PolicyOutcome), CallFailure> {
        let mut review = self.inner.policy.review(Ruleset::Default);
        review.part(Some(0));
        let masked = review.text(text);
        let outcome = review.outcome();
        count(&outcome);
        if outcome.decision == Decision::Blocked {
            return Err(self.inner.blocked(caller, outcome.reasons).await);
        }
        Ok((masked, PolicyOutcome::of(outcome)))
    }

    /// Makes a call. Returns when a model has begun to answer, or when none can.
    ///
    /// # Errors
    /// [`CallFailure`].
    pub async fn invoke(&self, caller: &Caller, call: NewCall) -> Result<Answering, CallFailure> {
        caller.require(Scope::ModelsInvoke)?;
        check_input(&call)?;
        let key = match &call.idempotency {
            Some((key, digest)) => {
                let held = self.inner.keys.hold(caller, key).await;
                if let Some(replay) = self.inner.earlier(caller, key, digest).await? {
                    return Ok(replay);
                }
                Some(held)
            }
            None => None,
        };
        let mut call = call;
        let outcome = self.inner.review(&mut call.input);
        count(&outcome);
        if outcome.decision == Decision::Blocked {
            return Err(self.inner.blocked(caller, outcome.reasons).await);
        }
        let drive = self.inner.clone().prepare(caller, call, outcome, key).await?;
        let (opening, opened) = oneshot::channel();
        let (steps, receiver) = mpsc::unbounded_channel();
        // On its own: what is reserved is settled whether or not the client still waits.
        tokio::spawn(drive.run(opening, steps));
        let (route, policy) = opened.await.map_err(Error::internal)??;
        Ok(Answering { route, policy, replayed: false, steps: receiver })
    }

    /// The model of a tier, or one that stands in for it, that answers a run of an agent of the caller's tenant. `tokens` are those of the
    /// question and the most of the answer; `providers` are those that the agent may use, none named = all.
    ///
    /// # Errors
    /// [`Error::Forbidden`] `policy_blocked` when the tenant or the agent may use none, [`Error::Conflict`] when there is none,
    /// [`Error::Unavailable`] when those that there are cannot be reached.
    pub(crate) async fn for_agent(&self, caller: &Caller, tier: Tier, tokens: (u64, u32), providers: &[String]) -> Result<ChosenModel> {
        let inner = &self.inner;
        let mut entitlements = inner.entitlements(caller).await?;
        if !providers.is_empty() {
            let named = |name: &String| providers.iter().any(|provider| provider.eq_ignore_ascii_case(name));
            entitlements.backends = Some(match entitlements.backends.take() {
                Some(both) => both.into_iter().filter(named).collect(),
                None => providers.to_vec(),
            });
        }
        let ask = Ask {
            reference: Reference::Tier(tier),
            operation: Operation::Chat,
            input_tokens: tokens.0,
            longest_tokens: tokens.0,
            output_tokens: tokens.1,
            max_latency_ms: None,
            max_cost: None,
            min_context_tokens: None,
        };
        let (models, choices) = inner.choose(&ask, &entitlements).map_err(|failure| match failure {
            CallFailure::App(error) => error,
            CallFailure::Blocked(reasons) => Error::forbidden("policy_blocked", format!("blocked by policy: {}", reasons.join(", "))),
            CallFailure::Unavailable(_) | CallFailure::Timeout => {
                Error::unavailable("dependency_unavailable", "no model of this tier can be reached now")
            }
            CallFailure::NotFound(_) | CallFailure::Unmet(_) | CallFailure::Refused(_) => {
                Error::conflict("conflict", format!("no model can answer this run as tier {}", tier.as_str()))
            }
        })?;
        let chosen =
            choices.first().and_then(|choice| models.get(choice.index)).ok_or_else(|| Error::internal("a route without a model"))?;
        Ok(ChosenModel { provider: chosen.provider.clone(), name: chosen.name.clone() })
    }

    /// A new id for a request that brings none.
    #[must_use]
    pub fn request_id(&self) -> String {
        format!("req_{}", self.inner.ids.uuid().simple())
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> aiox_model::Ts {
        self.inner.clock.now()
    }

    /// Closes calls that an earlier process left open, and forgets idempotency keys and responses that are too old. Call it at start
    /// and now and then.
    ///
    /// # Errors
    /// Database errors.
    pub async fn tidy(&self) -> Result<()> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let longest = i64::try_from(inner.timeout.as_secs()).unwrap_or(i64::MAX / 2).saturating_add(60);
        let mut tx = inner.store.begin().await?;
        let interrupted = ledger::interrupt(&mut tx, now.plus_seconds(-longest), now).await?;
        ledger::forget_keys(&mut tx, now.plus_seconds(-keys::TTL_SECONDS)).await?;
        aiox_store::responses::purge(&mut tx, now.plus_seconds(-responses::KEPT_SECONDS)).await?;
        tx.commit().await?;
        if interrupted > 0 {
            tracing::warn!(calls = interrupted, "calls of models were interrupted by an earlier stop of this hub");
        }
        Ok(())
    }
}

impl Inner {
    async fn entitlements(&self, caller: &Caller) -> Result<Entitlements> {
        let known = self.book.admit(caller.tenant).await?;
        Ok(Entitlements::of(&known.row.entitlements, &known.row.policy))
    }

    /// Reads everything that a model would see and masks it in place.
    fn review(&self, input: &mut Input) -> Outcome {
        let mut review = self.policy.review(Ruleset::Default);
        match input {
            Input::Chat { messages, tools, .. } => {
                for (index, message) in messages.iter_mut().enumerate() {
                    review.part(Some(index));
                    message.content = review.text(&message.content);
                    message.name = message.name.as_ref().map(|name| review.text(name));
                    for ToolCall { arguments, .. } in &mut message.tool_calls {
                        // Valid JSON by `check_input`.
                        if let Ok(mut value) = serde_json::from_str(arguments) {
                            review.json(&mut value);
                            *arguments = value.to_string();
                        }
                    }
                }
                review.part(None);
                for tool in tools {
                    tool.description = review.text(&tool.description);
                    review.json(&mut tool.parameters);
                }
            }
            Input::Embed { texts, .. } => {
                for (index, text) in texts.iter_mut().enumerate() {
                    review.part(Some(index));
                    *text = review.text(text);
                }
            }
        }
        review.outcome()
    }

    fn record(&self, caller: &Caller, action: &str, outcome: &Outcome) -> aiox_store::audit::AuditRow {
        let mut record = audit::record(&*self.clock, &*self.ids, caller, action, None);
        if outcome.decision == Decision::Blocked {
            record.outcome = "denied".into();
            record.severity = "warn".into();
        }
        record.detail = (!outcome.reasons.is_empty()).then(|| outcome.reasons.join(","));
        record
    }

    /// Records a call that may not be made.
    async fn blocked(&self, caller: &Caller, reasons: Vec<String>) -> CallFailure {
        let outcome = Outcome { decision: Decision::Blocked, reasons, redactions: Vec::new() };
        audit::write(&self.store, &self.record(caller, "models.invoke", &outcome)).await;
        CallFailure::Blocked(outcome.reasons)
    }

    /// The answer that an earlier call with this key got.
    async fn earlier(&self, caller: &Caller, key: &str, digest: &[u8]) -> Result<Option<Answering>, CallFailure> {
        let mut db = self.store.read().await?;
        let Some(earlier) = ledger::earlier(&mut db, caller.tenant.uuid(), &caller.principal.key(), key).await? else { return Ok(None) };
        if earlier.digest != digest {
            return Err(Error::conflict("conflict", "this idempotency key was used for another request").into());
        }
        let Some(answer) = earlier.answer else {
            return Err(Error::conflict("conflict", "the first call with this idempotency key has not ended").into());
        };
        let finished: Finished = serde_json::from_str(&answer).map_err(Error::internal)?;
        let (route, policy) = (finished.route.clone(), finished.policy.clone());
        let (steps, receiver) = mpsc::unbounded_channel();
        let _ = steps.send(Step::End(Box::new(Ok(finished))));
        Ok(Some(Answering { route, policy, replayed: true, steps: receiver }))
    }

    /// Chooses the models and reserves what the call may use.
    async fn prepare(
        self: Arc<Self>,
        caller: &Caller,
        mut call: NewCall,
        outcome: Outcome,
        key: Option<keys::Held>,
    ) -> Result<Drive, CallFailure> {
        let known = self.book.admit(caller.tenant).await?;
        let entitlements = Entitlements::of(&known.row.entitlements, &known.row.policy);
        let reference = Reference::parse(&call.model_ref).ok_or_else(|| CallFailure::NotFound(call.model_ref.clone()))?;
        let question = tokens_of(&call.input);
        let wanted = match &call.input {
            Input::Chat { generation, .. } => generation.max_output_tokens.unwrap_or(DEFAULT_OUTPUT_TOKENS),
            Input::Embed { .. } => 0,
        };
        // A budget of money cannot hold what has no price.
        let budget = known.limits.budget.and_then(|budget| budget.cost);
        let ask = Ask {
            reference,
            operation: call.input.operation(),
            input_tokens: question,
            longest_tokens: match &call.input {
                Input::Chat { .. } => question,
                Input::Embed { texts, .. } => texts.iter().map(|text| estimate([text.as_str()])).max().unwrap_or(0),
            },
            output_tokens: wanted,
            max_latency_ms: call.max_latency_ms,
            max_cost: match (call.max_cost, budget) {
                (Some(most), Some(budget)) => Some(most.min(budget)),
                (most, budget) => most.or(budget),
            },
            min_context_tokens: call.min_context_tokens,
        };
        let (models, choices) = match self.choose(&ask, &entitlements) {
            Ok(chosen) => chosen,
            Err(CallFailure::Blocked(reasons)) => return Err(self.blocked(caller, reasons).await),
            Err(failure) => return Err(failure),
        };
        let cost = |model: &Model| model.price.map_or(0, |price| price.cost(question, u64::from(wanted)));
        let most = choices.iter().map(|choice| cost(&models[choice.index])).max().unwrap_or(0);
        let reservation = self.book.reserve_call(caller, question, wanted, most).await?;
        let mut outcome = outcome;
        if let Input::Chat { generation, .. } = &mut call.input {
            if reservation.answer_tokens < wanted {
                outcome.reasons.push("max_output_tokens:clamped".into());
            }
            generation.max_output_tokens = Some(reservation.answer_tokens);
        }
        let tokens = question.saturating_add(u64::from(reservation.answer_tokens));
        let (id, at) = (self.ids.uuid(), self.clock.now());
        let row = ledger::NewCall {
            id,
            tenant: caller.tenant.uuid(),
            principal: caller.principal.key(),
            request_id: call.request_id.clone(),
            operation: call.input.operation().as_str(),
            model_ref: call.model_ref.clone(),
            decision: outcome.decision.as_str(),
            reserved_tokens: tokens,
            reserved_cost: most,
            idempotency: call.idempotency.clone(),
            trace: caller.trace.to_string(),
            at,
        };
        let mut record = self.record(caller, "models.invoke", &outcome);
        record.resource_type = Some("model".into());
        record.resource_id = Some(call.model_ref.clone());
        let written = self.clone().write(row, record, caller.limits).await;
        if let Err(error) = written {
            self.book.settle(reservation, 0, 0).await?;
            return Err(error.into());
        }
        let choices = choices.into_iter().map(|choice| (models[choice.index].clone(), choice)).collect();
        let kept = call.idempotency.is_some();
        Ok(Drive {
            gateway: self,
            id,
            principal: caller.principal.key(),
            trace: caller.trace.to_string(),
            input: call.input,
            stream: call.stream,
            choices,
            outcome: PolicyOutcome::of(outcome),
            question,
            reserved: tokens,
            reserved_at: at,
            reservation,
            keep: kept,
            _key: key,
        })
    }

    fn choose(&self, ask: &Ask, entitlements: &Entitlements) -> Result<(Vec<Model>, Vec<Choice>), CallFailure> {
        let models = self.catalogue.models(&self.lines);
        let candidates = self.catalogue.candidates(&models, ask.operation, &self.lines, self.clock.now());
        let choices = route(ask, &candidates, entitlements).map_err(|refusal| CallFailure::of(refusal, ask))?;
        Ok((models, choices))
    }

    /// Writes the call into the ledger and takes it from the principal's allowance.
    async fn write(self: Arc<Self>, row: ledger::NewCall, record: aiox_store::audit::AuditRow, limits: quota::Limits) -> Result<()> {
        whole(async move {
            let mut tx = self.store.begin().await?;
            if !ledger::open(&mut tx, &row).await? {
                return Err(Error::conflict("conflict", "the first call with this idempotency key has not ended"));
            }
            let take = quotas::Take { principal: &row.principal, at: row.at, tokens: row.reserved_tokens, limits };
            if let Err(exhausted) = quotas::take(&mut tx, &take).await? {
                // Nothing of it stays.
                return Err(crate::runs::over_quota(exhausted, row.at, limits));
            }
            aiox_store::audit::insert(&mut tx, &record).await?;
            tx.commit().await
        })
        .await
    }
}

fn count(outcome: &Outcome) {
    match outcome.decision {
        Decision::Blocked => metrics::counter!("agentos_policy_block_count").increment(1),
        Decision::Redacted => metrics::counter!("agentos_redaction_count").increment(outcome.redactions.len() as u64),
        Decision::Allowed => {}
    }
}
