//! Who a worker is: what it presents, and who decides about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use aiox_crypto::{equal, sha256};
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};
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
    #[must_use]
    pub fn api_key(&self) -> Option<&'r str> {
        self.metadata.get("x-api-key")?.to_str().ok()
    }

    /// The token of `authorization: Bearer`, the scheme in any case.
    #[must_use]
    pub fn bearer(&self) -> Option<&'r str> {
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
}

impl WorkerIdentity {
    /// Whether it may act as `worker_id`.
    #[must_use]
    pub fn may_be(&self, worker_id: &str) -> bool {
        self.worker_id.as_deref().is_none_or(|own| own == worker_id)
    }
}

/// Decides who is a worker of this hub. Asked for every call.
pub trait WorkerAuth: Send + Sync {
    /// Who presents this.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` with `missing metadata`, `missing api key`, `invalid api key`, or the word
    /// for another credential.
    fn check(&self, presented: &Presented<'_>) -> Result<WorkerIdentity, Status>;
}

/// A key that is too short to be one.
#[derive(Debug, thiserror::Error)]
#[error("a worker key needs at least 32 characters")]
pub struct WeakKey;

/// Keys in `x-api-key`: one for all workers, and others for one worker each.
pub struct ApiKeys {
    shared: Option<[u8; 32]>,
    own: BTreeMap<String, [u8; 32]>,
}

impl ApiKeys {
    /// The keys of a hub.
    ///
    /// # Errors
    /// [`WeakKey`].
    pub fn new(shared: Option<&SecretString>, own: &BTreeMap<String, SecretString>) -> Result<Self, WeakKey> {
        let digest = |key: &SecretString| {
            let key = key.expose_secret();
            if key.chars().count() < MIN_KEY_CHARS {
                return Err(WeakKey);
            }
            Ok(sha256(key.as_bytes()))
        };
        Ok(Self {
            shared: shared.map(digest).transpose()?,
            own: own.iter().map(|(worker, key)| Ok((worker.clone(), digest(key)?))).collect::<Result<_, WeakKey>>()?,
        })
    }
}

impl WorkerAuth for ApiKeys {
    fn check(&self, presented: &Presented<'_>) -> Result<WorkerIdentity, Status> {
        if presented.metadata.is_empty() {
            return Err(Status::unauthenticated("missing metadata"));
        }
        let key = presented.api_key().ok_or_else(|| Status::unauthenticated("missing api key"))?;
        // Digests have one length and every key is looked at: the time tells nothing.
        let key = sha256(key.as_bytes());
        let mut found = None;
        for (worker, own) in &self.own {
            if equal(&key, own) {
                found = Some(WorkerIdentity { worker_id: Some(worker.clone()) });
            }
        }
        if self.shared.is_some_and(|shared| equal(&key, &shared)) {
            found = Some(WorkerIdentity { worker_id: None });
        }
        found.ok_or_else(|| Status::unauthenticated("invalid api key"))
    }
}

/// Client certificates (mTLS): the worker id is the certificate's one DNS name. With `and`, what
/// it says must be fulfilled too, a short-lived token for example.
pub struct Certificates {
    /// A second credential, wanted beside the certificate.
    pub and: Option<Arc<dyn WorkerAuth>>,
}

impl WorkerAuth for Certificates {
    fn check(&self, presented: &Presented<'_>) -> Result<WorkerIdentity, Status> {
        let certificate = presented.certificate.ok_or_else(|| Status::unauthenticated("missing client certificate"))?;
        let worker_id = dns_name(certificate).ok_or_else(|| Status::unauthenticated("invalid client certificate"))?;
        if let Some(second) = &self.and
            && !second.check(presented)?.may_be(&worker_id)
        {
            return Err(Status::unauthenticated("the credential and the certificate are of two workers"));
        }
        Ok(WorkerIdentity { worker_id: Some(worker_id) })
    }
}

fn dns_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let first = dns.next()?;
    dns.next().is_none().then_some(first)
}

/// Several ways in: a worker with a client certificate is judged by it, every other by its key.
pub struct CertificateOrKey {
    /// For calls with a client certificate.
    pub certificate: Certificates,
    /// For calls without one.
    pub key: ApiKeys,
}

impl WorkerAuth for CertificateOrKey {
    fn check(&self, presented: &Presented<'_>) -> Result<WorkerIdentity, Status> {
        if presented.certificate.is_some() { self.certificate.check(presented) } else { self.key.check(presented) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> ApiKeys {
        let own = BTreeMap::from([("w7".to_owned(), SecretString::from("7".repeat(32)))]);
        ApiKeys::new(Some(&"s".repeat(32).into()), &own).unwrap()
    }

    fn ask(auth: &dyn WorkerAuth, headers: &[(&'static str, &str)]) -> Result<WorkerIdentity, Status> {
        let mut metadata = MetadataMap::new();
        for (name, value) in headers {
            metadata.insert(*name, value.parse().unwrap());
        }
        auth.check(&Presented { metadata: &metadata, certificate: None })
    }

    #[test]
    fn keys_are_told_apart_and_refusals_have_their_words() {
        let keys = keys();
        let words = |headers: &[(&'static str, &str)]| ask(&keys, headers).unwrap_err().message().to_owned();
        assert_eq!(words(&[]), "missing metadata");
        assert_eq!(words(&[("user-agent", "x")]), "missing api key");
        assert_eq!(words(&[("x-api-key", "")]), "invalid api key");
        assert_eq!(words(&[("x-api-key", &"s".repeat(33))]), "invalid api key");
        let shared = ask(&keys, &[("x-api-key", &"s".repeat(32))]).unwrap();
        assert!(shared.may_be("w1") && shared.may_be("w7"));
        let own = ask(&keys, &[("x-api-key", &"7".repeat(32))]).unwrap();
        assert!(own.may_be("w7") && !own.may_be("w1"));
    }

    #[test]
    fn a_short_key_is_none() {
        assert!(ApiKeys::new(Some(&"s".repeat(31).into()), &BTreeMap::new()).is_err());
        let own = BTreeMap::from([("w1".to_owned(), SecretString::from("short"))]);
        assert!(ApiKeys::new(None, &own).is_err());
    }

    #[test]
    fn a_certificate_is_asked_for() {
        let auth = Certificates { and: None };
        let refusal = ask(&auth, &[("x-api-key", &"s".repeat(32))]).unwrap_err();
        assert_eq!(refusal.message(), "missing client certificate");
    }
}
