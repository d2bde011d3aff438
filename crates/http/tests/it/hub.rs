//! A hub of the test's own behind a real listener.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use aiox_app::{
    Accounts, AccountsOptions, Agents, Directory, Dispatch, DispatchOptions, Federated, HubNames, Ingest, PeerBook, Replies, Runs,
    RunsOptions, SignUp, Task, TaskOutcome, TenantBook, Tenants, Urgency, Vault, WorkerInfo, WorkerSession,
};
use aiox_bus::{MemoryEvents, MemoryQueue};
use aiox_cache::MemoryLimiter;
use aiox_core::{
    Role,
    ports::{Clock, Ids, RateLimiter},
    quota::Limits,
};
use aiox_crypto::{
    system::{SystemClock, SystemIds},
    tokens::Tokens,
};
use aiox_http::{Check, Health, HttpOptions, HttpState, Standing};
use aiox_model::{Ts, run::RunError};
use aiox_store::{Journal, Store, StoreOptions, peers, peers::PeerRow, tenants};
use aiox_testkit::{
    TestWire,
    responses::{Judge, Witness},
};
use async_trait::async_trait;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use uuid::Uuid;

struct Fine;
#[async_trait]
impl Health for Fine {
    async fn checks(&self) -> Vec<Check> {
        vec![
            Check { name: "database", standing: Standing::Healthy, required: true },
            Check { name: "workers", standing: Standing::Degraded("no workers connected"), required: false },
        ]
    }
}

/// Lets everybody sign in as often as the test wants.
struct Unlimited;
#[async_trait]
impl RateLimiter for Unlimited {
    async fn check(&self, _: &str, _: u32, _: Duration) -> std::result::Result<(), Duration> {
        Ok(())
    }
}

static DOCUMENTED: LazyLock<Judge> = LazyLock::new(|| Judge::new(vec![aiox_specgen::node()]));

pub struct Hub {
    pub base: String,
    pub address: SocketAddr,
    pub client: reqwest::Client,
    pub accounts: Accounts,
    pub store: Store,
    vault: Vault,
    book: TenantBook,
    pub tenants: Tenants,
    pub tenant: Uuid,
    pub dispatch: Dispatch,
    pub federated: Federated,
    _stop: tokio_util::sync::DropGuard,
    _witness: Witness,
    _directory: tempfile::TempDir,
}

/// What a test wants to be different.
pub struct Setting {
    pub limited: bool,
    pub limits: Limits,
    /// Limits at `/v1` of tenants that set none.
    pub node_limits: aiox_core::tenant::Limits,
    pub options: HttpOptions,
}
impl Default for Setting {
    fn default() -> Self {
        let limits = Limits { tokens_day: 10_000_000, tokens_minute: 10_000_000, requests_day: 10_000 };
        let node_limits = aiox_core::tenant::Limits::default();
        Self {
            limited: false,
            limits,
            node_limits,
            options: HttpOptions { run_timeout: Duration::from_secs(20), ..HttpOptions::default() },
        }
    }
}

impl Hub {
    pub async fn start() -> Self {
        Self::with(Setting::default()).await
    }

    pub async fn with(setting: Setting) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::Sqlite(directory.path().join("aiox.db"))).await.unwrap();
        let (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>) = (Arc::new(SystemClock), Arc::new(SystemIds));
        let mut tx = store.begin().await.unwrap();
        let tenant = tenants::ensure(&mut tx, ids.uuid(), "default", clock.now()).await.unwrap();
        tx.commit().await.unwrap();
        let (journal, writing) = Journal::new(store.clone());
        tokio::spawn(writing);
        let names = HubNames::new("hub-a.example");
        let vault = Vault::new(store.clone(), [7; 32], clock.clone(), ids.clone());
        let (queue, events) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryEvents::default()));
        let replies = Replies::new(store.clone(), journal.clone());
        let finder = Directory::new(store.clone(), names.clone());
        let federated = Federated::new(
            store.clone(),
            journal.clone(),
            events.clone(),
            clock.clone(),
            ids.clone(),
            replies.clone(),
            Arc::new(TestWire::default()),
        );
        let book = TenantBook::new(store.clone(), clock.clone(), setting.node_limits);
        let accounts = accounts(&store, &vault, setting.limits, tenant, &book);
        let agents = Agents::new(store.clone(), vault.clone(), finder.clone(), clock.clone(), ids.clone(), "echo".into());
        let runs_options = RunsOptions {
            default_provider: "echo".into(),
            known_providers: HashSet::from(["echo".to_owned()]),
            timeout_ms: 20_000,
            max_timeout_ms: 200_000,
            tenants: book.clone(),
            urgency: Urgency::default(),
        };
        let runs = Runs::new(
            store.clone(),
            journal.clone(),
            finder,
            queue.clone(),
            events.clone(),
            clock.clone(),
            ids.clone(),
            replies.clone(),
            federated.clone(),
            runs_options,
        );
        let dispatch_options = DispatchOptions { default_provider: "echo".into(), urgency: Urgency::default() };
        let (dispatch, watch) = Dispatch::new(
            store.clone(),
            journal,
            queue,
            events,
            clock.clone(),
            ids.clone(),
            vault.clone(),
            replies,
            names,
            dispatch_options,
        );
        let stop = tokio_util::sync::CancellationToken::new();
        tokio::spawn(watch.run(stop.clone()));
        let gateway = crate::model_worker::gateway(&store, &book, &clock, &ids, &dispatch);
        let runs = runs.with_models(gateway.clone());
        let tenant_admin = Tenants::new(
            store.clone(),
            vault.clone(),
            book.clone(),
            clock.clone(),
            ids.clone(),
            &HubNames::new("hub-a.example"),
            tenant.into(),
        );
        let limiter: Arc<dyn RateLimiter> = if setting.limited { Arc::new(MemoryLimiter::default()) } else { Arc::new(Unlimited) };
        let state = HttpState {
            accounts: accounts.clone(),
            agents,
            runs,
            tenants: tenant_admin.clone(),
            gateway,
            peers: PeerBook::new(store.clone(), tenant, clock.clone(), ids.clone()),
            ingest: Ingest::new(store.clone(), clock, ids),
            dispatch: dispatch.clone(),
            limiter,
            health: Arc::new(Fine),
            metrics: Arc::new(|| "aiox_up 1\n".to_owned()),
            options: setting.options,
        };
        let panics = axum::Router::new().route("/panics", axum::routing::get(panics));
        let documents = aiox_http::published::routes(|| aiox_specgen::documents().into_iter().collect());
        let witness = Witness::new(&DOCUMENTED);
        let router = witness.around(aiox_http::router_with(state, panics.merge(documents)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let until = stop.clone();
        tokio::spawn(async move {
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, service).with_graceful_shutdown(until.cancelled_owned()).await.unwrap();
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        Self {
            base: format!("http://{address}"),
            address,
            client,
            accounts,
            store,
            vault,
            book,
            tenants: tenant_admin,
            tenant,
            dispatch,
            federated,
            _stop: stop.drop_guard(),
            _witness: witness,
            _directory: directory,
        }
    }

    /// Makes a hub of this domain an active peer, which nobody plays but the test.
    pub async fn befriend(&self, domain: &str) {
        let mut tx = self.store.begin().await.unwrap();
        let peer = PeerRow {
            domain: domain.to_owned(),
            state: "active".to_owned(),
            fingerprint: String::new(),
            url: String::new(),
            node_id: format!("spiffe://{domain}/node/n1"),
            sequence: 1,
            document: "{}".to_owned(),
            record: "{}".to_owned(),
            created_at: Ts::from_seconds(1),
            updated_at: Ts::from_seconds(1),
        };
        peers::put(&mut tx, &peer).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        Answer::of(self.call(Method::POST, path).bearer_auth(token).json(&body).send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        Answer::of(self.call(Method::GET, path).bearer_auth(token).send().await.unwrap()).await
    }

    pub async fn send(&self, method: Method, path: &str, token: &str, body: Value) -> Answer {
        Answer::of(self.call(method, path).bearer_auth(token).json(&body).send().await.unwrap()).await
    }

    /// Registers `<name>@mail.example` and returns its tokens.
    pub async fn register(&self, name: &str) -> Value {
        let body = json!({ "email": format!("{name}@mail.example"), "password": "correct horse battery" });
        let answer = Answer::of(self.call(Method::POST, "/api/v1/auth/register").json(&body).send().await.unwrap()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.body["data"].clone()
    }

    /// The access token of a new user.
    pub async fn user(&self, name: &str) -> String {
        self.register(name).await["access_token"].as_str().unwrap().to_owned()
    }

    /// The access token of a new administrator.
    pub async fn admin(&self, name: &str, role: Role) -> String {
        let email = format!("{name}@mail.example");
        self.accounts.seed_user(&email, name, "correct horse battery".to_owned().into(), role).await.unwrap();
        self.login(&email).await
    }

    /// The access token of a new user of another tenant of this hub.
    pub async fn tenant_user(&self, name: &str, tenant: Uuid) -> String {
        let email = format!("{name}@mail.example");
        let there = accounts(&self.store, &self.vault, Limits::default(), tenant, &self.book);
        there.seed_user(&email, name, "correct horse battery".to_owned().into(), Role::User).await.unwrap();
        self.login(&email).await
    }

    async fn login(&self, email: &str) -> String {
        let body = json!({ "email": email, "password": "correct horse battery" });
        let answer = Answer::of(self.call(Method::POST, "/api/v1/auth/login").json(&body).send().await.unwrap()).await;
        answer.body["data"]["access_token"].as_str().unwrap().to_owned()
    }

    /// The id of a new agent.
    pub async fn agent(&self, token: &str, name: &str) -> String {
        let answer = self.post("/api/v1/agents", token, json!({ "name": name, "system_prompt": "Be kind." })).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.body["data"]["id"].as_str().unwrap().to_owned()
    }

    /// A connected worker that does nothing yet.
    pub fn connect(&self, id: &str) -> Arc<WorkerSession> {
        let info =
            WorkerInfo { worker_id: id.into(), max_concurrent: 8, providers: vec!["echo".into()], protocol: 1, ..WorkerInfo::default() };
        Arc::new(self.dispatch.register(info).unwrap())
    }

    /// A worker that says back what it is told, word by word, and fails or panics when it is asked to.
    pub fn echo(&self) -> Arc<WorkerSession> {
        let session = self.connect("w1");
        let working = session.clone();
        tokio::spawn(async move {
            while let Ok(task) = working.next().await {
                let outcome = answer(&working, &task).await;
                working.complete(task.run, outcome).await.unwrap();
            }
        });
        session
    }
}

fn accounts(store: &Store, vault: &Vault, limits: Limits, tenant: Uuid, book: &TenantBook) -> Accounts {
    let tokens = Tokens::new("hub-a.example", &"a".repeat(32).into(), &"b".repeat(32).into(), 900, 3600).unwrap();
    let options =
        AccountsOptions { sign_up: SignUp::Open, limits, remote_limits: limits, default_tenant: tenant.into(), tenants: book.clone() };
    Accounts::new(store.clone(), vault.clone(), tokens, HubNames::new("hub-a.example"), Arc::new(SystemClock), Arc::new(SystemIds), options)
}

async fn answer(session: &WorkerSession, task: &Task) -> TaskOutcome {
    if let Some(code) = task.message.strip_prefix("fail ") {
        return TaskOutcome::failed(RunError { code: code.into(), message: format!("it failed: {code}"), retryable: false });
    }
    for word in task.message.split_inclusive(' ') {
        session.delta(task.run, word.to_owned()).await;
    }
    TaskOutcome { text: task.message.clone(), model_used: "echo".into(), input_tokens: 3, output_tokens: 4, ..TaskOutcome::default() }
}

async fn panics() -> &'static str {
    panic!("the secret of the panic")
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}
impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Self { status, headers, body }
    }
    pub fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}
