//! The hub.

use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};

use aiox_app::{
    Accounts, AccountsOptions, AgentRef, Agents, Contacts, Directory, Dispatch, DispatchOptions, Federated, HubNames, NewRun, PeerBook,
    Replies, Runs, RunsOptions, SignUp, TenantBook, Tenants, Urgency, Vault, WorkerSession, federated::PeerWire,
};
use aiox_bus::{MemoryEvents, MemoryQueue};
use aiox_core::{
    Caller, Door, Role,
    ports::{Clock, Events, Ids, WorkQueue},
    quota::Limits,
    run::Priority,
};
use aiox_crypto::{system::SystemIds, tokens::Tokens};
use aiox_model::{
    AgentId, BareJid, RunId, TenantId, TraceId, Ts, UserId,
    agent::{Agent, AgentCreate},
    federation::{PeerRecord, PeerState},
    run::Run,
};
use aiox_store::{Journal, Store, accounts as account_rows, accounts::UserRow, tenants as tenant_rows};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Database, HandClock, TestWire, answer, worker_info};

/// What a test may want otherwise.
#[derive(Clone)]
pub struct WorldOptions {
    /// Who may register.
    pub sign_up: SignUp,
    /// Allowance of accounts.
    pub limits: Limits,
    /// The hub's master key.
    pub master: [u8; 32],
    /// Most milliseconds of one attempt.
    pub max_timeout_ms: u64,
    /// Limits at `/v1` of tenants that set none.
    pub node_limits: aiox_core::tenant::Limits,
}

impl Default for WorldOptions {
    fn default() -> Self {
        let plenty = Limits { tokens_day: 1 << 40, tokens_minute: 1 << 40, requests_day: 1 << 40 };
        Self {
            sign_up: SignUp::Open,
            limits: plenty,
            master: [7; 32],
            max_timeout_ms: 60_000,
            node_limits: aiox_core::tenant::Limits::default(),
        }
    }
}

/// A hub `hub-a.example` with everything but doors.
pub struct World {
    /// Its database.
    pub database: Database,
    /// The open store.
    pub store: Store,
    /// Group commit.
    pub journal: Journal,
    /// Runs that wait.
    pub queue: Arc<MemoryQueue>,
    /// Live signals.
    pub events: Arc<MemoryEvents>,
    /// Time.
    pub clock: Arc<HandClock>,
    /// Ids.
    pub ids: Arc<SystemIds>,
    /// Sealing.
    pub vault: Vault,
    /// Names to agents.
    pub directory: Directory,
    /// Accounts.
    pub accounts: Accounts,
    /// Tenants.
    pub tenants: Tenants,
    /// Agents.
    pub agents: Agents,
    /// Runs.
    pub runs: Runs,
    /// Workers.
    pub dispatch: Dispatch,
    /// XMPP outbox.
    pub replies: Replies,
    /// Presence subscriptions.
    pub contacts: Contacts,
    /// Durable side of federation.
    pub federated: Federated,
    /// Peers.
    pub peers: PeerBook,
    /// The wire between hubs.
    pub wire: Arc<TestWire>,
    /// The tenant of everybody whom [`World::user`] makes.
    pub tenant: TenantId,
    options: WorldOptions,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Fails the test instead of hanging it.
///
/// # Panics
/// After 60 seconds.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap()
}

impl World {
    /// A hub on a database, new or used.
    pub async fn on(database: Database) -> Self {
        Self::with(database, WorldOptions::default()).await
    }

    /// A hub on a database, as the test wants it.
    pub async fn with(database: Database, options: WorldOptions) -> Self {
        Self::start(database, options, Arc::new(HandClock::noon())).await
    }

    async fn start(database: Database, options: WorldOptions, clock: Arc<HandClock>) -> Self {
        let store = database.open().await;
        let (journal, journal_task) = Journal::new(store.clone());
        let queue = Arc::new(MemoryQueue::default());
        let events = Arc::new(MemoryEvents::default());
        let wire = Arc::new(TestWire::default());
        let ids = Arc::new(SystemIds);
        let names = HubNames::new("hub-a.example");
        let (time, id): (Arc<dyn Clock>, Arc<dyn Ids>) = (clock.clone(), ids.clone());
        let (waiting, signals): (Arc<dyn WorkQueue>, Arc<dyn Events>) = (queue.clone(), events.clone());
        let peer_wire: Arc<dyn PeerWire> = wire.clone();

        let mut tx = store.begin().await.unwrap();
        let tenant: TenantId = tenant_rows::ensure(&mut tx, ids.uuid(), "default", clock.now()).await.unwrap().into();
        tx.commit().await.unwrap();

        let book = TenantBook::new(store.clone(), time.clone(), options.node_limits);
        let vault = Vault::new(store.clone(), options.master, time.clone(), id.clone());
        let directory = Directory::new(store.clone(), names.clone());
        let (access, refresh) = ("a".repeat(48).into(), "r".repeat(48).into());
        let tokens = Tokens::new(names.domain(), &access, &refresh, 900, 86_400).unwrap();
        let account_options = AccountsOptions {
            sign_up: options.sign_up,
            limits: options.limits,
            remote_limits: options.limits,
            default_tenant: tenant,
            tenants: book.clone(),
        };
        let accounts = Accounts::new(store.clone(), vault.clone(), tokens, names.clone(), time.clone(), id.clone(), account_options);
        let agents = Agents::new(store.clone(), vault.clone(), directory.clone(), time.clone(), id.clone(), "echo".into());
        let tenants = Tenants::new(store.clone(), vault.clone(), book.clone(), time.clone(), id.clone(), &names, tenant);
        let replies = Replies::new(store.clone(), journal.clone());
        let federated =
            Federated::new(store.clone(), journal.clone(), signals.clone(), time.clone(), id.clone(), replies.clone(), peer_wire);
        let urgency = Urgency::default();
        let run_options = RunsOptions {
            default_provider: "echo".into(),
            known_providers: HashSet::from(["echo".to_owned(), "other".to_owned()]),
            timeout_ms: options.max_timeout_ms,
            max_timeout_ms: options.max_timeout_ms,
            tenants: book.clone(),
            urgency: urgency.clone(),
        };
        let runs = Runs::new(
            store.clone(),
            journal.clone(),
            directory.clone(),
            waiting.clone(),
            signals.clone(),
            time.clone(),
            id.clone(),
            replies.clone(),
            federated.clone(),
            run_options,
        );
        let (dispatch, watch) = Dispatch::new(
            store.clone(),
            journal.clone(),
            waiting,
            signals,
            time.clone(),
            id.clone(),
            vault.clone(),
            replies.clone(),
            names,
            DispatchOptions { default_provider: "echo".into(), urgency },
        );
        let contacts = Contacts::new(store.clone(), time.clone());
        let peers = PeerBook::new(store.clone(), tenant.uuid(), time, id);
        let tasks = vec![tokio::spawn(journal_task), tokio::spawn(watch.run(CancellationToken::new()))];
        Self {
            database,
            store,
            journal,
            queue,
            events,
            clock,
            ids,
            vault,
            directory,
            accounts,
            tenants,
            agents,
            runs,
            dispatch,
            replies,
            contacts,
            federated,
            peers,
            wire,
            tenant,
            options,
            tasks,
        }
    }

    /// Drops everything without a word, as a crash does, and starts a hub on the same database.
    pub async fn restart(self) -> Self {
        let options = self.options.clone();
        self.restart_with(options).await
    }

    /// As [`restart`](Self::restart), with other options.
    pub async fn restart_with(self, options: WorldOptions) -> Self {
        let (database, clock) = (self.database.clone(), self.clock.clone());
        for task in &self.tasks {
            task.abort();
        }
        self.store.close().await;
        drop(self);
        Self::start(database, options, clock).await
    }

    /// An account of the default tenant, as the REST door sees it.
    pub async fn user(&self, name: &str) -> Caller {
        self.user_of(self.tenant, name, Role::User).await
    }

    /// An account with a role, of a tenant.
    pub async fn user_of(&self, tenant: TenantId, name: &str, role: Role) -> Caller {
        let row = UserRow {
            id: UserId(self.ids.uuid()),
            tenant,
            email: format!("{name}@mail.example"),
            username: name.into(),
            // Nobody signs in to this account: hashing a password for each would make the tests slow.
            password_hash: "none".into(),
            role,
            active: true,
            scram_sealed: Vec::new(),
            quota: "{}".into(),
            tokens_valid_after: Ts::from_micros(0),
            created_at: self.clock.now(),
        };
        let mut tx = self.store.begin().await.unwrap();
        assert!(account_rows::insert_user(&mut tx, &row).await.unwrap());
        tx.commit().await.unwrap();
        let caller = self.caller(&format!("{name}@hub-a.example")).await;
        Caller { door: Door::Rest, ..caller }
    }

    /// Another tenant.
    pub async fn tenant(&self, name: &str) -> TenantId {
        let mut tx = self.store.begin().await.unwrap();
        let tenant = tenant_rows::ensure(&mut tx, self.ids.uuid(), name, self.clock.now()).await.unwrap();
        tx.commit().await.unwrap();
        tenant.into()
    }

    /// Whoever has an XMPP address, here or elsewhere.
    pub async fn caller(&self, jid: &str) -> Caller {
        let jid: BareJid = jid.parse().unwrap();
        self.accounts.caller_for_jid(&jid, TraceId(self.ids.uuid())).await.unwrap().unwrap()
    }

    /// A private agent.
    pub async fn agent(&self, owner: &Caller, name: &str) -> Agent {
        self.agent_with(owner, name, json!({})).await
    }

    /// A private agent with members of its creation changed.
    pub async fn agent_with(&self, owner: &Caller, name: &str, members: Value) -> Agent {
        let mut body: Map<String, Value> = json!({ "name": name, "system_prompt": "Be kind." }).as_object().cloned().unwrap();
        body.extend(members.as_object().cloned().unwrap());
        let new: AgentCreate = serde_json::from_value(Value::Object(body)).unwrap();
        self.agents.create(owner, new).await.unwrap()
    }

    /// A message for an agent.
    #[must_use]
    pub fn message(&self, agent: &Agent, input: &str) -> NewRun {
        NewRun {
            agent: AgentRef::Id(AgentId(agent.id)),
            input: input.into(),
            conversation: None,
            idempotency_key: None,
            reply: None,
            priority: Priority::Normal,
            timeout_ms: None,
            bounds: aiox_app::Bounds::default(),
            asked: None,
        }
    }

    /// Submits a message; the run.
    pub async fn submit(&self, caller: &Caller, agent: &Agent, input: &str) -> RunId {
        RunId(self.runs.submit(caller, self.message(agent, input)).await.unwrap().run.id)
    }

    /// The run once it has ended.
    pub async fn ended(&self, run: RunId) -> Run {
        within(self.runs.wait(run)).await.unwrap()
    }

    /// Types of the stored events of a run, whose sequences are checked to be 1, 2, 3, …
    pub async fn kinds(&self, run: RunId) -> Vec<String> {
        let events = aiox_store::runs::events(&mut self.store.read().await.unwrap(), run.uuid(), 0, 1000).await.unwrap();
        let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>(), "gaps in the log of {run}");
        events.into_iter().map(|event| event.kind).collect()
    }

    /// A worker's session.
    #[must_use]
    pub fn worker(&self, id: &str, slots: u32) -> WorkerSession {
        self.dispatch.register(worker_info(id, slots)).unwrap()
    }

    /// A worker that answers every message with `answer to <message>`, until it is aborted.
    pub fn serve(&self, id: &str, slots: u32) -> JoinHandle<()> {
        let session = Arc::new(self.worker(id, slots));
        tokio::spawn(async move {
            let places = (0..slots).map(|_| async {
                while let Ok(task) = session.next().await {
                    // A store that has been closed meanwhile is the next hub's business.
                    let _ = session.complete(task.run, answer(&format!("answer to {}", task.message))).await;
                }
            });
            futures::future::join_all(places).await;
        })
    }

    /// Makes a domain an active peer.
    pub async fn befriend(&self, domain: &str) {
        let now = self.clock.now();
        let record = PeerRecord {
            domain: domain.into(),
            trust_url: format!("https://{domain}/.well-known/aiox-federation"),
            fingerprint: "0".repeat(64),
            state: PeerState::Active,
            document: json!({ "sequence": 1, "nodes": [{ "id": format!("spiffe://{domain}/node/n1") }] }),
            document_read_at: now,
            tenants: [].into(),
            agents: Vec::new(),
            operations: aiox_model::federation::PeerOperations { send: true, stream: true, cancel: true, directory: true },
            quotas: aiox_model::federation::PeerQuotas::default(),
            conformance: None,
            created_at: now,
            updated_at: now,
        };
        self.peers.put(&record).await.unwrap();
    }

    /// An id that nothing has.
    #[must_use]
    pub fn fresh(&self) -> Uuid {
        self.ids.uuid()
    }
}
