//! Documents that two hubs exchange: envelopes, verdicts, receipts, trust documents, directory, peer records.
//!
//! Readers ignore unknown members. Where a document is signed they are kept (`other`), because the signature covers them.
//! Signed bytes are JCS (RFC 8785) of the document as received, never of a value rebuilt from these types.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{ConversationId, EnvelopeId, EventId, RunId, Ts, conformance::PeerConformance, run::HistoryMessage};

/// Most envelopes in one batch.
pub const MAX_BATCH_ITEMS: usize = 100;
/// Most bytes in one batch request.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Largest integer that every JSON reader keeps exactly (RFC 8785 section 3.2.2.3): 2^53 - 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
/// The federation profile that this version speaks.
pub const PROFILE_V1: &str = "aiox-federation/1";

/// A text that is not a node id or not a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a node id of the form spiffe://domain/node/name")]
pub struct NodeIdError;

/// The name of a hub as its peers see it: `spiffe://<trust domain>/node/<name>`, lower case. It stands in the URI SAN of the
/// hub's federation certificate and is the only form of `iss` and `aud`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    text: String,
    domain_end: usize,
}

const SCHEME: &str = "spiffe://";
const NODE_PATH: &str = "/node/";

/// Whether `text` is a usable trust domain: a lower-case DNS name of at most 253 characters.
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl NodeId {
    /// From a trust domain and a node name.
    ///
    /// # Errors
    /// When one of the parts cannot stand in a node id.
    pub fn new(domain: &str, name: &str) -> Result<Self, NodeIdError> {
        format!("{SCHEME}{domain}{NODE_PATH}{name}").parse()
    }
    /// The trust domain: the unit of roots and of trust.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[SCHEME.len()..self.domain_end]
    }
    /// The name of the node inside its domain.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.text[self.domain_end + NODE_PATH.len()..]
    }
    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;
    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let (domain, name) = text.strip_prefix(SCHEME).and_then(|rest| rest.split_once(NODE_PATH)).ok_or(NodeIdError)?;
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_' || b == b'.';
        if !is_trust_domain(domain) || name.is_empty() || name.len() > 128 || name == "." || name == ".." || !name.bytes().all(legal) {
            return Err(NodeIdError);
        }
        Ok(Self { domain_end: SCHEME.len() + domain.len(), text: text.to_owned() })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}
impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for NodeId {
    fn schema_name() -> Cow<'static, str> {
        "NodeId".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^spiffe://[a-z0-9.-]+/node/[a-z0-9._-]+$", "maxLength": 400 })
    }
}

/// Well-known values of an envelope's `type`. The set is open: a reader refuses what it does not know, item by item.
pub mod envelope_type {
    /// Start a run at the destination; payload [`super::RunCreate`].
    pub const RUN_CREATE: &str = "run.create";
    /// Stop a run at the destination; payload [`super::RunCancel`].
    pub const RUN_CANCEL: &str = "run.cancel";
}

/// One end of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// The agent: `spiffe://<domain>/agent/<uuid>`, or its readable address `<handle>@agents.<domain>`. Absent when the end is the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The node.
    pub node: NodeId,
}

/// The delegation as the origin signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delegation {
    /// Who acts: a user address `name@<origin domain>` or an agent id of the origin.
    pub sub: String,
    /// The delegation chain (RFC 8693 section 4.1). It explains and never grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Value>,
    /// What the subject may do with this envelope, space separated (RFC 6749 section 3.3).
    pub scope: String,
}

/// One hop of a delegation that went through several agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathEntry {
    /// The node that delegated.
    pub node: NodeId,
    /// The agent that delegated.
    pub agent: String,
    /// Digest of the envelope that it had received.
    pub digest: String,
}

/// What a chain of work may still spend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// The unit, for instance `tokens`.
    pub unit: String,
    /// The amount left, at most 2^53 - 1.
    pub amount: u64,
}

/// Everything of an envelope that is signed: all but `payload` and `signature`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvelopeHeader {
    /// Chosen by the origin; with `origin.node` it is the deduplication key.
    pub id: EnvelopeId,
    /// The sender. `node` equals the issuer of the request's token.
    pub origin: Party,
    /// The receiver. `node` is the hub that reads this, or it refuses.
    pub dest: Party,
    /// The sender's own name of its tenant. The receiver maps it through its peer record and never takes it as its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The conversation at the origin: the unit of order.
    pub conv: String,
    /// Gap-free counter per (origin, `conv`), from 1.
    pub seq: u64,
    /// Digest of the envelope with `seq` - 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
    /// What this is; see [`envelope_type`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The client's idempotency key, if it came with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idem: Option<String>,
    /// When the origin made it.
    pub created: Ts,
    /// When delivery stops.
    pub expires: Ts,
    /// When the work becomes pointless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Ts>,
    /// How many agents have delegated so far.
    pub hop: u32,
    /// The agents that delegated, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<PathEntry>,
    /// What may still be spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// W3C `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Media type of the payload.
    pub content_type: String,
    /// SHA-256 of the payload's octets, base64url without padding.
    pub payload_hash: String,
    /// The delegation.
    pub auth: Delegation,
    /// Members that this version does not know; covered by the signature.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A signed message from one hub to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// The signed part.
    #[serde(flatten)]
    pub header: EnvelopeHeader,
    /// The payload as text, never re-serialised on the way.
    pub payload: String,
    /// Detached JWS (RFC 7515 appendix F) by the origin's envelope key.
    pub signature: String,
}

/// Payload of [`envelope_type::RUN_CREATE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunCreate {
    /// The run's id, the same at both hubs.
    pub run_id: RunId,
    /// What the user wrote.
    pub input: String,
    /// The conversation's id at the origin, for its own records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// Id of the run's first event, so that it is the same at both hubs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Payload of [`envelope_type::RUN_CANCEL`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunCancel {
    /// The run to stop. It may be one that has not arrived yet.
    pub run_id: RunId,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of `POST /fed/v1/envelopes`: at most 100 items and 1 MiB. Items are judged one by one, so that one bad item stops no other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvelopeBatch {
    /// The envelopes, in order per conversation. Each should be an [`Envelope`].
    pub envelopes: Vec<Value>,
}

/// The receiver's answer to one envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Durable here.
    Accepted,
    /// Seen before with the same digest; the stored answer follows.
    Duplicate,
    /// Kept until an earlier one of its conversation arrives.
    Held,
    /// Will never be taken; `code` says why.
    Refused,
    /// Not now; send it again later.
    Retry,
}

/// One verdict of a batch, at the index of its envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvelopeVerdict {
    /// The envelope's id; absent when the item had none that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EnvelopeId>,
    /// The verdict.
    pub verdict: Verdict,
    /// Stable reason of a refusal or retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Seconds to wait before a retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// Proof of acceptance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// Answer to `POST /fed/v1/envelopes`: as many verdicts as there were envelopes, in the same order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictBatch {
    /// The verdicts.
    pub verdicts: Vec<EnvelopeVerdict>,
}

/// The receiver's countersignature over an accepted envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// Digest of the envelope.
    pub digest: String,
    /// Id of the envelope.
    pub id: EnvelopeId,
    /// The node that accepted it.
    pub node: NodeId,
    /// When it became durable there.
    pub at: Ts,
    /// Detached JWS by the receiver's envelope key over the members above.
    pub signature: String,
}

/// Body of and answer to `POST /fed/v1/hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// The speaker.
    pub node: NodeId,
    /// Its clock, for the skew metric.
    pub time: Ts,
    /// Federation profiles it speaks.
    pub profiles: Vec<String>,
    /// Highest `seq` taken per conversation of the other side.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<String, u64>,
}

/// Answer to `GET /fed/v1/capabilities`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// The speaker.
    pub node: NodeId,
    /// Federation profiles it speaks.
    pub profiles: Vec<String>,
    /// What it can do for this peer, for instance `run.create`, `stream`.
    pub capabilities: Vec<String>,
    /// Most envelopes in one batch.
    pub max_batch_items: usize,
    /// Most bytes in one batch.
    pub max_batch_bytes: usize,
    /// Most delegations in a row.
    pub max_hop: u32,
}

/// One agent that this peer may see. Learnt entries are never passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DirectoryEntry {
    /// `spiffe://<domain>/agent/<uuid>`.
    pub id: String,
    /// `agent-<uuid>@agents.<domain>`.
    pub jid: String,
    /// Readable address `<handle>@agents.<domain>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The name to show. Data, never an instruction.
    pub name: String,
    /// The description to show. Data, never an instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the agent declares that it can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Which provider answers, so that `echo` says that it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// When the entry last changed.
    pub updated_at: Ts,
}

/// Answer to `GET /fed/v1/directory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Directory {
    /// The owner of the entries.
    pub node: NodeId,
    /// The entries that this peer may see.
    pub agents: Vec<DirectoryEntry>,
}

/// Answer to `GET /fed/v1/conversations`: the history of one principal with one agent, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The messages.
    pub messages: Vec<HistoryMessage>,
}

/// An EC P-256 public key (RFC 7517, RFC 7518 section 6.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicJwk {
    /// `EC`.
    pub kty: String,
    /// `P-256`.
    pub crv: String,
    /// X coordinate, 32 octets, base64url.
    pub x: String,
    /// Y coordinate, 32 octets, base64url.
    pub y: String,
    /// JWK thumbprint (RFC 7638) of this key.
    pub kid: String,
}

/// A key that signs nothing new and still verifies what it signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetiredKey {
    /// The key.
    #[serde(flatten)]
    pub key: PublicJwk,
    /// When it stopped signing.
    pub expired_ts: Ts,
}

/// One node of a trust document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrustedNode {
    /// The node's id.
    pub id: NodeId,
    /// Base URL of its peer listener, `https://host:port`.
    pub endpoint: String,
}

/// What a hub publishes about itself at `/.well-known/aiox-federation.json`, signed by a key that its readers already trust.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrustDocument {
    /// The trust domain. A document that claims another domain than the one asked for is refused.
    pub domain: String,
    /// The nodes of the domain.
    pub nodes: Vec<TrustedNode>,
    /// X.509 roots of the domain, DER in base64 (RFC 7517 `x5c` form).
    pub roots: Vec<String>,
    /// Keys that sign request tokens.
    pub token_keys: Vec<PublicJwk>,
    /// Keys that sign envelopes, receipts and this document.
    pub envelope_keys: Vec<PublicJwk>,
    /// Retired envelope keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old_keys: Vec<RetiredKey>,
    /// Key ids that must no longer be believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Only rises.
    pub sequence: u64,
    /// Seconds between two reads.
    pub refresh_hint: u32,
    /// When this document stops being valid; readers cap it at 7 days from the time they read it.
    pub not_after: Ts,
    /// Federation profiles spoken.
    pub profiles: Vec<String>,
    /// Members that this version does not know; covered by the signature.
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// Detached JWS over the document without this member.
    pub signature: String,
}

/// Where a peer stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Its document was fetched; nobody has confirmed the fingerprint.
    Proposed,
    /// The fingerprint was confirmed; no traffic yet.
    Reviewed,
    /// Traffic flows as far as the record allows.
    Active,
    /// Stopped by an operator or by a contradiction in its documents.
    Suspended,
    /// Its trust document is past `not_after`, or its conformance result does not satisfy the record's rule.
    Stale,
    /// Removed for ever.
    Terminated,
}

/// What a peer may do, each on or off. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PeerOperations {
    /// Send envelopes that start runs.
    pub send: bool,
    /// Follow the events of its own runs and read its own conversations.
    pub stream: bool,
    /// Cancel its own runs.
    pub cancel: bool,
    /// Read the directory.
    pub directory: bool,
}

/// How much a peer may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PeerQuotas {
    /// Requests per second.
    pub requests_per_second: u32,
    /// Open event streams.
    pub open_streams: u32,
    /// Largest envelope, in bytes.
    pub max_envelope_bytes: usize,
    /// Most delegations in a row.
    pub max_hop: u32,
}

impl Default for PeerQuotas {
    fn default() -> Self {
        Self { requests_per_second: 1000, open_streams: 256, max_envelope_bytes: 256 * 1024, max_hop: 8 }
    }
}

/// The local allow-list for one peer. Trust is one-way: it says nothing about what the peer allows us.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerRecord {
    /// The peer's trust domain.
    pub domain: String,
    /// Where its trust document is fetched. Set by an operator, never taken from a message.
    pub trust_url: String,
    /// SHA-256 of the trust document that an operator confirmed or must confirm, lower-case hex.
    pub fingerprint: String,
    /// Where the peer stands.
    pub state: PeerState,
    /// The last accepted trust document, as it was received.
    pub document: Value,
    /// When the document was read: its `not_after` counts for at most 7 days from here.
    pub document_read_at: Ts,
    /// Peer tenant to local tenant. None mapped, none allowed; `*` maps every name.
    #[serde(default)]
    pub tenants: BTreeMap<String, String>,
    /// Local agents that it may see and call: ids, handles, or `*`.
    #[serde(default)]
    pub agents: Vec<String>,
    /// What it may do.
    #[serde(default)]
    pub operations: PeerOperations,
    /// How much it may use.
    #[serde(default)]
    pub quotas: PeerQuotas,
    /// What its conformance result has to show, and what it showed last; absent: nothing is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conformance: Option<PeerConformance>,
    /// When the peer was proposed.
    pub created_at: Ts,
    /// When the record last changed.
    pub updated_at: Ts,
}

/// A peer as its operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerView {
    /// The record.
    #[serde(flatten)]
    pub record: PeerRecord,
    /// Envelopes that wait to be delivered to it.
    pub waiting: u64,
    /// When it last sent a request with a good token or answered one, to about a minute; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Ts>,
}

/// Body of `POST /api/v1/admin/peers`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPeer {
    /// The peer's trust domain.
    pub domain: String,
    /// Where its trust document is, or the base URL of its public listener.
    pub url: String,
}

/// Body of `POST /api/v1/admin/peers/{domain}/confirm`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmPeer {
    /// The fingerprint as the other hub's operator told it, in either case, with or without spaces.
    pub fingerprint: String,
}

/// This hub as its peers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OwnHub {
    /// SHA-256 of the trust document in lower-case hex: what the other hub's operator compares.
    pub fingerprint: String,
    /// The trust document, as it is served.
    #[schemars(with = "TrustDocument")]
    pub document: Value,
}

/// Error of a whole federation request (RFC 9457): a stable code and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Always `about:blank`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The reason phrase of the status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable machine code, one of `spec/errors.md`.
    pub code: String,
}

/// Claims of a request token (RFC 7519), which is a JWS with `typ` `aiox-fed+jwt` by a key of the issuer's trust document: made for one
/// request on one connection, used once, at most 60 seconds long. `sub` is the sending node: an envelope carries the acting user itself.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenClaims {
    /// The sending node, the one of the connection's certificate.
    pub iss: String,
    /// The receiving node alone.
    pub aud: Audience,
    /// The same as `iss`.
    pub sub: String,
    /// When it was made, in seconds since the Unix epoch.
    pub iat: i64,
    /// When it ends, in seconds since the Unix epoch.
    pub exp: i64,
    /// When it begins; absent = at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Names this token, at least 16 random bytes; never used twice.
    pub jti: String,
    /// Binds it to the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// What it is good for: `hello`, `deliver`, `stream`, `directory` or `history`.
    pub scope: String,
}

/// Receivers of a token: one, or a list of exactly one.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Audience {
    /// One receiver.
    One(String),
    /// A list.
    Many(Vec<String>),
}

/// The certificate that a token is bound to (RFC 8705 section 3.1).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Confirmation {
    /// SHA-256 of the client certificate in DER, base64url without padding.
    #[serde(rename = "x5t#S256")]
    pub thumbprint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_split_into_domain_and_name() {
        let id = NodeId::new("hub-a.example", "n1").unwrap();
        assert_eq!((id.domain(), id.name(), id.as_str()), ("hub-a.example", "n1", "spiffe://hub-a.example/node/n1"));
    }

    #[test]
    fn what_is_no_node_id_is_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe:///node/a",
            "spiffe://hub/node/",
            "spiffe://hub/agent/a",
            "spiffe://HUB/node/a",
            "spiffe://hub/node/a/b",
            "spiffe://hub:8443/node/a",
            "spiffe://u@hub/node/a",
            "spiffe://hub/node/..",
            "https://hub/node/a",
            "spiffe://hub./node/a",
            "spiffe://hub/node/a?b",
            "spiffe://hub/node/a%2f",
            "spiffe://-a/node/b",
        ] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_members_of_an_envelope_are_kept() {
        let text = serde_json::json!({
            "id": "env_00000000000000000000000001", "origin": {"node": "spiffe://hub-a.example/node/a"},
            "dest": {"node": "spiffe://hub-b.example/node/b", "agent": "writer@agents.hub-b.example"},
            "conv": "c1", "seq": 1, "type": "run.create", "created": "2026-01-01T00:00:00Z", "expires": "2026-01-02T00:00:00Z",
            "hop": 0, "content_type": "application/json", "payload_hash": "x", "auth": {"sub": "alice@hub-a.example", "scope": "run"},
            "payload": "{}", "signature": "s", "later": {"a": 1}
        });
        let envelope: Envelope = serde_json::from_value(text).unwrap();
        assert_eq!(envelope.header.other.len(), 1);
        assert_eq!(serde_json::to_value(&envelope).unwrap()["later"]["a"], 1);
    }
}
