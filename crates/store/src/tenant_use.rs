//! What tenants use of their limits. Touched for tenants that have limits only.
//!
//! How many runs have not ended is counted in the table of runs itself, so no slot can leak, whatever dies.

use std::time::Duration;

use aiox_core::{
    Result,
    tenant::{Budget, Denied, Limits, Measure, Pace},
};
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row},
    rows::{signed, unsigned},
};

/// What a tenant does at a pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// New runs.
    Create,
    /// Calls of models, by the second.
    Invoke,
    /// Calls of models, by the minute.
    Requests,
    /// Calls of tools.
    Tools,
}
impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Invoke => "invoke",
            Self::Requests => "requests",
            Self::Tools => "tools",
        }
    }
}

/// Takes one use, or says when the next one comes back. One conditional statement: however many ask at once, no more get one than
/// the pace allows.
///
/// # Errors
/// Database errors.
pub async fn take(tx: &mut Tx, tenant: Uuid, kind: Kind, pace: Pace, at: Ts) -> Result<std::result::Result<(), Denied>> {
    if pace.burst == 0 {
        return Ok(Err(Denied::TooFast(wait(pace.interval))));
    }
    let taken = row!(
        tx,
        (i64,),
        "INSERT INTO tenant_pace (tenant_id, kind, spent_until) VALUES ($1, $2, $3 + $4) ON CONFLICT (tenant_id, kind) DO UPDATE SET \
         spent_until = CASE WHEN tenant_pace.spent_until > $3 THEN tenant_pace.spent_until ELSE $3 END + $4 \
         WHERE CASE WHEN tenant_pace.spent_until > $3 THEN tenant_pace.spent_until ELSE $3 END + $4 <= $3 + $5 RETURNING spent_until",
        tenant,
        kind.as_str(),
        at.micros(),
        pace.interval,
        pace.reach(),
    )?;
    if taken.is_some() {
        return Ok(Ok(()));
    }
    let found = row!(tx, (i64,), "SELECT spent_until FROM tenant_pace WHERE tenant_id = $1 AND kind = $2", tenant, kind.as_str())?;
    let spent_until = found.map_or(0, |found| found.0);
    Ok(Err(Denied::TooFast(wait(spent_until.saturating_add(pace.interval) - at.micros() - pace.reach()))))
}

fn wait(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0).max(1))
}

/// Asks a tenant's limits whether a run, whose row is there already, may stay. With a budget its tokens are reserved, and the run
/// remembers in which window.
///
/// # Errors
/// Database errors.
pub async fn admit(tx: &mut Tx, tenant: Uuid, run: Uuid, limits: &Limits, tokens: u64, at: Ts) -> Result<std::result::Result<(), Denied>> {
    if let Some(pace) = limits.create
        && let Err(denied) = take(tx, tenant, Kind::Create, pace, at).await?
    {
        return Ok(Err(denied));
    }
    if let Some(most) = limits.concurrent
        && unfinished(tx, tenant).await? > most
    {
        return Ok(Err(Denied::TooMany(most)));
    }
    if let Some(budget) = limits.budget {
        if let Err(denied) = reserve(tx, tenant, &budget, tokens, 0, at).await? {
            return Ok(Err(denied));
        }
        exec!(tx, "UPDATE runs SET budget_window = $2 WHERE id = $1", run, budget.window.id(at))?;
    }
    Ok(Ok(()))
}

/// Runs of a tenant that have not ended.
///
/// # Errors
/// Database errors.
pub async fn unfinished(db: &mut impl AsDb, tenant: Uuid) -> Result<u64> {
    let found =
        row!(db, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM runs WHERE tenant_id = $1 AND status IN ('queued', 'running')", tenant)?;
    Ok(unsigned(found.map_or(0, |found| found.0)))
}

/// Reserves of a budget, or says what of it is used up; then nothing is changed.
///
/// # Errors
/// Database errors.
pub async fn reserve(
    tx: &mut Tx,
    tenant: Uuid,
    budget: &Budget,
    tokens: u64,
    cost: u64,
    at: Ts,
) -> Result<std::result::Result<(), Denied>> {
    let window = budget.window.id(at);
    let (most_tokens, most_cost) = (budget.tokens.unwrap_or(u64::MAX), budget.cost.unwrap_or(u64::MAX));
    // The insert of a fresh row is not conditional, so what could never fit is refused before.
    if tokens <= most_tokens && cost <= most_cost {
        let taken = row!(
            tx,
            (i64,),
            "INSERT INTO tenant_usage (tenant_id, window_id, tokens, cost, updated_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (tenant_id, window_id) DO UPDATE SET tokens = tenant_usage.tokens + excluded.tokens, \
             cost = tenant_usage.cost + excluded.cost, updated_at = excluded.updated_at \
             WHERE tenant_usage.tokens + excluded.tokens <= $6 AND tenant_usage.cost + excluded.cost <= $7 RETURNING tokens",
            tenant,
            &window,
            signed(tokens),
            signed(cost),
            at.micros(),
            signed(most_tokens),
            signed(most_cost),
        )?;
        if taken.is_some() {
            return Ok(Ok(()));
        }
    }
    let (used_tokens, used_cost) = used(tx, tenant, &window).await?;
    let measure = if used_tokens.saturating_add(tokens) > most_tokens { Measure::Tokens } else { Measure::Cost };
    let (most, used) = match measure {
        Measure::Tokens => (most_tokens, used_tokens),
        Measure::Cost => (most_cost, used_cost),
    };
    Ok(Err(Denied::Spent(measure, most, used, budget.window)))
}

/// What a tenant has used or reserved in a window: (tokens, millionths of a US dollar).
///
/// # Errors
/// Database errors.
pub async fn used(db: &mut impl AsDb, tenant: Uuid, window: &str) -> Result<(u64, u64)> {
    let found = row!(db, (i64, i64), "SELECT tokens, cost FROM tenant_usage WHERE tenant_id = $1 AND window_id = $2", tenant, window)?;
    Ok(found.map_or((0, 0), |(tokens, cost)| (unsigned(tokens), unsigned(cost))))
}

/// Adds to what was reserved in a window; negative gives back.
///
/// # Errors
/// Database errors.
pub async fn settle(tx: &mut Tx, tenant: Uuid, window: &str, tokens: i64, cost: i64) -> Result<()> {
    exec!(
        tx,
        "UPDATE tenant_usage SET tokens = tokens + $3, cost = cost + $4 WHERE tenant_id = $1 AND window_id = $2",
        tenant,
        window,
        tokens,
        cost
    )
    .map(drop)
}

/// Forgets windows that nothing was reserved in since a time; how many.
///
/// # Errors
/// Database errors.
pub async fn purge(tx: &mut Tx, before: Ts) -> Result<u64> {
    exec!(tx, "DELETE FROM tenant_usage WHERE updated_at < $1", before.micros())
}
