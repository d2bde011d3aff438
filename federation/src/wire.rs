//! What the use cases need of the wire between hubs.

use std::sync::Arc;

use aiox_app::federated::{Draft, PeerWire};
use aiox_core::{Error, Result};
use aiox_model::{
    BareJid,
    federation::{Delegation, EnvelopeHeader, History, Party},
    run::HistoryMessage,
};
use aiox_store::Sealed;
use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use serde_json::Map;
use url::form_urlencoded::Serializer;

use crate::{envelope, link::Links, local::LocalNode, token::Operation};

pub(crate) struct Wire {
    pub(crate) local: Arc<LocalNode>,
    pub(crate) links: Arc<Links>,
}

fn inactive(peer: &str) -> Error {
    Error::unavailable("peer_inactive", format!("the peer hub {peer} is not active"))
}

#[async_trait]
impl PeerWire for Wire {
    fn seal(&self, draft: &Draft, seq: u64, prev: Option<&str>) -> Result<Sealed> {
        let peer = self.links.roster().peer(&draft.peer).ok_or_else(|| inactive(&draft.peer))?;
        let node = peer.document.nodes.first().ok_or_else(|| inactive(&draft.peer))?.id.clone();
        let header = EnvelopeHeader {
            id: draft.id,
            origin: Party { agent: None, node: self.local.id.clone() },
            dest: Party { agent: Some(draft.agent_jid.clone()), node },
            tenant: None,
            conv: draft.conv.clone(),
            seq,
            prev: prev.map(str::to_owned),
            kind: draft.kind.to_owned(),
            idem: draft.idem.clone(),
            created: draft.created,
            expires: draft.expires,
            deadline: None,
            hop: 0,
            path: Vec::new(),
            budget: None,
            trace: Some(draft.trace.clone()),
            content_type: "application/json".to_owned(),
            payload_hash: String::new(),
            auth: Delegation { sub: draft.sub.to_string(), act: None, scope: draft.scope.to_owned() },
            other: Map::new(),
        };
        let (document, digest) = envelope::seal(&self.local, header, draft.payload.clone()).map_err(Error::internal)?;
        Ok(Sealed { envelope: document.to_string(), digest })
    }

    async fn history(&self, peer: &str, principal: &BareJid, agent_jid: &str, limit: u32, offset: u64) -> Result<Vec<HistoryMessage>> {
        let query = Serializer::new(String::new())
            .append_pair("principal", principal.as_str())
            .append_pair("agent", agent_jid)
            .append_pair("limit", &limit.to_string())
            .append_pair("offset", &offset.to_string())
            .finish();
        let path = format!("/fed/v1/conversations?{query}");
        let answer = self.links.call::<History>(peer, Method::GET, &path, Operation::History, Bytes::new()).await;
        match answer {
            Ok(history) => Ok(history.messages),
            Err(crate::link::LinkError::Status { status, .. }) if status == http::StatusCode::NOT_FOUND => {
                Err(Error::NotFound("conversation"))
            }
            Err(error) => {
                tracing::info!(peer, error = %crate::delivery::chain(&error), "history of a peer could not be read");
                Err(Error::unavailable("peer_unreachable", format!("the peer hub {peer} does not answer")))
            }
        }
    }
}
