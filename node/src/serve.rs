//! `aiox serve`: a hub with all its doors, until it is told to stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aiox_app::WorkerCredentials;
use aiox_config::{Mode, Settings};
use aiox_crypto::system::SystemClock;
use aiox_grpc::{Admission, Known, TlsConfig};
use aiox_http::Service;
use aiox_xmpp::{Brakes, UseCases, XmppDoor, XmppOptions};
use anyhow::{Context as _, Result};
use axum::Extension;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{
    doors,
    health::Health,
    hub::Hub,
    identity, listen,
    operator::{accounts::XmppAccounts, ejabberd_sessions::EjabberdSessions},
    peers_file, sign_in,
    supervise::Supervisor,
};

/// From the signal on: sessions of workers finish what they have, and requests under way are answered.
const DRAIN: Duration = Duration::from_secs(5);
/// Then the doors are closed.
const DOORS: Duration = Duration::from_millis(6500);
/// Then what works behind them writes what it has.
const INSIDE: Duration = Duration::from_secs(1);
/// How often credentials of workers are looked at. A revoked one is good for so much longer.
const CREDENTIALS: Duration = Duration::from_secs(2);

/// Runs a hub until `stop`.
///
/// # Errors
/// When it cannot start; the text names what is missing or taken.
pub async fn run(settings: Settings, metrics: PrometheusHandle, stop: CancellationToken) -> Result<()> {
    let began = std::time::Instant::now();
    identity::read_program();
    // The doors close first. What works behind them goes on until nothing comes in any more.
    let (doors, inside) = (Supervisor::new(stop.clone()), CancellationToken::new());
    let tasks = doors.beside(inside.clone());
    let mut hub = Hub::build(settings, &tasks).await?;
    refuse_insecure_peers(&hub).await?;
    // Every file is read and every listener bound before anything begins, so that what is missing or taken stops the start.
    let tls = match (&hub.settings.http.tls_cert, &hub.settings.http.tls_key) {
        (Some(certificate), Some(key)) => Some(listen::tls(certificate, key)?),
        _ => None,
    };
    let workers_tls = workers_tls(&hub)?;
    let http = bind("http.port", &hub.settings.http.host, hub.settings.http.port).await?;
    let ports = &hub.settings.http.ports;
    let mut groups = Vec::new();
    for (name, port, service) in [
        ("http.ports.agent_orchestrator", ports.agent_orchestrator, None),
        ("http.ports.model_policy", ports.model_policy, Some(Service("model-policy"))),
        ("http.ports.federation", ports.federation, None),
    ] {
        if let Some(port) = port {
            groups.push((name, bind(name, &hub.settings.http.host, port).await?, service));
        }
    }
    let grpc = bind("grpc.port", &hub.settings.grpc.host, hub.settings.grpc.port).await?;
    let peers = match &hub.federation {
        Some(_) => Some(bind("federation.port", &hub.settings.federation.host, hub.settings.federation.port).await?),
        None => None,
    };
    let questions = match &hub.settings.xmpp.sign_in_address {
        Some(address) if hub.settings.xmpp.enabled => {
            let address: SocketAddr = address.parse().context("xmpp.sign_in_address must be address:port")?;
            Some(bind("xmpp.sign_in_address", &address.ip().to_string(), address.port()).await?)
        }
        _ => None,
    };
    hub.start_work(&tasks).await?;
    follow_peers_file(&hub, &doors).await?;

    let xmpp = start_xmpp(&hub, &doors)?;
    if let Some(listener) = questions {
        let token = hub.settings.xmpp.accounts_token()?.context("xmpp.accounts_token is required with xmpp.sign_in_address")?;
        let router = sign_in::router(hub.accounts.clone(), hub.limiter.clone(), token.to_secrecy());
        doors.once("sign-in questions", |stop| listen::serve(listener, None, router, stop));
    }
    start_workers_door(&hub, grpc, workers_tls, &doors).await?;
    if let (Some(federation), Some(listener)) = (hub.federation.clone(), peers) {
        let (served, sent) = (federation.clone(), federation);
        doors.once("peer listener", |stop| async move { served.listen(listener, stop).await.context("the peer listener") });
        doors.run("federation", move |stop| {
            let sent = sent.clone();
            async move {
                sent.send(stop).await;
                Ok(())
            }
        });
    }
    let health = Arc::new(Health::new(&hub, xmpp, doors.clone()));
    let router = doors::router(&hub, health, metrics.clone())?;
    for (name, listener, service) in groups {
        tracing::info!(port = name, address = %listener.local_addr()?, "a further port is open");
        let (tls, router) = (tls.clone(), router.clone());
        let router = match service {
            Some(service) => router.layer(Extension(service)),
            None => router,
        };
        doors.once(name, |stop| listen::serve(listener, tls, router, stop));
    }
    doors.once("http listener", |stop| listen::serve(http, tls, router, stop));
    // The recorder keeps its samples until it is told that time has passed.
    tasks.run("metrics", move |stop| {
        let metrics = metrics.clone();
        async move {
            let mut tick = tokio::time::interval(Duration::from_secs(5));
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = tick.tick() => metrics.run_upkeep(),
                }
            }
        }
    });
    tracing::info!(
        domain = hub.names.domain(),
        http = format!("{}:{}", hub.settings.http.host, hub.settings.http.port),
        grpc = format!("{}:{}", hub.settings.grpc.host, hub.settings.grpc.port),
        ready_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "hub is up"
    );

    stop.cancelled().await;
    tracing::info!("hub stops");
    hub.dispatch.closing();
    if !doors.finish(DOORS).await {
        tracing::warn!("some doors did not close in time");
    }
    hub.dispatch.close_all();
    inside.cancel();
    let store = hub.store.clone();
    // The journal ends when nobody is left who could write.
    drop(hub);
    if !tasks.finish(INSIDE).await {
        tracing::warn!("some tasks did not end in time; what they held is durable and goes on at the next start");
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), store.close()).await;
    tracing::info!("hub has stopped");
    Ok(())
}

/// Production talks to peers by mutual TLS alone.
async fn refuse_insecure_peers(hub: &Hub) -> Result<()> {
    let insecure = hub.book.insecure().await.map_err(|error| anyhow::anyhow!(error.chain()))?;
    match insecure.first() {
        Some(peer) if hub.settings.hub.mode == Mode::Prod => anyhow::bail!(
            "the peer {peer} is let in without mutual TLS, and production does not do that; remove it with: aiox peer remove-insecure {peer}"
        ),
        _ => Ok(()),
    }
}

/// Takes over the peers file, and does so again at every SIGHUP.
async fn follow_peers_file(hub: &Hub, doors: &Supervisor) -> Result<()> {
    let Some(file) = &hub.peers_file else { return Ok(()) };
    let own = hub.stack.peer.stack_id.clone();
    peers_file::import(&hub.book, file, &own).await.context("federation.peers_file")?;
    let (settings, book, local) = (hub.settings.clone(), hub.book.clone(), file.local.clone());
    let mut signals = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    doors.once("peers file", |stop| async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = signals.recv() => peers_file::reload(&settings, &book, &own, local.as_ref()).await,
            }
        }
    });
    Ok(())
}

async fn bind(name: &str, host: &str, port: u16) -> Result<TcpListener> {
    TcpListener::bind((host, port)).await.with_context(|| format!("{name}: cannot listen on {host}:{port}; is another hub running there?"))
}

fn start_xmpp(hub: &Hub, doors: &Supervisor) -> Result<Option<watch::Receiver<aiox_xmpp::LinkState>>> {
    let own = &hub.settings.xmpp;
    if !own.enabled {
        tracing::info!("the XMPP door is off: no XMPP server is configured (xmpp.enabled)");
        return Ok(None);
    }
    let secret = own.secret()?.context("xmpp.secret is required when xmpp.enabled is true")?;
    let address = format!("{}:{}", own.component_host, own.component_port);
    let mut options = XmppOptions::new(hub.names.domain(), &address, secret.to_secrecy());
    options.brakes = Brakes {
        burst: own.brakes.burst,
        per_second: own.brakes.per_second,
        bot_burst: own.brakes.program_burst,
        bot_per_minute: own.brakes.program_per_minute,
        instant_turns: own.brakes.instant_turns,
    };
    let cases = UseCases {
        accounts: hub.accounts.clone(),
        agents: hub.agents.clone(),
        runs: hub.runs.clone(),
        replies: hub.replies.clone(),
        contacts: hub.contacts.clone(),
    };
    let door = XmppDoor::new(options, cases).context("the XMPP door cannot open")?;
    let state = door.state();
    doors.once("xmpp", |stop| {
        let open = door.run(stop);
        async move {
            open.await;
            Ok(())
        }
    });
    if let Some(address) = &own.accounts_address {
        let address: SocketAddr = address.parse().context("xmpp.accounts_address must be address:port")?;
        let token = own.accounts_token()?.context("xmpp.accounts_token is required with xmpp.accounts_address")?;
        let server = XmppAccounts::new(address, token.to_secrecy())?;
        let accounts = hub.accounts.clone();
        doors.run("xmpp accounts", move |stop| {
            let (server, accounts) = (server.clone(), accounts.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = server.follow(&accounts) => {}
                }
                Ok(())
            }
        });
    }
    if let Some(socket) = &own.ejabberd_socket {
        let sessions = EjabberdSessions::new(socket, hub.names.domain())?;
        let accounts = hub.accounts.clone();
        doors.run("ejabberd sessions", move |stop| {
            let (sessions, accounts) = (sessions.clone(), accounts.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sessions.follow(&accounts) => {}
                }
                Ok(())
            }
        });
    }
    Ok(Some(state))
}

/// TLS of the workers' door, where it is configured.
fn workers_tls(hub: &Hub) -> Result<Option<TlsConfig>> {
    let own = &hub.settings.grpc;
    let (Some(certificate), Some(key)) = (&own.tls_cert, &own.tls_key) else { return Ok(None) };
    let chain = aiox_certs::read_public("grpc.tls_cert", certificate)?;
    let key = aiox_certs::read_private("grpc.tls_key", key)?;
    let ca = own.worker_ca.as_ref().map(|file| aiox_certs::read_public("grpc.worker_ca", file)).transpose()?;
    let config = aiox_grpc::server_config(&chain, &key, ca.as_deref(), false).context("grpc.tls_cert")?;
    Ok(Some(watch::channel(Arc::new(config)).1))
}

async fn start_workers_door(hub: &Hub, listener: TcpListener, tls: Option<TlsConfig>, doors: &Supervisor) -> Result<()> {
    let own = &hub.settings.grpc;
    let shared = Known::shared(&hub.worker_key).context("grpc.worker_key")?;
    let credentials = hub.worker_credentials.clone();
    let (change, known) = watch::channel(Arc::new(current(&shared, &credentials).await?));
    doors.run("worker credentials", move |stop| {
        let (shared, credentials, change) = (shared.clone(), credentials.clone(), change.clone());
        async move {
            let mut tick = tokio::time::interval(CREDENTIALS);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = tick.tick() => {}
                }
                let now = Arc::new(current(&shared, &credentials).await?);
                change.send_if_modified(|before| {
                    let changed = *before != now;
                    *before = now;
                    changed
                });
            }
        }
    });
    let admission = Admission {
        known,
        tokens: hub.worker_tokens.clone(),
        domain: hub.names.domain().to_owned(),
        token_life: Duration::from_secs(own.worker_token_seconds.into()),
        clock: Arc::new(SystemClock),
    };
    let options = aiox_grpc::Options { drain_timeout: DRAIN, ..aiox_grpc::Options::default() };
    let dispatch = hub.dispatch.clone();
    doors.once("workers' door", |stop| async move {
        aiox_grpc::serve(listener, tls, admission, dispatch, options, stop).await.context("the workers' door")
    });
    Ok(())
}

/// The workers' credentials of the moment.
async fn current(shared: &Known, credentials: &WorkerCredentials) -> Result<Known> {
    let found = credentials.known().await.map_err(|error| anyhow::anyhow!(error.chain())).context("workers' credentials")?;
    Ok(Known { own: found.keys, revoked: found.revoked.into_iter().collect(), ..shared.clone() })
}
