//! Certificates for a test.

use std::sync::Arc;

use aiox_grpc::server_config;

/// A CA and what it signs, as PEM.
pub struct Ca {
    pub pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Ca {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    pub fn leaf(&self, name: &str) -> (String, String) {
        self.leaf_with(name, None)
    }

    /// A leaf with a URI beside its name.
    pub fn leaf_with(&self, name: &str, uri: Option<&str>) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.subject_alt_names.extend(uri.map(|uri| rcgen::SanType::URI(uri.try_into().unwrap())));
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        let (cert, key) = self.leaf("localhost");
        let ca = Some(self.pem.as_bytes());
        Arc::new(server_config(cert.as_bytes(), key.as_bytes(), ca, false).unwrap())
    }
}
