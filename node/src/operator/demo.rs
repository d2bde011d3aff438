//! The conversation that `aiox up` shows: a user of hub A and an agent of hub B, by REST and by XMPP.

use std::time::{Duration, Instant};

use aiox_probe::{Client, ConnectOptions};
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::{
    server::Kind,
    site::{Credentials, Mesh, Site},
    up::credentials,
};
use crate::{api::Api, say};

/// How long a new agent may take to be known at the other hub, and an XMPP account to be known at its server.
const PATIENCE: Duration = Duration::from_secs(45);

/// Makes the first agent of each hub, unless it is there.
///
/// # Errors
/// When a hub refuses.
pub async fn seed_agents(mesh: &Mesh, sites: &[Site; 2]) -> Result<()> {
    for site in sites {
        let (api, _) = user(mesh, site).await?;
        seed_agent(&api, site).await?;
    }
    Ok(())
}

async fn user(mesh: &Mesh, site: &Site) -> Result<(Api, Credentials)> {
    let made = credentials(site)?;
    let api = Api::new(&site.url(), Some(&mesh.ca()), None)?;
    let api = api.login(&made.user.username, &made.user.password).await.with_context(|| format!("signing in at {}", site.name))?;
    Ok((api, made))
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
        let run = by_rest(&users[here].0, &sites[here], &sites[there], provider).await?;
        history(&users[here].0, &sites[there], &run).await?;
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

async fn seed_agent(api: &Api, site: &Site) -> Result<()> {
    let own = api.get("/api/v1/agents?page_size=100").await?;
    if own["data"].as_array().is_some_and(|agents| agents.iter().any(|agent| agent["handle"] == "assistant")) {
        return Ok(());
    }
    let agent = json!({
        "name": format!("Assistant of {}", site.name),
        "description": "Answers everybody of the mesh.",
        "system_prompt": "You are a helpful assistant. Answer briefly.",
        "memory_config": { "enabled": true },
        "visibility": "mesh",
        "handle": "assistant",
    });
    api.post("/api/v1/agents", &agent).await.with_context(|| format!("creating the agent of {}", site.name))?;
    Ok(())
}

/// A message by REST and federation. The run's id.
async fn by_rest(api: &Api, here: &Site, there: &Site, provider: &str) -> Result<String> {
    let question = format!("Hello from {} by REST", here.name);
    let path = format!("/api/v1/agents/{}/chat", there.agent_jid());
    let known = Instant::now() + PATIENCE;
    while !knows(api, there).await? {
        if Instant::now() > known {
            bail!("{} has not told {} about its agent; see aiox peer list and aiox logs {}", there.name, here.name, here.name);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let began = Instant::now();
    let answer = api.post(&path, &json!({ "message": question })).await.with_context(|| format!("asking {}", there.agent_jid()))?;
    let took = began.elapsed();
    let reply = answer["data"]["response"].as_str().context("the answer has no text")?;
    check(provider, &question, reply)?;
    let run = answer["data"]["run_id"].as_str().context("the answer names no run")?.to_owned();
    transcript("REST + federation", here, there, &question, reply, took, Some(&run));
    Ok(run)
}

async fn knows(api: &Api, there: &Site) -> Result<bool> {
    let listed = api.get("/api/v1/mesh/agents").await?;
    let domain = there.domain();
    Ok(listed["data"]
        .as_array()
        .is_some_and(|all| all.iter().any(|card| card["domain"] == domain.as_str() && card["handle"] == "assistant")))
}

/// The same conversation, as the other hub keeps it, has the same run.
async fn history(api: &Api, there: &Site, run: &str) -> Result<()> {
    let kept = api.get(&format!("/api/v1/agents/{}/history?page_size=100", there.agent_jid())).await?;
    let found = kept["data"].as_array().is_some_and(|messages| messages.iter().any(|message| message["run_id"] == run));
    if found { Ok(()) } else { bail!("the history at {} does not show run {run}", there.name) }
}

async fn by_xmpp(mesh: &Mesh, here: &Site, there: &Site, made: &Credentials, api: &Api, provider: &str) -> Result<()> {
    let question = format!("Hello from {} by XMPP", here.name);
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
        match Client::connect(options).await {
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
    let kept = api.get(&format!("/api/v1/agents/{}/history?page_size=100", there.agent_jid())).await?;
    let shown = kept["data"].as_array().is_some_and(|messages| messages.iter().any(|message| message["content"] == question.as_str()));
    if shown { Ok(()) } else { bail!("REST at {} does not show the conversation by XMPP", here.name) }
}

fn check(provider: &str, question: &str, reply: &str) -> Result<()> {
    let wrong = if provider == "echo" { !reply.contains(question) } else { reply.trim().is_empty() };
    if wrong { bail!("unexpected answer: {reply}") } else { Ok(()) }
}

fn transcript(way: &str, here: &Site, there: &Site, question: &str, reply: &str, took: Duration, run: Option<&str>) {
    say::line("");
    let run = run.map(|run| format!(", run {run}")).unwrap_or_default();
    say::done(&format!("{way}, {:.1} ms{run}", took.as_secs_f64() * 1000.0));
    say::line(&format!("  user-{}@{}  →  {question}", here.letter, here.domain()));
    say::line(&format!("  {}  →  {reply}", there.agent_jid()));
}
