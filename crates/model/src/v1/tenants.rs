//! Tenants, their service tokens, and the audit log as administrators see it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::Ts;

/// A tenant: the isolation boundary inside a hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tenant {
    /// Its id: the one that it was made with, else `tnt_` and a ULID.
    pub tenant_id: String,
    /// Its name, for people.
    pub name: String,
    /// `active` or `disabled`. The credentials of a disabled tenant are refused with 403 at every door.
    pub status: String,
    /// Name of what its users pay for; this hub only keeps it. `standard` unless given.
    pub plan_tier: String,
    /// When it was made.
    pub created_at: Ts,
    /// When it was last changed.
    pub updated_at: Ts,
    /// Policy that applies to its runs unless they name another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_policy_id: Option<String>,
    /// What it may use.
    pub entitlements: Entitlements,
    /// How much it may use. What is absent has the limit of the node at `/v1`, and none at the other doors.
    pub quotas: Quotas,
    /// Models that it allows and denies itself.
    pub policy: ModelPolicy,
    /// Whatever its administrators want to remember; at most 16 KiB of JSON.
    pub metadata: Map<String, Value>,
}

/// What a tenant may use. An absent list does not narrow; an empty one allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entitlements {
    /// Tiers of models: `fast`, `balanced`, `premium`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_tiers_allowed: Option<Vec<String>>,
    /// Backends of models, for instance `openai`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_backends_allowed: Option<Vec<String>>,
    /// Ids of tools, for instance `tool.echo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_ids_allowed: Option<Vec<String>>,
}

/// Models that a tenant allows and denies. A denied model stays denied, whatever else allows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelPolicy {
    /// Ids of models; absent = every model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_models: Option<Vec<String>>,
    /// Ids of models that are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied_models: Option<Vec<String>>,
}

/// How much a tenant may use. A change takes effect with the next request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quotas {
    /// Runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<RunQuotas>,
    /// Tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolQuotas>,
    /// Models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<ModelQuotas>,
    /// What is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageQuotas>,
}

/// Limits of runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunQuotas {
    /// Most runs that have not ended. One more is 429 `quota_exceeded`, retryable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_runs: Option<u32>,
    /// New runs in a second, more than 0. A faster one is 429 `rate_limited` with `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "plain_number")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub run_create_qps: Option<f64>,
    /// New runs at once; absent = those of one second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub run_create_burst: Option<u32>,
}

/// Limits of tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolQuotas {
    /// Calls of tools in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls_per_minute: Option<u32>,
}

/// Limits of models.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelQuotas {
    /// Tokens and money of a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_budget: Option<TokenBudget>,
    /// Most tokens of one request. The answer is cut to what the question leaves; a question that leaves nothing is 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_tokens_per_request: Option<u64>,
    /// Calls of a model in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests_per_minute: Option<u32>,
}

/// Tokens and money of a window. They are reserved before a call and settled after it; what does not fit is 429 `quota_exceeded`, not
/// retryable, with `details` `{tenant_id, limit, used, window}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenBudget {
    /// `minute`, `hour` or `day`, by the calendar in UTC.
    pub window: String,
    /// Most tokens of the window, question and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Most cost of the window in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "plain_number")]
    #[schemars(range(min = 0))]
    pub max_cost_usd: Option<f64>,
}

/// Limits of what is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StorageQuotas {
    /// Most bytes of long-term memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory_bytes: Option<u64>,
}

/// A whole number is written as one: `10`, not `10.0`.
fn plain_number<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "whole, and below the bound of exact whole numbers")]
            to.serialize_i64(*value as i64)
        }
        Some(value) => to.serialize_f64(*value),
        None => to.serialize_none(),
    }
}

/// What a tenant is made or replaced with, bare or inside `tenant` or `tenant_create`. Members that are absent have their defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TenantCreate {
    /// Its id, `tnt_` and 1 to 60 of `A-Z a-z 0-9 _ -`; absent = a new one. Ids are never used again, not even after a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Its name, 1 to 255 characters; absent = its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `active` (default) or `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Name of what its users pay for, 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_tier: Option<String>,
    /// Policy that applies to its runs unless they name another one, 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_policy_id: Option<String>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlements: Option<Entitlements>,
    /// How much it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
    /// Models that it allows and denies itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<ModelPolicy>,
    /// Whatever its administrators want to remember; at most 16 KiB of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// One tenant.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TenantBody {
    /// The tenant.
    pub tenant: Tenant,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// Tenants, by id.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TenantList {
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// Give this as `cursor` to get those that follow; absent = there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// Answer to a delete.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "V1Deleted")]
pub struct Deleted {
    /// Whether it is gone; always `true`, a failure is an error.
    pub deleted: bool,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// What a service token is made with, bare or inside `token`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenCreate {
    /// What it is for, 1 to 255 characters; absent = `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The service that it acts for, from an earlier token of this tenant; absent = a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    /// Standing of a new service: `tenant_service` (default), `tenant_user` or `tenant_admin`; never above the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What it may do; absent = everything that its role may. Aliases are understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// When it stops working; absent = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Ts>,
}

/// A service token.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Its id, which is no secret.
    pub token_id: String,
    /// The tenant that it acts in.
    pub tenant_id: String,
    /// The service that it acts for.
    pub principal_id: String,
    /// What it is for.
    pub name: String,
    /// Standing of the service: `tenant_service`, `tenant_user` or `tenant_admin`.
    pub role: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Ts,
    /// When its secret was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<Ts>,
    /// When it stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Ts>,
    /// The token itself, for `Authorization: Bearer` or `X-API-Key`. Shown once, by the call that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// One service token.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenBody {
    /// The token.
    pub token: Token,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// The living service tokens of a tenant, newest first, without their secrets.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

/// One record of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// When it happened.
    pub time: Ts,
    /// The tenant concerned.
    pub tenant_id: String,
    /// Who did it, as verified: an account, a service, an address of another domain. Absent when nobody was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    /// The peer hub that did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// What was done, for instance `runs.create`, `tenants.disable`, `tokens.rotate`, `auth.denied`.
    pub action: String,
    /// What it was done to, as `kind/id`; the kind alone when there is no id, and empty when there is no object.
    pub resource: String,
    /// `allowed` or `denied`.
    pub outcome: String,
    /// Joins the record to log lines and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// More: `severity`, `detail`, `ip_address`, and `record_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Map<String, Value>>,
    /// Number of the record in the chain of its tenant, from 1. Absent for records from before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Hash of the record before it in the chain; zeros for the first. Lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_hash: Option<String>,
    /// SHA-256 over the record, `seq` and `prev_hash`. Lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Records of the audit log, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<AuditRecord>,
    /// Give this as `cursor` to get older ones; absent = there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Joins this answer to log lines and audit records.
    pub correlation_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_numbers_stay_whole_and_absent_members_absent() {
        let given = json!({ "runs": { "run_create_qps": 10 }, "models": { "token_budget": { "window": "day", "max_cost_usd": 0.5 } } });
        let quotas: Quotas = serde_json::from_value(given.clone()).unwrap();
        assert_eq!(serde_json::to_value(&quotas).unwrap(), given);
        assert_eq!(serde_json::to_value(Quotas::default()).unwrap(), json!({}));
    }
}
