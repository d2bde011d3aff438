//! Which hub a forwarded run goes to.

use aiox_model::{
    Ts,
    v1::federation::{API_VERSION, Stack, TargetSelector},
};

/// A peer that may be chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its domain.
    pub domain: String,
    /// What it tells of itself.
    pub stack: Stack,
    /// Whether its record lets traffic flow.
    pub active: bool,
    /// Whether nothing waits for it longer than a delivery takes.
    pub healthy: bool,
    /// Messages that wait for it.
    pub waiting: u64,
    /// Whether it is a plain node that an operator has let in without mutual TLS.
    pub plain: bool,
    /// When it was last in contact.
    pub last_seen_at: Option<Ts>,
}

/// Where a run goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Chosen<'a> {
    /// It stays here.
    Own,
    /// To this peer.
    Peer(&'a Candidate),
}

/// Why a run goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTarget {
    /// No peer has this id.
    Unknown,
    /// It is known and no traffic flows.
    Down(String),
    /// No peer can do what is asked.
    Unmet {
        /// Capabilities that are missing.
        missing: Vec<String>,
        /// The region that no peer has.
        region: Option<String>,
        /// Whether there is no common version of the surface.
        version: bool,
    },
}

/// Chooses. The same facts always give the same choice: what is asked for by id is that hub and no other; else the first of those that
/// can, by the preferred tier, health, what waits for it, and its id.
///
/// # Errors
/// [`NoTarget`], and then nothing is made anywhere.
pub fn choose<'a>(selector: &TargetSelector, own: &str, candidates: &'a [Candidate]) -> Result<Chosen<'a>, NoTarget> {
    if let Some(id) = &selector.stack_id {
        if id == own {
            return Ok(Chosen::Own);
        }
        let peer = candidates.iter().find(|candidate| candidate.stack.peer.stack_id == *id).ok_or(NoTarget::Unknown)?;
        if let Some(unmet) = unmet(selector, peer) {
            return Err(unmet);
        }
        return if peer.active { Ok(Chosen::Peer(peer)) } else { Err(NoTarget::Down(id.clone())) };
    }
    let mut able: Vec<&Candidate> = candidates.iter().filter(|candidate| unmet(selector, candidate).is_none()).collect();
    if able.is_empty() {
        return Err(nearest(selector, candidates));
    }
    let tier = |candidate: &Candidate| {
        selector.preferred_model_tier.as_ref().is_some_and(|tier| candidate.stack.capabilities.models.tiers.contains(tier))
    };
    able.sort_by(|a, b| {
        let key = |candidate: &Candidate| (!tier(candidate), !candidate.healthy, candidate.waiting);
        key(a).cmp(&key(b)).then_with(|| a.stack.peer.stack_id.cmp(&b.stack.peer.stack_id))
    });
    match able.iter().find(|candidate| candidate.active) {
        Some(peer) => Ok(Chosen::Peer(peer)),
        None => Err(NoTarget::Down(able.first().map_or_else(String::new, |peer| peer.stack.peer.stack_id.clone()))),
    }
}

/// What of a selector a peer does not meet.
fn unmet(selector: &TargetSelector, peer: &Candidate) -> Option<NoTarget> {
    let missing: Vec<String> = selector.required_capabilities.iter().filter(|name| !can(peer, name)).cloned().collect();
    let region = selector.region.clone().filter(|region| *region != peer.stack.peer.region);
    let version = !peer.stack.peer.api_versions.iter().any(|version| version == API_VERSION);
    (!missing.is_empty() || region.is_some() || version).then_some(NoTarget::Unmet { missing, region, version })
}

/// What is missing, told by the peer that lacks least; of equals, the first by id.
fn nearest(selector: &TargetSelector, candidates: &[Candidate]) -> NoTarget {
    let all = candidates.iter().filter_map(|candidate| match unmet(selector, candidate) {
        Some(NoTarget::Unmet { missing, region, version }) => {
            let distance = (region.is_some(), version, missing.len(), candidate.stack.peer.stack_id.clone());
            Some((distance, NoTarget::Unmet { missing, region, version }))
        }
        _ => None,
    });
    let nothing = || NoTarget::Unmet { missing: selector.required_capabilities.clone(), region: selector.region.clone(), version: false };
    all.min_by(|a, b| a.0.cmp(&b.0)).map_or_else(nothing, |(_, unmet)| unmet)
}

/// Whether a peer declares a capability. `.` and `_` are the same in names.
fn can(peer: &Candidate, name: &str) -> bool {
    let supports = &peer.stack.capabilities.supports;
    match name.replace('.', "_").as_str() {
        "runs_forward" => supports.runs_forward,
        "events_stream" => supports.events_stream,
        "tenant_isolation" => supports.tenant_isolation,
        "tool_hosting" => supports.tool_hosting,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(domain: &str, change: impl FnOnce(&mut Candidate)) -> Candidate {
        let mut peer = Candidate {
            domain: domain.into(),
            stack: Stack::untold(domain),
            active: true,
            healthy: true,
            waiting: 0,
            plain: false,
            last_seen_at: None,
        };
        peer.stack.peer.region = "eu".into();
        change(&mut peer);
        peer
    }
    fn wanted(change: impl FnOnce(&mut TargetSelector)) -> TargetSelector {
        let mut selector = TargetSelector::default();
        change(&mut selector);
        selector
    }
    fn name(chosen: Result<Chosen<'_>, NoTarget>) -> Result<String, NoTarget> {
        chosen.map(|chosen| match chosen {
            Chosen::Own => "own".into(),
            Chosen::Peer(peer) => peer.domain.clone(),
        })
    }

    #[test]
    fn an_id_is_that_hub_and_no_other() {
        let all = [peer("b.example", |_| {}), peer("c.example", |peer| peer.active = false)];
        let of = |id: &str| name(choose(&wanted(|selector| selector.stack_id = Some(id.into())), "stk_a", &all));
        assert_eq!(of("stk_a"), Ok("own".into()));
        assert_eq!(of("stk_b.example"), Ok("b.example".into()));
        assert_eq!(of("stk_c.example"), Err(NoTarget::Down("stk_c.example".into())));
        assert_eq!(of("stk_d.example"), Err(NoTarget::Unknown));
    }

    #[test]
    fn capabilities_and_region_are_hard_and_what_is_missing_is_named() {
        let all = [peer("b.example", |_| {}), peer("c.example", |peer| peer.stack.capabilities.supports.tool_hosting = true)];
        let of = |names: &[&str], region: Option<&str>| {
            let selector = wanted(|selector| {
                selector.required_capabilities = names.iter().map(|name| (*name).to_owned()).collect();
                selector.region = region.map(str::to_owned);
            });
            name(choose(&selector, "stk_a", &all))
        };
        assert_eq!(of(&["runs.forward", "events_stream"], Some("eu")), Ok("b.example".into()));
        assert_eq!(of(&["tool.hosting"], None), Ok("c.example".into()));
        let unmet = NoTarget::Unmet { missing: vec!["teleport".into()], region: None, version: false };
        assert_eq!(of(&["teleport", "tool_hosting"], None), Err(unmet));
        let region = NoTarget::Unmet { missing: vec![], region: Some("mars".into()), version: false };
        assert_eq!(of(&[], Some("mars")), Err(region));
        assert!(matches!(choose(&wanted(|_| {}), "stk_a", &[]), Err(NoTarget::Unmet { .. })));
        let old = [peer("b.example", |peer| peer.stack.peer.api_versions.clear())];
        assert!(matches!(choose(&wanted(|_| {}), "stk_a", &old), Err(NoTarget::Unmet { version: true, .. })));
    }

    #[test]
    fn the_choice_is_the_same_in_any_order() {
        let mut all = vec![
            peer("d.example", |_| {}),
            peer("b.example", |peer| peer.healthy = false),
            peer("c.example", |peer| peer.waiting = 5),
            peer("e.example", |peer| peer.stack.capabilities.models.tiers = vec!["fast".into()]),
        ];
        let plain = wanted(|_| {});
        let fast = wanted(|selector| selector.preferred_model_tier = Some("fast".into()));
        for _ in 0..all.len() {
            all.rotate_left(1);
            assert_eq!(name(choose(&plain, "stk_a", &all)), Ok("d.example".into()));
            assert_eq!(name(choose(&fast, "stk_a", &all)), Ok("e.example".into()));
        }
    }
}
