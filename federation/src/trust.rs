//! Trust documents: made, signed, read, and compared with what was accepted before (federation section 6).

use aiox_crypto::jws::{self, JwsError, KeySet};
use aiox_model::{
    Ts,
    federation::{PROFILE_V1, PublicJwk, TrustDocument, TrustedNode, is_trust_domain},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};

use crate::local::LocalNode;

/// `typ` of the document's signature.
pub const TYPE: &str = "aiox-trust+jws";
/// Where a hub publishes its document.
pub const PATH: &str = "/.well-known/aiox-federation.json";
/// Largest document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 1024 * 1024;
/// Longest time a document counts after it was read, whatever it says: a stolen key cannot be published with a long life.
pub const MAX_LIFE_SECONDS: i64 = 7 * 24 * 3600;
const REFRESH_HINT: u32 = 300;

/// Why a trust document was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not JSON of the right shape, or too large.
    #[error("not a trust document")]
    Malformed,
    /// It claims another domain than the one asked for, or names nodes of another one.
    #[error("the document claims another domain")]
    Domain,
    /// No key that is trusted signed it.
    #[error("the signature is not by a trusted key: {0}")]
    Signature(JwsError),
    /// A root is not a certificate, or there is none.
    #[error("a root is not a certificate")]
    Root,
    /// A key is not a usable one, or there is none.
    #[error("a key is not usable: {0}")]
    Key(JwsError),
    /// It is past its end.
    #[error("the document is past its end")]
    Expired,
    /// Its sequence is lower than the accepted one's.
    #[error("the document is older than the accepted one")]
    Older,
    /// Its sequence is the accepted one's, its content is not. The peer is suspended.
    #[error("two different documents carry the same sequence")]
    Contradiction,
    /// It speaks no federation profile that this hub speaks.
    #[error("no common federation profile")]
    Profile,
}

/// What this hub publishes beside its own names and keys.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Base URL of the peer listener, `https://host:port`.
    pub endpoint: String,
    /// Roots of the domain.
    pub roots: Vec<CertificateDer<'static>>,
    /// Rises with every change of content; the publisher keeps it.
    pub sequence: u64,
    /// End of validity.
    pub not_after: Ts,
}

/// A trust document that was read and verified.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The document as received.
    pub raw: Value,
    /// The known members.
    pub document: TrustDocument,
}

/// Makes and signs this hub's document.
///
/// # Errors
/// When the key library fails.
pub fn publish(local: &LocalNode, publication: &Publication) -> Result<Value, JwsError> {
    let document = TrustDocument {
        domain: local.domain().to_owned(),
        nodes: vec![TrustedNode { id: local.id.clone(), endpoint: publication.endpoint.clone() }],
        roots: publication.roots.iter().map(|der| STANDARD.encode(der)).collect(),
        token_keys: vec![local.token_key.public().clone()],
        envelope_keys: vec![local.envelope_key.public().clone()],
        old_keys: Vec::new(),
        deny: Vec::new(),
        sequence: publication.sequence,
        refresh_hint: REFRESH_HINT,
        not_after: publication.not_after,
        profiles: vec![PROFILE_V1.to_owned()],
        other: local.stack.iter().map(|stack| ("stack".to_owned(), stack.clone())).collect(),
        signature: String::new(),
    };
    let mut raw = serde_json::to_value(document).map_err(|_| JwsError::Document)?;
    let signature = local.envelope_key.sign_detached(TYPE, &signed_bytes(&raw)?)?;
    raw["signature"] = signature.into();
    Ok(raw)
}

fn signed_bytes(raw: &Value) -> Result<Vec<u8>, JwsError> {
    let mut members = raw.as_object().cloned().ok_or(JwsError::Document)?;
    members.remove("signature");
    jws::canonical(&Value::Object(members))
}

/// What an operator confirms at first contact: SHA-256, in lower-case hexadecimal, of the canonical form of the domain, its roots and
/// its keys. It stays the same when the document is only published again.
///
/// # Errors
/// When the document is not canonical JSON.
pub fn fingerprint(raw: &Value) -> Result<String, TrustError> {
    let part: Map<_, _> =
        ["domain", "roots", "token_keys", "envelope_keys"].into_iter().map(|name| (name.to_owned(), raw[name].clone())).collect();
    let bytes = jws::canonical(&Value::Object(part)).map_err(|_| TrustError::Malformed)?;
    let digest = jws::sha256(&bytes);
    let octets = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(digest).map_err(|_| TrustError::Malformed)?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}

/// Reads a document that should be `domain`'s. It must be signed by a key of `signers`; at first contact those are its own
/// envelope keys, and an operator confirms the fingerprint.
///
/// # Errors
/// When it must not be believed.
pub fn read(bytes: &[u8], domain: &str, signers: Option<&[PublicJwk]>, now: Ts) -> Result<Accepted, TrustError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(TrustError::Malformed);
    }
    read_value(jws::read_strict(bytes).map_err(|_| TrustError::Malformed)?, domain, signers, now)
}

/// As [`read`], for a document that is parsed already.
///
/// # Errors
/// As [`read`].
pub fn read_value(raw: Value, domain: &str, signers: Option<&[PublicJwk]>, now: Ts) -> Result<Accepted, TrustError> {
    let document: TrustDocument = serde_json::from_value(raw.clone()).map_err(|_| TrustError::Malformed)?;
    if document.domain != domain
        || !is_trust_domain(domain)
        || document.nodes.is_empty()
        || document.nodes.iter().any(|n| n.id.domain() != domain)
    {
        return Err(TrustError::Domain);
    }
    let signers = signers.unwrap_or(&document.envelope_keys);
    // A denied key must not vouch for the document that would un-deny it.
    let signers = signers.iter().filter(|key| !document.deny.contains(&key.kid));
    let keys = KeySet::new(signers).map_err(TrustError::Key)?;
    let bytes = signed_bytes(&raw).map_err(|_| TrustError::Malformed)?;
    keys.verify_detached(TYPE, &document.signature, &bytes).map_err(TrustError::Signature)?;
    if document.token_keys.is_empty() || document.envelope_keys.is_empty() {
        return Err(TrustError::Key(JwsError::UnknownKey));
    }
    KeySet::new(document.token_keys.iter().chain(&document.envelope_keys)).map_err(TrustError::Key)?;
    roots(&document)?;
    if document.not_after <= now {
        return Err(TrustError::Expired);
    }
    if !document.profiles.iter().any(|profile| profile == PROFILE_V1) {
        return Err(TrustError::Profile);
    }
    Ok(Accepted { raw, document })
}

/// Reads a newer document of a peer whose `accepted` document is known. `None`: nothing new.
///
/// # Errors
/// [`TrustError::Older`], [`TrustError::Contradiction`] or as [`read`].
pub fn update(bytes: &[u8], accepted: &Value, now: Ts) -> Result<Option<Accepted>, TrustError> {
    let known: TrustDocument = serde_json::from_value(accepted.clone()).map_err(|_| TrustError::Malformed)?;
    let next = read(bytes, &known.domain, Some(&known.envelope_keys), now)?;
    match next.document.sequence.cmp(&known.sequence) {
        std::cmp::Ordering::Less => Err(TrustError::Older),
        std::cmp::Ordering::Greater => Ok(Some(next)),
        std::cmp::Ordering::Equal => {
            let same = signed_bytes(&next.raw).ok() == signed_bytes(accepted).ok();
            if same { Ok(None) } else { Err(TrustError::Contradiction) }
        }
    }
}

/// When a document that was read at `read_at` stops counting.
#[must_use]
pub fn counts_until(document: &TrustDocument, read_at: Ts) -> Ts {
    document.not_after.min(read_at.plus_seconds(MAX_LIFE_SECONDS))
}

/// The document's roots as a store of its own: never pooled with another domain's.
///
/// # Errors
/// When there is none or one is not a certificate.
pub fn roots(document: &TrustDocument) -> Result<RootCertStore, TrustError> {
    let mut store = RootCertStore::empty();
    for root in &document.roots {
        let der = STANDARD.decode(root).map_err(|_| TrustError::Root)?;
        store.add(CertificateDer::from(der)).map_err(|_| TrustError::Root)?;
    }
    if store.is_empty() { Err(TrustError::Root) } else { Ok(store) }
}

/// A receipt's or document's members without its signature, ready to be signed or verified.
pub(crate) fn without_signature(raw: &Value) -> Result<Vec<u8>, JwsError> {
    signed_bytes(raw)
}
