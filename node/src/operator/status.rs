//! `aiox status` and `aiox logs`.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    process::{self, Status},
    site::{Mesh, Site},
    up::{self, credentials},
};
use crate::say;

fn state(pid_file: &std::path::Path) -> Result<String> {
    Ok(match process::status(pid_file)? {
        Status::Running(pid) => format!("running (process {pid})"),
        Status::Stopped => "stopped".into(),
    })
}

/// Shows what runs, with what the hubs say of themselves.
///
/// # Errors
/// When pid files cannot be read.
pub async fn status(mesh: &Mesh) -> Result<()> {
    for site in mesh.sites() {
        say::line(site.name);
        if !site.credentials_file().exists() {
            say::line("  not set up; run aiox up");
            continue;
        }
        say::line(&format!("  hub     {}", state(&site.pid("hub"))?));
        say::line(&format!("  worker  {}", state(&site.pid("worker"))?));
        let server = match site.server(&mesh.ca(), &credentials(&site)?).status()? {
            Status::Running(pid) => format!("running (process {pid})"),
            Status::Stopped => "stopped".into(),
        };
        say::line(&format!("  xmpp    {server}"));
        if process::status(&site.pid("hub"))? != Status::Stopped {
            say::line(&format!("  {}", ready(mesh, &site).await));
        }
    }
    Ok(())
}

async fn ready(mesh: &Mesh, site: &Site) -> String {
    let seen = async { anyhow::Ok(up::trusting(&site.url(), Some(&mesh.ca()))?.health().await?) };
    match seen.await {
        Ok(ready) => {
            let parts = ["database", "workers", "xmpp", "peers"].map(|name| format!("{name}: {}", ready.part(name).unwrap_or("?")));
            format!("{}  status: {}  {}", site.url(), ready.status, parts.join("  "))
        }
        Err(error) => format!("{} does not answer: {error:#}", site.url()),
    }
}

/// Prints the last lines of a log, and what comes with `follow`.
///
/// # Errors
/// When there is no such log.
pub async fn logs(mesh: &Mesh, hub: &str, part: &str, lines: usize, follow: bool) -> Result<()> {
    let site = mesh.sites().into_iter().find(|site| site.name == hub).with_context(|| format!("{hub}: must be hub-a or hub-b"))?;
    if !["hub", "worker", "xmpp"].contains(&part) {
        bail!("{part}: must be hub, worker or xmpp");
    }
    let path = site.log(part);
    let mut file = std::fs::File::open(&path).with_context(|| format!("no log at {}; has it been started?", path.display()))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).context("the log cannot be read")?;
    let shown = String::from_utf8_lossy(&text);
    let all: Vec<&str> = shown.lines().collect();
    for line in &all[all.len().saturating_sub(lines)..] {
        say::line(line);
    }
    if !follow {
        return Ok(());
    }
    let mut at = text.len() as u64;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut more = String::new();
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_to_string(&mut more)).context("the log cannot be read")?;
        at += more.len() as u64;
        say::piece(&more);
    }
}
