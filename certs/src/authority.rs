//! A certificate authority and what it issues.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use zeroize::Zeroizing;

use crate::{error::CertError, leaf::Leaf};

const DAY: u64 = 24 * 60 * 60;
const AUTHORITY_DAYS: u64 = 3650;
/// Certificates begin a little in the past, so that a peer whose clock is behind takes them.
const BACKDATE: u64 = 60 * 60;

/// A certificate authority with its private key.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate and its private key, both PEM.
pub struct Issued {
    /// The leaf certificate.
    pub certificate_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: Zeroizing<String>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

fn validity(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now - BACKDATE.min(now));
    // Zero days: already over, while not before its own beginning.
    params.not_after = epoch + Duration::from_secs(if days == 0 { now.saturating_sub(BACKDATE / 2) } else { now + days * DAY });
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

impl Authority {
    /// Makes a new authority with a new key. `name` stands in its subject: the trust domain, or the name of the mesh.
    ///
    /// # Errors
    /// When the libraries cannot make the key or the certificate.
    pub fn create(name: &str) -> Result<Self, CertError> {
        let key = KeyPair::generate().map_err(CertError::Issue)?;
        let mut params = named(&format!("{name} authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, AUTHORITY_DAYS);
        let certificate_pem = params.self_signed(&key).map_err(CertError::Issue)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// Reads an authority back from its two PEM texts.
    ///
    /// # Errors
    /// When one of them is not what it should be.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CertError> {
        let key = KeyPair::from_pem(key_pem).map_err(|_| CertError::Pem("authority key".to_owned()))?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(|_| CertError::Pem("authority certificate".to_owned()))?;
        Ok(Self { issuer, certificate_pem: certificate_pem.to_owned() })
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's private key, PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Issues a leaf with a new key.
    ///
    /// # Errors
    /// When the libraries cannot make the key or the certificate.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued, CertError> {
        let key = KeyPair::generate().map_err(CertError::Issue)?;
        let mut params = named(&leaf.common_name);
        params.subject_alt_names.clone_from(&leaf.names);
        params.extended_key_usages.clone_from(&leaf.purposes);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, leaf.days.into());
        let certificate = params.signed_by(&key, &self.issuer).map_err(CertError::Issue)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: Zeroizing::new(key.serialize_pem()) })
    }
}
