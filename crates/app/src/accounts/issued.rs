//! Programs whose tokens somebody else signed, with keys that the operator configured.

use std::sync::Arc;

use aiox_core::{Caller, Door, Result, Role, Scope};
use aiox_crypto::{
    issuer::{Bearer, Issuer, claimed_issuer},
    sha256,
};
use aiox_model::UserId;

use super::{Accounts, Named, Origin, REFUSED};

/// Whoever may sign tokens for programs, and what those may do here at most.
#[derive(Debug, Clone)]
pub struct TrustedIssuer {
    /// How its tokens are judged.
    pub issuer: Issuer,
    /// Tenants that its tokens may name, by any of their names; `*` is every tenant.
    pub tenants: Vec<String>,
    /// The most that its tokens may give.
    pub scopes: Vec<Scope>,
}

impl Accounts {
    /// The same, with tokens of these issuers at `/v1`.
    #[must_use]
    pub fn with_issuers(self, issuers: Vec<TrustedIssuer>) -> Self {
        Self { issuers: Arc::from(issuers), ..self }
    }

    /// The caller that a token of an issuer stands for. `None`: the credential is no such token, and may be something else.
    pub(super) async fn issued(&self, token: &str, origin: Origin, door: Door) -> Option<Result<Caller>> {
        if door != Door::V1 || self.issuers.is_empty() {
            return None;
        }
        let claimed = claimed_issuer(token)?;
        let Some(trusted) = self.issuers.iter().find(|one| one.issuer.issuer == claimed) else {
            tracing::info!("a token of an issuer that is not configured was refused");
            return Some(Err(REFUSED));
        };
        Some(match trusted.issuer.judge(token, self.clock.now()) {
            Ok(bearer) => self.bearer(trusted, bearer, origin, door).await,
            Err(error) => {
                tracing::info!(issuer = claimed, %error, "a token was refused");
                Err(REFUSED)
            }
        })
    }

    async fn bearer(&self, trusted: &TrustedIssuer, bearer: Bearer, origin: Origin, door: Door) -> Result<Caller> {
        let issuer = &trusted.issuer.issuer;
        let book = &self.options.tenants;
        let tenant = book.find(&bearer.tenant).await?.ok_or(REFUSED)?;
        let mut allowed = trusted.tenants.iter().any(|name| name == "*");
        for name in &trusted.tenants {
            allowed = allowed || (name != "*" && book.find(name).await? == Some(tenant));
        }
        if !allowed {
            tracing::info!(issuer, %tenant, "a token for a tenant that its issuer does not speak for was refused");
            return Err(REFUSED);
        }
        let named = Named { tenant, principal: &bearer.principal, service: bearer.service };
        // An issuer's principals are its own: whatever they are called, they are no account of the hub and nobody else's principals.
        let digest = sha256(format!("issued\n{tenant}\n{issuer}\n{}", bearer.principal).as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        let user = self.kept(UserId(uuid::Builder::from_custom_bytes(bytes).into_uuid()), named).await?;
        let mut caller = self.caller(&user, None, origin.trace, door, origin.address)?;
        caller.role = if bearer.service { Role::Service } else { Role::User };
        let asked: Vec<Scope> = bearer.scopes.iter().flat_map(|scope| Scope::named(scope)).collect();
        caller.scopes = trusted.scopes.iter().copied().filter(|scope| asked.contains(scope)).collect();
        Ok(caller)
    }
}
