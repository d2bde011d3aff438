//! Use of allowances, by calendar day and minute (UTC).

use aiox_core::{
    Result,
    quota::{self, Limits},
};
use aiox_model::Ts;

use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    rows::{signed, unsigned},
};

/// Which allowance is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// Tokens of this minute.
    TokensMinute,
    /// Tokens of this day.
    TokensDay,
    /// Requests of this day.
    RequestsDay,
}

/// A reservation.
pub struct Take<'a> {
    /// Whose.
    pub principal: &'a str,
    /// Now.
    pub at: Ts,
    /// Tokens that the run may use at most.
    pub tokens: u64,
    /// The allowance.
    pub limits: Limits,
}

/// What has been used: (tokens today, requests today, tokens this minute).
///
/// # Errors
/// Database errors.
pub async fn used(db: &mut impl AsDb, principal: &str, at: Ts) -> Result<(u64, u64, u64)> {
    let (day, minute) = (quota::day(at), quota::minute(at));
    let found = rows!(
        db,
        (String, i64, i64),
        "SELECT window_id, tokens, requests FROM quota_usage WHERE principal = $1 AND window_id IN ($2, $3)",
        principal,
        &day,
        &minute
    )?;
    let of = |window: &str| found.iter().find(|row| row.0 == window).map_or((0, 0), |row| (unsigned(row.1), unsigned(row.2)));
    let ((tokens, requests), (tokens_minute, _)) = (of(&day), of(&minute));
    Ok((tokens, requests, tokens_minute))
}

/// Reserves, or says what is used up; then nothing is changed. One conditional statement, so parallel callers on any number of
/// replicas never exceed a limit together.
///
/// # Errors
/// Database errors.
pub async fn take(tx: &mut Tx, take: &Take<'_>) -> Result<std::result::Result<(), Exhausted>> {
    let Take { principal, at, tokens, limits } = *take;
    // The insert of a fresh row is not conditional, so what could never fit is refused before.
    if limits.requests_day == 0 {
        return Ok(Err(Exhausted::RequestsDay));
    }
    if tokens > limits.tokens_day {
        return Ok(Err(Exhausted::TokensDay));
    }
    if tokens > limits.tokens_minute {
        return Ok(Err(Exhausted::TokensMinute));
    }
    let (day, minute) = (quota::day(at), quota::minute(at));
    let taken = rows!(
        tx,
        (String,),
        "INSERT INTO quota_usage (principal, window_id, tokens, requests) VALUES ($1, $2, $4, 1), ($1, $3, $4, 1) \
         ON CONFLICT (principal, window_id) DO UPDATE SET tokens = quota_usage.tokens + excluded.tokens, requests = quota_usage.requests + 1 \
         WHERE quota_usage.tokens + excluded.tokens <= CASE WHEN excluded.window_id = $2 THEN $5 ELSE $6 END \
         AND (excluded.window_id <> $2 OR quota_usage.requests + 1 <= $7) RETURNING window_id",
        principal,
        &day,
        &minute,
        signed(tokens),
        signed(limits.tokens_day),
        signed(limits.tokens_minute),
        signed(limits.requests_day),
    )?;
    if taken.len() == 2 {
        return Ok(Ok(()));
    }
    for (window,) in &taken {
        exec!(
            tx,
            "UPDATE quota_usage SET tokens = tokens - $3, requests = requests - 1 WHERE principal = $1 AND window_id = $2",
            principal,
            window,
            signed(tokens)
        )?;
    }
    if taken.iter().any(|(window,)| *window == day) {
        return Ok(Err(Exhausted::TokensMinute));
    }
    let (_, requests, _) = used(tx, principal, at).await?;
    Ok(Err(if requests >= limits.requests_day { Exhausted::RequestsDay } else { Exhausted::TokensDay }))
}

/// What a run has really used, in place of what was reserved for it.
pub struct Settle<'a> {
    /// Whose.
    pub principal: &'a str,
    /// When it was reserved: the windows of that time are corrected.
    pub accepted_at: Ts,
    /// What was reserved.
    pub reserved: u64,
    /// What was used.
    pub used: u64,
}

/// Settles a reservation.
///
/// # Errors
/// Database errors.
pub async fn settle(tx: &mut Tx, settle: &Settle<'_>) -> Result<()> {
    if settle.used == settle.reserved {
        return Ok(());
    }
    exec!(
        tx,
        "UPDATE quota_usage SET tokens = tokens + $4 WHERE principal = $1 AND window_id IN ($2, $3)",
        settle.principal,
        quota::day(settle.accepted_at),
        quota::minute(settle.accepted_at),
        signed(settle.used) - signed(settle.reserved),
    )
    .map(drop)
}

/// Charges tokens that a worker reports after its run has ended otherwise, once. Whether they were charged now.
///
/// # Errors
/// Database errors.
pub async fn charge_late(tx: &mut Tx, run: Uuid, input_tokens: u64, output_tokens: u64, at: Ts) -> Result<bool> {
    let found = row!(
        tx,
        (String, Uuid, Option<String>),
        "UPDATE runs SET input_tokens = $2, output_tokens = $3 WHERE id = $1 AND status IN ('failed', 'canceled') \
         AND input_tokens = 0 AND output_tokens = 0 RETURNING principal, tenant_id, budget_window",
        run,
        signed(input_tokens),
        signed(output_tokens)
    )?;
    let Some((principal, tenant, window)) = found else { return Ok(false) };
    if let Some(window) = window {
        crate::tenant_use::settle(tx, tenant, &window, signed(input_tokens.saturating_add(output_tokens)), 0).await?;
    }
    exec!(
        tx,
        "INSERT INTO quota_usage (principal, window_id, tokens, requests) VALUES ($1, $2, $4, 0), ($1, $3, $4, 0) \
         ON CONFLICT (principal, window_id) DO UPDATE SET tokens = quota_usage.tokens + excluded.tokens",
        &principal,
        quota::day(at),
        quota::minute(at),
        signed(input_tokens.saturating_add(output_tokens))
    )?;
    Ok(true)
}
