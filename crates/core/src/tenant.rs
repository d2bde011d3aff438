//! What a whole tenant may use, beside what each of its principals may: how fast, how much at once, how much in a window.

use std::time::Duration;

use aiox_model::{
    TenantId, Ts,
    v1::tenants::{Quotas, TenantCreate},
};
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// Whether a tenant's credentials work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// They do.
    Active,
    /// They are refused until an administrator enables the tenant again.
    Disabled,
    /// The tenant was deleted: for everybody it is unknown. Its data stays in the store, unreachable.
    Deleted,
}
impl Status {
    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
        }
    }
    /// The status of a stored text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Disabled, Self::Deleted].into_iter().find(|status| status.as_str() == text)
    }
    /// Fails unless the tenant's credentials work.
    ///
    /// # Errors
    /// [`Error::Forbidden`]: `forbidden` when it is disabled, `tenant_unknown` when it was deleted.
    pub fn admit(self) -> Result<()> {
        match self {
            Self::Active => Ok(()),
            Self::Disabled => Err(Error::forbidden("forbidden", "this tenant is disabled")),
            Self::Deleted => Err(unknown()),
        }
    }
}

/// No such tenant, or none that anybody may know of.
#[must_use]
pub fn unknown() -> Error {
    Error::forbidden("tenant_unknown", "this tenant is not known here")
}

/// The length of a budget: a calendar minute, hour or day, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
    /// 86,400 seconds.
    Day,
}
impl Window {
    /// The text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
    /// The window of a text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Minute, Self::Hour, Self::Day].into_iter().find(|window| window.as_str() == text)
    }
    /// Name of the window that `at` falls into, unlike that of any other window of any length.
    #[must_use]
    pub fn id(self, at: Ts) -> String {
        let (letter, span) = match self {
            Self::Minute => ('m', 60),
            Self::Hour => ('h', 3600),
            Self::Day => ('d', 86_400),
        };
        format!("{letter}{}", at.seconds().div_euclid(span))
    }
}

/// Tokens and money of a window. Money is counted in millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// How long it has to last.
    pub window: Window,
    /// Most tokens.
    pub tokens: Option<u64>,
    /// Most cost.
    pub cost: Option<u64>,
}

/// How often something may be done: `burst` at once, and one more after each `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Microseconds until one use comes back.
    pub interval: i64,
    /// Uses at once, at least 1.
    pub burst: u32,
}
impl Pace {
    /// So many in a second, with their burst; without one, a second's worth and at least one.
    #[must_use]
    pub fn per_second(rate: f64, burst: Option<u32>) -> Self {
        // What is not a rate allows next to nothing, rather than everything. The cast saturates.
        #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates, and both ends are clamped")]
        let interval = if rate > 0.0 { (1_000_000.0 / rate).round() as i64 } else { i64::MAX };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from float saturates")]
        let second = rate.ceil() as u32;
        Self { interval: interval.clamp(1, MAX_INTERVAL), burst: burst.unwrap_or(second).max(1) }
    }
    /// So many in a minute, all at once if nothing was used before.
    #[must_use]
    pub fn per_minute(uses: u32) -> Self {
        if uses == 0 {
            return Self { interval: MAX_INTERVAL, burst: 0 };
        }
        Self { interval: (60_000_000 / i64::from(uses)).max(1), burst: uses }
    }
    /// How far ahead of now the uses may reach, in microseconds.
    #[must_use]
    pub fn reach(self) -> i64 {
        self.interval.saturating_mul(i64::from(self.burst))
    }
}

/// A day: whoever may do something less often than that may not do it.
const MAX_INTERVAL: i64 = 86_400_000_000;

/// Limits of a tenant. What is absent does not limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// New runs.
    pub create: Option<Pace>,
    /// Runs that have not ended.
    pub concurrent: Option<u64>,
    /// Calls of a model.
    pub invoke: Option<Pace>,
    /// Calls of a model in a minute.
    pub requests: Option<Pace>,
    /// Calls of tools in a minute.
    pub tools: Option<Pace>,
    /// Tokens and money.
    pub budget: Option<Budget>,
    /// Most tokens of one request, question and answer together.
    pub request_tokens: Option<u64>,
}

impl Limits {
    /// The limits that quotas set.
    #[must_use]
    pub fn of(quotas: &Quotas) -> Self {
        let runs = quotas.runs.as_ref();
        let models = quotas.models.as_ref();
        let budget = models.and_then(|models| models.token_budget.as_ref());
        Self {
            create: runs.and_then(|runs| Some(Pace::per_second(runs.run_create_qps?, runs.run_create_burst))),
            concurrent: runs.and_then(|runs| runs.max_concurrent_runs).map(u64::from),
            invoke: None,
            requests: models.and_then(|models| models.max_requests_per_minute).map(Pace::per_minute),
            tools: quotas.tools.as_ref().and_then(|tools| tools.tool_calls_per_minute).map(Pace::per_minute),
            budget: budget.and_then(|budget| {
                let window = Window::parse(&budget.window)?;
                Some(Budget { window, tokens: budget.max_tokens, cost: budget.max_cost_usd.map(micros) })
            }),
            request_tokens: models.and_then(|models| models.max_tokens_per_request),
        }
    }

    /// These limits, and `others` where these say nothing.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            create: self.create.or(others.create),
            concurrent: self.concurrent.or(others.concurrent),
            invoke: self.invoke.or(others.invoke),
            requests: self.requests.or(others.requests),
            tools: self.tools.or(others.tools),
            budget: self.budget.or(others.budget),
            request_tokens: self.request_tokens.or(others.request_tokens),
        }
    }

    /// Whether accepting a run asks for anything of its tenant.
    #[must_use]
    pub const fn limit_runs(&self) -> bool {
        self.create.is_some() || self.concurrent.is_some() || self.budget.is_some()
    }

    /// Tokens that the answer may have, given those of the question and the `wanted` ones.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the question alone has more than a request may have.
    pub fn answer_tokens(&self, question: u64, wanted: u32) -> Result<u32> {
        let Some(most) = self.request_tokens else { return Ok(wanted) };
        match most.checked_sub(question) {
            Some(left) if left > 0 => Ok(u32::try_from(left).unwrap_or(u32::MAX).min(wanted)),
            _ => Err(Error::invalid(
                "input",
                format!("is about {question} tokens; a request of this tenant may have {most} with its answer"),
            )),
        }
    }
}

/// Millionths of a US dollar, rounded up: what costs something never counts as nothing.
#[must_use]
pub fn micros(usd: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from float saturates; negative is nothing")]
    let micros = (usd * 1_000_000.0).ceil() as u64;
    micros
}

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Tokens.
    Tokens,
    /// Millionths of a US dollar.
    Cost,
}

/// A budget that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The tenant, as it is called on the wire.
    pub tenant: String,
    /// What of it.
    pub measure: Measure,
    /// The most.
    pub limit: u64,
    /// What has been used or reserved.
    pub used: u64,
    /// How long it has to last.
    pub window: Window,
}

impl Spent {
    /// `{tenant_id, limit, used, window}` for the error body; money in US dollars.
    #[must_use]
    pub fn details(&self) -> Map<String, Value> {
        #[expect(clippy::cast_precision_loss, reason = "nobody spends nine billion dollars")]
        let amount = |value: u64| match self.measure {
            Measure::Tokens => json!(value),
            Measure::Cost => json!(value as f64 / 1_000_000.0),
        };
        let mut details = Map::new();
        details.insert("tenant_id".into(), json!(self.tenant));
        details.insert("limit".into(), amount(self.limit));
        details.insert("used".into(), amount(self.used));
        details.insert("window".into(), json!(self.window.as_str()));
        details
    }
}

/// Why a tenant may not do what one of its principals asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Too often; when to try again.
    TooFast(Duration),
    /// So many runs have not ended, which is the most.
    TooMany(u64),
    /// The budget of the window is used up: measure, most, used, window.
    Spent(Measure, u64, u64, Window),
}

impl Denied {
    /// Name of the limit, for metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TooFast(_) => "rate",
            Self::TooMany(_) => "concurrent_runs",
            Self::Spent(Measure::Tokens, ..) => "token_budget",
            Self::Spent(Measure::Cost, ..) => "cost_budget",
        }
    }

    /// The error that everybody gets, at every door.
    #[must_use]
    pub fn error(self, tenant: String) -> Error {
        match self {
            Self::TooFast(retry_after) => {
                Error::Limited { code: "rate_limited", message: "this tenant asks too often".into(), retry_after }
            }
            // Nobody knows when a run ends; a second is soon, and not a storm.
            Self::TooMany(most) => Error::Limited {
                code: "quota_exceeded",
                message: format!("{most} runs of this tenant have not ended, which is the most at once"),
                retry_after: Duration::from_secs(1),
            },
            Self::Spent(measure, limit, used, window) => Error::Spent(Box::new(Spent { tenant, measure, limit, used, window })),
        }
    }
}

/// The text of a tenant's id: the given one if it was made with one, else that of its UUID.
#[must_use]
pub fn text(name: &str, id: TenantId) -> String {
    if name.starts_with("tnt_") { name.to_owned() } else { id.to_string() }
}

/// Checks an id that a tenant is to have.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_id(text: &str) -> Result<()> {
    let legal = text.strip_prefix("tnt_").is_some_and(|rest| {
        (1..=60).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    });
    if legal { Ok(()) } else { Err(Error::invalid("tenant_id", "must be tnt_ and 1 to 60 of A-Z a-z 0-9 _ -")) }
}

/// Most bytes of a tenant's metadata, as JSON.
const MAX_METADATA: usize = 16 * 1024;
/// Most entries of a list, and most characters of each.
const MAX_LIST: (usize, usize) = (256, 128);

/// Checks what a tenant is to become.
///
/// # Errors
/// [`Error::Invalid`] naming the member.
pub fn check(wanted: &TenantCreate) -> Result<()> {
    if let Some(id) = &wanted.tenant_id {
        check_id(id)?;
    }
    bounded("name", wanted.name.as_deref(), 255)?;
    bounded("plan_tier", wanted.plan_tier.as_deref(), 64)?;
    bounded("default_policy_id", wanted.default_policy_id.as_deref(), 128)?;
    if wanted.status.as_deref().is_some_and(|status| status != "active" && status != "disabled") {
        return Err(Error::invalid("status", "must be active or disabled"));
    }
    if let Some(entitlements) = &wanted.entitlements {
        list("entitlements.model_tiers_allowed", entitlements.model_tiers_allowed.as_deref())?;
        list("entitlements.model_backends_allowed", entitlements.model_backends_allowed.as_deref())?;
        list("entitlements.tool_ids_allowed", entitlements.tool_ids_allowed.as_deref())?;
    }
    if let Some(policy) = &wanted.policy {
        list("policy.allowed_models", policy.allowed_models.as_deref())?;
        list("policy.denied_models", policy.denied_models.as_deref())?;
    }
    if wanted.metadata.as_ref().is_some_and(|metadata| serde_json::to_string(metadata).is_ok_and(|text| text.len() > MAX_METADATA)) {
        return Err(Error::invalid("metadata", format!("must have at most {MAX_METADATA} bytes of JSON")));
    }
    wanted.quotas.as_ref().map_or(Ok(()), check_quotas)
}

fn check_quotas(quotas: &Quotas) -> Result<()> {
    if let Some(runs) = &quotas.runs {
        if runs.run_create_qps.is_some_and(|rate| !rate.is_finite() || rate <= 0.0 || rate > 1_000_000.0) {
            return Err(Error::invalid("quotas.runs.run_create_qps", "must be more than 0 and at most 1000000"));
        }
        if runs.run_create_burst == Some(0) {
            return Err(Error::invalid("quotas.runs.run_create_burst", "must be at least 1"));
        }
    }
    let Some(models) = &quotas.models else { return Ok(()) };
    if models.max_tokens_per_request == Some(0) {
        return Err(Error::invalid("quotas.models.max_tokens_per_request", "must be at least 1"));
    }
    let Some(budget) = &models.token_budget else { return Ok(()) };
    if Window::parse(&budget.window).is_none() {
        return Err(Error::invalid("quotas.models.token_budget.window", "must be minute, hour or day"));
    }
    if budget.max_cost_usd.is_some_and(|usd| !usd.is_finite() || !(0.0..=1_000_000_000.0).contains(&usd)) {
        return Err(Error::invalid("quotas.models.token_budget.max_cost_usd", "must be from 0 to 1000000000"));
    }
    Ok(())
}

fn bounded(name: &str, text: Option<&str>, most: usize) -> Result<()> {
    match text {
        Some(text) if text.trim().is_empty() || text.chars().count() > most => {
            Err(Error::invalid(name, format!("must have 1 to {most} characters")))
        }
        _ => Ok(()),
    }
}

fn list(name: &str, list: Option<&[String]>) -> Result<()> {
    let (entries, characters) = MAX_LIST;
    let legal = |entry: &String| !entry.trim().is_empty() && entry.chars().count() <= characters;
    match list {
        Some(list) if list.len() > entries || !list.iter().all(legal) => {
            Err(Error::invalid(name, format!("must have at most {entries} entries, each of 1 to {characters} characters")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_model::v1::tenants::{ModelQuotas, RunQuotas, TokenBudget};

    #[test]
    fn a_pace_has_its_interval_and_at_least_one_use() {
        assert_eq!(Pace::per_second(10.0, None), Pace { interval: 100_000, burst: 10 });
        assert_eq!(Pace::per_second(0.5, None), Pace { interval: 2_000_000, burst: 1 });
        assert_eq!(Pace::per_second(2.0, Some(7)), Pace { interval: 500_000, burst: 7 });
        assert_eq!(Pace::per_minute(60), Pace { interval: 1_000_000, burst: 60 });
        assert_eq!(Pace::per_minute(0).reach(), 0);
        for odd in [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MIN_POSITIVE] {
            let pace = Pace::per_second(odd, Some(0));
            assert!(pace.interval >= 1 && pace.burst == 1, "{odd}: {pace:?}");
        }
    }

    #[test]
    fn windows_have_names_of_their_own() {
        let at: Ts = "2026-03-01T23:59:59.999999Z".parse().unwrap();
        let next: Ts = "2026-03-02T00:00:00Z".parse().unwrap();
        for window in [Window::Minute, Window::Hour, Window::Day] {
            assert_ne!(window.id(at), window.id(next));
            assert_eq!(Window::parse(window.as_str()), Some(window));
        }
        assert_ne!(Window::Hour.id(Ts::from_seconds(0)), Window::Day.id(Ts::from_seconds(0)));
    }

    #[test]
    fn own_limits_win_and_the_others_fill_the_gaps() {
        let quotas = Quotas {
            runs: Some(RunQuotas { max_concurrent_runs: Some(3), ..RunQuotas::default() }),
            models: Some(ModelQuotas {
                token_budget: Some(TokenBudget { window: "hour".into(), max_tokens: Some(5), max_cost_usd: Some(0.000_000_1) }),
                max_tokens_per_request: Some(100),
                ..ModelQuotas::default()
            }),
            ..Quotas::default()
        };
        let own = Limits::of(&quotas);
        assert!(Limits::of(&Quotas::default()) == Limits::default() && !Limits::default().limit_runs());
        assert_eq!(own.budget, Some(Budget { window: Window::Hour, tokens: Some(5), cost: Some(1) }));
        let node = Limits { concurrent: Some(25), create: Some(Pace::per_second(10.0, None)), ..Limits::default() };
        let both = own.or(node);
        assert_eq!((both.concurrent, both.create), (Some(3), node.create));
    }

    #[test]
    fn a_request_is_cut_to_what_is_left_for_its_answer() {
        let limits = Limits { request_tokens: Some(100), ..Limits::default() };
        assert_eq!(limits.answer_tokens(40, 1000).unwrap(), 60);
        assert_eq!(limits.answer_tokens(40, 10).unwrap(), 10);
        assert_eq!(limits.answer_tokens(100, 10).unwrap_err().code(), "invalid_request");
        assert_eq!(Limits::default().answer_tokens(1 << 40, 10).unwrap(), 10);
    }

    #[test]
    fn only_an_active_tenant_is_admitted() {
        assert!(Status::Active.admit().is_ok());
        assert_eq!(Status::Disabled.admit().unwrap_err().code(), "forbidden");
        assert_eq!(Status::Deleted.admit().unwrap_err().code(), "tenant_unknown");
    }

    #[test]
    fn a_spent_budget_is_told_with_its_numbers_and_is_not_retried() {
        let error = Denied::Spent(Measure::Cost, 1_500_000, 1_400_000, Window::Day).error("tnt_a".into());
        assert_eq!((error.code(), error.retryable()), ("quota_exceeded", false));
        let Error::Spent(spent) = error else { panic!("not spent") };
        let told = Value::Object(spent.details());
        assert_eq!(told, json!({ "tenant_id": "tnt_a", "limit": 1.5, "used": 1.4, "window": "day" }));
        assert!(Denied::TooMany(1).error("tnt_a".into()).retryable());
    }

    #[test]
    fn ids_are_bounded_and_printable() {
        for legal in ["tnt_demo", "tnt_A-1", "tnt_01J00000000000000000000000"] {
            assert!(check_id(legal).is_ok(), "{legal}");
        }
        for bad in ["demo", "tnt_", "tnt_a b", "tnt_é", &format!("tnt_{}", "a".repeat(61))] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_wrong_member_of_a_tenant_is_named() {
        let wrong = |body: Value| {
            let wanted: TenantCreate = serde_json::from_value(body).unwrap();
            let Err(Error::Invalid { field, .. }) = check(&wanted) else { panic!("{wanted:?} passes") };
            field
        };
        for (body, field) in [
            (json!({ "tenant_id": "demo" }), "tenant_id"),
            (json!({ "name": " " }), "name"),
            (json!({ "name": "a".repeat(256) }), "name"),
            (json!({ "plan_tier": "" }), "plan_tier"),
            (json!({ "default_policy_id": "a".repeat(129) }), "default_policy_id"),
            (json!({ "status": "deleted" }), "status"),
            (json!({ "entitlements": { "tool_ids_allowed": [""] } }), "entitlements.tool_ids_allowed"),
            (json!({ "entitlements": { "model_tiers_allowed": vec!["a"; 257] } }), "entitlements.model_tiers_allowed"),
            (json!({ "entitlements": { "model_backends_allowed": [" "] } }), "entitlements.model_backends_allowed"),
            (json!({ "policy": { "allowed_models": [""] } }), "policy.allowed_models"),
            (json!({ "policy": { "denied_models": ["a".repeat(129)] } }), "policy.denied_models"),
            (json!({ "metadata": { "a": "b".repeat(16 * 1024) } }), "metadata"),
            (json!({ "quotas": { "runs": { "run_create_qps": 0 } } }), "quotas.runs.run_create_qps"),
            (json!({ "quotas": { "runs": { "run_create_qps": -1 } } }), "quotas.runs.run_create_qps"),
            (json!({ "quotas": { "runs": { "run_create_burst": 0 } } }), "quotas.runs.run_create_burst"),
            (json!({ "quotas": { "models": { "max_tokens_per_request": 0 } } }), "quotas.models.max_tokens_per_request"),
            (json!({ "quotas": { "models": { "token_budget": { "window": "week" } } } }), "quotas.models.token_budget.window"),
            (
                json!({ "quotas": { "models": { "token_budget": { "window": "day", "max_cost_usd": -0.1 } } } }),
                "quotas.models.token_budget.max_cost_usd",
            ),
        ] {
            assert_eq!(wrong(body), field);
        }
        assert!(check(&TenantCreate::default()).is_ok());
    }
}
