//! FED-024 to FED-032: envelopes that a peer hands over.

use std::time::Duration;

use serde_json::{Value, json};

use super::{accepted, mesh_agent, refused, waiting_mesh_agent};
use crate::{
    case::{Outcome, Stop, ensure},
    cases::common::agent_with,
    peer::{
        Peer, digest, ids,
        jose::{self, Key, RECEIPT},
        lacking,
        link::{Ask, Link},
        with,
    },
    scene::Scene,
};

/// A peer, a connection of it, and the address of an echo agent that it may use.
async fn ready(scene: &Scene, name: &str) -> Result<(Peer, Link, String), Stop> {
    let peer = Peer::active(scene).await?;
    let link = peer.link().await?;
    let (_, agent) = mesh_agent(scene, name).await?;
    Ok((peer, link, agent.jid))
}

/// Hands over envelopes that are each wrong in one way, in one batch.
async fn all_refused(peer: &Peer, link: &Link, bad: Vec<(&str, Value, &str)>) -> Outcome {
    let envelopes: Vec<Value> = bad.iter().map(|(_, envelope, _)| envelope.clone()).collect();
    let verdicts = peer.deliver(link, &envelopes).await?;
    for ((what, _, code), verdict) in bad.iter().zip(&verdicts) {
        refused(what, verdict, code)?;
    }
    Ok(())
}

fn payload() -> String {
    json!({ "run_id": ids::fresh("run"), "input": "x" }).to_string()
}

pub(super) async fn a_batch_is_judged_item_by_item(scene: Scene) -> Outcome {
    let (peer, link, agent) = ready(&scene, "batch").await?;
    let good = |conv: &str, seq: u64| peer.create(&agent, conv, seq, "x").map(|(envelope, _)| envelope);
    let batch =
        [good("a", 1)?, json!({}), good("b", 1)?, json!("no envelope"), with(good("c", 1)?, "/conv", json!("other")), good("a", 2)?];
    let verdicts = peer.deliver(&link, &batch).await?;
    let told: Vec<&str> = verdicts.iter().filter_map(|verdict| verdict["verdict"].as_str()).collect();
    ensure!(
        told == ["accepted", "refused", "accepted", "refused", "refused", "accepted"],
        "the verdicts of a mixed batch are {verdicts:?}"
    );
    for (index, verdict) in verdicts.iter().enumerate().filter(|(index, _)| [0, 2, 5].contains(index)) {
        ensure!(
            verdict["id"] == batch[index]["id"],
            "the verdict {index} is for {}, the envelope is {}",
            verdict["id"],
            batch[index]["id"]
        );
    }
    let post = async |body: Vec<u8>| -> Result<crate::Answer, Stop> {
        let token = peer.token("deliver").sign()?;
        link.answer(&scene, Ask { body, ..Ask::post("/fed/v1/envelopes", &token, &Value::Null) }).await
    };
    let many: Vec<Value> = (0..101).map(|_| json!({})).collect();
    post(json!({ "envelopes": many }).to_string().into_bytes()).await?.refused(413, "too_large")?;
    let large = json!({ "envelopes": [{ "payload": "x".repeat(1024 * 1024) }] }).to_string().into_bytes();
    post(large).await?.refused(413, "too_large")?;
    for body in [
        &b"[]"[..],
        b"{",
        b"{}",
        b"\"x\"",
        b"{\"envelopes\":{}}",
        b"{\"envelopes\":[],\"envelopes\":[]}",
        b"{\"envelopes\":[{\"a\":1,\"a\":2}]}",
    ] {
        post(body.to_vec()).await?.refused(400, "invalid_request")?;
    }
    let hundred: Vec<Value> = (0..100).map(|_| json!({})).collect();
    peer.deliver(&link, &hundred).await.map(drop)
}

pub(super) async fn proofs(scene: Scene) -> Outcome {
    let (peer, link, agent) = ready(&scene, "proofs").await?;
    let header = |conv: &str| peer.header(&agent, conv, 1);
    let sealed = |header: Value| peer.seal(header, &payload());
    let stranger = Key::generate()?;
    let whole = sealed(header("whole"))?;
    let mut bad = Vec::new();
    for name in ["id", "origin", "dest", "conv", "seq", "type", "created", "expires", "hop", "content_type", "auth"] {
        bad.push((name, sealed(lacking(&header(name), name))?, "malformed_envelope"));
    }
    for name in ["payload", "signature", "payload_hash"] {
        bad.push((name, lacking(&whole, name), "malformed_envelope"));
    }
    for (pointer, value) in [
        ("/seq", json!("1")),
        ("/hop", json!(-1)),
        ("/created", json!("yesterday")),
        ("/id", json!(7)),
        ("/auth", json!("x")),
        ("/origin/node", json!("x")),
    ] {
        bad.push((pointer, sealed(with(header(pointer), pointer, value))?, "malformed_envelope"));
    }
    // No canonical form, so it cannot be signed as it is: the number takes another's place afterwards.
    bad.push((
        "an integer beyond 2^53 - 1",
        with(sealed(with(header("i"), "/later", json!(1)))?, "/later", json!((1_u64 << 53) + 2)),
        "malformed_envelope",
    ));
    let forged = with(peer.seal_by(&stranger, header("f"), &payload())?, "/signature", json!("x"));
    for (what, envelope) in [
        ("no JWS as its signature", forged),
        ("another key", peer.seal_by(&stranger, header("k"), &payload())?),
        ("the token key", peer.seal_by(&peer.token_key, header("t"), &payload())?),
        ("a changed member", with(sealed(header("c"))?, "/conv", json!("changed"))),
        ("a changed scope", with(sealed(header("s"))?, "/auth/scope", json!("runs:create admin"))),
        ("another envelope's signature", with(sealed(header("o"))?, "/signature", whole["signature"].clone())),
    ] {
        bad.push((what, envelope, "bad_signature"));
    }
    let mut hashed = header("r");
    hashed["payload_hash"] = json!(jose::sha256(b"p"));
    let mut receipt = peer.envelope_key.seal(RECEIPT, hashed, &[])?;
    receipt["payload"] = json!("p");
    bad.push(("a signature for another purpose", receipt, "bad_signature"));
    bad.push(("another payload", with(sealed(header("p"))?, "/payload", json!(payload())), "payload_mismatch"));
    let (tail, head) = (bad.split_off(20), bad);
    all_refused(&peer, &link, head).await?;
    all_refused(&peer, &link, tail).await?;
    accepted("the envelope that the others were made from", &peer.deliver(&link, &[whole]).await?[0])
}

pub(super) async fn unknown_members(scene: Scene) -> Outcome {
    let (peer, link, agent) = ready(&scene, "unknown").await?;
    let later = json!({ "of": ["a", "later", "version"], "number": 1.5 });
    let signed = peer.seal(with(peer.header(&agent, "a", 1), "/x_later", later.clone()), &payload())?;
    let added = with(peer.seal(peer.header(&agent, "b", 1), &payload())?, "/x_later", later);
    let verdicts = peer.deliver(&link, &[signed, added]).await?;
    accepted("an envelope with an unknown member", &verdicts[0])?;
    refused("an unknown member that was added later", &verdicts[1], "bad_signature")
}

pub(super) async fn origins(scene: Scene) -> Outcome {
    let (peer, link, agent) = ready(&scene, "origins").await?;
    let other = Peer::active(&scene).await?;
    let sealed = |pointer: &str, value: &str| peer.seal(with(peer.header(&agent, "c", 1), pointer, json!(value)), &payload());
    let bad = vec![
        ("another peer's own envelope", other.seal(other.header(&agent, "c", 1), &payload())?, "wrong_origin"),
        ("another peer's node", sealed("/origin/node", &other.node)?, "wrong_origin"),
        ("another node of the domain", sealed("/origin/node", &format!("spiffe://{}/node/n2", peer.domain))?, "wrong_origin"),
        ("the receiver's node", sealed("/origin/node", &peer.hub.node)?, "wrong_origin"),
        ("another peer's user", sealed("/auth/sub", &other.user())?, "wrong_origin"),
        ("a user of the receiver", sealed("/auth/sub", &format!("alice@{}", peer.hub.domain))?, "wrong_origin"),
        ("a domain below", sealed("/auth/sub", &format!("carol@x.{}", peer.domain))?, "wrong_origin"),
        ("a domain that ends alike", sealed("/auth/sub", &format!("carol@x{}", peer.domain))?, "wrong_origin"),
        (
            "an agent of another domain",
            sealed("/auth/sub", &format!("spiffe://{}/agent/{}", other.domain, uuid::Uuid::nil()))?,
            "wrong_origin",
        ),
        ("no address", sealed("/auth/sub", "carol")?, "wrong_origin"),
    ];
    all_refused(&peer, &link, bad).await
}

pub(super) async fn destinations_and_times(scene: Scene) -> Outcome {
    let (peer, link, agent) = ready(&scene, "times").await?;
    let sealed = |changes: &[(&str, Value)]| {
        let header = changes.iter().fold(peer.header(&agent, "c", 1), |header, (pointer, value)| with(header, pointer, value.clone()));
        peer.seal(header, &payload())
    };
    let cancel = json!({ "run_id": ids::fresh("run") }).to_string();
    let unscoped = with(with(peer.header(&agent, "d", 1), "/type", json!("run.cancel")), "/auth/scope", json!("runs:create"));
    let bad = vec![
        ("another node", sealed(&[("/dest/node", json!("spiffe://hub-z.example/node/n1"))])?, "wrong_destination"),
        ("the sender's node", sealed(&[("/dest/node", json!(peer.node))])?, "wrong_destination"),
        ("an end that is over", sealed(&[("/created", json!(ids::at(-120))), ("/expires", json!(ids::at(-5)))])?, "expired"),
        ("an end before its beginning", sealed(&[("/created", json!(ids::at(20))), ("/expires", json!(ids::at(10)))])?, "expired"),
        ("a beginning in 40 s", sealed(&[("/created", json!(ids::at(40)))])?, "expired"),
        ("an unknown type", sealed(&[("/type", json!("run.teleport"))])?, "unknown_type"),
        ("no scope", sealed(&[("/auth/scope", json!(""))])?, "insufficient_scope"),
        ("the scope of a reader", sealed(&[("/auth/scope", json!("runs:read agents:read"))])?, "insufficient_scope"),
        ("a scope that begins alike", sealed(&[("/auth/scope", json!("runs:createx"))])?, "insufficient_scope"),
        ("a cancel without its scope", peer.seal(unscoped, &cancel)?, "insufficient_scope"),
    ];
    all_refused(&peer, &link, bad).await?;
    let soon = sealed(&[("/created", json!(ids::at(25)))])?;
    accepted("a beginning in 25 s", &peer.deliver(&link, &[soon]).await?[0])
}

pub(super) async fn circles(scene: Scene) -> Outcome {
    let (peer, link, agent) = ready(&scene, "circles").await?;
    let step = |node: &str, agent: &str| json!({ "node": node, "agent": agent, "digest": jose::sha256(agent.as_bytes()) });
    let steps = |count: usize| (0..count).map(|n| step(&peer.node, &format!("spiffe://{}/agent/{n}", peer.domain))).collect::<Vec<_>>();
    let sealed = |hop: usize, path: Vec<Value>, text: &str| {
        let header = with(with(peer.header(&agent, "c", 1), "/hop", json!(hop)), "/path", json!(path));
        peer.seal(header, text)
    };
    let mut home = steps(1);
    home.push(step(&peer.hub.node, &agent));
    let record = peer.record().await?;
    let bytes = record.at("/data/quotas/max_envelope_bytes").as_u64().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(256 * 1024);
    let large = json!({ "run_id": ids::fresh("run"), "input": "x".repeat(bytes) }).to_string();
    let bad = vec![
        ("nine hops", sealed(9, steps(9), &payload())?, "loop_detected"),
        ("two hops and a path of one", sealed(2, steps(1), &payload())?, "loop_detected"),
        ("no hop and a path of one", sealed(0, steps(1), &payload())?, "loop_detected"),
        ("a path that was here before, for the same agent", sealed(2, home, &payload())?, "loop_detected"),
        ("more than the size of the record", sealed(0, Vec::new(), &large)?, "envelope_too_large"),
    ];
    all_refused(&peer, &link, bad).await?;
    accepted("eight hops", &peer.deliver(&link, &[sealed(8, steps(8), &payload())?]).await?[0])
}

pub(super) async fn what_is_not_allowed_is_not_there(scene: Scene) -> Outcome {
    let (peer, link, _) = ready(&scene, "allowed").await?;
    let alice = scene.world.alice().await?;
    let private = scene.world.agent().await?;
    let deleted = agent_with(&scene, &alice, "deleted", json!({ "visibility": "mesh" })).await?;
    scene.call(reqwest::Method::DELETE, &format!("/api/v1/agents/{}", deleted.id)).bearer(&alice.access).send().await?.expect(200)?;
    let missing = format!("agent-{}@agents.{}", uuid::Uuid::new_v4(), peer.hub.domain);
    let mut told = Vec::new();
    for agent in [missing.as_str(), &private.jid, &deleted.jid, "agent-x@agents.hub-z.example", "no address"] {
        let (envelope, _) = peer.create(agent, agent, 1, "x")?;
        let mut verdict = peer.deliver(&link, &[envelope]).await?.remove(0);
        refused(agent, &verdict, "not_found")?;
        if let Some(members) = verdict.as_object_mut() {
            members.shift_remove("id");
        }
        told.push(verdict);
    }
    ensure!(
        told.iter().all(|verdict| *verdict == told[0]),
        "the verdicts for agents that are not there and may not be used differ: {told:?}"
    );
    Ok(())
}

pub(super) async fn a_copy_is_no_second_run(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let link = peer.link().await?;
    let agent = waiting_mesh_agent(&scene, "copies").await?;
    let run = ids::fresh("run");
    let text = json!({ "run_id": run, "input": "once" }).to_string();
    let header = with(peer.header(&agent.jid, "c", 1), "/expires", json!(ids::at(2)));
    let envelope = peer.seal(header.clone(), &text)?;
    let first = peer.deliver(&link, std::slice::from_ref(&envelope)).await?.remove(0);
    accepted("a good envelope", &first)?;
    let elsewhere = peer.link().await?;
    let copies = peer.deliver(&elsewhere, &[envelope.clone(), envelope.clone()]).await?;
    // After its end: what was taken once is proven all the same.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let late = peer.deliver(&link, std::slice::from_ref(&envelope)).await?;
    for verdict in copies.iter().chain(&late) {
        ensure!(verdict["verdict"] == "duplicate" || verdict["verdict"] == "accepted", "a copy has the verdict {verdict}");
        for member in ["digest", "at"] {
            ensure!(
                verdict["receipt"][member] == first["receipt"][member],
                "`{member}` of a copy's receipt is {}, of the first {}",
                verdict["receipt"][member],
                first["receipt"][member]
            );
        }
    }
    let second = ids::fresh("run");
    let other = peer.seal(with(header, "/expires", json!(ids::at(600))), &json!({ "run_id": second, "input": "twice" }).to_string())?;
    refused("the same id with another digest", &peer.deliver(&link, &[other]).await?[0], "digest_changed")?;
    peer.get(&link, &format!("/fed/v1/runs/{second}/events"), "stream").await?.expect(404)?;
    let mut feed = link.stream(Ask::get(&format!("/fed/v1/runs/{run}/events"), &peer.token("stream").sign()?)).await?;
    let created = feed.next(super::CALLED).await.map(|frame| frame.json()).unwrap_or_default();
    ensure!(created["sequence"] == 1, "the first event of the run is {created}");
    let cancel = with(peer.header(&agent.jid, "c", 2), "/type", json!("run.cancel"));
    accepted("a cancel", &peer.deliver(&link, &[peer.seal(cancel, &json!({ "run_id": run }).to_string())?]).await?[0])?;
    let rest = feed.whole(super::CALLED).await?;
    let again = rest.iter().filter(|frame| frame.json()["type"] == "run.created").count();
    ensure!(again == 0, "the run was made {} times", again + 1);
    Ok(())
}

pub(super) async fn receipts(scene: Scene) -> Outcome {
    let (peer, link, agent) = ready(&scene, "receipts").await?;
    let (envelope, _) = peer.create(&agent, "c", 1, "x")?;
    for copy in 0..2 {
        let verdict = peer.deliver(&link, std::slice::from_ref(&envelope)).await?.remove(0);
        let id = envelope["id"].as_str().unwrap_or_default();
        let held = jose::receipt(&verdict["receipt"], &peer.hub.node, id, &digest(&envelope), &peer.hub.envelope_keys);
        held.map_err(|problem| Stop::Failed(format!("the receipt of delivery {copy}: {problem}: {verdict}")))?;
    }
    Ok(())
}
