//! Service tokens: credentials of programs that act in a tenant.
//!
//! A token is an API key that belongs to a service, and a service is an account that nobody can sign in to by a password. So it owns
//! agents, has conversations and an allowance, and is found in the audit log as everybody is.

use aiox_core::{Caller, Error, Result, Role, Scope, tenant};
use aiox_crypto::{scram, sha256};
use aiox_model::{
    ApiKeyId, TenantId, Ts, UserId,
    v1::tenants::{Token, TokenCreate},
};
use aiox_store::{
    Tx,
    accounts::{self, ApiKeyRow, UserRow},
    service_tokens::{self, ServiceTokenRow},
    tenants::TenantRow,
};
use secrecy::SecretString;

use super::{Answered, Repeatable, Tenants, records};
use crate::{
    accounts::{KEY_PREFIX, hex_of},
    vault::scram_place,
};

const KIND: &str = "service_token";
/// Most tokens that a list shows.
const SHOWN: u32 = 1000;

impl Tenants {
    /// Issues a token, once for a request that may come again. Its secret is in the first answer and nowhere else.
    ///
    /// # Errors
    /// As [`Tenants::read`]; [`Error::Invalid`] for wrong members, [`Error::Forbidden`] for a standing or scopes above the caller's,
    /// [`Error::NotFound`] for a principal that is no service of the tenant, [`Error::Conflict`] for a key that was used for another
    /// request.
    pub async fn issue_token(
        &self,
        caller: &Caller,
        tenant: &str,
        new: TokenCreate,
        repeatable: Option<Repeatable>,
    ) -> Result<Answered<Token>> {
        const ACTION: &str = "tokens.issue";
        let row = self.mine(caller, ACTION, tenant).await?;
        let name = new.name.unwrap_or_else(|| "service".into());
        if name.trim().is_empty() || name.chars().count() > 255 {
            return Err(Error::invalid("name", "must have 1 to 255 characters"));
        }
        let now = self.clock.now();
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::invalid("expires_at", "must be in the future"));
        }
        let wanted = match new.role.as_deref() {
            None => None,
            Some(text) => match Role::of_standing(text) {
                Some(role @ (Role::Service | Role::User | Role::TenantAdmin)) => Some(role),
                _ => return Err(Error::invalid("role", "must be tenant_service, tenant_user or tenant_admin")),
            },
        };
        let (account, fresh) = match &new.principal_id {
            Some(text) => (self.service(row.id, text).await?, false),
            None => (self.new_service(&row, wanted.unwrap_or(Role::Service)).await?, true),
        };
        if wanted.is_some_and(|wanted| wanted != account.role) {
            return Err(Error::invalid("role", "the service of this principal has another role"));
        }
        let scopes = scopes(caller, account.role, new.scopes.as_deref())?;
        let names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
        let key = ApiKeyRow {
            id: ApiKeyId(self.ids.uuid()),
            user: account.id,
            name: name.trim().to_owned(),
            scopes: names.join(" "),
            created_at: now,
            expires_at: new.expires_at,
        };
        let (operation, token) =
            (format!("{ACTION} {}", row.id), ServiceTokenRow { key: key.clone(), role: account.role, rotated_at: None });
        let token = view(&row, token);
        let secret = self.secret();
        let mut tx = self.store.begin().await?;
        if let Some(first) = self.first(&mut tx, caller, &operation, repeatable.as_ref(), &token).await? {
            return Ok(first);
        }
        if fresh && !accounts::insert_user(&mut tx, &account).await? {
            return Err(Error::internal("the name of a new service is taken"));
        }
        service_tokens::insert(&mut tx, row.id, &key, &sha256(secret.as_bytes()), &caller.principal.key()).await?;
        self.record(&mut tx, caller, ACTION, row.id, key.id).await?;
        tx.commit().await?;
        Ok(Answered::now(Token { secret: Some(secret), ..token }))
    }

    /// The living tokens of a tenant, newest first.
    ///
    /// # Errors
    /// As [`Tenants::read`].
    pub async fn tokens(&self, caller: &Caller, tenant: &str) -> Result<Vec<Token>> {
        let row = self.mine(caller, "tokens.read", tenant).await?;
        let found = service_tokens::list(&mut self.store.read().await?, row.id, SHOWN).await?;
        Ok(found.into_iter().map(|token| view(&row, token)).collect())
    }

    /// Gives a token a new secret, once for a request that may come again. It is in the first answer and nowhere else; the old one is dead
    /// at once.
    ///
    /// # Errors
    /// As [`Tenants::read`]; [`Error::NotFound`] for tokens of others, revoked and expired ones, [`Error::Conflict`] for a key that was
    /// used for another request.
    pub async fn rotate_token(
        &self,
        caller: &Caller,
        tenant: &str,
        token: &str,
        repeatable: Option<Repeatable>,
    ) -> Result<Answered<Token>> {
        const ACTION: &str = "tokens.rotate";
        let row = self.mine(caller, ACTION, tenant).await?;
        let id: ApiKeyId = token.parse().map_err(|_| Error::NotFound("token"))?;
        let secret = self.secret();
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let found = service_tokens::of_tenant(&mut tx, row.id, id).await?.ok_or(Error::NotFound("token"))?;
        // A token acts with its service's standing: whoever may not give that may not take it over either.
        if found.role > caller.role {
            return Err(Error::forbidden("forbidden", "nobody can rotate a token of a role above their own"));
        }
        let rotated = view(&row, ServiceTokenRow { rotated_at: Some(now), ..found });
        if let Some(first) = self.first(&mut tx, caller, &format!("{ACTION} {id}"), repeatable.as_ref(), &rotated).await? {
            return Ok(first);
        }
        if !service_tokens::rotate(&mut tx, row.id, id, &sha256(secret.as_bytes()), now).await? {
            return Err(Error::NotFound("token"));
        }
        self.record(&mut tx, caller, ACTION, row.id, id).await?;
        tx.commit().await?;
        Ok(Answered::now(Token { secret: Some(secret), ..rotated }))
    }

    /// Ends a token.
    ///
    /// # Errors
    /// As [`Tenants::rotate_token`].
    pub async fn revoke_token(&self, caller: &Caller, tenant: &str, token: &str) -> Result<()> {
        const ACTION: &str = "tokens.revoke";
        let row = self.mine(caller, ACTION, tenant).await?;
        let id: ApiKeyId = token.parse().map_err(|_| Error::NotFound("token"))?;
        let mut tx = self.store.begin().await?;
        if !service_tokens::revoke(&mut tx, row.id, id, self.clock.now()).await? {
            return Err(Error::NotFound("token"));
        }
        self.record(&mut tx, caller, ACTION, row.id, id).await?;
        tx.commit().await
    }

    fn secret(&self) -> String {
        format!("{KEY_PREFIX}{}", hex_of(self.ids.secret()))
    }

    async fn record(&self, tx: &mut Tx, caller: &Caller, action: &str, tenant: TenantId, token: ApiKeyId) -> Result<()> {
        let mut record = records::record(&*self.clock, &*self.ids, caller, action, Some((KIND, token.to_string())));
        record.tenant = tenant.uuid();
        aiox_store::audit::insert(tx, &record).await
    }

    /// A service of the tenant, by the principal of an earlier token.
    async fn service(&self, tenant: TenantId, principal: &str) -> Result<UserRow> {
        let missing = || Error::NotFound("service");
        let id: UserId = principal.parse().map_err(|_| missing())?;
        let mut db = self.store.read().await?;
        let account = accounts::user(&mut db, id).await?.filter(|account| account.tenant == tenant).ok_or_else(missing)?;
        // An account that was made otherwise is a person's: nobody issues tokens in their name.
        if service_tokens::is_service(&mut db, tenant, id).await? { Ok(account) } else { Err(missing()) }
    }

    async fn new_service(&self, tenant: &TenantRow, role: Role) -> Result<UserRow> {
        let id = UserId(self.ids.uuid());
        let (unknown, mut salt) = (SecretString::from(hex_of(self.ids.secret())), [0; 16]);
        salt.copy_from_slice(&self.ids.secret()[..16]);
        // Nobody knows this password, so nobody signs in to XMPP with it either.
        let verifier = tokio::task::spawn_blocking(move || scram::verifier(&unknown, salt)).await.map_err(Error::internal)?;
        let clear = serde_json::to_vec(&verifier).map_err(Error::internal)?;
        let username = format!("svc-{}", id.uuid().simple());
        Ok(UserRow {
            id,
            tenant: tenant.id,
            email: format!("{username}@services.{}", self.domain),
            username,
            // No hash at all: no password verifies against it.
            password_hash: "none".into(),
            role,
            active: true,
            scram_sealed: self.vault.seal(tenant.id, &scram_place(id.uuid()), &clear).await?,
            quota: "{}".into(),
            tokens_valid_after: Ts::from_micros(0),
            created_at: self.clock.now(),
        })
    }
}

/// What a token may do: what is asked for, if its role and its issuer may do that.
fn scopes(caller: &Caller, role: Role, wanted: Option<&[String]>) -> Result<Vec<Scope>> {
    if role > caller.role {
        return Err(Error::forbidden("forbidden", "nobody can give a role above their own"));
    }
    let most = role.scopes();
    let Some(wanted) = wanted else {
        // An issuer whose own credential is narrow gives no more than that.
        return Ok(most.into_iter().filter(|scope| caller.scopes.contains(scope)).collect());
    };
    let mut scopes = Vec::new();
    for text in wanted {
        let named = Scope::named(text);
        if named.is_empty() {
            return Err(Error::invalid("scopes", format!("unknown scope {text:.100}")));
        }
        for scope in named {
            if !most.contains(&scope) {
                let why = format!("the role {} cannot have the scope {}", role.standing(), scope.as_str());
                return Err(Error::invalid("scopes", why));
            }
            caller.require(scope)?;
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
    }
    if scopes.is_empty() { Err(Error::invalid("scopes", "must name at least one scope, or be absent")) } else { Ok(scopes) }
}

fn view(tenant: &TenantRow, token: ServiceTokenRow) -> Token {
    Token {
        token_id: token.key.id.to_string(),
        tenant_id: tenant::text(&tenant.name, tenant.id),
        principal_id: token.key.user.to_string(),
        name: token.key.name,
        role: token.role.standing().into(),
        scopes: token.key.scopes.split(' ').map(str::to_owned).collect(),
        created_at: token.key.created_at,
        rotated_at: token.rotated_at,
        expires_at: token.key.expires_at,
        secret: None,
    }
}
