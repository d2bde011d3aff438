//! Accepting a run: everything that must be durable before its sender is told so.

use std::sync::Arc;

use aiox_core::{Error, Result, quota, tenant};
use aiox_model::{Ts, run::RunStatus};
use uuid::Uuid;

use super::insert::{EventRow, MessageRow, Rows};
use crate::{
    Tx,
    audit::AuditRow,
    db::{exec, row},
    quotas::{self, Take},
    rows::signed,
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
    /// Correlation id.
    pub trace: String,
    /// Now.
    pub at: Ts,
    /// Id of event 1.
    pub event: Uuid,
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

pub(super) async fn apply(tx: &mut Tx, accept: &Accept, rows: &mut Rows) -> Result<Accepted> {
    if let Some(inbound) = &accept.inbound
        && let Some(seen) = crate::federation::receive(tx, inbound, accept.at).await?
    {
        return Ok(seen);
    }
    let (key, digest) = accept.idempotency.clone().unzip();
    let made = exec!(
        tx,
        "INSERT INTO runs (id, tenant_id, agent_id, agent_jid, peer, delivery, origin, conversation_id, principal, door, status, priority, \
         input, input_tokens, output_tokens, reserved_tokens, attempt, idem_key, idem_digest, reply, timeout_ms, last_seq, trace, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, 0, $14, 0, $15, $16, $17, $18, 1, $19, $20) ON CONFLICT DO NOTHING",
        accept.run,
        accept.tenant,
        accept.agent,
        &accept.agent_jid,
        accept.peer.as_deref(),
        accept.peer.as_ref().map(|_| "queued"),
        accept.origin.as_deref(),
        accept.conversation,
        &accept.principal,
        accept.door,
        RunStatus::Queued.as_str(),
        accept.priority,
        &accept.input,
        signed(accept.reserved),
        key.as_deref(),
        digest.as_deref(),
        accept.reply.as_deref(),
        signed(accept.timeout_ms),
        &accept.trace,
        accept.at.micros(),
    )?;
    if made == 0 {
        return replay(tx, accept, key.as_deref(), digest.as_deref()).await;
    }
    if accept.tenant_limits.limit_runs()
        && let Err(denied) = tenant_use::admit(tx, accept.tenant, accept.run, &accept.tenant_limits, accept.reserved, accept.at).await?
    {
        forget(tx, accept).await?;
        return Ok(Accepted::Denied(denied));
    }
    let take = Take { principal: &accept.principal, at: accept.at, tokens: accept.reserved, limits: accept.limits };
    if let Err(exhausted) = quotas::take(tx, &take).await? {
        if let Some(budget) = accept.tenant_limits.budget {
            tenant_use::settle(tx, accept.tenant, &budget.window.id(accept.at), -signed(accept.reserved), 0).await?;
        }
        forget(tx, accept).await?;
        return Ok(Accepted::OverQuota(exhausted));
    }
    exec!(
        tx,
        "INSERT INTO conversations (id, tenant_id, agent_jid, principal, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5) \
         ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at",
        accept.conversation,
        accept.tenant,
        &accept.agent_jid,
        &accept.principal,
        accept.at.micros(),
    )?;
    if let Some(outbound) = &accept.outbound {
        crate::federation::enqueue(tx, outbound, Some(accept.run), accept.at).await?;
    }
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
        at: accept.at,
        payload: accept.event_payload.clone(),
    });
    rows.audit.push(accept.audit.clone());
    Ok(Accepted::New)
}

/// Removes a refused run. The sender may try again when there is room: nothing of this attempt stays.
async fn forget(tx: &mut Tx, accept: &Accept) -> Result<()> {
    exec!(tx, "DELETE FROM runs WHERE id = $1", accept.run)?;
    if let Some(inbound) = &accept.inbound {
        exec!(tx, "DELETE FROM fed_inbox WHERE origin = $1 AND id = $2", &inbound.origin, inbound.id)?;
    }
    Ok(())
}

async fn replay(tx: &mut Tx, accept: &Accept, key: Option<&str>, digest: Option<&[u8]>) -> Result<Accepted> {
    let Some(key) = key else {
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
        Some((run, stored)) if stored.as_deref() == digest => Accepted::Replayed(run),
        Some(_) => Accepted::KeyConflict,
        None => return Err(Error::conflict("conflict", "a run with this id exists")),
    })
}
