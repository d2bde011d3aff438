//! FED-037 to FED-041: what a peer reads, and a peer's run as it is read here.

use std::time::Duration;

use serde_json::{Value, json};

use super::{CALLED, accepted, mesh_agent};
use crate::{
    case::{Outcome, Stop, ensure},
    cases::{chat, common},
    peer::{Peer, ids, link::Ask},
    scene::Scene,
};

pub(super) async fn greetings(scene: Scene) -> Outcome {
    let (peer, other) = (Peer::active(&scene).await?, Peer::active(&scene).await?);
    let link = peer.link().await?;
    let hello = peer.hello(&link).await?;
    hello.expect(200)?;
    hello.equals("/node", &json!(peer.hub.node))?;
    ensure!(hello.list("/profiles")?.contains(&json!("aiox-federation/1")), "{}: `profiles` is {}", hello.what, hello.at("/profiles"));
    let time = ids::parse(hello.text("/time")).ok_or_else(|| Stop::Failed(format!("{}: `time` is {}", hello.what, hello.at("/time"))))?;
    ensure!((time - ids::seconds()).abs() < 60, "{}: `time` is {}", hello.what, hello.at("/time"));
    let body = |node: &str, profiles: Value| json!({ "node": node, "time": ids::now(), "profiles": profiles });
    let post = async |body: &Value| peer.post(&link, "/fed/v1/hello", "hello", body).await;
    for node in [other.node.as_str(), &format!("spiffe://{}/node/n2", peer.domain), &peer.hub.node, ""] {
        post(&body(node, json!(["aiox-federation/1"]))).await?.refused(400, "invalid_request")?;
    }
    post(&json!([])).await?.refused(400, "invalid_request")?;
    for profiles in [json!(["aiox-federation/2"]), json!([])] {
        post(&body(&peer.node, profiles)).await?.refused(409, "version_mismatch")?;
    }
    post(&body(&peer.node, json!(["aiox-federation/2", "aiox-federation/1"]))).await?.expect(200)
}

pub(super) async fn the_events_of_a_run(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let link = peer.link().await?;
    let (alice, agent) = mesh_agent(&scene, "events").await?;
    let (envelope, run) = peer.create(&agent.jid, "c", 1, "one two three")?;
    accepted("a good envelope", &peer.deliver(&link, &[envelope]).await?[0])?;
    let path = format!("/fed/v1/runs/{run}/events");
    let open = async |path: &str, headers: &[(&str, &str)]| {
        let token = peer.token("stream").sign()?;
        link.stream(Ask { headers, ..Ask::get(path, &token) }).await
    };
    let whole = open(&path, &[]).await?;
    ensure!(whole.status == 200, "{}: the status is {}", whole.what, whole.status);
    let frames = whole.whole(CALLED).await?;
    let mut events = Vec::new();
    for frame in &frames {
        let json = frame.json();
        match json["sequence"].as_u64() {
            None => ensure!(frame.id.is_empty(), "a frame that is no event has an id: {frame:?}"),
            Some(sequence) => {
                ensure!(frame.id == [sequence.to_string()], "the event {sequence} has the id {:?}", frame.id);
                ensure!(
                    ids::uuid_of(json["run_id"].as_str().unwrap_or_default()) == ids::uuid_of(&run),
                    "an event is of the run {}",
                    json["run_id"]
                );
                events.push(json);
            }
        }
    }
    for (index, event) in events.iter().enumerate() {
        ensure!(event["sequence"] == json!(index + 1), "event {} has the sequence {}", index + 1, event["sequence"]);
        ensure!(event["id"].is_string() || event["event_id"].is_string(), "an event has no id: {event}");
    }
    let last = events.last().map(|event| event["type"].clone()).unwrap_or_default();
    ensure!(last == "run.completed", "the last event is {last}");
    for cut in 1..events.len() {
        let cursor = cut.to_string();
        for (path, headers) in [(format!("{path}?after={cut}"), &[][..]), (path.clone(), &[("last-event-id", cursor.as_str())][..])] {
            let rest: Vec<Value> = open(&path, headers)
                .await?
                .whole(CALLED)
                .await?
                .iter()
                .map(crate::stream::Frame::json)
                .filter(|json| json["sequence"].is_u64())
                .collect();
            ensure!(rest == events[cut..], "after {cut} the stream brings {rest:?}, not {:?}", &events[cut..]);
        }
    }
    let answer = peer.get(&link, &format!("{path}?after={}", events.len()), "stream").await?;
    answer.expect(204)?;
    let own = chat::say(&scene, &alice, &agent.id, "not the peer's").await?;
    chat::ended(&scene, &alice, &own).await?;
    let other = Peer::active(&scene).await?;
    let elsewhere = other.link().await?;
    for (who, link, run) in
        [(&peer, &link, own.as_str()), (&peer, &link, &ids::fresh("run")), (&peer, &link, "x"), (&other, &elsewhere, run.as_str())]
    {
        who.get(link, &format!("/fed/v1/runs/{run}/events"), "stream").await?.expect(404)?;
    }
    Ok(())
}

pub(super) async fn the_directory(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let third = Peer::start(&scene).await?;
    let learnt = uuid::Uuid::new_v4();
    let entry = json!({
        "id": format!("spiffe://{}/agent/{learnt}", third.domain), "jid": format!("agent-{learnt}@agents.{}", third.domain),
        "name": "Learnt", "provider": "echo", "updated_at": ids::now(),
    });
    third.door.script(|script| script.agents = vec![entry]);
    third.activate().await?;
    third
        .door
        .until("the directory being read", CALLED, |door| door.seen().iter().any(|seen| seen.path == "/fed/v1/directory").then_some(()))
        .await?;
    let link = peer.link().await?;
    let (_, shown) = mesh_agent(&scene, "shown").await?;
    let hidden = scene.world.agent().await?;
    // What was read takes a moment to be kept, so the answer is looked at more than once.
    for _ in 0..3 {
        let directory = peer.get(&link, "/fed/v1/directory", "directory").await?;
        directory.expect(200)?;
        directory.equals("/node", &json!(peer.hub.node))?;
        let agents = directory.list("/agents")?;
        let named = |jid: &str| agents.iter().find(|agent| agent["jid"] == jid);
        let own =
            named(&shown.jid).ok_or_else(|| Stop::Failed(format!("the agent {} of the mesh is not in {}", shown.jid, directory.json)))?;
        ensure!(own["name"] == shown.body["name"], "the entry of the agent is {own}");
        ensure!(named(&hidden.jid).is_none(), "a private agent is in the directory");
        for agent in agents {
            let (id, jid) = (agent["id"].as_str().unwrap_or_default(), agent["jid"].as_str().unwrap_or_default());
            let home =
                id.starts_with(&format!("spiffe://{}/agent/", peer.hub.domain)) && jid.ends_with(&format!("@agents.{}", peer.hub.domain));
            ensure!(home, "the directory has an agent of another hub: {agent}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

pub(super) async fn one_answer_for_what_is_not_there(scene: Scene) -> Outcome {
    let (peer, other) = (Peer::active(&scene).await?, Peer::active(&scene).await?);
    let link = peer.link().await?;
    let (alice, agent) = mesh_agent(&scene, "nothing").await?;
    let private = scene.world.agent().await?;
    let own = chat::say(&scene, &alice, &agent.id, "not the peer's").await?;
    let missing = format!("agent-{}@agents.{}", uuid::Uuid::new_v4(), peer.hub.domain);
    let history = |who: &str, agent: &str| (format!("/fed/v1/conversations?principal={who}&agent={agent}"), "history");
    let mut bodies = Vec::new();
    for (path, scope) in [
        history(&other.user(), &agent.jid),
        history(&format!("{}@{}", alice.username, peer.hub.domain), &agent.jid),
        history(&peer.user(), &missing),
        history(&peer.user(), &private.jid),
        (format!("/fed/v1/runs/{}/events", ids::fresh("run")), "stream"),
        (format!("/fed/v1/runs/{own}/events"), "stream"),
    ] {
        let answer = peer.get(&link, &path, scope).await?;
        answer.expect(404)?;
        bodies.push((path, answer.bytes));
    }
    for (path, body) in &bodies {
        ensure!(
            *body == bodies[0].1,
            "the body for {path} is {}, for {} it is {}",
            String::from_utf8_lossy(body),
            bodies[0].0,
            String::from_utf8_lossy(&bodies[0].1)
        );
    }
    let mine = history(&peer.user(), &agent.jid);
    peer.get(&link, &mine.0, mine.1).await?.expect(200)
}

pub(super) async fn a_peers_run_is_read_here(scene: Scene) -> Outcome {
    let peer = Peer::active(&scene).await?;
    let alice = scene.world.alice().await?;
    // Every stream brings one event and breaks off, so that each next one has to be asked for.
    peer.door.script(|script| script.cut = Some(1));
    let run = chat::say(&scene, &alice, &peer.agent(), "over cuts").await?;
    let shown = chat::events(&scene, &alice, &run).await?;
    let id = ids::ulid("run", ids::uuid_of(&run).unwrap_or_default());
    let log = peer.door.log(&id);
    ensure!(log.len() + 1 == shown.len(), "the run has {} events here, {} at the executing hub", shown.len(), log.len() + 1);
    for (there, here) in log.iter().zip(&shown[1..]) {
        for member in ["id", "sequence", "type", "payload"] {
            ensure!(
                there[member] == here[member],
                "`{member}` of the event {} is {} here, {} at the executing hub",
                there["sequence"],
                here[member],
                there[member]
            );
        }
    }
    let asked: Vec<u64> = peer.door.seen().into_iter().filter(|seen| seen.path.ends_with("/events")).map(|seen| seen.after).collect();
    ensure!(asked.starts_with(&[1, 2, 3]), "the cut stream was asked for again from {asked:?}");
    let below_v1 = common::follow(&scene, &alice, &run, "").await?;
    let ids_there: Vec<_> = log.iter().map(|event| ids::uuid_of(event["id"].as_str().unwrap_or_default())).collect();
    let mut ids_here = Vec::new();
    for frame in &below_v1 {
        let event = frame.json()["event"].clone();
        ids_here.push(ids::uuid_of(event["event_id"].as_str().unwrap_or_default()));
    }
    ensure!(ids_here.get(1..) == Some(&ids_there[..]), "the event ids below /v1 are {ids_here:?}, at the executing hub {ids_there:?}");
    let Ok((_, _, agent)) = scene.world.peer().await else { return Ok(()) };
    let run = chat::say(&scene, &alice, &agent.jid, "at the given peer").await?;
    let ended = chat::ended(&scene, &alice, &run).await?;
    ensure!(ended["status"] == "completed", "the run at the given peer ended as {ended}");
    Ok(())
}
