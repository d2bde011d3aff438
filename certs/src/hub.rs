//! The set of files that one hub needs, made in one step.

use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use zeroize::Zeroizing;

use crate::{
    authority::{Authority, Issued},
    error::CertError,
    files::{Overwrite, load_chain, read_private, write_private, write_public},
    leaf::Leaf,
};

/// A new ECDSA P-256 signing key (token or envelope key), PKCS#8 PEM.
///
/// # Errors
/// When the key library refuses.
pub fn create_signing_key() -> Result<Zeroizing<String>, CertError> {
    KeyPair::generate().map(|key| Zeroizing::new(key.serialize_pem())).map_err(|_| CertError::Key)
}

/// The names of a hub that stand in its certificates.
#[derive(Debug, Clone)]
pub struct HubNames<'a> {
    /// Trust domain and XMPP domain, for instance `hub-a.example`.
    pub domain: &'a str,
    /// Name of the node inside its domain.
    pub node: &'a str,
    /// Further DNS names and addresses under which its listeners are reached, for instance `localhost`, `127.0.0.1`.
    pub hosts: &'a [&'a str],
}

/// Where a hub's keys and certificates lie.
#[derive(Debug, Clone)]
pub struct HubPaths {
    directory: PathBuf,
}

impl HubPaths {
    /// The files of one hub, all in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }
    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
    /// Certificate of the domain authority: the root in the trust document.
    #[must_use]
    pub fn domain_authority(&self) -> PathBuf {
        self.file("domain-ca.pem")
    }
    /// Key of the domain authority.
    #[must_use]
    pub fn domain_authority_key(&self) -> PathBuf {
        self.file("domain-ca.key")
    }
    /// Certificate and key of a leaf: `federation`, `xmpp`, `http` or `grpc`.
    #[must_use]
    pub fn leaf(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")))
    }
    /// The key that signs request tokens.
    #[must_use]
    pub fn token_key(&self) -> PathBuf {
        self.file("token.key")
    }
    /// The key that signs envelopes, receipts and the trust document.
    #[must_use]
    pub fn envelope_key(&self) -> PathBuf {
        self.file("envelope.key")
    }

    /// Makes every file of a hub: its domain authority, the federation leaf under it, the XMPP, HTTP and gRPC leaves under the mesh
    /// authority, token key and envelope key. The directory must exist.
    ///
    /// # Errors
    /// When a file exists and `overwrite` refuses (nothing is written then), or cannot be written.
    pub fn create(&self, mesh: &Authority, names: &HubNames<'_>, overwrite: Overwrite) -> Result<(), CertError> {
        let domain = Authority::create(names.domain)?;
        let first_host = names.hosts.first().copied().unwrap_or(names.domain);
        let with_hosts = |leaf: Leaf| names.hosts.iter().try_fold(leaf, |leaf, host| leaf.also(host));
        let leaves = [
            ("federation", domain.issue(&Leaf::federation(names.domain, names.node, first_host)?)?),
            ("xmpp", mesh.issue(&Leaf::xmpp(names.domain)?)?),
            ("http", mesh.issue(&with_hosts(Leaf::server(names.domain)?)?)?),
            ("grpc", mesh.issue(&with_hosts(Leaf::server(names.domain)?)?)?),
        ];
        let (token, envelope) = (create_signing_key()?, create_signing_key()?);
        if overwrite == Overwrite::Refuse {
            self.refuse_existing()?;
        }
        write_public("domain authority", &self.domain_authority(), domain.certificate_pem().as_bytes(), overwrite)?;
        write_private("domain authority key", &self.domain_authority_key(), domain.key_pem().as_bytes(), overwrite)?;
        for (name, issued) in &leaves {
            self.write_leaf(name, issued, overwrite)?;
        }
        write_private("token key", &self.token_key(), token.as_bytes(), overwrite)?;
        write_private("envelope key", &self.envelope_key(), envelope.as_bytes(), overwrite)
    }

    fn refuse_existing(&self) -> Result<(), CertError> {
        let leaves = ["federation", "xmpp", "http", "grpc"].into_iter().flat_map(|name| <[PathBuf; 2]>::from(self.leaf(name)));
        let all = [self.domain_authority(), self.domain_authority_key(), self.token_key(), self.envelope_key()].into_iter().chain(leaves);
        all.into_iter().find(|path| path.symlink_metadata().is_ok()).map_or(Ok(()), |path| {
            Err(CertError::File { setting: "certs".to_owned(), path, problem: crate::FileProblem::Exists, source: None })
        })
    }

    fn write_leaf(&self, name: &str, issued: &Issued, overwrite: Overwrite) -> Result<(), CertError> {
        let (certificate, key) = self.leaf(name);
        write_private(&format!("{name}.key"), &key, issued.key_pem.as_bytes(), overwrite)?;
        write_public(&format!("{name}.certificate"), &certificate, issued.certificate_pem.as_bytes(), overwrite)
    }

    /// Issues the federation leaf again under the existing domain authority, for instance before it expires.
    ///
    /// # Errors
    /// When the authority cannot be read or the files cannot be written.
    pub fn renew_federation(&self, names: &HubNames<'_>) -> Result<(), CertError> {
        let key = read_private("domain authority key", &self.domain_authority_key())?;
        load_chain("domain authority", &self.domain_authority())?;
        let certificate = crate::read_public("domain authority", &self.domain_authority())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| CertError::Pem("domain authority".to_owned()));
        let authority = Authority::from_pem(&text(&certificate)?, &Zeroizing::new(text(&key)?))?;
        let first_host = names.hosts.first().copied().unwrap_or(names.domain);
        let issued = authority.issue(&Leaf::federation(names.domain, names.node, first_host)?)?;
        self.write_leaf("federation", &issued, Overwrite::Replace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileProblem, load_key, load_pair};

    #[test]
    fn a_hub_gets_every_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let paths = HubPaths::new(dir.path());
        let mesh = Authority::create("mesh").unwrap();
        let names = HubNames { domain: "hub-a.example", node: "a", hosts: &["localhost", "127.0.0.1"] };
        paths.create(&mesh, &names, Overwrite::Refuse).unwrap();
        for name in ["federation", "xmpp", "http", "grpc"] {
            let (certificate, key) = paths.leaf(name);
            load_pair(name, &certificate, &key).unwrap();
        }
        load_key("token", &paths.token_key()).unwrap();
        load_key("envelope", &paths.envelope_key()).unwrap();
        let before = std::fs::read(paths.envelope_key()).unwrap();
        std::fs::remove_file(paths.domain_authority()).unwrap();
        let error = paths.create(&mesh, &names, Overwrite::Refuse).unwrap_err();
        assert_eq!(error.file_problem(), Some(FileProblem::Exists));
        assert!(!paths.domain_authority().exists(), "nothing is written when one file is in the way");
        assert_eq!(std::fs::read(paths.envelope_key()).unwrap(), before);
    }

    #[test]
    fn a_renewed_leaf_is_new_and_stays_under_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let paths = HubPaths::new(dir.path());
        let names = HubNames { domain: "hub-a.example", node: "a", hosts: &[] };
        paths.create(&Authority::create("mesh").unwrap(), &names, Overwrite::Refuse).unwrap();
        let (certificate, key) = paths.leaf("federation");
        let before = crate::inspect_file("federation", &certificate).unwrap().remove(0);
        paths.renew_federation(&names).unwrap();
        load_pair("federation", &certificate, &key).unwrap();
        let after = crate::inspect_file("federation", &certificate).unwrap().remove(0);
        assert_ne!(before.fingerprint, after.fingerprint);
        assert_eq!(before.issuer, after.issuer);
    }
}
