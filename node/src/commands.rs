//! The commands that talk to a hub.

use aiox_certs::{Authority, HubNames, HubPaths, Overwrite};
use aiox_core::Role;
use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Api,
    cli::{Certs, Chat, Peer, Place, Remote, RunCommand, User},
    hub::Hub,
    operator::{
        site::{Mesh, Site},
        up::credentials,
    },
    say, settings,
    supervise::Supervisor,
};

/// The mesh of a place.
pub fn mesh(place: &Place) -> Mesh {
    Mesh { dir: place.dir.clone(), base: place.base_port }
}

/// A hub of a mesh by its name.
pub fn site(mesh: &Mesh, name: &str) -> Result<Site> {
    mesh.sites().into_iter().find(|site| site.name == name).with_context(|| format!("{name}: must be hub-a or hub-b"))
}

/// A client of the hub that is meant: the named one, or one of the local mesh with its seeded account.
async fn client(remote: &Remote, admin: bool) -> Result<Api> {
    if let Some(url) = &remote.url {
        let key = remote.key.clone().context("--url needs --key (or AIOX_KEY)")?;
        return Api::new(url, remote.ca.as_deref(), Some(key));
    }
    let mesh = mesh(&remote.place);
    let site = site(&mesh, &remote.hub)?;
    let made = credentials(&site)?;
    let login = if admin { &made.admin } else { &made.user };
    Api::new(&site.url(), Some(&mesh.ca()), None)?.login(&login.username, &login.password).await
}

fn print(value: &Value) -> Result<()> {
    say::result(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// `aiox peer`.
pub async fn peer(command: Peer) -> Result<()> {
    const BASE: &str = "/api/v1/admin/peers";
    match command {
        Peer::Fingerprint(remote) => {
            let own = client(&remote, true).await?.get(&format!("{BASE}/self")).await?;
            say::line(own["data"]["fingerprint"].as_str().context("the hub did not tell its fingerprint")?);
            Ok(())
        }
        Peer::Add { domain, url, fingerprint, remote } => {
            let api = client(&remote, true).await?;
            let proposed = api.post(BASE, &json!({ "domain": domain, "url": url })).await?;
            let seen = proposed["data"]["fingerprint"].as_str().unwrap_or_default();
            match fingerprint {
                Some(typed) => {
                    api.post(&format!("{BASE}/{domain}/confirm"), &json!({ "fingerprint": typed })).await?;
                    say::done(&format!("{domain} is an active peer"));
                }
                None => {
                    say::line(&format!("The trust document of {domain} has the fingerprint\n\n  {seen}\n"));
                    say::line(
                        "Compare it with what the other operator tells you by another way (there: aiox peer fingerprint). If they are equal:",
                    );
                    say::line(&format!("  aiox peer confirm {domain} {seen}"));
                }
            }
            Ok(())
        }
        Peer::Confirm { domain, fingerprint, remote } => {
            client(&remote, true).await?.post(&format!("{BASE}/{domain}/confirm"), &json!({ "fingerprint": fingerprint })).await?;
            say::done(&format!("{domain} is an active peer"));
            Ok(())
        }
        Peer::List(remote) => {
            let all = client(&remote, true).await?.get(BASE).await?;
            if remote.json {
                return print(&all["data"]);
            }
            for peer in all["data"].as_array().into_iter().flatten() {
                let text = |name: &str| peer[name].as_str().unwrap_or_default().to_owned();
                say::line(&format!("{:<30} {:<10} waiting {:<6} {}", text("domain"), text("state"), peer["waiting"], text("trust_url")));
            }
            Ok(())
        }
        Peer::Show { domain, remote } => print(&client(&remote, true).await?.get(&format!("{BASE}/{domain}")).await?["data"]),
        Peer::Suspend { domain, remote } => {
            client(&remote, true).await?.post(&format!("{BASE}/{domain}/suspend"), &json!({})).await?;
            say::done(&format!("{domain} is suspended"));
            Ok(())
        }
        Peer::Resume { domain, remote } => {
            client(&remote, true).await?.post(&format!("{BASE}/{domain}/resume"), &json!({})).await?;
            say::done(&format!("{domain} is active"));
            Ok(())
        }
        Peer::Remove { domain, remote } => {
            client(&remote, true).await?.delete(&format!("{BASE}/{domain}")).await?;
            say::done(&format!("{domain} is removed"));
            Ok(())
        }
    }
}

/// `aiox chat`.
pub async fn chat(command: Chat) -> Result<()> {
    let api = client(&command.remote, false).await?;
    let path = format!("/api/v1/agents/{}/chat", command.agent);
    if !command.stream {
        let answer = api.post(&path, &json!({ "message": command.message })).await?;
        if command.remote.json {
            return print(&answer["data"]);
        }
        say::line(answer["data"]["response"].as_str().unwrap_or_default());
        return Ok(());
    }
    let response = api.stream(&path, &json!({ "message": command.message, "stream": true })).await?;
    let mut body = response.bytes_stream();
    let mut pending = String::new();
    while let Some(piece) = body.next().await {
        pending.push_str(&String::from_utf8_lossy(&piece.context("the stream was cut")?));
        while let Some((frame, rest)) = pending.split_once("\n\n") {
            let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
            let value: Value = serde_json::from_str(data).unwrap_or_default();
            if let Some(text) = value["text"].as_str() {
                say::piece(text);
            }
            if let Some(error) = value["payload"]["error"]["message"].as_str() {
                bail!("{error}");
            }
            pending = rest.to_owned();
        }
    }
    say::line("");
    Ok(())
}

/// `aiox agents`.
pub async fn agents(remote: Remote) -> Result<()> {
    let all = client(&remote, false).await?.get("/api/v1/mesh/agents").await?;
    if remote.json {
        return print(&all["data"]);
    }
    for card in all["data"].as_array().into_iter().flatten() {
        let text = |name: &str| card[name].as_str().unwrap_or_default().to_owned();
        let address = match card["handle"].as_str() {
            Some(handle) => format!("{handle}@agents.{}", text("domain")),
            None => text("jid"),
        };
        say::line(&format!("{address:<45} {:<10} {:<28} {}", text("provider"), text("name"), text("description")));
    }
    Ok(())
}

/// `aiox run`.
pub async fn run(command: RunCommand) -> Result<()> {
    match command {
        RunCommand::List(remote) => {
            let all = client(&remote, false).await?.get("/api/v1/runs").await?;
            if remote.json {
                return print(&all["data"]);
            }
            for run in all["data"].as_array().into_iter().flatten() {
                let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
                let input: String = text("input").chars().take(40).collect();
                say::line(&format!("{} {:<10} {:<6} {:<45} {input}", text("id"), text("status"), text("door"), text("agent_jid")));
            }
            Ok(())
        }
        RunCommand::Show { id, remote } => print(&client(&remote, false).await?.get(&format!("/api/v1/runs/{id}")).await?["data"]),
        RunCommand::Cancel { id, remote } => {
            print(&client(&remote, false).await?.post(&format!("/api/v1/runs/{id}/cancel"), &json!({})).await?["data"])
        }
    }
}

/// `aiox user`.
pub async fn user(command: User) -> Result<()> {
    let User::Add { username, email, role, configured } = command;
    let role = Role::parse(&role).with_context(|| format!("--role {role}: must be one of {}", Role::ALL.map(Role::as_str).join(", ")))?;
    let mut password = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(std::io::stdin(), 4096), &mut password)
        .context("the password is read from standard input")?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    let stop = CancellationToken::new();
    let tasks = Supervisor::new(stop.clone());
    let hub = Hub::build(settings::of(&configured)?, &tasks).await?;
    let made = hub.accounts.seed_user(&email, &username, password.into(), role).await.map_err(|error| anyhow::anyhow!(error.chain()))?;
    let store = hub.store.clone();
    drop(hub);
    stop.cancel();
    tasks.finish(std::time::Duration::from_secs(5)).await;
    store.close().await;
    say::done(&format!("account {} ({}) with role {}", made.username, made.jid, made.role));
    Ok(())
}

/// `aiox certs`.
pub fn certs(command: Certs) -> Result<()> {
    match command {
        Certs::Create { dir, domain, node, hosts, force } => {
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let authority = Authority::create(&format!("AIOX authority of {domain}"))?;
            let overwrite = if force { Overwrite::Replace } else { Overwrite::Refuse };
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            HubPaths::new(&dir).create(&authority, &HubNames { domain: &domain, node: &node, hosts: &hosts }, overwrite)?;
            aiox_certs::write_public("authority", &dir.join("authority.pem"), authority.certificate_pem().as_bytes(), overwrite)?;
            aiox_certs::write_private("authority key", &dir.join("authority.key"), authority.key_pem().as_bytes(), overwrite)?;
            say::done(&format!("keys and certificates of {domain} are in {}", dir.display()));
            Ok(())
        }
        Certs::Show { files } => {
            for file in files {
                for info in aiox_certs::inspect_file("certificate", &file)? {
                    let end = aiox_model::Ts::from_seconds(info.not_after);
                    say::line(&format!(
                        "{}\n  subject      {}\n  names        {}\n  purposes     {}\n  expires      {end}\n  fingerprint  {}",
                        file.display(),
                        info.subject,
                        info.names.join(", "),
                        info.purposes.join(", "),
                        info.fingerprint
                    ));
                }
            }
            Ok(())
        }
    }
}
