//! Where a waiting run stands in the queue: facts of this hub, weighed by [`aiox_core::run::order`].
//!
//! The facts are in the process: no statement is spent on them when a message is accepted. How an agent's latest runs ended is read
//! from the database once, at the start; the rest is about the workers of the moment.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use aiox_core::run::{Parts, Priority, Weights, order};
use aiox_model::Ts;
use dashmap::DashMap;
use uuid::Uuid;

/// So many of an agent's latest runs make its reputation.
const LATEST: u32 = u64::BITS;
/// Agents whose runs are remembered. At the bound further ones count as new.
const MOST_AGENTS: usize = 65_536;

/// What the order of waiting runs is made of. Cheap to clone; all clones share their facts.
#[derive(Clone, Default)]
pub struct Urgency(Arc<Facts>);

#[derive(Default)]
struct Facts {
    weights: Weights,
    agents: DashMap<Uuid, Record>,
    /// Runs of each tenant that workers have.
    running: DashMap<Uuid, u32>,
    crew: Mutex<Crew>,
}

/// How an agent's latest runs ended.
#[derive(Clone, Copy, Default)]
struct Record {
    /// One bit each, the latest lowest; set = completed.
    bits: u64,
    count: u32,
}
impl Record {
    fn add(&mut self, completed: bool) {
        self.bits = self.bits << 1 | u64::from(completed);
        self.count = (self.count + 1).min(LATEST);
    }

    fn share(self) -> f64 {
        if self.count == 0 { 1.0 } else { f64::from(self.bits.count_ones()) / f64::from(self.count) }
    }
}

/// What the connected workers have together.
#[derive(Default)]
pub(crate) struct Crew {
    pub places: u32,
    pub tools: BTreeSet<String>,
}

/// What is known of a run that begins to wait.
pub(crate) struct Candidate<'a> {
    pub accepted: Ts,
    pub priority: Priority,
    pub tenant: Uuid,
    pub agent: Uuid,
    /// `capabilities.priority_weight`.
    pub owner: f64,
    pub tools: &'a BTreeSet<String>,
}

/// A place at a worker that a tenant holds, until it is dropped.
pub(crate) struct Holding {
    facts: Arc<Facts>,
    tenant: Uuid,
}
impl Drop for Holding {
    fn drop(&mut self) {
        if let dashmap::Entry::Occupied(mut held) = self.facts.running.entry(self.tenant) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl Urgency {
    /// With these weights, and nothing known yet.
    #[must_use]
    pub fn new(weights: Weights) -> Self {
        Self(Arc::new(Facts { weights, ..Facts::default() }))
    }

    /// The order key of a run: a smaller one goes first.
    pub(crate) fn order(&self, run: &Candidate<'_>) -> i64 {
        order(run.accepted, run.priority, self.0.weights, self.parts(run))
    }

    fn parts(&self, run: &Candidate<'_>) -> Parts {
        let crew = self.0.crew.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.0.running.get(&run.tenant).map_or(0, |held| *held);
        let share = |part: u32, whole: u32| if whole == 0 { 0.0 } else { (f64::from(part) / f64::from(whole)).min(1.0) };
        let missing = run.tools.difference(&crew.tools).count();
        Parts {
            reputation: self.0.agents.get(&run.agent).map_or(1.0, |record| record.share()),
            tools: 1.0 - share(u32::try_from(missing).unwrap_or(u32::MAX), u32::try_from(run.tools.len()).unwrap_or(u32::MAX)),
            owner: run.owner,
            load: 1.0 - share(held, crew.places),
        }
    }

    /// A run of an agent has ended; oldest first.
    pub(crate) fn ended(&self, agent: Uuid, completed: bool) {
        if let Some(mut record) = self.0.agents.get_mut(&agent) {
            return record.add(completed);
        }
        if self.0.agents.len() < MOST_AGENTS {
            self.0.agents.entry(agent).or_default().add(completed);
        }
    }

    /// A worker begins a run of a tenant.
    pub(crate) fn holding(&self, tenant: Uuid) -> Holding {
        *self.0.running.entry(tenant).or_default() += 1;
        Holding { facts: self.0.clone(), tenant }
    }

    /// Workers have come or gone. `now` looks at them, one caller at a time, so that the last look wins.
    pub(crate) fn crew(&self, now: impl FnOnce() -> Crew) {
        let mut crew = self.0.crew.lock().unwrap_or_else(PoisonError::into_inner);
        *crew = now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(tools: &BTreeSet<String>) -> Candidate<'_> {
        let (tenant, agent) = (Uuid::from_u128(1), Uuid::from_u128(2));
        Candidate { accepted: Ts::from_seconds(1_800_000_000), priority: Priority::Normal, tenant, agent, owner: 0.5, tools }
    }

    #[test]
    fn nothing_known_is_no_disadvantage() {
        let none = BTreeSet::new();
        let parts = Urgency::default().parts(&candidate(&none));
        assert_eq!(parts, Parts { reputation: 1.0, tools: 1.0, owner: 0.5, load: 1.0 });
    }

    #[test]
    fn tools_that_no_worker_offers_count_by_their_share() {
        let urgency = Urgency::default();
        urgency.crew(|| Crew { places: 4, tools: ["clock".to_owned()].into() });
        let wanted = ["clock".to_owned(), "mail".to_owned()].into();
        assert!((urgency.parts(&candidate(&wanted)).tools - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_place_counts_until_it_is_given_back() {
        let (urgency, none) = (Urgency::default(), BTreeSet::new());
        urgency.crew(|| Crew { places: 4, ..Crew::default() });
        let one = urgency.holding(Uuid::from_u128(1));
        assert!((urgency.parts(&candidate(&none)).load - 0.75).abs() < 1e-9);
        drop(one);
        assert!((urgency.parts(&candidate(&none)).load - 1.0).abs() < 1e-9);
        assert!(urgency.0.running.is_empty());
    }

    proptest! {
        #[test]
        fn a_failure_never_puts_an_agent_forward_and_a_success_never_back(before: Vec<bool>) {
            let none = BTreeSet::new();
            let after = |last: Option<bool>| {
                let urgency = Urgency::default();
                for completed in before.iter().copied().chain(last) {
                    urgency.ended(Uuid::from_u128(2), completed);
                }
                urgency.order(&candidate(&none))
            };
            prop_assert!(after(Some(true)) <= after(Some(false)));
            // The window forgets the oldest end, so the comparison with before holds while it is not full.
            if before.len() < LATEST as usize {
                prop_assert!(after(Some(true)) <= after(None));
                prop_assert!(after(Some(false)) >= after(None));
            }
        }

        #[test]
        fn the_more_places_a_tenant_holds_the_later_its_next_run(held in 0usize..40, more in 1usize..40, places in 0u32..64) {
            let none = BTreeSet::new();
            let after = |held: usize| {
                let urgency = Urgency::default();
                urgency.crew(|| Crew { places, ..Crew::default() });
                let _places: Vec<_> = (0..held).map(|_| urgency.holding(Uuid::from_u128(1))).collect();
                urgency.order(&candidate(&none))
            };
            prop_assert!(after(held) <= after(held + more));
        }
    }
}
