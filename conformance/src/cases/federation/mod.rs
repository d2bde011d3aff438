//! Cases of `spec/federation.md`. What only a peer sees is judged by a peer of the suite's own (`peer/`), one for each case.

mod envelopes;
mod forwarding;
mod reads;
mod sending;
mod tokens;
mod transport;
mod trust;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use self::{
    envelopes::{
        a_batch_is_judged_item_by_item, a_copy_is_no_second_run, circles, destinations_and_times, origins, proofs, receipts,
        unknown_members, what_is_not_allowed_is_not_there,
    },
    forwarding::{
        a_forwarded_run, federation_health, how_events_come, peers_and_capabilities, rejected_events, the_order_of_ingested_events,
        unreachable_peers, what_no_peer_can_do,
    },
    reads::{a_peers_run_is_read_here, greetings, one_answer_for_what_is_not_there, the_directory, the_events_of_a_run},
    sending::{a_run_waits_for_its_peer, again_until_a_receipt, order_is_kept},
    tokens::{
        a_limit_of_one_peer, a_refusal_says_nothing, audiences_and_issuers, bound_to_the_connection, header_and_key, scopes,
        the_tokens_of_the_hub, times_of_a_token, used_once,
    },
    transport::{certificates_of_clients, certificates_of_servers, nothing_is_resumed, two_listeners, version_and_protocol},
    trust::{
        administration, nobody_is_believed_unconfirmed, suspended_at_once, the_document, the_signature_of_the_document,
        times_of_the_document, what_is_not_proposed,
    },
};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    exchange::Answer,
    peer::{Peer, link::Ask},
    scene::Scene,
    world::{Account, Agent},
};

cases! {
    "FED-001" => the_document,
    "FED-002" => the_signature_of_the_document,
    "FED-003" => times_of_the_document,
    "FED-004" => nobody_is_believed_unconfirmed,
    "FED-005" => what_is_not_proposed,
    "FED-007" => administration,
    "FED-008" => suspended_at_once,
    "FED-009" => version_and_protocol,
    "FED-010" => nothing_is_resumed,
    "FED-011" => certificates_of_clients,
    "FED-012" => certificates_of_servers,
    "FED-013" => two_listeners,
    "FED-014" => header_and_key,
    "FED-015" => audiences_and_issuers,
    "FED-016" => times_of_a_token,
    "FED-017" => used_once,
    "FED-018" => bound_to_the_connection,
    "FED-019" => scopes,
    "FED-020" => a_refusal_says_nothing,
    "FED-022" => the_tokens_of_the_hub,
    "FED-023" => a_limit_of_one_peer @ late,
    "FED-024" => a_batch_is_judged_item_by_item,
    "FED-025" => proofs,
    "FED-026" => unknown_members,
    "FED-027" => origins,
    "FED-028" => destinations_and_times,
    "FED-029" => circles,
    "FED-030" => what_is_not_allowed_is_not_there,
    "FED-031" => a_copy_is_no_second_run @ slow,
    "FED-032" => receipts,
    "FED-034" => again_until_a_receipt @ slow,
    "FED-035" => a_run_waits_for_its_peer,
    "FED-036" => order_is_kept,
    "FED-037" => greetings,
    "FED-038" => the_events_of_a_run,
    "FED-039" => the_directory,
    "FED-040" => one_answer_for_what_is_not_there,
    "FED-041" => a_peers_run_is_read_here,
    "FED-042" => federation_health,
    "FED-043" => peers_and_capabilities,
    "FED-044" => a_forwarded_run,
    "FED-045" => what_no_peer_can_do,
    "FED-046" => unreachable_peers @ slow,
    "FED-047" => how_events_come,
    "FED-048" => rejected_events,
    "FED-049" => the_order_of_ingested_events,
}

/// Longest wait for a call of the target to the suite's peer.
const CALLED: Duration = Duration::from_secs(20);
const CAPABILITIES: &str = "/fed/v1/capabilities";

/// An echo agent of the target that every peer may use, and its owner.
async fn mesh_agent(scene: &Scene, name: &str) -> Result<(Account, Agent), Stop> {
    let alice = scene.world.alice().await?;
    let agent = super::common::agent_with(scene, &alice, name, json!({ "visibility": "mesh" })).await?;
    Ok((alice, agent))
}

/// A mesh agent whose runs wait for ever.
async fn waiting_mesh_agent(scene: &Scene, name: &str) -> Result<Agent, Stop> {
    let alice = scene.world.alice().await?;
    let more = json!({ "visibility": "mesh", "capabilities": { "worker_labels": { "conformance": scene.world.mark } } });
    super::common::agent_with(scene, &alice, name, more).await
}

/// Fails unless a request with this token is refused.
async fn refused_with(scene: &Scene, peer: &Peer, what: &str, authorization: Option<String>) -> Result<Answer, Stop> {
    let link = peer.link().await?;
    let ask = Ask { method: Method::GET, path: CAPABILITIES, authorization, headers: &[], body: Vec::new() };
    let answer = link.answer(scene, ask).await?;
    ensure!(answer.status == 401, "a token with {what} was answered by {}", answer.status);
    Ok(answer)
}

/// Fails unless a verdict is `refused` with this code.
fn refused(what: &str, verdict: &Value, code: &str) -> Outcome {
    ensure!(verdict["verdict"] == "refused" && verdict["code"] == code, "{what}: expected `refused` with `{code}`, got {verdict}");
    Ok(())
}

/// Fails unless a verdict is `accepted`.
fn accepted(what: &str, verdict: &Value) -> Outcome {
    ensure!(verdict["verdict"] == "accepted", "{what}: expected `accepted`, got {verdict}");
    Ok(())
}

/// ERR-013: errors of the peer listener.
pub(super) async fn problems(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let link = peer.link().await?;
    let nothing = format!("/fed/v1/runs/{}/events", crate::peer::ids::fresh("run"));
    for (answer, status) in [
        (peer.get(&link, "/fed/v1/nothing-of-this-name", "hello").await?, 404),
        (peer.get(&link, &nothing, "stream").await?, 404),
        (peer.post(&link, "/fed/v1/hello", "hello", &json!({ "node": "x" })).await?, 400),
        (peer.post(&link, "/fed/v1/envelopes", "deliver", &json!([])).await?, 400),
        (
            peer.post(
                &link,
                "/fed/v1/hello",
                "hello",
                &json!({ "node": peer.node, "time": crate::peer::ids::now(), "profiles": ["other/1"] }),
            )
            .await?,
            409,
        ),
    ] {
        answer.expect(status)?;
        ensure!(
            answer.header("content-type").starts_with("application/problem+json"),
            "{}: the content type is `{}`",
            answer.what,
            answer.header("content-type")
        );
        answer.members("", &["type", "title", "status", "code"], None)?;
        answer.equals("/status", &json!(status))?;
        answer.some_text("/code")?;
    }
    Ok(())
}
