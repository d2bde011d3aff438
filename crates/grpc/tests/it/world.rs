//! A hub with nothing but a store, a dispatcher and the workers' door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aiox_app::{Dispatch, DispatchOptions, HubNames, Replies, Urgency, Vault};
use aiox_core::ports::{Clock, Events, Ids, Needs, Signal, SignalReader, Waiting, WorkQueue};
use aiox_core::{Role, quota};
use aiox_crypto::system::{SystemClock, SystemIds};
use aiox_crypto::worker_token::WorkerTokens;
use aiox_grpc::{Admission, Known, Options, TlsConfig, serve};
use aiox_model::agent::Visibility;
use aiox_model::{AgentId, RunId, TenantId, UserId};
use aiox_store::accounts::UserRow;
use aiox_store::agents::{AgentRow, StoredConfig};
use aiox_store::audit::AuditRow;
use aiox_store::runs::RunRow;
use aiox_store::{Accept, Accepted, Journal, Store, StoreOptions, accounts, agents, runs, tenants};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ports::{Queue, Signals};

/// The shared worker key of the tests.
pub const KEY: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

/// The hub.
pub struct World {
    pub url: String,
    pub dispatch: Dispatch,
    pub shutdown: CancellationToken,
    pub door: JoinHandle<()>,
    store: Store,
    journal: Journal,
    queue: Arc<Queue>,
    signals: Arc<Signals>,
    tenant: TenantId,
    owner: UserId,
    vault: Vault,
    background: Vec<JoinHandle<()>>,
    pub address: SocketAddr,
    pub dir: Arc<TempDir>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.door.abort();
        for task in &self.background {
            task.abort();
        }
    }
}

/// Fails the test instead of hanging it.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap()
}

/// Who is let in, and the way to change it.
pub fn admission_of(known: Known) -> (watch::Sender<Arc<Known>>, Admission) {
    let (change, known) = watch::channel(Arc::new(known));
    let admission = Admission {
        known,
        tokens: WorkerTokens::new("hub-a.example", &"s".repeat(32).into()).unwrap(),
        domain: "hub-a.example".into(),
        token_life: Duration::from_secs(300),
        clock: Arc::new(SystemClock),
    };
    (change, admission)
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(Options::default(), None, None).await
    }

    /// The hub of a directory, at an address: what a restart does.
    pub async fn start_again(dir: Arc<TempDir>, address: SocketAddr) -> Self {
        Self::start_at(dir, address, Options::default(), None, None).await
    }

    pub async fn start_with(options: Options, tls: Option<TlsConfig>, admission: Option<Admission>) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_at(dir, ([127, 0, 0, 1], 0).into(), options, tls, admission).await
    }

    async fn start_at(
        dir: Arc<TempDir>,
        address: SocketAddr,
        options: Options,
        tls: Option<TlsConfig>,
        admission: Option<Admission>,
    ) -> Self {
        let store = Store::open(StoreOptions::Sqlite(dir.path().join("hub.db"))).await.unwrap();
        let (journal, journal_task) = Journal::new(store.clone());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(SystemIds);
        let queue = Arc::new(Queue::default());
        let signals = Arc::new(Signals::default());
        let vault = Vault::new(store.clone(), [7; 32], clock.clone(), ids.clone());
        let (dispatch, watch) = Dispatch::new(
            store.clone(),
            journal.clone(),
            queue.clone(),
            signals.clone(),
            clock.clone(),
            ids,
            vault.clone(),
            Replies::new(store.clone(), journal.clone()),
            HubNames::new("hub-a.example"),
            DispatchOptions { default_provider: "echo".into(), urgency: Urgency::default() },
        );
        let now = clock.now();
        let mut tx = store.begin().await.unwrap();
        let tenant: TenantId = tenants::ensure(&mut tx, Uuid::now_v7(), "default", now).await.unwrap().into();
        let owner: UserId = Uuid::now_v7().into();
        let user = UserRow {
            id: owner,
            tenant,
            email: "owner@hub-a.example".into(),
            username: "owner".into(),
            password_hash: "x".into(),
            role: Role::User,
            active: true,
            scram_sealed: Vec::new(),
            quota: "{}".into(),
            tokens_valid_after: now,
            created_at: now,
        };
        let owner = match accounts::user_by_name(&mut tx, "owner").await.unwrap() {
            Some(known) => known.id,
            None => {
                accounts::insert_user(&mut tx, &user).await.unwrap();
                owner
            }
        };
        tx.commit().await.unwrap();
        let background = vec![tokio::spawn(journal_task), tokio::spawn(watch.run(CancellationToken::new()))];
        dispatch.recover().await.unwrap();

        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", address.port());
        let shutdown = CancellationToken::new();
        let admission = admission.unwrap_or_else(|| admission_of(Known::shared(&KEY.into()).unwrap()).1);
        let serving = serve(listener, tls, admission, dispatch.clone(), options, shutdown.clone());
        let door = tokio::spawn(async move { serving.await.unwrap() });
        Self { url, dispatch, shutdown, door, store, journal, queue, signals, tenant, owner, vault, background, address, dir }
    }

    /// An agent that answers with `provider`.
    pub async fn agent(&self, provider: &str, tools: Map<String, Value>) -> AgentId {
        let id: AgentId = Uuid::now_v7().into();
        let now = SystemClock.now();
        let place = format!("agents/{}/system_prompt", id.uuid());
        let prompt_sealed = self.vault.seal(self.tenant, &place, b"be kind").await.unwrap();
        let llm = json!({ "provider": provider }).as_object().cloned().unwrap();
        let agent = AgentRow {
            id,
            tenant: self.tenant,
            owner: self.owner,
            handle: None,
            name: "Ada".into(),
            description: String::new(),
            prompt_sealed,
            config: StoredConfig { llm, tools, ..StoredConfig::default() },
            visibility: Visibility::Private,
            version: 1,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        let mut tx = self.store.begin().await.unwrap();
        agents::insert(&mut tx, &agent).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// Submits a message to an agent, as a door would.
    pub async fn submit(&self, agent: AgentId, provider: &str, input: &str) -> Uuid {
        self.submit_for(agent, provider, input, 60_000).await
    }

    /// Likewise, with a time limit in milliseconds.
    pub async fn submit_for(&self, agent: AgentId, provider: &str, input: &str, timeout_ms: u64) -> Uuid {
        let run = Uuid::now_v7();
        let conversation = Uuid::now_v7();
        let now = SystemClock.now();
        let audit = AuditRow {
            id: Uuid::now_v7(),
            tenant: self.tenant.uuid(),
            owner: Some(self.owner.uuid()),
            actor: "user".into(),
            action: "run.accepted".into(),
            outcome: "allowed".into(),
            severity: "info".into(),
            resource_type: None,
            resource_id: None,
            detail: None,
            address: None,
            trace: String::new(),
            at: now,
        };
        let accept = Accept {
            run,
            tenant: self.tenant.uuid(),
            agent: Some(agent.uuid()),
            agent_jid: format!("agent-{}@agents.hub-a.example", agent.uuid()),
            peer: None,
            origin: None,
            conversation,
            principal: format!("user:{}", self.owner.uuid()),
            door: "rest",
            priority: 1,
            input: input.into(),
            reserved: quota::reserve(input, 1024),
            limits: quota::Limits {
                tokens_day: u64::from(u32::MAX),
                tokens_minute: u64::from(u32::MAX),
                requests_day: u64::from(u32::MAX),
            },
            tenant_limits: aiox_core::tenant::Limits::default(),
            idempotency: None,
            reply: None,
            timeout_ms,
            bounds: None,
            trace: String::new(),
            at: now,
            event: Uuid::now_v7(),
            event_at: now,
            event_payload: "{}".into(),
            message: Uuid::now_v7(),
            audit,
            inbound: None,
            outbound: None,
        };
        assert_eq!(self.journal.accept(accept).await.unwrap(), Accepted::New);
        self.queue
            .offer(Waiting {
                run: RunId(run),
                tenant: self.tenant,
                conversation: conversation.into(),
                needs: Needs { provider: provider.into(), ..Needs::default() },
                order: now.micros(),
                patience: Duration::from_millis(timeout_ms),
            })
            .await
            .unwrap();
        run
    }

    /// The run as it is stored.
    pub async fn run(&self, run: Uuid) -> RunRow {
        let mut reader = self.store.read().await.unwrap();
        runs::by_id(&mut reader, run).await.unwrap().unwrap()
    }

    /// The run once it has ended.
    pub async fn ended(&self, run: Uuid) -> RunRow {
        let mut signals = self.watch(run).await;
        loop {
            let row = self.run(run).await;
            if row.status.is_final() {
                return row;
            }
            within(signals.next()).await;
        }
    }

    /// The signals of a run.
    pub async fn watch(&self, run: Uuid) -> Box<dyn SignalReader> {
        self.signals.subscribe(RunId(run)).await
    }

    /// The types of a run's stored events.
    pub async fn events(&self, run: Uuid) -> Vec<String> {
        let mut reader = self.store.read().await.unwrap();
        let events = runs::events(&mut reader, run, 0, 100).await.unwrap();
        events.into_iter().map(|event| event.kind).collect()
    }

    /// Waits for the next stored event of a type.
    pub async fn event(signals: &mut Box<dyn SignalReader>, kind: &str) -> Value {
        loop {
            if let Some(Signal::Event(event)) = within(signals.next()).await
                && event.kind == kind
            {
                return event.payload;
            }
        }
    }
}
