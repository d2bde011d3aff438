//! `aiox up --verify`: the whole demonstration without a terminal, asserted, and everything stopped again.

use std::time::Instant;

use aiox_client::Chat;
use aiox_model::run::RunStatus;
use anyhow::{Result, bail};

use super::{
    process,
    site::Mesh,
    up::{self, Plan, credentials},
};
use crate::say;

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
    let client = up::signed_in(mesh, &here, &made.user).await?;
    let chat = Chat { agent: there.agent_jid(), message: "Are you back?".to_owned(), ..Chat::default() };
    let id = client.submit(&chat).await?.id;
    let waiting = client.run(id).await?;
    if waiting.status != RunStatus::Queued {
        bail!("a run for a stopped hub is {} instead of queued", waiting.status.as_str());
    }
    say::done(&format!("hub A has accepted run {id} and shows it as queued"));
    say::step("hub B is started");
    up::start_hub(&there).await?;
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let run = client.run(id).await?;
        if run.status == RunStatus::Completed {
            say::done(&format!("delivered and answered: {}", run.output.unwrap_or_default()));
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the run is still {} a minute after hub B came back", run.status.as_str());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
