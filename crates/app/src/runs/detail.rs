//! A run with what its log says of it.

use aiox_core::{Caller, Result, Scope, agentos::Subject};
use aiox_model::{
    AgentId, BareJid, RunId, TraceId,
    run::Run,
    v1::run::{RunOptions, RunSummary},
};
use aiox_store::runs::{self, RunRow};

use super::{Runs, view::view};

/// A run with what its log says of it.
#[derive(Debug, Clone)]
pub struct Detail {
    /// The run.
    pub run: Run,
    /// Its agent, as it is written on the wire of `/v1`.
    pub agent: String,
    /// Its trace.
    pub trace: TraceId,
    /// Sequence of its last event.
    pub last: u64,
    /// What was asked for at `/v1`; absent for runs of other doors.
    pub options: Option<RunOptions>,
    /// What has happened so far.
    pub summary: RunSummary,
}

impl Detail {
    /// The run as its events are shown to a tenant.
    #[must_use]
    pub fn subject(&self, tenant: &str) -> Subject {
        Subject { tenant: tenant.to_owned(), agent: self.agent.clone(), run: RunId(self.run.id), trace: self.trace }
    }
}

impl Runs {
    /// A run that the caller asked for, with what its log says of it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn detail(&self, caller: &Caller, run: RunId) -> Result<Detail> {
        caller.require(Scope::RunsRead)?;
        self.detailed(self.own(caller, run).await?).await
    }

    /// A run that was just made, changed or replayed for the caller, who need not be allowed to read runs.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn outcome(&self, caller: &Caller, run: RunId) -> Result<Detail> {
        self.detailed(self.own(caller, run).await?).await
    }

    async fn detailed(&self, row: RunRow) -> Result<Detail> {
        let mut db = self.store.read().await?;
        let counts = runs::counts(&mut db, row.id).await?;
        let first = runs::events(&mut db, row.id, 0, 1).await?;
        drop(db);
        let of = |kind: &str| counts.iter().find(|(name, _)| name == kind).map_or(0, |(_, count)| *count);
        let steps = of("run.started");
        let options = first.first().and_then(|event| event.payload.get("run_options")).cloned();
        Ok(Detail {
            agent: agent_of(&row),
            trace: row.trace.parse().unwrap_or(TraceId(row.id)),
            last: row.last_seq,
            options: options.and_then(|options| serde_json::from_value(options).ok()),
            // A step is one call of the model; logs that tell of each call are believed.
            summary: RunSummary {
                steps_total: steps,
                tool_calls_total: of("tool.call"),
                model_calls_total: of("model.requested").max(steps),
            },
            run: view(row),
        })
    }
}

/// The agent's id; its address where a peer has not told its id.
fn agent_of(row: &RunRow) -> String {
    if let Some(agent) = row.agent {
        return AgentId(agent).to_string();
    }
    let jid: Option<BareJid> = row.agent_jid.parse().ok();
    let id = jid.as_ref().and_then(|jid| jid.local().strip_prefix("agent-")).and_then(|id| id.parse::<AgentId>().ok());
    id.map_or_else(|| row.agent_jid.clone(), |id| id.to_string())
}
