//! The token of one request (federation section 4): made for the connection it travels on, used once.

use aiox_core::ports::{Ids, ReplayGuard};
use aiox_crypto::jws::{self, JwsError};
use aiox_model::{
    Ts,
    federation::{Audience, Confirmation, MAX_SAFE_INTEGER, NodeId, TokenClaims},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::{local::LocalNode, roster::Peer, tls::PeerIdentity};

/// `typ` of a request token.
pub const TYPE: &str = "aiox-fed+jwt";
/// Longest life of a token, in seconds.
pub const MAX_LIFE: i64 = 60;
/// Difference between two clocks that is tolerated unless configured otherwise, in seconds.
pub const DEFAULT_SKEW: i64 = 30;
const MIN_JTI_BYTES: usize = 16;
const MAX_TOKEN: usize = 8 * 1024;

/// What a token is good for: one operation of the peer listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `POST /fed/v1/hello`, `GET /fed/v1/capabilities`.
    Hello,
    /// `POST /fed/v1/envelopes`.
    Deliver,
    /// `GET /fed/v1/runs/{id}/events`.
    Stream,
    /// `GET /fed/v1/directory`.
    Directory,
    /// `GET /fed/v1/conversations`.
    History,
}

impl Operation {
    /// The token's `scope`.
    #[must_use]
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Deliver => "deliver",
            Self::Stream => "stream",
            Self::Directory => "directory",
            Self::History => "history",
        }
    }
}

/// Why a token was refused. Goes to the audit log; the peer sees a bare 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No `Authorization: Bearer`.
    #[error("no bearer token")]
    Missing,
    /// Not a JWT of the right shape, a wrong algorithm, or a signature that does not fit.
    #[error("token: {0}")]
    Jws(JwsError),
    /// The claims are not what they must be.
    #[error("claims are malformed")]
    Claims,
    /// `iss` is not the node of this connection's certificate.
    #[error("issuer is not the node of the connection")]
    Issuer,
    /// `aud` is not this node alone.
    #[error("audience is not this node alone")]
    Audience,
    /// Bound to no certificate, or to another one.
    #[error("token is not bound to this connection")]
    Binding,
    /// Lives longer than allowed, has ended, or has not begun.
    #[error("token times are outside the allowance")]
    Time,
    /// Its `jti` was used before, or is too short.
    #[error("token was used before")]
    Replay,
    /// The replay guard cannot answer.
    #[error("replay guard is unavailable")]
    Guard,
    /// For another operation.
    #[error("token is for another operation")]
    Scope,
}

/// Makes the token of one request to `audience`. Take the connection first: `thumbprint` is that of the certificate it was opened with.
///
/// # Errors
/// When the key library fails.
pub fn mint(
    local: &LocalNode,
    audience: &NodeId,
    thumbprint: &str,
    operation: Operation,
    now: Ts,
    ids: &dyn Ids,
) -> Result<String, JwsError> {
    let iat = now.seconds();
    let claims = TokenClaims {
        iss: local.id.to_string(),
        aud: Audience::One(audience.to_string()),
        sub: local.id.to_string(),
        iat,
        exp: iat + MAX_LIFE,
        nbf: None,
        jti: jws::base64url(&ids.secret()),
        cnf: Some(Confirmation { thumbprint: thumbprint.to_owned() }),
        scope: operation.scope().to_owned(),
    };
    local.token_key.sign(TYPE, &serde_json::to_vec(&claims).map_err(|_| JwsError::Document)?)
}

/// What a token is judged against.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// This node: the only audience.
    pub local: &'a NodeId,
    /// The other end of the connection.
    pub connection: &'a PeerIdentity,
    /// Its record.
    pub peer: &'a Peer,
    /// The operation asked for.
    pub operation: Operation,
    /// Now.
    pub now: Ts,
    /// Tolerated clock difference, in seconds.
    pub skew: i64,
    /// Remembers used tokens.
    pub guard: &'a dyn ReplayGuard,
}

impl Judge<'_> {
    /// Verifies an `Authorization` header and gives the token's age in seconds, which measures the difference of the two clocks.
    ///
    /// # Errors
    /// Whenever anything about the token is not as it must be.
    pub async fn verify(&self, authorization: Option<&str>) -> Result<i64, TokenError> {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).ok_or(TokenError::Missing)?;
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Jws(JwsError::Malformed));
        }
        let (payload, _) = self.peer.token_keys.verify(TYPE, token).map_err(TokenError::Jws)?;
        let claims: Value = jws::read_strict(&payload).map_err(|_| TokenError::Claims)?;
        let claims: TokenClaims = serde_json::from_value(claims).map_err(|_| TokenError::Claims)?;
        self.judge(&claims)?;
        // The guard comes last: a refused token must not fill it, nor use up the jti of an honest one.
        let until = Ts::from_seconds(claims.exp + self.skew);
        match self.guard.first_use(&claims.iss, &claims.jti, until).await {
            Ok(true) => Ok(self.now.seconds() - claims.iat),
            Ok(false) => Err(TokenError::Replay),
            Err(error) => {
                tracing::error!(error = %error.chain(), "replay guard is unavailable");
                Err(TokenError::Guard)
            }
        }
    }

    fn judge(&self, claims: &TokenClaims) -> Result<(), TokenError> {
        if claims.iss != self.connection.node.as_str() || claims.sub != claims.iss {
            return Err(TokenError::Issuer);
        }
        let audience = match &claims.aud {
            Audience::One(one) => one,
            Audience::Many(list) => match list.as_slice() {
                [one] => one,
                _ => return Err(TokenError::Audience),
            },
        };
        if audience != self.local.as_str() {
            return Err(TokenError::Audience);
        }
        if claims.cnf.as_ref().is_none_or(|cnf| cnf.thumbprint != self.connection.thumbprint) {
            return Err(TokenError::Binding);
        }
        let sane = |at: i64| (0..=i64::try_from(MAX_SAFE_INTEGER / 1_000_000).unwrap_or(i64::MAX)).contains(&at);
        if !sane(claims.iat) || !sane(claims.exp) || claims.exp <= claims.iat || claims.exp - claims.iat > MAX_LIFE {
            return Err(TokenError::Time);
        }
        let now = self.now.seconds();
        let begin = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
        if claims.exp + self.skew <= now || begin > now + self.skew {
            return Err(TokenError::Time);
        }
        if claims.scope != self.operation.scope() {
            return Err(TokenError::Scope);
        }
        if URL_SAFE_NO_PAD.decode(&claims.jti).map_or(0, |bytes| bytes.len()) < MIN_JTI_BYTES || claims.jti.len() > 256 {
            return Err(TokenError::Claims);
        }
        Ok(())
    }
}
