//! Peers without a trust document: plain nodes of the `/v1` contract, which an operator has let in without mutual TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Why a base URL is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an http or https URL of a host, without credentials, query and fragment, and not of an address that no hub can have")]
pub struct BaseUrlError;

/// A base URL that an operator has written down. Addresses of metadata services (link-local), unspecified ones and those of many hosts are
/// refused in every form that they can be written in.
///
/// # Errors
/// When it is not allowed.
pub fn base_url(text: &str) -> Result<Url, BaseUrlError> {
    let url = Url::parse(text).map_err(|_| BaseUrlError)?;
    let host = match url.host().ok_or(BaseUrlError)? {
        Host::Domain(name) => !name.is_empty() && name != "metadata.google.internal",
        Host::Ipv4(ip) => may_be_a_hub(IpAddr::V4(ip)),
        Host::Ipv6(ip) => may_be_a_hub(IpAddr::V6(ip)),
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if matches!(url.scheme(), "http" | "https") && host && plain { Ok(url) } else { Err(BaseUrlError) }
}

/// Whether a hub can be at an address.
pub(crate) fn may_be_a_hub(ip: IpAddr) -> bool {
    let v4 = |ip: Ipv4Addr| !(ip.is_unspecified() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0);
    match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(inner) => v4(inner),
            None => !(ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast()),
        },
    }
}

/// The IPv4 address inside a mapped or translated one (RFC 4291 section 2.5.5.2, RFC 6052 section 2.1).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let translated = ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let [.., a, b, c, d] = ip.octets();
    ip.to_ipv4_mapped().or_else(|| translated.then(|| Ipv4Addr::new(a, b, c, d)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_that_a_hub_can_have_are_used() {
        for good in ["http://127.0.0.1:8081", "https://hub-b.example/base/", "http://node-b:8081", "http://[::1]:8081", "http://10.0.0.7"] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in [
            "node-b:8081",
            "ftp://node-b",
            "file:///etc/passwd",
            "gopher://node-b",
            "http://user:secret@node-b",
            "http://node-b/?a=b",
            "http://node-b/#a",
            "http://0.0.0.0",
            "http://0/",
            "http://169.254.169.254/latest",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://[::]",
            "http://[fe80::1]",
            "http://[::ffff:169.254.169.254]",
            "http://[64:ff9b::a9fe:a9fe]",
            "http://224.0.0.1",
            "http://255.255.255.255",
            "http://metadata.google.internal/",
        ] {
            assert_eq!(base_url(bad), Err(BaseUrlError), "{bad}");
        }
    }
}
