//! Accounts, sessions and API keys on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Ts;

/// Body of `POST /api/v1/auth/register`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Register {
    /// E-mail address, compared without case.
    pub email: String,
    /// 8 to 256 characters.
    pub password: String,
    /// Name on XMPP (`<username>@<domain>`); made from the e-mail address when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Needed where the hub's sign-up policy is `invite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
}

/// Body of `POST /api/v1/auth/login`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Login {
    /// E-mail address; `username` may be given instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// XMPP name of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    pub password: String,
}

/// Body of `POST /api/v1/auth/refresh`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Refresh {
    /// The refresh token of the last pair. Works once.
    pub refresh_token: String,
}

/// What a successful sign-in returns.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenPair {
    /// JWT for the `Authorization: Bearer` header.
    pub access_token: String,
    /// Exchanged once for the next pair.
    pub refresh_token: String,
    /// Seconds until the access token expires.
    pub expires_in: u32,
}

/// The account of the caller, or an administrator's view of one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// The account's id.
    pub id: Uuid,
    /// E-mail address in lower case.
    pub email: String,
    /// XMPP name.
    pub username: String,
    /// XMPP address of the account.
    pub jid: String,
    /// `platform_admin`, `tenant_admin`, `manager`, `operator`, `viewer`, `user` or `service`.
    pub role: String,
    /// `active` or `disabled`.
    pub status: String,
    /// When the account was made.
    pub created_at: Ts,
}

/// Body of `POST /api/v1/keys`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct NewApiKey {
    /// What the key is for.
    pub name: String,
    /// Scopes of the key; never more than the caller's own. The aliases of `/v1` (`runs:write`, `events:read`, `events:write`) are taken
    /// too. Absent = all of the caller's.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Absent = never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Ts>,
}

/// An API key. `secret` is present once, in the answer that made it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ApiKey {
    /// The key's id.
    pub id: Uuid,
    /// What the key is for.
    pub name: String,
    /// Scopes of the key.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Ts,
    /// When it stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Ts>,
    /// The key itself, shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Use of the caller's allowance. The day is the calendar day in UTC.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Quota {
    /// Tokens charged or reserved today.
    pub tokens_used_today: u64,
    /// Tokens allowed in a day.
    pub tokens_limit_day: u64,
    /// Requests accepted today.
    pub requests_today: u64,
    /// Requests allowed in a day.
    pub requests_limit_day: u64,
    /// Tokens charged or reserved in this minute.
    pub tokens_used_minute: u64,
    /// Tokens allowed in a minute.
    pub tokens_limit_minute: u64,
}

/// One audit record as its owner sees it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AuditLog {
    /// The record's id.
    pub id: Uuid,
    /// Whose record it is.
    pub owner_user_id: Option<Uuid>,
    /// What happened, for instance `run.accepted`.
    pub event_type: String,
    /// `info`, `warn` or `error`.
    pub severity: String,
    /// Kind of the object concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// `{"message": …}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
    /// Network address of the client, where the door knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// When it happened.
    pub created_at: Ts,
}

/// Body of `POST /api/v1/me/password`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct NewPassword {
    /// The password until now.
    pub old_password: String,
    /// 8 to 256 characters.
    pub new_password: String,
}

/// Body of `POST /api/v1/admin/users`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct NewUser {
    /// E-mail address, compared without case.
    pub email: String,
    /// Name on XMPP; made from the e-mail address when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// 8 to 256 characters.
    pub password: String,
    /// A role of [`User::role`], not above the caller's own. Default `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// Body of `PATCH /api/v1/admin/users/{user}`: any subset.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct UserChange {
    /// A role of [`User::role`], not above the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// `active` or `disabled`. A disabled account is signed out everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Limits of this account instead of the hub's: `tokens_day`, `tokens_minute`, `requests_day`. Replaces the stored object whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<serde_json::Value>,
}

/// Body of `POST /api/v1/admin/invites`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct NewInvite {
    /// The role that the invited account gets, not above the caller's own. Default `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// An invitation to register.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Invite {
    /// The code that `POST /api/v1/auth/register` takes as `invite`. Works once, for a week, and is shown nowhere else.
    pub invite: String,
}
