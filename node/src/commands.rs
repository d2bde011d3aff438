//! The commands that talk to a hub.

use aiox_app::WorkerCredentials;
use aiox_certs::{Authority, HubNames, HubPaths, Leaf, Overwrite};
use aiox_client::{Client, Frame};
use aiox_core::Role;
use aiox_model::{
    RunId,
    conformance::{ConformanceRule, PeerConformance},
};
use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use serde::Serialize;

use crate::{
    cli::{Certs, Chat, Peer, Place, Remote, RunCommand, User, Workers},
    hub,
    operator::{
        site::{Mesh, Site},
        up::{self, credentials},
    },
    say,
    settings::{self, Configured},
};

/// How many of the latest runs are shown.
const SHOWN_RUNS: u32 = 20;

/// The mesh of a place.
pub fn mesh(place: &Place) -> Mesh {
    Mesh { dir: place.dir.clone(), base: place.base_port }
}

/// A hub of a mesh by its name.
pub fn site(mesh: &Mesh, name: &str) -> Result<Site> {
    mesh.sites().into_iter().find(|site| site.name == name).with_context(|| format!("{name}: must be hub-a or hub-b"))
}

/// A client of the hub that is meant: the named one, or one of the local mesh with its seeded account.
pub(crate) async fn client(remote: &Remote, admin: bool) -> Result<Client> {
    if let Some(url) = &remote.url {
        let key = remote.key.clone().context("--url needs --key (or AIOX_KEY)")?;
        return Ok(up::trusting(url, remote.ca.as_deref())?.with_credential(key.into()));
    }
    let mesh = mesh(&remote.place);
    let site = site(&mesh, &remote.hub)?;
    let made = credentials(&site)?;
    up::signed_in(&mesh, &site, if admin { &made.admin } else { &made.user }).await
}

pub(crate) fn print(value: &impl Serialize) -> Result<()> {
    say::result(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// `aiox peer`.
pub async fn peer(command: Peer) -> Result<()> {
    match command {
        Peer::Fingerprint(remote) => {
            say::line(&client(&remote, true).await?.own_fingerprint().await?.fingerprint);
            Ok(())
        }
        Peer::Add { domain, trust_url, fingerprint, remote } => {
            let client = client(&remote, true).await?;
            let proposed = client.propose_peer(&domain, &trust_url).await?;
            let seen = proposed.record.fingerprint;
            match fingerprint {
                Some(typed) => {
                    client.confirm_peer(&domain, &typed).await?;
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
            client(&remote, true).await?.confirm_peer(&domain, &fingerprint).await?;
            say::done(&format!("{domain} is an active peer"));
            Ok(())
        }
        Peer::List(remote) => {
            let all = client(&remote, true).await?.peers().await?;
            if remote.json {
                return print(&all);
            }
            for peer in all {
                let (state, record) = (peer.state(), peer.record);
                let seen = peer.last_seen_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
                say::line(&format!("{:<30} {state:<10} waiting {:<6} seen {seen:<20} {}", record.domain, peer.waiting, record.trust_url));
            }
            Ok(())
        }
        Peer::Show { domain, remote } => print(&client(&remote, true).await?.peer(&domain).await?),
        Peer::Suspend { domain, remote } => {
            client(&remote, true).await?.suspend_peer(&domain).await?;
            say::done(&format!("{domain} is suspended"));
            Ok(())
        }
        Peer::Resume { domain, remote } => {
            client(&remote, true).await?.resume_peer(&domain).await?;
            say::done(&format!("{domain} is active"));
            Ok(())
        }
        Peer::Require { domain, profile, max_age_days, nothing, remote } => {
            let rule = (!nothing).then_some(ConformanceRule { profiles: profile, max_age_days });
            let peer = client(&remote, true).await?.require_of_peer(&domain, rule.as_ref()).await?;
            let state = peer.state();
            match peer.record.conformance {
                None => say::done(&format!("{domain} is asked for no conformance result; it is {state}")),
                Some(PeerConformance { problem: None, .. }) => say::done(&format!("{domain} satisfies the rule; it is {state}")),
                Some(PeerConformance { problem: Some(problem), .. }) => {
                    bail!(
                        "the rule is set, and {domain} does not satisfy it: {problem}. It is {state}, and is looked at again every five minutes"
                    )
                }
            }
            Ok(())
        }
        Peer::AllowInsecure { stack_id, url, configured } => {
            if let Some(url) = &url {
                aiox_federation::plain::base_url(url).context("--url")?;
            }
            let chained = |error: aiox_core::Error| anyhow::anyhow!(error.chain());
            let work = async |hub: &hub::Hub| hub.book.let_in_insecurely(&stack_id, url.as_deref()).await.map_err(chained);
            hub::offline(settings::of(&configured)?, work).await?;
            say::warn(&format!(
                "{stack_id} is a peer without mutual TLS: whoever can reach it, or stand in between, can read and answer its runs"
            ));
            Ok(())
        }
        Peer::RemoveInsecure { stack_id, configured } => {
            let chained = |error: aiox_core::Error| anyhow::anyhow!(error.chain());
            hub::offline(settings::of(&configured)?, async |hub| hub.book.put_out(&stack_id).await.map_err(chained)).await?;
            say::done(&format!("{stack_id} is no peer any more"));
            Ok(())
        }
        Peer::Remove { domain, remote } => {
            client(&remote, true).await?.remove_peer(&domain).await?;
            say::done(&format!("{domain} is removed"));
            Ok(())
        }
    }
}

/// `aiox chat`.
pub async fn chat(command: Chat) -> Result<()> {
    let client = client(&command.remote, false).await?;
    let chat = aiox_client::Chat { agent: command.agent, message: command.message, ..aiox_client::Chat::default() };
    if command.stream && !command.remote.json {
        return watch(&client, &chat).await;
    }
    // A program wants one document: it is the same whether the answer was watched or not.
    let reply = client.chat(&chat).await?;
    if command.remote.json {
        return print(&reply);
    }
    say::line(&reply.response);
    Ok(())
}

/// Prints an answer as it comes. An answer that came without live text is printed whole.
async fn watch(client: &Client, chat: &aiox_client::Chat) -> Result<()> {
    let mut frames = std::pin::pin!(client.chat_stream(chat).await?);
    let mut begun = false;
    while let Some(frame) = frames.next().await {
        match frame {
            Ok(Frame::Delta(delta)) => {
                begun = true;
                say::piece(&delta.text);
            }
            Ok(Frame::Event(event)) => {
                if begun && event.kind == "run.retried" {
                    begun = false;
                    say::line("");
                }
            }
            Ok(Frame::Done(reply)) => {
                if !begun {
                    say::piece(&reply.response);
                }
            }
            Err(error) => {
                if begun {
                    say::line("");
                }
                return Err(error.into());
            }
        }
    }
    say::line("");
    Ok(())
}

/// `aiox agents`.
pub async fn agents(remote: Remote) -> Result<()> {
    let all = client(&remote, false).await?.mesh().await?;
    if remote.json {
        return print(&all);
    }
    for card in all {
        let address = match card.handle {
            Some(handle) => format!("{handle}@agents.{}", card.domain),
            None => card.jid,
        };
        say::line(&format!("{address:<45} {:<10} {:<28} {}", card.provider, card.name, card.description));
    }
    Ok(())
}

/// `aiox run`.
pub async fn run(command: RunCommand) -> Result<()> {
    match command {
        RunCommand::List(remote) => {
            let all = client(&remote, false).await?.runs(SHOWN_RUNS).await?;
            if remote.json {
                return print(&all);
            }
            for run in all {
                let input: String = run.input.chars().take(40).collect();
                say::line(&format!("{} {:<10} {:<6} {:<45} {input}", run.id, run.status.as_str(), run.door, run.agent_jid));
            }
            Ok(())
        }
        RunCommand::Show { id, remote } => {
            let run = run_id(&id)?;
            print(&client(&remote, false).await?.run(run.uuid()).await?)
        }
        RunCommand::Cancel { id, remote } => {
            let run = run_id(&id)?;
            print(&client(&remote, false).await?.cancel(run.uuid()).await?)
        }
    }
}

fn run_id(text: &str) -> Result<RunId> {
    text.parse().with_context(|| text.to_owned())
}

/// `aiox user`.
pub async fn user(command: User) -> Result<()> {
    let User::Add { username, email, role, configured } = command;
    let role = Role::parse(&role).with_context(|| format!("--role {role}: must be one of {}", Role::ALL.map(Role::as_str).join(", ")))?;
    let mut password = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(std::io::stdin(), 4096), &mut password)
        .context("the password is read from standard input")?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    let made = hub::offline(settings::of(&configured)?, async |hub| {
        hub.accounts.seed_user(&email, &username, password.into(), role).await.map_err(|error| anyhow::anyhow!(error.chain()))
    })
    .await?;
    say::done(&format!("account {} ({}) with role {}", made.username, made.jid, made.role));
    Ok(())
}

/// `aiox keys rotate`.
pub async fn rotate_keys(configured: &Configured) -> Result<()> {
    let chained = |error: aiox_core::Error| anyhow::anyhow!(error.chain());
    hub::offline(settings::of(configured)?, async |hub| {
        for tenant in hub.vault.tenants().await.map_err(chained)? {
            let done = hub.vault.rotate(tenant).await.map_err(chained)?;
            say::done(&format!("{tenant}: {done} values sealed with a new key"));
        }
        Ok(())
    })
    .await
}

/// `aiox workers`.
pub async fn workers(command: Workers) -> Result<()> {
    let (Workers::Key { configured, .. } | Workers::Revoke { configured, .. } | Workers::List(configured)) = &command;
    hub::offline(settings::of(configured)?, async |hub| with_credentials(&hub.worker_credentials, command).await).await
}

async fn with_credentials(credentials: &WorkerCredentials, command: Workers) -> Result<()> {
    let chained = |error: aiox_core::Error| anyhow::anyhow!(error.chain());
    match command {
        Workers::Key { worker, .. } => {
            let key = credentials.issue_key(&worker).await.map_err(chained)?;
            say::result(secrecy::ExposeSecret::expose_secret(&key));
        }
        Workers::Revoke { worker, certificate: None, .. } => {
            let count = credentials.revoke_keys(&worker).await.map_err(chained).with_context(|| format!("{worker} has no key"))?;
            say::done(&format!("{count} keys of {worker} are revoked"));
        }
        Workers::Revoke { worker, certificate: Some(file), .. } => {
            let leaf = aiox_certs::load_chain("--certificate", &file)?.into_iter().next().context("--certificate has no certificate")?;
            let new = credentials.revoke_certificate(&worker, aiox_crypto::sha256(&leaf)).await.map_err(chained)?;
            say::done(&format!("the certificate {} {}", file.display(), if new { "is revoked" } else { "was revoked before" }));
        }
        Workers::List(_) => {
            for one in credentials.list().await.map_err(chained)? {
                let state = if one.revoked { "revoked" } else { "good" };
                say::line(&format!("{:<30} {:<12} {}  {state}", one.worker_id, one.kind, one.fingerprint));
            }
        }
    }
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
        Certs::Worker { worker, dir, domain, force } => {
            let certificate = aiox_certs::read_public("authority", &dir.join("authority.pem"))?;
            let key = aiox_certs::read_private("authority key", &dir.join("authority.key"))?;
            let text = |bytes| std::str::from_utf8(bytes).context("the authority is no PEM text");
            let issued = Authority::from_pem(text(&certificate)?, text(&key)?)?.issue(&Leaf::worker(&domain, &worker)?)?;
            let overwrite = if force { Overwrite::Replace } else { Overwrite::Refuse };
            let (certificate, key) = HubPaths::new(&dir).leaf(&format!("worker-{worker}"));
            aiox_certs::write_private("worker key", &key, issued.key_pem.as_bytes(), overwrite)?;
            aiox_certs::write_public("worker certificate", &certificate, issued.certificate_pem.as_bytes(), overwrite)?;
            say::done(&format!("certificate and key of {worker} are {} and {}", certificate.display(), key.display()));
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
