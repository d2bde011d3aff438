//! The cases, a file a chapter.

mod agents;
mod chat;
mod common;
mod errors;
mod federation;
mod idempotency;
mod models;
mod operations;
mod policy;
mod runs;
mod security;
mod streams;
mod tenancy;
mod workers;
mod xmpp;

use crate::case::Case;

const CHAPTERS: [&[Case]; 13] = [
    tenancy::CASES,
    errors::CASES,
    idempotency::CASES,
    agents::CASES,
    runs::CASES,
    streams::CASES,
    models::CASES,
    policy::CASES,
    workers::CASES,
    federation::CASES,
    xmpp::CASES,
    security::CASES,
    operations::CASES,
];

/// Every case.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    CHAPTERS.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::requirement::requirements;

    #[test]
    fn every_requirement_has_one_case_and_every_case_a_requirement() {
        let cases: Vec<&str> = all().map(|case| case.id).collect();
        let unique: BTreeSet<&str> = cases.iter().copied().collect();
        assert_eq!(unique.len(), cases.len(), "two cases judge one requirement");
        let wanted: BTreeSet<&str> = requirements().iter().filter(|one| one.check == "conformance").map(|one| one.id.as_str()).collect();
        let missing: Vec<_> = wanted.difference(&unique).collect();
        let strange: Vec<_> = unique.difference(&wanted).collect();
        assert!(missing.is_empty(), "without a case, and not in spec/uncovered.txt: {missing:?}");
        assert!(strange.is_empty(), "cases without a requirement that is checked by conformance: {strange:?}");
    }
}
