//! FED-042 to FED-049: federation as programs use it, below `/v1`.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::CALLED;
use crate::{
    case::{Outcome, Stop, ensure},
    cases::common::END,
    exchange::{Answer, has_members},
    peer::{Peer, ids},
    scene::Scene,
    stream::Frame,
};

pub(super) async fn federation_health(scene: Scene) -> Outcome {
    let answer = scene.call(Method::GET, "/v1/federation/health").send().await?;
    answer.expect(200)?;
    answer.members("", &["status", "service", "version"], None)?;
    answer.equals("/status", &json!("ok"))?;
    answer.equals("/service", &json!("federation"))?;
    answer.some_text("/version").map(drop)
}

const INFO: [&str; 6] = ["stack_id", "environment", "region", "api_versions", "endpoints", "build"];

pub(super) async fn peers_and_capabilities(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for path in ["/v1/federation/peer", "/v1/peer/info"] {
        let answer = scene.get(&alice, path).await?;
        answer.expect(200)?;
        has_members(path, answer.at("/peer"), &INFO, None)?;
        answer.some_text("/peer/stack_id")?;
    }
    for path in ["/v1/federation/peer/capabilities", "/v1/peer/capabilities"] {
        let answer = scene.get(&alice, path).await?;
        answer.expect(200)?;
        has_members(path, answer.at("/capabilities"), &["supports", "limits", "models"], None)?;
        has_members(
            path,
            answer.at("/capabilities/supports"),
            &["runs_forward", "events_stream", "tenant_isolation", "tool_hosting"],
            None,
        )?;
    }
    let answer = scene.get(&alice, "/v1/federation/peers").await?;
    answer.expect(200)?;
    for peer in answer.list("/peers")? {
        has_members("a peer", peer, &INFO, None)?;
        ensure!(!peer["health"].is_null(), "a peer has no health: {peer}");
    }
    Ok(())
}

/// A credential that may forward and ingest, and its tenant.
struct Program {
    scene: Scene,
    token: String,
    tenant: String,
}

impl Program {
    /// An account where accounts may do this, else a service of a tenant of the suite's own.
    async fn that_may(scene: &Scene, path: &str) -> Result<Self, Stop> {
        let alice = scene.world.alice().await?;
        let tenant = scene.get(&alice, "/v1/agents").await?.header("x-tenant-id").to_owned();
        let tried = scene.post(&alice, path, &json!({})).await?;
        if tried.status == 403 {
            let tenant = scene.world.tenant().await?;
            return Ok(Self { scene: scene.clone(), token: tenant.secret, tenant: tenant.id });
        }
        Ok(Self { scene: scene.clone(), token: alice.access, tenant })
    }

    async fn get(&self, path: &str) -> Result<Answer, Stop> {
        self.scene.call(Method::GET, path).bearer(&self.token).send().await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Answer, Stop> {
        self.scene.call(Method::POST, path).bearer(&self.token).json(body).send().await
    }

    async fn forward(&self, agent: &str, target: Value) -> Result<Answer, Stop> {
        let body = json!({ "forward": { "agent_id": agent, "target_selector": target, "run": { "input": { "type": "text", "text": "forwarded" } } } });
        self.post(FORWARD, &body).await
    }

    /// The `stack_id` of a peer, from the list of peers.
    async fn stack_of(&self, peer: &Peer) -> Result<String, Stop> {
        let answer = self.get("/v1/federation/peers").await?;
        answer.expect(200)?;
        let endpoint = format!("127.0.0.1:{}", peer.door.port);
        let is = |info: &&Value| [peer.domain.as_str(), &endpoint].iter().any(|name| info.to_string().contains(name));
        let found = answer.list("/peers")?.iter().find(is).and_then(|info| info["stack_id"].as_str()).map(str::to_owned);
        found.ok_or_else(|| Stop::Failed(format!("{}: the active peer {} is not in {}", answer.what, peer.domain, answer.json)))
    }

    async fn events(&self, path: &str) -> Result<Vec<Frame>, Stop> {
        let mut live = self.scene.call(Method::GET, path).bearer(&self.token).open().await?;
        ensure!(live.status == 200, "{}: expected status 200, got {}", live.what, live.status);
        live.read_to_end(END).await
    }

    async fn ingest(&self, events: &[Value]) -> Result<Answer, Stop> {
        let answer =
            self.post(INGEST, &json!({ "events": events, "ingest": { "source_stack_id": self.source(), "dedupe": true } })).await?;
        if answer.status == 403 {
            return Err(Stop::NotRun(format!(
                "the hub takes events of registered peers alone, and the suite's source is none: {}",
                answer.json
            )));
        }
        Ok(answer)
    }

    fn source(&self) -> String {
        format!("stk_conformance_{}", self.scene.world.mark)
    }

    fn event(&self, run: &str, sequence: u64, kind: &str) -> Value {
        let payload = match kind {
            "agentos.run.completed" => json!({ "status": "completed", "output": { "type": "text", "text": "done" } }),
            "agentos.run.created" => json!({ "status": "queued" }),
            _ => json!({ "step_kind": "model", "name": "step" }),
        };
        json!({
            "event_id": ids::fresh("evt"), "run_id": run, "sequence": sequence, "time": ids::now(), "type": kind,
            "tenant_id": self.tenant, "agent_id": ids::fresh("agt"), "payload": payload,
        })
    }

    /// The ids and sequences of a run's events, by the stream of this hub that serves it.
    async fn read_back(&self, run: &str) -> Result<Vec<(String, u64)>, Stop> {
        let mut live = self.scene.call(Method::GET, &format!("/v1/runs/{run}/events")).bearer(&self.token).open().await?;
        if live.status == 404 {
            live = self.scene.call(Method::GET, &format!("/v1/federation/runs/{run}/events")).bearer(&self.token).open().await?;
        }
        ensure!(live.status == 200, "{}: the ingested run's stream has the status {}", live.what, live.status);
        let frames = live.read_to_end(END).await?;
        let event = |frame: &Frame| {
            let event = frame.json()["event"].clone();
            (event["event_id"].as_str().unwrap_or_default().to_owned(), event["sequence"].as_u64().unwrap_or(0))
        };
        Ok(frames.iter().map(event).collect())
    }
}

const FORWARD: &str = "/v1/federation/runs:forward";
const INGEST: &str = "/v1/federation/events:ingest";

pub(super) async fn a_forwarded_run(scene: Scene) -> Outcome {
    let program = Program::that_may(&scene, FORWARD).await?;
    let peer = Peer::active(&scene).await?;
    let stack = program.stack_of(&peer).await?;
    let answer = program.forward(&ids::fresh("agt"), json!({ "stack_id": stack })).await?;
    answer.expect(200)?;
    answer.members("/forwarded", &["tenant_id", "remote_stack_id", "remote_run_id", "remote_events_url", "status"], None)?;
    answer.equals("/forwarded/remote_stack_id", &json!(stack))?;
    answer.equals("/forwarded/tenant_id", &json!(program.tenant))?;
    let status = answer.some_text("/forwarded/status")?;
    ensure!(["queued", "running", "completed", "failed"].contains(&status.as_str()), "`status` is {status}");
    let run = answer.some_text("/forwarded/remote_run_id")?;
    let frames = program.events(&format!("/v1/federation/runs/{run}/events")).await?;
    ensure!(frames.len() > 2, "the forwarded run has {} events: {frames:?}", frames.len());
    for (index, frame) in frames.iter().enumerate() {
        let event = frame.json()["event"].clone();
        ensure!(frame.event == ["agentos.event"] && event["run_id"] == json!(run), "event {} is {frame:?}", index + 1);
        ensure!(event["sequence"] == json!(index + 1), "event {} has the sequence {}", index + 1, event["sequence"]);
    }
    let last = frames[frames.len() - 1].json()["event"]["type"].clone();
    ensure!(last == "agentos.run.completed", "the last event is {last}");
    let created = peer.door.envelopes();
    ensure!(created.len() == 1, "the peer was handed {} envelopes", created.len());
    Ok(())
}

pub(super) async fn what_no_peer_can_do(scene: Scene) -> Outcome {
    let program = Program::that_may(&scene, FORWARD).await?;
    let peer = Peer::active(&scene).await?;
    let stack = program.stack_of(&peer).await?;
    let agent = scene.world.agent().await?;
    program.forward(&agent.id, json!({ "stack_id": format!("{stack}-unknown") })).await?.refused(404, "peer_not_found")?;
    for target in [
        json!({ "stack_id": stack, "required_capabilities": ["runs.forward", "teleport"] }),
        json!({ "required_capabilities": ["teleport"] }),
    ] {
        let answer = program.forward(&agent.id, target).await?;
        answer.refused(409, "conflict")?;
        answer.equals("/error/details/missing", &json!(["teleport"]))?;
    }
    program.forward(&agent.id, json!({ "region": format!("nowhere-{}", scene.world.mark) })).await?.refused(409, "conflict")?;
    let sent = peer.door.envelopes();
    ensure!(sent.is_empty(), "a refused forward reached a peer: {sent:?}");
    let own = program.get("/v1/federation/peer").await?.some_text("/peer/stack_id")?;
    let alice = scene.world.alice().await?;
    let here = Program { token: alice.access.clone(), tenant: String::new(), scene: scene.clone() };
    let answer = here.forward(&agent.id, json!({ "stack_id": own })).await?;
    if answer.status == 403 {
        return Ok(());
    }
    answer.expect(200)?;
    let run = answer.some_text("/forwarded/remote_run_id")?;
    let ended = super::super::common::ended(&scene, &alice, &run).await?;
    ensure!(ended["status"] == "completed", "the run that was forwarded to its own hub is {ended}");
    Ok(())
}

pub(super) async fn unreachable_peers(scene: Scene) -> Outcome {
    let program = Program::that_may(&scene, FORWARD).await?;
    let peer = Peer::active(&scene).await?;
    let stack = program.stack_of(&peer).await?;
    let link = peer.link().await?;
    peer.door.script(|script| script.answers = false);
    peer.door.away();
    let began = Instant::now();
    let answer = program.forward(&ids::fresh("agt"), json!({ "stack_id": stack })).await?;
    ensure!(began.elapsed() < Duration::from_secs(10), "{}: the answer took {:?}", answer.what, began.elapsed());
    answer.refused(503, "dependency_unavailable")?;
    peer.door.back();
    peer.hello(&link).await?.expect(200)?;
    peer.door.until("a request after the return", CALLED, |door| door.seen().last().map(drop)).await?;
    // What was queued comes with the return; a create that comes has to be followed by its cancel.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let envelopes = peer.door.envelopes();
    let of = |kind: &str| envelopes.iter().filter(|envelope| envelope["type"] == kind).count();
    ensure!(of("run.create") <= of("run.cancel"), "the peer's return brought a run that was refused with 503: {envelopes:?}");
    peer.act("suspend").await?.expect(200)?;
    let began = Instant::now();
    let answer = program.forward(&ids::fresh("agt"), json!({ "stack_id": stack })).await?;
    ensure!(began.elapsed() < Duration::from_secs(10), "{}: the answer took {:?}", answer.what, began.elapsed());
    answer.refused(503, "dependency_unavailable")
}

fn counts(answer: &Answer, accepted: u64, rejected: u64) -> Outcome {
    answer.expect(200)?;
    answer.equals("/accepted", &json!(accepted))?;
    answer.equals("/rejected", &json!(rejected))
}

pub(super) async fn how_events_come(scene: Scene) -> Outcome {
    let program = Program::that_may(&scene, INGEST).await?;
    let two = |run: &str| [program.event(run, 1, "agentos.run.created"), program.event(run, 2, "agentos.run.completed")];
    let run = ids::fresh("run");
    counts(&program.ingest(&two(&run)).await?, 2, 0)?;
    let wrapped = |events: &[Value]| events.iter().map(|event| json!({ "event": event })).collect::<Vec<_>>();
    let info = json!({
        "stack_id": program.source(), "environment": "local", "region": "local", "api_versions": ["v1"],
        "endpoints": { "agent-orchestrator_base_url": "https://hub-z.example" }, "build": { "version": "1", "git_sha": "0", "timestamp": "2026-01-01T00:00:00Z" },
    });
    let events = two(&ids::fresh("run"));
    counts(&program.post(INGEST, &json!({ "peer": info, "events": wrapped(&events) })).await?, 2, 0)?;
    let events = two(&ids::fresh("run"));
    let auth = json!({ "tenant_id": program.tenant });
    counts(&program.post(INGEST, &json!({ "peer_id": program.source(), "auth": auth, "events": wrapped(&events) })).await?, 2, 0)?;
    let bad = [json!({ "type": "x" }), json!({ "event_id": ids::fresh("evt") })];
    counts(&program.ingest(&bad).await?, 0, 2)
}

pub(super) async fn rejected_events(scene: Scene) -> Outcome {
    let program = Program::that_may(&scene, INGEST).await?;
    let run = ids::fresh("run");
    let (first, second) = (program.event(&run, 1, "agentos.run.created"), program.event(&run, 2, "agentos.run.step.started"));
    let without = |name: &str, sequence: u64| crate::peer::lacking(&program.event(&run, sequence, "agentos.run.step.started"), name);
    let mut foreign = program.event(&run, 3, "agentos.run.step.started");
    foreign["tenant_id"] = json!("ten_of_somebody_else");
    let same_sequence = program.event(&run, 2, "agentos.run.step.completed");
    let batch =
        [first.clone(), second.clone(), second.clone(), without("event_id", 3), without("run_id", 3), foreign.clone(), same_sequence];
    counts(&program.ingest(&batch).await?, 2, 5)?;
    counts(&program.ingest(&[first.clone(), second.clone()]).await?, 0, 2)?;
    let last = program.event(&run, 3, "agentos.run.completed");
    counts(&program.ingest(std::slice::from_ref(&last)).await?, 1, 0)?;
    let wanted: Vec<(String, u64)> = [&first, &second, &last]
        .iter()
        .map(|event| (event["event_id"].as_str().unwrap_or_default().to_owned(), event["sequence"].as_u64().unwrap_or(0)))
        .collect();
    let found = program.read_back(&run).await?;
    ensure!(found == wanted, "the run's stream has {found:?}, ingested were {wanted:?}");
    Ok(())
}

pub(super) async fn the_order_of_ingested_events(scene: Scene) -> Outcome {
    let program = Program::that_may(&scene, INGEST).await?;
    let run = ids::fresh("run");
    let kinds = [
        "agentos.run.created",
        "agentos.run.step.started",
        "agentos.run.step.completed",
        "agentos.run.step.started",
        "agentos.run.completed",
    ];
    let events: Vec<Value> = (1..).zip(kinds).map(|(sequence, kind)| program.event(&run, sequence, kind)).collect();
    for part in [&[3, 1][..], &[4], &[0, 2]] {
        let events: Vec<Value> = part.iter().map(|index| events[*index].clone()).collect();
        counts(&program.ingest(&events).await?, events.len() as u64, 0)?;
    }
    let wanted: Vec<(String, u64)> =
        (1..).zip(&events).map(|(sequence, event)| (event["event_id"].as_str().unwrap_or_default().to_owned(), sequence)).collect();
    let found = program.read_back(&run).await?;
    ensure!(found == wanted, "the run's stream has {found:?}, ingested were {wanted:?}");
    Ok(())
}
