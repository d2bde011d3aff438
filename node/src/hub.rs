//! The composition root: settings to adapters to use cases to doors, and the tasks that keep them going.

use std::{sync::Arc, time::Duration};

use aiox_app::{
    Accounts, AccountsOptions, Agents, Contacts, Directory, Dispatch, DispatchOptions, Federated, HubNames, Ingest, ModelGateway, PeerBook,
    Replies, Runs, RunsOptions, SignUp, TenantBook, Tenants, Urgency, Vault, WorkerCredentials, dispatch::Watch, samples,
};
use aiox_bus::{MemoryEvents, MemoryQueue};
use aiox_cache::{MemoryLimiter, MemoryReplayGuard};
use aiox_config::{Engine, Mode, Settings};
use aiox_core::{
    policy::Policy,
    ports::{Clock, Events, Ids, RateLimiter, WorkQueue},
    quota::Limits,
    tenant::{self, Pace},
};
use aiox_crypto::{
    system::{SystemClock, SystemIds},
    tokens::Tokens,
    worker_token::WorkerTokens,
};
use aiox_federation::{
    plain::PlainClient,
    service::{Federation, FederationOptions, Outward},
};
use aiox_model::{TenantId, v1::federation::Stack};
use aiox_store::{Journal, Store, StoreOptions, tenants as tenant_rows};
use anyhow::{Context as _, Result};

use tokio_util::sync::CancellationToken;

use crate::{
    audit_sink::AuditSink, identity, issuers, models, no_peers::NoPeers, peers_file::PeersFile, secrets::Secrets, supervise::Supervisor,
};

/// The tenant of accounts that register at the hub.
const DEFAULT_TENANT: &str = "default";
/// Providers that every build of the worker knows.
const KNOWN_PROVIDERS: [&str; 4] = ["openai", "anthropic", "ollama", "echo"];

/// A hub, built and not yet listening.
pub struct Hub {
    /// What it was built from.
    pub settings: Settings,
    /// Names that follow from its domain.
    pub names: HubNames,
    /// The database.
    pub store: Store,
    /// Accounts.
    pub accounts: Accounts,
    /// Tenants.
    pub tenants: Tenants,
    /// Agents.
    pub agents: Agents,
    /// Keys of what is sealed.
    pub vault: Vault,
    /// Runs.
    pub runs: Runs,
    /// Runs to workers.
    pub dispatch: Dispatch,
    /// Calls of models.
    pub gateway: ModelGateway,
    /// Replies for XMPP.
    pub replies: Replies,
    /// Presence subscriptions.
    pub contacts: Contacts,
    /// Runs between hubs.
    pub federated: Federated,
    /// Events that programs bring in.
    pub ingest: Ingest,
    /// Peers.
    pub book: PeerBook,
    /// Limits of the doors.
    pub limiter: Arc<dyn RateLimiter>,
    /// Federation, when it is on.
    pub federation: Option<Arc<Federation>>,
    /// The workers' key.
    pub worker_key: secrecy::SecretString,
    /// Their tokens.
    pub worker_tokens: WorkerTokens,
    /// Credentials of single workers.
    pub worker_credentials: WorkerCredentials,
    clock: Arc<dyn Clock>,
    watch: Option<Watch>,
    sink: Option<AuditSink>,
    /// What the peers file said at the start.
    pub peers_file: Option<PeersFile>,
    /// What programs and peers are told of this hub.
    pub stack: Stack,
}

impl Hub {
    /// Opens the database and builds everything on it. The journal runs under `tasks`, because building already writes.
    ///
    /// # Errors
    /// When the database, a secret or a certificate is missing or unusable; the text names it.
    pub async fn build(settings: Settings, tasks: &Supervisor) -> Result<Self> {
        let secrets = Secrets::load(&settings)?;
        let peers_file = PeersFile::load(&settings)?;
        let stack = identity::stack(&settings, peers_file.as_ref().and_then(|file| file.local.as_ref()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(SystemIds);
        let names = HubNames::new(&settings.hub.domain);
        if let Some(name) = &settings.xmpp.component_name
            && *name != names.agents_domain()
        {
            anyhow::bail!(
                "xmpp.component_name is {name}, but the agents of {} live at {}; the two must not differ",
                names.domain(),
                names.agents_domain()
            );
        }
        let store = open_store(&settings).await?;
        let (journal, work) = Journal::new(store.clone());
        tasks.once("journal", |_| async {
            work.await;
            Ok(())
        });

        let mut tx = store.begin().await.context("cannot write to the database")?;
        let tenant = tenant_rows::ensure(&mut tx, ids.uuid(), DEFAULT_TENANT, clock.now()).await?;
        tx.commit().await?;

        let governance = &settings.governance;
        let limits =
            Limits { tokens_day: governance.tokens_day, tokens_minute: governance.tokens_minute, requests_day: governance.requests_day };
        let remote_limits = Limits {
            tokens_day: governance.remote_tokens_day,
            tokens_minute: governance.remote_tokens_minute,
            requests_day: governance.remote_requests_day,
        };
        let default_provider = settings.llm.default_provider.to_lowercase();
        let queue: Arc<dyn WorkQueue> = Arc::new(MemoryQueue::default());
        let events: Arc<dyn Events> = Arc::new(MemoryEvents::default());
        let limiter: Arc<dyn RateLimiter> = Arc::new(MemoryLimiter::default());

        let node_limits = tenant::Limits {
            create: Some(Pace::per_second(governance.run_create_qps, None)),
            concurrent: Some(governance.concurrent_runs),
            invoke: Some(Pace::per_second(governance.invoke_qps, None)),
            ..tenant::Limits::default()
        };
        let tenants_book = TenantBook::new(store.clone(), clock.clone(), node_limits);
        let vault = Vault::new(store.clone(), secrets.master, clock.clone(), ids.clone());
        let tokens =
            Tokens::new(names.domain(), &secrets.access, &secrets.refresh, settings.auth.access_seconds, settings.auth.refresh_seconds)?;
        let accounts_options = AccountsOptions {
            sign_up: match settings.auth.sign_up {
                aiox_config::SignUp::Open => SignUp::Open,
                aiox_config::SignUp::Invite => SignUp::Invite,
                aiox_config::SignUp::Closed => SignUp::Closed,
            },
            limits,
            remote_limits,
            default_tenant: TenantId(tenant),
            tenants: tenants_book.clone(),
        };
        let accounts = Accounts::new(store.clone(), vault.clone(), tokens, names.clone(), clock.clone(), ids.clone(), accounts_options);
        let accounts = accounts.with_issuers(issuers::load(&settings)?);
        let tenants =
            Tenants::new(store.clone(), vault.clone(), tenants_book.clone(), clock.clone(), ids.clone(), &names, TenantId(tenant));
        let sink = AuditSink::open(&settings, &store, &tenants)?;
        let directory = Directory::new(store.clone(), names.clone());
        let agents = Agents::new(store.clone(), vault.clone(), directory.clone(), clock.clone(), ids.clone(), default_provider.clone());
        let replies = Replies::new(store.clone(), journal.clone());
        let contacts = Contacts::new(store.clone(), clock.clone());
        let mut book = PeerBook::new(store.clone(), tenant, clock.clone(), ids.clone());
        // Production talks to peers by mutual TLS alone.
        if settings.hub.mode != Mode::Prod {
            book = book.with_plain(Arc::new(PlainClient::new().context("plain peers")?));
        }
        let ingest = Ingest::new(store.clone(), clock.clone(), ids.clone());

        let outward = match settings.federation.enabled {
            true => Some(Outward::new(identity::local_node(&settings, &stack)?, clock.clone(), ids.clone())),
            false => {
                identity::given(&settings)?;
                None
            }
        };
        let wire = outward.as_ref().map_or_else(|| Arc::new(NoPeers) as _, Outward::wire);
        let federated = Federated::new(store.clone(), journal.clone(), events.clone(), clock.clone(), ids.clone(), replies.clone(), wire);
        let known =
            KNOWN_PROVIDERS.iter().map(|name| (*name).to_owned()).chain(settings.llm.providers.iter().map(|name| name.to_lowercase()));
        let urgency = Urgency::default();
        let options = RunsOptions {
            default_provider: default_provider.clone(),
            known_providers: known.chain([default_provider.clone()]).collect(),
            timeout_ms: governance.task_timeout_ms,
            max_timeout_ms: governance.max_timeout_ms,
            tenants: tenants_book,
            urgency: urgency.clone(),
        };
        let runs = Runs::new(
            store.clone(),
            journal.clone(),
            directory.clone(),
            queue.clone(),
            events.clone(),
            clock.clone(),
            ids.clone(),
            replies.clone(),
            federated.clone(),
            options,
        );
        let (dispatch, watch) = Dispatch::new(
            store.clone(),
            journal.clone(),
            queue,
            events,
            clock.clone(),
            ids.clone(),
            vault.clone(),
            replies.clone(),
            names.clone(),
            DispatchOptions { default_provider, urgency },
        );
        let worker_tokens = WorkerTokens::new(names.domain(), &secrets.access)?;
        let worker_credentials = WorkerCredentials::new(store.clone(), clock.clone(), ids.clone());
        let gateway = ModelGateway::new(
            store.clone(),
            tenants.book().clone(),
            clock.clone(),
            ids.clone(),
            dispatch.lines().clone(),
            Policy::new(&settings.policy.blocked_terms)?,
            models::options(&settings, names.domain()),
        );
        let runs = runs.with_models(gateway.clone());
        let federation = match outward {
            Some(outward) => {
                let durable = aiox_federation::durable::Durable::new(
                    runs.clone(),
                    agents.clone(),
                    directory,
                    federated.clone(),
                    book.clone(),
                    clock.clone(),
                    remote_limits,
                );
                let guard = Arc::new(MemoryReplayGuard::new(clock.clone()));
                let options: FederationOptions = identity::federation_options(&settings)?;
                let federation =
                    Federation::start(outward, durable, guard, limiter.clone(), options).await.context("federation cannot start")?;
                Some(Arc::new(federation))
            }
            None => None,
        };
        Ok(Self {
            settings,
            names,
            store,
            accounts,
            tenants,
            agents,
            vault,
            runs,
            dispatch,
            gateway,
            replies,
            contacts,
            federated,
            ingest,
            book,
            limiter,
            federation,
            worker_key: secrets.worker_key,
            worker_tokens,
            worker_credentials,
            clock,
            watch: Some(watch),
            sink,
            peers_file,
            stack,
        })
    }

    /// Starts what works beside the doors: time limits, lost leases, unfinished runs, retention. Outside production the samples are made
    /// first.
    ///
    /// # Errors
    /// When unfinished runs cannot be read, or the samples cannot be written.
    pub async fn start_work(&mut self, tasks: &Supervisor) -> Result<()> {
        if self.settings.hub.mode != Mode::Prod {
            let made = samples::make(&self.store, &self.accounts, &self.agents, &*self.clock, &SystemIds).await;
            made.map_err(|error| anyhow::anyhow!(error.chain())).context("the samples cannot be made")?;
        }
        let found = self.dispatch.recover().await.context("unfinished runs cannot be read")?;
        if found > 0 {
            tracing::info!(runs = found, "unfinished runs wait again");
        }
        if let Some(watch) = self.watch.take() {
            tasks.run("dispatch", move |stop| {
                let watch = watch.clone();
                async move {
                    watch.run(stop).await;
                    Ok(())
                }
            });
        }
        if let Some(sink) = &self.sink {
            let sink = sink.clone();
            tasks.run("audit sink", move |stop| {
                let sink = sink.clone();
                async move {
                    sink.run(stop).await;
                    Ok(())
                }
            });
        }
        let watched = self.book.clone();
        tasks.run("plain peers", move |stop| {
            let watched = watched.clone();
            async move { Ok(watched.watch_plain(stop).await?) }
        });
        let (tenants, gateway, book) = (self.tenants.clone(), self.gateway.clone(), self.book.clone());
        let (agents, clock, days) = (self.agents.clone(), self.clock.clone(), i64::from(self.settings.hub.retention_days));
        tasks.run("retention", move |stop| {
            let (agents, clock, tenants, gateway, book) = (agents.clone(), clock.clone(), tenants.clone(), gateway.clone(), book.clone());
            async move {
                let mut hourly = tokio::time::interval(Duration::from_secs(3600));
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        _ = hourly.tick() => {}
                    }
                    tenants.tidy().await?;
                    gateway.tidy().await?;
                    book.forget_plain_runs(clock.now().plus_seconds(-days * 86_400)).await?;
                    let purged = agents.purge(clock.now().plus_seconds(-days * 86_400)).await?;
                    if purged > 0 {
                        tracing::info!(agents = purged, "deleted agents were emptied after their retention");
                    }
                }
            }
        });
        Ok(())
    }
}

/// Opens the database and brings it up to date.
///
/// # Errors
/// When it cannot be opened.
pub async fn open_store(settings: &Settings) -> Result<Store> {
    let options = match settings.database.engine {
        Engine::Sqlite => {
            let directory = &settings.hub.data_dir;
            std::fs::create_dir_all(directory).with_context(|| format!("cannot make the data directory {}", directory.display()))?;
            StoreOptions::Sqlite(directory.join("aiox.sqlite"))
        }
        Engine::Postgres => StoreOptions::Postgres { url: settings.database.postgres_url()?, connections: settings.database.connections },
    };
    Store::open(options).await.map_err(|error| anyhow::anyhow!(error.chain())).context("the database cannot be opened")
}

/// Works on a hub without its doors, for a command, and stops everything again.
pub async fn offline<T>(settings: Settings, work: impl AsyncFnOnce(&Hub) -> Result<T>) -> Result<T> {
    let stop = CancellationToken::new();
    let tasks = Supervisor::new(stop.clone());
    let hub = Hub::build(settings, &tasks).await?;
    let done = work(&hub).await;
    let store = hub.store.clone();
    // Stopped first: a part that ends because nobody uses the hub any more looks like a fault.
    stop.cancel();
    drop(hub);
    tasks.finish(Duration::from_secs(5)).await;
    store.close().await;
    done
}

/// Brings the database up to date.
///
/// # Errors
/// When it cannot be opened.
pub async fn migrate(settings: &Settings) -> Result<()> {
    open_store(settings).await?.close().await;
    Ok(())
}
