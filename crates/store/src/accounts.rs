//! Users, sessions, API keys and invitations.

use aiox_core::{Result, Role};
use aiox_model::{ApiKeyId, SessionId, TenantId, Ts, UserId};
use uuid::Uuid;

use crate::{
    AsDb, Tx,
    db::{exec, row, rows},
    error::corrupt,
    rows::unsigned,
};

/// An account.
#[derive(Debug, Clone)]
pub struct UserRow {
    /// Its id.
    pub id: UserId,
    /// Its tenant.
    pub tenant: TenantId,
    /// E-mail address in lower case.
    pub email: String,
    /// XMPP name.
    pub username: String,
    /// PHC string (Argon2id) or an imported bcrypt hash.
    pub password_hash: String,
    /// Standing.
    pub role: Role,
    /// Whether it may sign in.
    pub active: bool,
    /// SCRAM-SHA-256 verifier, sealed.
    pub scram_sealed: Vec<u8>,
    /// JSON of quota overrides, `{}` for none.
    pub quota: String,
    /// Access tokens issued before are dead.
    pub tokens_valid_after: Ts,
    /// When it was made.
    pub created_at: Ts,
}

#[derive(sqlx::FromRow)]
struct StoredUser {
    id: Uuid,
    tenant_id: Uuid,
    email: String,
    username: String,
    password_hash: String,
    role: String,
    status: String,
    scram_sealed: Vec<u8>,
    quota: String,
    tokens_valid_after: i64,
    created_at: i64,
}
impl TryFrom<StoredUser> for UserRow {
    type Error = aiox_core::Error;
    fn try_from(row: StoredUser) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            tenant: row.tenant_id.into(),
            email: row.email,
            username: row.username,
            password_hash: row.password_hash,
            role: Role::parse(&row.role).ok_or_else(|| corrupt("users", "role", row.id))?,
            active: row.status == "active",
            scram_sealed: row.scram_sealed,
            quota: row.quota,
            tokens_valid_after: Ts::from_micros(row.tokens_valid_after),
            created_at: Ts::from_micros(row.created_at),
        })
    }
}

macro_rules! user_where {
    ($db:expr, $tail:literal $(, $bind:expr)* $(,)?) => {
        rows!($db, StoredUser, concat!(
            "SELECT id, tenant_id, email, username, password_hash, role, status, scram_sealed, quota, tokens_valid_after, created_at FROM users ",
            $tail) $(, $bind)*)
    };
}

fn one(found: Vec<StoredUser>) -> Result<Option<UserRow>> {
    found.into_iter().next().map(UserRow::try_from).transpose()
}

/// Adds an account. `false`: the e-mail address or the name is taken.
///
/// # Errors
/// Database errors.
pub async fn insert_user(tx: &mut Tx, user: &UserRow) -> Result<bool> {
    let made = exec!(
        tx,
        "INSERT INTO users (id, tenant_id, email, username, password_hash, role, status, scram_sealed, quota, tokens_valid_after, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT DO NOTHING",
        user.id.uuid(),
        user.tenant.uuid(),
        &user.email,
        &user.username,
        &user.password_hash,
        user.role.as_str(),
        if user.active { "active" } else { "disabled" },
        user.scram_sealed.as_slice(),
        &user.quota,
        user.tokens_valid_after.micros(),
        user.created_at.micros(),
    )?;
    Ok(made == 1)
}

/// The account with an id.
///
/// # Errors
/// Database errors.
pub async fn user(db: &mut impl AsDb, id: UserId) -> Result<Option<UserRow>> {
    one(user_where!(db, "WHERE id = $1", id.uuid())?)
}

/// The account with an e-mail address (lower case) or a name.
///
/// # Errors
/// Database errors.
pub async fn user_by_login(db: &mut impl AsDb, login: &str) -> Result<Option<UserRow>> {
    one(user_where!(db, "WHERE email = $1 OR username = $1", login)?)
}

/// The account with an XMPP name.
///
/// # Errors
/// Database errors.
pub async fn user_by_name(db: &mut impl AsDb, username: &str) -> Result<Option<UserRow>> {
    one(user_where!(db, "WHERE username = $1", username)?)
}

/// Accounts of a tenant, newest first, with the count over all pages.
///
/// # Errors
/// Database errors.
pub async fn users(db: &mut impl AsDb, tenant: TenantId, limit: u32, offset: u64) -> Result<(Vec<UserRow>, u64)> {
    let found = user_where!(
        db,
        "WHERE tenant_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3",
        tenant.uuid(),
        i64::from(limit),
        crate::rows::signed(offset)
    )?;
    let count = row!(db, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM users WHERE tenant_id = $1", tenant.uuid())?;
    Ok((found.into_iter().map(UserRow::try_from).collect::<Result<_>>()?, unsigned(count.map_or(0, |count| count.0))))
}

/// Every account, for telling the XMPP server about them: (id, name, sealed verifier, active, tenant).
///
/// # Errors
/// Database errors.
pub async fn all_users(db: &mut impl AsDb) -> Result<Vec<UserRow>> {
    user_where!(db, "ORDER BY id")?.into_iter().map(UserRow::try_from).collect()
}

/// Accounts of a tenant in order of id after `after`; at most `limit`: (id, sealed verifier).
///
/// # Errors
/// Database errors.
pub async fn sealed(db: &mut impl AsDb, tenant: TenantId, after: Uuid, limit: u32) -> Result<Vec<(Uuid, Vec<u8>)>> {
    rows!(
        db,
        (Uuid, Vec<u8>),
        "SELECT id, scram_sealed FROM users WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        tenant.uuid(),
        after,
        i64::from(limit)
    )
}

/// Replaces the sealed verifier only, for key rotation.
///
/// # Errors
/// Database errors.
pub async fn reseal(tx: &mut Tx, id: UserId, old: &[u8], new: &[u8]) -> Result<bool> {
    Ok(exec!(tx, "UPDATE users SET scram_sealed = $3 WHERE id = $1 AND scram_sealed = $2", id.uuid(), old, new)? == 1)
}

/// Sets password hash and verifier.
///
/// # Errors
/// Database errors.
pub async fn set_password(tx: &mut Tx, id: UserId, hash: &str, scram_sealed: &[u8], at: Ts) -> Result<()> {
    exec!(
        tx,
        "UPDATE users SET password_hash = $2, scram_sealed = $3, updated_at = $4 WHERE id = $1",
        id.uuid(),
        hash,
        scram_sealed,
        at.micros()
    )
    .map(drop)
}

/// Sets standing and whether the account may sign in.
///
/// # Errors
/// Database errors.
pub async fn set_standing(tx: &mut Tx, id: UserId, role: Role, active: bool, quota: &str, at: Ts) -> Result<()> {
    exec!(
        tx,
        "UPDATE users SET role = $2, status = $3, quota = $4, updated_at = $5 WHERE id = $1",
        id.uuid(),
        role.as_str(),
        if active { "active" } else { "disabled" },
        quota,
        at.micros()
    )
    .map(drop)
}

/// Ends every session and access token of an account.
///
/// # Errors
/// Database errors.
pub async fn end_sessions(tx: &mut Tx, user: UserId, at: Ts) -> Result<()> {
    exec!(tx, "UPDATE refresh_tokens SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL", user.uuid(), at.micros())?;
    exec!(tx, "UPDATE users SET tokens_valid_after = $2 WHERE id = $1", user.uuid(), at.micros()).map(drop)
}

/// Adds a refresh token to its session.
///
/// # Errors
/// Database errors.
pub async fn insert_refresh(tx: &mut Tx, id: Uuid, session: SessionId, user: UserId, expires: Ts) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO refresh_tokens (id, session_id, user_id, expires_at) VALUES ($1, $2, $3, $4)",
        id,
        session.uuid(),
        user.uuid(),
        expires.micros()
    )
    .map(drop)
}

/// Whether a session still has a token that is not revoked.
///
/// # Errors
/// Database errors.
pub async fn session_lives(db: &mut impl AsDb, session: SessionId) -> Result<bool> {
    Ok(row!(
        db,
        (i64,),
        "SELECT CAST(COUNT(*) AS BIGINT) FROM refresh_tokens WHERE session_id = $1 AND revoked_at IS NULL",
        session.uuid()
    )?
    .is_some_and(|count| count.0 > 0))
}

/// What using a refresh token found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// First use: it is used up now.
    First(SessionId),
    /// It was used before, at this time.
    Again(SessionId, Ts),
    /// Unknown, expired or revoked.
    Dead,
}

/// Uses a refresh token up. Of parallel callers exactly one gets [`Refreshed::First`].
///
/// # Errors
/// Database errors.
pub async fn use_refresh(tx: &mut Tx, id: Uuid, user: UserId, now: Ts) -> Result<Refreshed> {
    let first = row!(
        tx,
        (Uuid,),
        "UPDATE refresh_tokens SET used_at = $3 WHERE id = $1 AND user_id = $2 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $3 \
         RETURNING session_id",
        id,
        user.uuid(),
        now.micros()
    )?;
    if let Some((session,)) = first {
        return Ok(Refreshed::First(session.into()));
    }
    let again = row!(
        tx,
        (Uuid, i64),
        "SELECT session_id, used_at FROM refresh_tokens WHERE id = $1 AND user_id = $2 AND used_at IS NOT NULL",
        id,
        user.uuid()
    )?;
    Ok(again.map_or(Refreshed::Dead, |(session, at)| Refreshed::Again(session.into(), Ts::from_micros(at))))
}

/// Ends one session: its refresh tokens.
///
/// # Errors
/// Database errors.
pub async fn end_session(tx: &mut Tx, session: SessionId, at: Ts) -> Result<()> {
    exec!(tx, "UPDATE refresh_tokens SET revoked_at = $2 WHERE session_id = $1 AND revoked_at IS NULL", session.uuid(), at.micros())
        .map(drop)
}

/// An API key without its secret.
#[derive(Debug, Clone)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: ApiKeyId,
    /// The account that it acts for.
    pub user: UserId,
    /// What it is for.
    pub name: String,
    /// Space-separated scopes.
    pub scopes: String,
    /// When it was made.
    pub created_at: Ts,
    /// When it stops working.
    pub expires_at: Option<Ts>,
}
type StoredKey = (Uuid, Uuid, String, String, i64, Option<i64>);
fn key_row((id, user, name, scopes, created, expires): StoredKey) -> ApiKeyRow {
    ApiKeyRow {
        id: id.into(),
        user: user.into(),
        name,
        scopes,
        created_at: Ts::from_micros(created),
        expires_at: expires.map(Ts::from_micros),
    }
}

/// Adds an API key; only the hash of its secret is kept.
///
/// # Errors
/// Database errors.
pub async fn insert_key(tx: &mut Tx, tenant: TenantId, key: &ApiKeyRow, secret_hash: &[u8]) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO api_keys (id, tenant_id, user_id, name, secret_hash, scopes, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        key.id.uuid(),
        tenant.uuid(),
        key.user.uuid(),
        &key.name,
        secret_hash,
        &key.scopes,
        key.created_at.micros(),
        key.expires_at.map(Ts::micros)
    )
    .map(drop)
}

/// The living key with this hash.
///
/// # Errors
/// Database errors.
pub async fn key_by_hash(db: &mut impl AsDb, secret_hash: &[u8], now: Ts) -> Result<Option<ApiKeyRow>> {
    Ok(row!(
        db,
        StoredKey,
        "SELECT id, user_id, name, scopes, created_at, expires_at FROM api_keys \
         WHERE secret_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
        secret_hash,
        now.micros()
    )?
    .map(key_row))
}

/// Living keys of an account, newest first.
///
/// # Errors
/// Database errors.
pub async fn keys_of(db: &mut impl AsDb, user: UserId) -> Result<Vec<ApiKeyRow>> {
    Ok(rows!(
        db,
        StoredKey,
        "SELECT id, user_id, name, scopes, created_at, expires_at FROM api_keys WHERE user_id = $1 AND revoked_at IS NULL \
         ORDER BY created_at DESC, id DESC",
        user.uuid()
    )?
    .into_iter()
    .map(key_row)
    .collect())
}

/// Ends a key. `false`: the account has no such living key.
///
/// # Errors
/// Database errors.
pub async fn revoke_key(tx: &mut Tx, user: UserId, key: ApiKeyId, at: Ts) -> Result<bool> {
    Ok(exec!(
        tx,
        "UPDATE api_keys SET revoked_at = $3 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL",
        key.uuid(),
        user.uuid(),
        at.micros()
    )? == 1)
}

/// An invitation to register.
pub struct InviteRow {
    /// Its id.
    pub id: Uuid,
    /// The tenant to join.
    pub tenant: TenantId,
    /// Standing of the new account.
    pub role: Role,
    /// Who invited.
    pub created_by: UserId,
    /// When.
    pub created_at: Ts,
    /// Until when it works.
    pub expires_at: Ts,
}

/// Adds an invitation.
///
/// # Errors
/// Database errors.
pub async fn insert_invite(tx: &mut Tx, invite: &InviteRow, code_hash: &[u8]) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO invites (id, tenant_id, code_hash, role, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        invite.id,
        invite.tenant.uuid(),
        code_hash,
        invite.role.as_str(),
        invite.created_by.uuid(),
        invite.created_at.micros(),
        invite.expires_at.micros()
    )
    .map(drop)
}

/// Uses an invitation up: its tenant and standing, or `None` if it is unknown, used or expired.
///
/// # Errors
/// Database errors.
pub async fn use_invite(tx: &mut Tx, code_hash: &[u8], now: Ts) -> Result<Option<(TenantId, Role)>> {
    let found = row!(
        tx,
        (Uuid, String),
        "UPDATE invites SET used_at = $2 WHERE code_hash = $1 AND used_at IS NULL AND expires_at > $2 RETURNING tenant_id, role",
        code_hash,
        now.micros()
    )?;
    found.map(|(tenant, role)| Ok((tenant.into(), Role::parse(&role).ok_or_else(|| corrupt("invites", "role", tenant))?))).transpose()
}
