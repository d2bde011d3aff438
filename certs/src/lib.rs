//! Certificates of a mesh: authorities, leaves, and the files that hold them.
//!
//! Two kinds of authority exist. A *domain authority* signs federation leaves and is published in its hub's trust document; a
//! peer believes it for that one domain. A *mesh authority* signs what the machines of one operator show each other and their
//! users (XMPP, HTTP, gRPC). All keys are ECDSA P-256 in PKCS#8: the one form that every XMPP server of the test matrix takes.
//!
//! Knows no network and no configuration. Key files are written with mode 0600 and refused when others can read them.
//!
//! ```
//! use aiox_certs::{Authority, Leaf};
//! let authority = Authority::create("hub-a.example")?;
//! let issued = authority.issue(&Leaf::federation("hub-a.example", "a", "hub-a.example")?)?;
//! let info = aiox_certs::inspect_pem("federation.certificate", issued.certificate_pem.as_bytes())?;
//! assert!(info[0].names.contains(&"URI:spiffe://hub-a.example/node/a".to_owned()));
//! # Ok::<(), aiox_certs::CertError>(())
//! ```
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod authority;
mod error;
mod files;
mod hub;
mod inspect;
mod leaf;

pub use authority::{Authority, Issued};
pub use error::{CertError, FileProblem};
pub use files::{
    Overwrite, Pair, Pem, check_public_half, load_chain, load_key, load_pair, read_private, read_public, write_private, write_public,
};
pub use hub::{HubNames, HubPaths, create_signing_key};
pub use inspect::{CertificateInfo, inspect_der, inspect_file, inspect_pem};
pub use leaf::Leaf;
