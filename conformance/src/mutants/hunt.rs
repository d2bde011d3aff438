//! Lets the suite judge every mutant, several at once.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{CONTROL, FRONTED, Mutant, mutants, proxy::Proxy};
use crate::{
    Expected, Judgement, Options, Verdict, cases,
    judge::{DOCUMENTED, PATIENCE, describe, look, run},
    requirement::requirements,
    tamper::Tamper,
    world::World,
};

/// Hubs that are judged at once.
const LANES: usize = 8;
/// Longest time of one case on one mutant.
const CASE: Duration = Duration::from_secs(90);

/// What came of one mutant.
#[derive(Debug, Clone, Serialize)]
pub struct Fate {
    /// What was broken.
    pub mutant: String,
    /// The requirement.
    pub breaks: String,
    /// The case that failed on it; absent when it survived or was not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caught_by: Option<String>,
    /// What that case said, or what it said instead of failing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// Why the case can catch nothing on this hub: it does not pass when nothing is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_judged: Option<String>,
    /// Whether that is known: an expected failure, or something that the suite was not given.
    #[serde(skip)]
    pub excused: bool,
    /// How long it took.
    #[serde(skip)]
    pub took: Duration,
}

/// What came of all of them, by requirement.
#[derive(Debug, Clone, Serialize)]
pub struct Fates {
    /// How many there were.
    pub total: usize,
    /// How many were noticed.
    pub caught: usize,
    /// How many were not.
    pub survived: usize,
    /// How many could not be judged, because their case does not pass on the unbroken hub.
    pub not_judged: usize,
    /// Each of them.
    pub mutants: Vec<Fate>,
}

impl Fates {
    fn new(mut mutants: Vec<Fate>) -> Self {
        mutants.sort_by(|a, b| (&a.breaks, &a.mutant).cmp(&(&b.breaks, &b.mutant)));
        let count = |wanted: fn(&Fate) -> bool| mutants.iter().filter(|fate| wanted(fate)).count();
        let (caught, not_judged) = (count(|fate| fate.caught_by.is_some()), count(|fate| fate.not_judged.is_some()));
        Self { total: mutants.len(), caught, survived: mutants.len() - caught - not_judged, not_judged, mutants }
    }

    /// Exit code: 0 when every mutant was caught or is known not to be judged here, 1 else, 2 when none was judged.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let bad = |fate: &Fate| fate.caught_by.is_none() && !fate.excused;
        if self.mutants.iter().any(bad) { 1 } else { u8::from(self.caught == 0) * 2 }
    }

    /// Each mutant with the case that caught it, and the sum.
    #[must_use]
    pub fn table(&self) -> String {
        let width = self.mutants.iter().map(|fate| fate.mutant.chars().count()).max().unwrap_or_default();
        let mut out = String::new();
        for fate in &self.mutants {
            let word = match (&fate.caught_by, &fate.not_judged) {
                (Some(case), _) => case.clone(),
                (None, Some(why)) => format!("not judged: {why}"),
                (None, None) => format!("SURVIVED {}: {}", fate.breaks, fate.said.as_deref().unwrap_or("the case passed")),
            };
            let _ = writeln!(out, "{:width$}  {word}", fate.mutant);
        }
        let _ = writeln!(
            out,
            "{} of {} mutants were caught, {} survived, {} were not judged",
            self.caught, self.total, self.survived, self.not_judged
        );
        out
    }
}

/// A case and the mutants that it has to catch.
struct Job {
    id: &'static str,
    mutants: Vec<&'static Mutant>,
}

/// Lets the suite judge every mutant of a good hub. `told` is called after each.
///
/// # Errors
/// A text, when the hub cannot be judged at all.
pub async fn hunt(options: &Options, expected: &Expected, told: impl Fn(&Fate)) -> Result<Fates, String> {
    let mut options = Options { case_timeout: CASE, ..options.clone() };
    if options.other_ports.is_empty() {
        // The hub itself is another port than its proxy.
        options.other_ports.push(options.target.clone());
    }
    let world = |options: &Options| World::new(options.clone()).map_err(|error| format!("no HTTP client: {error}"));
    look(&world(&options)?, PATIENCE).await?;
    let jobs = Mutex::new(jobs(&options));
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    // Each lane has accounts of its own, so that no list of one gets too long to be read at once.
    let lanes = (0..LANES).map(|_| async {
        let home = world(&options)?;
        home.furnish().await;
        let mut fates = Vec::new();
        while let Some(job) = next() {
            for fate in work(&home, &job, expected).await? {
                told(&fate);
                fates.push(fate);
            }
        }
        let left = home.clean().await;
        home.close_accounts().await;
        if !left.is_empty() {
            tracing::warn!(?left, "the suite could not take away all that it made");
        }
        Ok::<_, String>(fates)
    });
    Ok(Fates::new(futures::future::try_join_all(lanes).await?.into_iter().flatten().collect()))
}

/// The cases that are asked for, those first that take long.
fn jobs(options: &Options) -> VecDeque<Job> {
    let wanted = |id: &str| options.only.is_empty() || options.only.iter().any(|start| id.starts_with(start.as_str()));
    let mut by_case: BTreeMap<&'static str, Vec<&'static Mutant>> = BTreeMap::new();
    for mutant in mutants().filter(|mutant| wanted(mutant.breaks)) {
        by_case.entry(mutant.breaks).or_default().push(mutant);
    }
    let mut jobs: Vec<Job> = by_case.into_iter().map(|(id, mutants)| Job { id, mutants }).collect();
    let slow = |job: &Job| cases::all().any(|case| case.id == job.id && case.slow);
    jobs.sort_by_key(|job| (!slow(job), std::cmp::Reverse(job.mutants.len())));
    jobs.into()
}

/// The case on the unbroken hub, then on each mutant.
async fn work(home: &std::sync::Arc<World>, job: &Job, expected: &Expected) -> Result<Vec<Fate>, String> {
    let fronted = job.mutants.iter().any(|mutant| mutant.doors.front.is_some());
    let control = judged_well(home, job.id, if fronted { &FRONTED } else { &CONTROL }, Verdict::Pass).await?;
    let unfit = (control.verdict != Verdict::Pass)
        .then(|| format!("{} {}: {}", job.id, control.verdict.as_str(), control.reason.as_deref().unwrap_or_default()));
    let excused = unfit.is_some() && (control.verdict == Verdict::NotRun || expected.reason(job.id).is_some());
    let mut fates = Vec::new();
    for mutant in &job.mutants {
        let began = Instant::now();
        let mut fate = Fate {
            mutant: mutant.name.to_owned(),
            breaks: mutant.breaks.to_owned(),
            caught_by: None,
            said: None,
            not_judged: unfit.clone(),
            excused,
            took: Duration::ZERO,
        };
        if unfit.is_none() {
            let one = judged_well(home, job.id, mutant, Verdict::Fail).await?;
            // A case that could not do its work has noticed nothing.
            fate.said =
                one.reason.map(|reason| if one.verdict == Verdict::Fail { reason } else { format!("{}: {reason}", one.verdict.as_str()) });
            fate.caught_by = (one.verdict == Verdict::Fail).then_some(one.id);
            fate.took = began.elapsed();
        }
        fates.push(fate);
    }
    Ok(fates)
}

/// Judges once more when the verdict is not the one that it should be: the lanes share one hub and disturb each other now and then.
async fn judged_well(home: &std::sync::Arc<World>, id: &str, mutant: &'static Mutant, wanted: Verdict) -> Result<Judgement, String> {
    let first = judged(home, id, mutant).await?;
    if first.verdict == wanted || first.verdict == Verdict::NotRun { Ok(first) } else { judged(home, id, mutant).await }
}

async fn judged(home: &std::sync::Arc<World>, id: &str, mutant: &'static Mutant) -> Result<Judgement, String> {
    let known = requirements().iter().find(|one| one.id == id).zip(cases::all().find(|case| case.id == id));
    let (requirement, case) = known.ok_or_else(|| format!("no case judges {id}"))?;
    let proxy = Proxy::start(home, mutant).await.map_err(|error| format!("no proxy: {error}"))?;
    let world = home.behind(proxy.url.clone(), Tamper::new(mutant.doors));
    if id == DOCUMENTED {
        describe(&world).await?;
    }
    Ok(run(world, requirement, *case).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(caught: bool, not_judged: bool, excused: bool) -> Fate {
        Fate {
            mutant: "m".into(),
            breaks: "RUN-001".into(),
            caught_by: caught.then(|| "RUN-001".to_owned()),
            said: None,
            not_judged: not_judged.then(|| "why".to_owned()),
            excused,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn a_survivor_fails_the_hunt_and_what_cannot_be_judged_is_counted_apart() {
        let (caught, survived) = (fate(true, false, false), fate(false, false, false));
        let (known, unknown) = (fate(false, true, true), fate(false, true, false));
        for (mutants, code, counts) in [
            (vec![caught.clone(), known.clone()], 0, (1, 0, 1)),
            (vec![caught.clone(), survived], 1, (1, 1, 0)),
            (vec![caught, unknown], 1, (1, 0, 1)),
            (vec![known], 2, (0, 0, 1)),
        ] {
            let fates = Fates::new(mutants);
            assert_eq!((fates.exit_code(), (fates.caught, fates.survived, fates.not_judged)), (code, counts), "{}", fates.table());
        }
    }
}
