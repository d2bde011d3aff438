//! FED-001 to FED-008: trust documents, and the life of a peer.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{CALLED, waiting_mesh_agent};
use crate::{
    case::{Outcome, Stop, ensure},
    cases::chat,
    peer::{
        DOCUMENT, PEERS, Peer,
        door::Say,
        ids,
        jose::{self, TRUST},
        lacking, link,
        link::Ask,
        with,
    },
    scene::Scene,
};

async fn document(scene: &Scene) -> Result<Value, Stop> {
    let answer = scene.call(Method::GET, DOCUMENT).send().await?;
    answer.expect(200)?;
    Ok(answer.json)
}

pub(super) async fn the_document(scene: Scene) -> Outcome {
    let answer = scene.call(Method::GET, DOCUMENT).send().await?;
    answer.expect(200)?;
    ensure!(
        answer.header("content-type").starts_with("application/json"),
        "{}: the content type is `{}`",
        answer.what,
        answer.header("content-type")
    );
    let wanted =
        ["domain", "nodes", "roots", "token_keys", "envelope_keys", "sequence", "refresh_hint", "not_after", "profiles", "signature"];
    answer.members("", &wanted, None)?;
    ensure!(answer.list("/profiles")?.contains(&json!("aiox-federation/1")), "{}: `profiles` is {}", answer.what, answer.at("/profiles"));
    ensure!(!answer.list("/nodes")?.is_empty(), "{}: no nodes", answer.what);
    let domain = answer.some_text("/domain")?;
    for node in answer.list("/nodes")? {
        let id = node["id"].as_str().unwrap_or_default();
        ensure!(id.starts_with(&format!("spiffe://{domain}/node/")), "{}: the node id `{id}` is none of {domain}", answer.what);
        ensure!(
            node["endpoint"].as_str().is_some_and(|url| url.starts_with("https://")),
            "{}: the endpoint is {}",
            answer.what,
            node["endpoint"]
        );
    }
    for key in answer.list("/token_keys")?.iter().chain(answer.list("/envelope_keys")?) {
        ensure!(
            ["d", "p", "q", "k", "dp", "dq", "qi"].iter().all(|name| key.get(name).is_none()),
            "{}: a private key is published",
            answer.what
        );
    }
    ensure!(!String::from_utf8_lossy(&answer.bytes).contains("PRIVATE KEY"), "{}: a private key is published", answer.what);
    Ok(())
}

pub(super) async fn the_signature_of_the_document(scene: Scene) -> Outcome {
    let document = document(&scene).await?;
    jose::document_holds(&document).map_err(|problem| Stop::Failed(format!("the trust document: {problem}")))
}

pub(super) async fn times_of_the_document(scene: Scene) -> Outcome {
    let (first, second) = (document(&scene).await?, document(&scene).await?);
    let now = ids::seconds();
    let text = first["not_after"].as_str().unwrap_or_default();
    let not_after = ids::parse(text).ok_or_else(|| Stop::Failed(format!("`not_after` is {text}")))?;
    ensure!(not_after > now && not_after <= now + 7 * 86_400 + 60, "`not_after` is {text}, {} s from now", not_after - now);
    let (Some(before), Some(after)) = (first["sequence"].as_u64(), second["sequence"].as_u64()) else {
        return Err(Stop::Failed(format!("`sequence` is {} and {}", first["sequence"], second["sequence"])));
    };
    ensure!(after >= before, "the sequence went back from {before} to {after}");
    let same = lacking(&first, "signature") == lacking(&second, "signature");
    ensure!(after > before || same, "two documents of the sequence {before} differ: {first} and {second}");
    Ok(())
}

/// Fails when a connection of this peer gets an answer.
async fn shut_out(scene: &Scene, peer: &Peer, why: &str) -> Outcome {
    let Ok(open) = link::dial(&peer.dial()).await else { return Ok(()) };
    match open.ask(scene, Ask::get("/fed/v1/capabilities", &peer.token("hello").sign()?)).await {
        Err(_) => Ok(()),
        Ok(answer) => Err(Stop::Failed(format!("{why}: the peer got an answer with the status {}", answer.status))),
    }
}

pub(super) async fn nobody_is_believed_unconfirmed(scene: Scene) -> Outcome {
    let peer = Peer::start(&scene).await?;
    let proposed = peer.propose().await?;
    ensure!(
        proposed.status == 200 || proposed.status == 201,
        "{}: a good document was answered by {} {}",
        proposed.what,
        proposed.status,
        proposed.json
    );
    let fingerprint = jose::fingerprint(&peer.draft());
    proposed.equals("/data/fingerprint", &json!(fingerprint))?;
    proposed.equals("/data/state", &json!("proposed"))?;
    shut_out(&scene, &peer, "only proposed").await?;
    let wrong: String = fingerprint.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    for typed in [wrong.as_str(), "", "no fingerprint"] {
        peer.confirm(typed).await?.refused(400, "invalid_request")?;
    }
    peer.record().await?.equals("/data/state", &json!("proposed"))?;
    shut_out(&scene, &peer, "confirmed with another fingerprint").await?;
    let sent = peer.door.seen();
    ensure!(sent.is_empty(), "the target asked a peer that nobody has confirmed: {sent:?}");
    peer.confirm(&fingerprint).await?.expect(200)?;
    peer.link().await.map(drop)
}

pub(super) async fn what_is_not_proposed(scene: Scene) -> Outcome {
    let peer = Peer::start(&scene).await?;
    let draft = peer.draft();
    let other = Peer::start(&scene).await?;
    let signed = |draft: Value| peer.sign(draft);
    let mut changed = peer.document()?;
    changed["sequence"] = json!(1);
    let documents = [
        ("another domain", signed(with(draft.clone(), "/domain", json!(other.domain)))?),
        ("a node of another domain", signed(with(draft.clone(), "/nodes/0/id", json!(other.node)))?),
        ("a time that is over", signed(with(draft.clone(), "/not_after", json!(ids::at(-60))))?),
        ("no common profile", signed(with(draft.clone(), "/profiles", json!(["other/1"])))?),
        ("a changed member", changed),
        ("no signature", draft.clone()),
        ("a signature by a key that it does not list", other.envelope_key.seal(TRUST, draft.clone(), &["signature"])?),
        ("a signature by its token key", peer.token_key.seal(TRUST, draft.clone(), &["signature"])?),
        ("a signature for another purpose", peer.envelope_key.seal(jose::ENVELOPE, draft, &["signature"])?),
    ];
    for (what, document) in documents {
        peer.publish(document);
        let answer = peer.propose().await?;
        ensure!(
            answer.status == 409 && answer.code() == "peer_document_refused",
            "a document with {what} was answered by {} {}",
            answer.status,
            answer.json
        );
        peer.record().await?.expect(404)?;
    }
    peer.publish(peer.document()?);
    let host = format!("localhost:{}", peer.door.document_port);
    for url in [
        "http://hub-z.example".to_owned(),
        format!("ftp://{host}"),
        "file:///etc/hostname".into(),
        format!("http://user:secret@{host}"),
        "https://user:secret@hub-z.example".into(),
        "hub-z.example".into(),
        String::new(),
    ] {
        let answer = scene.post(&peer.admin, PEERS, &json!({ "domain": peer.domain, "url": url })).await?;
        ensure!(answer.status == 400, "the URL `{url}` was answered by {} {}", answer.status, answer.json);
        peer.record().await?.expect(404)?;
    }
    Ok(())
}

pub(super) async fn administration(scene: Scene) -> Outcome {
    let peer = Peer::start(&scene).await?;
    let alice = scene.world.alice().await?;
    let one = format!("{PEERS}/{}", peer.domain);
    let call = |method: Method, path: &str| scene.call(method, path).bearer(&alice.access);
    let body = json!({ "domain": peer.domain, "url": peer.url() });
    for answer in [
        call(Method::GET, PEERS).send().await?,
        call(Method::GET, &format!("{PEERS}/self")).send().await?,
        call(Method::GET, &one).send().await?,
        call(Method::POST, PEERS).json(&body).send().await?,
        call(Method::POST, &format!("{one}/confirm")).json(&json!({ "fingerprint": "x" })).send().await?,
        call(Method::POST, &format!("{one}/suspend")).json(&json!({})).send().await?,
        call(Method::POST, &format!("{one}/resume")).json(&json!({})).send().await?,
        call(Method::DELETE, &one).send().await?,
    ] {
        answer.refused(403, "forbidden")?;
    }
    let fingerprint = jose::fingerprint(&peer.draft());
    peer.propose().await?.expect(200)?;
    peer.act("suspend").await?.refused(409, "peer_state")?;
    peer.act("resume").await?.refused(409, "peer_state")?;
    peer.confirm(&fingerprint).await?.expect(200)?;
    peer.confirm(&fingerprint).await?.refused(409, "peer_state")?;
    peer.propose().await?.refused(409, "peer_state")?;
    peer.act("resume").await?.refused(409, "peer_state")?;
    peer.act("suspend").await?.expect(200)?;
    peer.act("suspend").await?.refused(409, "peer_state")
}

pub(super) async fn suspended_at_once(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let agent = waiting_mesh_agent(&scene, "suspended").await?;
    let link = peer.link().await?;
    let (envelope, run) = peer.create(&agent.jid, "c", 1, "waits")?;
    super::accepted("a good envelope", &peer.deliver(&link, &[envelope]).await?[0])?;
    let path = format!("/fed/v1/runs/{run}/events");
    let mut feed = link.stream(Ask::get(&path, &peer.token("stream").sign()?)).await?;
    ensure!(feed.status == 200, "{}: the status is {}", feed.what, feed.status);
    ensure!(feed.next(CALLED).await.is_some(), "{}: no first event", feed.what);
    // What waits for the peer: it says `retry` until it is resumed.
    peer.door.script(|script| script.envelopes = Say::Retry);
    let alice = scene.world.alice().await?;
    let waiting = chat::say(&scene, &alice, &peer.agent(), "waits for the peer").await?;
    peer.door.until("the envelope of a run for the peer", CALLED, |door| door.envelopes().first().cloned()).await?;
    peer.act("suspend").await?.expect(200)?;
    while feed.next(Duration::from_secs(2)).await.is_some() {}
    ensure!(feed.ended, "2 s after the peer was suspended, its stream is open");
    let open = link.ask(&scene, Ask::get("/fed/v1/capabilities", &peer.token("hello").sign()?)).await;
    ensure!(open.is_err(), "a connection of a suspended peer is served: {open:?}");
    shut_out(&scene, &peer, "suspended").await?;
    peer.door.script(|script| script.envelopes = Say::Accept);
    peer.act("resume").await?.expect(200)?;
    let link = peer.link().await?;
    peer.hello(&link).await?.expect(200)?;
    let ended = chat::ended(&scene, &alice, &waiting).await?;
    ensure!(ended["status"] == "completed", "the run that waited for the peer ended as {ended}");
    let taken = peer.door.log(&ids::ulid("run", ids::uuid_of(&waiting).unwrap_or_default()));
    let log = chat::events(&scene, &alice, &waiting).await?;
    ensure!(taken.len() + 1 == log.len(), "the run has {} events here and {} at the peer", log.len(), taken.len() + 1);
    let header = with(peer.header(&agent.jid, "c", 2), "/type", json!("run.cancel"));
    let envelope = peer.seal(header, &json!({ "run_id": run }).to_string())?;
    super::accepted("a cancel", &peer.deliver(&link, &[envelope]).await?[0])
}
