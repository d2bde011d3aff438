//! The wire between hubs of a hub without federation: it says so.

use aiox_app::federated::{Draft, PeerWire};
use aiox_core::{Error, Result};
use aiox_model::{BareJid, run::HistoryMessage};
use aiox_store::Sealed;

/// No peers.
pub struct NoPeers;

fn off() -> Error {
    Error::unavailable("federation_off", "federation is switched off on this hub")
}

#[async_trait::async_trait]
impl PeerWire for NoPeers {
    fn seal(&self, _: &Draft, _: u64, _: Option<&str>) -> Result<Sealed> {
        Err(off())
    }
    async fn history(&self, _: &str, _: &BareJid, _: &str, _: u32, _: u64) -> Result<Vec<HistoryMessage>> {
        Err(off())
    }
}
