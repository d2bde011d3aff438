//! What the cases share: the target, accounts, an agent. Made over the public API when first asked for, taken away at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::{
    case::Stop,
    document::Documents,
    requirement::Profile,
    scene::{Call, Scene},
    tamper::{Doors, Tamper},
};

/// Longest wait for one answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(40);

/// Deletions at once.
const AT_ONCE: usize = 8;
const TENANTS: &str = "/v1/admin/tenants";
const USERS: &str = "/api/v1/admin/users";
/// Most pages of accounts that are looked through for those of a judgement, which are among the newest.
const PAGES: usize = 50;

/// Clients with an address of their own so far, of all judgements of this process.
static CLIENTS: AtomicUsize = AtomicUsize::new(0);

fn mark() -> String {
    Uuid::new_v4().simple().to_string()[..10].to_owned()
}

/// What to judge, and with what.
#[derive(Debug, Clone)]
pub struct Options {
    /// The hub's product listener.
    pub target: Url,
    /// The product listener of a hub that is its peer, for cases across two hubs.
    pub peer: Option<Url>,
    /// An account with all scopes of an administrator, for tenants, audit and administration.
    pub admin: Option<Login>,
    /// The same of the peer.
    pub peer_admin: Option<Login>,
    /// Invitation to register with, where sign-up needs one.
    pub invite: Option<String>,
    /// Where XMPP clients log in.
    pub xmpp: Option<XmppAccess>,
    /// Where workers dial in.
    pub worker: Option<crate::worker::WorkerAccess>,
    /// Authorities (PEM) that are believed beside the public ones.
    pub ca: Option<Vec<u8>>,
    /// Other client-facing ports of the same hub.
    pub other_ports: Vec<Url>,
    /// Which requirements.
    pub profiles: BTreeSet<Profile>,
    /// Only requirements whose id begins with one of these; empty for all.
    pub only: Vec<String>,
    /// Cases that run at once.
    pub parallel: usize,
    /// Longest time of one case.
    pub case_timeout: Duration,
    /// Stop at the first failed MUST.
    pub fail_fast: bool,
    /// The operator says that the hub is in mode `prod`.
    pub production: bool,
}
impl Options {
    /// Everything about one hub, with the defaults of the command line.
    #[must_use]
    pub fn new(target: Url) -> Self {
        Self {
            target,
            peer: None,
            admin: None,
            peer_admin: None,
            invite: None,
            xmpp: None,
            worker: None,
            ca: None,
            other_ports: Vec::new(),
            profiles: BTreeSet::from(Profile::ALL),
            only: Vec::new(),
            parallel: 8,
            case_timeout: Duration::from_secs(60),
            fail_fast: false,
            production: false,
        }
    }
}

/// An account that exists.
#[derive(Clone)]
pub struct Login {
    /// Its e-mail address.
    pub email: String,
    /// Its password.
    pub password: String,
}
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("email", &self.email).finish_non_exhaustive()
    }
}

/// Where accounts of the hub log in by XMPP.
#[derive(Debug, Clone)]
pub struct XmppAccess {
    /// The hub's domain.
    pub domain: String,
    /// Host or address of its XMPP server.
    pub host: String,
    /// Its client port.
    pub port: u16,
    /// Authority (PEM) of its certificate; the system's where absent.
    pub ca: Option<std::path::PathBuf>,
}

/// An account that a case uses.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) email: String,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

/// An agent of an account.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// The UUID of `/api/v1`.
    pub(crate) id: String,
    /// Its address.
    pub(crate) jid: String,
    /// The body that made it.
    pub(crate) body: Value,
}

/// A tenant of the suite's own, and a service token in it.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Tenant {
    /// The tenant's service, where a call wants an account.
    pub(crate) fn account(&self) -> Account {
        let nothing = String::new;
        Account { email: nothing(), username: nothing(), password: nothing(), access: self.secret.clone(), refresh: nothing() }
    }
}

/// Accounts, agents and tenants of one hub, made when first asked for. Judgements of the same hub can share them.
#[derive(Default)]
struct Cast {
    alice: OnceCell<Account>,
    bob: OnceCell<Account>,
    admin: OnceCell<Account>,
    agent: OnceCell<Agent>,
    caller: OnceCell<(Account, Agent)>,
    peer_user: OnceCell<(Account, Agent)>,
    tenant: OnceCell<Tenant>,
    /// What is to be deleted at the end: the hub, the credential, the path with its query.
    made: Mutex<Vec<(Url, String, String)>>,
    /// E-mail addresses of the accounts that were made, by hub.
    accounts: Mutex<BTreeMap<Url, BTreeSet<String>>>,
}

/// What every case of one judgement shares.
pub(crate) struct World {
    pub(crate) options: Options,
    /// The hub itself, where `options.target` is a proxy in front of it.
    pub(crate) home: Url,
    /// A word in every name that this judgement makes.
    pub(crate) mark: String,
    pub(crate) common: Client,
    cast: Arc<Cast>,
    /// What answers are held against for OPS-008, where it is judged.
    pub(crate) documents: OnceLock<Documents>,
    /// What is broken at the doors that no proxy can read.
    pub(crate) tamper: Tamper,
    /// Some MUST has failed and the judgement ends at the first.
    pub(crate) over: AtomicBool,
}

impl World {
    pub(crate) fn new(options: Options) -> Result<Arc<Self>, reqwest::Error> {
        let common = client(None, options.ca.as_deref())?;
        Ok(Arc::new(Self {
            home: options.target.clone(),
            options,
            mark: mark(),
            common,
            cast: Arc::default(),
            documents: OnceLock::new(),
            tamper: Tamper::new(Doors::UNTOUCHED),
            over: AtomicBool::new(false),
        }))
    }

    /// The same hub behind a proxy, with the same accounts, agents and tenants.
    pub(crate) fn behind(&self, target: Url, tamper: Tamper) -> Arc<Self> {
        Arc::new(Self {
            options: Options { target, ..self.options.clone() },
            home: self.home.clone(),
            mark: mark(),
            common: self.common.clone(),
            cast: self.cast.clone(),
            documents: OnceLock::new(),
            tamper,
            over: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.options.fail_fast && self.over.load(Ordering::Relaxed)
    }

    /// A client with an address of its own where the target is on this machine, because sign-in is limited per address; elsewhere
    /// the common one.
    pub(crate) fn other_address(&self, target: &Url) -> Result<Client, Stop> {
        let loopback =
            target.host_str().is_some_and(|host| host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()));
        if !loopback {
            return Ok(self.common.clone());
        }
        // The mark keeps two judgements in a row from using up each other's limit. 127.0.0.1 is the common client's.
        let (high, number) = (u8::from_str_radix(&self.mark[..2], 16).unwrap_or_default(), CLIENTS.fetch_add(1, Ordering::Relaxed));
        let (low, last) = (u8::try_from(number / 250 % 256).unwrap_or_default(), u8::try_from(number % 250 + 2).unwrap_or_default());
        let address = IpAddr::V4(Ipv4Addr::new(127, high, low, last));
        client(Some(address), self.options.ca.as_deref()).map_err(|error| Stop::Harness(error.to_string()))
    }

    /// The account that most cases use.
    pub(crate) async fn alice(self: &Arc<Self>) -> Result<Account, Stop> {
        self.cast.alice.get_or_try_init(|| self.register("alice")).await.cloned()
    }

    /// Another account of the same tenant.
    pub(crate) async fn bob(self: &Arc<Self>) -> Result<Account, Stop> {
        self.cast.bob.get_or_try_init(|| self.register("bob")).await.cloned()
    }

    /// The administrator that was given.
    pub(crate) async fn admin(self: &Arc<Self>) -> Result<Account, Stop> {
        let Some(login) = self.options.admin.clone() else {
            return Err(Stop::NotRun("no administrator's account was given (--admin-email)".into()));
        };
        let target = self.options.target.clone();
        self.cast.admin.get_or_try_init(|| self.login(target, login)).await.cloned()
    }

    /// Makes what cases share, so that no proxy stands in front of it. What cannot be made is told by the case that needs it.
    pub(crate) async fn furnish(self: &Arc<Self>) {
        let accounts = async {
            let _ = futures::join!(self.agent(), self.bob());
        };
        let tenants = async {
            let _ = futures::join!(self.caller(), self.tenant());
        };
        futures::join!(accounts, tenants);
    }

    /// Another tenant than that of the accounts.
    pub(crate) async fn tenant(self: &Arc<Self>) -> Result<Tenant, Stop> {
        self.cast.tenant.get_or_try_init(|| self.make_tenant("shared")).await.cloned()
    }

    /// A principal that may make as many runs as it likes, and an echo agent of it. The tenant of the accounts has a rate that a suite
    /// would only wait for; without an administrator there is no other, and it is [`alice`](Self::alice).
    pub(crate) async fn caller(self: &Arc<Self>) -> Result<(Account, Agent), Stop> {
        let made = self.cast.caller.get_or_try_init(|| async {
            if self.options.admin.is_none() {
                return Ok((self.alice().await?, self.agent().await?));
            }
            let runs = json!({ "max_concurrent_runs": 100_000, "run_create_qps": 10_000, "run_create_burst": 10_000 });
            let account = self.make_tenant_with("caller", json!({ "quotas": { "runs": runs } })).await?.account();
            let agent = self.make_agent(&self.options.target, &account, "Echo").await?;
            Ok((account, agent))
        });
        made.await.cloned()
    }

    /// A new tenant with a service token that may do everything a service may. It is deleted at the end.
    pub(crate) async fn make_tenant(self: &Arc<Self>, name: &str) -> Result<Tenant, Stop> {
        self.make_tenant_with(name, json!({})).await
    }

    /// As [`make_tenant`](Self::make_tenant), with more members.
    pub(crate) async fn make_tenant_with(self: &Arc<Self>, name: &str, mut tenant: Value) -> Result<Tenant, Stop> {
        let admin = self.admin().await?;
        let target = self.options.target.clone();
        tenant["name"] = json!(format!("Conformance {} {name}", self.mark));
        let made = self.prepare(&target, &admin, TENANTS, &json!({ "tenant": tenant })).await?;
        let id = made.pointer("/tenant/tenant_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.remember_tenant(&admin, &id);
        let made = self.prepare(&target, &admin, &format!("{TENANTS}/{id}/tokens"), &json!({ "name": "conformance" })).await?;
        let secret = made.pointer("/token/secret").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Tenant { id, secret })
    }

    /// A POST of the suite's own preparation, which has to be answered by 201.
    async fn prepare(&self, target: &Url, who: &Account, path: &str, body: &Value) -> Result<Value, Stop> {
        let url = target.join(path).map_err(|error| Stop::Harness(error.to_string()))?;
        let sent = self.common.post(url).timeout(ANSWER).bearer_auth(&who.access).json(body).send().await;
        let answer = sent.map_err(|error| Stop::Harness(format!("POST {path}: {error}")))?;
        let status = answer.status();
        let made: Value = answer.json().await.unwrap_or_default();
        if status.as_u16() == 201 {
            Ok(made)
        } else {
            Err(Stop::Harness(format!("the suite could not prepare: POST {path} answered {status} with {made}")))
        }
    }

    /// The echo agent of [`alice`](Self::alice).
    pub(crate) async fn agent(self: &Arc<Self>) -> Result<Agent, Stop> {
        self.cast
            .agent
            .get_or_try_init(|| async {
                let alice = self.alice().await?;
                self.make_agent(&self.options.target, &alice, "Echo").await
            })
            .await
            .cloned()
    }

    /// An account of the peer, and an agent there that everybody of the mesh may use.
    pub(crate) async fn peer(self: &Arc<Self>) -> Result<(Url, Account, Agent), Stop> {
        let Some(url) = self.options.peer.clone() else { return Err(Stop::NotRun("no peer was given (--peer)".into())) };
        let made = self.cast.peer_user.get_or_try_init(|| async {
            let account = self.register_at(&url, "peer").await?;
            let body = echo_agent(&format!("Conformance {} peer", self.mark), "mesh");
            let agent = self.make_agent_of(&url, &account, body).await?;
            Ok((account, agent))
        });
        let (account, agent) = made.await?.clone();
        Ok((url, account, agent))
    }

    /// A new account at the target.
    pub(crate) async fn register(self: &Arc<Self>, name: &str) -> Result<Account, Stop> {
        self.register_at(&self.options.target.clone(), name).await
    }

    async fn register_at(self: &Arc<Self>, target: &Url, name: &str) -> Result<Account, Stop> {
        let username = format!("{name}-{}-{}", self.mark, &Uuid::new_v4().simple().to_string()[..6]);
        let email = format!("{username}@conformance.example");
        let password = format!("A-long-secret-{}", Uuid::new_v4().simple());
        let mut body = json!({ "email": email, "username": username, "password": password });
        if let Some(invite) = &self.options.invite {
            body["invite"] = json!(invite);
        }
        let answer = self.sign_in(target, "/api/v1/auth/register", &body, 201).await?;
        let hub = if *target == self.options.target { &self.home } else { target };
        if let Ok(mut accounts) = self.cast.accounts.lock() {
            accounts.entry(hub.clone()).or_default().insert(email.clone());
        }
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Account { email, username, password, access: text("/data/access_token"), refresh: text("/data/refresh_token") })
    }

    /// Signs in.
    pub(crate) async fn login(self: &Arc<Self>, target: Url, login: Login) -> Result<Account, Stop> {
        let body = json!({ "email": login.email, "password": login.password });
        let answer = self.sign_in(&target, "/api/v1/auth/login", &body, 200).await?;
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let username = login.email.split('@').next().unwrap_or_default().to_owned();
        Ok(Account {
            email: login.email,
            username,
            password: login.password,
            access: text("/data/access_token"),
            refresh: text("/data/refresh_token"),
        })
    }

    async fn sign_in(&self, target: &Url, path: &str, body: &Value, status: u16) -> Result<Value, Stop> {
        let url = target.join(path).map_err(|error| Stop::Harness(error.to_string()))?;
        for _ in 0..3 {
            let client = self.other_address(target)?;
            let sent = client.post(url.clone()).timeout(ANSWER).json(body).send().await;
            let answer = sent.map_err(|error| Stop::Harness(format!("{path}: {error}")))?;
            if answer.status().as_u16() == 429 {
                let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(60);
                tokio::time::sleep(Duration::from_secs(u64::min(wait, 65))).await;
                continue;
            }
            if answer.status().as_u16() != status {
                return Err(Stop::Harness(format!("the suite could not prepare an account: {path} answered {}", answer.status())));
            }
            return answer.json().await.map_err(|error| Stop::Harness(format!("{path}: {error}")));
        }
        Err(Stop::Harness(format!("{path} goes on answering 429")))
    }

    /// A new echo agent of an account, private.
    pub(crate) async fn make_agent(&self, target: &Url, owner: &Account, name: &str) -> Result<Agent, Stop> {
        self.make_agent_of(target, owner, echo_agent(&format!("Conformance {} {name}", self.mark), "private")).await
    }

    /// A new agent with this body. It is deleted at the end.
    pub(crate) async fn make_agent_of(&self, target: &Url, owner: &Account, body: Value) -> Result<Agent, Stop> {
        let made = self.prepare(target, owner, "/api/v1/agents", &body).await?;
        let text = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (id, jid) = (text("/data/id"), text("/data/jid"));
        self.remember(target, owner, &format!("/api/v1/agents/{id}"));
        Ok(Agent { id, jid, body })
    }

    /// Deletes this at the end.
    pub(crate) fn remember(&self, target: &Url, owner: &Account, path: &str) {
        let target = if *target == self.options.target { &self.home } else { target };
        if let Ok(mut made) = self.cast.made.lock() {
            made.push((target.clone(), owner.access.clone(), path.to_owned()));
        }
    }

    /// Deletes this tenant at the end.
    pub(crate) fn remember_tenant(&self, admin: &Account, id: &str) {
        self.remember(&self.options.target, admin, &format!("{TENANTS}/{id}?confirm={id}"));
    }

    /// Disables the accounts that were made, for no hub deletes accounts over its API, and says how many there are. Only after
    /// [`clean`](Self::clean), which needs their credentials.
    pub(crate) async fn close_accounts(&self) -> Vec<String> {
        let accounts = self.cast.accounts.lock().map(|mut accounts| std::mem::take(&mut *accounts)).unwrap_or_default();
        let mut left = Vec::new();
        for (hub, emails) in accounts {
            let disabled = match self.cast.admin.get() {
                Some(admin) if hub == self.home => self.disable(admin, &emails).await,
                _ => 0,
            };
            left.push(format!("accounts at {hub}: {} made, {disabled} disabled at the end, for no API deletes them", emails.len()));
        }
        left
    }

    /// How many of these accounts an administrator could disable.
    async fn disable(&self, admin: &Account, emails: &BTreeSet<String>) -> usize {
        let mut ids = Vec::new();
        for page in 1..=PAGES {
            let Ok(url) = self.home.join(&format!("{USERS}?page={page}&page_size=100")) else { break };
            let Ok(answer) = self.common.get(url).timeout(ANSWER).bearer_auth(&admin.access).send().await else { break };
            let listed: Value = answer.json().await.unwrap_or_default();
            let Some(users) = listed["data"].as_array().filter(|users| !users.is_empty()) else { break };
            let own = users.iter().filter(|user| user["email"].as_str().is_some_and(|email| emails.contains(email)));
            ids.extend(own.filter_map(|user| user["id"].as_str().map(str::to_owned)));
            if ids.len() >= emails.len() {
                break;
            }
        }
        let changes = ids.into_iter().filter_map(|id| {
            let url = self.home.join(&format!("{USERS}/{id}")).ok()?;
            let change = self.common.patch(url).timeout(ANSWER).bearer_auth(&admin.access).json(&json!({ "status": "disabled" }));
            Some(async { change.send().await.is_ok_and(|answer| answer.status().is_success()) })
        });
        let done = futures::stream::iter(changes).buffer_unordered(AT_ONCE);
        done.filter(|done| std::future::ready(*done)).count().await
    }

    /// Takes away what was made, and says what is left.
    pub(crate) async fn clean(&self) -> Vec<String> {
        let made = self.cast.made.lock().map(|mut made| std::mem::take(&mut *made)).unwrap_or_default();
        // What belongs to a tenant is gone with it, so that tenants go last.
        let (tenants, things): (Vec<_>, Vec<_>) = made.into_iter().partition(|(.., path)| path.contains("?confirm="));
        let mut left = Vec::new();
        for part in [things, tenants] {
            let deletes = part.into_iter().map(|(target, token, path)| self.delete(target, token, path));
            left.extend(futures::stream::iter(deletes).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect::<Vec<_>>().await);
        }
        left
    }

    /// `None`, or what went wrong. What is gone already, or was never there, is no problem.
    async fn delete(&self, target: Url, token: String, path: String) -> Option<String> {
        let url = target.join(&path).ok()?;
        match self.common.request(Method::DELETE, url).timeout(ANSWER).bearer_auth(token).send().await {
            Ok(answer) if answer.status().is_success() || [401, 404].contains(&answer.status().as_u16()) => None,
            Ok(answer) => Some(format!("DELETE {path} answered {}", answer.status())),
            Err(error) => Some(format!("DELETE {path}: {error}")),
        }
    }
}

/// The body of an agent that says back what it is told.
pub(crate) fn echo_agent(name: &str, visibility: &str) -> Value {
    json!({
        "name": name,
        "system_prompt": "You answer for the conformance suite.",
        "llm_config": { "provider": "echo", "model": "echo" },
        "visibility": visibility,
    })
}

pub(crate) fn client(from: Option<IpAddr>, ca: Option<&[u8]>) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder();
    for authority in ca.map(reqwest::Certificate::from_pem_bundle).transpose()?.unwrap_or_default() {
        builder = builder.add_root_certificate(authority);
    }
    builder
        .local_address(from)
        .connect_timeout(Duration::from_secs(10))
        // The suite judges redirects, so it follows none.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("aiox-conformance/", env!("CARGO_PKG_VERSION")))
        .build()
}

impl Scene {
    /// A call to the target.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        self.call_at(&self.world.options.target.clone(), method, path)
    }
}
