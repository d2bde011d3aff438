//! TLS 1.3 with a certificate at both ends (federation section 3).
//!
//! There is no pooled root store. The leaf's one URI name says which domain vouches, and only that domain's roots are asked. No
//! list of authorities is sent, because it would name our partners. Nothing is resumed: a resumed handshake skips the certificate
//! check, so a suspended peer could come back.

use std::sync::Arc;

use aiox_model::federation::NodeId;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    server::{
        NoServerSessionStorage, ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{leaf, local::LocalNode, roster::Roster};

const ALPN_H2: &[u8] = b"h2";

/// Who is at the other end of an authenticated connection. Handlers find it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The node that the certificate names.
    pub node: NodeId,
    /// `x5t#S256` of its certificate: what a token of this connection must be bound to.
    pub thumbprint: String,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn refuse(reason: CertificateError) -> Error {
    Error::InvalidCertificate(reason)
}

/// Verifies client certificates against the roots of the one domain that each of them names.
#[derive(Debug)]
pub struct PeerClientVerifier {
    roster: Arc<Roster>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerClientVerifier {
    /// Over the active peers.
    #[must_use]
    pub fn new(roster: Arc<Roster>) -> Self {
        Self { roster, algorithms: provider().signature_verification_algorithms }
    }

    /// Judges a chain, at the handshake and again whenever the roster changes.
    ///
    /// # Errors
    /// When the chain does not prove a node of an active peer.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<PeerIdentity, Error> {
        let (end_entity, intermediates) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let leaf = leaf::read(end_entity).map_err(|_| refuse(CertificateError::ApplicationVerificationFailure))?;
        let peer = self.roster.peer(leaf.node.domain()).ok_or_else(|| refuse(CertificateError::UnknownIssuer))?;
        if !leaf.client || !peer.has_node(&leaf.node) {
            return Err(refuse(CertificateError::ApplicationVerificationFailure));
        }
        peer.client_verifier.verify_client_cert(end_entity, intermediates, now)?;
        Ok(PeerIdentity { node: leaf.node, thumbprint: leaf::thumbprint(end_entity) })
    }
}

impl ClientCertVerifier for PeerClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        self.judge(&chain, now).map(|_| ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies that the server is the one node that was called, under its own domain's roots.
#[derive(Debug)]
pub struct PeerServerVerifier {
    roster: Arc<Roster>,
    expected: NodeId,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerServerVerifier {
    /// For calls to `expected`.
    #[must_use]
    pub fn new(roster: Arc<Roster>, expected: NodeId) -> Self {
        Self { roster, expected, algorithms: provider().signature_verification_algorithms }
    }

    /// Judges a chain, at the handshake and again whenever the roster changes. The DNS name plays no part: the node id is the name.
    ///
    /// # Errors
    /// When the chain does not prove the expected node.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let (end_entity, intermediates) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let leaf = leaf::read(end_entity).map_err(|_| refuse(CertificateError::ApplicationVerificationFailure))?;
        if leaf.node != self.expected || !leaf.server {
            return Err(refuse(CertificateError::NotValidForName));
        }
        let peer = self.roster.peer(leaf.node.domain()).ok_or_else(|| refuse(CertificateError::UnknownIssuer))?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &peer.roots, intermediates, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for PeerServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        self.judge(&chain, now).map(|()| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// TLS of the peer listener.
///
/// # Errors
/// When the local certificate or key is refused by the TLS library.
pub fn server_config(local: &LocalNode, verifier: Arc<PeerClientVerifier>) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(local.chain.clone(), local.key.clone_key())?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// TLS of a call to one peer node.
///
/// # Errors
/// When the local certificate or key is refused by the TLS library.
pub fn client_config(local: &LocalNode, verifier: Arc<PeerServerVerifier>) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(local.client.0.clone(), local.client.1.clone_key())?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// Whether `h2` was agreed on.
pub(crate) fn speaks_h2(protocol: Option<&[u8]>) -> bool {
    protocol == Some(ALPN_H2)
}
