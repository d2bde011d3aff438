//! `aiox up`: from nothing to two federated hubs that answer.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use aiox_certs::{Authority, HubNames, Leaf, Overwrite};
use aiox_client::Client;
use aiox_core::Role;
use aiox_model::federation::PeerState;
use anyhow::{Context as _, Result, bail};
use owo_colors::OwoColorize as _;

use super::{
    demo, ejabberd,
    process::{self, Launch, Started, Status},
    prosody,
    server::Kind,
    site::{Credentials, Login, Mesh, Site},
};
use crate::{
    hub, say,
    secrets::{hex, write_private},
    settings,
};

/// How long a hub may take until it answers; a first start migrates its database.
const HUB_PATIENCE: Duration = Duration::from_secs(30);
/// How long workers and peers may take to find each other.
const WIRE_PATIENCE: Duration = Duration::from_secs(30);

/// What is asked for.
pub struct Plan {
    /// Where.
    pub mesh: Mesh,
    /// Leave the XMPP servers out.
    pub no_xmpp: bool,
    /// Assert everything and stop everything.
    pub verify: bool,
    /// XMPP server of hub B.
    pub server_b: Kind,
    /// Tell a program where everything is.
    pub json: bool,
}

/// Brings the mesh up and shows a conversation.
///
/// # Errors
/// At the first step that fails, with the last lines of the log that belongs to it.
pub async fn up(plan: &Plan) -> Result<()> {
    let began = Instant::now();
    let xmpp = preflight(plan)?;
    let mesh = &plan.mesh;
    say::step("keys and certificates");
    let sites = mesh.sites();
    make_identity(mesh)?;
    let provider = default_provider();
    for site in &sites {
        fs::create_dir_all(&site.dir).with_context(|| format!("cannot make {}", site.dir.display()))?;
        let kind = if site.letter == "b" { plan.server_b } else { Kind::Prosody };
        site.choose_server(kind).with_context(|| format!("cannot write to {}", site.dir.display()))?;
        prepare(mesh, site, xmpp, provider)?;
    }
    say::step("accounts and agents");
    for site in &sites {
        seed(site).await.with_context(|| format!("seeding {}", site.name))?;
    }
    if xmpp {
        say::step("XMPP servers");
        start_dns(mesh)?;
        for site in &sites {
            let credentials = credentials(site)?;
            site.server(&mesh.ca(), &credentials).start().await?;
        }
    }
    say::step("hubs and workers");
    for site in &sites {
        start_hub(site).await?;
        start_worker(site)?;
    }
    for site in &sites {
        wait_ready(mesh, site, xmpp).await?;
    }
    demo::seed_agents(mesh, &sites).await?;
    say::step("peers");
    introduce(mesh, &sites).await?;
    say::done(&format!("two hubs are up after {:.1} s", began.elapsed().as_secs_f64()));
    demo::show(mesh, &sites, xmpp, provider).await?;
    if plan.json {
        say::result(&document(mesh, &sites, xmpp)?.to_string());
    } else if !plan.verify {
        summary(mesh, &sites, xmpp, provider);
    }
    Ok(())
}

/// Checks what can be checked before anything is started. Whether the XMPP door will be open.
fn preflight(plan: &Plan) -> Result<bool> {
    say::step("checks");
    fs::create_dir_all(&plan.mesh.dir).with_context(|| format!("cannot make {}", plan.mesh.dir.display()))?;
    if plan.no_xmpp {
        return Ok(false);
    }
    if plan.server_b == Kind::Ejabberd && !ejabberd::installed() {
        bail!("ejabberd is not installed; {}", ejabberd::INSTALL);
    }
    if prosody::installed() {
        return Ok(true);
    }
    if plan.verify {
        bail!(
            "Prosody is not installed, so the XMPP half cannot be verified; install it ({}) or leave it out with --no-xmpp",
            prosody::INSTALL
        );
    }
    say::warn(&format!(
        "Prosody is not installed, so the XMPP door stays closed. To open it: {}; then aiox down && aiox up",
        prosody::INSTALL
    ));
    Ok(false)
}

/// The provider of agents that name none: a real one if there is a key for it.
fn default_provider() -> &'static str {
    let set = |name| settings::variable(name).is_some_and(|value| !value.is_empty());
    if set("OPENAI_API_KEY") {
        "openai"
    } else if set("ANTHROPIC_API_KEY") {
        "anthropic"
    } else if set("OLLAMA_BASE_URL") && set("AIOX__WORKER__PROVIDERS__OLLAMA__MODEL") {
        "ollama"
    } else {
        "echo"
    }
}

fn make_identity(mesh: &Mesh) -> Result<()> {
    let authority = if mesh.ca().exists() {
        let certificate = fs::read_to_string(mesh.ca()).context("the mesh authority cannot be read")?;
        let key = aiox_certs::read_private("mesh authority key", &mesh.ca_key())?;
        Authority::from_pem(&certificate, std::str::from_utf8(&key).context("the mesh authority's key is damaged")?)?
    } else {
        let authority = Authority::create("AIOX local mesh")?;
        aiox_certs::write_private("mesh authority key", &mesh.ca_key(), authority.key_pem().as_bytes(), Overwrite::Replace)?;
        aiox_certs::write_public("mesh authority", &mesh.ca(), authority.certificate_pem().as_bytes(), Overwrite::Refuse)?;
        authority
    };
    for site in mesh.sites() {
        let certs = site.certs();
        if certs.envelope_key().exists() {
            continue;
        }
        fs::create_dir_all(site.certs_dir()).context("cannot make the certificates' directory")?;
        let names = HubNames { domain: &site.domain(), node: site.letter, hosts: &["localhost", "127.0.0.1"] };
        let worker = authority.issue(&Leaf::worker(&site.domain(), &format!("worker-{}", site.letter))?)?;
        let (certificate, key) = certs.leaf("worker");
        aiox_certs::write_private("worker.key", &key, worker.key_pem.as_bytes(), Overwrite::Replace)?;
        aiox_certs::write_public("worker.certificate", &certificate, worker.certificate_pem.as_bytes(), Overwrite::Replace)?;
        // The envelope key is written last, so that a stopped start begins anew.
        certs.create(&authority, &names, Overwrite::Replace)?;
    }
    Ok(())
}

/// What a hub's seeded accounts sign in with.
pub fn credentials(site: &Site) -> Result<Credentials> {
    let file = site.credentials_file();
    let bytes = aiox_certs::read_private("credentials", &file).with_context(|| format!("{} is missing; run aiox up", file.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", file.display()))
}

/// A client of the hub at `url`. `ca`: the authority of the hub's certificate; absent = the machine's own.
pub fn trusting(url: &str, ca: Option<&Path>) -> Result<Client> {
    let pem = ca.map(|ca| fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))).transpose()?;
    Ok(Client::new(url, pem.as_deref())?)
}

/// A client of a hub of the mesh, signed in.
pub async fn signed_in(mesh: &Mesh, site: &Site, login: &Login) -> Result<Client> {
    let client = trusting(&site.url(), Some(&mesh.ca()))?;
    client.signed_in(&login.username, &login.password).await.with_context(|| format!("signing in at {}", site.name))
}

fn prepare(mesh: &Mesh, site: &Site, xmpp: bool, provider: &str) -> Result<()> {
    if !site.credentials_file().exists() {
        let login = |name: &str| Login {
            username: format!("{name}-{}", site.letter),
            email: format!("{name}-{}@{}", site.letter, site.domain()),
            password: hex()[..20].to_owned(),
        };
        let made = Credentials {
            admin: login("operator"),
            user: login("user"),
            component_secret: hex(),
            accounts_token: hex(),
            worker_key: hex(),
        };
        write_private(&site.credentials_file(), serde_json::to_string_pretty(&made)?.as_bytes())?;
    }
    let made = credentials(site)?;
    for (name, secret) in
        [("worker_key", &made.worker_key), ("component_secret", &made.component_secret), ("accounts_token", &made.accounts_token)]
    {
        write_private(&site.dir.join("secrets").join(name), secret.as_bytes())?;
    }
    let absolute = fs::canonicalize(&mesh.dir).context("cannot find the mesh directory")?;
    let anchored = Mesh { dir: absolute, base: mesh.base };
    let ca = anchored.ca();
    let own = anchored.sites().into_iter().find(|other| other.name == site.name).context("unknown hub")?;
    let text = own.settings(&ca, xmpp, provider);
    // What an operator has changed stays; what only follows from this start is kept true by the environment of the processes.
    if !site.config().exists() {
        fs::write(site.config(), text).with_context(|| format!("cannot write {}", site.config().display()))?;
    }
    Ok(())
}

/// Makes the first accounts and the first agent of a hub, directly on its database, unless they are there.
async fn seed(site: &Site) -> Result<()> {
    if process::status(&site.pid("hub"))? != Status::Stopped {
        return Ok(());
    }
    let made = credentials(site)?;
    hub::offline(settings::load(Some(&site.config()), &[])?, async |hub| {
        for (login, role) in [(&made.admin, Role::PlatformAdmin), (&made.user, Role::User)] {
            match hub.accounts.seed_user(&login.email, &login.username, login.password.clone().into(), role).await {
                Ok(_) | Err(aiox_core::Error::Conflict { .. }) => {}
                Err(error) => bail!("account {}: {}", login.username, error.chain()),
            }
        }
        Ok(())
    })
    .await
}

fn start_dns(mesh: &Mesh) -> Result<()> {
    if process::status(&mesh.dns_pid())? != Status::Stopped {
        return Ok(());
    }
    let mut command = this_program()?;
    command.arg("dev-dns").arg("--listen").arg(mesh.dns().to_string());
    for site in mesh.sites() {
        for domain in [site.domain(), format!("agents.{}", site.domain())] {
            command.arg("--server").arg(format!("{domain}={}", site.s2s()));
        }
    }
    Launch { name: "the DNS responder", command, log_file: mesh.dir.join("dns.log"), pid_file: mesh.dns_pid(), user: None }.start()?;
    Ok(())
}

fn this_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("cannot find this program")?))
}

/// Starts a hub and waits until it listens.
pub async fn start_hub(site: &Site) -> Result<()> {
    if process::status(&site.pid("hub"))? != Status::Stopped {
        return Ok(());
    }
    let mut command = this_program()?;
    command.arg("serve").arg("--config").arg(site.config());
    let name = format!("hub {}", site.name);
    let mut started = Launch { name: &name, command, log_file: site.log("hub"), pid_file: site.pid("hub"), user: None }.start()?;
    let ports =
        [site.http_port(), site.grpc_port(), site.federation_port()].map(|port| std::net::SocketAddr::new(super::site::LOOPBACK, port));
    started.accepts(&ports, HUB_PATIENCE).await
}

fn start_worker(site: &Site) -> Result<Option<Started>> {
    if process::status(&site.pid("worker"))? != Status::Stopped {
        return Ok(None);
    }
    let mut command = this_program()?;
    command.arg("worker").arg("--config").arg(site.config());
    let name = format!("worker of {}", site.name);
    Launch { name: &name, command, log_file: site.log("worker"), pid_file: site.pid("worker"), user: None }.start().map(Some)
}

/// Waits until a hub says that it is ready with a worker, and with its XMPP server where there is one.
async fn wait_ready(mesh: &Mesh, site: &Site, xmpp: bool) -> Result<()> {
    let client = trusting(&site.url(), Some(&mesh.ca()))?;
    let deadline = Instant::now() + WIRE_PATIENCE;
    loop {
        let seen = client.health().await;
        if let Ok(ready) = &seen {
            let part = |name: &str| ready.part(name) == Some("healthy");
            if part("database") && part("workers") && (!xmpp || part("xmpp")) {
                return Ok(());
            }
        }
        if Instant::now() > deadline {
            let state = match seen {
                Ok(ready) => serde_json::to_string(&ready)?,
                Err(error) => format!("{:#}", anyhow::Error::from(error)),
            };
            bail!(
                "{} is not ready: {state}\nlast lines of its log:\n{}\nlook further with: aiox logs {}",
                site.name,
                process::last_lines(&site.log("hub")),
                site.name
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Makes the two hubs peers of each other. This operator runs both, so it is the one who compares the fingerprints.
async fn introduce(mesh: &Mesh, sites: &[Site; 2]) -> Result<()> {
    let mut clients = Vec::new();
    for site in sites {
        clients.push(signed_in(mesh, site, &credentials(site)?.admin).await?);
    }
    for (here, there) in [(0, 1), (1, 0)] {
        let domain = sites[there].domain();
        let known = clients[here].peers().await?;
        match known.iter().find(|peer| peer.record.domain == domain).map(|peer| peer.record.state) {
            Some(PeerState::Active) => continue,
            Some(PeerState::Suspended) => {
                say::warn(&format!(
                    "{domain} is suspended at {}; resume it with: aiox peer resume {domain} --hub {}",
                    sites[here].name, sites[here].name
                ));
                continue;
            }
            Some(_) => clients[here].remove_peer(&domain).await?,
            None => {}
        }
        let own = clients[there].own_fingerprint().await?;
        clients[here].propose_peer(&domain, &sites[there].url()).await?;
        clients[here].confirm_peer(&domain, &own.fingerprint).await?;
    }
    Ok(())
}

/// Where everything is, for a program.
fn document(mesh: &Mesh, sites: &[Site; 2], xmpp: bool) -> Result<serde_json::Value> {
    let absolute = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let hubs = sites.iter().map(|site| {
        let (certificate, key) = site.certs().leaf("xmpp");
        let server = site.server(&mesh.ca(), &credentials(site)?);
        Ok(serde_json::json!({
            "name": site.name,
            "domain": site.domain(),
            "http": site.url(),
            "ca": absolute(&mesh.ca()),
            "c2s": ["127.0.0.1", site.c2s_port()],
            "s2s": ["127.0.0.1", site.s2s_port()],
            "certificate": absolute(&certificate),
            "key": absolute(&key),
            "agent": site.agent_jid(),
            "credentials": absolute(&site.credentials_file()),
            "server": site.server_kind().as_str(),
            "processes": {
                "hub": absolute(&site.pid("hub")),
                "worker": absolute(&site.pid("worker")),
                "xmpp": absolute(&server.pid_file()),
            },
        }))
    });
    let hubs = hubs.collect::<Result<Vec<_>>>()?;
    Ok(serde_json::json!({ "xmpp": xmpp, "hubs": hubs }))
}

fn summary(mesh: &Mesh, sites: &[Site; 2], xmpp: bool, provider: &str) {
    say::line("");
    for site in sites {
        say::line(&format!("{}", site.name.bold()));
        say::line(&format!("  REST         {}   (authority: {})", site.url(), mesh.ca().display()));
        if xmpp {
            say::line(&format!(
                "  XMPP         {} at localhost:{}   (account user-{}@{})",
                site.domain(),
                site.c2s_port(),
                site.letter,
                site.domain()
            ));
        }
        say::line(&format!("  agent        {}", site.agent_jid()));
        say::line(&format!("  credentials  {}", site.credentials_file().display()));
        say::line(&format!("  logs         aiox logs {} [hub|worker|xmpp]", site.name));
    }
    if provider == "echo" {
        say::line("");
        say::line("The agents use the built-in provider `echo`, which repeats what it is told. For a real one set OPENAI_API_KEY,");
        say::line("ANTHROPIC_API_KEY, or OLLAMA_BASE_URL with AIOX__WORKER__PROVIDERS__OLLAMA__MODEL; change llm.default_provider in each aiox.toml,
         and run: aiox down && aiox up");
    }
    say::line("");
    say::line("Next:");
    say::line("  aiox chat assistant@agents.hub-b.example \"Hello from the other hub\"");
    say::line("  aiox agents        aiox run list        aiox peer list        aiox doctor");
    say::line("  aiox down");
}

/// Stops everything of a mesh; data stays.
///
/// # Errors
/// When a process cannot be signalled.
pub async fn down(mesh: &Mesh) -> Result<()> {
    for site in mesh.sites() {
        stop(&format!("worker of {}", site.name), &site.pid("worker")).await?;
        stop(&format!("hub {}", site.name), &site.pid("hub")).await?;
        if site.credentials_file().exists() {
            let server = site.server(&mesh.ca(), &credentials(&site)?);
            if server.status()? != Status::Stopped {
                server.stop().await?;
                say::line(&format!("stopped XMPP server of {}", site.name));
            }
        }
    }
    stop("the DNS responder", &mesh.dns_pid()).await
}

async fn stop(name: &str, pid_file: &Path) -> Result<()> {
    if process::status(pid_file)? == Status::Stopped {
        return Ok(());
    }
    let how = process::stop(pid_file, Duration::from_secs(11)).await?;
    say::line(&format!("stopped {name} ({how:?})"));
    Ok(())
}
