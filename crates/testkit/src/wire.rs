//! The wire between hubs, without the wire.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use aiox_app::federated::{Draft, PeerWire};
use aiox_core::{Error, Result};
use aiox_model::{BareJid, run::HistoryMessage};
use aiox_store::Sealed;
use async_trait::async_trait;
use serde_json::json;

/// Seals envelopes readably and keeps what was asked of it.
#[derive(Default)]
pub struct TestWire {
    refuse: AtomicBool,
    sealed: Mutex<Vec<Draft>>,
}

impl TestWire {
    /// From now on, signing fails, as it does when a peer is suspended.
    pub fn refuse(&self) {
        self.refuse.store(true, Ordering::SeqCst);
    }

    /// Every draft that was signed, in order.
    #[must_use]
    pub fn sealed(&self) -> Vec<Draft> {
        self.sealed.lock().unwrap().clone()
    }
}

#[async_trait]
impl PeerWire for TestWire {
    fn seal(&self, draft: &Draft, seq: u64, prev: Option<&str>) -> Result<Sealed> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err(Error::unavailable("peer_unavailable", "the peer is not active"));
        }
        self.sealed.lock().unwrap().push(draft.clone());
        let envelope =
            json!({ "id": draft.id, "conv": draft.conv, "seq": seq, "prev": prev, "type": draft.kind, "payload": draft.payload });
        Ok(Sealed { envelope: envelope.to_string(), digest: format!("digest-{}", draft.id) })
    }

    async fn history(&self, peer: &str, _: &BareJid, _: &str, _: u32, _: u64) -> Result<Vec<HistoryMessage>> {
        Err(Error::unavailable("peer_unavailable", format!("{peer} does not answer")))
    }
}
