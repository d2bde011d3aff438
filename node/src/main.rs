//! The `aiox` program: one binary for hubs, workers and those who use them.

mod audit_commands;
mod audit_sink;
mod cli;
mod commands;
mod conformance;
mod doors;
mod health;
mod hub;
mod identity;
mod issuers;
mod listen;
mod models;
mod no_peers;
mod operator;
mod peers_file;
mod published_result;
mod say;
mod secrets;
mod serve;
mod settings;
mod sign_in;
mod supervise;
mod tenant_commands;
mod worker;

use std::process::ExitCode;

use aiox_config::{LogFormat, Settings};
use anyhow::{Context as _, Result};
use clap::Parser as _;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command},
    operator::{dns, up::Plan},
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        say::error("the TLS library was set up twice");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say::error(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run(cli.command));
    // What still blocks, a password hash for instance, must not hold the exit up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match done {
        Ok(code) => code,
        Err(error) => {
            say::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    let done = match command {
        Command::Up(up) => {
            quiet();
            if up.json {
                say::aside();
            }
            let plan =
                Plan { json: up.json, server_b: up.server_b, mesh: commands::mesh(&up.place), no_xmpp: up.no_xmpp, verify: up.verify };
            if up.verify { operator::verify::verify(plan).await } else { operator::up::up(&plan).await }
        }
        Command::Down(place) => operator::up::down(&commands::mesh(&place)).await,
        Command::Status(place) => operator::status::status(&commands::mesh(&place)).await,
        Command::Logs(logs) => operator::status::logs(&commands::mesh(&logs.place), &logs.hub, &logs.part, logs.lines, logs.follow).await,
        Command::Doctor(place) => operator::doctor::doctor(&commands::mesh(&place)).await,
        Command::Serve(configured) => {
            let settings = settings::of(&configured)?;
            log(&settings)?;
            let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().context("cannot count")?;
            serve::run(settings, metrics, stop_on_signal()?).await
        }
        Command::Worker(configured) => {
            let settings = settings::of(&configured)?;
            log(&settings)?;
            worker::run(&settings, stop_on_signal()?).await
        }
        Command::Migrate(configured) => {
            hub::migrate(&settings::of(&configured)?).await?;
            say::done("the database is up to date");
            Ok(())
        }
        Command::Keys(cli::Keys::Rotate(configured)) => commands::rotate_keys(&configured).await,
        Command::Certs(command) => commands::certs(command),
        Command::Workers(command) => commands::workers(command).await,
        Command::Peer(command) => commands::peer(command).await,
        Command::Tenant(command) => tenant_commands::tenant(command).await,
        Command::Audit(command) => audit_commands::audit(command).await,
        Command::User(command) => commands::user(command).await,
        Command::Chat(command) => commands::chat(command).await,
        Command::Agents(remote) => commands::agents(remote).await,
        Command::Run(command) => commands::run(command).await,
        // The verdict is told by the exit code.
        Command::Conformance(command) => return Ok(conformance::conformance(*command).await),
        Command::DevDns(options) => dev_dns(options).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Log lines on standard error, where the service's log file or journal takes them.
fn log(settings: &Settings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.log.level).with_context(|| format!("log.level: {} is no filter", settings.log.level))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log.format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Commands speak for themselves; only what goes wrong inside is logged.
fn quiet() {
    tracing_subscriber::fmt().with_env_filter(EnvFilter::new("error")).with_writer(std::io::stderr).init();
}

fn stop_on_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

async fn dev_dns(options: cli::DevDns) -> Result<()> {
    let peers = dns::Peers::default();
    for server in &options.servers {
        let (domain, address) = server.split_once('=').with_context(|| format!("--server {server}: must be domain=address:port"))?;
        peers.set(domain, address.parse().with_context(|| format!("--server {server}: must be domain=address:port"))?);
    }
    let responder = dns::Responder::bind(options.listen, peers).await.with_context(|| format!("cannot listen on {}", options.listen))?;
    let stop = stop_on_signal()?;
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = responder.run() => Ok(()),
    }
}
