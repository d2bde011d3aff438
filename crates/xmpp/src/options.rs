//! What the door needs to know.

use std::{net::SocketAddr, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use xmpp_parsers::jid::DomainPart;

use crate::{Brakes, link::LinkOptions};

/// Settings of the door. The component's domain is not among them: it follows from the hub's domain, as the agents' addresses do,
/// so the two cannot differ.
#[derive(Debug, Clone)]
pub struct XmppOptions {
    /// The hub's domain, which is the XMPP server's too: `hub-a.example`.
    pub domain: String,
    /// Where the server listens for components: `host:port`, loopback only, because XEP-0114 is clear text.
    pub address: String,
    /// The secret shared with the server for this component.
    pub secret: SecretString,
    /// Stanzas handled at the same time. Those of one sender to one agent keep their order all the same.
    pub max_concurrent_stanzas: usize,
    /// How much one sender may send to one agent.
    pub brakes: Brakes,
    /// Wait before the first new attempt after the link was lost; each further one doubles it.
    pub first_retry: Duration,
    /// Longest wait between two attempts.
    pub last_retry: Duration,
    /// Time for connecting, and again for the handshake.
    pub open_timeout: Duration,
    /// Silence after which the server is pinged.
    pub ping_after: Duration,
    /// Time for the answer to that ping, and for any write, until the link counts as dead.
    pub dead_after: Duration,
}

impl XmppOptions {
    /// Settings with defaults for everything that has one.
    #[must_use]
    pub fn new(domain: &str, address: &str, secret: SecretString) -> Self {
        Self {
            domain: domain.to_lowercase(),
            address: address.to_owned(),
            secret,
            max_concurrent_stanzas: 256,
            brakes: Brakes::default(),
            first_retry: Duration::from_millis(200),
            last_retry: Duration::from_secs(30),
            open_timeout: Duration::from_secs(5),
            ping_after: Duration::from_secs(10),
            dead_after: Duration::from_secs(15),
        }
    }

    /// Checks what can be checked without a connection. Host names are checked when they are resolved.
    pub(crate) fn link(&self, component: &str) -> Result<LinkOptions, OptionsError> {
        if DomainPart::new(&self.domain).is_err() || DomainPart::new(component).is_err() || self.domain.is_empty() {
            return Err(OptionsError::Domain);
        }
        match self.address.parse::<SocketAddr>() {
            Ok(address) if !address.ip().is_loopback() => return Err(OptionsError::NotLoopback),
            Ok(_) => {}
            Err(_) if self.address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) => {}
            Err(_) => return Err(OptionsError::Address),
        }
        if self.secret.expose_secret().is_empty() {
            return Err(OptionsError::Secret);
        }
        Ok(LinkOptions {
            address: self.address.clone(),
            domain: component.to_owned(),
            server_domain: self.domain.clone(),
            secret: self.secret.clone(),
            first_retry: self.first_retry,
            last_retry: self.last_retry,
            open_timeout: self.open_timeout,
            ping_after: self.ping_after,
            dead_after: self.dead_after,
        })
    }
}

/// Settings with which the door does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The domain cannot be one.
    #[error("the domain is not a domain name")]
    Domain,
    /// Not `host:port`.
    #[error("the component address must be host:port")]
    Address,
    /// The link is clear text.
    #[error("the component address must be loopback: the link is clear text")]
    NotLoopback,
    /// Empty.
    #[error("the component secret is empty")]
    Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(domain: &str, address: &str, secret: &str) -> Result<(), OptionsError> {
        XmppOptions::new(domain, address, secret.to_owned().into()).link(&format!("agents.{domain}")).map(drop)
    }

    #[test]
    fn clear_text_links_to_other_hosts_and_nonsense_are_refused() {
        assert_eq!(check("hub-a.example", "127.0.0.1:5347", "s"), Ok(()));
        assert_eq!(check("hub-a.example", "[::1]:5347", "s"), Ok(()));
        assert_eq!(check("hub-a.example", "localhost:5347", "s"), Ok(()));
        assert_eq!(check("hub-a.example", "10.0.0.1:5347", "s"), Err(OptionsError::NotLoopback));
        assert_eq!(check("hub-a.example", "localhost", "s"), Err(OptionsError::Address));
        assert_eq!(check("hub a@", "127.0.0.1:1", "s"), Err(OptionsError::Domain));
        assert_eq!(check("hub-a.example", "127.0.0.1:5347", ""), Err(OptionsError::Secret));
    }
}
