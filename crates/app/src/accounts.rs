//! Accounts: register, sign in, sessions, keys; and from credentials or an XMPP address to a [`Caller`].

mod admin;
mod denials;
mod issued;
mod named;

use std::{net::IpAddr, sync::Arc};

use aiox_core::{
    Caller, Door, Error, Principal, Result, Role, Scope,
    ports::{Clock, Ids},
    quota::Limits,
};
use aiox_crypto::{
    password::{self, Verified},
    scram, sha256,
    tokens::Tokens,
};
use aiox_model::{
    ApiKeyId, BareJid, SessionId, TenantId, TraceId, Ts, UserId,
    account::{ApiKey, Login, NewApiKey, Register, TokenPair, User},
};
use aiox_store::{
    Remembered, Store,
    accounts::{self, ApiKeyRow, Refreshed, UserRow},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore};

use crate::{HubNames, TenantBook, Vault, audit, remote::remote_caller, vault::scram_place};

pub use self::{denials::Denial, issued::TrustedIssuer, named::Named};

/// Who may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignUp {
    /// Everybody.
    Open,
    /// Whoever has an invitation.
    Invite,
    /// Nobody; an administrator makes accounts.
    Closed,
}

/// What the composition root decides.
#[derive(Debug, Clone)]
pub struct AccountsOptions {
    /// Who may register.
    pub sign_up: SignUp,
    /// Allowance of accounts without one of their own.
    pub limits: Limits,
    /// Allowance of each remote principal.
    pub remote_limits: Limits,
    /// The tenant of accounts that register here.
    pub default_tenant: TenantId,
    /// Whose credentials work at all.
    pub tenants: TenantBook,
}

/// Seconds for which the use of a spent refresh token counts as a parallel call and not as theft.
const REUSE_GRACE_SECONDS: i64 = 10;
/// Passwords that are hashed at the same time: each takes 19 MiB and a core.
const HASHING: usize = 4;

const REFUSED: Error = Error::Unauthenticated("invalid or expired token");
const BAD_LOGIN: Error = Error::Unauthenticated("invalid email or password");

/// Accounts of a hub. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    store: Store,
    remembered: Remembered,
    vault: Vault,
    tokens: Arc<Tokens>,
    names: HubNames,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    options: Arc<AccountsOptions>,
    hashing: Arc<Semaphore>,
    changed: Arc<Notify>,
    issuers: Arc<[TrustedIssuer]>,
}

/// An account as the XMPP server has to know it.
pub struct XmppAccount {
    /// Localpart.
    pub username: String,
    /// What passwords are checked with.
    pub verifier: scram::Verifier,
    /// Whether it may sign in.
    pub active: bool,
}

/// Facts of a request that are not part of its body.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Network address of the client.
    pub address: Option<IpAddr>,
    /// Correlation id.
    pub trace: TraceId,
}

impl Accounts {
    /// Accounts over the given ports.
    #[must_use]
    pub fn new(
        store: Store,
        vault: Vault,
        tokens: Tokens,
        names: HubNames,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        options: AccountsOptions,
    ) -> Self {
        Self {
            remembered: Remembered::new(store.clone()),
            store,
            vault,
            tokens: Arc::new(tokens),
            names,
            clock,
            ids,
            options: Arc::new(options),
            hashing: Arc::new(Semaphore::new(HASHING)),
            changed: Arc::default(),
            issuers: Arc::default(),
        }
    }

    /// Registers an account and signs it in.
    ///
    /// # Errors
    /// [`Error::Invalid`] for bad members, [`Error::Forbidden`] by the sign-up policy, [`Error::Conflict`] for a taken address or name.
    pub async fn register(&self, body: Register, origin: Origin) -> Result<TokenPair> {
        let email = normal_email(&body.email)?;
        let secret = SecretString::from(body.password);
        password::check(&secret)?;
        let wanted = body.username.as_deref().map(normal_username).transpose()?;
        let mut invited = None;
        if self.options.sign_up == SignUp::Closed {
            return Err(Error::forbidden("signup_closed", "sign-up is closed on this hub; ask its administrator for an account"));
        }
        if self.options.sign_up == SignUp::Invite {
            invited = Some(body.invite.ok_or_else(|| Error::forbidden("invite_required", "sign-up on this hub needs an invitation"))?);
        }
        let now = self.clock.now();
        let user = self.new_user(email, wanted, secret, Role::User, self.options.default_tenant).await?;
        let session = SessionId(self.ids.uuid());
        let (user, pair) = self.insert_user(user, body.username.is_some(), invited, Some(session), now, origin).await?;
        self.changed.notify_one();
        tracing::info!(user = %user.id, "account registered");
        pair.ok_or_else(|| Error::internal("registered without a session"))
    }

    async fn new_user(
        &self,
        email: String,
        username: Option<String>,
        secret: SecretString,
        role: Role,
        tenant: TenantId,
    ) -> Result<UserRow> {
        let id = UserId(self.ids.uuid());
        let (hash, verifier) = self.derive(secret).await?;
        let clear = serde_json::to_vec(&verifier).map_err(Error::internal)?;
        let scram_sealed = self.vault.seal(tenant, &scram_place(id.uuid()), &clear).await?;
        let now = self.clock.now();
        let username = username.unwrap_or_else(|| username_of(&email));
        Ok(UserRow {
            id,
            tenant,
            email,
            username,
            password_hash: hash,
            role,
            active: true,
            scram_sealed,
            quota: "{}".into(),
            tokens_valid_after: Ts::from_micros(0),
            created_at: now,
        })
    }

    async fn insert_user(
        &self,
        mut user: UserRow,
        name_given: bool,
        invite: Option<String>,
        session: Option<SessionId>,
        now: Ts,
        origin: Origin,
    ) -> Result<(UserRow, Option<TokenPair>)> {
        let mut tx = self.store.begin().await?;
        if let Some(code) = invite {
            let found = accounts::use_invite(&mut tx, &sha256(code.as_bytes()), now).await?;
            let (tenant, role) = found.ok_or_else(|| Error::forbidden("invite_invalid", "this invitation is not valid"))?;
            if tenant != user.tenant {
                return Err(Error::forbidden("invite_invalid", "this invitation is not valid"));
            }
            user.role = role;
        }
        let mut made = accounts::insert_user(&mut tx, &user).await?;
        if !made && accounts::user_by_login(&mut tx, &user.email).await?.is_some_and(|other| other.email == user.email) {
            return Err(Error::conflict("email_taken", "email already registered"));
        }
        if !made && name_given {
            return Err(Error::conflict("username_taken", "username already taken"));
        }
        if !made {
            // A name made from the address is taken: add something short and unique.
            let tail = user.id.uuid().simple().to_string();
            user.username = format!("{}-{}", user.username, &tail[tail.len() - 6..]);
            made = accounts::insert_user(&mut tx, &user).await?;
        }
        if !made {
            return Err(Error::conflict("email_taken", "email already registered"));
        }
        let pair = match session {
            Some(session) => Some(self.issue(&mut tx, &user, session, now).await?),
            None => None,
        };
        let caller = self.caller(&user, None, origin.trace, Door::Rest, origin.address)?;
        aiox_store::audit::insert(
            &mut tx,
            &audit::record(&*self.clock, &*self.ids, &caller, "account.registered", Some(("user", user.id.uuid().to_string()))),
        )
        .await?;
        tx.commit().await?;
        Ok((user, pair))
    }

    /// Signs in with e-mail address or name.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for a wrong password and for an unknown account alike, after equal work.
    pub async fn login(&self, body: Login, origin: Origin) -> Result<TokenPair> {
        let login =
            body.email.or(body.username).ok_or_else(|| Error::invalid("email", "email or username is required"))?.trim().to_lowercase();
        let secret = SecretString::from(body.password);
        let user = accounts::user_by_login(&mut self.store.read().await?, &login).await?;
        let verified = self.verified(user.as_ref(), secret.clone()).await?;
        let now = self.clock.now();
        let (Some(user), true) = (user, verified != Verified::No) else {
            self.note_denied(&login, origin).await;
            return Err(BAD_LOGIN);
        };
        if !user.active {
            return Err(BAD_LOGIN);
        }
        let caller = self.admitted(self.caller(&user, None, origin.trace, Door::Rest, origin.address)?).await?;
        let renewed = if verified == Verified::YesOutdated {
            let (hash, verifier) = self.derive(secret).await?;
            let clear = serde_json::to_vec(&verifier).map_err(Error::internal)?;
            Some((hash, self.vault.seal(user.tenant, &scram_place(user.id.uuid()), &clear).await?))
        } else {
            None
        };
        let mut tx = self.store.begin().await?;
        if let Some((hash, sealed)) = &renewed {
            accounts::set_password(&mut tx, user.id, hash, sealed, now).await?;
        }
        let pair = self.issue(&mut tx, &user, SessionId(self.ids.uuid()), now).await?;
        aiox_store::audit::insert(&mut tx, &audit::record(&*self.clock, &*self.ids, &caller, "auth.login", None)).await?;
        tx.commit().await?;
        if renewed.is_some() {
            self.changed.notify_one();
        }
        Ok(pair)
    }

    /// Exchanges a refresh token for the next pair. It works once; using it again ends its whole session, unless it comes within a
    /// few seconds, as parallel calls of one client do: then it is only refused.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`].
    pub async fn refresh(&self, token: &str, origin: Origin) -> Result<TokenPair> {
        let now = self.clock.now();
        let claims = self.tokens.check_refresh(token, now)?;
        let id = UserId(claims.uid);
        let mut tx = self.store.begin().await?;
        match accounts::use_refresh(&mut tx, claims.tid, id, now).await? {
            Refreshed::First(session) => {
                let user = accounts::user(&mut tx, id).await?.filter(|user| user.active).ok_or(REFUSED)?;
                if let Err(error) = self.options.tenants.admit(user.tenant).await {
                    drop(tx);
                    let caller = self.caller(&user, None, origin.trace, Door::Rest, origin.address)?;
                    self.note_refused(&caller, &error).await;
                    return Err(error);
                }
                let pair = self.issue(&mut tx, &user, session, now).await?;
                tx.commit().await?;
                Ok(pair)
            }
            Refreshed::Again(session, used_at) if now > used_at.plus_seconds(REUSE_GRACE_SECONDS) => {
                accounts::end_session(&mut tx, session, now).await?;
                tx.commit().await?;
                tracing::warn!(user = %id, %session, "a spent refresh token was used again; its session is ended");
                self.note_denied(&id.uuid().to_string(), origin).await;
                Err(REFUSED)
            }
            Refreshed::Again(..) | Refreshed::Dead => Err(REFUSED),
        }
    }

    /// Ends every session of the caller; access tokens die at once.
    ///
    /// # Errors
    /// Database errors.
    pub async fn logout(&self, caller: &Caller) -> Result<()> {
        let user = caller.principal.user().ok_or(REFUSED)?;
        let mut tx = self.store.begin().await?;
        accounts::end_sessions(&mut tx, user, self.clock.now()).await?;
        aiox_store::audit::insert(&mut tx, &audit::record(&*self.clock, &*self.ids, caller, "auth.logout", None)).await?;
        tx.commit().await
    }

    /// The caller that an access token or an API key stands for, if its tenant's credentials work.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]; [`Error::Forbidden`] when the tenant's credentials do not work, which is recorded.
    pub async fn authenticate(&self, credential: &str, origin: Origin, door: Door) -> Result<Caller> {
        self.admitted(self.recognize(credential, origin, door).await?).await
    }

    /// The caller that an access token, an API key or, at `/v1`, a token of a trusted issuer stands for. The door still has to ask whether the tenant's credentials work.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`].
    pub async fn recognize(&self, credential: &str, origin: Origin, door: Door) -> Result<Caller> {
        let now = self.clock.now();
        if credential.starts_with(KEY_PREFIX) {
            let mut db = self.store.read().await?;
            let key = accounts::key_by_hash(&mut db, &sha256(credential.as_bytes()), now).await?.ok_or(REFUSED)?;
            let user = accounts::user(&mut db, key.user).await?.filter(|user| user.active).ok_or(REFUSED)?;
            return self.caller(&user, Some(&key), origin.trace, door, origin.address);
        }
        if let Some(issued) = self.issued(credential, origin, door).await {
            return issued;
        }
        let claims = self.tokens.check_access(credential, now)?;
        let mut db = self.store.read().await?;
        let user = accounts::user(&mut db, UserId(claims.uid)).await?;
        let user = user.filter(|user| user.active && claims.iat_us > user.tokens_valid_after.micros()).ok_or(REFUSED)?;
        if !accounts::session_lives(&mut db, claims.sid).await? {
            return Err(REFUSED);
        }
        self.caller(&user, None, origin.trace, door, origin.address)
    }

    /// The caller behind an XMPP address whose domain has been vouched for by the stream: an account of this hub, or a remote
    /// principal. `None`: the address is in this hub's domain and no account has it.
    ///
    /// # Errors
    /// Database errors.
    pub async fn caller_for_jid(&self, jid: &BareJid, trace: TraceId) -> Result<Option<Caller>> {
        if jid.domain() == self.names.domain() {
            let user = self.remembered.account_by_name(jid.local()).await?;
            let Some(user) = user.filter(|user| user.active) else { return Ok(None) };
            return self.admitted(self.caller(&user, None, trace, Door::Xmpp, None)?).await.map(Some);
        }
        Ok(Some(remote_caller(jid.clone(), self.options.remote_limits, trace, Door::Xmpp)))
    }

    /// Whether an account of this name exists, disabled or not: what is sent to it is kept for it.
    ///
    /// # Errors
    /// Database errors.
    pub async fn exists(&self, username: &str) -> Result<bool> {
        Ok(accounts::user_by_name(&mut self.store.read().await?, username).await?.is_some())
    }

    /// Lets the account of this name into the XMPP server, by its password or by one of its access tokens, and records it. An API key
    /// opens REST alone: it may hold fewer scopes than its account, and an XMPP session acts with all of them.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for a wrong, spent, foreign or revoked credential and for an unknown or disabled account alike;
    /// database errors.
    pub async fn sign_in_to_xmpp(&self, username: &str, secret: SecretString, origin: Origin) -> Result<()> {
        let mut caller = None;
        if !secret.expose_secret().starts_with(KEY_PREFIX) {
            caller = match self.authenticate(secret.expose_secret(), origin, Door::Xmpp).await {
                Ok(caller) => Some(caller).filter(|caller| caller.principal.jid().local() == username),
                Err(Error::Unauthenticated(_)) => None,
                Err(error) => return Err(error),
            };
        }
        if caller.is_none() {
            let user = accounts::user_by_name(&mut self.store.read().await?, username).await?;
            let verified = self.verified(user.as_ref(), secret).await?;
            let user = user.filter(|user| user.active && verified != Verified::No);
            caller = user.map(|user| self.caller(&user, None, origin.trace, Door::Xmpp, origin.address)).transpose()?;
        }
        let Some(caller) = caller else {
            self.note_denied(username, origin).await;
            return Err(REFUSED);
        };
        let caller = self.admitted(caller).await?;
        let mut record = audit::record(&*self.clock, &*self.ids, &caller, "auth.login", None);
        record.detail = Some("xmpp".into());
        let mut tx = self.store.begin().await?;
        aiox_store::audit::insert(&mut tx, &record).await?;
        tx.commit().await
    }

    /// Allowance of a remote principal.
    #[must_use]
    pub fn remote_limits(&self) -> Limits {
        self.options.remote_limits
    }

    /// The caller's account.
    ///
    /// # Errors
    /// [`Error::NotFound`], database errors.
    pub async fn me(&self, caller: &Caller) -> Result<User> {
        let id = caller.principal.user().ok_or(Error::NotFound("user"))?;
        let user = accounts::user(&mut self.store.read().await?, id).await?.ok_or(Error::NotFound("user"))?;
        Ok(self.view(user))
    }

    /// Sets a new password, given the old one, and ends every session.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad new password, [`Error::Unauthenticated`] for a wrong old one.
    pub async fn change_password(&self, caller: &Caller, old: SecretString, new: SecretString) -> Result<()> {
        password::check(&new)?;
        let id = caller.principal.user().ok_or(REFUSED)?;
        let user = accounts::user(&mut self.store.read().await?, id).await?.ok_or(REFUSED)?;
        let hash = user.password_hash.clone();
        if self.blocking(move || password::verify(&old, &hash)).await? == Verified::No {
            return Err(BAD_LOGIN);
        }
        let (hash, verifier) = self.derive(new).await?;
        let clear = serde_json::to_vec(&verifier).map_err(Error::internal)?;
        let sealed = self.vault.seal(user.tenant, &scram_place(id.uuid()), &clear).await?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        accounts::set_password(&mut tx, id, &hash, &sealed, now).await?;
        accounts::end_sessions(&mut tx, id, now).await?;
        aiox_store::audit::insert(&mut tx, &audit::record(&*self.clock, &*self.ids, caller, "auth.password_changed", None)).await?;
        tx.commit().await?;
        self.changed.notify_one();
        Ok(())
    }

    /// Makes an API key for the caller. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Error::Invalid`] for bad members, [`Error::Forbidden`] for scopes that the caller does not hold.
    pub async fn create_key(&self, caller: &Caller, new: NewApiKey) -> Result<ApiKey> {
        let user = caller.principal.user().ok_or(REFUSED)?;
        let name = new.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > 255 {
            return Err(Error::invalid("name", "must have 1 to 255 characters"));
        }
        let mut scopes = Vec::new();
        for text in &new.scopes {
            let named = Scope::named(text);
            if named.is_empty() {
                return Err(Error::invalid("scopes", format!("unknown scope {text:.100}")));
            }
            for scope in named {
                caller.require(scope)?;
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
        }
        if scopes.is_empty() {
            scopes.clone_from(&caller.scopes);
        }
        let now = self.clock.now();
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::invalid("expires_at", "must be in the future"));
        }
        let secret = format!("{KEY_PREFIX}{}", hex_of(self.ids.secret()));
        let names: Vec<String> = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        let row =
            ApiKeyRow { id: ApiKeyId(self.ids.uuid()), user, name, scopes: names.join(" "), created_at: now, expires_at: new.expires_at };
        let mut tx = self.store.begin().await?;
        accounts::insert_key(&mut tx, caller.tenant, &row, &sha256(secret.as_bytes())).await?;
        let record = audit::record(&*self.clock, &*self.ids, caller, "key.created", Some(("api_key", row.id.uuid().to_string())));
        aiox_store::audit::insert(&mut tx, &record).await?;
        tx.commit().await?;
        Ok(ApiKey { secret: Some(secret), ..key_view(row) })
    }

    /// Living keys of the caller.
    ///
    /// # Errors
    /// Database errors.
    pub async fn keys(&self, caller: &Caller) -> Result<Vec<ApiKey>> {
        let user = caller.principal.user().ok_or(REFUSED)?;
        Ok(accounts::keys_of(&mut self.store.read().await?, user).await?.into_iter().map(key_view).collect())
    }

    /// Ends a key of the caller.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown and others' keys alike.
    pub async fn revoke_key(&self, caller: &Caller, key: ApiKeyId) -> Result<()> {
        let user = caller.principal.user().ok_or(REFUSED)?;
        let mut tx = self.store.begin().await?;
        if !accounts::revoke_key(&mut tx, user, key, self.clock.now()).await? {
            return Err(Error::NotFound("api key"));
        }
        let record = audit::record(&*self.clock, &*self.ids, caller, "key.revoked", Some(("api_key", key.uuid().to_string())));
        aiox_store::audit::insert(&mut tx, &record).await?;
        tx.commit().await
    }

    /// Every account as the XMPP server has to know it.
    ///
    /// # Errors
    /// Database errors; an account whose verifier cannot be opened is left out and logged.
    pub async fn xmpp_accounts(&self) -> Result<Vec<XmppAccount>> {
        let mut db = self.store.read().await?;
        let mut all = Vec::new();
        for user in accounts::all_users(&mut db).await? {
            let opened = self.vault.open(&mut db, user.tenant, &scram_place(user.id.uuid()), &user.scram_sealed).await;
            match opened.and_then(|clear| serde_json::from_slice(&clear).map_err(Error::internal)) {
                Ok(verifier) => {
                    let active = user.active && self.options.tenants.admit(user.tenant).await.is_ok();
                    all.push(XmppAccount { username: user.username, verifier, active });
                }
                Err(error) => tracing::error!(user = %user.id, error = %error.chain(), "the XMPP verifier of an account cannot be read"),
            }
        }
        Ok(all)
    }

    /// Waits until accounts have changed since the last call.
    pub async fn changed(&self) {
        // A tenant that was disabled takes its accounts with it.
        tokio::select! {
            () = self.changed.notified() => {}
            () = self.options.tenants.standing_changed() => {}
        }
    }

    async fn issue(&self, tx: &mut aiox_store::Tx, user: &UserRow, session: SessionId, now: Ts) -> Result<TokenPair> {
        let row = self.ids.uuid();
        let expires = now.plus_seconds(i64::from(self.tokens.refresh_seconds));
        accounts::insert_refresh(tx, row, session, user.id, expires).await?;
        Ok(TokenPair {
            access_token: self.tokens.issue_access(user.id, &user.email, session, self.ids.uuid(), now)?,
            refresh_token: self.tokens.issue_refresh(user.id, row, now)?,
            expires_in: self.tokens.access_seconds,
        })
    }

    fn caller(&self, user: &UserRow, key: Option<&ApiKeyRow>, trace: TraceId, door: Door, address: Option<IpAddr>) -> Result<Caller> {
        let jid = self.names.user_jid(&user.username);
        let jid = jid.ok_or_else(|| Error::Corrupt { table: "users", column: "username", id: user.id.to_string() })?;
        let mut scopes = user.role.scopes();
        if let Some(key) = key {
            let held: Vec<Scope> = key.scopes.split(' ').filter_map(Scope::parse).collect();
            scopes.retain(|scope| held.contains(scope));
        }
        Ok(Caller {
            tenant: user.tenant,
            principal: Principal::User { id: user.id, jid, key: key.map(|key| key.id) },
            role: user.role,
            scopes,
            limits: limits_of(&user.quota, self.options.limits),
            trace,
            correlation: None,
            door,
            address,
        })
    }

    fn view(&self, user: UserRow) -> User {
        User {
            id: user.id.uuid(),
            jid: self.names.user_jid(&user.username).map(|jid| jid.to_string()).unwrap_or_default(),
            email: user.email,
            username: user.username,
            role: user.role.as_str().into(),
            status: if user.active { "active" } else { "disabled" }.into(),
            created_at: user.created_at,
        }
    }

    async fn derive(&self, secret: SecretString) -> Result<(String, scram::Verifier)> {
        let mut salt = [0u8; 16];
        salt.copy_from_slice(&self.ids.secret()[..16]);
        self.blocking(move || Ok((password::hash(&secret)?, scram::verifier(&secret, salt)))).await?
    }

    /// Takes the same time whether or not there is such an account.
    async fn verified(&self, user: Option<&UserRow>, secret: SecretString) -> Result<Verified> {
        let stored = user.map(|user| user.password_hash.clone());
        self.blocking(move || match stored {
            Some(hash) => password::verify(&secret, &hash),
            None => {
                password::verify_nobody(&secret);
                Verified::No
            }
        })
        .await
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _permit = self.hashing.acquire().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }
}

/// What every API key begins with.
pub const KEY_PREFIX: &str = "aiox_key_";

pub(crate) fn hex_of(bytes: [u8; 32]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn key_view(row: ApiKeyRow) -> ApiKey {
    ApiKey {
        id: row.id.uuid(),
        name: row.name,
        scopes: row.scopes.split(' ').map(str::to_owned).collect(),
        created_at: row.created_at,
        expires_at: row.expires_at,
        secret: None,
    }
}

fn limits_of(quota: &str, base: Limits) -> Limits {
    let own: Value = serde_json::from_str(quota).unwrap_or_default();
    let number = |name: &str, base: u64| own[name].as_u64().unwrap_or(base);
    Limits {
        tokens_day: number("tokens_day", base.tokens_day),
        tokens_minute: number("tokens_minute", base.tokens_minute),
        requests_day: number("requests_day", base.requests_day),
    }
}

fn normal_email(text: &str) -> Result<String> {
    let email = text.trim().to_lowercase();
    let bad = || Error::invalid("email", "must be an e-mail address");
    let (local, domain) = email.split_once('@').ok_or_else(bad)?;
    let legal = !local.is_empty()
        && local.len() <= 64
        && email.len() <= 254
        && !email.chars().any(|c| c.is_whitespace() || c.is_control() || "<>()[]\\,;:\"".contains(c))
        && domain.split('.').all(|label| !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-'))
        && domain.contains('.')
        && !domain.contains('@');
    if legal { Ok(email) } else { Err(bad()) }
}

fn normal_username(text: &str) -> Result<String> {
    let name = text.trim().to_lowercase();
    let legal = (2..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if legal { Ok(name) } else { Err(Error::invalid("username", "must have 2 to 64 of a-z 0-9 - _ . and begin with a letter or digit")) }
}

/// A name made of the local part of an e-mail address.
fn username_of(email: &str) -> String {
    let local = email.split('@').next().unwrap_or_default();
    let name: String = local.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).take(48).collect();
    let name = name.trim_start_matches(['-', '_', '.']).to_owned();
    if name.len() < 2 { format!("user-{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised_and_nonsense_is_refused() {
        assert_eq!(normal_email(" Alice@Hub-A.Example ").unwrap(), "alice@hub-a.example");
        for bad in ["", "a", "a@", "@b.c", "a@b", "a b@c.d", "a@b..c", "a@@b.c", "a@-b.c", "<a@b.c>"] {
            assert!(normal_email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_address_gives_a_legal_name() {
        for email in ["alice@x.y", "a+b@x.y", "é@x.y", ".@x.y", "x@x.y"] {
            let email = normal_email(email).unwrap();
            assert!(normal_username(&username_of(&email)).is_ok(), "{email}");
        }
    }

    #[test]
    fn own_limits_replace_the_base_one_by_one() {
        let limits = limits_of(r#"{"tokens_day": 5}"#, Limits::default());
        assert_eq!((limits.tokens_day, limits.requests_day), (5, Limits::default().requests_day));
        assert_eq!(limits_of("garbage", Limits::default()), Limits::default());
    }
}
