//! Agents on the wire: configuration objects with their defaults and the `/api/v1` bodies.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::Ts;

/// Which model answers. Unknown members are kept and passed by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LlmConfig {
    /// `openai`, `anthropic`, `ollama`, `echo`, or a provider name that a worker declares. Absent = the hub's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Model name at the provider. Absent = the provider's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Sampling temperature, 0 to 2.
    pub temperature: f64,
    /// Most tokens of an answer, 1 to 1,000,000.
    pub max_tokens: u32,
    /// Members this hub does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
impl Default for LlmConfig {
    fn default() -> Self {
        Self { provider: None, model: None, temperature: 0.7, max_tokens: 1024, other: Map::new() }
    }
}

/// What an agent remembers. Defaults merge member by member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MemoryConfig {
    /// Memory at all.
    pub enabled: bool,
    /// The last messages of the conversation go into the prompt.
    pub short_term_enabled: bool,
    /// Facts of earlier conversations go into the prompt.
    pub long_term_enabled: bool,
    /// How many messages short-term memory holds, 1 to 200. Alias: `short_term_limit`.
    #[serde(alias = "short_term_limit")]
    pub max_short_term_msgs: u32,
    /// Seconds after the last use until short-term memory is empty.
    pub short_term_ttl_sec: u32,
    /// How many facts are recalled. Alias: `long_term_limit`.
    #[serde(alias = "long_term_limit")]
    pub max_long_term_results: u32,
    /// Least cosine similarity of a recalled fact, 0 to 1.
    pub similarity_threshold: f64,
    /// Members this hub does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            short_term_enabled: true,
            long_term_enabled: true,
            max_short_term_msgs: 20,
            short_term_ttl_sec: 3600,
            max_long_term_results: 5,
            similarity_threshold: 0.7,
            other: Map::new(),
        }
    }
}

/// What an agent may do and cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Governance {
    /// A blocked agent answers nobody.
    pub blocked: bool,
    /// Providers the agent may use, compared without case. Empty = any.
    pub allowed_providers: Vec<String>,
    /// Domains of senders that may talk to it. Empty = any that a grant admits.
    pub allowed_domains: Vec<String>,
    /// Most tokens one request may use. 0 = no limit of its own.
    pub max_tokens_per_request: u32,
    /// Members this hub does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What an agent is good at and how urgent it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Capabilities {
    /// Subjects, for discovery.
    pub domain_tags: Vec<String>,
    /// The owner's weight in the queue, 0 to 1.
    pub priority_weight: f64,
    /// Worker labels that must match, for instance `gpu: true`.
    pub worker_labels: BTreeMap<String, String>,
    /// Pool of workers whose members alone run it, 1 to 100 of `A-Z a-z 0-9 . _ -`. Absent = the default pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_pool: Option<String>,
    /// Members this hub does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Who sees an agent. An open set of texts on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// The owner and explicit grants.
    Private,
    /// The same as private, shown to those with a grant in lists.
    Shared,
    /// Everybody of the tenant.
    Tenant,
    /// Everybody of the tenant and of active peer hubs.
    Mesh,
    /// Everybody, at the caller's expense.
    Public,
}
impl Visibility {
    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Tenant => "tenant",
            Self::Mesh => "mesh",
            Self::Public => "public",
        }
    }
    /// The visibility of a stored text; `None` if it is none of the known ones.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "private" => Self::Private,
            "shared" => Self::Shared,
            "tenant" => Self::Tenant,
            "mesh" => Self::Mesh,
            "public" => Self::Public,
            _ => return None,
        })
    }
}

/// Body of `POST /api/v1/agents`. Configuration objects are typed and validated; unknown members are kept.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct AgentCreate {
    /// 1 to 255 characters.
    pub name: String,
    /// 1 to 65,536 bytes. Stored encrypted.
    pub system_prompt: String,
    /// At most 1,000 characters.
    #[serde(default)]
    pub description: String,
    /// At most 32 traits of at most 100 characters.
    #[serde(default)]
    pub personality_traits: Vec<String>,
    /// See [`LlmConfig`].
    #[serde(default)]
    pub llm_config: Map<String, Value>,
    /// See [`Capabilities`].
    #[serde(default)]
    pub capabilities: Map<String, Value>,
    /// See [`MemoryConfig`].
    #[serde(default)]
    pub memory_config: Map<String, Value>,
    /// See [`Governance`].
    #[serde(default)]
    pub governance: Map<String, Value>,
    /// Tool names switched on for this agent, each with its policy object.
    #[serde(default)]
    pub tools: Map<String, Value>,
    /// Default private.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// Readable address: `<handle>@agents.<domain>`. 3 to 64 of `a-z 0-9 - _ .`; never reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
}

/// Body of `PUT /api/v1/agents/{id}`: any subset. A configuration object that is given replaces the stored one whole.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AgentUpdate {
    /// See [`AgentCreate::name`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// See [`AgentCreate::system_prompt`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// See [`AgentCreate::description`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// See [`AgentCreate::personality_traits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality_traits: Option<Vec<String>>,
    /// See [`LlmConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm_config: Option<Map<String, Value>>,
    /// See [`Capabilities`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Map<String, Value>>,
    /// See [`MemoryConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_config: Option<Map<String, Value>>,
    /// See [`Governance`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governance: Option<Map<String, Value>>,
    /// See [`AgentCreate::tools`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Map<String, Value>>,
    /// See [`Visibility`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// A further readable address; the earlier ones stay the agent's for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// The version the change is based on; another stored version is a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// Who an agent is.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct AgentProfile {
    /// Display name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// In clear, for its owner only.
    pub system_prompt: String,
    /// Traits that go into the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub personality_traits: Vec<String>,
    /// Always true: the prompt is encrypted at rest.
    pub encrypted: bool,
}

/// An agent as its owner sees it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    /// The agent's id.
    pub id: Uuid,
    /// Its owner.
    pub owner_user_id: Uuid,
    /// `agent-<uuid>@agents.<domain>`.
    pub jid: String,
    /// The readable alias without its domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// `spiffe://<domain>/agent/<uuid>`.
    pub spiffe_id: String,
    /// Who it is.
    pub profile: AgentProfile,
    /// As given, `{}` when absent.
    pub llm_config: Map<String, Value>,
    /// As given, `{}` when absent.
    pub capabilities: Map<String, Value>,
    /// As given, `{}` when absent.
    pub memory_config: Map<String, Value>,
    /// As given, `{}` when absent.
    pub governance: Map<String, Value>,
    /// As given, `{}` when absent.
    pub tools: Map<String, Value>,
    /// Who sees it.
    pub visibility: Visibility,
    /// Rises by one with each change.
    pub version: u64,
    /// When it was made.
    pub created_at: Ts,
    /// When it was changed last.
    pub updated_at: Ts,
    /// When it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Ts>,
}

/// What anybody who may use an agent sees of it: no prompt, no configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentCard {
    /// The agent's id.
    pub id: Uuid,
    /// `agent-<uuid>@agents.<domain>`.
    pub jid: String,
    /// The readable alias without its domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// Domain of the hub that runs it.
    pub domain: String,
    /// Display name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Subjects.
    #[serde(default)]
    pub domain_tags: Vec<String>,
    /// Which provider answers, so that `echo` says that it is one.
    pub provider: String,
    /// Who sees it.
    pub visibility: Visibility,
    /// When it was changed last.
    pub updated_at: Ts,
}

/// Body of `POST /api/v1/agents/{id}/grants`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct NewGrant {
    /// Kind of grantee.
    pub kind: GranteeKind,
    /// User name or id, role name, bare JID, domain, or peer domain.
    pub grantee: String,
}

/// Who can be granted the use of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GranteeKind {
    /// A user of the same tenant.
    User,
    /// Everybody with a role in the same tenant.
    Role,
    /// One XMPP address, local or remote.
    Jid,
    /// Everybody whose address is in a domain.
    Domain,
    /// Everybody that an accepted peer hub vouches for.
    Peer,
}
impl GranteeKind {
    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
            Self::Jid => "jid",
            Self::Domain => "domain",
            Self::Peer => "peer",
        }
    }
}

/// A permission to use an agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// The grant's id.
    pub id: Uuid,
    /// The agent.
    pub agent_id: Uuid,
    /// Kind of grantee.
    pub kind: GranteeKind,
    /// Who.
    pub grantee: String,
    /// When it was given.
    pub created_at: Ts,
}
