//! The active peers: what the verifiers, the doors and the delivery read. Swapped as a whole when a record changes.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aiox_crypto::jws::{JwsError, KeySet};
use aiox_model::{
    Ts,
    federation::{NodeId, PeerRecord, PeerState, TrustDocument},
};
use arc_swap::ArcSwap;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::sync::watch;

use crate::{
    conformance,
    trust::{self, TrustError},
};

/// One active peer, with everything parsed once.
pub struct Peer {
    /// The local allow-list.
    pub record: PeerRecord,
    /// Its trust document.
    pub document: TrustDocument,
    /// Keys that sign its request tokens.
    pub token_keys: KeySet,
    /// Keys that sign its envelopes and receipts now.
    pub envelope_keys: KeySet,
    /// Retired envelope keys with the time they stopped signing.
    pub old_keys: Vec<(KeySet, Ts)>,
    /// When its trust document stops counting, or the conformance result that its record asks for.
    pub until: Ts,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) client_verifier: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("domain", &self.record.domain).field("state", &self.record.state).finish_non_exhaustive()
    }
}

impl Peer {
    /// Parses a record. Its document was verified when it was accepted; its shape, keys and roots are checked again here.
    ///
    /// # Errors
    /// When the stored document is not usable.
    pub fn new(record: PeerRecord) -> Result<Self, TrustError> {
        let document: TrustDocument = serde_json::from_value(record.document.clone()).map_err(|_| TrustError::Malformed)?;
        if document.domain != record.domain {
            return Err(TrustError::Domain);
        }
        let allowed = |key: &&aiox_model::federation::PublicJwk| !document.deny.contains(&key.kid);
        let keys = |list: &[aiox_model::federation::PublicJwk]| KeySet::new(list.iter().filter(allowed)).map_err(TrustError::Key);
        let (token_keys, envelope_keys) = (keys(&document.token_keys)?, keys(&document.envelope_keys)?);
        let old_keys = document.old_keys.iter().filter(|old| allowed(&&old.key));
        let old_keys =
            old_keys.map(|old| Ok((KeySet::new([&old.key])?, old.expired_ts))).collect::<Result<_, JwsError>>().map_err(TrustError::Key)?;
        let roots = Arc::new(trust::roots(&document)?);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client_verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider).build().map_err(|_| TrustError::Root)?;
        let mut until = trust::counts_until(&document, record.document_read_at);
        if let Some(conformance) = &record.conformance {
            until = until.min(conformance::counts_until(conformance));
        }
        Ok(Self { record, token_keys, envelope_keys, old_keys, until, roots, client_verifier, document })
    }

    /// Whether the peer's document lists this node.
    #[must_use]
    pub fn has_node(&self, node: &NodeId) -> bool {
        self.document.nodes.iter().any(|known| known.id == *node)
    }

    /// The local tenant that the peer's tenant is mapped to. `None`: not allowed.
    #[must_use]
    pub fn local_tenant(&self, theirs: Option<&str>) -> Option<&str> {
        let tenants = &self.record.tenants;
        theirs.and_then(|name| tenants.get(name)).or_else(|| tenants.get("*")).map(String::as_str)
    }

    /// Whether the record lets the peer use an agent, given all names that the agent has.
    #[must_use]
    pub fn may_use_agent<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        let allowed = &self.record.agents;
        allowed.iter().any(|name| name == "*") || names.into_iter().any(|name| allowed.iter().any(|entry| entry == name))
    }
}

/// The active peers by trust domain.
pub struct Roster {
    peers: ArcSwap<HashMap<String, Arc<Peer>>>,
    changed: watch::Sender<u64>,
    /// One per peer domain that was ever active.
    bells: Mutex<HashMap<String, Bells>>,
    /// When each peer was last in contact, since the start.
    seen: Mutex<HashMap<String, Ts>>,
}

/// Each rises whenever it rings.
#[derive(Debug, Clone, Default)]
struct Bells {
    heard: watch::Sender<u64>,
    hello: watch::Sender<u64>,
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.peers.load().keys()).finish()
    }
}

impl Default for Roster {
    fn default() -> Self {
        Self { peers: ArcSwap::default(), changed: watch::Sender::new(0), bells: Mutex::default(), seen: Mutex::default() }
    }
}

impl Roster {
    /// Replaces the whole roster. Only `active` records whose document still counts become peers; connections of all others are
    /// closed. A record that cannot be parsed is left out and named in the log.
    pub fn install(&self, records: Vec<PeerRecord>, now: Ts) {
        let mut peers = HashMap::new();
        for record in records.into_iter().filter(|record| record.state == PeerState::Active) {
            let domain = record.domain.clone();
            match Peer::new(record) {
                Ok(peer) if peer.until > now => {
                    peers.insert(domain, Arc::new(peer));
                }
                Ok(_) => tracing::warn!(peer = %domain, "trust document or conformance result no longer counts: peer is stale"),
                Err(error) => tracing::error!(peer = %domain, %error, "peer record is not usable"),
            }
        }
        self.peers.store(Arc::new(peers));
        self.changed.send_modify(|version| *version += 1);
    }

    /// The active peer of a domain.
    #[must_use]
    pub fn peer(&self, domain: &str) -> Option<Arc<Peer>> {
        self.peers.load().get(domain).cloned()
    }

    /// Every active peer.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.peers.load().values().cloned().collect()
    }

    /// Rises whenever the roster was replaced.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Authenticated traffic came from a peer: it is there, so what waits for it need not wait longer.
    pub(crate) fn hear(&self, domain: &str) {
        self.bells(domain).heard.send_modify(|rings| *rings += 1);
    }

    /// A peer proved that it is there.
    pub(crate) fn saw(&self, domain: &str, now: Ts) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(domain) {
            Some(at) => *at = now,
            None => drop(seen.insert(domain.to_owned(), now)),
        }
    }

    /// When each peer was last in contact, of those that were.
    pub(crate) fn seen(&self) -> HashMap<String, Ts> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes whenever the peer was heard.
    pub(crate) fn heard(&self, domain: &str) -> watch::Receiver<u64> {
        self.bells(domain).heard.subscribe()
    }

    /// A contact with a peer failed, or it has to be told what is missing here: a hello is due.
    pub(crate) fn want_hello(&self, domain: &str) {
        self.bells(domain).hello.send_modify(|rings| *rings += 1);
    }

    /// Changes whenever a hello is due.
    pub(crate) fn hello_wanted(&self, domain: &str) -> watch::Receiver<u64> {
        self.bells(domain).hello.subscribe()
    }

    fn bells(&self, domain: &str) -> Bells {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.entry(domain.to_owned()).or_default().clone()
    }
}
