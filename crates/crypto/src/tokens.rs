//! Tokens of local accounts: JWT (RFC 7519) with HS256, one secret for access and another for refresh.

use aiox_core::{Error, Result};
use aiox_model::{SessionId, Ts, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

const ISSUER: &str = "aiox";

/// Claims of an access token. `uid`, `email`, `iss`, `exp`, `iat` are contract; the others are ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The account.
    pub uid: Uuid,
    /// Its e-mail address.
    pub email: String,
    /// Always `aiox`.
    pub iss: String,
    /// The hub's domain: a token of another hub with the same secret is not ours.
    pub aud: String,
    /// Unique id.
    pub jti: Uuid,
    /// Sign-in session.
    pub sid: SessionId,
    /// Issued at, seconds.
    pub iat: i64,
    /// Issued at, microseconds: sign-out kills tokens issued in the same second too.
    pub iat_us: i64,
    /// Expires at, seconds.
    pub exp: i64,
}

/// Claims of a refresh token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// The account.
    pub uid: Uuid,
    /// Row of the allow-list.
    pub tid: Uuid,
    /// Always `aiox`.
    pub iss: String,
    /// The hub's domain.
    pub aud: String,
    /// Issued at, seconds.
    pub iat: i64,
    /// Expires at, seconds.
    pub exp: i64,
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    domain: String,
    access: (EncodingKey, DecodingKey),
    refresh: (EncodingKey, DecodingKey),
    /// Seconds an access token lives.
    pub access_seconds: u32,
    /// Seconds a refresh token lives.
    pub refresh_seconds: u32,
}

impl Tokens {
    /// # Errors
    /// [`Error::Invalid`] when a secret is shorter than 32 characters or both are equal.
    pub fn new(domain: &str, access: &SecretString, refresh: &SecretString, access_seconds: u32, refresh_seconds: u32) -> Result<Self> {
        let (one, two) = (access.expose_secret(), refresh.expose_secret());
        if one.len() < 32 || two.len() < 32 {
            return Err(Error::invalid("auth.access_secret", "both token secrets need at least 32 characters"));
        }
        if one == two {
            return Err(Error::invalid("auth.refresh_secret", "access and refresh secret must differ"));
        }
        let pair = |secret: &str| (EncodingKey::from_secret(secret.as_bytes()), DecodingKey::from_secret(secret.as_bytes()));
        Ok(Self { domain: domain.into(), access: pair(one), refresh: pair(two), access_seconds, refresh_seconds })
    }

    /// An access token.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn issue_access(&self, user: UserId, email: &str, session: SessionId, jti: Uuid, now: Ts) -> Result<String> {
        let claims = Access {
            uid: user.uuid(),
            email: email.into(),
            iss: ISSUER.into(),
            aud: self.domain.clone(),
            jti,
            sid: session,
            iat: now.seconds(),
            iat_us: now.micros(),
            exp: now.seconds() + i64::from(self.access_seconds),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.access.0).map_err(Error::internal)
    }

    /// A refresh token for a row of the allow-list.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn issue_refresh(&self, user: UserId, row: Uuid, now: Ts) -> Result<String> {
        let claims = Refresh {
            uid: user.uuid(),
            tid: row,
            iss: ISSUER.into(),
            aud: self.domain.clone(),
            iat: now.seconds(),
            exp: now.seconds() + i64::from(self.refresh_seconds),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.refresh.0).map_err(Error::internal)
    }

    /// Checks an access token: signature, issuer, audience, time.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`].
    pub fn check_access(&self, token: &str, now: Ts) -> Result<Access> {
        let claims: Access = self.check(token, &self.access.1)?;
        if claims.exp <= now.seconds() { Err(REFUSED) } else { Ok(claims) }
    }

    /// Checks a refresh token likewise.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`].
    pub fn check_refresh(&self, token: &str, now: Ts) -> Result<Refresh> {
        let claims: Refresh = self.check(token, &self.refresh.1)?;
        if claims.exp <= now.seconds() { Err(REFUSED) } else { Ok(claims) }
    }

    fn check<T: DeserializeOwned + Clone>(&self, token: &str, key: &DecodingKey) -> Result<T> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[&self.domain]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        // The hub's clock decides, not the library's.
        rules.validate_exp = false;
        decode::<T>(token, key, &rules).map(|data| data.claims).map_err(|_| REFUSED)
    }
}

const REFUSED: Error = Error::Unauthenticated("invalid or expired token");

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(domain: &str) -> Tokens {
        Tokens::new(domain, &"a".repeat(32).into(), &"b".repeat(32).into(), 900, 3600).unwrap()
    }
    const NOW: Ts = Ts::from_seconds(1_800_000_000);
    const USER: UserId = UserId(Uuid::from_u128(1));
    const SESSION: SessionId = SessionId(Uuid::from_u128(2));

    #[test]
    fn an_access_token_carries_its_claims_until_it_expires() {
        let token = tokens("hub-a.example").issue_access(USER, "u@hub-a.example", SESSION, Uuid::from_u128(3), NOW).unwrap();
        let claims = tokens("hub-a.example").check_access(&token, NOW).unwrap();
        assert_eq!((claims.uid, claims.email.as_str(), claims.exp - claims.iat), (USER.uuid(), "u@hub-a.example", 900));
        assert!(tokens("hub-a.example").check_access(&token, NOW.plus_seconds(899)).is_ok());
        assert!(tokens("hub-a.example").check_access(&token, NOW.plus_seconds(900)).is_err());
    }

    #[test]
    fn foreign_audience_kind_and_algorithm_are_refused() {
        let ours = tokens("hub-a.example");
        let access = ours.issue_access(USER, "u@x", SESSION, Uuid::nil(), NOW).unwrap();
        let refresh = ours.issue_refresh(USER, Uuid::nil(), NOW).unwrap();
        assert!(tokens("hub-b.example").check_access(&access, NOW).is_err());
        assert!(ours.check_access(&refresh, NOW).is_err());
        assert!(ours.check_refresh(&access, NOW).is_err());
        let claims = ours.check_access(&access, NOW).unwrap();
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let forged = encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret("a".repeat(32).as_bytes())).unwrap();
            assert!(ours.check_access(&forged, NOW).is_err());
        }
        let body = access.split('.').nth(1).unwrap();
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
        assert!(ours.check_access(&none, NOW).is_err());
        assert!(ours.check_access("garbage", NOW).is_err());
    }

    #[test]
    fn weak_or_equal_secrets_are_refused() {
        let long: SecretString = "a".repeat(32).into();
        assert!(Tokens::new("x", &"a".repeat(31).into(), &long, 1, 1).is_err());
        assert!(Tokens::new("x", &long, &long, 1, 1).is_err());
    }
}
