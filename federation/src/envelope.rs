//! The signed envelope (federation section 5): stored and forwarded, so it carries its own proof.

use aiox_crypto::jws::{self, JwsError};
use aiox_model::{
    EnvelopeId, Ts,
    federation::{Envelope, EnvelopeHeader, NodeId, Receipt},
};
use serde_json::{Value, json};

use crate::{local::LocalNode, roster::Peer, trust};

/// `typ` of an envelope's signature.
pub const TYPE: &str = "aiox-envelope+jws";
/// `typ` of a receipt's signature.
pub const RECEIPT_TYPE: &str = "aiox-receipt+jws";

/// Why an envelope was refused: the stable code that its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope.
    #[error("malformed_envelope")]
    Malformed,
    /// Larger than the peer record allows.
    #[error("envelope_too_large")]
    TooLarge,
    /// The signature does not fit, or its key is not the origin's.
    #[error("bad_signature")]
    Signature,
    /// The payload is not the one that was signed.
    #[error("payload_mismatch")]
    Payload,
    /// `origin` is not the sender, or `auth.sub` is nobody of its domain.
    #[error("wrong_origin")]
    Origin,
    /// `dest` is not this hub.
    #[error("wrong_destination")]
    Destination,
    /// Past `expires`, or made in the future.
    #[error("expired")]
    Expired,
    /// Too many delegations, or one that leads back here.
    #[error("loop_detected")]
    Loop,
}

impl EnvelopeError {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_envelope",
            Self::TooLarge => "envelope_too_large",
            Self::Signature => "bad_signature",
            Self::Payload => "payload_mismatch",
            Self::Origin => "wrong_origin",
            Self::Destination => "wrong_destination",
            Self::Expired => "expired",
            Self::Loop => "loop_detected",
        }
    }
}

/// An envelope whose proof holds.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The signed part.
    pub header: EnvelopeHeader,
    /// The payload as it was signed.
    pub payload: String,
    /// SHA-256 of the signed bytes: the same for every copy of this envelope.
    pub digest: String,
    /// The document as received, to be stored and verified again later.
    pub document: Value,
}

fn signed_bytes(document: &Value) -> Result<Vec<u8>, JwsError> {
    let mut members = document.as_object().cloned().ok_or(JwsError::Document)?;
    members.remove("payload");
    members.remove("signature");
    jws::canonical(&Value::Object(members))
}

/// The digest of an envelope: SHA-256 of its signed bytes.
///
/// # Errors
/// When the document is no object or holds an integer beyond 2^53 - 1.
pub fn digest(document: &Value) -> Result<String, JwsError> {
    signed_bytes(document).map(|bytes| jws::sha256(&bytes))
}

/// Signs an envelope. `payload_hash` is set here. The same header and payload always give the same digest, so a retry is the same
/// envelope.
///
/// # Errors
/// When the header is not canonical JSON or the key library fails.
pub fn seal(local: &LocalNode, mut header: EnvelopeHeader, payload: String) -> Result<(Value, String), JwsError> {
    header.payload_hash = jws::sha256(payload.as_bytes());
    let bytes = signed_bytes(&serde_json::to_value(&header).map_err(|_| JwsError::Document)?)?;
    let signature = local.envelope_key.sign_detached(TYPE, &bytes)?;
    let document = serde_json::to_value(Envelope { header, payload, signature }).map_err(|_| JwsError::Document)?;
    Ok((document, jws::sha256(&bytes)))
}

/// Verifies the proof of an envelope that `sender` handed over: it is the origin, it signed this, and nothing was changed. Whether it
/// may have an effect now is [`admit`]'s question: a copy of one that was taken long ago is proven all the same.
///
/// # Errors
/// When the proof does not hold.
pub fn prove(document: Value, sender: &NodeId, peer: &Peer) -> Result<Verified, EnvelopeError> {
    let envelope: Envelope = serde_json::from_value(document.clone()).map_err(|_| EnvelopeError::Malformed)?;
    let Envelope { header, payload, signature } = envelope;
    let bytes = signed_bytes(&document).map_err(|_| EnvelopeError::Malformed)?;
    if bytes.len() + payload.len() > peer.record.quotas.max_envelope_bytes {
        return Err(EnvelopeError::TooLarge);
    }
    if header.origin.node != *sender || !speaks_for(&header.auth.sub, sender) {
        return Err(EnvelopeError::Origin);
    }
    verify_signature(peer, &signature, &bytes, header.created)?;
    if jws::sha256(payload.as_bytes()) != header.payload_hash {
        return Err(EnvelopeError::Payload);
    }
    Ok(Verified { digest: jws::sha256(&bytes), header, payload, document })
}

/// Whether a proven envelope may have an effect at `local` now.
///
/// # Errors
/// When it is for another hub, outside its times, or has gone round in a circle.
pub fn admit(header: &EnvelopeHeader, peer: &Peer, local: &NodeId, skew: i64, now: Ts) -> Result<(), EnvelopeError> {
    if header.dest.node != *local {
        return Err(EnvelopeError::Destination);
    }
    if header.expires <= now || header.expires <= header.created || header.created > now.plus_seconds(skew) {
        return Err(EnvelopeError::Expired);
    }
    if header.hop > peer.record.quotas.max_hop || header.path.len() != header.hop as usize || comes_back(header, local) {
        return Err(EnvelopeError::Loop);
    }
    Ok(())
}

fn verify_signature(peer: &Peer, signature: &str, bytes: &[u8], created: Ts) -> Result<(), EnvelopeError> {
    if peer.envelope_keys.verify_detached(TYPE, signature, bytes).is_ok() {
        return Ok(());
    }
    // A retired key still proves what it signed while it was in use.
    let mut in_use = peer.old_keys.iter().filter(|(_, expired)| created <= *expired);
    in_use.any(|(keys, _)| keys.verify_detached(TYPE, signature, bytes).is_ok()).then_some(()).ok_or(EnvelopeError::Signature)
}

/// Whether a node may speak for a subject: a user address of its domain, or an agent of its domain.
#[must_use]
pub fn speaks_for(subject: &str, node: &NodeId) -> bool {
    let domain = node.domain();
    let agent =
        subject.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(domain)).is_some_and(|rest| rest.starts_with("/agent/"));
    let address = subject
        .parse::<aiox_model::BareJid>()
        .is_ok_and(|jid| jid.as_str() == subject && (jid.domain() == domain || jid.domain().strip_prefix("agents.") == Some(domain)));
    agent || address
}

fn comes_back(header: &EnvelopeHeader, local: &NodeId) -> bool {
    let here = header.path.iter().filter(|entry| entry.node == *local);
    here.into_iter().any(|entry| header.dest.agent.as_ref() == Some(&entry.agent))
}

/// Countersigns an accepted envelope.
///
/// # Errors
/// When the key library fails.
pub fn receipt(local: &LocalNode, id: EnvelopeId, digest: &str, at: Ts) -> Result<Receipt, JwsError> {
    let body = json!({ "digest": digest, "id": id, "node": local.id, "at": at });
    let signature = local.envelope_key.sign_detached(RECEIPT_TYPE, &jws::canonical(&body)?)?;
    Ok(Receipt { digest: digest.to_owned(), id, node: local.id.clone(), at, signature })
}

/// Whether a receipt is the peer's proof that it holds the envelope with this digest.
#[must_use]
pub fn receipt_holds(receipt: &Receipt, peer: &Peer, id: EnvelopeId, digest: &str) -> bool {
    let bytes = serde_json::to_value(receipt).ok().and_then(|raw| trust::without_signature(&raw).ok());
    let signed = bytes.is_some_and(|bytes| peer.envelope_keys.verify_detached(RECEIPT_TYPE, &receipt.signature, &bytes).is_ok());
    receipt.id == id && receipt.digest == digest && peer.has_node(&receipt.node) && signed
}
