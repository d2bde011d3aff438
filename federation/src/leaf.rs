//! What a federation leaf certificate says about its holder.

use aiox_crypto::jws;
use aiox_model::federation::NodeId;
use x509_parser::prelude::GeneralName;

/// Why a leaf cannot name a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not a certificate.
    #[error("not a certificate")]
    Unparsable,
    /// No URI name, several, or one that is not a node id.
    #[error("does not have exactly one URI name that is a node id")]
    Name,
    /// The extended key usage that this end needs is missing.
    #[error("lacks the extended key usage for this end")]
    Purpose,
}

pub(crate) struct Leaf {
    pub(crate) node: NodeId,
    pub(crate) server: bool,
    pub(crate) client: bool,
}

pub(crate) fn read(der: &[u8]) -> Result<Leaf, LeafError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| LeafError::Unparsable)?;
    let names = certificate.subject_alternative_name().map_err(|_| LeafError::Unparsable)?.ok_or(LeafError::Name)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(LeafError::Name) };
    let node = uri.parse().map_err(|_| LeafError::Name)?;
    let usage = certificate.extended_key_usage().map_err(|_| LeafError::Unparsable)?.ok_or(LeafError::Purpose)?;
    Ok(Leaf { node, server: usage.value.server_auth, client: usage.value.client_auth })
}

/// `x5t#S256` (RFC 8705 section 3.1): SHA-256 of the certificate's DER form, base64url.
pub(crate) fn thumbprint(der: &[u8]) -> String {
    jws::sha256(der)
}
