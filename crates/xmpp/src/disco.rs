//! What agents and the component say about themselves: XEP-0030, XEP-0115, XEP-0092, XEP-0054.

use xmpp_parsers::{
    caps::{Caps, compute_disco, hash_caps},
    disco::{DiscoInfoResult, Identity},
    hashes::Algo,
    minidom::Element,
    ns,
};

use crate::{
    incoming::{NS_CHAT_MARKERS, NS_REPLY, NS_RETRACT},
    stanza,
};

pub(crate) const NS_COMMANDS: &str = "http://jabber.org/protocol/commands";
const CAPS_NODE: &str = "https://aiox.example/caps";
const NS_VCARD_UPDATE: &str = "vcard-temp:x:update";

/// Name and purpose of an agent, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    pub(crate) name: String,
    pub(crate) description: String,
}

fn agent_features() -> Vec<&'static str> {
    let mut features = vec![
        ns::DISCO_INFO,
        ns::DISCO_ITEMS,
        ns::CAPS,
        ns::CHATSTATES,
        ns::RECEIPTS,
        NS_CHAT_MARKERS,
        ns::MESSAGE_CORRECT,
        ns::SID,
        ns::PING,
        ns::VERSION,
        ns::VCARD,
        NS_COMMANDS,
        NS_REPLY,
        NS_RETRACT,
    ];
    features.sort_unstable();
    features
}

fn info(category: &str, type_: &str, name: &str, features: &[&str], node: Option<&str>) -> Element {
    let mut query = Element::bare("query", ns::DISCO_INFO);
    if let Some(node) = node {
        stanza::set(&mut query, "node", node);
    }
    query.append_child(stanza::leaf("identity", ns::DISCO_INFO, &[("category", category), ("type", type_), ("name", name)]));
    for feature in features {
        query.append_child(stanza::leaf("feature", ns::DISCO_INFO, &[("var", feature)]));
    }
    query
}

/// disco#info of an agent. The node is echoed, as caps verification needs.
pub(crate) fn agent_info(face: &Face, node: Option<&str>) -> Element {
    info("client", "bot", &face.name, &agent_features(), node)
}

/// disco#info of one ad-hoc command (XEP-0050 section 2.4).
pub(crate) fn command_info(name: &str, node: &str) -> Element {
    info("automation", "command-node", name, &[NS_COMMANDS, ns::DATA_FORMS], Some(node))
}

/// disco#info of the component itself. Never `gateway`: clients would show it as a transport.
pub(crate) fn domain_info(node: Option<&str>) -> Element {
    info("component", "generic", "AIOX agents", &[ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PING, ns::VERSION], node)
}

/// disco#items: (jid, node, name) each.
pub(crate) fn items(node: Option<&str>, list: &[(String, Option<String>, String)]) -> Element {
    let mut query = Element::bare("query", ns::DISCO_ITEMS);
    if let Some(node) = node {
        stanza::set(&mut query, "node", node);
    }
    for (jid, node, name) in list {
        let mut item = stanza::leaf("item", ns::DISCO_ITEMS, &[("jid", jid), ("name", name)]);
        if let Some(node) = node {
            stanza::set(&mut item, "node", node);
        }
        query.append_child(item);
    }
    query
}

/// XEP-0115: the hash of what [`agent_info`] says.
pub(crate) fn caps(face: &Face) -> Option<Element> {
    let said = DiscoInfoResult {
        node: None,
        identities: vec![Identity { category: "client".into(), type_: "bot".into(), lang: None, name: Some(face.name.clone()) }],
        features: agent_features().into_iter().map(str::to_owned).collect(),
        extensions: Vec::new(),
    };
    let hash = hash_caps(&compute_disco(&said), Algo::Sha_1).ok()?;
    Some(Caps::new(CAPS_NODE, hash).into())
}

/// The payload of an agent's available presence.
pub(crate) fn presence_payload(face: &Face) -> Vec<Element> {
    let mut payload = Vec::new();
    if !face.description.is_empty() {
        payload.push(stanza::with_text("status", crate::link::NS_COMPONENT, &face.description));
    }
    payload.extend(caps(face));
    // An empty photo says "no avatar", so that clients do not ask again and again.
    let mut update = Element::bare("x", NS_VCARD_UPDATE);
    update.append_child(Element::bare("photo", NS_VCARD_UPDATE));
    payload.push(update);
    payload
}

/// XEP-0092.
pub(crate) fn version() -> Element {
    let mut query = Element::bare("query", ns::VERSION);
    query.append_child(stanza::with_text("name", ns::VERSION, "AIOX"));
    query.append_child(stanza::with_text("version", ns::VERSION, env!("CARGO_PKG_VERSION")));
    query
}

/// XEP-0054 of an agent.
pub(crate) fn vcard(face: &Face, address: &str) -> Element {
    let mut card = Element::bare("vCard", ns::VCARD);
    for (name, text) in [("FN", face.name.as_str()), ("NICKNAME", &face.name), ("DESC", &face.description), ("JABBERID", address)] {
        if !text.is_empty() {
            card.append_child(stanza::with_text(name, ns::VCARD, text));
        }
    }
    card
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_parsers::disco::DiscoInfoResult;

    fn face() -> Face {
        Face { name: "Helper <1>".into(), description: "Helps".into() }
    }

    #[test]
    fn the_caps_hash_is_that_of_the_answer_a_client_gets() {
        let answer = DiscoInfoResult::try_from(agent_info(&face(), Some("n#v"))).unwrap();
        let hash = hash_caps(&compute_disco(&answer), Algo::Sha_1).unwrap();
        let caps = Caps::try_from(caps(&face()).unwrap()).unwrap();
        assert_eq!(caps.ver, hash.hash);
        assert_eq!(answer.node.as_deref(), Some("n#v"));
    }

    #[test]
    fn a_vcard_carries_name_and_purpose() {
        let card = vcard(&face(), "bot@agents.a.example");
        assert_eq!(card.get_child("FN", ns::VCARD).unwrap().text(), "Helper <1>");
        assert_eq!(card.get_child("DESC", ns::VCARD).unwrap().text(), "Helps");
    }

    #[test]
    fn the_domain_is_no_gateway() {
        let identity = domain_info(None).get_child("identity", ns::DISCO_INFO).unwrap().clone();
        assert_eq!(identity.attr::<str>("category"), Some("component"));
    }
}
