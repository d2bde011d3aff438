//! FED-034 to FED-036: what the target sends to a peer, and in which order it takes things.

use serde_json::json;

use super::{CALLED, accepted, mesh_agent, waiting_mesh_agent};
use crate::{
    case::{Outcome, Stop, ensure},
    cases::chat,
    peer::{Peer, door::Say, ids, jose, link::Link, with},
    scene::Scene,
};

/// How often an envelope has come by now.
async fn comes_again(peer: &Peer, link: &Link, times: usize) -> Outcome {
    // Whatever the target's own pauses are: a request of the peer makes it try at once.
    peer.hello(link).await?.expect(200)?;
    peer.door.until(&format!("the envelope for the {times}. time"), CALLED, |door| (door.envelopes().len() >= times).then_some(())).await
}

pub(super) async fn again_until_a_receipt(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let alice = scene.world.alice().await?;
    let greeted = |door: &crate::peer::door::Door| door.seen().into_iter().filter(|seen| seen.path == "/fed/v1/hello").count();
    peer.door.until("the hello of the start", CALLED, |door| (greeted(door) > 0).then_some(())).await?;
    let link = peer.link().await?;
    peer.door.script(|script| script.envelopes = Say::WithoutReceipt);
    let run = chat::say(&scene, &alice, &peer.agent(), "until a receipt").await?;
    let mut times = 0;
    for say in [Say::WithoutReceipt, Say::WithForgedReceipt, Say::Nothing, Say::Retry, Say::Accept] {
        peer.door.script(|script| script.envelopes = say);
        times = peer.door.envelopes().len().max(times) + 1;
        comes_again(&peer, &link, times).await?;
    }
    let ended = chat::ended(&scene, &alice, &run).await?;
    ensure!(ended["status"] == "completed", "the run ended as {ended}");
    let envelopes = peer.door.envelopes();
    ensure!(envelopes.iter().all(|envelope| *envelope == envelopes[0]), "the envelope changed from one attempt to the next: {envelopes:?}");
    let proven = jose::prove(&envelopes[0], &peer.hub.node, &peer.hub.envelope_keys);
    ensure!(proven.is_ok(), "the hub's own envelope is refused with {proven:?}: {}", envelopes[0]);
    let before = greeted(&peer.door);
    peer.door.away();
    let failed = peer.door.failed_handshakes();
    let waiting = chat::say(&scene, &alice, &peer.agent(), "after a failure").await?;
    peer.door.until("an attempt while the peer is away", CALLED, |door| (door.failed_handshakes() > failed).then_some(())).await?;
    peer.door.back();
    peer.hello(&link).await?.expect(200)?;
    peer.door.until("another hello after a failure", CALLED, |door| (greeted(door) > before).then_some(())).await?;
    let ended = chat::ended(&scene, &alice, &waiting).await?;
    ensure!(ended["status"] == "completed", "the run that waited for the peer ended as {ended}");
    Ok(())
}

pub(super) async fn a_run_waits_for_its_peer(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let alice = scene.world.alice().await?;
    let link = peer.link().await?;
    peer.door.away();
    let run = chat::say(&scene, &alice, &peer.agent(), "waits").await?;
    let waiting = chat::read(&scene, &alice, &run).await?;
    ensure!(waiting["status"] == "queued", "while the peer is away the run is {}", waiting["status"]);
    peer.door.back();
    peer.hello(&link).await?.expect(200)?;
    let ended = chat::ended(&scene, &alice, &run).await?;
    ensure!(ended["status"] == "completed" && ended["output"] == "scripted: waits", "the run ended as {ended}");
    let log = chat::events(&scene, &alice, &run).await?;
    let finals = log.iter().filter(|event| event["type"] == "run.completed").count();
    ensure!(finals == 1, "the run was delivered so that it has {finals} ends: {log:?}");
    peer.door.script(|script| script.envelopes = Say::Refuse("insufficient_scope"));
    let refused = chat::say(&scene, &alice, &peer.agent(), "refused").await?;
    let ended = chat::ended(&scene, &alice, &refused).await?;
    ensure!(ended["status"] == "failed" && ended["error"]["code"] == "insufficient_scope", "the refused run ended as {ended}");
    Ok(())
}

pub(super) async fn order_is_kept(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let link = peer.link().await?;
    let (_, agent) = mesh_agent(&scene, "order").await?;
    let conv = format!("conv-{}", scene.world.mark);
    accepted("the first envelope", &peer.deliver(&link, &[peer.create(&agent.jid, &conv, 1, "one")?.0]).await?[0])?;
    let skipping = peer.deliver(&link, &[peer.create(&agent.jid, &conv, 3, "three")?.0]).await?.remove(0);
    let waits = ["held", "retry"].iter().any(|verdict| skipping["verdict"] == *verdict);
    let hello = peer.hello(&link).await?;
    hello.expect(200)?;
    let mark = hello.at("/marks")[conv.as_str()].clone();
    let waiting = waiting_mesh_agent(&scene, "order").await?;
    let run = ids::fresh("run");
    let cancel = with(peer.header(&waiting.jid, "early", 2), "/type", json!("run.cancel"));
    let early = peer.deliver(&link, &[peer.seal(cancel, &json!({ "run_id": run }).to_string())?]).await?.remove(0);
    let mut problems = Vec::new();
    if mark != json!(1) {
        problems.push(format!("`marks` of the hello has {mark} for a conversation with the `seq` 1"));
    }
    if !waits {
        problems.push(format!("an envelope that skips a `seq` has the verdict {skipping}"));
    }
    if early["verdict"] == "refused" {
        problems.push(format!("a cancel that comes before its create has the verdict {early}"));
    }
    if problems.is_empty() { Ok(()) } else { Err(Stop::Failed(problems.join("; "))) }
}
