//! What administrators do with accounts.

use aiox_core::{Caller, Error, Result, Role, Scope};
use aiox_crypto::{password, sha256};
use aiox_model::{TenantId, TraceId, UserId, account::User};
use aiox_store::accounts::{self, InviteRow};
use secrecy::SecretString;

use super::{Accounts, Origin, hex_of, normal_email, normal_username};
use crate::audit;

impl Accounts {
    /// Accounts of the caller's tenant, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope.
    pub async fn users(&self, caller: &Caller, limit: u32, offset: u64) -> Result<(Vec<User>, u64)> {
        caller.require(Scope::AccountsAdmin)?;
        let (rows, count) = accounts::users(&mut self.store.read().await?, caller.tenant, limit, offset).await?;
        Ok((rows.into_iter().map(|row| self.view(row)).collect(), count))
    }

    /// Makes an account of the caller's tenant, whatever the sign-up policy.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope or for a role above the caller's; as [`Accounts::register`].
    pub async fn create_user(
        &self,
        caller: &Caller,
        email: &str,
        username: Option<&str>,
        password: SecretString,
        role: Role,
    ) -> Result<User> {
        caller.require(Scope::AccountsAdmin)?;
        if role > caller.role {
            return Err(Error::forbidden("forbidden", "nobody can give a role above their own"));
        }
        let origin = Origin { address: caller.address, trace: caller.trace };
        self.add_user(email, username, password, role, caller.tenant, origin).await
    }

    /// Makes an account without a caller: for the operator's own command line, at the machine.
    ///
    /// # Errors
    /// As [`Accounts::register`].
    pub async fn seed_user(&self, email: &str, username: &str, password: SecretString, role: Role) -> Result<User> {
        let origin = Origin { address: None, trace: TraceId(self.ids.uuid()) };
        self.add_user(email, Some(username), password, role, self.options.default_tenant, origin).await
    }

    async fn add_user(
        &self,
        email: &str,
        username: Option<&str>,
        secret: SecretString,
        role: Role,
        tenant: TenantId,
        origin: Origin,
    ) -> Result<User> {
        let email = normal_email(email)?;
        password::check(&secret)?;
        let wanted = username.map(normal_username).transpose()?;
        let given = wanted.is_some();
        let row = self.new_user(email, wanted, secret, role, tenant).await?;
        let (row, _) = self.insert_user(row, given, None, None, self.clock.now(), origin).await?;
        self.changed.notify_one();
        Ok(self.view(row))
    }

    /// Changes role, standing and allowance of an account of the caller's tenant. Absent members stay.
    ///
    /// # Errors
    /// [`Error::NotFound`] for accounts of other tenants too; [`Error::Forbidden`] for roles above the caller's.
    pub async fn set_user(
        &self,
        caller: &Caller,
        id: UserId,
        role: Option<Role>,
        active: Option<bool>,
        quota: Option<serde_json::Value>,
    ) -> Result<User> {
        caller.require(Scope::AccountsAdmin)?;
        let mut tx = self.store.begin().await?;
        let user = accounts::user(&mut tx, id).await?.filter(|user| user.tenant == caller.tenant).ok_or(Error::NotFound("user"))?;
        let role = role.unwrap_or(user.role);
        if role > caller.role || user.role > caller.role {
            return Err(Error::forbidden("forbidden", "nobody can change a role above their own"));
        }
        let quota = match quota {
            Some(quota) if quota.is_object() => quota.to_string(),
            Some(_) => return Err(Error::invalid("quota", "must be an object")),
            None => user.quota.clone(),
        };
        let active = active.unwrap_or(user.active);
        let now = self.clock.now();
        accounts::set_standing(&mut tx, id, role, active, &quota, now).await?;
        if !active {
            accounts::end_sessions(&mut tx, id, now).await?;
        }
        let record = audit::record(&*self.clock, &*self.ids, caller, "account.changed", Some(("user", id.uuid().to_string())));
        aiox_store::audit::insert(&mut tx, &record).await?;
        let changed = accounts::user(&mut tx, id).await?.ok_or(Error::NotFound("user"))?;
        tx.commit().await?;
        self.changed.notify_one();
        Ok(self.view(changed))
    }

    /// Makes an invitation that works once, for a week. Its code is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope or for a role above the caller's.
    pub async fn invite(&self, caller: &Caller, role: Role) -> Result<String> {
        caller.require(Scope::AccountsAdmin)?;
        if role > caller.role {
            return Err(Error::forbidden("forbidden", "nobody can give a role above their own"));
        }
        let by = caller.principal.user().ok_or(Error::NotFound("user"))?;
        let code = format!("aiox_invite_{}", hex_of(self.ids.secret()));
        let now = self.clock.now();
        let row = InviteRow {
            id: self.ids.uuid(),
            tenant: caller.tenant,
            role,
            created_by: by,
            created_at: now,
            expires_at: now.plus_seconds(7 * 86_400),
        };
        let mut tx = self.store.begin().await?;
        accounts::insert_invite(&mut tx, &row, &sha256(code.as_bytes())).await?;
        let record = audit::record(&*self.clock, &*self.ids, caller, "account.invited", Some(("invite", row.id.to_string())));
        aiox_store::audit::insert(&mut tx, &record).await?;
        tx.commit().await?;
        Ok(code)
    }
}
