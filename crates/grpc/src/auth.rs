//! Who a worker is: what it presents, and who decides about it.
//!
//! A worker proves itself with its client certificate, or without one with a key, and gets a short-lived token for it. A call over a
//! connection with a certificate needs both, the certificate and a token of it. A call without one needs a token or the key itself,
//! which is what workers of the first protocol have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aiox_core::ports::Clock;
use aiox_crypto::worker_token::{Proof, Refused, WorkerClaims, WorkerTokens};
use aiox_crypto::{equal, sha256};
use aiox_model::Ts;
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Shortest worker key, in characters.
pub const MIN_KEY_CHARS: usize = 32;

/// What a worker presents with a call.
pub struct Presented<'r> {
    /// The call's metadata.
    pub metadata: &'r MetadataMap,
    /// Its client certificate, verified against the client CA by the TLS layer.
    pub certificate: Option<&'r CertificateDer<'static>>,
}

impl<'r> Presented<'r> {
    /// The value of `x-api-key`.
    fn api_key(&self) -> Option<&'r str> {
        self.metadata.get("x-api-key")?.to_str().ok()
    }

    /// The token of `authorization: Bearer`, the scheme in any case.
    fn bearer(&self) -> Option<&'r str> {
        let value = self.metadata.get("authorization")?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// A worker that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerIdentity {
    /// The only worker id that the credential stands for; none: any.
    pub worker_id: Option<String>,
    /// What it proved itself with.
    pub proof: Proof,
    /// For how much longer what it presented is good; none: until it is revoked.
    pub remaining: Option<Duration>,
}

impl WorkerIdentity {
    /// Whether it may act as `worker_id`.
    #[must_use]
    pub fn may_be(&self, worker_id: &str) -> bool {
        self.worker_id.as_deref().is_none_or(|own| own == worker_id)
    }
}

/// A key that is too short to be one.
#[derive(Debug, thiserror::Error)]
#[error("a worker key needs at least 32 characters")]
pub struct WeakKey;

/// The credentials that are good at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// SHA-256 of the key of all workers, if there is one.
    pub shared: Option<[u8; 32]>,
    /// Worker ids by the SHA-256 of the keys that are theirs alone.
    pub own: BTreeMap<[u8; 32], String>,
    /// SHA-256 of client certificates (DER) that are no longer good.
    pub revoked: BTreeSet<[u8; 32]>,
}

impl Known {
    /// One key for all workers, and nothing else.
    ///
    /// # Errors
    /// [`WeakKey`].
    pub fn shared(key: &SecretString) -> Result<Self, WeakKey> {
        let key = key.expose_secret();
        if key.chars().count() < MIN_KEY_CHARS {
            return Err(WeakKey);
        }
        Ok(Self { shared: Some(sha256(key.as_bytes())), ..Self::default() })
    }

    /// The worker that a key stands for; inner none: any.
    fn key(&self, key: [u8; 32]) -> Option<Option<String>> {
        // Digests have one length and every key is looked at: the time tells nothing.
        let mut found = None;
        for (own, worker) in &self.own {
            if equal(&key, own) {
                found = Some(Some(worker.clone()));
            }
        }
        if self.shared.is_some_and(|shared| equal(&key, &shared)) {
            found = Some(None);
        }
        found
    }

    fn still(&self, proof: Proof) -> Result<(), Status> {
        match proof {
            Proof::Certificate(digest) if self.revoked.contains(&digest) => Err(refused("client certificate is revoked")),
            Proof::Key(digest) if self.key(digest).is_none() => Err(refused("api key is revoked")),
            _ => Ok(()),
        }
    }
}

/// Decides who is a worker of this hub. Asked for every call.
#[derive(Clone)]
pub struct Admission {
    /// Renewed while the hub runs: who is no longer good is shown out.
    pub known: watch::Receiver<Arc<Known>>,
    /// Makes and checks tokens.
    pub tokens: WorkerTokens,
    /// The hub's domain.
    pub domain: String,
    /// How long a token is good.
    pub token_life: Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Admission {
    /// Who presents this, by certificate or key.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` with `missing metadata`, `missing api key`, `invalid api key`, `invalid client certificate`, or the words
    /// for what was revoked.
    pub fn prove(&self, presented: &Presented<'_>) -> Result<WorkerIdentity, Status> {
        let Some(certificate) = presented.certificate else { return self.by_key(presented) };
        let proof = Proof::Certificate(sha256(certificate));
        let worker_id = worker_of(certificate, &self.domain).ok_or_else(|| refused("invalid client certificate"))?;
        self.known.borrow().still(proof)?;
        // A key beside the certificate is not asked for. One that is shown and wrong is a mistake that somebody has to hear of.
        if presented.api_key().is_some() && !self.by_key(presented)?.may_be(&worker_id) {
            return Err(refused("the api key and the certificate are of two workers"));
        }
        Ok(WorkerIdentity { worker_id: Some(worker_id), proof, remaining: None })
    }

    /// A token for a worker, and how long it is good.
    ///
    /// # Errors
    /// As [`prove`](Self::prove); `PERMISSION_DENIED` when the credential is another worker's.
    pub fn issue(&self, presented: &Presented<'_>, worker_id: &str) -> Result<(String, Duration), Status> {
        let identity = self.prove(presented)?;
        if !identity.may_be(worker_id) {
            return Err(Status::permission_denied("worker_id does not belong to the credential"));
        }
        let now = self.clock.now();
        let seconds = i64::try_from(self.token_life.as_secs()).unwrap_or(i64::MAX);
        let expires = Ts::from_seconds(now.seconds()).plus_seconds(seconds);
        let claims = WorkerClaims { worker_id: worker_id.to_owned(), proof: identity.proof, expires };
        let token = self.tokens.issue(&claims, now).map_err(|error| {
            tracing::error!(error = %error.chain(), "a worker's token could not be made");
            Status::internal("the token could not be made")
        })?;
        Ok((token, between(now, expires)))
    }

    /// Who presents this, if it is enough to work.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` as of [`prove`](Self::prove), or with `missing worker token`, `invalid worker token`, `worker token
    /// expired`, `the worker token belongs to another credential`.
    pub fn admit(&self, presented: &Presented<'_>) -> Result<WorkerIdentity, Status> {
        let Some(token) = presented.bearer() else {
            return match presented.certificate {
                Some(_) => self.prove(presented).and_then(|_| Err(refused("missing worker token"))),
                None => self.by_key(presented),
            };
        };
        let now = self.clock.now();
        let claims = self.tokens.check(token, now).map_err(|why| match why {
            Refused::Invalid => refused("invalid worker token"),
            Refused::Expired => refused("worker token expired"),
        })?;
        let bound = match (claims.proof, presented.certificate) {
            (Proof::Certificate(digest), Some(certificate)) => equal(&digest, &sha256(certificate)),
            (Proof::Key(_), None) => true,
            _ => false,
        };
        if !bound {
            return Err(refused("the worker token belongs to another credential"));
        }
        self.known.borrow().still(claims.proof)?;
        let remaining = Some(between(now, claims.expires));
        Ok(WorkerIdentity { worker_id: Some(claims.worker_id), proof: claims.proof, remaining })
    }

    /// Waits until what a worker proved itself with is no longer good; why.
    pub(crate) async fn revoked(&self, proof: Proof) -> Status {
        let mut known = self.known.clone();
        loop {
            if let Err(refusal) = known.borrow_and_update().still(proof) {
                return refusal;
            }
            if known.changed().await.is_err() {
                // Nobody changes anything any more.
                std::future::pending().await
            }
        }
    }

    fn by_key(&self, presented: &Presented<'_>) -> Result<WorkerIdentity, Status> {
        if presented.metadata.is_empty() {
            return Err(refused("missing metadata"));
        }
        let key = presented.api_key().ok_or_else(|| refused("missing api key"))?;
        let digest = sha256(key.as_bytes());
        let worker_id = self.known.borrow().key(digest).ok_or_else(|| refused("invalid api key"))?;
        Ok(WorkerIdentity { worker_id, proof: Proof::Key(digest), remaining: None })
    }
}

fn between(now: Ts, end: Ts) -> Duration {
    Duration::from_micros(u64::try_from(end.micros() - now.micros()).unwrap_or(0))
}

fn refused(why: &str) -> Status {
    Status::unauthenticated(why)
}

/// The worker of a certificate: its one DNS name. A certificate that names a SPIFFE id is good only for the worker of this hub that
/// the id means, so that hubs whose machines share an authority do not share their workers.
fn worker_of(certificate: &CertificateDer<'_>, domain: &str) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let (mut dns, mut uris) = (Vec::new(), Vec::new());
    for name in &names.value.general_names {
        match name {
            GeneralName::DNSName(name) => dns.push(*name),
            GeneralName::URI(uri) => uris.push(*uri),
            _ => {}
        }
    }
    let [worker] = dns[..] else { return None };
    let own = format!("spiffe://{domain}/worker/{worker}");
    uris.iter().all(|uri| *uri == own).then(|| worker.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_crypto::system::SystemClock;

    fn admission(known: Known) -> Admission {
        Admission {
            known: watch::Sender::new(Arc::new(known)).subscribe(),
            tokens: WorkerTokens::new("hub-a.example", &"t".repeat(32).into()).unwrap(),
            domain: "hub-a.example".into(),
            token_life: Duration::from_secs(300),
            clock: Arc::new(SystemClock),
        }
    }

    fn keys() -> Known {
        let own = [(sha256("7".repeat(32).as_bytes()), "w7".to_owned())].into();
        Known { own, ..Known::shared(&"s".repeat(32).into()).unwrap() }
    }

    fn metadata(headers: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in headers {
            metadata.insert(*name, value.parse().unwrap());
        }
        metadata
    }

    fn ask(admission: &Admission, headers: &[(&'static str, &str)]) -> Result<WorkerIdentity, Status> {
        admission.admit(&Presented { metadata: &metadata(headers), certificate: None })
    }

    #[test]
    fn keys_are_told_apart_and_refusals_have_their_words() {
        let admission = admission(keys());
        let words = |headers: &[(&'static str, &str)]| ask(&admission, headers).unwrap_err().message().to_owned();
        assert_eq!(words(&[]), "missing metadata");
        assert_eq!(words(&[("user-agent", "x")]), "missing api key");
        assert_eq!(words(&[("x-api-key", "")]), "invalid api key");
        assert_eq!(words(&[("x-api-key", &"s".repeat(33))]), "invalid api key");
        assert_eq!(words(&[("authorization", "Bearer nonsense")]), "invalid worker token");
        let shared = ask(&admission, &[("x-api-key", &"s".repeat(32))]).unwrap();
        assert!(shared.may_be("w1") && shared.may_be("w7"));
        let own = ask(&admission, &[("x-api-key", &"7".repeat(32))]).unwrap();
        assert!(own.may_be("w7") && !own.may_be("w1"));
    }

    #[test]
    fn a_short_key_is_none() {
        assert!(Known::shared(&"s".repeat(31).into()).is_err());
    }

    #[test]
    fn a_token_stands_for_one_worker_and_dies_with_its_key() {
        let admission = admission(keys());
        let issue = |key: &str, worker: &str| {
            let metadata = metadata(&[("x-api-key", key)]);
            admission.issue(&Presented { metadata: &metadata, certificate: None }, worker)
        };
        // Whoever has the key of all narrows it down to one name.
        let (token, life) = issue(&"s".repeat(32), "w1").unwrap();
        assert!(life > Duration::from_secs(298) && life <= Duration::from_secs(300));
        let bearer = format!("bearer {token}");
        let identity = ask(&admission, &[("authorization", &bearer)]).unwrap();
        assert!(identity.may_be("w1") && !identity.may_be("w2"));
        assert!(identity.remaining.is_some_and(|left| left <= life));
        assert_eq!(issue(&"7".repeat(32), "w1").unwrap_err().code(), tonic::Code::PermissionDenied);
        let changed = Admission { known: watch::Sender::new(Arc::new(Known::default())).subscribe(), ..admission.clone() };
        assert_eq!(ask(&changed, &[("authorization", &bearer)]).unwrap_err().message(), "api key is revoked");
    }

    #[test]
    fn an_expired_token_says_so() {
        let admission = Admission { token_life: Duration::ZERO, ..admission(keys()) };
        let metadata = metadata(&[("x-api-key", &"s".repeat(32))]);
        let (token, _) = admission.issue(&Presented { metadata: &metadata, certificate: None }, "w1").unwrap();
        assert_eq!(ask(&admission, &[("authorization", &format!("Bearer {token}"))]).unwrap_err().message(), "worker token expired");
    }
}
