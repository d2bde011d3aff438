//! `aiox up --verify`: the whole demonstration without a terminal, asserted, and everything stopped again.

use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::json;

use super::{
    process,
    site::Mesh,
    up::{self, Plan, credentials},
};
use crate::{api::Api, say};

/// Runs it.
///
/// # Errors
/// At the first thing that is not as it should be. Everything is stopped in any case.
pub async fn verify(plan: Plan) -> Result<()> {
    let began = Instant::now();
    let result = async {
        up::up(&plan).await?;
        outage(&plan.mesh).await
    }
    .await;
    let stopped = up::down(&plan.mesh).await;
    result?;
    stopped?;
    for site in plan.mesh.sites() {
        for part in ["hub", "worker"] {
            if process::status(&site.pid(part))? != process::Status::Stopped {
                bail!("{part} of {} still runs", site.name);
            }
        }
    }
    say::done(&format!("verified in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// With hub B stopped, hub A accepts a run for it, shows it as queued, and delivers it once hub B is back.
async fn outage(mesh: &Mesh) -> Result<()> {
    let [here, there] = mesh.sites();
    say::line("");
    say::step("hub B is stopped");
    process::stop(&there.pid("hub"), std::time::Duration::from_secs(11)).await?;
    let made = credentials(&here)?;
    let api = Api::new(&here.url(), Some(&mesh.ca()), None)?.login(&made.user.username, &made.user.password).await?;
    let path = format!("/api/v1/agents/{}/chat", there.agent_jid());
    let accepted = api.post(&path, &json!({ "message": "Are you back?", "detach": true })).await?;
    let id = accepted["data"]["id"].as_str().unwrap_or_default().to_owned();
    let waiting = api.get(&format!("/api/v1/runs/{id}")).await?;
    if waiting["data"]["status"] != "queued" {
        bail!("a run for a stopped hub is {} instead of queued", waiting["data"]["status"]);
    }
    say::done(&format!("hub A has accepted run {id} and shows it as queued"));
    say::step("hub B is started");
    up::start_hub(&there).await?;
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let run = api.get(&format!("/api/v1/runs/{id}")).await?;
        if run["data"]["status"] == "completed" {
            say::done(&format!("delivered and answered: {}", run["data"]["output"].as_str().unwrap_or_default()));
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the run is still {} a minute after hub B came back", run["data"]["status"]);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
