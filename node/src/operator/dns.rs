//! A DNS responder for the hubs of one machine.
//!
//! XMPP servers find a peer by the SRV record `_xmpp-server._tcp.<domain>` (RFC 6120, section
//! 3.2.1). This responder answers it for the hubs it knows, and with NXDOMAIN for everything else,
//! so that hubs on one machine federate on any ports without a change to the system. The target is
//! the IP address written as a name (`127.0.0.3.`): both Prosody and ejabberd take it as numeric,
//! so that no address record is needed.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::UdpSocket;

const SRV_PREFIX: &str = "_xmpp-server._tcp.";

/// Seconds a resolver may keep an answer. Short, because a hub may come back on another port.
const TTL: u32 = 5;

/// The largest UDP message without an extension (RFC 1035, section 2.3.4). What is longer is cut.
const MAXIMUM_MESSAGE: usize = 512;

const TYPE_SRV: u16 = 33;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;

const NO_ERROR: u8 = 0;
const FORMAT_ERROR: u8 = 1;
const NAME_ERROR: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

/// The s2s listeners by domain; a clone names the same table, which may change while it is served.
#[derive(Debug, Clone, Default)]
pub struct Peers(Arc<RwLock<HashMap<String, SocketAddr>>>);

impl Peers {
    /// Sets where the server of `domain` listens for peers.
    pub fn set(&self, domain: &str, listener: SocketAddr) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(domain.to_ascii_lowercase(), listener);
    }

    fn get(&self, domain: &str) -> Option<SocketAddr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(domain).copied()
    }
}

/// A bound responder.
#[derive(Debug)]
pub struct Responder {
    socket: UdpSocket,
    peers: Peers,
}

impl Responder {
    /// Binds a UDP socket. The responder is meant for loopback addresses only and refuses others,
    /// because an open responder can be used to send answers to third parties.
    pub async fn bind(address: SocketAddr, peers: Peers) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the DNS responder serves loopback only"));
        }
        Ok(Self { socket: UdpSocket::bind(address).await?, peers })
    }

    /// Answers until the future is dropped.
    pub async fn run(self) {
        let mut buffer = [0; MAXIMUM_MESSAGE];
        loop {
            // A receive error on UDP is the ICMP answer to an earlier reply; it concerns no later question.
            let Ok((length, sender)) = self.socket.recv_from(&mut buffer).await else { continue };
            if let Some(reply) = answer(&buffer[..length], &self.peers) {
                // A lost reply is asked for again by the resolver.
                let _ = self.socket.send_to(&reply, sender).await;
            }
        }
    }
}

struct Question<'a> {
    /// Name, type and class as they came, to be repeated in the reply.
    raw: &'a [u8],
    name: String,
    kind: u16,
    class: u16,
}

/// The reply to one message, or `None` when it deserves none.
fn answer(message: &[u8], peers: &Peers) -> Option<Vec<u8>> {
    let header = message.get(..12)?;
    let is_response = header[2] & 0x80 != 0;
    if is_response {
        // Two responders must not answer each other for ever.
        return None;
    }
    if header[2] & 0x78 != 0 {
        return Some(reply(header, NOT_IMPLEMENTED, &[], None));
    }
    let question_count = u16::from_be_bytes([header[4], header[5]]);
    let Some(question) = (question_count == 1).then(|| read_question(&message[12..])).flatten() else {
        return Some(reply(header, FORMAT_ERROR, &[], None));
    };
    let listener = question.name.strip_prefix(SRV_PREFIX).and_then(|domain| peers.get(domain));
    let record = match (listener, question.class, question.kind) {
        (None, _, _) => return Some(reply(header, NAME_ERROR, question.raw, None)),
        (Some(listener), CLASS_IN, TYPE_SRV | TYPE_ANY) => Some(srv_record(listener)),
        // The name exists, but has no record of that type.
        (Some(_), _, _) => None,
    };
    Some(reply(header, NO_ERROR, question.raw, record))
}

fn read_question(body: &[u8]) -> Option<Question<'_>> {
    let mut name = String::new();
    let mut position = 0;
    loop {
        let length = usize::from(*body.get(position)?);
        position += 1;
        match length {
            0 => break,
            // Above 63 the octet is a compression pointer, which has nothing to point to in a question.
            1..=63 => {
                let label = body.get(position..position + length)?;
                position += length;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            }
            _ => return None,
        }
        // RFC 1035, section 2.3.4.
        if position > 255 {
            return None;
        }
    }
    let kind = u16::from_be_bytes(body.get(position..position + 2)?.try_into().ok()?);
    let class = u16::from_be_bytes(body.get(position + 2..position + 4)?.try_into().ok()?);
    Some(Question { raw: body.get(..position + 4)?, name, kind, class })
}

// RFC 2782: priority, weight, port, target. The owner name is a pointer to the question.
fn srv_record(listener: SocketAddr) -> Vec<u8> {
    let mut target = Vec::new();
    let literal = listener.ip().to_string();
    let labels: Vec<&str> = match listener.ip() {
        IpAddr::V4(_) => literal.split('.').collect(),
        IpAddr::V6(_) => vec![&literal],
    };
    for label in labels {
        // An address has at most 39 characters, so that a label's length always fits.
        target.push(u8::try_from(label.len()).unwrap_or_default());
        target.extend_from_slice(label.as_bytes());
    }
    target.push(0);
    let data_length = u16::try_from(6 + target.len()).unwrap_or_default();

    let mut record = vec![0xC0, 12];
    record.extend_from_slice(&TYPE_SRV.to_be_bytes());
    record.extend_from_slice(&CLASS_IN.to_be_bytes());
    record.extend_from_slice(&TTL.to_be_bytes());
    record.extend_from_slice(&data_length.to_be_bytes());
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&listener.port().to_be_bytes());
    record.extend_from_slice(&target);
    record
}

fn reply(header: &[u8], code: u8, question: &[u8], record: Option<Vec<u8>>) -> Vec<u8> {
    let recursion_desired = header[2] & 0x01;
    // A response with authority, recursion said to be available: resolvers that forward expect it.
    let mut message = vec![header[0], header[1], 0x84 | recursion_desired, 0x80 | code];
    message.extend_from_slice(&u16::from(!question.is_empty()).to_be_bytes());
    message.extend_from_slice(&u16::from(record.is_some()).to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(question);
    message.extend(record.into_iter().flatten());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xAB, 0xCD, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len().try_into().unwrap());
            message.extend_from_slice(label.as_bytes());
        }
        message.extend_from_slice(&[0]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        message
    }

    fn peers() -> Peers {
        let peers = Peers::default();
        peers.set("hub-b.example", "127.0.0.3:15269".parse().unwrap());
        peers
    }

    #[test]
    fn a_known_peer_is_answered_with_its_port_and_address() {
        let asked = question("_XMPP-server._tcp.Hub-B.example", TYPE_SRV);
        let reply = answer(&asked, &peers()).unwrap();
        assert_eq!(reply[..12], [0xAB, 0xCD, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(reply[12..asked.len()], asked[12..], "the question comes back as it was asked");
        let record = &reply[asked.len()..];
        assert_eq!(record[..12], [0xC0, 12, 0, 33, 0, 1, 0, 0, 0, 5, 0, 17]);
        assert_eq!(record[12..], [&[0, 0, 0, 0], &15269_u16.to_be_bytes()[..], b"\x03127\x010\x010\x013\0"].concat());
    }

    #[test]
    fn a_known_name_without_the_type_exists_but_is_empty() {
        let reply = answer(&question("_xmpp-server._tcp.hub-b.example", 1), &peers()).unwrap();
        assert_eq!((reply[3] & 0x0F, &reply[6..8]), (NO_ERROR, &[0, 0][..]));
    }

    #[test]
    fn other_names_do_not_exist() {
        for name in ["hub-b.example", "_xmpp-client._tcp.hub-b.example", "_xmpp-server._tcp.hub-c.example"] {
            let reply = answer(&question(name, TYPE_SRV), &peers()).unwrap();
            assert_eq!((reply[3] & 0x0F, &reply[6..8]), (NAME_ERROR, &[0, 0][..]), "{name}");
        }
    }

    #[test]
    fn responses_are_never_answered() {
        let mut message = question("_xmpp-server._tcp.hub-b.example", TYPE_SRV);
        message[2] |= 0x80;
        assert_eq!(answer(&message, &peers()), None);
    }

    #[tokio::test]
    async fn it_refuses_to_serve_the_world() {
        let refused = Responder::bind("0.0.0.0:0".parse().unwrap(), peers()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn it_still_answers_after_hostile_messages() {
        let responder = Responder::bind("127.0.0.1:0".parse().unwrap(), peers()).await.unwrap();
        let address = responder.socket.local_addr().unwrap();
        let serving = tokio::spawn(responder.run());
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let looping_name = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xC0, 12]].concat();
        for hostile in [&[][..], &[0xFF], &[0xFF; 512], &[0; 2000], &looping_name] {
            client.send_to(hostile, address).await.unwrap();
        }
        client.send_to(&question("_xmpp-server._tcp.hub-b.example", TYPE_SRV), address).await.unwrap();
        let mut buffer = [0; 512];
        loop {
            client.recv(&mut buffer).await.unwrap();
            if buffer[..2] == [0xAB, 0xCD] {
                break;
            }
        }
        assert_eq!(buffer[7], 1, "the proper question got its record");
        serving.abort();
    }

    proptest! {
        #[test]
        fn no_message_breaks_it(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(reply) = answer(&message, &peers()) {
                prop_assert!(reply.len() <= MAXIMUM_MESSAGE);
                prop_assert!(message[2] & 0x80 == 0);
            }
        }

        #[test]
        fn no_question_breaks_it(body in proptest::collection::vec(any::<u8>(), 0..500)) {
            let message = [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &body].concat();
            let reply = answer(&message, &peers()).unwrap();
            prop_assert!(reply.len() <= MAXIMUM_MESSAGE);
        }
    }
}
