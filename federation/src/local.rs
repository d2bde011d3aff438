//! This hub as its peers see it.

use std::fmt;

use aiox_crypto::jws::{JwsError, SigningKey};
use aiox_model::federation::NodeId;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::leaf::{self, LeafError};

/// Why this hub's own material cannot be used. The start must stop.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The federation certificate cannot name this node.
    #[error("federation certificate {0}")]
    Leaf(LeafError),
    /// The token key or the envelope key is not ES256, or both are the same key.
    #[error("{setting}: {problem}")]
    Key {
        /// The setting.
        setting: &'static str,
        /// What is wrong.
        problem: JwsError,
    },
    /// The certificate for calls to peers names another node than that of the listener.
    #[error("federation.client_certificate names another node than federation.certificate")]
    OtherNode,
    /// Two of the three keys are the same.
    #[error("federation.token_key and federation.envelope_key must be different keys")]
    SharedKey,
}

/// Identity and keys of this hub. Three keys, three purposes: TLS, request tokens, envelopes.
pub struct LocalNode {
    pub(crate) id: NodeId,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// Certificate and key for calls to peers.
    pub(crate) client: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    /// Of the certificate for calls to peers: request tokens are bound to it.
    pub(crate) thumbprint: String,
    pub(crate) token_key: SigningKey,
    pub(crate) envelope_key: SigningKey,
    /// What it tells its peers of itself for programs (a `v1::federation::Stack`).
    pub(crate) stack: Option<serde_json::Value>,
}

impl fmt::Debug for LocalNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalNode").field("id", &self.id).finish_non_exhaustive()
    }
}

impl LocalNode {
    /// From the federation certificate chain (leaf first), its key, the token key and the envelope key. The node id is the leaf's. The
    /// certificate is for the listener and for calls to peers.
    ///
    /// # Errors
    /// When one of them is unusable for its purpose.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        token_key: &PrivateKeyDer<'_>,
        envelope_key: &PrivateKeyDer<'_>,
    ) -> Result<Self, LocalError> {
        let client = (chain.clone(), key.clone_key());
        Self::with_client(chain, key, client, token_key, envelope_key)
    }

    /// As [`new`](Self::new), with a certificate and key of their own for calls to peers. Both certificates name the same node.
    ///
    /// # Errors
    /// When one of them is unusable for its purpose.
    pub fn with_client(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
        token_key: &PrivateKeyDer<'_>,
        envelope_key: &PrivateKeyDer<'_>,
    ) -> Result<Self, LocalError> {
        let first = chain.first().ok_or(LocalError::Leaf(LeafError::Unparsable))?;
        let leaf = leaf::read(first).map_err(LocalError::Leaf)?;
        let calling = client.0.first().ok_or(LocalError::Leaf(LeafError::Unparsable))?;
        let caller = leaf::read(calling).map_err(LocalError::Leaf)?;
        if !leaf.server || !caller.client {
            return Err(LocalError::Leaf(LeafError::Purpose));
        }
        if caller.node != leaf.node {
            return Err(LocalError::OtherNode);
        }
        let thumbprint = leaf::thumbprint(calling);
        let signing = |setting, key: &PrivateKeyDer<'_>| {
            SigningKey::from_pkcs8(key.secret_der()).map_err(|problem| LocalError::Key { setting, problem })
        };
        let token_key = signing("federation.token_key", token_key)?;
        let envelope_key = signing("federation.envelope_key", envelope_key)?;
        if token_key.public() == envelope_key.public() {
            return Err(LocalError::SharedKey);
        }
        Ok(Self { id: leaf.node, thumbprint, chain, key, client, token_key, envelope_key, stack: None })
    }

    /// Tells peers what this hub is for programs, in its trust document.
    #[must_use]
    pub fn with_stack(self, stack: &aiox_model::v1::federation::Stack) -> Self {
        Self { stack: serde_json::to_value(stack).ok(), ..self }
    }

    /// Digest of the program that runs, as the trust document tells it. `None`: it could not be read.
    #[must_use]
    pub fn build(&self) -> Option<&str> {
        self.stack.as_ref()?.pointer("/peer/build/digest")?.as_str()
    }
    /// The node id.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.id
    }
    /// The trust domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.id.domain()
    }
}
