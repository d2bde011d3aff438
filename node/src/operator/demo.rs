//! The conversation that `aiox up` shows: a user of hub A and an agent of hub B, by REST and by XMPP.

use std::time::{Duration, Instant};

use aiox_client::{Chat, Client};
use aiox_core::ports::Clock as _;
use aiox_crypto::system::SystemClock;
use aiox_model::{
    agent::{AgentCreate, Visibility},
    run::{ChatReply, HistoryMessage},
};
use aiox_probe::ConnectOptions;
use anyhow::{Context as _, Result, bail};
use serde_json::Map;

use super::{
    server::Kind,
    site::{Credentials, Mesh, Site},
    up::{self, credentials},
};
use crate::say;

/// How long a new agent may take to be known at the other hub, and an XMPP account to be known at its server.
const PATIENCE: Duration = Duration::from_secs(45);

/// Handle of each hub's first agent.
const HANDLE: &str = "assistant";
/// The largest page of a list.
const PAGE: u32 = 100;

/// Makes the first agent of each hub, unless it is there.
///
/// # Errors
/// When a hub refuses.
pub async fn seed_agents(mesh: &Mesh, sites: &[Site; 2]) -> Result<()> {
    for site in sites {
        let (client, _) = user(mesh, site).await?;
        seed_agent(&client, site).await?;
    }
    Ok(())
}

async fn user(mesh: &Mesh, site: &Site) -> Result<(Client, Credentials)> {
    let made = credentials(site)?;
    Ok((up::signed_in(mesh, site, &made.user).await?, made))
}

/// Shows both transcripts.
///
/// # Errors
/// When anything is not as it should be.
pub async fn show(mesh: &Mesh, sites: &[Site; 2], xmpp: bool, provider: &str) -> Result<()> {
    let mut users = Vec::new();
    for site in sites {
        users.push(user(mesh, site).await?);
    }
    for (here, there) in [(0, 1), (1, 0)] {
        let reply = by_rest(&users[here].0, &sites[here], &sites[there], provider).await?;
        history(&users[here].0, &sites[there], &reply).await?;
    }
    if xmpp {
        for (here, there) in [(0, 1), (1, 0)] {
            // The accounts of ejabberd are its own.
            if sites[here].server_kind() == Kind::Ejabberd {
                continue;
            }
            by_xmpp(mesh, &sites[here], &sites[there], &users[here].1, &users[here].0, provider).await?;
        }
    }
    Ok(())
}

async fn seed_agent(client: &Client, site: &Site) -> Result<()> {
    let own = client.agents(1, PAGE).await?;
    if own.data.iter().any(|agent| agent.handle.as_deref() == Some(HANDLE)) {
        return Ok(());
    }
    let agent = AgentCreate {
        name: format!("Assistant of {}", site.name),
        description: "Answers everybody of the mesh.".to_owned(),
        system_prompt: "You are a helpful assistant. Answer briefly.".to_owned(),
        personality_traits: Vec::new(),
        llm_config: Map::new(),
        capabilities: Map::new(),
        memory_config: Map::from_iter([("enabled".to_owned(), true.into())]),
        governance: Map::new(),
        tools: Map::new(),
        visibility: Some(Visibility::Mesh),
        handle: Some(HANDLE.to_owned()),
    };
    client.create_agent(&agent).await.with_context(|| format!("creating the agent of {}", site.name))?;
    Ok(())
}

/// A message by REST and federation.
async fn by_rest(client: &Client, here: &Site, there: &Site, provider: &str) -> Result<ChatReply> {
    let question = format!("Hello from {} by REST", here.name);
    let known = Instant::now() + PATIENCE;
    while !knows(client, there).await? {
        if Instant::now() > known {
            bail!("{} has not told {} about its agent; see aiox peer list and aiox logs {}", there.name, here.name, here.name);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let chat = Chat { agent: there.agent_jid(), message: question.clone(), ..Chat::default() };
    let began = Instant::now();
    let reply = client.chat(&chat).await.with_context(|| format!("asking {}", there.agent_jid()))?;
    let took = began.elapsed();
    check(provider, &question, &reply.response)?;
    transcript("REST + federation", here, there, &question, &reply.response, took, Some(&reply.run_id.to_string()));
    Ok(reply)
}

async fn knows(client: &Client, there: &Site) -> Result<bool> {
    let domain = there.domain();
    Ok(client.mesh().await?.iter().any(|card| card.domain == domain && card.handle.as_deref() == Some(HANDLE)))
}

/// The same conversation, as the other hub keeps it, has the same run.
async fn history(client: &Client, there: &Site, reply: &ChatReply) -> Result<()> {
    let found = is_kept(client, there, |message| message.run_id == reply.run_id).await?;
    if found { Ok(()) } else { bail!("the history at {} does not show run {}", there.name, reply.run_id) }
}

async fn by_xmpp(mesh: &Mesh, here: &Site, there: &Site, made: &Credentials, rest: &Client, provider: &str) -> Result<()> {
    // Unlike any earlier start's, so that the history is searched for this one.
    let question = format!("Hello from {} by XMPP, {}", here.name, SystemClock.now());
    let roots = aiox_certs::load_chain("mesh authority", &mesh.ca())?;
    let deadline = Instant::now() + PATIENCE;
    let mut client = loop {
        let options = ConnectOptions {
            address: here.c2s(),
            domain: here.domain(),
            username: made.user.username.clone(),
            password: made.user.password.clone().into(),
            resource: "aiox-up".into(),
            roots: roots.clone(),
            deadline: tokio::time::Instant::now() + Duration::from_secs(10),
        };
        // Right after the first start the server may not have been told about the account yet.
        match aiox_probe::Client::connect(options).await {
            Ok(client) => break client,
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("signing in by XMPP at {}", here.domain()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    };
    let answer = client
        .ask(&there.agent_jid(), &question, tokio::time::Instant::now() + Duration::from_secs(60))
        .await
        .with_context(|| format!("asking {} by XMPP", there.agent_jid()))?;
    // The conversation is over; how the stream ends changes nothing.
    let _ = client.close().await;
    check(provider, &question, &answer.answer)?;
    transcript("XMPP s2s", here, there, &question, &answer.answer, answer.elapsed, None);
    let shown = is_kept(rest, there, |message| message.content == question).await?;
    if shown { Ok(()) } else { bail!("REST at {} does not show the conversation by XMPP", here.name) }
}

fn check(provider: &str, question: &str, reply: &str) -> Result<()> {
    let wrong = if provider == "echo" { !reply.contains(question) } else { reply.trim().is_empty() };
    if wrong { bail!("unexpected answer: {reply}") } else { Ok(()) }
}

/// Whether the history has such a message. The oldest come first, and each start adds some, so that one page is not enough.
async fn is_kept(client: &Client, there: &Site, wanted: impl Fn(&HistoryMessage) -> bool) -> Result<bool> {
    for page in 1.. {
        let kept = client.history(&there.agent_jid(), page, PAGE).await?;
        if kept.data.iter().any(&wanted) {
            return Ok(true);
        }
        if kept.data.is_empty() {
            break;
        }
    }
    Ok(false)
}

fn transcript(way: &str, here: &Site, there: &Site, question: &str, reply: &str, took: Duration, run: Option<&str>) {
    say::line("");
    let run = run.map(|run| format!(", run {run}")).unwrap_or_default();
    say::done(&format!("{way}, {:.1} ms{run}", took.as_secs_f64() * 1000.0));
    say::line(&format!("  user-{}@{}  →  {question}", here.letter, here.domain()));
    say::line(&format!("  {}  →  {reply}", there.agent_jid()));
}
