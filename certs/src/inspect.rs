//! What a certificate says, for people.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{GeneralName, X509Certificate};

use crate::{error::CertError, files};

/// The readable parts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Subject, as RFC 4514 text.
    pub subject: String,
    /// Issuer, as RFC 4514 text.
    pub issuer: String,
    /// Subject alternative names as `URI:…`, `DNS:…` or `IP:…`.
    pub names: Vec<String>,
    /// `serverAuth`, `clientAuth`.
    pub purposes: Vec<String>,
    /// Whether it may sign others.
    pub authority: bool,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Begin of validity, seconds since the Unix epoch.
    pub not_before: i64,
    /// End of validity, seconds since the Unix epoch.
    pub not_after: i64,
    /// SHA-256 of the DER form, lower-case hexadecimal.
    pub fingerprint: String,
}

fn name(general: &GeneralName<'_>) -> String {
    match general {
        GeneralName::DNSName(text) => format!("DNS:{text}"),
        GeneralName::URI(text) => format!("URI:{text}"),
        GeneralName::RFC822Name(text) => format!("email:{text}"),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(v4), _) => format!("IP:{}", Ipv4Addr::from(v4)),
            (_, Ok(v6)) => format!("IP:{}", Ipv6Addr::from(v6)),
            _ => "IP:?".to_owned(),
        },
        _ => "other".to_owned(),
    }
}

fn describe(certificate: &X509Certificate<'_>, der: &[u8]) -> CertificateInfo {
    let names = certificate.subject_alternative_name().ok().flatten();
    let purposes = certificate.extended_key_usage().ok().flatten().map(|usage| (usage.value.server_auth, usage.value.client_auth));
    let (server, client) = purposes.unwrap_or_default();
    CertificateInfo {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names: names.map(|extension| extension.value.general_names.iter().map(name).collect()).unwrap_or_default(),
        purposes: [(server, "serverAuth"), (client, "clientAuth")].into_iter().filter(|p| p.0).map(|p| p.1.to_owned()).collect(),
        authority: certificate.is_ca(),
        serial: certificate.raw_serial_as_string().replace(':', ""),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        fingerprint: hex::encode(digest(&SHA256, der)),
    }
}

/// Describes one certificate in DER form.
///
/// # Errors
/// When it is not a certificate.
pub fn inspect_der(what: &str, der: &[u8]) -> Result<CertificateInfo, CertError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| CertError::Pem(what.to_owned()))?;
    Ok(describe(&certificate, der))
}

/// Describes every certificate of a PEM text, in order. `what` names it in errors.
///
/// # Errors
/// When it holds none or something unparsable.
pub fn inspect_pem(what: &str, pem: &[u8]) -> Result<Vec<CertificateInfo>, CertError> {
    let unparsable = || CertError::Pem(what.to_owned());
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| unparsable())?;
    if chain.is_empty() {
        return Err(unparsable());
    }
    chain.iter().map(|der| inspect_der(what, der)).collect()
}

/// Describes every certificate of a PEM file, in order.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn inspect_file(setting: &str, path: &Path) -> Result<Vec<CertificateInfo>, CertError> {
    files::load_chain(setting, path)?.iter().map(|der| inspect_der(setting, der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, Leaf};

    fn info(leaf: &Leaf) -> CertificateInfo {
        let authority = Authority::create("hub-a.example").unwrap();
        // Read back from PEM, as a later process would.
        let authority = Authority::from_pem(authority.certificate_pem(), &authority.key_pem()).unwrap();
        inspect_pem("leaf", authority.issue(leaf).unwrap().certificate_pem.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn the_xmpp_leaf_has_dns_names_only_and_both_purposes() {
        let info = info(&Leaf::xmpp("hub-a.example").unwrap());
        let names = ["DNS:hub-a.example", "DNS:agents.hub-a.example", "DNS:conference.hub-a.example", "DNS:upload.hub-a.example"];
        assert_eq!(info.names, names);
        assert_eq!(info.purposes, ["serverAuth", "clientAuth"]);
        assert!(!info.authority);
    }

    #[test]
    fn the_federation_leaf_has_one_uri_and_one_host() {
        let info = info(&Leaf::federation("hub-a.example", "a", "127.0.0.1").unwrap());
        assert_eq!(info.names, ["URI:spiffe://hub-a.example/node/a", "IP:127.0.0.1"]);
        assert_eq!(info.purposes, ["serverAuth", "clientAuth"]);
        assert_eq!(info.issuer, "CN=hub-a.example authority");
        assert!(info.not_after - info.not_before > 89 * 24 * 3600);
    }

    #[test]
    fn servers_and_workers_have_one_purpose() {
        assert_eq!(info(&Leaf::server("hub-a.example").unwrap()).purposes, ["serverAuth"]);
        assert_eq!(info(&Leaf::worker("hub-a.example", "worker-1").unwrap()).purposes, ["clientAuth"]);
        let names = info(&Leaf::worker("hub-a.example", "worker-1").unwrap()).names;
        assert_eq!(names, ["DNS:worker-1", "URI:spiffe://hub-a.example/worker/worker-1"]);
    }

    #[test]
    fn names_that_cannot_stand_in_a_certificate_are_refused() {
        assert!(Leaf::federation("hub a", "a", "x").is_err());
        assert!(Leaf::federation("hub-a.example", "a/b", "x").is_err());
        assert!(Leaf::server("").is_err());
    }
}
