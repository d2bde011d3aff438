//! A hub in memory: one agent `bot`, which everybody of `hub-a.example` may use and nobody else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aiox_core::{Caller, Door, Error, Principal, Result, Role, Scope, quota::Limits};
use aiox_model::{
    AgentId, BareJid, RunId, TenantId, TraceId, Ts, UserId,
    account::Quota,
    agent::{AgentCard, Visibility},
    run::{Run, RunStatus},
};
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use crate::{
    disco::Face,
    hub::{Accepted, Contact, Hub, Lost, Progress, Question, Reply},
};

#[derive(Default)]
pub(super) struct State {
    pub(super) questions: Vec<(BareJid, Question)>,
    pub(super) outbox: Vec<Reply>,
    pub(super) confirmed: Vec<Uuid>,
    pub(super) contacts: Vec<BareJid>,
    /// Contacts that may no longer use the agent.
    pub(super) shut_out: Vec<BareJid>,
    pub(super) denied: Vec<BareJid>,
    pub(super) canceled: Vec<RunId>,
    runs: Vec<RunId>,
    keys: HashMap<(BareJid, String), RunId>,
    progress: HashMap<RunId, mpsc::UnboundedReceiver<Progress>>,
    /// Refuse the next submit with this.
    pub(super) fail: Option<Error>,
    /// Put the answer `echo: ...` into the outbox at once.
    pub(super) echo: bool,
    /// What the next run shows while it goes on.
    pub(super) live: Option<mpsc::UnboundedReceiver<Progress>>,
}

#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) state: Arc<Mutex<State>>,
    news: Arc<Notify>,
    pub(super) narrowed: Arc<Notify>,
    pub(super) confirms: Arc<Notify>,
}

impl World {
    pub(super) fn echoing() -> Self {
        let world = Self::default();
        world.state.lock().unwrap().echo = true;
        world
    }
    pub(super) fn reply(&self, reply: Reply) {
        self.state.lock().unwrap().outbox.push(reply);
        self.news.notify_one();
    }
    pub(super) fn asked(&self) -> usize {
        self.state.lock().unwrap().questions.len()
    }
    pub(super) fn last_run(&self) -> Option<RunId> {
        self.state.lock().unwrap().runs.last().copied()
    }
    /// Waits until so many replies are confirmed.
    pub(super) async fn confirmed(&self, count: usize) {
        let wait = async {
            while self.state.lock().unwrap().confirmed.len() < count {
                self.confirms.notified().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.expect("not confirmed in time");
    }
}

pub(super) fn card() -> AgentCard {
    AgentCard {
        id: Uuid::from_u128(7),
        jid: "bot@agents.hub-a.example".into(),
        handle: Some("bot".into()),
        domain: "hub-a.example".into(),
        name: "The bot".into(),
        description: "Answers".into(),
        domain_tags: Vec::new(),
        provider: "echo".into(),
        visibility: Visibility::Tenant,
        updated_at: Ts::from_micros(0),
    }
}

#[async_trait]
impl Hub for World {
    async fn caller(&self, sender: &BareJid) -> Result<Caller> {
        let principal = if sender.domain() == "hub-a.example" {
            Principal::User { id: UserId(Uuid::from_u128(1)), jid: sender.clone(), key: None }
        } else {
            Principal::Remote { jid: sender.clone() }
        };
        Ok(Caller {
            tenant: TenantId(Uuid::nil()),
            principal,
            role: Role::User,
            scopes: Scope::ALL.to_vec(),
            limits: Limits::default(),
            trace: TraceId(Uuid::nil()),
            correlation: None,
            door: Door::Xmpp,
            address: None,
        })
    }
    async fn card(&self, caller: &Caller, agent: &BareJid) -> Result<AgentCard> {
        let known = agent.local() == "bot" && matches!(caller.principal, Principal::User { .. });
        if known { Ok(card()) } else { Err(Error::NotFound("agent")) }
    }
    async fn cards(&self, _caller: &Caller) -> Result<Vec<AgentCard>> {
        Ok(vec![card()])
    }
    async fn submit(&self, caller: &Caller, agent: &BareJid, question: Question) -> Result<Accepted> {
        self.card(caller, agent).await?;
        let mut state = self.state.lock().unwrap();
        if let Some(error) = state.fail.take() {
            return Err(error);
        }
        let sender = caller.principal.jid().clone();
        let run = RunId(Uuid::now_v7());
        if let Some(id) = &question.stanza_id {
            let first = *state.keys.entry((sender.clone(), id.clone())).or_insert(run);
            if first != run {
                return Ok(Accepted { run: first, fresh: false });
            }
        }
        if let Some(live) = state.live.take() {
            state.progress.insert(run, live);
        }
        let reply = Reply {
            id: Uuid::now_v7(),
            stanza_id: run.uuid().to_string(),
            run: Some(run),
            envelope: question.envelope.clone(),
            body: format!("echo: {}", question.input),
        };
        state.questions.push((sender, question));
        state.runs.push(run);
        let echo = state.echo;
        drop(state);
        if echo {
            self.reply(reply);
        }
        Ok(Accepted { run, fresh: true })
    }
    async fn follow(&self, _caller: &Caller, run: RunId) -> Result<BoxStream<'static, Progress>> {
        let Some(mut steps) = self.state.lock().unwrap().progress.remove(&run) else { return Ok(futures::stream::empty().boxed()) };
        Ok(futures::stream::poll_fn(move |context| steps.poll_recv(context)).boxed())
    }
    async fn answer(&self, _caller: &Caller, run: RunId) -> Result<Option<String>> {
        let state = self.state.lock().unwrap();
        let at = state.runs.iter().position(|known| *known == run);
        Ok(at.map(|at| format!("echo: {}", state.questions[at].1.input)))
    }
    async fn unfinished(&self, _caller: &Caller) -> Result<Vec<Run>> {
        Ok(vec![Run {
            id: Uuid::from_u128(9),
            agent_jid: card().jid,
            conversation_id: Uuid::nil(),
            door: "xmpp".into(),
            status: RunStatus::Running,
            peer: None,
            delivery: None,
            input: "a long question".into(),
            output: None,
            error: None,
            model_used: None,
            input_tokens: 0,
            output_tokens: 0,
            attempt: 1,
            worker_id: None,
            created_at: Ts::from_micros(0),
            started_at: None,
            completed_at: None,
        }])
    }
    async fn cancel(&self, _caller: &Caller, run: RunId) -> Result<()> {
        self.state.lock().unwrap().canceled.push(run);
        Ok(())
    }
    async fn quota(&self, _caller: &Caller) -> Result<Quota> {
        Ok(Quota { requests_today: 3, requests_limit_day: 1000, ..Quota::default() })
    }
    async fn due(&self, after: Uuid, limit: u32) -> Result<Vec<Reply>> {
        let mut due: Vec<Reply> = self.state.lock().unwrap().outbox.iter().filter(|reply| reply.id > after).cloned().collect();
        due.sort_by_key(|reply| reply.id);
        due.truncate(limit as usize);
        Ok(due)
    }
    async fn confirm(&self, replies: Vec<Uuid>) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        state.outbox.retain(|reply| !replies.contains(&reply.id));
        state.confirmed.extend(replies);
        self.confirms.notify_one();
        Ok(())
    }
    async fn replies_changed(&self) {
        self.news.notified().await;
    }
    async fn subscribe(&self, _agent: &AgentCard, subscriber: &BareJid) -> Result<()> {
        self.state.lock().unwrap().contacts.push(subscriber.clone());
        Ok(())
    }
    async fn unsubscribe(&self, _agent: &AgentCard, subscriber: &BareJid) -> Result<()> {
        self.state.lock().unwrap().contacts.retain(|contact| contact != subscriber);
        Ok(())
    }
    async fn narrowed(&self) -> Vec<AgentId> {
        self.narrowed.notified().await;
        vec![AgentId(card().id)]
    }
    async fn lost(&self, _agent: Option<AgentId>, page: mpsc::Sender<Vec<Lost>>) -> Result<()> {
        let lost = |subscriber: &BareJid| Lost {
            id: AgentId(card().id),
            agent: vec![card().jid.parse().unwrap()],
            subscriber: subscriber.clone(),
        };
        let all = {
            let state = self.state.lock().unwrap();
            state.contacts.iter().filter(|contact| state.shut_out.contains(contact)).map(lost).collect()
        };
        let _ = page.send(all).await;
        Ok(())
    }
    async fn forget(&self, lost: &Lost) -> Result<()> {
        self.state.lock().unwrap().contacts.retain(|contact| *contact != lost.subscriber);
        Ok(())
    }
    async fn agent_of(&self, address: &BareJid) -> Result<AgentId> {
        if address.local() == "bot" { Ok(AgentId(card().id)) } else { Err(Error::NotFound("agent")) }
    }
    async fn record_denied(&self, stranger: &BareJid, _agent: AgentId) -> Result<()> {
        self.state.lock().unwrap().denied.push(stranger.clone());
        self.confirms.notify_one();
        Ok(())
    }
    async fn contacts(&self, page: mpsc::Sender<Vec<Contact>>) -> Result<()> {
        let face = Face::of(&card());
        let contact = |subscriber: BareJid| Contact { agent: vec![card().jid.parse().unwrap()], face: face.clone(), subscriber };
        let all = self.state.lock().unwrap().contacts.iter().cloned().map(contact).collect();
        let _ = page.send(all).await;
        Ok(())
    }
}
