//! What agents and the component say about themselves: XEP-0030, XEP-0115, XEP-0092, XEP-0054 with XEP-0153, XEP-0292, XEP-0084.

use aiox_model::agent::AgentCard;
use uuid::Uuid;
use xmpp_parsers::{
    caps::{Caps, compute_disco, hash_caps},
    disco::{DiscoInfoResult, Identity},
    hashes::Algo,
    minidom::Element,
    ns,
};

use crate::{
    incoming::{NS_CHAT_MARKERS, NS_REPLY, NS_RETRACT},
    picture::Picture,
    stanza,
};

pub(crate) const NS_COMMANDS: &str = "http://jabber.org/protocol/commands";
const CAPS_NODE: &str = "https://aiox.example/caps";
const NS_VCARD_UPDATE: &str = "vcard-temp:x:update";
pub(crate) const NS_VCARD4: &str = "urn:ietf:params:xml:ns:vcard-4.0";
/// PEP node of a vCard4 (XEP-0292 section 3).
const NODE_VCARD4: &str = "urn:xmpp:vcard4";

/// Name, purpose and picture of an agent, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) description: String,
}

impl Face {
    pub(crate) fn of(card: &AgentCard) -> Self {
        Self { id: card.id, name: card.name.clone(), description: card.description.clone() }
    }
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
        NS_VCARD4,
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
        payload.push(stanza::with_text("status", crate::stanza::NS_COMPONENT, &face.description));
    }
    payload.extend(caps(face));
    // XEP-0153: clients fetch the vCard when they do not have this picture yet.
    let mut update = Element::bare("x", NS_VCARD_UPDATE);
    update.append_child(stanza::with_text("photo", NS_VCARD_UPDATE, &Picture::of(face.id).sha1()));
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
    let mut photo = Element::bare("PHOTO", ns::VCARD);
    photo.append_child(stanza::with_text("TYPE", ns::VCARD, Picture::TYPE));
    photo.append_child(stanza::with_text("BINVAL", ns::VCARD, &Picture::of(face.id).base64()));
    card.append_child(photo);
    card
}

/// XEP-0292 of an agent.
pub(crate) fn vcard4(face: &Face, address: &str) -> Element {
    let mut card = Element::bare("vcard", NS_VCARD4);
    let uri = format!("xmpp:{address}");
    let picture = format!("data:{};base64,{}", Picture::TYPE, Picture::of(face.id).base64());
    // RFC 6473: a thing that is a program.
    for (property, kind, value) in [
        ("kind", "text", "application"),
        ("fn", "text", face.name.as_str()),
        ("note", "text", &face.description),
        ("impp", "uri", &uri),
        ("photo", "uri", &picture),
    ] {
        if !value.is_empty() {
            let mut element = Element::bare(property, NS_VCARD4);
            element.append_child(stanza::with_text(kind, NS_VCARD4, value));
            card.append_child(element);
        }
    }
    card
}

/// What an agent publishes (XEP-0163): its picture (XEP-0084) and its vCard4. `None`: it has no such node, or not the wanted item.
pub(crate) fn published(face: &Face, address: &str, request: &Element) -> Option<Element> {
    let asked = request.get_child("items", ns::PUBSUB)?;
    let node = asked.attr::<str>("node")?;
    let picture = Picture::of(face.id);
    let (id, payload) = match node {
        ns::AVATAR_METADATA => {
            let (bytes, side, id) = (picture.png().len().to_string(), Picture::SIDE.to_string(), picture.sha1());
            let facts = [("bytes", bytes.as_str()), ("id", &id), ("type", Picture::TYPE), ("width", &side), ("height", &side)];
            let mut metadata = Element::bare("metadata", ns::AVATAR_METADATA);
            metadata.append_child(stanza::leaf("info", ns::AVATAR_METADATA, &facts));
            (id, metadata)
        }
        ns::AVATAR_DATA => (picture.sha1(), stanza::with_text("data", ns::AVATAR_DATA, &picture.base64())),
        NODE_VCARD4 => ("current".to_owned(), vcard4(face, address)),
        _ => return None,
    };
    let mut wanted = asked.children().filter(|child| child.is("item", ns::PUBSUB)).peekable();
    if wanted.peek().is_some() && !wanted.any(|item| item.attr::<str>("id") == Some(id.as_str())) {
        return None;
    }
    let mut item = stanza::leaf("item", ns::PUBSUB, &[("id", &id)]);
    item.append_child(payload);
    let mut items = stanza::leaf("items", ns::PUBSUB, &[("node", node)]);
    items.append_child(item);
    let mut answer = Element::bare("pubsub", ns::PUBSUB);
    answer.append_child(items);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_parsers::disco::DiscoInfoResult;

    fn face() -> Face {
        Face { id: Uuid::from_u128(7), name: "Helper <1>".into(), description: "Helps".into() }
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
    fn every_way_to_the_picture_leads_to_the_same_one() {
        let face = face();
        let sha1 = Picture::of(face.id).sha1();
        let base64 = Picture::of(face.id).base64();
        let presence = presence_payload(&face);
        let update = presence.iter().find(|payload| payload.is("x", NS_VCARD_UPDATE)).unwrap();
        assert_eq!(update.get_child("photo", NS_VCARD_UPDATE).unwrap().text(), sha1);
        let photo = vcard(&face, "bot@agents.a.example").get_child("PHOTO", ns::VCARD).unwrap().clone();
        assert_eq!(photo.get_child("BINVAL", ns::VCARD).unwrap().text(), base64);
        let ask = |node: &str, item: &str| {
            let request: Element = format!("<pubsub xmlns='{}'><items node='{node}'>{item}</items></pubsub>", ns::PUBSUB).parse().unwrap();
            published(&face, "bot@agents.a.example", &request)
                .map(|answer| answer.get_child("items", ns::PUBSUB).unwrap().get_child("item", ns::PUBSUB).unwrap().clone())
        };
        let metadata = ask(ns::AVATAR_METADATA, "").unwrap();
        let metadata = xmpp_parsers::avatar::Metadata::try_from(metadata.children().next().unwrap().clone()).unwrap();
        assert_eq!((metadata.infos[0].id.to_hex(), metadata.infos[0].bytes as usize), (sha1.clone(), Picture::of(face.id).png().len()));
        let data = ask(ns::AVATAR_DATA, &format!("<item id='{sha1}'/>")).unwrap();
        assert_eq!(data.children().next().unwrap().text(), base64);
        assert!(ask(ns::AVATAR_DATA, "<item id='other'/>").is_none() && ask("urn:xmpp:omemo:2:devices", "").is_none());
        let card = ask(NODE_VCARD4, "").unwrap().children().next().unwrap().clone();
        assert_eq!(card.get_child("fn", NS_VCARD4).unwrap().children().next().unwrap().text(), "Helper <1>");
    }

    #[test]
    fn the_domain_is_no_gateway() {
        let identity = domain_info(None).get_child("identity", ns::DISCO_INFO).unwrap().clone();
        assert_eq!(identity.attr::<str>("category"), Some("component"));
    }
}
