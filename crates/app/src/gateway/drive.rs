//! One call from its first attempt to its settlement.

use std::{sync::Arc, time::Duration};

use aiox_core::{
    Error, Result,
    gateway::{Choice, Model, estimate},
};
use aiox_model::Ts;
use aiox_store::{ledger, quotas};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use super::{
    CallFailure, Finished, Inner, PolicyOutcome, Route, Step,
    call::{Answer, Ended, Input, Order},
    keys,
    lines::{NoLine, Said},
};
use crate::Reservation;

/// Texts of one order; more are sent one order after the other, so that an answer fits into a message.
const TEXTS_AT_ONCE: usize = 128;
/// Time for a stopped worker to say what it has used.
const FAREWELL: Duration = Duration::from_secs(5);
/// Attempts to write the end of a call.
const WRITES: u32 = 5;
/// Largest answer that is kept for a repetition, in bytes of JSON.
const MAX_KEPT: usize = 4 * 1024 * 1024;

pub(super) type Opening = oneshot::Sender<Result<(Route, PolicyOutcome), CallFailure>>;

pub(super) struct Drive {
    pub(super) gateway: Arc<Inner>,
    pub(super) id: Uuid,
    pub(super) principal: String,
    pub(super) trace: String,
    pub(super) input: Input,
    pub(super) stream: bool,
    pub(super) choices: Vec<(Model, Choice)>,
    pub(super) outcome: PolicyOutcome,
    pub(super) question: u64,
    pub(super) reserved: u64,
    pub(super) reserved_at: Ts,
    pub(super) reservation: Reservation,
    /// Whether the answer is kept for a repetition.
    pub(super) keep: bool,
    /// Held until the end is written.
    pub(super) _key: Option<keys::Held>,
}

/// What all attempts have used.
#[derive(Default)]
struct Used {
    input_tokens: u64,
    output_tokens: u64,
    cost: u64,
    /// Whether every model that used anything has a price.
    unpriced: bool,
}
impl Used {
    fn add(&mut self, model: &Model, input_tokens: u64, output_tokens: u64) {
        self.input_tokens += input_tokens;
        self.output_tokens += output_tokens;
        match model.price {
            Some(price) => self.cost += price.cost(input_tokens, output_tokens),
            None => self.unpriced |= input_tokens + output_tokens > 0,
        }
    }
}

/// How one attempt ended.
enum Attempt {
    Answered(Answer),
    /// The code of the failure; whether something of the answer has been told already.
    Failed(String, bool),
    /// Nobody reads the answer any more.
    Deserted,
}

/// The reader of a call.
struct Reader {
    opening: Option<Opening>,
    steps: mpsc::UnboundedSender<Step>,
}
impl Reader {
    /// Tells who answers, once. `false`: the reader has gone.
    fn open(&mut self, route: &Route, outcome: &PolicyOutcome) -> bool {
        let Some(opening) = self.opening.take() else { return true };
        opening.send(Ok((route.clone(), outcome.clone()))).is_ok()
    }
}

impl Drive {
    /// Tries the models one after the other, and settles.
    pub(super) async fn run(self, opening: Opening, steps: mpsc::UnboundedSender<Step>) {
        let began = Instant::now();
        let deadline = began + self.gateway.timeout;
        let mut reader = Reader { opening: Some(opening), steps };
        let mut used = Used::default();
        let mut last = "no_worker".to_owned();
        let mut result = None;
        for (model, choice) in &self.choices {
            let route = Route {
                backend: model.provider.clone(),
                model: model.id.clone(),
                tier: model.tier.as_str().to_owned(),
                fallback_used: choice.fallback,
                reason: choice.reason.clone(),
            };
            let started = Instant::now();
            let attempt = self.attempt(model, &route, deadline, &mut reader, &mut used).await;
            let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            match attempt {
                Attempt::Answered(answer) => {
                    self.gateway.catalogue.worked(model, millis);
                    result = Some((route, Ok(answer)));
                }
                Attempt::Deserted => result = Some((route, Err(CallFailure::Unavailable("canceled".into())))),
                Attempt::Failed(code, told) => {
                    metrics::counter!("agentos_model_error_rate", "backend" => model.provider.clone(), "code" => code.clone()).increment(1);
                    if lies_with_backend(&code) {
                        self.gateway.catalogue.failed(model, self.gateway.clock.now());
                    }
                    let late = Instant::now() >= deadline || code == "timeout";
                    let failure = match code.as_str() {
                        _ if late => CallFailure::Timeout,
                        "context_too_long" | "provider_error" | "invalid_task" => CallFailure::Refused(code.clone()),
                        _ => CallFailure::Unavailable(code.clone()),
                    };
                    last = code;
                    if told || late || matches!(failure, CallFailure::Refused(_)) {
                        result = Some((route, Err(failure)));
                    }
                }
            }
            if result.is_some() {
                break;
            }
        }
        let (route, result) = match result {
            Some((route, result)) => (Some(route), result),
            None => (None, Err(CallFailure::Unavailable(last))),
        };
        self.finish(route, result, used, reader, began).await;
    }

    /// One model. Its orders follow one another: one, or more for many texts.
    async fn attempt(&self, model: &Model, route: &Route, deadline: Instant, reader: &mut Reader, used: &mut Used) -> Attempt {
        let parts = match &self.input {
            Input::Chat { .. } => vec![self.input.clone()],
            Input::Embed { texts, dimensions } => {
                texts.chunks(TEXTS_AT_ONCE).map(|texts| Input::Embed { texts: texts.to_vec(), dimensions: *dimensions }).collect()
            }
        };
        let mut whole = Answer::default();
        for (at, part) in parts.into_iter().enumerate() {
            let expected = match &part {
                Input::Embed { texts, .. } => texts.len(),
                Input::Chat { .. } => 0,
            };
            let mut attempt = self.order(model, route, part.clone(), deadline, reader, used).await;
            // A worker that is leaving, or was full though it seemed free, is no failure of the model.
            if matches!(&attempt, Attempt::Failed(code, false) if ["worker_busy", "worker_draining", "worker_lost"].contains(&code.as_str()))
            {
                attempt = self.order(model, route, part, deadline, reader, used).await;
            }
            match attempt {
                Attempt::Answered(answer) if answer.vectors.len() != expected => return Attempt::Failed("worker_error".into(), false),
                Attempt::Answered(answer) if at == 0 => whole = answer,
                Attempt::Answered(answer) => {
                    whole.vectors.extend(answer.vectors);
                    whole.input_tokens += answer.input_tokens;
                }
                other => return other,
            }
        }
        Attempt::Answered(whole)
    }

    async fn order(&self, model: &Model, route: &Route, input: Input, deadline: Instant, reader: &mut Reader, used: &mut Used) -> Attempt {
        let left = deadline.saturating_duration_since(Instant::now());
        let order = Order {
            id: self.gateway.ids.uuid(),
            provider: model.provider.clone(),
            model: model.name.clone(),
            input: capped(input, model),
            stream: self.stream,
            timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
            trace: self.trace.clone(),
        };
        let mut ongoing = match self.gateway.lines.begin(order, left.min(self.gateway.patience)).await {
            Ok(ongoing) => ongoing,
            Err(NoLine::Unserved) => return Attempt::Failed("no_worker".into(), false),
            Err(NoLine::Busy) => return Attempt::Failed("workers_busy".into(), false),
        };
        let (mut said, mut deserted) = (String::new(), false);
        let mut until = deadline;
        loop {
            let gone = async {
                match &mut reader.opening {
                    Some(opening) => opening.closed().await,
                    None => reader.steps.closed().await,
                }
            };
            let next = tokio::select! {
                next = ongoing.next() => next,
                () = gone, if !deserted => {
                    // Stopped, and still heard: what it has used so far has to be paid.
                    deserted = true;
                    ongoing.stop();
                    until = until.min(Instant::now() + FAREWELL);
                    continue;
                }
                () = tokio::time::sleep_until(until) => {
                    used.add(model, self.question, estimate([said.as_str()]));
                    return if deserted { Attempt::Deserted } else { Attempt::Failed("timeout".into(), !said.is_empty()) };
                }
            };
            match next {
                Some(Said::Delta(text)) => {
                    said.push_str(&text);
                    if !deserted && reader.open(route, &self.outcome) {
                        // A reader that has gone is noticed by the branch above.
                        let _ = reader.steps.send(Step::Delta(text));
                    }
                }
                Some(Said::End(end)) => {
                    let Ended { mut answer, error } = *end;
                    if answer.input_tokens + answer.output_tokens == 0 && (error.is_none() || !said.is_empty()) {
                        // The provider does not count; an estimate is better than nothing.
                        answer.input_tokens = self.question;
                        answer.output_tokens = estimate([if said.is_empty() { answer.text.as_str() } else { said.as_str() }]);
                    }
                    used.add(model, answer.input_tokens, answer.output_tokens);
                    return match error {
                        _ if deserted => Attempt::Deserted,
                        None => Attempt::Answered(answer),
                        Some(code) => Attempt::Failed(code, !said.is_empty()),
                    };
                }
                None => {
                    if !said.is_empty() {
                        used.add(model, self.question, estimate([said.as_str()]));
                    }
                    return if deserted { Attempt::Deserted } else { Attempt::Failed("worker_lost".into(), !said.is_empty()) };
                }
            }
        }
    }

    /// Writes what the call came to, and then tells it.
    async fn finish(self, route: Option<Route>, result: Result<Answer, CallFailure>, used: Used, mut reader: Reader, began: Instant) {
        let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let cost = (!used.unpriced).then_some(used.cost);
        let told = match (result, &route) {
            (Ok(answer), Some(route)) => Ok(Finished { answer, route: route.clone(), policy: self.outcome.clone(), cost, latency_ms }),
            (Ok(_), None) => Err(Error::internal("an answer of no model").into()),
            (Err(failure), _) => Err(failure),
        };
        let answer = match &told {
            Ok(finished) if self.keep => serde_json::to_string(finished).ok().filter(|json| json.len() <= MAX_KEPT),
            _ => None,
        };
        let model_failed = told.as_ref().err().map(|failure: &CallFailure| match failure {
            CallFailure::Unavailable(code) | CallFailure::Refused(code) => code.clone(),
            other => other.code().to_owned(),
        });
        let ended = ledger::Ended {
            model: route.as_ref().map(|route| route.model.clone()),
            provider: route.as_ref().map(|route| route.backend.clone()),
            fallback: route.as_ref().is_some_and(|route| route.fallback_used),
            input_tokens: used.input_tokens,
            output_tokens: used.output_tokens,
            cost,
            latency_ms,
            // An answer that is too large to be kept gives its key free.
            error: model_failed.clone().or_else(|| (self.keep && answer.is_none()).then(|| "not_kept".to_owned())),
            answer,
        };
        metrics(&route, &used, model_failed.is_none(), latency_ms);
        self.settle(&ended, &used).await;
        match told {
            Ok(finished) => {
                reader.open(&finished.route, &finished.policy);
                let _ = reader.steps.send(Step::End(Box::new(Ok(finished))));
            }
            Err(failure) => match reader.opening.take() {
                Some(opening) => drop(opening.send(Err(failure))),
                None => drop(reader.steps.send(Step::End(Box::new(Err(failure))))),
            },
        }
    }

    /// Charges what was used in place of what was reserved. Tried again while the database is away; after that the reservation stays
    /// charged, and the next start closes the row.
    async fn settle(&self, ended: &ledger::Ended, used: &Used) {
        let tokens = used.input_tokens + used.output_tokens;
        for attempt in 1..=WRITES {
            let written = async {
                let now = self.gateway.clock.now();
                let mut tx = self.gateway.store.begin().await?;
                if ledger::close(&mut tx, self.id, ended, now).await? {
                    let settle =
                        quotas::Settle { principal: &self.principal, accepted_at: self.reserved_at, reserved: self.reserved, used: tokens };
                    quotas::settle(&mut tx, &settle).await?;
                }
                tx.commit().await?;
                self.gateway.book.settle(self.reservation.clone(), tokens, used.cost).await
            };
            match written.await {
                Ok(()) => return,
                Err(error) if attempt < WRITES => {
                    tracing::warn!(call = %self.id, error = %error.chain(), "the end of a call is not written yet");
                    tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(attempt)).await;
                }
                Err(error) => tracing::error!(call = %self.id, error = %error.chain(), "the end of a call could not be written"),
            }
        }
    }
}

/// A request with no longer answer than the model can give.
fn capped(mut input: Input, model: &Model) -> Input {
    if let (Input::Chat { generation, .. }, Some(most)) = (&mut input, model.max_output_tokens) {
        generation.max_output_tokens = generation.max_output_tokens.map(|wanted| wanted.min(most));
    }
    input
}

/// Whether a failure says something about the model's backend rather than about the request or the worker's moment.
fn lies_with_backend(code: &str) -> bool {
    matches!(
        code,
        "provider_unauthorized"
            | "provider_rate_limited"
            | "provider_unavailable"
            | "provider_timeout"
            | "model_not_found"
            | "worker_error"
            | "timeout"
    )
}

fn metrics(route: &Option<Route>, used: &Used, answered: bool, latency_ms: u64) {
    let label = |name: fn(&Route) -> &String| route.as_ref().map_or_else(|| "none".to_owned(), |route| name(route).clone());
    let (backend, model) = (label(|route| &route.backend), label(|route| &route.model));
    let status = if answered { "ok" } else { "error" };
    metrics::counter!("agentos_model_request_count", "backend" => backend.clone(), "status" => status).increment(1);
    metrics::counter!("agentos_route_distribution", "backend" => backend.clone(), "model" => model).increment(1);
    metrics::counter!("agentos_token_usage", "direction" => "in").increment(used.input_tokens);
    metrics::counter!("agentos_token_usage", "direction" => "out").increment(used.output_tokens);
    #[expect(clippy::cast_precision_loss, reason = "micro-dollars of a process")]
    metrics::gauge!("agentos_cost_estimate").increment(used.cost as f64 / 1_000_000.0);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of one call")]
    metrics::histogram!("agentos_model_latency_ms", "backend" => backend).record(latency_ms as f64);
}
