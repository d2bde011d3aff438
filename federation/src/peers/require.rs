//! Peers that have to show a conformance result (federation section 13). Without one that satisfies the rule a peer is `stale`: its
//! roots and connections are dropped, what waits for it waits, and it comes back by itself when its result does.

use aiox_core::Error;
use aiox_crypto::jws;
use aiox_model::{
    Ts,
    conformance::{ConformanceRule, NewConformanceResult, PeerConformance},
    federation::{PeerRecord, PeerState, TrustDocument},
};
use serde_json::Value;

use super::{PeerError, Peers};
use crate::conformance::{self, MAX_REQUIREMENTS, Unmet};

/// What a peer showed when it was asked for its result: `None` when its record asks for none or it could not be asked.
pub(super) type Shown = Option<Result<Value, Unmet>>;

/// What came of a look at a peer's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// There is none, or nothing has changed.
    Same,
    /// It is satisfied, by another result than before.
    News,
    /// It is not satisfied: the peer must not be active.
    Unmet,
}

const PROFILES: [&str; 4] = ["core", "models", "federation", "xmpp"];

impl Peers {
    /// Asks from now on that a peer's published result satisfies this rule; `None`: asks nothing any more. The result is looked at now,
    /// and again whenever the trust document is.
    ///
    /// # Errors
    /// When the rule is not one, there is no such peer, or the store fails.
    pub async fn require(&self, domain: &str, rule: Option<ConformanceRule>) -> Result<PeerRecord, PeerError> {
        if let Some(rule) = &rule {
            check(rule)?;
        }
        let now = self.clock.now();
        {
            let _one = self.changing.lock().await;
            let mut record = self.show(domain).await?;
            record.conformance =
                rule.map(|rule| PeerConformance { rule, checked_at: now, judged_at: None, problem: Some("not looked at yet".to_owned()) });
            // Nothing is allowed on trust while the result is fetched; without a rule the refresh below makes a stale peer active.
            if record.state == PeerState::Active && record.conformance.is_some() {
                record.state = PeerState::Stale;
            }
            self.write(record, "peer.require").await?;
        }
        if let Err(error) = self.refresh(domain).await {
            tracing::warn!(peer = domain, %error, "a peer with a new rule could not be looked at: it stays as it is until it can");
        }
        self.show(domain).await
    }

    /// What the peer publishes now, when its record asks for a result.
    pub(super) async fn shown_result(&self, record: &PeerRecord) -> Shown {
        record.conformance.as_ref()?;
        match self.fetcher.conformance(&record.trust_url).await {
            Ok(Some(bytes)) => Some(jws::read_strict(&bytes).map_err(|_| Unmet::Malformed)),
            Ok(None) => Some(Err(Unmet::Absent)),
            Err(error) => {
                tracing::warn!(peer = %record.domain, %error, "conformance result could not be read");
                None
            }
        }
    }

    /// Writes into the record what came of its rule. A peer that could not be asked keeps what
    /// its last result gave it, until that is too old.
    pub(super) fn look(&self, record: &mut PeerRecord, shown: Shown, now: Ts) -> Looked {
        let Some(known) = record.conformance.as_mut() else { return Looked::Same };
        let before = (known.judged_at, known.problem.clone());
        if let Some(shown) = shown {
            let document = serde_json::from_value::<TrustDocument>(record.document.clone());
            let judged = shown.and_then(|raw| {
                let document = document.map_err(|_| Unmet::Malformed)?;
                conformance::satisfies(&raw, &document, &known.rule, &self.musts, now)
            });
            known.checked_at = now;
            match judged {
                Ok(judged_at) => (known.judged_at, known.problem) = (Some(judged_at), None),
                Err(unmet) => {
                    tracing::warn!(peer = %record.domain, %unmet, "peer does not satisfy its conformance rule");
                    known.problem = Some(unmet.to_string());
                }
            }
        }
        if conformance::counts_until(known) <= now {
            known.problem.get_or_insert_with(|| Unmet::Age(known.rule.max_age_days).to_string());
            Looked::Unmet
        } else if before == (known.judged_at, known.problem.clone()) {
            Looked::Same
        } else {
            Looked::News
        }
    }

    /// Signs what the suite found of this hub and publishes it.
    ///
    /// # Errors
    /// When the result is not one, the key library or the store fails.
    pub async fn publish_conformance(&self, found: NewConformanceResult) -> Result<Value, PeerError> {
        if found.requirements.is_empty() || found.requirements.len() > MAX_REQUIREMENTS {
            return Err(Error::invalid("requirements", format!("must be 1 to {MAX_REQUIREMENTS}")).into());
        }
        let build = self
            .local
            .build()
            .ok_or_else(|| Error::unavailable("dependency_unavailable", "the program cannot be read, so no result can name it"))?;
        let signed = conformance::sign(&self.local, found, build, self.clock.now()).map_err(Error::internal)?;
        self.store.publish_conformance(self.local.domain(), &signed.to_string()).await?;
        self.audit.record(self.local.domain(), "conformance.publish", "allowed", "").await;
        Ok(signed)
    }

    /// The result that this hub publishes, as it was signed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn conformance(&self) -> Result<Option<String>, PeerError> {
        Ok(self.store.conformance(self.local.domain()).await?)
    }
}

fn check(rule: &ConformanceRule) -> Result<(), Error> {
    if rule.profiles.is_empty() || rule.profiles.iter().any(|profile| !PROFILES.contains(&profile.as_str())) {
        return Err(Error::invalid("profiles", format!("must be some of {}", PROFILES.join(", "))));
    }
    if !(1..=365).contains(&rule.max_age_days) {
        return Err(Error::invalid("max_age_days", "must be 1 to 365"));
    }
    Ok(())
}
