//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, without channel binding.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret as _, SecretString};

/// Fewer rounds are a server that RFC 7677 section 4 forbids: a stolen proof would be cheap to guess from.
const MIN_ROUNDS: u32 = 4096;
/// More rounds are a server that wants our processor time.
const MAX_ROUNDS: u32 = 1_000_000;
/// No channel binding, no other identity: the header of the first message.
const GS2: &str = "n,,";

/// The exchange before the server's first message.
pub(crate) struct Scram {
    nonce: String,
    first_bare: String,
}

/// What the server has to prove.
pub(crate) struct Expected(hmac::Tag);

impl Scram {
    pub(crate) fn new(username: &str, nonce: String) -> Self {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        Self { first_bare: format!("n={name},r={nonce}"), nonce }
    }

    pub(crate) fn first(&self) -> String {
        format!("{GS2}{}", self.first_bare)
    }

    /// The answer to the server's first message.
    pub(crate) fn respond(&self, server_first: &str, password: &SecretString) -> Result<(String, Expected), &'static str> {
        let mut parts = server_first.split(',');
        let mut part = |key: &str| parts.next().and_then(|part| part.strip_prefix(key));
        let nonce = part("r=").ok_or("the server sent no nonce")?;
        let salt = part("s=").and_then(|salt| BASE64_STANDARD.decode(salt).ok()).ok_or("the server sent no salt")?;
        let rounds = part("i=").and_then(|rounds| rounds.parse::<u32>().ok()).ok_or("the server sent no iteration count")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server changed the nonce");
        }
        let rounds = NonZeroU32::new(rounds).filter(|rounds| (MIN_ROUNDS..=MAX_ROUNDS).contains(&rounds.get()));
        let rounds = rounds.ok_or("the server's iteration count is out of bounds")?;

        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.expose_secret().as_bytes(), &mut salted);
        let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let server_key = hmac::sign(&salted, b"Server Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());

        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(GS2));
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = sign(stored_key.as_ref(), &signed);
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, signature)| key ^ signature).collect();
        let last = format!("{without_proof},p={}", BASE64_STANDARD.encode(proof));
        Ok((last, Expected(sign(server_key.as_ref(), &signed))))
    }
}

impl Expected {
    /// Checks the server's last message.
    pub(crate) fn verify(&self, server_final: &str) -> Result<(), &'static str> {
        let signature = server_final.split(',').next().and_then(|part| part.strip_prefix("v="));
        let signature = signature.and_then(|signature| BASE64_STANDARD.decode(signature).ok()).ok_or("the server sent no signature")?;
        constant_time::verify_slices_are_equal(&signature, self.0.as_ref()).map_err(|_| "the server does not know the password")
    }
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7677 section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn exchange(server_first: &str) -> Result<(String, Expected), &'static str> {
        Scram::new("user", NONCE.to_owned()).respond(server_first, &SecretString::from("pencil"))
    }

    #[test]
    fn the_published_exchange_comes_out() {
        assert_eq!(Scram::new("user", NONCE.to_owned()).first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, expected) = exchange(SERVER_FIRST).unwrap();
        assert_eq!(last, CLIENT_FINAL);
        assert_eq!(expected.verify(SERVER_FINAL), Ok(()));
        assert!(expected.verify("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
        assert!(expected.verify("e=invalid-proof").is_err());
    }

    #[test]
    fn a_dishonest_server_gets_no_proof() {
        for bad in [
            "r=other%nonce,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            "m=ext,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
            "",
        ] {
            assert!(exchange(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_with_separators_is_escaped() {
        assert_eq!(Scram::new("a=b,c", "n".to_owned()).first(), "n,,n=a=3Db=2Cc,r=n");
    }
}
