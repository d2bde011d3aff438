//! A whole hub without its public doors: store, queue, use cases, federation. Stopped and started again over the same files.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use aiox_app::{
    Accounts, AccountsOptions, AgentRef, Agents, Directory, Dispatch, DispatchOptions, Federated, HubNames, NewRun, PeerBook, Replies,
    Runs, RunsOptions, SignUp, TaskOutcome, TenantBook, Urgency, Vault, WorkerInfo, WorkerSession,
};
use aiox_bus::{MemoryEvents, MemoryQueue};
use aiox_cache::{MemoryLimiter, MemoryReplayGuard};
use aiox_certs::{Authority, HubNames as CertNames, HubPaths, Overwrite, load_chain, load_key, load_pair};
use aiox_core::{
    Caller, Door, Principal, Role, Scope,
    ports::{Clock, Ids},
    quota::Limits,
    run::Priority,
};
use aiox_crypto::{
    system::{SystemClock, SystemIds},
    tokens::Tokens,
};
use aiox_federation::{
    admin::{self, PeerAdmin},
    conformance::Must,
    durable::Durable,
    listener::ListenerLimits,
    local::LocalNode,
    peers::Allowances,
    service::{Federation, FederationOptions, Outward},
    token::DEFAULT_SKEW,
};
use aiox_model::{
    RunId, TenantId, TraceId, UserId,
    agent::{AgentCreate, Visibility},
    v1::federation::Stack,
};
use aiox_store::{Journal, Store, StoreOptions, accounts, accounts::UserRow, tenants};
use aiox_testkit::responses::Witness;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::hub::DOCUMENTED;

/// What outlives a stop: files, port, domain.
pub struct Site {
    pub domain: String,
    directory: tempfile::TempDir,
    port: u16,
}

impl Site {
    pub async fn new(domain: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let names = CertNames { domain, node: "n1", hosts: &["127.0.0.1"] };
        HubPaths::new(directory.path()).create(&Authority::create("mesh").unwrap(), &names, Overwrite::Refuse).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        Self { domain: domain.to_owned(), directory, port }
    }

    fn local(&self) -> LocalNode {
        let paths = HubPaths::new(self.directory.path());
        let (certificate, key) = paths.leaf("federation");
        let (chain, key) = load_pair("federation", &certificate, &key).unwrap();
        let token = load_key("federation.token_key", &paths.token_key()).unwrap();
        let node = LocalNode::new(chain, key, &token, &load_key("federation.envelope_key", &paths.envelope_key()).unwrap()).unwrap();
        let mut stack = Stack::untold(&self.domain);
        stack.peer.region = "test-region".to_owned();
        stack.peer.build.digest = Some("a-program".to_owned());
        node.with_stack(&stack)
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("hub.db")
    }

    /// The database of a stopped hub.
    pub fn backup(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = std::fs::read_dir(self.directory.path()).unwrap().map(|file| file.unwrap().path());
        let of_the_database = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("hub.db"));
        of_the_database.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// Puts a stopped hub back to where it was.
    pub fn restore(&self, backup: Vec<(PathBuf, Vec<u8>)>) {
        for (path, _) in self.backup() {
            std::fs::remove_file(path).unwrap();
        }
        for (path, bytes) in backup {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

pub struct MeshHub {
    pub runs: Runs,
    pub agents: Agents,
    pub dispatch: Dispatch,
    pub federation: Arc<Federation>,
    pub peers: PeerBook,
    pub site: Site,
    store: Store,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    pub public: String,
    pub accounts: Accounts,
    _witness: Witness,
}

impl MeshHub {
    pub async fn start(site: Site) -> Self {
        let store = Store::open(StoreOptions::Sqlite(site.database())).await.unwrap();
        let (journal, journal_task) = Journal::new(store.clone());
        let (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>) = (Arc::new(SystemClock), Arc::new(SystemIds));
        let (queue, events) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryEvents::default()));
        let vault = Vault::new(store.clone(), [7; 32], clock.clone(), ids.clone());
        let names = HubNames::new(&site.domain);
        let replies = Replies::new(store.clone(), journal.clone());
        let directory = Directory::new(store.clone(), names.clone());
        let mut tx = store.begin().await.unwrap();
        let tenant = tenants::ensure(&mut tx, Uuid::now_v7(), "default", clock.now()).await.unwrap();
        tx.commit().await.unwrap();

        let (admin_vault, book_of_tenants) =
            (vault.clone(), TenantBook::new(store.clone(), clock.clone(), aiox_core::tenant::Limits::default()));
        let outward = Outward::new(site.local(), clock.clone(), ids.clone());
        let federated =
            Federated::new(store.clone(), journal.clone(), events.clone(), clock.clone(), ids.clone(), replies.clone(), outward.wire());
        let options = RunsOptions {
            default_provider: "echo".to_owned(),
            known_providers: HashSet::from(["echo".to_owned()]),
            timeout_ms: 60_000,
            max_timeout_ms: 60_000,
            tenants: book_of_tenants.clone(),
            urgency: Urgency::default(),
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
        let agents = Agents::new(store.clone(), vault.clone(), directory.clone(), clock.clone(), ids.clone(), "echo".to_owned());
        let dispatch_options = DispatchOptions { default_provider: "echo".to_owned(), urgency: Urgency::default() };
        let (dispatch, watch) =
            Dispatch::new(store.clone(), journal, queue, events, clock.clone(), ids.clone(), vault, replies, names, dispatch_options);
        let admin_federated = federated.clone();
        let book = PeerBook::new(store.clone(), tenant, clock.clone(), ids.clone());
        let durable =
            Durable::new(runs.clone(), agents.clone(), directory.clone(), federated, book.clone(), clock.clone(), Limits::default());
        let options = FederationOptions {
            endpoint: format!("https://127.0.0.1:{}", site.port),
            roots: load_chain("federation.roots", &HubPaths::new(site.directory.path()).domain_authority()).unwrap(),
            web_roots: vec![],
            skew: DEFAULT_SKEW,
            limits: ListenerLimits::default(),
            musts: [("RUN-001", "core"), ("FED-001", "federation")]
                .map(|(id, profile)| Must { id: id.into(), profile: profile.into(), conditional: false })
                .into(),
        };
        let guard = Arc::new(MemoryReplayGuard::new(clock.clone()));
        let federation = Arc::new(Federation::start(outward, durable, guard, Arc::new(MemoryLimiter::default()), options).await.unwrap());

        let accounts = Accounts::new(
            store.clone(),
            admin_vault,
            Tokens::new(&site.domain, &"a".repeat(32).into(), &"b".repeat(32).into(), 900, 3600).unwrap(),
            HubNames::new(&site.domain),
            clock.clone(),
            ids.clone(),
            AccountsOptions {
                sign_up: SignUp::Closed,
                limits: Limits::default(),
                remote_limits: Limits::default(),
                default_tenant: tenant.into(),
                tenants: book_of_tenants,
            },
        );
        let witness = Witness::new(&DOCUMENTED);
        let admin = admin::routes(PeerAdmin {
            peers: federation.peers().clone(),
            publisher: federation.publisher().clone(),
            accounts: accounts.clone(),
            federated: admin_federated,
            ids: ids.clone(),
        });

        let stop = CancellationToken::new();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(format!("127.0.0.1:{}", site.port).parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public_url = format!("http://{}", public.local_addr().unwrap());
        let (serving, router, stopping) = (federation.clone(), witness.around(federation.public_routes().merge(admin)), stop.clone());
        let mut tasks = vec![tokio::spawn(journal_task), tokio::spawn(watch.run(stop.clone()))];
        tasks.push(tokio::spawn(
            async move { axum::serve(public, router).with_graceful_shutdown(stopping.cancelled_owned()).await.unwrap() },
        ));
        let stopping = stop.clone();
        tasks.push(tokio::spawn(async move { serving.run(listener, stopping).await.unwrap() }));
        dispatch.recover().await.unwrap();
        Self { runs, agents, dispatch, federation, peers: book, site, store, stop, tasks, public: public_url, accounts, _witness: witness }
    }

    /// Stops everything without waiting for work in progress, as a crash would, and keeps the files.
    pub async fn crash(self) -> Site {
        self.stop.cancel();
        self.dispatch.close_all();
        for task in self.tasks {
            task.abort();
            drop(task.await);
        }
        self.store.close().await;
        self.site
    }

    /// Both sides of an introduction, each confirming the other's fingerprint.
    pub async fn befriend(&self, other: &Self) {
        for (me, them) in [(self, other), (other, self)] {
            let domain = them.site.domain.as_str();
            let proposed = me.federation.peers().propose(domain, &them.public).await.unwrap();
            assert_eq!(proposed.fingerprint, them.federation.publisher().fingerprint().unwrap());
            me.federation.peers().confirm(domain, &proposed.fingerprint, Allowances::everything()).await.unwrap();
        }
    }

    pub async fn user(&self, name: &str) -> Caller {
        let id = UserId(Uuid::now_v7());
        let now = SystemClock.now();
        let mut tx = self.store.begin().await.unwrap();
        let tenant: TenantId = tenants::ensure(&mut tx, Uuid::now_v7(), "default", now).await.unwrap().into();
        let user = UserRow {
            id,
            tenant,
            email: format!("{name}@example.org"),
            username: name.to_owned(),
            password_hash: "x".to_owned(),
            role: Role::User,
            active: true,
            scram_sealed: vec![],
            quota: "{}".to_owned(),
            tokens_valid_after: now,
            created_at: now,
        };
        accounts::insert_user(&mut tx, &user).await.unwrap();
        tx.commit().await.unwrap();
        let jid = format!("{name}@{}", self.site.domain).parse().unwrap();
        Caller {
            tenant,
            principal: Principal::User { id, jid, key: None },
            role: Role::User,
            scopes: Scope::ALL.to_vec(),
            limits: Limits::default(),
            trace: TraceId(Uuid::now_v7()),
            correlation: None,
            door: Door::Rest,
            address: None,
        }
    }

    pub async fn agent(&self, owner: &Caller, handle: &str, visibility: Visibility) {
        let body = json!({ "name": handle, "system_prompt": "be kind", "handle": handle, "visibility": visibility });
        let new: AgentCreate = serde_json::from_value(body).unwrap();
        self.agents.create(owner, new).await.unwrap();
    }

    pub fn worker(&self) -> WorkerSession {
        let info = WorkerInfo {
            worker_id: Uuid::now_v7().to_string(),
            max_concurrent: 8,
            providers: vec!["echo".to_owned()],
            protocol: 1,
            ..WorkerInfo::default()
        };
        self.dispatch.register(info).unwrap()
    }

    pub async fn ask(&self, caller: &Caller, agent: &str, input: &str) -> aiox_core::Result<RunId> {
        let new = NewRun {
            agent: AgentRef::parse(agent).unwrap(),
            input: input.to_owned(),
            conversation: None,
            idempotency_key: None,
            reply: None,
            priority: Priority::Normal,
            timeout_ms: None,
            bounds: aiox_app::Bounds::default(),
            asked: None,
        };
        Ok(RunId(self.runs.submit(caller, new).await?.run.id))
    }

    pub async fn ended(&self, run: RunId) -> aiox_model::run::Run {
        tokio::time::timeout(Duration::from_secs(20), self.runs.wait(run)).await.unwrap().unwrap()
    }
}

pub fn answer(text: &str) -> TaskOutcome {
    TaskOutcome { text: text.to_owned(), model_used: "echo/1".to_owned(), input_tokens: 3, output_tokens: 4, ..TaskOutcome::default() }
}
