//! FED-009 to FED-013: TLS of the peer listener, and certificates on both sides.

use std::sync::atomic::Ordering;

use reqwest::Method;
use serde_json::json;

use super::{CALLED, CAPABILITIES};
use crate::{
    case::{Outcome, Stop, ensure},
    peer::{
        Peer, ids,
        link::{self, Ask, Dial},
        pki::{Authority, Leaf, Plan},
    },
    scene::Scene,
};

/// Fails when a request over such a connection is answered.
async fn unanswered(scene: &Scene, peer: &Peer, what: &str, dial: &Dial<'_>, thumbprint: &str) -> Outcome {
    let Ok(link) = link::dial(dial).await else { return Ok(()) };
    let token = peer.token("hello").claim("cnf", json!({ "x5t#S256": thumbprint })).sign()?;
    match link.ask(scene, Ask::get(CAPABILITIES, &token)).await {
        Err(_) => Ok(()),
        Ok(answer) => Err(Stop::Failed(format!("{what}: a request was answered by {}", answer.status))),
    }
}

pub(super) async fn version_and_protocol(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let own = peer.leaf.thumbprint();
    let http1: &[&[u8]] = &[b"http/1.1"];
    for (what, dial) in [
        ("TLS 1.2", Dial { old: true, ..peer.dial() }),
        ("no client certificate", Dial { leaf: None, ..peer.dial() }),
        ("no ALPN", Dial { alpn: &[], ..peer.dial() }),
        ("ALPN http/1.1", Dial { alpn: http1, ..peer.dial() }),
    ] {
        unanswered(&scene, &peer, what, &dial, &own).await?;
    }
    let link = peer.link().await?;
    peer.get(&link, CAPABILITIES, "hello").await?.expect(200)
}

pub(super) async fn nothing_is_resumed(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let link = peer.link().await?;
    // Tickets come behind the handshake: two answers later they would be here.
    for _ in 0..2 {
        peer.get(&link, CAPABILITIES, "hello").await?.expect(200)?;
    }
    let (tickets, hints) = (link.shown.tickets.load(Ordering::Relaxed), link.shown.hints.load(Ordering::Relaxed));
    ensure!(tickets == 0, "the peer listener sent {tickets} session tickets");
    ensure!(hints == 0, "the peer listener names {hints} authorities in CertificateRequest");
    Ok(())
}

pub(super) async fn certificates_of_clients(scene: Scene) -> Outcome {
    let (peer, other) = (Peer::active(&scene).await?, Peer::active(&scene).await?);
    let good = Plan::of(&peer.node);
    let stranger = Authority::new(&peer.domain)?;
    let leaf = |plan: Plan| peer.authority.leaf(&plan);
    let bad: Vec<(&str, Leaf)> = vec![
        ("two URI names", leaf(Plan { uris: vec![peer.node.clone(), format!("spiffe://{}/node/n2", peer.domain)], ..good.clone() })?),
        ("the same URI name twice", leaf(Plan { uris: vec![peer.node.clone(), peer.node.clone()], ..good.clone() })?),
        ("no URI name", leaf(Plan { uris: Vec::new(), dns: vec![peer.domain.clone()], ..good.clone() })?),
        ("a node that the document does not list", leaf(Plan::of(&format!("spiffe://{}/node/n2", peer.domain)))?),
        ("the id of an agent", leaf(Plan::of(&format!("spiffe://{}/agent/n1", peer.domain)))?),
        ("a node of another active peer", leaf(Plan::of(&other.node))?),
        ("another active peer's authority", other.authority.leaf(&good)?),
        ("an authority that nobody knows", stranger.leaf(&good)?),
        ("times that are over", leaf(Plan { over: true, ..good.clone() })?),
        ("no clientAuth", leaf(Plan { client: false, ..good.clone() })?),
    ];
    for (what, leaf) in &bad {
        let dial = Dial { leaf: Some(leaf), ..peer.dial() };
        unanswered(&scene, &peer, what, &dial, &leaf.thumbprint()).await?;
    }
    let link = peer.link().await?;
    let forwarded = format!("By={};URI={}", peer.hub.node, other.node);
    let headers = [
        ("x-forwarded-client-cert", forwarded.as_str()),
        ("x-client-cert", other.node.as_str()),
        ("forwarded", "for=192.0.2.1;host=hub-z.example"),
    ];
    let body = |node: &str| json!({ "node": node, "time": ids::now(), "profiles": ["aiox-federation/1"] });
    let own = Ask { headers: &headers, ..Ask::post("/fed/v1/hello", &peer.token("hello").sign()?, &body(&peer.node)) };
    link.answer(&scene, own).await?.expect(200)?;
    let foreign = Ask { headers: &headers, ..Ask::post("/fed/v1/hello", &peer.token("hello").sign()?, &body(&other.node)) };
    link.answer(&scene, foreign).await?.expect(400)?;
    let token = other.token("hello").claim("cnf", json!({ "x5t#S256": peer.leaf.thumbprint() })).sign()?;
    let foreign = Ask { headers: &headers, ..Ask::get(CAPABILITIES, &token) };
    link.answer(&scene, foreign).await?.expect(401)
}

pub(super) async fn certificates_of_servers(scene: Scene) -> Outcome {
    let stranger = Authority::new("stranger")?;
    let names = |node: &str, domain: &str| Plan { dns: vec!["localhost".into(), domain.to_owned()], ..Plan::of(node) };
    let another_node = |domain: &str, _: &str| names(&format!("spiffe://{domain}/node/n2"), domain);
    let no_node = |domain: &str, node: &str| Plan { uris: Vec::new(), ..names(node, domain) };
    let same_node = |domain: &str, node: &str| names(node, domain);
    for (what, peer) in [
        ("another node", Peer::with_server(&scene, another_node, None).await?),
        ("no node", Peer::with_server(&scene, no_node, None).await?),
        ("another authority", Peer::with_server(&scene, same_node, Some(&stranger)).await?),
    ] {
        peer.activate().await?;
        peer.door
            .until("a handshake of the target, given up or not", CALLED, |door| {
                (door.failed_handshakes() > 0 || !door.seen().is_empty()).then_some(())
            })
            .await?;
        let seen = peer.door.seen();
        ensure!(seen.is_empty(), "a server whose certificate has {what} was asked {} {}, token and all", seen[0].method, seen[0].path);
    }
    let peer = Peer::with_server(&scene, same_node, None).await?;
    peer.activate().await?;
    peer.door.until("a request to a server with the right certificate", CALLED, |door| door.seen().first().map(drop)).await
}

pub(super) async fn two_listeners(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let link = peer.link().await?;
    for path in ["/v1/agents", "/v1/health", "/api/v1/me", "/api/v1/agents", "/health", "/metrics", crate::peer::DOCUMENT, "/"] {
        peer.get(&link, path, "hello").await?.expect(404)?;
    }
    for (method, path) in [
        (Method::POST, "/fed/v1/hello"),
        (Method::GET, CAPABILITIES),
        (Method::POST, "/fed/v1/envelopes"),
        (Method::GET, "/fed/v1/directory"),
        (Method::GET, "/fed/v1/conversations"),
    ] {
        scene.call(method, path).bearer(&peer.token("hello").sign()?).json(&json!({})).send().await?.expect(404)?;
    }
    Ok(())
}
