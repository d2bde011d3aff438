//! Steps that many cases take.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    case::{Stop, ensure},
    exchange::Answer,
    scene::Scene,
    stream::Frame,
    world::Account,
};

/// Longest wait for a run on an echo agent to end.
pub(super) const END: Duration = Duration::from_secs(30);
/// Pause between two reads of something that changes by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// The body of an answer as text.
pub(super) fn body_of(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.bytes).into_owned()
}

/// Makes a run below `/v1` and returns its id.
pub(super) async fn make_run(scene: &Scene, who: &Account, agent: &str, body: Value) -> Result<String, Stop> {
    let answer = scene.post(who, &format!("/v1/agents/{agent}/runs"), &body).await?;
    answer.expect(201)?;
    answer.some_text("/run/run_id")
}

/// Waits for the end of a run by following its events, and reads it.
pub(super) async fn ended(scene: &Scene, who: &Account, run: &str) -> Result<Value, Stop> {
    follow(scene, who, run, "").await?;
    let answer = scene.get(who, &format!("/v1/runs/{run}")).await?;
    answer.expect(200)?;
    Ok(answer.at("/run").clone())
}

/// The frames of a run's stream to its end.
pub(super) async fn follow(scene: &Scene, who: &Account, run: &str, query: &str) -> Result<Vec<Frame>, Stop> {
    let mut live = scene.call(Method::GET, &format!("/v1/runs/{run}/events{query}")).bearer(&who.access).open().await?;
    ensure!(live.status == 200, "{}: expected status 200, got {}", live.what, live.status);
    live.read_to_end(END).await
}

/// The first event of a run.
pub(super) async fn first_event(scene: &Scene, who: &Account, run: &str) -> Result<Value, Stop> {
    let mut live = scene.call(Method::GET, &format!("/v1/runs/{run}/events")).bearer(&who.access).open().await?;
    ensure!(live.status == 200, "{}: expected status 200, got {}", live.what, live.status);
    let frame = live.next_event(END).await?;
    live.note();
    let event = frame.map(|frame| frame.json()["event"].clone()).unwrap_or_default();
    ensure!(event.is_object(), "{}: no event came", live.what);
    Ok(event)
}

/// A new agent of an account that answers by `echo`, with more members in its body.
pub(super) async fn agent_with(scene: &Scene, owner: &Account, name: &str, more: Value) -> Result<crate::world::Agent, Stop> {
    let mut body = crate::world::echo_agent(&format!("Conformance {} {name}", scene.world.mark), "private");
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    scene.world.make_agent_of(&scene.world.options.target, owner, body).await
}

/// An agent whose runs wait: no worker has its label.
pub(super) async fn waiting_agent(scene: &Scene, owner: &Account) -> Result<crate::world::Agent, Stop> {
    let label = json!({ "capabilities": { "worker_labels": { "conformance": scene.world.mark } } });
    agent_with(scene, owner, "waits", label).await
}

/// Asks again until something holds.
pub(super) async fn until<F, R>(what: &str, within: Duration, mut ask: F) -> Result<(), Stop>
where
    F: FnMut() -> R,
    R: Future<Output = Result<bool, Stop>>,
{
    let end = tokio::time::Instant::now() + within;
    while tokio::time::Instant::now() < end {
        if ask().await? {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Stop::Failed(format!("{what}: not within {within:?}")))
}
