//! Use of allowances, by calendar day and minute (UTC).

use std::collections::{BTreeMap, HashMap, HashSet, hash_map::Entry};

use aiox_core::{
    Result,
    quota::{self, Limits},
};
use aiox_model::Ts;

use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    many::{Many, exec_many, rows_many},
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

// Days begin with `d`, minutes with `m`.
static TAKE: Many = Many::new(
    "INSERT INTO quota_usage (principal, window_id, tokens, requests) SELECT column1, column2, column3, column4 FROM {rows} \
     WHERE column1 IS NOT NULL ON CONFLICT (principal, window_id) \
     DO UPDATE SET tokens = quota_usage.tokens + excluded.tokens, requests = quota_usage.requests + excluded.requests \
     WHERE quota_usage.tokens + excluded.tokens <= CASE WHEN excluded.window_id LIKE 'd%' THEN ? ELSE ? END \
     AND (excluded.window_id LIKE 'm%' OR quota_usage.requests + excluded.requests <= ?) RETURNING principal, window_id",
    4,
);

/// Several reservations of one principal in the same windows and under the same limits.
struct Together<'a> {
    principal: &'a str,
    limits: Limits,
    day: String,
    minute: String,
    tokens: u64,
    requests: u64,
    /// Which they are.
    members: Vec<usize>,
}

/// Reserves, or says what is used up; then nothing is changed. One conditional statement, so parallel callers on any number of
/// replicas never exceed a limit together.
///
/// # Errors
/// Database errors.
pub async fn take(tx: &mut Tx, take: &Take<'_>) -> Result<std::result::Result<(), Exhausted>> {
    let one = Together::of(0, take);
    if let Some(exhausted) = one.never() {
        return Ok(Err(exhausted));
    }
    let Some(left) = take_together(tx, std::slice::from_ref(&one), take.limits).await?.pop() else { return Ok(Ok(())) };
    if left.day_taken {
        return Ok(Err(Exhausted::TokensMinute));
    }
    let (_, requests, _) = used(tx, take.principal, take.at).await?;
    Ok(Err(if requests >= take.limits.requests_day { Exhausted::RequestsDay } else { Exhausted::TokensDay }))
}

/// Takes all reservations as if one after the other; what became of each. Those of one principal are taken together if they fit
/// together.
///
/// # Errors
/// Database errors.
pub async fn take_all(tx: &mut Tx, takes: &[Take<'_>]) -> Result<Vec<std::result::Result<(), Exhausted>>> {
    let mut outcomes = vec![Ok(()); takes.len()];
    let mut groups: HashMap<&str, Together<'_>> = HashMap::with_capacity(takes.len());
    let mut alone = Vec::new();
    for (index, take) in takes.iter().enumerate() {
        let one = Together::of(index, take);
        match groups.entry(take.principal) {
            Entry::Vacant(free) => drop(free.insert(one)),
            Entry::Occupied(mut group) => {
                if !group.get_mut().join(&one) {
                    alone.push(index);
                }
            }
        }
    }
    // In one order, so that two replicas do not wait for each other.
    let mut groups: Vec<Together<'_>> = groups.into_values().collect();
    groups.sort_unstable_by_key(|group| group.principal);
    let mut by_limits: Vec<(Limits, Vec<Together<'_>>)> = Vec::new();
    for group in groups {
        if group.never().is_some() {
            alone.extend(group.members);
        } else if let Some((_, equal)) = by_limits.iter_mut().find(|(limits, _)| *limits == group.limits) {
            equal.push(group);
        } else {
            by_limits.push((group.limits, vec![group]));
        }
    }
    for (limits, mut groups) in by_limits {
        for left in take_together(tx, &groups, limits).await? {
            alone.append(&mut groups[left.group].members);
        }
    }
    alone.sort_unstable();
    for index in alone {
        outcomes[index] = take(tx, &takes[index]).await?;
    }
    Ok(outcomes)
}

/// A group that did not fit; nothing of it is reserved.
struct Left {
    group: usize,
    /// Whether its day had room: then its minute had none.
    day_taken: bool,
}

/// Reserves for groups of different principals under the same limits. Which groups did not fit.
async fn take_together(tx: &mut Tx, groups: &[Together<'_>], limits: Limits) -> Result<Vec<Left>> {
    let windows: Vec<(&Together<'_>, &str)> =
        groups.iter().flat_map(|group| [(group, group.day.as_str()), (group, &group.minute)]).collect();
    let taken = rows_many!(
        tx,
        (String, String),
        TAKE,
        windows,
        |window| [window.0.principal, window.1, signed(window.0.tokens), signed(window.0.requests)],
        signed(limits.tokens_day),
        signed(limits.tokens_minute),
        signed(limits.requests_day),
    );
    if taken.len() == windows.len() {
        return Ok(Vec::new());
    }
    let taken: HashSet<(String, String)> = taken.into_iter().collect();
    let mut left = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let has = |window: &String| taken.contains(&(group.principal.to_owned(), window.clone()));
        let (day_taken, minute_taken) = (has(&group.day), has(&group.minute));
        if day_taken && minute_taken {
            continue;
        }
        for (window, was_taken) in [(&group.day, day_taken), (&group.minute, minute_taken)] {
            if was_taken {
                exec!(
                    tx,
                    "UPDATE quota_usage SET tokens = tokens - $3, requests = requests - $4 WHERE principal = $1 AND window_id = $2",
                    group.principal,
                    window,
                    signed(group.tokens),
                    signed(group.requests),
                )?;
            }
        }
        left.push(Left { group: index, day_taken });
    }
    Ok(left)
}

impl<'a> Together<'a> {
    fn of(index: usize, take: &Take<'a>) -> Self {
        let Take { principal, at, tokens, limits } = *take;
        Self { principal, limits, day: quota::day(at), minute: quota::minute(at), tokens, requests: 1, members: vec![index] }
    }

    /// Adds another one's; `false`: it is of other windows or under other limits.
    fn join(&mut self, other: &Self) -> bool {
        let same = self.limits == other.limits && self.day == other.day && self.minute == other.minute;
        if same {
            self.tokens = self.tokens.saturating_add(other.tokens);
            self.requests += other.requests;
            self.members.extend_from_slice(&other.members);
        }
        same
    }

    /// What could not fit even into an unused allowance. The insert of a fresh row is not conditional, so it is refused before.
    fn never(&self) -> Option<Exhausted> {
        let Limits { tokens_day, tokens_minute, requests_day } = self.limits;
        if self.requests > requests_day {
            Some(Exhausted::RequestsDay)
        } else if self.tokens > tokens_day {
            Some(Exhausted::TokensDay)
        } else if self.tokens > tokens_minute {
            Some(Exhausted::TokensMinute)
        } else {
            None
        }
    }
}

/// What a run has really used, in place of what was reserved for it.
#[derive(Clone, Copy)]
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

static SETTLE: Many =
    Many::new("UPDATE quota_usage SET tokens = tokens + v.column3 FROM {rows} WHERE principal = v.column1 AND window_id = v.column2", 3);

/// Settles a reservation.
///
/// # Errors
/// Database errors.
pub async fn settle(tx: &mut Tx, settle: &Settle<'_>) -> Result<()> {
    settle_all(tx, &[*settle]).await
}

/// Settles reservations.
///
/// # Errors
/// Database errors.
pub async fn settle_all(tx: &mut Tx, settles: &[Settle<'_>]) -> Result<()> {
    // Each row of the table can be changed only once in one statement.
    let mut windows: BTreeMap<(&str, String), i64> = BTreeMap::new();
    for settle in settles {
        for window in [quota::day(settle.accepted_at), quota::minute(settle.accepted_at)] {
            *windows.entry((settle.principal, window)).or_default() += signed(settle.used) - signed(settle.reserved);
        }
    }
    let windows: Vec<(&str, String, i64)> =
        windows.into_iter().filter(|(_, change)| *change != 0).map(|((principal, window), change)| (principal, window, change)).collect();
    exec_many!(tx, SETTLE, windows, |window| [window.0, window.1.as_str(), window.2]);
    Ok(())
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
