//! Signed conformance results: this hub's own, and the rule that a peer's has to satisfy (federation section 13).

use std::collections::BTreeMap;

use aiox_crypto::jws::{JwsError, KeySet};
use aiox_model::{
    Ts,
    conformance::{ConformanceResult, ConformanceRule, NewConformanceResult, PeerConformance},
    federation::TrustDocument,
};
use serde_json::Value;

use crate::{local::LocalNode, trust};

/// `typ` of a result's signature.
pub const TYPE: &str = "aiox-conformance+jws";
/// Where a hub publishes its result.
pub const PATH: &str = "/.well-known/aiox-conformance.json";
/// Most requirements in one result.
pub const MAX_REQUIREMENTS: usize = 5_000;
/// How far ahead of ours a judgement's time may be.
const SKEW_SECONDS: i64 = 300;
const DAY_SECONDS: i64 = 24 * 3600;

/// A MUST that a result has to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Must {
    /// Its id, for instance `RUN-012`.
    pub id: String,
    /// Its profile.
    pub profile: String,
    /// Whether it obliges only hubs whose operator switched on what it is about: then `not_run` is as good as `pass`.
    pub conditional: bool,
}

/// Why a peer's result does not satisfy the rule. The text is for operators of this hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// It publishes none.
    #[error("it publishes no conformance result")]
    Absent,
    /// Not JSON of the right shape.
    #[error("its conformance result is not one")]
    Malformed,
    /// Another domain's.
    #[error("its conformance result is of another domain")]
    Domain,
    /// Not signed by a key of its trust document, or altered.
    #[error("the signature of its conformance result is not valid: {0}")]
    Signature(JwsError),
    /// Of another program than the one that it says it runs.
    #[error("its conformance result is of another build than it runs")]
    Build,
    /// Too old, or of a time to come.
    #[error("its conformance result is older than {0} days, or of a time to come")]
    Age(u16),
    /// This hub knows no requirement of a profile of the rule, so nothing can satisfy it.
    #[error("this hub knows no requirement of the profile {0}")]
    Unknown(String),
    /// These did not pass; what did not run did not pass either.
    #[error("these requirements did not pass: {}", .0.join(", "))]
    NotPassed(Vec<String>),
}

/// Signs what the suite found of this hub. `build`: digest of the program that runs.
///
/// # Errors
/// When the key library fails.
pub fn sign(local: &LocalNode, found: NewConformanceResult, build: &str, now: Ts) -> Result<Value, JwsError> {
    let result = ConformanceResult {
        domain: local.domain().to_owned(),
        build: build.to_owned(),
        suite: found.suite,
        judged_at: now,
        requirements: found.requirements,
        signature: String::new(),
    };
    let mut raw = serde_json::to_value(result).map_err(|_| JwsError::Document)?;
    raw["signature"] = local.envelope_key.sign_detached(TYPE, &trust::without_signature(&raw)?)?.into();
    Ok(raw)
}

/// The digest of the program that a hub says it runs, from its trust document.
#[must_use]
pub fn told_build(document: &TrustDocument) -> Option<&str> {
    document.other.get("stack")?.pointer("/peer/build/digest")?.as_str()
}

/// When the result that satisfied a peer's rule stops counting; long ago when none did.
#[must_use]
pub fn counts_until(known: &PeerConformance) -> Ts {
    match (known.judged_at, &known.problem) {
        (Some(judged_at), None) => judged_at.plus_seconds(i64::from(known.rule.max_age_days) * DAY_SECONDS),
        _ => Ts::from_micros(0),
    }
}

/// Whether the published result of the hub with this trust document satisfies a rule. `musts`: what this hub's own copy of the
/// specification asks, so that a peer cannot leave out what it fails. The answer is when the peer was judged.
///
/// # Errors
/// Why not.
pub fn satisfies(raw: &Value, document: &TrustDocument, rule: &ConformanceRule, musts: &[Must], now: Ts) -> Result<Ts, Unmet> {
    let result: ConformanceResult = serde_json::from_value(raw.clone()).map_err(|_| Unmet::Malformed)?;
    if result.requirements.len() > MAX_REQUIREMENTS {
        return Err(Unmet::Malformed);
    }
    let believed = document.envelope_keys.iter().filter(|key| !document.deny.contains(&key.kid));
    let keys = KeySet::new(believed).map_err(Unmet::Signature)?;
    let bytes = trust::without_signature(raw).map_err(|_| Unmet::Malformed)?;
    keys.verify_detached(TYPE, &result.signature, &bytes).map_err(Unmet::Signature)?;
    if result.domain != document.domain {
        return Err(Unmet::Domain);
    }
    if told_build(document) != Some(result.build.as_str()) {
        return Err(Unmet::Build);
    }
    let oldest = now.plus_seconds(-i64::from(rule.max_age_days) * DAY_SECONDS);
    if result.judged_at < oldest || result.judged_at > now.plus_seconds(SKEW_SECONDS) {
        return Err(Unmet::Age(rule.max_age_days));
    }
    for profile in &rule.profiles {
        if !musts.iter().any(|must| must.profile == *profile) {
            return Err(Unmet::Unknown(profile.clone()));
        }
    }
    let mut told: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in &result.requirements {
        told.entry(&one.id).or_default().push(&one.verdict);
    }
    let kept = |must: &Must| match told.get(must.id.as_str()).map(Vec::as_slice) {
        Some(["pass"]) => true,
        Some(["not_run"]) => must.conditional,
        // What is left out or told twice has not passed.
        _ => false,
    };
    let asked = musts.iter().filter(|must| rule.profiles.contains(&must.profile));
    let missing: Vec<String> = asked.filter(|must| !kept(must)).map(|must| must.id.clone()).collect();
    if missing.is_empty() { Ok(result.judged_at) } else { Err(Unmet::NotPassed(missing)) }
}
