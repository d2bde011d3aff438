//! The door over the real use cases, with SQLite in a file and a worker of the test's own.

use std::{collections::HashSet, sync::Arc};

use aiox_app::{
    Accounts, AccountsOptions, Agents, Contacts, Directory, Dispatch, DispatchOptions, Federated, HubNames, Replies, Runs, RunsOptions,
    SignUp, TaskOutcome, Urgency, Vault, WorkerInfo, WorkerSession,
    accounts::Origin,
    federated::{Draft, PeerWire},
};
use aiox_bus::{MemoryEvents, MemoryQueue};
use aiox_core::{
    Error, Result,
    ports::{Clock, Ids},
    quota::Limits,
};
use aiox_crypto::{
    system::{SystemClock, SystemIds},
    tokens::Tokens,
};
use aiox_model::{
    BareJid, TraceId,
    account::Register,
    agent::{AgentCreate, Visibility},
    run::{HistoryMessage, RunError},
};
use aiox_store::{Journal, Sealed, Store, StoreOptions, tenants};
use async_trait::async_trait;
use serde_json::json;
use uuid::Uuid;

use super::{Server, attr, body, options};
use crate::{UseCases, XmppDoor};

/// No peers.
struct Alone;
#[async_trait]
impl PeerWire for Alone {
    fn seal(&self, _: &Draft, _: u64, _: Option<&str>) -> Result<Sealed> {
        Err(Error::unavailable("federation_off", "federation is off"))
    }
    async fn history(&self, _: &str, _: &BareJid, _: &str, _: u32, _: u64) -> Result<Vec<HistoryMessage>> {
        Err(Error::unavailable("federation_off", "federation is off"))
    }
}

struct Hub {
    cases: UseCases,
    dispatch: Dispatch,
    _directory: tempfile::TempDir,
}

async fn hub(requests_day: u64) -> Hub {
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
    let book = aiox_app::TenantBook::new(store.clone(), clock.clone(), aiox_core::tenant::Limits::default());
    let replies = Replies::new(store.clone(), journal.clone());
    let finder = Directory::new(store.clone(), names.clone());
    let federated =
        Federated::new(store.clone(), journal.clone(), events.clone(), clock.clone(), ids.clone(), replies.clone(), Arc::new(Alone));
    let tokens = Tokens::new("hub-a.example", &"a".repeat(32).into(), &"b".repeat(32).into(), 900, 3600).unwrap();
    let limits = Limits { requests_day, ..Limits::default() };
    let accounts_options =
        AccountsOptions { sign_up: SignUp::Open, limits, remote_limits: limits, default_tenant: tenant.into(), tenants: book.clone() };
    let accounts = Accounts::new(store.clone(), vault.clone(), tokens, names.clone(), clock.clone(), ids.clone(), accounts_options);
    let agents = Agents::new(store.clone(), vault.clone(), finder.clone(), clock.clone(), ids.clone(), "echo".into());
    let runs_options = RunsOptions {
        default_provider: "echo".into(),
        known_providers: HashSet::from(["echo".to_owned()]),
        timeout_ms: 60_000,
        max_timeout_ms: 60_000,
        tenants: book,
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
        federated,
        runs_options,
    );
    let dispatch_options = DispatchOptions { default_provider: "echo".into(), urgency: Urgency::default() };
    let (dispatch, watch) =
        Dispatch::new(store.clone(), journal, queue, events, clock.clone(), ids, vault, replies.clone(), names, dispatch_options);
    tokio::spawn(watch.run(tokio_util::sync::CancellationToken::new()));
    let contacts = Contacts::new(store, clock);
    Hub { cases: UseCases { accounts, agents, runs, replies, contacts }, dispatch, _directory: directory }
}

impl Hub {
    async fn user(&self, name: &str) {
        let body = Register {
            email: format!("{name}@mail.example"),
            password: "correct horse battery".into(),
            username: Some(name.into()),
            invite: None,
        };
        self.cases.accounts.register(body, Origin { address: None, trace: TraceId(Uuid::now_v7()) }).await.unwrap();
    }

    async fn caller(&self, name: &str) -> aiox_core::Caller {
        let jid: BareJid = format!("{name}@hub-a.example").parse().unwrap();
        self.cases.accounts.caller_for_jid(&jid, TraceId(Uuid::now_v7())).await.unwrap().unwrap()
    }

    async fn id(&self, agent: &str) -> aiox_model::AgentId {
        self.cases.agents.id_of(&aiox_app::AgentRef::parse(agent).unwrap()).await.unwrap()
    }

    async fn agent(&self, owner: &str, handle: &str, visibility: Visibility) -> String {
        let caller = self.caller(owner).await;
        let new = json!({ "name": format!("The {handle}"), "system_prompt": "Be kind.", "handle": handle, "visibility": visibility });
        let new: AgentCreate = serde_json::from_value(new).unwrap();
        self.cases.agents.create(&caller, new).await.unwrap().jid
    }

    /// A worker that answers by what it is asked, or fails when it is asked to.
    fn worker(&self) -> Arc<WorkerSession> {
        let info =
            WorkerInfo { worker_id: "w1".into(), max_concurrent: 8, providers: vec!["echo".into()], protocol: 1, ..WorkerInfo::default() };
        let session = Arc::new(self.dispatch.register(info).unwrap());
        let working = Arc::clone(&session);
        tokio::spawn(async move {
            while let Ok(task) = working.next().await {
                let outcome = if task.message == "fail" {
                    TaskOutcome::failed(RunError { code: "provider_error".into(), message: "the provider failed".into(), retryable: false })
                } else {
                    TaskOutcome { text: format!("you said: {}", task.message), model_used: "echo".into(), ..TaskOutcome::default() }
                };
                working.complete(task.run, outcome).await.unwrap();
            }
        });
        session
    }
}

fn start(server: &Server, hub: &Hub) -> tokio_util::sync::DropGuard {
    let shutdown = tokio_util::sync::CancellationToken::new();
    let door = XmppDoor::new(options(server), hub.cases.clone()).unwrap();
    tokio::spawn(door.run(shutdown.clone()));
    shutdown.drop_guard()
}

fn message(from: &str, to: &str, id: &str, text: &str) -> String {
    format!("<message from='{from}@hub-a.example/x' to='{to}' type='chat' id='{id}'><body>{text}</body><thread>t</thread></message>")
}

#[tokio::test]
async fn a_message_becomes_a_run_and_its_answer_a_stanza_by_either_address() {
    let (server, hub) = (Server::start().await, hub(100).await);
    hub.user("alice").await;
    let jid = hub.agent("alice", "helper", Visibility::Private).await;
    let _worker = hub.worker();
    let _door = start(&server, &hub);
    let mut peer = server.accept().await;
    for (index, address) in [jid.as_str(), "helper@agents.hub-a.example"].into_iter().enumerate() {
        peer.write(&message("alice", address, &format!("q{index}"), "hello")).await;
        assert!(peer.next_relevant().await.has_child("composing", "http://jabber.org/protocol/chatstates"));
        let answer = peer.next_relevant().await;
        assert_eq!(body(&answer), "you said: hello");
        assert_eq!((attr(&answer, "from"), attr(&answer, "to")), (format!("{address}/aiox").as_str(), "alice@hub-a.example"));
        assert_eq!(answer.get_child("thread", crate::stanza::NS_COMPONENT).unwrap().text(), "t");
        assert_eq!(attr(answer.get_child("reply", "urn:xmpp:reply:0").unwrap(), "id"), format!("q{index}"));
    }
    // The same message again is no new run.
    peer.write(&message("alice", &jid, "q0", "hello")).await;
    peer.write(&message("alice", &jid, "q2", "fail")).await;
    assert!(peer.next_relevant().await.has_child("composing", "http://jabber.org/protocol/chatstates"));
    assert_eq!(body(&peer.next_relevant().await), "Error processing your message: the provider failed");
    let wait = async {
        while !hub.cases.replies.due(Uuid::nil(), 1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    peer.serve_until(wait).await;
}

#[tokio::test]
async fn a_private_agent_looks_like_a_missing_one_to_everybody_else() {
    let (server, hub) = (Server::start().await, hub(100).await);
    hub.user("alice").await;
    hub.user("bob").await;
    let jid = hub.agent("alice", "secret", Visibility::Private).await;
    let _door = start(&server, &hub);
    let mut peer = server.accept().await;
    let mut answers = Vec::new();
    for address in [jid.as_str(), "agent-00000000-0000-7000-8000-000000000000@agents.hub-a.example", "nobody@agents.hub-a.example"] {
        peer.write(&message("bob", address, "q", "hello")).await;
        peer.write(&format!("<iq from='bob@hub-a.example/x' to='{address}' type='get' id='q'><vCard xmlns='vcard-temp'/></iq>")).await;
        peer.write(&format!("<presence from='bob@hub-a.example/x' to='{address}' type='subscribe'/>")).await;
        let mut got: Vec<String> = Vec::new();
        for _ in 0..3 {
            let answer = peer.next().await;
            let mut bytes = Vec::new();
            answer.write_to(&mut bytes).unwrap();
            got.push(String::from_utf8(bytes).unwrap().replace(address, "AGENT"));
        }
        got.sort();
        answers.push(got);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert!(answers[0].iter().any(|answer| answer.contains("item-not-found")) && answers[0].iter().any(|a| a.contains("unsubscribed")));

    // Somebody with an address of our domain and no account.
    peer.write(&message("mallory", &jid, "q", "hello")).await;
    assert_eq!(attr(&peer.next_relevant().await, "type"), "error");
}

#[tokio::test]
async fn a_revoked_grant_and_a_deleted_agent_end_subscriptions() {
    let (server, hub) = (Server::start().await, hub(100).await);
    hub.user("alice").await;
    let _door = start(&server, &hub);
    let mut peer = server.accept().await;
    let owner = hub.caller("alice").await;
    let shared = hub.agent("alice", "shared", Visibility::Private).await;
    let id = hub.id(&shared).await;
    let grant = |grantee: &str| serde_json::from_value(json!({ "kind": "jid", "grantee": grantee })).unwrap();
    let bob = hub.cases.agents.grant(&owner, id, grant("bob@elsewhere.example")).await.unwrap();
    hub.cases.agents.grant(&owner, id, grant("carol@elsewhere.example")).await.unwrap();
    for name in ["bob", "carol"] {
        peer.write(&format!("<presence from='{name}@elsewhere.example' to='{shared}' type='subscribe'/>")).await;
        assert_eq!(attr(&peer.next().await, "type"), "subscribed");
        assert_eq!(peer.next().await.attr::<str>("type"), None);
    }
    hub.cases.agents.revoke(&owner, id, bob.id.into()).await.unwrap();
    // By each address that bob may know it by.
    for address in [shared.as_str(), "shared@agents.hub-a.example"] {
        for type_ in ["unavailable", "unsubscribed"] {
            let presence = peer.next().await;
            assert_eq!((attr(&presence, "type"), attr(&presence, "to")), (type_, "bob@elsewhere.example"));
            assert_eq!(attr(&presence, "from").trim_end_matches("/aiox"), address);
        }
    }
    hub.cases.agents.delete(&owner, id).await.unwrap();
    for _ in 0..4 {
        assert_eq!(attr(&peer.next().await, "to"), "carol@elsewhere.example");
    }
    peer.write("<iq from='alice@hub-a.example/x' to='agents.hub-a.example' type='get' id='last'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    assert_eq!(attr(&peer.next().await, "id"), "last");
    while !hub.cases.contacts.page(None, 10).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_owner_reads_who_was_denied_its_agent() {
    let (server, hub) = (Server::start().await, hub(100).await);
    hub.user("alice").await;
    let jid = hub.agent("alice", "secret", Visibility::Private).await;
    let _door = start(&server, &hub);
    let mut peer = server.accept().await;
    for address in [jid.as_str(), "secret@agents.hub-a.example", "nobody@agents.hub-a.example"] {
        peer.write(&format!("<message from='eve@elsewhere.example/x' to='{address}' type='chat' id='q'><body>hi</body></message>")).await;
        assert_eq!(attr(&peer.next_relevant().await, "type"), "error");
    }
    let owner = hub.caller("alice").await;
    let filter = aiox_store::audit::Filter { action: Some("auth.denied".into()), ..aiox_store::audit::Filter::default() };
    let records = loop {
        let (records, _) = hub.cases.agents.audit(&owner, None, filter.clone(), 10, 0).await.unwrap();
        if !records.is_empty() {
            break records;
        }
        tokio::task::yield_now().await;
    };
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((record.actor.as_str(), record.outcome.as_str()), ("jid:eve@elsewhere.example", "denied"));
    assert_eq!(record.resource_id, Some(hub.id(&jid).await.uuid().to_string()));
}

#[tokio::test]
async fn replies_of_a_hub_without_a_server_arrive_once_when_it_comes() {
    let hub = hub(100).await;
    hub.user("alice").await;
    let jid = hub.agent("alice", "helper", Visibility::Private).await;
    let server = Server::start().await;
    let door = start(&server, &hub);
    let mut peer = server.accept().await;
    peer.write(&message("alice", &jid, "q0", "hello")).await;
    assert!(peer.next_relevant().await.has_child("composing", "http://jabber.org/protocol/chatstates"));
    // The server goes, then the worker answers, then the hub's door is another one.
    drop((door, peer));
    let _worker = hub.worker();
    let replies = hub.cases.replies.clone();
    while replies.due(Uuid::nil(), 1).await.unwrap().is_empty() {
        replies.news().await;
    }
    let server = Server::start().await;
    let _door = start(&server, &hub);
    let mut peer = server.accept().await;
    assert!(peer.next_relevant().await.has_child("composing", "http://jabber.org/protocol/chatstates"));
    assert_eq!(body(&peer.next_relevant().await), "you said: hello");
    let wait = async {
        while !replies.due(Uuid::nil(), 1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    peer.serve_until(wait).await;
}

#[tokio::test]
async fn the_quota_of_the_caller_is_kept_and_shown() {
    let (server, hub) = (Server::start().await, hub(1).await);
    hub.user("alice").await;
    let jid = hub.agent("alice", "helper", Visibility::Private).await;
    let _door = start(&server, &hub);
    let mut peer = server.accept().await;
    peer.write(&message("alice", &jid, "q0", "hello")).await;
    assert!(peer.next_relevant().await.has_child("composing", "http://jabber.org/protocol/chatstates"));
    peer.write(&message("alice", &jid, "q1", "hello")).await;
    assert_eq!(attr(&peer.next_relevant().await, "type"), "error");
    assert_eq!(body(&peer.next_relevant().await), "Error: Quota exceeded: 1 requests per day");
    peer.write(&message("alice", &jid, "q2", "quota")).await;
    assert!(body(&peer.next_relevant().await).contains("1 of 1 requests"));
    peer.write(&message("alice", &jid, "q3", "!runs")).await;
    assert!(body(&peer.next_relevant().await).contains("hello (queued)"));
}

#[tokio::test]
async fn subscriptions_survive_a_restart_of_the_door() {
    let (server, hub) = (Server::start().await, hub(1).await);
    hub.user("alice").await;
    let jid = hub.agent("alice", "helper", Visibility::Private).await;
    let door = start(&server, &hub);
    let mut peer = server.accept().await;
    peer.write(&format!("<presence from='alice@hub-a.example' to='{jid}' type='subscribe'/>")).await;
    assert_eq!(attr(&peer.next().await, "type"), "subscribed");
    peer.next().await;
    drop(door);
    let mut gone = Vec::new();
    while let Some(presence) = peer.next_or_end().await {
        gone.push((attr(&presence, "from").to_owned(), attr(&presence, "type").to_owned()));
    }
    assert!(gone.contains(&(format!("{jid}/aiox"), "unavailable".into())), "{gone:?}");

    let _door = start(&server, &hub);
    let mut peer = server.accept().await;
    let hello = peer.next().await;
    assert_eq!((attr(&hello, "from"), attr(&hello, "to")), (format!("{jid}/aiox").as_str(), "alice@hub-a.example"));
    assert_eq!(hello.attr::<str>("type"), None);
}
