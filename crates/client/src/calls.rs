//! The calls, one method each.

use std::time::Duration;

use aiox_model::{
    account::{Login, Quota, Refresh, Register, TokenPair, User},
    agent::{Agent, AgentCard, AgentCreate},
    body::{Data, Page},
    conformance::{ConformanceResult, ConformanceRule, NewConformanceResult},
    run::{ChatReply, ChatRequest, HistoryMessage, Run},
};
use futures::Stream;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Client, Health, Peer, Result, error, read,
    stream::{self, Ending, Frame},
};

/// The hub answers a waiting call within its own limit; this is for a hub that is gone.
const WAIT: Duration = Duration::from_secs(3600);

/// A message to an agent.
#[derive(Debug, Clone, Default)]
pub struct Chat {
    /// Id, handle or address of the agent.
    pub agent: String,
    /// What is asked.
    pub message: String,
    /// Continue this conversation; absent = the standing one.
    pub conversation: Option<Uuid>,
    /// The same key and message: the same run, however often it is sent.
    pub idempotency_key: Option<String>,
    /// Milliseconds of one attempt; absent = the hub's limit.
    pub timeout_ms: Option<u64>,
}

/// What an administrator compares before two hubs become peers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fingerprint {
    /// SHA-256 of the hub's trust document, lower-case hex.
    pub fingerprint: String,
    /// The document itself.
    pub document: Value,
}

impl Client {
    /// Registers an account.
    ///
    /// # Errors
    /// As every call: see [`crate::Error`].
    pub async fn register(&self, account: &Register) -> Result<TokenPair> {
        self.post(&["api", "v1", "auth", "register"], account).await
    }

    /// Signs in.
    ///
    /// # Errors
    /// As every call.
    pub async fn login(&self, login: &Login) -> Result<TokenPair> {
        self.post(&["api", "v1", "auth", "login"], login).await
    }

    /// The same client, signed in with a name and a password.
    ///
    /// # Errors
    /// As every call.
    pub async fn signed_in(self, username: &str, password: &str) -> Result<Self> {
        let login = Login { email: None, username: Some(username.to_owned()), password: password.to_owned() };
        let pair = self.login(&login).await?;
        Ok(self.with_credential(pair.access_token.into()))
    }

    /// Exchanges a refresh token; it works once.
    ///
    /// # Errors
    /// As every call.
    pub async fn refresh(&self, refresh_token: String) -> Result<TokenPair> {
        self.post(&["api", "v1", "auth", "refresh"], &Refresh { refresh_token }).await
    }

    /// The caller's account.
    ///
    /// # Errors
    /// As every call.
    pub async fn me(&self) -> Result<User> {
        self.data(&["api", "v1", "me"]).await
    }

    /// Creates an agent.
    ///
    /// # Errors
    /// As every call.
    pub async fn create_agent(&self, agent: &AgentCreate) -> Result<Agent> {
        self.post(&["api", "v1", "agents"], agent).await
    }

    /// One page of the caller's agents, newest first.
    ///
    /// # Errors
    /// As every call.
    pub async fn agents(&self, page: u32, page_size: u32) -> Result<Page<Agent>> {
        self.get(&["api", "v1", "agents"], &[("page", page.to_string()), ("page_size", page_size.to_string())]).await
    }

    /// Every agent that the caller may use, here and at peers.
    ///
    /// # Errors
    /// As every call.
    pub async fn mesh(&self) -> Result<Vec<AgentCard>> {
        self.data(&["api", "v1", "mesh", "agents"]).await
    }

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// As every call; the codes of failed runs too.
    pub async fn chat(&self, chat: &Chat) -> Result<ChatReply> {
        let response = self.chat_request(chat, false, false)?.timeout(WAIT).send().await?;
        read::<Data<ChatReply>>(response).await.map(|body| body.data)
    }

    /// Sends a message and returns its run as soon as it is durable.
    ///
    /// # Errors
    /// As every call.
    pub async fn submit(&self, chat: &Chat) -> Result<Run> {
        let response = self.chat_request(chat, false, true)?.timeout(crate::QUICK).send().await?;
        read::<Data<Run>>(response).await.map(|body| body.data)
    }

    /// Sends a message and watches the answer come: the stream ends after [`Frame::Done`], or with an error.
    ///
    /// # Errors
    /// As every call.
    pub async fn chat_stream(&self, chat: &Chat) -> Result<impl Stream<Item = Result<Frame>> + Send + use<>> {
        let response = self.chat_request(chat, true, false)?.timeout(WAIT).send().await?;
        Ok(stream::frames(error::successful(response).await?, Ending::Done))
    }

    /// Watches a run from after an event (0: from its beginning) to its end. Nothing comes when nothing is left.
    ///
    /// # Errors
    /// As every call.
    pub async fn follow(&self, run: Uuid, after: u64, deltas: bool) -> Result<impl Stream<Item = Result<Frame>> + Send + use<>> {
        let id = run.to_string();
        let request = self.call(Method::GET, &["api", "v1", "runs", &id, "events"])?;
        let request = request.query(&[("deltas", deltas.to_string())]).header("last-event-id", after.to_string());
        Ok(stream::frames(error::successful(request.send().await?).await?, Ending::Any))
    }

    fn chat_request(&self, chat: &Chat, stream: bool, detach: bool) -> Result<reqwest::RequestBuilder> {
        let body = ChatRequest {
            message: chat.message.clone(),
            conversation_id: chat.conversation,
            stream,
            timeout_ms: chat.timeout_ms,
            priority: None,
            detach,
        };
        let request = self.call(Method::POST, &["api", "v1", "agents", &chat.agent, "chat"])?.json(&body);
        Ok(match &chat.idempotency_key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        })
    }

    /// The caller's latest runs.
    ///
    /// # Errors
    /// As every call.
    pub async fn runs(&self, limit: u32) -> Result<Vec<Run>> {
        self.get::<Data<Vec<Run>>>(&["api", "v1", "runs"], &[("limit", limit.to_string())]).await.map(|body| body.data)
    }

    /// One run.
    ///
    /// # Errors
    /// As every call.
    pub async fn run(&self, run: Uuid) -> Result<Run> {
        self.data(&["api", "v1", "runs", &run.to_string()]).await
    }

    /// Cancels a run.
    ///
    /// # Errors
    /// As every call; code `invalid_state_transition` when it has ended.
    pub async fn cancel(&self, run: Uuid) -> Result<Run> {
        self.post(&["api", "v1", "runs", &run.to_string(), "cancel"], &json!({})).await
    }

    /// One page of the caller's messages with an agent, wherever it lives.
    ///
    /// # Errors
    /// As every call.
    pub async fn history(&self, agent: &str, page: u32, page_size: u32) -> Result<Page<HistoryMessage>> {
        let query = [("page", page.to_string()), ("page_size", page_size.to_string())];
        self.get(&["api", "v1", "agents", agent, "history"], &query).await
    }

    /// Use of the caller's allowance.
    ///
    /// # Errors
    /// As every call.
    pub async fn quota(&self) -> Result<Quota> {
        self.data(&["api", "v1", "governance", "quota"]).await
    }

    /// How the hub is; of a hub that is not ready too.
    ///
    /// # Errors
    /// As every call.
    pub async fn health(&self) -> Result<Health> {
        let response = self.call(Method::GET, &["health", "ready"])?.timeout(crate::QUICK).send().await?;
        let response = if response.status() == StatusCode::SERVICE_UNAVAILABLE { response } else { error::successful(response).await? };
        let body: Data<Health> = serde_json::from_slice(&crate::bytes(response).await?).map_err(|_| crate::Error::Answer("no health"))?;
        Ok(body.data)
    }

    /// The peers of the hub. Needs the scope `peers:admin`, as all calls about peers do.
    ///
    /// # Errors
    /// As every call.
    pub async fn peers(&self) -> Result<Vec<Peer>> {
        self.data(&["api", "v1", "admin", "peers"]).await
    }

    /// One peer.
    ///
    /// # Errors
    /// As every call.
    pub async fn peer(&self, domain: &str) -> Result<Peer> {
        self.data(&["api", "v1", "admin", "peers", domain]).await
    }

    /// What the other hub's administrator has to type to confirm this hub.
    ///
    /// # Errors
    /// As every call.
    pub async fn own_fingerprint(&self) -> Result<Fingerprint> {
        self.data(&["api", "v1", "admin", "peers", "self"]).await
    }

    /// Fetches a peer's trust document from `url` and notes it, unconfirmed.
    ///
    /// # Errors
    /// As every call.
    pub async fn propose_peer(&self, domain: &str, url: &str) -> Result<Peer> {
        self.post(&["api", "v1", "admin", "peers"], &json!({ "domain": domain, "url": url })).await
    }

    /// Confirms a peer by the fingerprint that its administrator told.
    ///
    /// # Errors
    /// As every call.
    pub async fn confirm_peer(&self, domain: &str, fingerprint: &str) -> Result<Peer> {
        self.post(&["api", "v1", "admin", "peers", domain, "confirm"], &json!({ "fingerprint": fingerprint })).await
    }

    /// Stops a peer's traffic.
    ///
    /// # Errors
    /// As every call.
    pub async fn suspend_peer(&self, domain: &str) -> Result<Peer> {
        self.post(&["api", "v1", "admin", "peers", domain, "suspend"], &json!({})).await
    }

    /// Lets a peer's traffic flow again.
    ///
    /// # Errors
    /// As every call.
    pub async fn resume_peer(&self, domain: &str) -> Result<Peer> {
        self.post(&["api", "v1", "admin", "peers", domain, "resume"], &json!({})).await
    }

    /// Asks that a peer's conformance result satisfies a rule; `None`: asks for none any more.
    ///
    /// # Errors
    /// As every call.
    pub async fn require_of_peer(&self, domain: &str, rule: Option<&ConformanceRule>) -> Result<Peer> {
        let path = ["api", "v1", "admin", "peers", domain, "conformance"];
        let call = match rule {
            Some(rule) => self.call(Method::PUT, &path)?.json(rule),
            None => self.call(Method::DELETE, &path)?,
        };
        read::<Data<Peer>>(call.timeout(crate::QUICK).send().await?).await.map(|body| body.data)
    }

    /// Publishes what the conformance suite found of the hub, signed by it.
    ///
    /// # Errors
    /// As every call.
    pub async fn publish_conformance(&self, found: &NewConformanceResult) -> Result<ConformanceResult> {
        let call = self.call(Method::PUT, &["api", "v1", "admin", "conformance"])?.json(found);
        read::<Data<ConformanceResult>>(call.timeout(crate::QUICK).send().await?).await.map(|body| body.data)
    }

    /// Forgets a peer.
    ///
    /// # Errors
    /// As every call.
    pub async fn remove_peer(&self, domain: &str) -> Result<()> {
        let response = self.call(Method::DELETE, &["api", "v1", "admin", "peers", domain])?.timeout(crate::QUICK).send().await?;
        error::successful(response).await.map(drop)
    }
}
