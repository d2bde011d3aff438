//! Delivery: drains the durable outbox towards each active peer, at least once, in order within a conversation.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aiox_core::ports::{Clock, Ids};
use aiox_model::{
    EnvelopeId, Ts,
    federation::{EnvelopeVerdict, Hello, MAX_BATCH_BYTES, MAX_BATCH_ITEMS, PROFILE_V1, Verdict, VerdictBatch},
};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::{
    task::{self, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff, envelope,
    link::{LinkError, Links},
    local::LocalNode,
    order::{Order, bounded},
    ports::{Outbox, Outcome, Outgoing},
    roster::Peer,
    token::Operation,
};

/// What delivery needs.
pub struct Delivery {
    /// This hub.
    pub local: Arc<LocalNode>,
    /// The links to the peers.
    pub links: Arc<Links>,
    /// What waits.
    pub outbox: Arc<dyn Outbox>,
    /// What came in, which a hello tells.
    pub order: Arc<Order>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for waiting times.
    pub ids: Arc<dyn Ids>,
}

/// Longest time without looking at the outbox: a safety net should a wake-up be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What a request needs around its envelopes, in bytes, generously.
const BATCH_FRAME: usize = 64;

impl Delivery {
    /// Delivers to every active peer until `stop`. A peer that becomes active gets its own task, one that no longer is loses it and its
    /// queue is parked.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        per_active_peer(Arc::clone(&self.links), stop, |domain, stop| {
            let delivery = Arc::clone(&self);
            async move { delivery.serve(&domain, stop).await }
        })
        .await;
    }

    async fn serve(&self, domain: &str, stop: CancellationToken) {
        let mut heard = self.links.roster().heard(domain);
        let mut wanted = self.links.roster().hello_wanted(domain);
        wanted.mark_changed();
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let step = async {
                // Not until it was said: a hello that fails is one more failed contact.
                if wanted.has_changed().unwrap_or(false) {
                    wanted.mark_unchanged();
                    self.greet(domain).await.inspect_err(|_| self.links.roster().want_hello(domain))?;
                }
                self.step(domain).await
            };
            let wait = match tokio::select! { () = stop.cancelled() => return, step = step => step } {
                Ok(Step::More) => {
                    failures = 0;
                    continue;
                }
                Ok(Step::Idle { wait, postponed }) => {
                    failures = 0;
                    heard.mark_unchanged();
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.outbox.added(domain) => {}
                        Ok(()) = wanted.changed() => {
                            // A bell that rings all the time does not make it talk all the time.
                            wanted.mark_changed();
                            sleep(backoff::floor()).await;
                        }
                        Ok(()) = heard.changed(), if postponed => {
                            sleep(backoff::floor()).await;
                            self.flush(domain).await;
                        }
                        () = sleep(wait) => {}
                    }
                    continue;
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    self.links.roster().want_hello(domain);
                    tracing::info!(peer = domain, failures, error = %chain(&failure), "delivery has to wait");
                    metrics::counter!("aiox_federation_delivery_failures_total", "peer" => domain.to_owned()).increment(1);
                    failure.retry_after().unwrap_or_default().max(backoff::wait(failures, self.ids.as_ref()))
                }
            };
            let floor = backoff::floor();
            tokio::select! { () = stop.cancelled() => return, () = sleep(floor) => {} }
            tokio::select! {
                () = stop.cancelled() => return,
                // The peer is there: what waits for it need not wait longer.
                Ok(()) = heard.changed() => self.flush(domain).await,
                () = sleep(wait.saturating_sub(floor)) => {}
            }
        }
    }

    /// Says hello: on start, after a failed contact, and when an envelope of the peer is missing here. The peer hears that we are there
    /// and flushes its own queue; each side hears what the other has, and sends again what it lacks.
    async fn greet(&self, domain: &str) -> Result<(), Failure> {
        let peer = self.links.roster().peer(domain).ok_or(LinkError::NotActive)?;
        let theirs = peer.document.nodes.first().map(|node| node.id.clone()).ok_or(LinkError::Endpoint)?;
        let (asked_at, marks) = (self.clock.now(), self.order.marks(&theirs).await?);
        let hello = Hello { node: self.local.id.clone(), time: asked_at, profiles: vec![PROFILE_V1.to_owned()], marks };
        let body = serde_json::to_vec(&hello).map_err(aiox_core::Error::internal)?;
        let theirs: Hello = self.links.call(domain, Method::POST, "/fed/v1/hello", Operation::Hello, body.into()).await?;
        let difference = theirs.time.seconds() - self.clock.now().seconds();
        metrics::gauge!("aiox_federation_clock_difference_seconds", "peer" => domain.to_owned()).set(difference as f64);
        let again = self.outbox.refill(domain, &bounded(theirs.marks), asked_at).await?;
        if again > 0 {
            tracing::warn!(peer = domain, envelopes = again, "the peer lacks what it had confirmed; it is sent again");
        }
        Ok(())
    }

    async fn flush(&self, domain: &str) {
        if let Err(error) = self.outbox.flush(domain, self.clock.now()).await {
            tracing::warn!(peer = domain, error = %error.chain(), "outbox could not be flushed");
        }
    }

    async fn step(&self, domain: &str) -> Result<Step, Failure> {
        let now = self.clock.now();
        let due = self.outbox.due(domain, now, u32::try_from(MAX_BATCH_ITEMS).unwrap_or(u32::MAX)).await?;
        if due.is_empty() {
            let next = self.outbox.next_due(domain).await?;
            let wait = next.map_or(LOOK_AGAIN, |at| Duration::from_millis(at.millis_since(now).max(10)).min(LOOK_AGAIN));
            return Ok(Step::Idle { wait, postponed: next.is_some() });
        }
        let (mut live, mut dead) = (Vec::with_capacity(due.len()), Vec::new());
        for item in due {
            if item.expires <= now {
                dead.push((item.id, Outcome::Expired));
            } else if size(&item) + BATCH_FRAME > MAX_BATCH_BYTES {
                dead.push((item.id, Outcome::Refused("too_large".to_owned())));
            } else {
                live.push(item);
            }
        }
        self.finish(domain, dead).await?;
        let batch = batch(live);
        if batch.is_empty() {
            return Ok(Step::More);
        }
        self.outbox.sent(&batch.iter().map(|item| item.id).collect::<Vec<_>>()).await?;
        let verdicts = self.send(domain, &batch).await?;
        let peer = self.links.roster().peer(domain).ok_or(LinkError::NotActive)?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (item, verdict) in batch.iter().zip(verdicts) {
            if let Some(outcome) = self.judge(&peer, item, verdict).await? {
                outcomes.push((item.id, outcome));
            }
        }
        let progress = !outcomes.is_empty();
        self.finish(domain, outcomes).await?;
        Ok(if progress { Step::More } else { Step::Idle { wait: backoff::floor(), postponed: false } })
    }

    async fn send(&self, domain: &str, batch: &[Outgoing]) -> Result<Vec<EnvelopeVerdict>, Failure> {
        let documents: Vec<&Value> = batch.iter().map(|item| &item.envelope).collect();
        let body = serde_json::to_vec(&serde_json::json!({ "envelopes": documents })).map_err(aiox_core::Error::internal)?;
        let answer: VerdictBatch =
            self.links.call(domain, Method::POST, "/fed/v1/envelopes", Operation::Deliver, Bytes::from(body)).await?;
        let matching =
            answer.verdicts.len() == batch.len() && answer.verdicts.iter().zip(batch).all(|(v, item)| v.id.is_none_or(|id| id == item.id));
        if matching { Ok(answer.verdicts) } else { Err(LinkError::Answer.into()) }
    }

    /// What a verdict means; `None`: the envelope waits on.
    async fn judge(&self, peer: &Peer, item: &Outgoing, verdict: EnvelopeVerdict) -> Result<Option<Outcome>, Failure> {
        let domain = &peer.record.domain;
        match verdict.verdict {
            Verdict::Accepted | Verdict::Duplicate => {
                let digest = envelope::digest(&item.envelope).map_err(aiox_core::Error::internal)?;
                let receipt = verdict.receipt.filter(|receipt| envelope::receipt_holds(receipt, peer, item.id, &digest));
                if receipt.is_none() {
                    // Without its proof the peer could deny later that it had the envelope. Sending it again is free of effects.
                    tracing::warn!(peer = %domain, envelope = %item.id, "the peer's receipt does not hold");
                    return self.postpone(domain, item, None, "receipt").await.map(|()| None);
                }
                Ok(Some(Outcome::Delivered(receipt)))
            }
            Verdict::Refused => {
                let code = verdict.code.unwrap_or_else(|| "refused".to_owned());
                Ok(Some(Outcome::Refused(short(&code))))
            }
            Verdict::Held | Verdict::Retry => {
                let code = verdict.code.unwrap_or_else(|| "retry".to_owned());
                self.postpone(domain, item, verdict.retry_after, &short(&code)).await.map(|()| None)
            }
        }
    }

    async fn finish(&self, domain: &str, outcomes: Vec<(EnvelopeId, Outcome)>) -> Result<(), Failure> {
        for (id, outcome) in &outcomes {
            let label = match outcome {
                Outcome::Delivered(_) => "delivered",
                Outcome::Refused(_) => "refused",
                Outcome::Expired => "expired",
            };
            metrics::counter!("aiox_federation_envelopes_total", "direction" => "out", "verdict" => label).increment(1);
            if label != "delivered" {
                tracing::warn!(peer = domain, envelope = %id, ?outcome, "an envelope was not delivered");
            }
        }
        Ok(self.outbox.finish(domain, outcomes).await?)
    }

    async fn postpone(&self, domain: &str, item: &Outgoing, retry_after: Option<u32>, reason: &str) -> Result<(), Failure> {
        let asked = Duration::from_secs(retry_after.unwrap_or_default().min(3600).into());
        let wait = asked.max(backoff::wait(item.attempts.saturating_add(1), self.ids.as_ref()));
        tracing::info!(peer = domain, envelope = %item.id, reason, "the peer asks to send an envelope again");
        Ok(self.outbox.postpone(item.id, later(self.clock.now(), wait), reason).await?)
    }
}

fn later(now: Ts, wait: Duration) -> Ts {
    Ts::from_micros(now.micros().saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
}

/// A peer's code as it may be stored and shown: short, and nothing but code characters.
fn short(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '.').take(64).collect()
}

/// As much as fits in one request, from the front; at least one.
fn batch(mut live: Vec<Outgoing>) -> Vec<Outgoing> {
    let mut bytes = BATCH_FRAME;
    let fitting = live.iter().take_while(|item| {
        bytes += size(item);
        bytes <= MAX_BATCH_BYTES
    });
    let count = fitting.count().max(1);
    live.truncate(count);
    live
}

fn size(item: &Outgoing) -> usize {
    serde_json::to_vec(&item.envelope).map_or(MAX_BATCH_BYTES, |text| text.len() + 1)
}

enum Step {
    /// Something was done; there may be more.
    More,
    /// Nothing is due for this long. `postponed`: something waits for its time.
    Idle { wait: Duration, postponed: bool },
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] aiox_core::Error),
}

impl Failure {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Link(LinkError::Status { status, retry_after }) if *status != StatusCode::UNAUTHORIZED => *retry_after,
            _ => None,
        }
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Keeps one task per active peer: started when it becomes active, stopped when it no longer is. A task that ends by itself, for
/// instance by a panic, is started again after a second.
pub(crate) async fn per_active_peer<F, T>(links: Arc<Links>, stop: CancellationToken, task: F)
where
    F: Fn(String, CancellationToken) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let mut changes = links.roster().changes();
    let mut running: HashMap<String, (task::Id, CancellationToken)> = HashMap::new();
    let mut tasks = JoinSet::new();
    while !stop.is_cancelled() {
        let active: Vec<String> = links.roster().all().iter().map(|peer| peer.record.domain.clone()).collect();
        for (_, (_, stop)) in running.extract_if(|domain, _| !active.contains(domain)) {
            stop.cancel();
        }
        for domain in active {
            running.entry(domain.clone()).or_insert_with(|| {
                let stop = stop.child_token();
                (tasks.spawn(task(domain, stop.clone())).id(), stop)
            });
        }
        tokio::select! {
            () = stop.cancelled() => {}
            changed = changes.changed() => if changed.is_err() { stop.cancel() },
            Some(ended) = tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                if running.extract_if(|_, (task, _)| *task == id).count() > 0 && !stop.is_cancelled() {
                    tracing::error!("a federation task ended by itself; it is started again");
                    tokio::select! { () = stop.cancelled() => {}, () = sleep(Duration::from_secs(1)) => {} }
                }
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}
