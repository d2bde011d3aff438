//! What a hub publishes of its own conformance, and what its peers may ask of it (federation section 13).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Ts;

/// The suite that judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suite {
    /// Its name: `aiox-conformance` for the suite of this repository.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256, base64url without padding, of the canonical JSON of every requirement that it knows.
    pub digest: String,
}

/// What came of one requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequirementVerdict {
    /// The requirement, for instance `RUN-012`.
    pub id: String,
    /// `MUST` or `SHOULD`.
    pub level: String,
    /// `core`, `models`, `federation` or `xmpp`.
    pub profile: String,
    /// `pass`, or why it did not: `fail`, `not_run`, `error`, `uncovered`. Only `pass` counts as passed.
    pub verdict: String,
}

/// Body of `PUT /api/v1/admin/conformance`: what the suite found. The hub adds its domain, its build and the time, and signs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConformanceResult {
    /// The suite.
    pub suite: Suite,
    /// Every requirement that was asked for, each once.
    pub requirements: Vec<RequirementVerdict>,
}

/// What a hub publishes at `/.well-known/aiox-conformance.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConformanceResult {
    /// The hub's trust domain.
    pub domain: String,
    /// SHA-256 of the program that was judged, as the hub's trust document names it in `stack.peer.build.digest`.
    pub build: String,
    /// The suite.
    pub suite: Suite,
    /// When it was judged, by the hub's clock.
    pub judged_at: Ts,
    /// Every requirement that was asked for.
    pub requirements: Vec<RequirementVerdict>,
    /// Detached JWS (RFC 7515 appendix F, `typ` `aiox-conformance+jws`) over the canonical form (RFC 8785) of the other members, by an
    /// envelope key of the hub's trust document.
    pub signature: String,
}

/// What this hub asks of a peer's published result before it talks with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConformanceRule {
    /// Profiles whose every judgeable MUST has passed: `core`, `models`, `federation`, `xmpp`. At least one.
    pub profiles: Vec<String>,
    /// Most days since the judgement, 1 to 365.
    pub max_age_days: u16,
}

/// A peer's rule and what came of it when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerConformance {
    /// The rule.
    pub rule: ConformanceRule,
    /// When the peer's result was last looked at.
    pub checked_at: Ts,
    /// When the hub was judged, as the last result that satisfied the rule says: that one counts for `max_age_days` from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_at: Option<Ts>,
    /// Why it does not satisfy the rule; absent when it does. While it is there, the peer is `stale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
