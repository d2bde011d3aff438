//! Whose request it is, as a network address: the socket's, unless a configured proxy says otherwise.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use http::HeaderMap;

/// Addresses that share a prefix, for instance `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkError;
impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address or a network such as 10.0.0.0/8")
    }
}
impl std::error::Error for NetworkError {}

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| NetworkError)?)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        if prefix > most { Err(NetworkError) } else { Ok(Self { address, prefix }) }
    }
}

impl Network {
    fn contains(&self, other: IpAddr) -> bool {
        let (mine, theirs, width) = match (self.address, other.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(theirs)) => (u128::from(mine.to_bits()), u128::from(theirs.to_bits()), 32),
            (IpAddr::V6(mine), IpAddr::V6(theirs)) => (mine.to_bits(), theirs.to_bits(), 128),
            _ => return false,
        };
        let shift = width - u32::from(self.prefix);
        mine.checked_shr(shift).unwrap_or(0) == theirs.checked_shr(shift).unwrap_or(0)
    }
}

/// The client's address. `X-Forwarded-For` is read from its end, and only as far as each hop is a trusted proxy: whatever a client
/// wrote into it itself stands before the first address that a proxy of ours added.
pub(crate) fn client(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = peer?.to_canonical();
    let values: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    for hop in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        if !is_trusted(address) {
            break;
        }
        let Ok(next) = hop.trim().parse::<IpAddr>() else { break };
        address = next.to_canonical();
    }
    Some(address)
}

/// What counts as one client for limits: an IPv4 address, or a /64, which is what one IPv6 site gets.
pub(crate) fn limit_key(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).to_string(),
        None => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| ("x-forwarded-for".parse().unwrap(), value.parse().unwrap())).collect()
    }
    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn forwarded_addresses_count_only_behind_trusted_proxies() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let of = |peer: &str, values: &[&str]| client(Some(ip(peer)), &headers(values), &trusted).unwrap();
        assert_eq!(of("198.51.100.7", &["203.0.113.1"]), ip("198.51.100.7"));
        assert_eq!(of("10.1.2.3", &["203.0.113.1"]), ip("203.0.113.1"));
        assert_eq!(of("10.1.2.3", &["6.6.6.6, 203.0.113.1, 10.9.9.9"]), ip("203.0.113.1"));
        assert_eq!(of("10.1.2.3", &["6.6.6.6", "203.0.113.1"]), ip("203.0.113.1"));
        assert_eq!(of("::ffff:10.1.2.3", &["2001:db8::1"]), ip("2001:db8::1"));
        assert_eq!(of("::1", &["nonsense, 10.9.9.9"]), ip("10.9.9.9"));
        assert_eq!(of("::1", &[]), ip("::1"));
    }

    #[test]
    fn networks_are_read_and_nonsense_is_refused() {
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(ip("1.2.3.4")) && !all.contains(ip("::2")));
        let all: Network = "::/0".parse().unwrap();
        assert!(all.contains(ip("2001:db8::1")));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::1/129", "a", "1.2.3.4/", "1.2.3.4/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_ipv6_site_is_one_client() {
        assert_eq!(limit_key(Some(ip("2001:db8::1"))), limit_key(Some(ip("2001:db8::ffff:2"))));
        assert_ne!(limit_key(Some(ip("2001:db8::1"))), limit_key(Some(ip("2001:db8:0:1::1"))));
    }
}
