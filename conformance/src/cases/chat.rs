//! Runs made and read below `/api/v1`.

use reqwest::Method;
use serde_json::{Value, json};

use super::common::END;
use crate::{
    case::{Stop, ensure},
    exchange::Answer,
    scene::Scene,
    world::Account,
};

/// Says something to an agent without waiting for the answer.
pub(super) async fn begin(scene: &Scene, who: &Account, agent: &str, more: Value) -> Result<Answer, Stop> {
    let mut body = json!({ "message": "Hello", "detach": true });
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    scene.post(who, &format!("/api/v1/agents/{agent}/chat"), &body).await
}

/// As [`begin`], where it has to be accepted; the run's id.
pub(super) async fn say(scene: &Scene, who: &Account, agent: &str, text: &str) -> Result<String, Stop> {
    let answer = begin(scene, who, agent, json!({ "message": text })).await?;
    answer.expect(202)?;
    answer.some_text("/data/id")
}

/// The run as it is now.
pub(super) async fn read(scene: &Scene, who: &Account, run: &str) -> Result<Value, Stop> {
    let answer = scene.get(who, &format!("/api/v1/runs/{run}")).await?;
    answer.expect(200)?;
    Ok(answer.at("/data").clone())
}

/// The events of a run to its end.
pub(super) async fn events(scene: &Scene, who: &Account, run: &str) -> Result<Vec<Value>, Stop> {
    let mut live = scene.call(Method::GET, &format!("/api/v1/runs/{run}/events")).bearer(&who.access).open().await?;
    ensure!(live.status == 200, "{}: expected status 200, got {}", live.what, live.status);
    Ok(live.read_to_end(END).await?.iter().map(crate::stream::Frame::json).collect())
}

/// The run when it has ended.
pub(super) async fn ended(scene: &Scene, who: &Account, run: &str) -> Result<Value, Stop> {
    events(scene, who, run).await?;
    read(scene, who, run).await
}

/// Cancels a run.
pub(super) async fn cancel(scene: &Scene, who: &Account, run: &str) -> Result<Answer, Stop> {
    scene.post(who, &format!("/api/v1/runs/{run}/cancel"), &json!({})).await
}
