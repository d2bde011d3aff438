//! The kinds of leaf certificates.

use std::net::IpAddr;

use rcgen::{ExtendedKeyUsagePurpose, SanType};

use crate::error::CertError;

/// What a leaf certificate is for: its names and purposes.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub(crate) common_name: String,
    pub(crate) names: Vec<SanType>,
    pub(crate) purposes: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) days: u32,
}

const BOTH: [ExtendedKeyUsagePurpose; 2] = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
const DEFAULT_DAYS: u32 = 90;

fn dns(name: &str) -> Result<SanType, CertError> {
    if name.is_empty() || name.len() > 253 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'*') {
        return Err(CertError::Name(name.to_owned()));
    }
    Ok(SanType::DnsName(name.try_into().map_err(|_| CertError::Name(name.to_owned()))?))
}

fn host(name: &str) -> Result<SanType, CertError> {
    name.parse::<IpAddr>().map_or_else(|_| dns(name), |ip| Ok(SanType::IpAddress(ip)))
}

impl Leaf {
    /// A hub's federation certificate: URI SAN `spiffe://<domain>/node/<node>` and one DNS name or address, server and client.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn federation(domain: &str, node: &str, host_name: &str) -> Result<Self, CertError> {
        dns(domain)?;
        let uri = format!("spiffe://{domain}/node/{node}");
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if node.is_empty() || !node.bytes().all(legal) || domain.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(CertError::Name(uri));
        }
        let san = SanType::URI(uri.as_str().try_into().map_err(|_| CertError::Name(uri.clone()))?);
        Ok(Self { common_name: domain.to_owned(), names: vec![san, host(host_name)?], purposes: BOTH.to_vec(), days: DEFAULT_DAYS })
    }

    /// A hub's XMPP certificate. DNS names only and both purposes: one server of the matrix crashes on an `xmppAddr` name, and
    /// without `clientAuth` it cannot authenticate outbound streams.
    ///
    /// # Errors
    /// When the domain cannot stand in a certificate.
    pub fn xmpp(domain: &str) -> Result<Self, CertError> {
        let names = ["", "agents.", "conference.", "upload."].map(|prefix| dns(&format!("{prefix}{domain}")));
        let names = names.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { common_name: domain.to_owned(), names, purposes: BOTH.to_vec(), days: DEFAULT_DAYS })
    }

    /// A server certificate for one DNS name or address (HTTP, gRPC).
    ///
    /// # Errors
    /// When the name cannot stand in a certificate.
    pub fn server(host_name: &str) -> Result<Self, CertError> {
        Ok(Self {
            common_name: host_name.to_owned(),
            names: vec![host(host_name)?],
            purposes: vec![ExtendedKeyUsagePurpose::ServerAuth],
            days: DEFAULT_DAYS,
        })
    }

    /// Client certificate of a worker of the hub of `domain`: the worker's id is its one DNS name, and the URI
    /// `spiffe://<domain>/worker/<id>` keeps it from other hubs whose machines have the same authority.
    ///
    /// # Errors
    /// When the id or the domain cannot stand in a certificate.
    pub fn worker(domain: &str, worker_id: &str) -> Result<Self, CertError> {
        dns(domain)?;
        let uri = format!("spiffe://{domain}/worker/{worker_id}");
        let san = SanType::URI(uri.as_str().try_into().map_err(|_| CertError::Name(uri.clone()))?);
        Ok(Self {
            common_name: worker_id.to_owned(),
            names: vec![dns(worker_id)?, san],
            purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
            days: DEFAULT_DAYS,
        })
    }

    /// Adds a further DNS name or address.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate.
    pub fn also(mut self, host_name: &str) -> Result<Self, CertError> {
        self.names.push(host(host_name)?);
        Ok(self)
    }

    /// Valid for this many days from now instead of 90. Zero makes a certificate that has already expired.
    #[must_use]
    pub fn valid_days(mut self, days: u32) -> Self {
        self.days = days;
        self
    }
}
