//! What senders' devices can do, asked once per device by disco#info.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use xmpp_parsers::{jid::Jid, minidom::Element, ns};

/// Devices that are remembered. At the bound all are forgotten and asked again when they write.
const MAX_DEVICES: usize = 20_000;
/// How long an answer counts. Resources live shorter than that.
const FRESH: Duration = Duration::from_secs(6 * 3600);

/// What a device told about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// XEP-0308: it shows corrections in place.
    pub(crate) corrections: bool,
    /// It is a service that answers by itself. Not every `client/bot` is: libraries say that of any client that says nothing.
    pub(crate) service: bool,
}

#[derive(Debug)]
struct Device {
    asked: Instant,
    query: String,
    told: Option<Features>,
}

/// All known devices, by full JID.
#[derive(Debug, Default)]
pub(crate) struct Clients(HashMap<Jid, Device>);

impl Clients {
    /// What is known of a device.
    pub(crate) fn features(&self, device: &Jid) -> Features {
        self.0.get(device).and_then(|device| device.told).unwrap_or_default()
    }

    /// Whether the device shows corrections, or may yet tell that it does.
    pub(crate) fn may_correct(&self, device: &Jid) -> bool {
        self.0.get(device).is_some_and(|device| device.told.is_none_or(|told| told.corrections))
    }

    /// The id of the query to send to this device now, if it is to be asked.
    pub(crate) fn ask(&mut self, device: &Jid, now: Instant) -> Option<String> {
        if device.resource().is_none() || self.0.get(device).is_some_and(|known| now.saturating_duration_since(known.asked) < FRESH) {
            return None;
        }
        if self.0.len() >= MAX_DEVICES {
            self.0.clear();
        }
        let query = crate::stanza::fresh_id();
        self.0.insert(device.clone(), Device { asked: now, query: query.clone(), told: None });
        Some(query)
    }

    /// Takes an IQ result. Only the device that was asked can answer, and only with the id it was asked with.
    pub(crate) fn answered(&mut self, from: &Jid, id: &str, result: &Element) {
        let Some(device) = self.0.get_mut(from).filter(|device| device.query == id) else { return };
        let Some(info) = result.get_child("query", ns::DISCO_INFO) else { return };
        let service = |identity: &Element| matches!(identity.attr::<str>("category"), Some("component" | "automation" | "gateway"));
        device.told = Some(Features {
            corrections: info.children().any(|f| f.name() == "feature" && f.attr::<str>("var") == Some(ns::MESSAGE_CORRECT)),
            service: info.children().any(|child| child.name() == "identity" && service(child)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(children: &str) -> Element {
        format!("<iq xmlns='jabber:component:accept'><query xmlns='{}'>{children}</query></iq>", ns::DISCO_INFO).parse().unwrap()
    }

    #[test]
    fn a_device_is_asked_once_and_only_its_own_answer_counts() {
        let (mut clients, now) = (Clients::default(), Instant::now());
        let device = Jid::new("u@a.example/dino").unwrap();
        let other = Jid::new("v@a.example/dino").unwrap();
        let query = clients.ask(&device, now).unwrap();
        assert_eq!(clients.ask(&device, now), None);
        let answer = result(
            "<identity category='client' type='bot'/><identity category='automation' type='x'/><feature var='urn:xmpp:message-correct:0'/>",
        );
        clients.answered(&other, &query, &answer);
        clients.answered(&device, "guess", &answer);
        assert_eq!(clients.features(&device), Features::default());
        clients.answered(&device, &query, &answer);
        assert_eq!(clients.features(&device), Features { corrections: true, service: true });
        assert!(clients.ask(&device, now + FRESH).is_some());
    }

    #[test]
    fn a_bare_address_is_no_device() {
        assert_eq!(Clients::default().ask(&Jid::new("u@a.example").unwrap(), Instant::now()), None);
    }
}
