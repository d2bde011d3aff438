//! An authority of the suite's own, and leaf certificates that are right or wrong in one way.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{jose::sha256, link::provider};
pub(crate) use crate::certificate::Plan;
use crate::{case::Stop, certificate::Said};

/// A certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) certificate: CertificateDer<'static>,
    /// What it says, and whose authority says it.
    pub(crate) said: Said,
    key: Vec<u8>,
}
impl Leaf {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }
    /// Certificate and key as TLS wants them.
    pub(crate) fn certified(&self) -> Result<Arc<CertifiedKey>, rustls::Error> {
        let key = provider().key_provider.load_private_key(self.key())?;
        Ok(Arc::new(CertifiedKey::new(vec![self.certificate.clone()], key)))
    }
    /// `x5t#S256`.
    pub(crate) fn thumbprint(&self) -> String {
        sha256(&self.certificate)
    }
}

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Whose it is.
    pub(crate) name: String,
    pub(crate) certificate: CertificateDer<'static>,
}

fn made<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, Stop> {
    result.map_err(|error| Stop::Harness(format!("a certificate could not be made: {error}")))
}

fn times(params: &mut CertificateParams, from: i64, to: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let at = |offset: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(now.saturating_add_signed(offset));
    (params.not_before, params.not_after) = (at(from), at(to));
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self, Stop> {
        let key = made(KeyPair::generate())?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        times(&mut params, -3600, 86_400);
        let certificate = made(params.self_signed(&key))?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), name: name.to_owned(), certificate })
    }

    pub(crate) fn leaf(&self, plan: &Plan) -> Result<Leaf, Stop> {
        let key = made(KeyPair::generate())?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "conformance");
        for uri in &plan.uris {
            params.subject_alt_names.push(SanType::URI(made(uri.as_str().try_into())?));
        }
        for dns in &plan.dns {
            params.subject_alt_names.push(SanType::DnsName(made(dns.as_str().try_into())?));
        }
        params.subject_alt_names.push(SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
        let purposes = [(plan.server, ExtendedKeyUsagePurpose::ServerAuth), (plan.client, ExtendedKeyUsagePurpose::ClientAuth)];
        params.extended_key_usages = purposes.into_iter().filter(|(on, _)| *on).map(|(_, purpose)| purpose).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        if plan.over {
            times(&mut params, -3600, -60)
        } else {
            times(&mut params, -3600, 86_400)
        }
        let certificate = made(params.signed_by(&key, &self.issuer))?.der().clone();
        Ok(Leaf { certificate, said: Said { plan: plan.clone(), signed_by: self.name.clone() }, key: key.serialize_der() })
    }
}
