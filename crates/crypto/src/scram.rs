//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677) for the XMPP server: it can check a password without ever having it.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// Rounds of PBKDF2.
pub const ITERATIONS: u32 = 10_000;

/// What the XMPP server keeps of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// Lower-case hex.
    pub stored_key: String,
    /// Lower-case hex.
    pub server_key: String,
    /// Text.
    pub salt: String,
    /// Rounds.
    pub iteration_count: u32,
}

/// Derives the verifier of a password. CPU-heavy: call from a blocking thread.
#[must_use]
pub fn verifier(password: &SecretString, salt: [u8; 16]) -> Verifier {
    let salt = hex::encode(salt);
    let rounds = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
    let mut salted = [0u8; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt.as_bytes(), password.expose_secret().as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    Verifier {
        stored_key: hex::encode(stored.as_ref()),
        server_key: hex::encode(hmac::sign(&key, b"Server Key").as_ref()),
        salt,
        iteration_count: ITERATIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_rfc_7677_verifies() {
        // RFC 7677 section 3: user "user", password "pencil", 4,096 rounds, and the client proof of its exchange.
        let salt = [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
        let mut salted = [0u8; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::new(4096).unwrap(), &salt, b"pencil", &mut salted);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, b"Server Key").as_ref());
        let signature = hmac::sign(&server, message.as_bytes());
        assert_eq!(
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signature.as_ref()),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn equal_passwords_with_other_salts_differ() {
        let password = SecretString::from("pencil");
        assert!(verifier(&password, [1; 16]).stored_key != verifier(&password, [2; 16]).stored_key);
    }
}
