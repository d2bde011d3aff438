//! Short-lived tokens of workers: JWT (RFC 7519) with HS256, bound to what the worker proved itself with. A token of a client
//! certificate carries its thumbprint as RFC 8705 says (`cnf`, `x5t#S256`).

use aiox_core::{Error, Result};
use aiox_model::Ts;
use aws_lc_rs::hkdf;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

const ISSUER: &str = "aiox";
/// Sets the key apart from every other use of the secret that it is made of.
const PURPOSE: &[u8] = b"aiox worker token v1";

/// What a worker proved itself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// SHA-256 of its client certificate (DER).
    Certificate([u8; 32]),
    /// SHA-256 of its key.
    Key([u8; 32]),
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerClaims {
    /// The only worker that it stands for.
    pub worker_id: String,
    /// What it is bound to.
    pub proof: Proof,
    /// It is worth nothing from here on.
    pub expires: Ts,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is none of this hub's.
    Invalid,
    /// Its time is over.
    Expired,
}

#[derive(Serialize, Deserialize, Clone)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    /// Thumbprint of the key, where there is no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

#[derive(Serialize, Deserialize, Clone)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

/// Makes and checks workers' tokens.
#[derive(Clone)]
pub struct WorkerTokens {
    domain: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl WorkerTokens {
    /// Tokens of the hub of a domain, signed with a key that is derived (HKDF-SHA256) from `secret`.
    ///
    /// # Errors
    /// [`Error::Internal`] when the derivation fails.
    pub fn new(domain: &str, secret: &SecretString) -> Result<Self> {
        let mut key = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, domain.as_bytes())
            .extract(secret.expose_secret().as_bytes())
            .expand(&[PURPOSE], hkdf::HKDF_SHA256)
            .and_then(|derived| derived.fill(&mut key))
            .map_err(|_| Error::internal("the key of workers' tokens cannot be derived"))?;
        Ok(Self { domain: domain.into(), encoding: EncodingKey::from_secret(&key), decoding: DecodingKey::from_secret(&key) })
    }

    /// A token. Times are cut to seconds.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn issue(&self, claims: &WorkerClaims, now: Ts) -> Result<String> {
        let thumbprint = |digest: [u8; 32]| URL_SAFE_NO_PAD.encode(digest);
        let (cnf, key) = match claims.proof {
            Proof::Certificate(digest) => (Some(Confirmation { certificate: thumbprint(digest) }), None),
            Proof::Key(digest) => (None, Some(thumbprint(digest))),
        };
        let claims = Claims {
            iss: ISSUER.into(),
            aud: self.domain.clone(),
            sub: claims.worker_id.clone(),
            iat: now.seconds(),
            exp: claims.expires.seconds(),
            cnf,
            key,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.encoding).map_err(Error::internal)
    }

    /// Checks a token: signature, issuer, audience, time.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, token: &str, now: Ts) -> std::result::Result<WorkerClaims, Refused> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[&self.domain]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The hub's clock decides, not the library's.
        rules.validate_exp = false;
        let claims = decode::<Claims>(token, &self.decoding, &rules).map_err(|_| Refused::Invalid)?.claims;
        let digest = |text: String| URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok();
        let proof = match (claims.cnf, claims.key) {
            (Some(cnf), None) => digest(cnf.certificate).map(Proof::Certificate),
            (None, Some(key)) => digest(key).map(Proof::Key),
            _ => None,
        };
        let proof = proof.ok_or(Refused::Invalid)?;
        if claims.exp <= now.seconds() {
            return Err(Refused::Expired);
        }
        Ok(WorkerClaims { worker_id: claims.sub, proof, expires: Ts::from_seconds(claims.exp) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ts = Ts::from_seconds(1_800_000_000);

    fn tokens(domain: &str, secret: &str) -> WorkerTokens {
        WorkerTokens::new(domain, &secret.repeat(32).into()).unwrap()
    }

    fn claims(proof: Proof) -> WorkerClaims {
        WorkerClaims { worker_id: "w1".into(), proof, expires: NOW.plus_seconds(300) }
    }

    #[test]
    fn a_token_says_what_it_was_made_for_until_it_expires() {
        let tokens = tokens("hub-a.example", "a");
        for proof in [Proof::Certificate([1; 32]), Proof::Key([2; 32])] {
            let token = tokens.issue(&claims(proof), NOW).unwrap();
            assert_eq!(tokens.check(&token, NOW), Ok(claims(proof)));
            assert!(tokens.check(&token, NOW.plus_seconds(299)).is_ok());
            assert_eq!(tokens.check(&token, NOW.plus_seconds(300)), Err(Refused::Expired));
        }
    }

    #[test]
    fn foreign_forged_and_other_tokens_are_refused() {
        let ours = tokens("hub-a.example", "a");
        let token = ours.issue(&claims(Proof::Key([2; 32])), NOW).unwrap();
        for other in [tokens("hub-b.example", "a"), tokens("hub-a.example", "b")] {
            assert_eq!(other.check(&token, NOW), Err(Refused::Invalid));
        }
        // The access token of an account is made with the same secret, and another key.
        let accounts = crate::tokens::Tokens::new("hub-a.example", &"a".repeat(32).into(), &"b".repeat(32).into(), 900, 3600).unwrap();
        let account = accounts.issue_access(
            aiox_model::UserId(uuid::Uuid::nil()),
            "u@x",
            aiox_model::SessionId(uuid::Uuid::nil()),
            uuid::Uuid::nil(),
            NOW,
        );
        assert_eq!(ours.check(&account.unwrap(), NOW), Err(Refused::Invalid));
        assert!(accounts.check_access(&token, NOW).is_err());
        let mut parts: Vec<&str> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap().replace("w1", "w2"));
        parts[1] = &forged;
        assert_eq!(ours.check(&parts.join("."), NOW), Err(Refused::Invalid));
        for garbage in ["", "garbage", "a.b.c"] {
            assert_eq!(ours.check(garbage, NOW), Err(Refused::Invalid));
        }
    }
}
