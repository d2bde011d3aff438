//! Sealing at rest: AES-256-GCM under a key with an id, bound to its place by associated data.
//!
//! Form: version (1 byte, 1), key id (16 bytes), nonce (12 bytes), ciphertext with tag. Associated data (tenant, object, field) is
//! not stored: whoever moves a sealed value to another row or tenant can no longer open it.

use aiox_core::{Error, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use uuid::Uuid;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 16 + 12;

/// A key of 256 bits with its id.
#[derive(Clone)]
pub struct Key {
    id: Uuid,
    bytes: Zeroizing<[u8; 32]>,
}

impl Key {
    /// A key from its bytes.
    #[must_use]
    pub fn new(id: Uuid, bytes: [u8; 32]) -> Self {
        Self { id, bytes: Zeroizing::new(bytes) }
    }
    /// The key's id.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }
    /// The key's bytes, for sealing this key under another one.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    fn cipher(&self) -> Result<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.bytes.as_slice()).map(LessSafeKey::new).map_err(|_| Error::internal("bad key length"))
    }

    /// Seals `clear` at the place that `context` names.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn seal(&self, context: &str, clear: &[u8]) -> Result<Vec<u8>> {
        let nonce: [u8; 12] = crate::system::random();
        let mut out = Vec::with_capacity(HEAD + clear.len() + 16);
        out.push(VERSION);
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&nonce);
        let mut body = clear.to_vec();
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| Error::internal("sealing failed"))?;
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// Opens what [`seal`](Self::seal) made at the same place. `None`: another key, another place, or damaged.
    #[must_use]
    pub fn open(&self, context: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if key_id(sealed)? != self.id {
            return None;
        }
        let nonce: [u8; 12] = sealed.get(17..HEAD)?.try_into().ok()?;
        let mut body = sealed.get(HEAD..)?.to_vec();
        let clear =
            self.cipher().ok()?.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(context.as_bytes()), &mut body).ok()?.len();
        body.truncate(clear);
        Some(Zeroizing::new(body))
    }
}

/// Which key a value was sealed with. `None`: it is no sealed value of this version.
#[must_use]
pub fn key_id(sealed: &[u8]) -> Option<Uuid> {
    if sealed.first() != Some(&VERSION) || sealed.len() < HEAD + 16 {
        return None;
    }
    Uuid::from_slice(&sealed[1..17]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u128) -> Key {
        Key::new(Uuid::from_u128(n), [u8::try_from(n).unwrap(); 32])
    }

    proptest! {
        #[test]
        fn any_content_round_trips(clear: Vec<u8>, context: String) {
            let sealed = key(1).seal(&context, &clear).unwrap();
            prop_assert_eq!(key(1).open(&context, &sealed).unwrap().to_vec(), clear);
            prop_assert_eq!(key_id(&sealed), Some(Uuid::from_u128(1)));
        }
        #[test]
        fn a_changed_byte_another_place_or_another_key_opens_nothing(clear: Vec<u8>, at: prop::sample::Index) {
            let mut sealed = key(1).seal("a", &clear).unwrap();
            prop_assert!(key(1).open("b", &sealed).is_none());
            prop_assert!(key(2).open("a", &sealed).is_none());
            let at = at.index(sealed.len());
            sealed[at] ^= 1;
            prop_assert!(key(1).open("a", &sealed).is_none());
        }
        #[test]
        fn garbage_opens_nothing(garbage: Vec<u8>) { prop_assert!(key(1).open("a", &garbage).is_none()); }
    }

    #[test]
    fn equal_texts_seal_differently() {
        assert_ne!(key(1).seal("a", b"x").unwrap(), key(1).seal("a", b"x").unwrap());
    }
}
