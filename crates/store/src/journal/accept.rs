//! Accepting a run: everything that must be durable before its sender is told so.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aiox_core::{Error, Result, quota, tenant};
use aiox_model::{Ts, run::RunStatus};
use uuid::Uuid;

use super::{
    advance::{self, Advance},
    insert::{EventRow, MessageRow, Rows},
};
use crate::{
    Tx,
    audit::AuditRow,
    db::{exec, row},
    many::{Many, exec_many, rows_many},
    order,
    quotas::{self, Take},
    rows::signed,
    runs::RunRow,
    tenant_use,
};

/// A run to accept. Ids and times come from the use case.
#[derive(Clone)]
pub struct Accept {
    /// The run's id.
    pub run: Uuid,
    /// Its tenant.
    pub tenant: Uuid,
    /// The agent, if it lives here.
    pub agent: Option<Uuid>,
    /// The agent's address.
    pub agent_jid: String,
    /// Domain of the peer hub that executes it.
    pub peer: Option<String>,
    /// Node id of the peer hub that asked for it.
    pub origin: Option<String>,
    /// The conversation; made if it does not exist.
    pub conversation: Uuid,
    /// Key of the principal.
    pub principal: String,
    /// The way in.
    pub door: &'static str,
    /// Class of urgency.
    pub priority: i64,
    /// What was asked.
    pub input: String,
    /// Tokens to reserve.
    pub reserved: u64,
    /// Allowance of the principal.
    pub limits: quota::Limits,
    /// Limits of the tenant; a tenant without any costs nothing here.
    pub tenant_limits: tenant::Limits,
    /// Idempotency key with the digest of the request.
    pub idempotency: Option<(String, Vec<u8>)>,
    /// Where the answer goes besides the run (JSON).
    pub reply: Option<String>,
    /// Time the run may take, in milliseconds.
    pub timeout_ms: u64,
    /// What the run is bounded to (JSON), if it is.
    pub bounds: Option<String>,
    /// Correlation id.
    pub trace: String,
    /// Now.
    pub at: Ts,
    /// Id of event 1.
    pub event: Uuid,
    /// When event 1 happened: the same on every hub that has the run.
    pub event_at: Ts,
    /// Payload of event 1 (JSON).
    pub event_payload: String,
    /// Id of the user's message.
    pub message: Uuid,
    /// The audit record.
    pub audit: AuditRow,
    /// The envelope that brought it, when a peer hub sent it.
    pub inbound: Option<Inbound>,
    /// The envelope that takes it to the peer hub.
    pub outbound: Option<Outbound>,
}

impl Accept {
    /// The run that it makes.
    #[must_use]
    pub fn row(&self) -> RunRow {
        RunRow {
            id: self.run,
            tenant: self.tenant,
            agent: self.agent,
            agent_jid: self.agent_jid.clone(),
            peer: self.peer.clone(),
            delivery: self.peer.as_ref().map(|_| "queued".to_owned()),
            origin: self.origin.clone(),
            conversation: self.conversation,
            principal: self.principal.clone(),
            door: self.door.to_owned(),
            status: RunStatus::Queued,
            priority: self.priority,
            input: self.input.clone(),
            reserved: self.reserved,
            output: None,
            error: None,
            model_used: None,
            input_tokens: 0,
            output_tokens: 0,
            attempt: 0,
            worker: None,
            reply: self.reply.clone(),
            timeout_ms: self.timeout_ms,
            bounds: self.bounds.clone(),
            last_seq: 1,
            trace: self.trace.clone(),
            created_at: self.at,
            started_at: None,
            completed_at: None,
        }
    }
}

/// An envelope as received.
#[derive(Clone)]
pub struct Inbound {
    /// Node id of the sender.
    pub origin: String,
    /// The envelope's id.
    pub id: Uuid,
    /// Its digest.
    pub digest: String,
    /// Its bytes, as received.
    pub envelope: String,
    /// The verdict to repeat for duplicates (JSON).
    pub verdict: String,
    /// Its conversation.
    pub conv: String,
    /// Its place there.
    pub seq: u64,
    /// How the run ends that it brings, if a cancel came before it.
    pub canceled: Option<Advance>,
}

/// A signed envelope and its digest.
pub struct Sealed {
    /// The envelope (JSON).
    pub envelope: String,
    /// Its digest, the `prev` of the next one.
    pub digest: String,
}

/// Signs an envelope, given its `seq` and the digest of the one before.
pub type Seal = dyn Fn(u64, Option<&str>) -> Result<Sealed> + Send + Sync;

/// An envelope to be signed once its place in the conversation is known.
#[derive(Clone)]
pub struct Outbound {
    /// The envelope's id.
    pub id: Uuid,
    /// Domain of the peer.
    pub peer: String,
    /// Conversation key of the envelope.
    pub conv: String,
    /// Envelope type.
    pub kind: &'static str,
    /// When delivery stops.
    pub expires: Ts,
    /// Signs it.
    pub seal: Arc<Seal>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Durable.
    New,
    /// Durable, and ended: its cancel was here before it.
    Canceled,
    /// This key was used for the same request: the run it made.
    Replayed(Uuid),
    /// This key was used for another request.
    KeyConflict,
    /// The allowance is used up.
    OverQuota(quotas::Exhausted),
    /// A limit of the tenant is reached.
    Denied(tenant::Denied),
    /// This envelope is known: its stored digest and verdict.
    Seen {
        /// Digest of the envelope received first.
        digest: String,
        /// The verdict given then (JSON).
        verdict: String,
    },
}

/// Applies all of a batch; what became of each, in order.
///
/// Those that need no look at what came before them go together, with one statement per table. The others follow one by one:
/// those with an envelope, of a tenant with limits, and those that repeat a key of this batch.
pub(super) async fn apply(tx: &mut Tx, accepts: &[&Accept], rows: &mut Rows) -> Result<Vec<Accepted>> {
    let mut keys = HashSet::new();
    let (together, alone): (Vec<usize>, Vec<usize>) = (0..accepts.len()).partition(|&index| {
        let accept = accepts[index];
        let key = accept.idempotency.as_ref().map(|(key, _)| (accept.principal.as_str(), accept.agent_jid.as_str(), key.as_str()));
        let plain = accept.inbound.is_none() && accept.outbound.is_none() && !accept.tenant_limits.limit_runs();
        plain && key.is_none_or(|key| keys.insert(key))
    });
    let first: Vec<&Accept> = together.iter().map(|&index| accepts[index]).collect();
    let mut outcomes: Vec<Option<Accepted>> = vec![None; accepts.len()];
    for (index, outcome) in together.into_iter().zip(make(tx, &first, rows).await?) {
        outcomes[index] = Some(outcome);
    }
    for index in alone {
        outcomes[index] = Some(make_alone(tx, accepts[index], rows).await?);
    }
    outcomes.into_iter().map(|outcome| outcome.ok_or_else(|| Error::internal("a run of a batch had no outcome"))).collect()
}

async fn make_alone(tx: &mut Tx, accept: &Accept, rows: &mut Rows) -> Result<Accepted> {
    if let Some(inbound) = &accept.inbound {
        order::one_at_a_time(tx).await?;
        if let Some(seen) = crate::federation::receive(tx, inbound, accept.at).await? {
            return Ok(seen);
        }
    }
    let made = make(tx, &[accept], rows).await?.pop().ok_or_else(|| Error::internal("a run had no outcome"))?;
    match (&made, &accept.inbound, &accept.outbound) {
        // The sender may try again when there is room: nothing of this attempt stays.
        (Accepted::OverQuota(_) | Accepted::Denied(_), Some(inbound), _) => {
            exec!(tx, "DELETE FROM fed_inbox WHERE origin = $1 AND id = $2", &inbound.origin, inbound.id)?;
        }
        (Accepted::New, Some(inbound), _) => {
            order::raise(tx, &inbound.origin, &inbound.conv, inbound.seq, accept.at).await?;
            if let Some(end) = &inbound.canceled
                && order::take_cancel(tx, &inbound.origin, accept.run, accept.at).await?
            {
                advance::apply(tx, &[end], rows).await?;
                return Ok(Accepted::Canceled);
            }
        }
        (Accepted::New, _, Some(outbound)) => crate::federation::enqueue(tx, outbound, Some(accept.run), accept.at).await?,
        _ => {}
    }
    Ok(made)
}

static RUNS: Many = Many::new(
    "INSERT INTO runs (id, tenant_id, agent_id, agent_jid, peer, delivery, origin, conversation_id, principal, door, status, priority, \
     input, input_tokens, output_tokens, reserved_tokens, attempt, idem_key, idem_digest, reply, timeout_ms, last_seq, trace, created_at, \
     bounds) \
     SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, 'queued', column11, \
     column12, 0, 0, column13, 0, column14, column15, column16, column17, 1, column18, column19, column20 \
     FROM {rows} WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING RETURNING id",
    20,
);
static CONVERSATIONS: Many = Many::new(
    "INSERT INTO conversations (id, tenant_id, agent_jid, principal, created_at, updated_at) \
     SELECT column1, column2, column3, column4, column5, column5 FROM {rows} WHERE column1 IS NOT NULL \
     ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at",
    5,
);

/// Makes runs whose keys differ.
async fn make(tx: &mut Tx, accepts: &[&Accept], rows: &mut Rows) -> Result<Vec<Accepted>> {
    let made = rows_many!(tx, (Uuid,), RUNS, accepts, |accept| [
        accept.run,
        accept.tenant,
        accept.agent,
        accept.agent_jid.as_str(),
        accept.peer.as_deref(),
        accept.peer.as_ref().map(|_| "queued"),
        accept.origin.as_deref(),
        accept.conversation,
        accept.principal.as_str(),
        accept.door,
        accept.priority,
        accept.input.as_str(),
        signed(accept.reserved),
        accept.idempotency.as_ref().map(|(key, _)| key.as_str()),
        accept.idempotency.as_ref().map(|(_, digest)| digest.as_slice()),
        accept.reply.as_deref(),
        signed(accept.timeout_ms),
        accept.trace.as_str(),
        accept.at.micros(),
        accept.bounds.as_deref(),
    ]);
    let mut made: HashSet<Uuid> = made.into_iter().map(|(run,)| run).collect();
    let mut outcomes = Vec::with_capacity(accepts.len());
    for accept in accepts {
        // Taken out, so that a second run with this id is not taken for the first.
        outcomes.push(if made.remove(&accept.run) { Accepted::New } else { replay(tx, accept).await? });
    }
    reserve(tx, accepts, &mut outcomes).await?;
    let new = || accepts.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Accepted::New).map(|(accept, _)| *accept);
    // A row can be made or changed only once in one statement.
    let latest: HashMap<Uuid, &Accept> = new().map(|accept| (accept.conversation, accept)).collect();
    let mut latest: Vec<&Accept> = latest.into_values().collect();
    latest.sort_unstable_by_key(|accept| accept.conversation);
    exec_many!(tx, CONVERSATIONS, latest, |accept| [
        accept.conversation,
        accept.tenant,
        accept.agent_jid.as_str(),
        accept.principal.as_str(),
        accept.at.micros(),
    ]);
    for accept in new() {
        rows.messages.push(MessageRow {
            id: accept.message,
            conversation: accept.conversation,
            run: accept.run,
            role: "user",
            content: accept.input.clone(),
            at: accept.at,
        });
        rows.events.push(EventRow {
            run: accept.run,
            seq: 1,
            id: accept.event,
            kind: "run.created".into(),
            at: accept.event_at,
            payload: accept.event_payload.clone(),
        });
        rows.audit.push(accept.audit.clone());
    }
    Ok(outcomes)
}

/// Asks the limits of tenants and principals; the runs that they refuse go again.
async fn reserve(tx: &mut Tx, accepts: &[&Accept], outcomes: &mut [Accepted]) -> Result<()> {
    let mut new = Vec::with_capacity(accepts.len());
    for (index, accept) in accepts.iter().enumerate() {
        if outcomes[index] != Accepted::New {
            continue;
        }
        let limits = &accept.tenant_limits;
        if limits.limit_runs()
            && let Err(denied) = tenant_use::admit(tx, accept.tenant, accept.run, limits, accept.reserved, accept.at).await?
        {
            outcomes[index] = Accepted::Denied(denied);
        } else {
            new.push(index);
        }
    }
    let takes: Vec<Take<'_>> = new
        .iter()
        .map(|&index| {
            let accept = accepts[index];
            Take { principal: &accept.principal, at: accept.at, tokens: accept.reserved, limits: accept.limits }
        })
        .collect();
    for (index, taken) in new.into_iter().zip(quotas::take_all(tx, &takes).await?) {
        if let Err(exhausted) = taken {
            let accept = accepts[index];
            if let Some(budget) = accept.tenant_limits.budget {
                tenant_use::settle(tx, accept.tenant, &budget.window.id(accept.at), -signed(accept.reserved), 0).await?;
            }
            outcomes[index] = Accepted::OverQuota(exhausted);
        }
    }
    for (accept, outcome) in accepts.iter().zip(outcomes) {
        if matches!(outcome, Accepted::OverQuota(_) | Accepted::Denied(_)) {
            exec!(tx, "DELETE FROM runs WHERE id = $1", accept.run)?;
        }
    }
    Ok(())
}

async fn replay(tx: &mut Tx, accept: &Accept) -> Result<Accepted> {
    let Some((key, digest)) = &accept.idempotency else {
        return Err(Error::conflict("conflict", "a run with this id exists"));
    };
    let found = row!(
        tx,
        (Uuid, Option<Vec<u8>>),
        "SELECT id, idem_digest FROM runs WHERE principal = $1 AND agent_jid = $2 AND idem_key = $3",
        &accept.principal,
        &accept.agent_jid,
        key
    )?;
    Ok(match found {
        Some((run, stored)) if stored.as_ref() == Some(digest) => Accepted::Replayed(run),
        Some(_) => Accepted::KeyConflict,
        None => return Err(Error::conflict("conflict", "a run with this id exists")),
    })
}
