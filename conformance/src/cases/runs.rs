//! Cases of `spec/runs.md`: one invocation of an agent, from acceptance to its end; chat.

use std::time::Duration;

use aiox_proto::worker::v1::{TaskResponse, worker_message::Payload};
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    common::{END, agent_with, body_of, ended, follow, make_run, until, waiting_agent},
    workers::Stage,
};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    exchange::{Answer, has_members},
    scene::Scene,
    socket::{Frame, Socket},
    world::Account,
};

cases! {
    "RUN-001" => a_run_is_made,
    "RUN-002" => no_nulls,
    "RUN-003" => readable_at_once,
    "RUN-005" => defaults,
    "RUN-006" => forms_of_the_input,
    "RUN-007" => unknown_members_are_ignored,
    "RUN-008" => wrong_bodies_are_refused,
    "RUN-010" => a_dry_run_calls_nothing,
    "RUN-011" => a_run_is_read,
    "RUN-012" => states_follow_the_figure,
    "RUN-013" => a_run_ends_by_itself,
    "RUN-014" => a_run_is_canceled,
    "RUN-015" => what_has_ended_is_not_canceled,
    "RUN-016" => time_is_limited,
    "RUN-017" => a_provider_that_is_away,
    "RUN-018" => one_conversation_in_order,
    "RUN-019" => one_run_on_both_surfaces,
    "RUN-020" => a_chat_is_answered,
    "RUN-021" => messages_are_bounded,
    "RUN-022" => a_chat_is_handed_over,
    "RUN-023" => a_waiting_call_gives_up,
    "RUN-024" => a_failed_run_is_told,
    "RUN-025" => runs_are_their_principals,
    "RUN-026" => history_is_in_order,
    "RUN-027" => a_socket_without_credential,
    "RUN-028" => a_chat_over_a_socket,
}

const NO_RUN: &str = "run_00000000000000000000000000";

async fn a_run_is_made(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let answer =
        scene.post(&caller, &format!("/v1/agents/{}/runs", agent.id), &json!({ "input": { "type": "text", "text": "made" } })).await?;
    answer.expect(201)?;
    answer.members("", &["run", "correlation_id"], Some(&[]))?;
    answer.members("/run", &["tenant_id", "agent_id", "run_id", "status", "created_at", "events_url"], None)?;
    let url = answer.some_text("/run/events_url")?;
    ensure!(url.starts_with('/'), "`events_url` is no path: {url}");
    let mut live = scene.call(Method::GET, &url).bearer(&caller.access).open().await?;
    ensure!(live.status == 200, "GET {url} answered {}", live.status);
    live.read_to_end(END).await.map(drop)
}

fn nulls(value: &Value) -> Vec<String> {
    value.as_object().into_iter().flatten().filter(|(_, value)| value.is_null()).map(|(name, _)| name.clone()).collect()
}

async fn no_nulls(scene: Scene) -> Outcome {
    let (caller, echo) = scene.world.caller().await?;
    let agent = waiting_agent(&scene, &caller).await?;
    let made = scene.post(&caller, &format!("/v1/agents/{}/runs", agent.id), &json!({ "input": "x" })).await?;
    made.expect(201)?;
    let run = made.some_text("/run/run_id")?;
    ensure!(made.at("/run").get("output") == Some(&Value::Null), "a queued run's `output` is not null: {}", made.at("/run"));
    ensure!(made.at("/run").get("error") == Some(&Value::Null), "a queued run's `error` is not null: {}", made.at("/run"));
    let canceled = scene.post(&caller, &format!("/v1/runs/{run}:cancel"), &json!({})).await?;
    let done = make_run(&scene, &caller, &echo.id, json!({ "input": "x" })).await?;
    let done = ended(&scene, &caller, &done).await?;
    for run in [made.at("/run"), canceled.at("/run"), &done] {
        let strange: Vec<String> = nulls(run).into_iter().filter(|name| name != "output" && name != "error").collect();
        ensure!(strange.is_empty(), "members of a run are null: {strange:?} in {run}");
    }
    Ok(())
}

async fn readable_at_once(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    for _ in 0..10 {
        let run = make_run(&scene, &caller, &agent.id, json!({ "input": "at once" })).await?;
        scene.get(&caller, &format!("/v1/runs/{run}")).await?.expect(200)?;
        let event = super::common::first_event(&scene, &caller, &run).await?;
        ensure!(event["sequence"] == json!(1) && event["type"] == json!("agentos.run.created"), "the first event is {event}");
    }
    Ok(())
}

async fn defaults(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let answer =
        scene.post(&caller, &format!("/v1/agents/{}/runs", agent.id), &json!({ "input": { "type": "text", "text": "x" } })).await?;
    answer.expect(201)?;
    for (name, wanted) in [
        ("timeout_ms", json!(180_000)),
        ("max_steps", json!(30)),
        ("priority", json!("normal")),
        ("stream_events", json!(true)),
        ("dry_run", json!(false)),
    ] {
        answer.equals(&format!("/run/run_options/{name}"), &wanted)?;
    }
    Ok(())
}

async fn forms_of_the_input(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    for body in [
        json!({ "input": "form" }),
        json!({ "input": { "text": "form" } }),
        json!({ "input": { "type": "text", "text": "form" } }),
        json!({ "input": "form", "auth": { "principal_id": "usr_x", "subject_type": "user" } }),
        json!({ "input": "form", "auth": { "principal": { "principal_id": "usr_x", "principal_type": "user" } } }),
        json!({ "input": "form", "auth": {} }),
    ] {
        let run = make_run(&scene, &caller, &agent.id, body.clone()).await?;
        let run = ended(&scene, &caller, &run).await?;
        ensure!(run["output"]["text"].as_str().is_some_and(|text| text.contains("form")), "{body} was answered by {}", run["output"]);
    }
    Ok(())
}

async fn unknown_members_are_ignored(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let body = json!({
        "input": { "type": "text", "text": "x", "x_strange": 1 },
        "run_options": { "priority": "low", "x_strange": 1 },
        "context": { "locale": "en-US", "x_strange": 1 },
        "tooling": { "x_strange": 1 },
        "x_strange": { "deep": [1, 2, 3] },
    });
    let answer = scene.post(&caller, &format!("/v1/agents/{}/runs", agent.id), &body).await?;
    answer.expect(201)?;
    ensure!(!body_of(&answer).contains("x_strange"), "{}: an unknown member comes back: {}", answer.what, answer.json);
    Ok(())
}

/// How many runs the account has had, as its allowance counts them.
async fn requests(scene: &Scene, who: &Account) -> Result<u64, Stop> {
    let quota = scene.get(who, "/api/v1/governance/quota").await?;
    quota.expect(200)?;
    quota
        .at("/data/requests_today")
        .as_u64()
        .ok_or_else(|| Stop::Failed(format!("`requests_today` is {}", quota.at("/data/requests_today"))))
}

async fn wrong_bodies_are_refused(scene: Scene) -> Outcome {
    let carol = scene.world.register("wrong").await?;
    let agent = agent_with(&scene, &carol, "wrong", json!({})).await?;
    let before = requests(&scene, &carol).await?;
    for body in [
        json!({}),
        json!({ "input": "" }),
        json!({ "input": { "type": "text", "text": "" } }),
        json!({ "input": 7 }),
        json!({ "input": ["x"] }),
        json!({ "input": null }),
        json!({ "input": "x", "run_options": [] }),
        json!({ "input": "x", "run_options": { "timeout_ms": 0 } }),
        json!({ "input": "x", "run_options": { "timeout_ms": "1" } }),
        json!({ "input": "x", "run_options": { "max_steps": 0 } }),
        json!({ "input": "x", "run_options": { "priority": "urgent" } }),
        json!({ "input": "x", "run_options": { "dry_run": "yes" } }),
        json!({ "input": "x", "context": "x" }),
        json!({ "input": "x", "tooling": { "tool_allowlist": "x" } }),
        json!([]),
        json!("x"),
    ] {
        let answer = scene.post(&carol, &format!("/v1/agents/{}/runs", agent.id), &body).await?;
        if answer.status != 400 || answer.code() != "invalid_request" {
            return Err(Stop::Failed(format!("{body}: expected 400 `invalid_request`, got {} with {}", answer.status, answer.json)));
        }
    }
    ensure!(requests(&scene, &carol).await? == before, "a refused body made a run");
    Ok(())
}

async fn a_dry_run_calls_nothing(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "x", "run_options": { "dry_run": true } })).await?;
    let done = ended(&scene, &caller, &run).await?;
    ensure!(done["status"] == json!("completed"), "a dry run ended {}", done["status"]);
    let kinds: Vec<Value> = follow(&scene, &caller, &run, "").await?.iter().map(|frame| frame.json()["event"]["type"].clone()).collect();
    for kind in ["agentos.model.requested", "agentos.tool.call.requested"] {
        ensure!(!kinds.contains(&json!(kind)), "a dry run has the event {kind}");
    }
    if scene.world.options.worker.is_none() {
        return Ok(());
    }
    // Where the only worker is the suite's own, it sees that nothing is asked of it.
    let stage = Stage::set(scene.clone()).await?;
    let (mut worker, agent) = (stage.worker().await?, stage.agent().await?);
    make_run(&scene, &stage.who, &agent.id, json!({ "input": "x", "run_options": { "dry_run": true } })).await?;
    worker.no_task("a dry run").await
}

async fn a_run_is_read(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "x" })).await?;
    let answer = scene.get(&caller, &format!("/v1/runs/{run}")).await?;
    answer.expect(200)?;
    answer.members("", &["run", "correlation_id"], Some(&[]))?;
    answer.equals("/run/run_id", &json!(run))?;
    scene.get(&caller, &format!("/v1/runs/{NO_RUN}")).await?.refused(404, "not_found")
}

async fn states_follow_the_figure(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let rank = |status: &str| ["queued", "running", "completed"].iter().position(|known| *known == status);
    for _ in 0..5 {
        let run = make_run(&scene, &caller, &agent.id, json!({ "input": "states" })).await?;
        let mut last = 0;
        for _ in 0..200 {
            let answer = scene.get(&caller, &format!("/v1/runs/{run}")).await?;
            let status = answer.some_text("/run/status")?;
            let Some(now) = rank(&status) else { return Err(Stop::Failed(format!("an echo run has the status `{status}`"))) };
            ensure!(last < 2 || now == 2, "a completed run became {status}");
            last = now;
            if now == 2 {
                break;
            }
        }
    }
    Ok(())
}

async fn a_run_ends_by_itself(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let text = format!("by itself {}", scene.world.mark);
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": text })).await?;
    let done = seldom_read(&scene, &caller, &run).await?;
    has_members("a completed run", &done, &["completed_at", "output", "error"], None)?;
    ensure!(done["status"] == json!("completed") && done["error"].is_null(), "the run ended as {done}");
    ensure!(done["output"]["type"] == json!("text"), "the output is {}", done["output"]);
    ensure!(
        done["output"]["text"].as_str().is_some_and(|out| out.contains(&text)),
        "the output does not hold the input: {}",
        done["output"]
    );
    let failing = agent_with(&scene, &caller, "fails", json!({ "llm_config": { "provider": "echo", "model": "echo" }, "capabilities": { "worker_labels": { "nobody": scene.world.mark } } })).await?;
    let run = make_run(&scene, &caller, &failing.id, json!({ "input": "x", "run_options": { "timeout_ms": 1 } })).await?;
    let failed = ended(&scene, &caller, &run).await?;
    ensure!(failed["status"] == json!("failed") && failed["output"].is_null(), "the run ended as {failed}");
    has_members("the error of a run", &failed["error"], &["code", "message"], None)
}

/// Reads the run seldom until it has ended: it has to end though nobody watches.
async fn seldom_read(scene: &Scene, who: &Account, run: &str) -> Result<Value, Stop> {
    let end = tokio::time::Instant::now() + END;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let answer = scene.get(who, &format!("/v1/runs/{run}")).await?;
        if answer.at("/run/completed_at").is_string() {
            return Ok(answer.at("/run").clone());
        }
        ensure!(tokio::time::Instant::now() < end, "the run {run} has not ended within {END:?}: {}", answer.json);
    }
}

async fn a_run_is_canceled(scene: Scene) -> Outcome {
    let (caller, _) = scene.world.caller().await?;
    let agent = waiting_agent(&scene, &caller).await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "x" })).await?;
    let answer = scene.post(&caller, &format!("/v1/runs/{run}:cancel"), &json!({})).await?;
    answer.expect(200)?;
    answer.equals("/run/status", &json!("canceled"))?;
    answer.some_text("/run/completed_at")?;
    let read = scene.get(&caller, &format!("/v1/runs/{run}")).await?;
    read.equals("/run/status", &json!("canceled"))
}

async fn what_has_ended_is_not_canceled(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let cancel = |run: String| {
        let (scene, caller) = (scene.clone(), caller.clone());
        async move { scene.post(&caller, &format!("/v1/runs/{run}:cancel"), &json!({})).await }
    };
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "x" })).await?;
    let before = ended(&scene, &caller, &run).await?;
    cancel(run.clone()).await?.refused(409, "invalid_state_transition")?;
    let after = scene.get(&caller, &format!("/v1/runs/{run}")).await?;
    ensure!(after.at("/run") == &before, "a refused cancel changed the run: {} became {}", before, after.at("/run"));
    cancel(NO_RUN.to_owned()).await?.refused(404, "not_found")?;
    let waits = waiting_agent(&scene, &caller).await?;
    let run = make_run(&scene, &caller, &waits.id, json!({ "input": "x" })).await?;
    let answers: Vec<Answer> = try_join_all((0..10).map(|_| cancel(run.clone()))).await?;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    ensure!(won == 1, "{won} of 10 parallel cancels were accepted");
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        lost.refused(409, "invalid_state_transition")?;
    }
    Ok(())
}

async fn time_is_limited(scene: Scene) -> Outcome {
    let stage = Stage::set(scene.clone()).await?;
    let mut silent = stage.worker().await?;
    let agent = stage.agent().await?;
    let run = make_run(&scene, &stage.who, &agent.id, json!({ "input": "x", "run_options": { "timeout_ms": 1000 } })).await?;
    silent.task().await?;
    let done = ended(&scene, &stage.who, &run).await?;
    ensure!(done["status"] == json!("failed"), "the run whose worker does not answer ended as {done}");
    ensure!(done["error"]["code"] == json!("timeout"), "the error of a run whose worker does not answer is {}", done["error"]);
    Ok(())
}

async fn a_provider_that_is_away(scene: Scene) -> Outcome {
    if scene.world.options.worker.is_none() {
        return an_unknown_provider(scene).await;
    }
    // The suite's own worker cannot reach its provider.
    let stage = Stage::set(scene.clone()).await?;
    let (mut worker, agent) = (stage.worker().await?, stage.agent().await?);
    let run = make_run(&scene, &stage.who, &agent.id, json!({ "input": "x" })).await?;
    let task = worker.task().await?;
    let away = TaskResponse { error_code: "provider_unavailable".into(), ..worker.result(&task, "") };
    worker.say(Payload::TaskResponse(away)).await?;
    let done = ended(&scene, &stage.who, &run).await?;
    ensure!(done["status"] == json!("failed"), "the run ended as {done}");
    ensure!(done["error"]["code"] == json!("dependency_unavailable"), "the error is {}", done["error"]);
    Ok(())
}

/// Without a worker of the suite's own: an agent of a provider that nobody has, where the hub takes one.
async fn an_unknown_provider(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let mut body = crate::world::echo_agent("Conformance away", "private");
    body["llm_config"] = json!({ "provider": "conformance-away", "model": "none" });
    let made = scene.post(&alice, "/api/v1/agents", &body).await?;
    if made.status != 201 {
        return Err(Stop::NotRun("the hub takes no agent of a provider that it does not know".into()));
    }
    let id = made.some_text("/data/id")?;
    scene.world.remember(&scene.world.options.target, &alice, &format!("/api/v1/agents/{id}"));
    let answer =
        scene.post(&alice, &format!("/v1/agents/{id}/runs"), &json!({ "input": "x", "run_options": { "timeout_ms": 1000 } })).await?;
    if answer.status != 201 {
        return Err(Stop::NotRun("the hub refuses a run of a provider that it does not know".into()));
    }
    let done = ended(&scene, &alice, &answer.some_text("/run/run_id")?).await?;
    ensure!(done["status"] == json!("failed"), "the run ended as {done}");
    ensure!(
        done["error"]["code"] == json!("dependency_unavailable") || done["error"]["code"] == json!("timeout"),
        "the error is {}",
        done["error"]
    );
    Ok(())
}

async fn one_conversation_in_order(scene: Scene) -> Outcome {
    let carol = scene.world.register("order").await?;
    let agent = agent_with(&scene, &carol, "order", json!({})).await?;
    let mut runs = Vec::new();
    for number in 0..6 {
        runs.push(make_run(&scene, &carol, &agent.id, json!({ "input": format!("number {number}") })).await?);
    }
    let mut last = String::new();
    for run in runs {
        let done = ended(&scene, &carol, &run).await?;
        let (started, completed) =
            (done["started_at"].as_str().unwrap_or_default().to_owned(), done["completed_at"].as_str().unwrap_or_default().to_owned());
        ensure!(!started.is_empty() && started >= last, "a run began at {started}, before the one before it ended at {last}");
        last = completed;
    }
    Ok(())
}

async fn one_run_on_both_surfaces(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let chat = scene.post(&caller, &format!("/api/v1/agents/{}/chat", agent.id), &json!({ "message": "both" })).await?;
    chat.expect(200)?;
    let old = chat.some_text("/data/run_id")?;
    let read = scene.get(&caller, &format!("/v1/runs/{old}")).await?;
    read.expect(200)?;
    let new = read.some_text("/run/run_id")?;
    let v1 = follow(&scene, &caller, &new, "").await?;
    let api = scene.call(Method::GET, &format!("/api/v1/runs/{new}/events")).bearer(&caller.access).open().await?.read_to_end(END).await?;
    ensure!(v1.len() == api.len(), "the run has {} events below /v1 and {} below /api/v1", v1.len(), api.len());
    for (one, two) in v1.iter().zip(&api) {
        let (one, two) = (one.json()["event"].clone(), two.json());
        ensure!(one["sequence"] == two["sequence"], "the sequences {} and {} differ", one["sequence"], two["sequence"]);
        ensure!(same_id(&one["event_id"], &two["id"]), "the ids {} and {} are not those of one event", one["event_id"], two["id"]);
    }
    let made = make_run(&scene, &caller, &agent.id, json!({ "input": "both" })).await?;
    let shown = scene.get(&caller, &format!("/api/v1/runs/{made}")).await?;
    shown.expect(200)?;
    ensure!(same_id(&json!(made), shown.at("/data/id")), "the ids {made} and {} are not those of one run", shown.at("/data/id"));
    Ok(())
}

/// Whether a prefixed ULID and a UUID are the same 128 bits.
pub(super) fn same_id(prefixed: &Value, uuid: &Value) -> bool {
    const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bits = prefixed
        .as_str()
        .and_then(|text| text.split_once('_'))
        .map(|(_, ulid)| ulid.chars().fold(0u128, |value, letter| (value << 5) | ALPHABET.find(letter).unwrap_or_default() as u128));
    let uuid = uuid.as_str().and_then(|text| uuid::Uuid::parse_str(text).ok()).map(|id| id.as_u128());
    bits.is_some() && bits == uuid
}

async fn chat(scene: &Scene, who: &Account, agent: &str, body: Value) -> Result<Answer, Stop> {
    scene.post(who, &format!("/api/v1/agents/{agent}/chat"), &body).await
}

async fn a_chat_is_answered(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let answer = chat(&scene, &caller, &agent.id, json!({ "message": "hello chat" })).await?;
    answer.expect(200)?;
    answer.members("/data", &["request_id", "run_id", "conversation_id", "response", "model_used", "tokens_used", "duration_ms"], None)?;
    ensure!(answer.text("/data/response").contains("hello chat"), "the answer is {}", answer.at("/data/response"));
    Ok(())
}

async fn messages_are_bounded(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    for (body, member) in [
        (json!({}), "message"),
        (json!({ "message": "  \n" }), "message"),
        (json!({ "message": 7 }), "message"),
        (json!({ "message": "x", "priority": "urgent" }), "priority"),
        (json!({ "message": "x", "timeout_ms": 0 }), "timeout_ms"),
    ] {
        let answer = chat(&scene, &caller, &agent.id, body).await?;
        answer.refused(400, "invalid_request")?;
        ensure!(answer.text("/error").contains(member), "{}: the text does not name `{member}`: {}", answer.what, answer.at("/error"));
    }
    chat(&scene, &caller, &agent.id, json!({ "message": "x".repeat(65_537) })).await?.refused(413, "too_large")
}

async fn a_chat_is_handed_over(scene: Scene) -> Outcome {
    let (caller, _) = scene.world.caller().await?;
    let agent = waiting_agent(&scene, &caller).await?;
    let answer = chat(&scene, &caller, &agent.id, json!({ "message": "x", "detach": true })).await?;
    answer.expect(202)?;
    let run = answer.some_text("/data/id")?;
    answer.equals("/data/status", &json!("queued"))?;
    let place = answer.header("location").to_owned();
    let read = scene.get(&caller, &place).await?;
    read.expect(200)?;
    read.equals("/data/id", &json!(run))?;
    scene.post(&caller, &format!("/api/v1/runs/{run}/cancel"), &json!({})).await?.expect(200)
}

async fn a_waiting_call_gives_up(scene: Scene) -> Outcome {
    let stage = Stage::set(scene.clone()).await?;
    // While its only worker is busy the run waits, and its own time does not begin.
    let mut busy = stage.door.register(stage.about(1)).await?;
    let first = stage.say("the worker is busy with this").await?;
    let task = busy.task().await?;
    let agent = stage.agent().await?;
    let answer = chat(&scene, &stage.who, &agent.id, json!({ "message": "x", "timeout_ms": 500 })).await?;
    answer.refused(504, "wait_timeout")?;
    let run = answer.some_text("/run_id")?;
    let read = scene.get(&stage.who, &format!("/api/v1/runs/{run}")).await?;
    read.expect(200)?;
    ensure!(read.at("/data/status") == &json!("queued"), "after its waiting call gave up the run is {}", read.at("/data/status"));
    scene.post(&stage.who, &format!("/api/v1/runs/{run}/cancel"), &json!({})).await?.expect(200)?;
    busy.answer(&task, "done").await?;
    stage.ended(&first).await.map(drop)
}

async fn a_failed_run_is_told(scene: Scene) -> Outcome {
    let (caller, _) = scene.world.caller().await?;
    let agent = waiting_agent(&scene, &caller).await?;
    let call = chat(&scene, &caller, &agent.id, json!({ "message": "x" }));
    let cancel = async {
        let runs = format!("/api/v1/agents/{}/executions", agent.id);
        until("the waiting run is listed", Duration::from_secs(10), || async {
            Ok(!scene.get(&caller, &runs).await?.text("/data/0/id").is_empty())
        })
        .await?;
        let run = scene.get(&caller, &runs).await?.some_text("/data/0/id")?;
        scene.post(&caller, &format!("/api/v1/runs/{run}/cancel"), &json!({})).await?.expect(200)?;
        Ok::<_, Stop>(run)
    };
    let (answer, run) = futures::join!(call, cancel);
    let (answer, run) = (answer?, run?);
    answer.refused(409, "canceled")?;
    answer.equals("/run_id", &json!(run))
}

async fn runs_are_their_principals(scene: Scene) -> Outcome {
    let (alice, bob, agent) = (scene.world.alice().await?, scene.world.bob().await?, scene.world.agent().await?);
    let mine = chat(&scene, &alice, &agent.id, json!({ "message": "mine" })).await?;
    let (run, conversation) = (mine.some_text("/data/run_id")?, mine.some_text("/data/conversation_id")?);
    for path in [
        format!("/api/v1/runs/{run}"),
        format!("/api/v1/runs/{run}/events"),
        format!("/v1/runs/{run}"),
        format!("/v1/runs/{run}/events"),
        format!("/api/v1/conversations/{conversation}/messages"),
    ] {
        scene.get(&bob, &path).await?.refused(404, "not_found")?;
    }
    for path in [format!("/api/v1/runs/{run}/cancel"), format!("/v1/runs/{run}:cancel")] {
        scene.post(&bob, &path, &json!({})).await?.refused(404, "not_found")?;
    }
    let own = agent_with(&scene, &bob, "foreign", json!({})).await?;
    chat(&scene, &bob, &own.id, json!({ "message": "x", "conversation_id": conversation })).await?.refused(404, "not_found")
}

async fn history_is_in_order(scene: Scene) -> Outcome {
    let carol = scene.world.register("history").await?;
    let agent = agent_with(&scene, &carol, "history", json!({})).await?;
    chat(&scene, &carol, &agent.id, json!({ "message": "first" })).await?.expect(200)?;
    let second = make_run(&scene, &carol, &agent.id, json!({ "input": "second" })).await?;
    ended(&scene, &carol, &second).await?;
    let history = scene.get(&carol, &format!("/api/v1/agents/{}/history", agent.id)).await?;
    history.expect(200)?;
    let said: Vec<(String, String)> = history
        .list("/data")?
        .iter()
        .map(|one| (one["role"].as_str().unwrap_or_default().to_owned(), one["content"].as_str().unwrap_or_default().to_owned()))
        .collect();
    let roles: Vec<&str> = said.iter().map(|(role, _)| role.as_str()).collect();
    ensure!(roles == ["user", "assistant", "user", "assistant"], "the roles are {roles:?}");
    ensure!(said[0].1 == "first" && said[2].1 == "second", "the messages are {said:?}");
    Ok(())
}

async fn a_socket_without_credential(scene: Scene) -> Outcome {
    let agent = scene.world.agent().await?;
    let path = format!("/api/v1/agents/{}/chat/ws", agent.id);
    for token in [None, Some("wrong")] {
        let mut socket = Socket::open(&scene, &path, token).await?;
        match socket.next(Duration::from_secs(10)).await? {
            Some(Frame::Close(code)) => ensure!(code == 4401, "the socket was closed with {code}"),
            other => return Err(Stop::Failed(format!("expected a close with 4401, got {other:?}"))),
        }
    }
    Ok(())
}

async fn a_chat_over_a_socket(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let mut socket = Socket::open(&scene, &format!("/api/v1/agents/{}/chat/ws", agent.id), Some(&caller.access)).await?;
    socket.say(r#"{"message":7}"#).await?;
    let refused = socket.text(Duration::from_secs(10)).await?;
    ensure!(refused["type"] == json!("error") && refused["code"].is_string(), "a bad message was answered by {refused}");
    for text in ["plain words", r#"{"message":"in an object"}"#] {
        socket.say(text).await?;
        let first = socket.text(END).await?;
        ensure!(first["type"] == json!("accepted") && first["run_id"].is_string(), "the first frame is {first}");
        loop {
            let frame = socket.text(END).await?;
            match frame["type"].as_str() {
                Some("event" | "delta") => {}
                Some("done") => {
                    let said = frame["response"].as_str().unwrap_or_default();
                    ensure!(said.contains("plain words") || said.contains("in an object"), "`done` is {frame}");
                    break;
                }
                _ => return Err(Stop::Failed(format!("a frame is {frame}"))),
            }
        }
    }
    Ok(())
}
