//! Runs that a program sends to a peer hub by its name: the call waits until the peer has the run, for a while.

use std::time::Duration;

use aiox_core::{Caller, Error, Result, Scope, agent};
use aiox_model::{AgentId, RunId};
use aiox_store::runs;

use super::{NewRun, Runs, Submitted};
use crate::{AgentRef, names::agents_domain};

/// Time that the peer has for taking the run. The published contract has the call answer within 10 s, retries included.
const BUDGET: Duration = Duration::from_secs(8);

impl Runs {
    /// Sends a run to an agent of a peer, and waits until it is durable there. The same run as at every other door.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); [`Error::Unavailable`] `peer_unreachable` when the peer did not take it in time: then a cancel
    /// follows it, so that a late delivery has no effect. What the peer refuses, as the peer says it.
    pub async fn forward(&self, caller: &Caller, peer: &str, agent: &str, mut new: NewRun) -> Result<Submitted> {
        caller.require(Scope::RunsForward)?;
        new.agent = at_peer(peer, agent).ok_or(Error::NotFound("agent"))?;
        let submitted = self.submit_as(caller, new, "federation.runs.forward").await?;
        let run = RunId(submitted.run.id);
        match tokio::time::timeout(BUDGET, self.taken(run)).await {
            Ok(taken) => taken?,
            Err(_) => {
                // It may have ended at this very moment; then there is nothing to cancel.
                match self.cancel_as_sender(caller, run).await {
                    Ok(()) | Err(Error::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
                return Err(Error::unavailable("peer_unreachable", "the peer hub cannot be reached"));
            }
        }
        let row = runs::by_id(&mut self.store.read().await?, run.uuid()).await?.ok_or(Error::NotFound("run"))?;
        Ok(Submitted { run: super::view(row), replayed: submitted.replayed })
    }

    /// Waits until the peer has the run, or has refused it.
    async fn taken(&self, run: RunId) -> Result<()> {
        loop {
            let settled = self.federated.settled().notified();
            let mut settled = std::pin::pin!(settled);
            // From here on no ring is missed.
            settled.as_mut().enable();
            let row = runs::by_id(&mut self.store.read().await?, run.uuid()).await?.ok_or(Error::NotFound("run"))?;
            match row.delivery.as_deref() {
                Some("refused") => return Err(refusal(row.error.map_or_else(String::new, |error| error.code))),
                Some("queued" | "sent") if !row.status.is_final() => settled.await,
                Some("queued" | "sent") => return Err(Error::unavailable("peer_unreachable", "the peer hub cannot be reached")),
                _ => return Ok(()),
            }
        }
    }

    async fn cancel_as_sender(&self, caller: &Caller, run: RunId) -> Result<()> {
        let row = self.own(caller, run).await?;
        if row.status.is_final() {
            return Ok(());
        }
        if let Some(peer) = &row.peer {
            self.federated.cancel(caller, &row, peer).await?;
        }
        self.end_canceled(&row, None).await.map(drop)
    }
}

/// What the peer said, in this hub's words.
fn refusal(code: String) -> Error {
    match code.as_str() {
        "not_found" => Error::NotFound("agent"),
        "quota_exceeded" => {
            let message = "the allowance at the peer hub is used up".into();
            Error::Limited { code: "quota_exceeded", message, retry_after: Duration::from_secs(60) }
        }
        "rate_limited" => {
            Error::Limited { code: "rate_limited", message: "too fast for the peer hub".into(), retry_after: Duration::from_secs(5) }
        }
        "too_large" | "envelope_too_large" => Error::TooLarge { what: "message", limit: agent::MAX_MESSAGE_BYTES as u64 },
        "invalid_request" => Error::invalid("run", "the peer hub cannot take it"),
        "version_mismatch" => Error::conflict("version_mismatch", "the two hubs have no profile in common"),
        _ => Error::forbidden("forbidden", "the peer hub refused the run"),
    }
}

/// The address at a peer of an agent that is named by its id, its handle or its address.
fn at_peer(peer: &str, agent: &str) -> Option<AgentRef> {
    let domain = agents_domain(peer);
    match AgentRef::parse(agent)? {
        AgentRef::Id(AgentId(id)) => format!("agent-{id}@{domain}").parse().ok().map(AgentRef::Jid),
        AgentRef::Handle(name) => format!("{name}@{domain}").parse().ok().map(AgentRef::Jid),
        AgentRef::Jid(jid) => (jid.domain() == domain).then_some(AgentRef::Jid(jid)),
    }
}
