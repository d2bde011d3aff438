//! Which model answers: the catalogue's entries, what a tenant may use, and the router.
//!
//! The router is a pure function. Equal input gives an equal decision, whatever the order of the candidates, and every choice says
//! why it was made.

use aiox_model::{Ts, v1};

use crate::quota;

/// Class of a model, from the quickest and cheapest to the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Quick and cheap.
    Fast,
    /// In between.
    Balanced,
    /// The best.
    Premium,
}
impl Tier {
    /// Every tier.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Balanced, Self::Premium];

    /// The text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Balanced => "balanced",
            Self::Premium => "premium",
        }
    }
    /// The tier of a text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == text)
    }
    /// How far `other` is when this tier was asked for: first itself, then the better ones, then the lesser ones.
    const fn distance(self, other: Self) -> u8 {
        let (asked, other) = (self as u8, other as u8);
        if other >= asked { other - asked } else { 3 + asked - other }
    }
}

/// What a model is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Answer a conversation.
    Chat,
    /// Make vectors of texts.
    Embed,
}
impl Operation {
    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embed => "embed",
        }
    }
    /// The operation of a text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Chat, Self::Embed].into_iter().find(|operation| operation.as_str() == text)
    }
}

/// What tokens cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Micro-dollars for a million tokens of the prompt.
    pub input: u64,
    /// Micro-dollars for a million tokens of the answer.
    pub output: u64,
}
impl Price {
    /// Micro-dollars of a call, rounded up.
    #[must_use]
    pub fn cost(self, input_tokens: u64, output_tokens: u64) -> u64 {
        let exact = u128::from(self.input) * u128::from(input_tokens) + u128::from(self.output) * u128::from(output_tokens);
        u64::try_from(exact.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// An entry of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// What requests call it.
    pub id: String,
    /// Its provider, in lower case.
    pub provider: String,
    /// What the provider calls it.
    pub name: String,
    /// Its class.
    pub tier: Tier,
    /// What it can do.
    pub operations: Vec<Operation>,
    /// Tokens of prompt and answer together, if known.
    pub context_tokens: Option<u32>,
    /// Most tokens of an answer, if known.
    pub max_output_tokens: Option<u32>,
    /// What it costs, if known. Without a price it fits no request that limits the cost.
    pub price: Option<Price>,
    /// Whether it runs on the operator's own machines.
    pub local: bool,
    /// Milliseconds that it usually takes, until enough calls have been measured.
    pub latency_ms: u32,
    /// Models that may answer in its place, in this order.
    pub fallback: Vec<String>,
}

/// Whether a model can be called now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A connected worker serves it.
    Ready,
    /// It failed again and again and gets a pause.
    Failing,
    /// No connected worker serves it.
    Unreachable,
}

/// A model and how it is.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The model.
    pub model: &'a Model,
    /// Whether it can be called.
    pub standing: Standing,
    /// Milliseconds that it takes: measured, or [`Model::latency_ms`].
    pub latency_ms: u32,
}

/// What a tenant may use and spend. The default allows everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// Tiers that may be used; `None` = all.
    pub tiers: Option<Vec<Tier>>,
    /// Providers that may be used, in lower case; `None` = all.
    pub backends: Option<Vec<String>>,
    /// Models that may be used, by id; `None` = all.
    pub allowed_models: Option<Vec<String>>,
    /// Models that may not be used, by id or `provider/name`. Wins over everything.
    pub denied_models: Vec<String>,
}

impl Entitlements {
    /// Those of a tenant. A tier that is no tier allows nothing.
    #[must_use]
    pub fn of(entitlements: &v1::tenants::Entitlements, policy: &v1::tenants::ModelPolicy) -> Self {
        let tiers = entitlements.model_tiers_allowed.as_ref();
        Self {
            tiers: tiers.map(|tiers| tiers.iter().filter_map(|tier| Tier::parse(tier)).collect()),
            backends: entitlements.model_backends_allowed.clone(),
            allowed_models: policy.allowed_models.clone(),
            denied_models: policy.denied_models.clone().unwrap_or_default(),
        }
    }

    /// Why a model may not be used; empty when it may.
    #[must_use]
    pub fn against(&self, model: &Model) -> Vec<String> {
        let full = format!("{}/{}", model.provider, model.name);
        let names = |list: &[String]| list.iter().any(|name| *name == model.id || *name == full);
        let mut reasons = Vec::new();
        if names(&self.denied_models) {
            reasons.push(format!("model_denied:{}", model.id));
        }
        if self.allowed_models.as_ref().is_some_and(|allowed| !names(allowed)) {
            reasons.push(format!("model_not_allowed:{}", model.id));
        }
        if self.tiers.as_ref().is_some_and(|tiers| !tiers.contains(&model.tier)) {
            reasons.push(format!("tier_not_entitled:{}", model.tier.as_str()));
        }
        if self.backends.as_ref().is_some_and(|backends| !backends.iter().any(|backend| backend.eq_ignore_ascii_case(&model.provider))) {
            reasons.push(format!("backend_not_entitled:{}", model.provider));
        }
        reasons
    }
}

/// What is asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `tier:fast` and the like.
    Tier(Tier),
    /// A model's id.
    Id(String),
}
impl Reference {
    /// Reads a `model_ref`. `None`: `tier:` without a known tier.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("tier:") {
            Some(tier) => Tier::parse(tier).map(Self::Tier),
            None => Some(Self::Id(text.to_owned())),
        }
    }
}

/// A request, as far as the router has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What is asked for.
    pub reference: Reference,
    /// What is to be done.
    pub operation: Operation,
    /// Estimate of the prompt's tokens, of all texts together.
    pub input_tokens: u64,
    /// Estimate of what has to fit into the context at once: a whole conversation, or the longest text to embed.
    pub longest_tokens: u64,
    /// Most tokens of the answer.
    pub output_tokens: u32,
    /// Most milliseconds that the model may usually take.
    pub max_latency_ms: Option<u32>,
    /// Most micro-dollars of the call.
    pub max_cost: Option<u64>,
    /// Least context window.
    pub min_context_tokens: Option<u32>,
}

/// One model to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Index among the candidates.
    pub index: usize,
    /// Whether it stands in for the one that was preferred.
    pub fallback: bool,
    /// Why it is here, in words.
    pub reason: String,
}

/// Why no model can be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The catalogue has no such model, or none of that tier's operation.
    NotFound,
    /// The model cannot do this.
    WrongOperation,
    /// The tenant may not use it; why.
    NotEntitled(Vec<String>),
    /// No allowed model meets the requirements; which.
    Unmet(Vec<&'static str>),
    /// Every model that fits is down.
    Unavailable,
}

/// The models to try, best first. A tier is searched before better ones, those before lesser ones; inside a tier the cheapest goes
/// first. A model that is asked for by its id has only the stand-ins that its entry names. What the tenant may not use is never a
/// stand-in.
///
/// # Errors
/// [`Refusal`].
pub fn route(ask: &Ask, candidates: &[Candidate<'_>], entitlements: &Entitlements) -> Result<Vec<Choice>, Refusal> {
    if let Reference::Tier(tier) = ask.reference
        && entitlements.tiers.as_ref().is_some_and(|tiers| !tiers.contains(&tier))
    {
        return Err(Refusal::NotEntitled(vec![format!("tier_not_entitled:{}", tier.as_str())]));
    }
    let preferred = preferred(ask, candidates)?;
    let named = preferred.first().map(|at| candidates[*at].model.id.as_str());
    let mut denied = Vec::new();
    let mut unmet: Vec<&'static str> = Vec::new();
    let mut down = 0;
    let mut first = None;
    let mut choices = Vec::new();
    for (rank, at) in preferred.iter().enumerate() {
        let candidate = &candidates[*at];
        let asked_for = match &ask.reference {
            Reference::Tier(tier) => candidate.model.tier == *tier,
            Reference::Id(_) => rank == 0,
        };
        let against = entitlements.against(candidate.model);
        if !against.is_empty() {
            // Whoever names what is not theirs gets a refusal and no stand-in.
            if matches!(ask.reference, Reference::Id(_)) && rank == 0 {
                return Err(Refusal::NotEntitled(against));
            }
            denied.extend(against.into_iter().filter(|_| asked_for));
            continue;
        }
        let missing = unmet_by(ask, candidate);
        if !missing.is_empty() {
            unmet.extend(missing);
            continue;
        }
        let best = *first.get_or_insert((*at, asked_for));
        let fallback = best != (*at, true);
        if candidate.standing != Standing::Ready {
            down += 1;
            continue;
        }
        let reason = match &ask.reference {
            Reference::Id(_) if !fallback => "named by the request".to_owned(),
            Reference::Id(_) => format!("stand-in for {}", named.unwrap_or_default()),
            Reference::Tier(tier) if !fallback => format!("cheapest of tier {}", tier.as_str()),
            Reference::Tier(tier) if asked_for => format!("next of tier {}", tier.as_str()),
            Reference::Tier(tier) => format!("tier {} instead of {}", candidate.model.tier.as_str(), tier.as_str()),
        };
        choices.push(Choice { index: *at, fallback, reason });
    }
    if !choices.is_empty() {
        return Ok(choices);
    }
    if down > 0 {
        return Err(Refusal::Unavailable);
    }
    if !unmet.is_empty() {
        unmet.sort_unstable();
        unmet.dedup();
        return Err(Refusal::Unmet(unmet));
    }
    denied.sort_unstable();
    denied.dedup();
    if denied.is_empty() {
        // A tier without a model of its own, and the others are not allowed.
        return Err(Refusal::NotFound);
    }
    Err(Refusal::NotEntitled(denied))
}

/// Every candidate that could answer at all, by preference alone.
fn preferred(ask: &Ask, candidates: &[Candidate<'_>]) -> Result<Vec<usize>, Refusal> {
    let position = |id: &str| candidates.iter().position(|candidate| candidate.model.id == id);
    match &ask.reference {
        Reference::Id(id) => {
            let named = position(id).ok_or(Refusal::NotFound)?;
            if !candidates[named].model.operations.contains(&ask.operation) {
                return Err(Refusal::WrongOperation);
            }
            let mut all = vec![named];
            for stand_in in candidates[named].model.fallback.iter().filter_map(|id| position(id)) {
                if !all.contains(&stand_in) && candidates[stand_in].model.operations.contains(&ask.operation) {
                    all.push(stand_in);
                }
            }
            Ok(all)
        }
        Reference::Tier(tier) => {
            let mut all: Vec<usize> =
                (0..candidates.len()).filter(|at| candidates[*at].model.operations.contains(&ask.operation)).collect();
            all.sort_by_key(|at| {
                let model = candidates[*at].model;
                let cost = model.price.map_or(u64::MAX, |price| price.cost(ask.input_tokens, u64::from(ask.output_tokens)));
                (tier.distance(model.tier), cost, model.id.as_str())
            });
            if all.is_empty() { Err(Refusal::NotFound) } else { Ok(all) }
        }
    }
}

/// The requirements that a model does not meet.
fn unmet_by(ask: &Ask, candidate: &Candidate<'_>) -> Vec<&'static str> {
    let model = candidate.model;
    let mut unmet = Vec::new();
    // What is not known does not meet a requirement.
    if ask.min_context_tokens.is_some_and(|least| model.context_tokens.is_none_or(|context| context < least)) {
        unmet.push("min_context_tokens");
    }
    if model.context_tokens.is_some_and(|context| ask.longest_tokens > u64::from(context)) {
        unmet.push("context_window");
    }
    if let Some(most) = ask.max_cost
        && model.price.is_none_or(|price| price.cost(ask.input_tokens, u64::from(ask.output_tokens)) > most)
    {
        unmet.push("max_cost_usd");
    }
    if ask.max_latency_ms.is_some_and(|most| candidate.latency_ms > most) {
        unmet.push("max_latency_ms");
    }
    unmet
}

/// Notices that a model fails again and again, and gives it a pause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    /// Microseconds since the epoch at which it may be tried again.
    until: Option<i64>,
}
impl Breaker {
    /// Failures in a row that open it.
    pub const FAILURES: u32 = 5;
    /// Seconds of the pause. Then one call after the other is let through until one works.
    pub const PAUSE: i64 = 10;

    /// A call worked.
    pub fn worked(&mut self) {
        *self = Self::default();
    }
    /// A call failed for a reason that lies with the model's backend.
    pub fn failed(&mut self, at: Ts) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= Self::FAILURES {
            self.until = Some(at.plus_seconds(Self::PAUSE).micros());
        }
    }
    /// Whether calls are to be kept away from it.
    #[must_use]
    pub fn is_open(&self, at: Ts) -> bool {
        self.until.is_some_and(|until| at.micros() < until)
    }
}

/// Upper estimate of the tokens of texts: four bytes of UTF-8 make about one token, and each text has a few of its own.
#[must_use]
pub fn estimate<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    texts.into_iter().map(|text| quota::reserve(text, 4)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn model(id: &str, tier: Tier, price: u64) -> Model {
        Model {
            id: id.into(),
            provider: id.split('/').next().unwrap_or_default().into(),
            name: id.into(),
            tier,
            operations: vec![Operation::Chat],
            context_tokens: Some(8192),
            max_output_tokens: Some(1024),
            price: Some(Price { input: price, output: price }),
            local: false,
            latency_ms: 500,
            fallback: Vec::new(),
        }
    }

    fn ready(models: &[Model]) -> Vec<Candidate<'_>> {
        models.iter().map(|model| Candidate { model, standing: Standing::Ready, latency_ms: model.latency_ms }).collect()
    }

    fn ask(reference: &str) -> Ask {
        Ask {
            reference: Reference::parse(reference).unwrap(),
            operation: Operation::Chat,
            input_tokens: 100,
            longest_tokens: 100,
            output_tokens: 100,
            max_latency_ms: None,
            max_cost: None,
            min_context_tokens: None,
        }
    }

    fn ids(ask: &Ask, candidates: &[Candidate<'_>], entitlements: &Entitlements) -> Vec<(String, bool)> {
        let choices = route(ask, candidates, entitlements).unwrap();
        choices.into_iter().map(|choice| (candidates[choice.index].model.id.clone(), choice.fallback)).collect()
    }

    #[test]
    fn a_cost_is_exact_and_rounded_up() {
        let price = Price { input: 150_000, output: 600_000 };
        assert_eq!(price.cost(1_000_000, 0), 150_000);
        assert_eq!(price.cost(1, 0), 1);
        assert_eq!(price.cost(0, 0), 0);
        assert_eq!(price.cost(1000, 500), 450);
        assert_eq!(Price { input: u64::MAX, output: 0 }.cost(u64::MAX, 0), u64::MAX);
    }

    #[test]
    fn a_tier_is_searched_by_price_then_better_ones_then_lesser_ones() {
        let models = [
            model("a/premium", Tier::Premium, 10),
            model("b/fast", Tier::Fast, 1),
            model("c/dear", Tier::Balanced, 500_000),
            model("d/cheap", Tier::Balanced, 20_000),
            Model { price: None, ..model("e/unknown", Tier::Balanced, 0) },
        ];
        let got = ids(&ask("tier:balanced"), &ready(&models), &Entitlements::default());
        let wanted = [("d/cheap", false), ("c/dear", true), ("e/unknown", true), ("a/premium", true), ("b/fast", true)];
        assert_eq!(got, wanted.map(|(id, fallback)| (id.to_owned(), fallback)));
    }

    #[test]
    fn a_named_model_has_only_the_stand_ins_of_its_entry() {
        let models = [
            Model { fallback: vec!["c/other".into(), "x/unknown".into()], ..model("a/main", Tier::Fast, 5) },
            model("b/twin", Tier::Fast, 1),
            model("c/other", Tier::Premium, 9),
        ];
        let got = ids(&ask("a/main"), &ready(&models), &Entitlements::default());
        assert_eq!(got, [("a/main".to_owned(), false), ("c/other".to_owned(), true)]);
        assert_eq!(ids(&ask("b/twin"), &ready(&models), &Entitlements::default()).len(), 1);
        assert_eq!(route(&ask("z/none"), &ready(&models), &Entitlements::default()), Err(Refusal::NotFound));
        let embed = Ask { operation: Operation::Embed, ..ask("a/main") };
        assert_eq!(route(&embed, &ready(&models), &Entitlements::default()), Err(Refusal::WrongOperation));
        let embed = Ask { operation: Operation::Embed, ..ask("tier:fast") };
        assert_eq!(route(&embed, &ready(&models), &Entitlements::default()), Err(Refusal::NotFound));
    }

    #[test]
    fn a_stand_in_for_what_is_down_says_so_and_all_down_is_unavailable() {
        let models = [model("a/main", Tier::Fast, 1), model("b/next", Tier::Fast, 2)];
        let mut candidates = ready(&models);
        candidates[0].standing = Standing::Unreachable;
        assert_eq!(ids(&ask("tier:fast"), &candidates, &Entitlements::default()), [("b/next".to_owned(), true)]);
        candidates[1].standing = Standing::Failing;
        assert_eq!(route(&ask("tier:fast"), &candidates, &Entitlements::default()), Err(Refusal::Unavailable));
        assert_eq!(route(&ask("b/next"), &candidates, &Entitlements::default()), Err(Refusal::Unavailable));
    }

    #[test]
    fn what_is_not_entitled_is_refused_and_no_stand_in() {
        let models = [
            Model { fallback: vec!["b/next".into()], ..model("a/main", Tier::Fast, 1) },
            model("b/next", Tier::Fast, 2),
            model("c/premium", Tier::Premium, 3),
        ];
        let candidates = ready(&models);
        let denied = |entitlements: Entitlements, reference: &str| route(&ask(reference), &candidates, &entitlements);
        let deny = |id: &str| Entitlements {
            denied_models: vec![id.into()],
            allowed_models: Some(models.iter().map(|model| model.id.clone()).collect()),
            ..Entitlements::default()
        };
        assert_eq!(denied(deny("a/main"), "a/main"), Err(Refusal::NotEntitled(vec!["model_denied:a/main".into()])));
        assert_eq!(ids(&ask("a/main"), &candidates, &deny("b/next")), [("a/main".to_owned(), false)]);
        let fast_only = Entitlements { tiers: Some(vec![Tier::Fast]), ..Entitlements::default() };
        assert_eq!(denied(fast_only.clone(), "tier:premium"), Err(Refusal::NotEntitled(vec!["tier_not_entitled:premium".into()])));
        assert_eq!(ids(&ask("tier:fast"), &candidates, &fast_only).len(), 2);
        let backend = Entitlements { backends: Some(vec!["B".into()]), ..Entitlements::default() };
        assert_eq!(ids(&ask("tier:fast"), &candidates, &backend), [("b/next".to_owned(), false)]);
        let nothing = Entitlements { allowed_models: Some(Vec::new()), ..Entitlements::default() };
        assert!(matches!(denied(nothing, "tier:fast"), Err(Refusal::NotEntitled(reasons)) if reasons.len() == 2));
    }

    #[test]
    fn requirements_choose_and_the_unknown_meets_none() {
        let models = [
            Model { latency_ms: 5000, ..model("a/slow", Tier::Fast, 1_000) },
            Model { context_tokens: Some(100_000), ..model("b/dear", Tier::Fast, 9_000_000) },
            Model { price: None, context_tokens: None, ..model("c/unknown", Tier::Fast, 0) },
        ];
        let candidates = ready(&models);
        let all = Entitlements::default();
        let quick = Ask { max_latency_ms: Some(1000), ..ask("tier:fast") };
        assert_eq!(ids(&quick, &candidates, &all)[0].0, "b/dear");
        let cheap = Ask { max_cost: Some(100), ..ask("tier:fast") };
        assert_eq!(ids(&cheap, &candidates, &all), [("a/slow".to_owned(), false)]);
        let long = Ask { min_context_tokens: Some(50_000), ..ask("tier:fast") };
        assert_eq!(ids(&long, &candidates, &all), [("b/dear".to_owned(), false)]);
        let none = Ask { max_cost: Some(100), min_context_tokens: Some(50_000), ..ask("tier:fast") };
        assert_eq!(route(&none, &candidates, &all), Err(Refusal::Unmet(vec!["max_cost_usd", "min_context_tokens"])));
        let huge = Ask { input_tokens: 10_000, longest_tokens: 10_000, ..ask("a/slow") };
        assert_eq!(route(&huge, &candidates, &all), Err(Refusal::Unmet(vec!["context_window"])));
        let many = Ask { input_tokens: 10_000, longest_tokens: 10, ..ask("a/slow") };
        assert!(route(&many, &candidates, &all).is_ok());
    }

    #[test]
    fn a_breaker_opens_after_failures_in_a_row_and_closes_with_a_success() {
        let at = Ts::from_seconds(1_000_000);
        let mut breaker = Breaker::default();
        for _ in 1..Breaker::FAILURES {
            breaker.failed(at);
        }
        assert!(!breaker.is_open(at));
        breaker.failed(at);
        assert!(breaker.is_open(at));
        let later = at.plus_seconds(Breaker::PAUSE);
        assert!(!breaker.is_open(later));
        breaker.failed(later);
        assert!(breaker.is_open(later), "one failure after the pause opens it again");
        breaker.worked();
        assert!(!breaker.is_open(later));
    }

    fn any_model() -> impl Strategy<Value = (Model, u8)> {
        (0..6_u8, 0..3_usize, prop::option::of(0..5_000_000_u64), any::<bool>(), prop::option::of(1..20_000_u32), 0..3_u8).prop_map(
            |(name, tier, price, embeds, context, standing)| {
                let mut one = model(&format!("p{}/m{name}", name % 3), Tier::ALL[tier], 0);
                one.price = price.map(|price| Price { input: price, output: price });
                one.context_tokens = context;
                if embeds {
                    one.operations = vec![Operation::Embed];
                }
                one.fallback = vec![format!("p{}/m{}", (name + 1) % 3, (name + 1) % 6), format!("p{}/m{}", (name + 2) % 3, (name + 2) % 6)];
                (one, standing)
            },
        )
    }

    fn any_entitlements() -> impl Strategy<Value = Entitlements> {
        let names = || prop::collection::vec((0..6_u8).prop_map(|name| format!("p{}/m{name}", name % 3)), 0..4);
        let backends = prop::collection::vec((0..3_u8).prop_map(|name| format!("p{name}")), 0..3);
        let tiers = prop::collection::vec((0..3_usize).prop_map(|tier| Tier::ALL[tier]), 0..3);
        (prop::option::of(tiers), prop::option::of(backends), prop::option::of(names()), names())
            .prop_map(|(tiers, backends, allowed_models, denied_models)| Entitlements { tiers, backends, allowed_models, denied_models })
    }

    proptest! {
        #[test]
        fn no_choice_breaks_a_rule_and_equal_input_gives_an_equal_decision(
            mut models in prop::collection::vec(any_model(), 0..8),
            entitlements in any_entitlements(),
            by_tier: bool,
            which in 0..6_u8,
            max_cost in prop::option::of(0..1000_u64),
            least in prop::option::of(0..20_000_u32),
            turn in 0..8_usize,
        ) {
            models.sort_by(|a, b| a.0.id.cmp(&b.0.id));
            models.dedup_by(|a, b| a.0.id == b.0.id);
            let candidates: Vec<Candidate<'_>> = models
                .iter()
                .map(|(model, standing)| {
                    let standing = [Standing::Ready, Standing::Failing, Standing::Unreachable][usize::from(*standing)];
                    Candidate { model, standing, latency_ms: model.latency_ms }
                })
                .collect();
            let reference = match by_tier {
                true => format!("tier:{}", Tier::ALL[usize::from(which % 3)].as_str()),
                false => format!("p{}/m{which}", which % 3),
            };
            let wanted = Ask { max_cost, min_context_tokens: least, ..ask(&reference) };
            let first = route(&wanted, &candidates, &entitlements);
            let mut turned = candidates.clone();
            turned.rotate_left(if candidates.is_empty() { 0 } else { turn % candidates.len() });
            let names = |got: &Result<Vec<Choice>, Refusal>, of: &[Candidate<'_>]| {
                got.clone().map(|all| all.into_iter().map(|one| (of[one.index].model.id.clone(), one.fallback, one.reason)).collect::<Vec<_>>())
            };
            prop_assert_eq!(names(&first, &candidates), names(&route(&wanted, &turned, &entitlements), &turned));
            if let Ok(choices) = first {
                prop_assert!(!choices.is_empty());
                for choice in &choices {
                    let candidate = &candidates[choice.index];
                    let model = candidate.model;
                    prop_assert!(candidate.standing == Standing::Ready);
                    prop_assert!(model.operations.contains(&Operation::Chat));
                    prop_assert!(entitlements.against(model).is_empty());
                    prop_assert!(!entitlements.denied_models.contains(&model.id));
                    prop_assert!(max_cost.is_none_or(|most| model.price.unwrap().cost(100, 100) <= most));
                    prop_assert!(least.is_none_or(|least| model.context_tokens.unwrap() >= least));
                }
                prop_assert!(choices.iter().skip(1).all(|choice| choice.fallback), "only the first can be the preferred one");
            }
        }
    }
}
