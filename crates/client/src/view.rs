//! What a hub tells of itself and of its peers.

use aiox_model::{
    Ts,
    federation::{PeerRecord, PeerState},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a hub is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// `healthy`, or `degraded` when any part is not as it should be.
    pub status: String,
    /// Each part.
    pub checks: Vec<Part>,
    /// Version of the hub.
    pub version: String,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One part of a hub.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// `database`, `workers`, `xmpp`, `peers`; an open set.
    pub name: String,
    /// `healthy`, `not configured`, or what is wrong.
    pub status: String,
}

impl Health {
    /// The status of a part, if the hub told it.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&str> {
        self.checks.iter().find(|part| part.name == name).map(|part| part.status.as_str())
    }
}

/// A peer with what waits for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peer {
    /// What the hub allows the peer.
    #[serde(flatten)]
    pub record: PeerRecord,
    /// Envelopes that have not been delivered to it.
    pub waiting: u64,
    /// When it was last in contact, to about a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Ts>,
}

impl Peer {
    /// The peer's state as it stands in JSON.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self.record.state {
            PeerState::Proposed => "proposed",
            PeerState::Reviewed => "reviewed",
            PeerState::Active => "active",
            PeerState::Suspended => "suspended",
            PeerState::Stale => "stale",
            PeerState::Terminated => "terminated",
        }
    }
}
