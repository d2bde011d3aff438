//! Principals that a request names without a credential. Only doors in modes that believe such requests ask for them.

use aiox_core::{Caller, Door, Error, Result, Role, Scope};
use aiox_crypto::{scram, sha256};
use aiox_model::{TenantId, Ts, UserId};
use aiox_store::accounts::{self, UserRow};
use secrecy::SecretString;

use super::{Accounts, Origin, hex_of};
use crate::vault::scram_place;

/// Who a request says that it is from.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// The principal's id, 1 to 255 bytes.
    pub principal: &'a str,
    /// Whether it is a program.
    pub service: bool,
}

impl Accounts {
    /// The caller that a request names: an account of that tenant by its id, else the account that is kept for this name, which is made
    /// when it is first named. Whoever it is, it may do what a tenant user may do at most. The door still has to ask whether the tenant's
    /// credentials work.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for a disabled account; database errors.
    pub async fn named(&self, named: Named<'_>, origin: Origin, door: Door) -> Result<Caller> {
        let known = named.principal.parse().ok().map(UserId::uuid);
        let id = UserId(known.unwrap_or_else(|| id_of(named)));
        let found = accounts::user(&mut self.store.read().await?, id).await?;
        let user = match found {
            Some(user) if user.tenant == named.tenant && user.active => user,
            // Another tenant's account is none here.
            _ => self.kept(UserId(id_of(named)), named).await?,
        };
        let mut caller = self.caller(&user, None, origin.trace, door, origin.address)?;
        caller.role = if named.service { Role::Service } else { Role::User };
        caller.scopes = Scope::USE.to_vec();
        Ok(caller)
    }

    /// The account that is kept for a name.
    pub(super) async fn kept(&self, id: UserId, named: Named<'_>) -> Result<UserRow> {
        let missing = || Error::internal("the account of a named principal is not there");
        if let Some(user) = accounts::user(&mut self.store.read().await?, id).await? {
            return if user.active { Ok(user) } else { Err(super::REFUSED) };
        }
        let (unknown, mut salt) = (SecretString::from(hex_of(self.ids.secret())), [0; 16]);
        salt.copy_from_slice(&self.ids.secret()[..16]);
        // Nobody knows this password, so nobody signs in to XMPP with it.
        let verifier = self.blocking(move || scram::verifier(&unknown, salt)).await?;
        let clear = serde_json::to_vec(&verifier).map_err(Error::internal)?;
        let username = username(named.principal, id);
        let user = UserRow {
            id,
            tenant: named.tenant,
            email: format!("{username}@principals.{}", self.names.domain()),
            username,
            // No hash at all: no password verifies against it.
            password_hash: "none".into(),
            role: Role::User,
            active: true,
            scram_sealed: self.vault.seal(named.tenant, &scram_place(id.uuid()), &clear).await?,
            quota: "{}".into(),
            tokens_valid_after: Ts::from_micros(0),
            created_at: self.clock.now(),
        };
        let mut tx = self.store.begin().await?;
        accounts::insert_user(&mut tx, &user).await?;
        tx.commit().await?;
        // A request at the same time may have been faster.
        accounts::user(&mut self.store.read().await?, id).await?.ok_or_else(missing)
    }
}

/// The same name in the same tenant is the same account, for ever (RFC 9562 version 8).
fn id_of(named: Named<'_>) -> uuid::Uuid {
    let digest = sha256(format!("principal\n{}\n{}", named.tenant, named.principal).as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A name that says whose account it is and that no other account has.
fn username(principal: &str, id: UserId) -> String {
    let legal = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c) { c } else { '-' };
    let name: String = principal.to_lowercase().chars().map(legal).take(30).collect();
    let name = name.trim_matches(['-', '_', '.']);
    format!("{}.{}", if name.is_empty() { "principal" } else { name }, id.uuid().simple())
}
