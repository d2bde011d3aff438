//! Cases of `spec/workers.md`, by workers of the suite's own. The agents of a case ask for a label, and its workers serve a model, that
//! are this case's alone: nobody else's runs come here, and these come to nobody else.

use std::time::Duration;

use aiox_proto::worker::v1::{
    RegisterWorker, TaskDelta, TaskEvent, TaskResponse, server_message::Payload as FromHub, worker_message::Payload as ToHub,
};
use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;

use super::{
    chat,
    common::{agent_with, until},
};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    peer::ids::uuid_of,
    scene::Scene,
    stream::Frame,
    tamper::KeyShown,
    worker::{Came, Door, SOON, Session},
    world::{Account, Agent},
};

cases! {
    "WRK-001" => who_may_not_enter,
    "WRK-002" => the_first_message_is_a_registration,
    "WRK-003" => one_session_a_name,
    "WRK-004" => places_of_a_worker @ slow,
    "WRK-005" => the_first_protocol,
    "WRK-006" => what_a_task_carries,
    "WRK-007" => the_provider_decides,
    "WRK-008" => a_result_ends_the_run,
    "WRK-009" => a_failed_task,
    "WRK-010" => what_is_not_held_is_not_touched,
    "WRK-011" => deltas_and_steps,
    "WRK-012" => a_lost_worker,
    "WRK-013" => a_result_counts_once,
    "WRK-014" => a_stopped_task,
    "WRK-015" => a_stored_result,
    "WRK-016" => signs_of_life,
    "WRK-019" => calls_of_models,
}

/// A provider that every hub knows and that calls nobody.
const PROVIDER: &str = "echo";
/// Providers of which some are served by no worker of a hub, though it knows them.
const OTHERS: [&str; 3] = ["ollama", "anthropic", "openai"];

/// A door, an account, and a word that is this case's alone.
pub(super) struct Stage {
    scene: Scene,
    pub(super) door: Door,
    pub(super) who: Account,
    /// The label and the model.
    mark: String,
}

impl Stage {
    pub(super) async fn set(scene: Scene) -> Result<Self, Stop> {
        let door = Door::open(&scene).await?;
        let who = scene.world.register("worker").await?;
        let mark = format!("conf-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        Ok(Self { scene, door, who, mark })
    }

    /// A registration for protocol 2.
    pub(super) fn about(&self, places: i32) -> RegisterWorker {
        RegisterWorker {
            worker_id: format!("conf-{}-{}", self.scene.world.mark, &uuid::Uuid::new_v4().simple().to_string()[..8]),
            max_concurrent: places,
            supported_providers: vec![PROVIDER.to_owned()],
            protocol: 2,
            models: vec![format!("{PROVIDER}/{}", self.mark)],
            labels: [("conformance".to_owned(), self.mark.clone())].into(),
            ..RegisterWorker::default()
        }
    }

    /// A provider that no connected worker serves. A worker of protocol 1 has neither labels nor models to be told from others by.
    async fn unserved(&self) -> Result<&'static str, Stop> {
        let admin = self.scene.world.admin().await?;
        let workers = self.scene.get(&admin, "/api/v1/admin/workers").await?;
        workers.expect(200)?;
        let served = super::common::body_of(&workers);
        let free = OTHERS.into_iter().find(|name| !served.contains(&format!("\"{name}\"")));
        free.ok_or_else(|| Stop::NotRun(format!("workers of the hub serve all of {OTHERS:?}")))
    }

    /// A worker of protocol 2 with four places.
    pub(super) async fn worker(&self) -> Result<Session, Stop> {
        self.door.register(self.about(4)).await
    }

    /// An agent that only this case's workers can answer for.
    pub(super) async fn agent(&self) -> Result<Agent, Stop> {
        self.agent_of(json!({})).await
    }

    /// As [`agent`](Self::agent), with tools.
    pub(super) async fn agent_of(&self, tools: Value) -> Result<Agent, Stop> {
        let config = json!({
            "llm_config": { "provider": PROVIDER, "model": self.mark },
            "capabilities": { "worker_labels": { "conformance": self.mark } },
            "system_prompt": format!("Prompt of {}.", self.mark),
            "tools": tools,
        });
        agent_with(&self.scene, &self.who, "worker", config).await
    }

    /// Says something to a new agent, so that runs do not wait for one another.
    pub(super) async fn say(&self, text: &str) -> Result<String, Stop> {
        chat::say(&self.scene, &self.who, &self.agent().await?.id, text).await
    }

    /// A run whose worker says one piece while somebody watches: the frame of that piece. The run is ended.
    pub(super) async fn delta(&self) -> Result<Frame, Stop> {
        let mut worker = self.worker().await?;
        let run = self.say("in pieces").await?;
        let path = format!("/api/v1/runs/{run}/events?deltas=true");
        let mut live = self.scene.call(Method::GET, &path).bearer(&self.who.access).open().await?;
        let task = worker.task().await?;
        // The watcher has to be there before the piece comes, for pieces are not kept.
        live.next_event(SOON).await?;
        let piece = TaskDelta { request_id: task.request_id.clone(), lease_id: task.lease_id.clone(), text: "a piece".into() };
        worker.say(ToHub::TaskDelta(piece)).await?;
        let mut found = None;
        while let Some(frame) = live.next_event(SOON).await? {
            if frame.json()["text"] == "a piece" {
                found = Some(frame);
                break;
            }
        }
        live.note();
        worker.answer(&task, "a piece of the whole").await?;
        found.ok_or_else(|| Stop::Failed(format!("{}: the piece did not come while the run went on", live.what)))
    }

    async fn run(&self, run: &str) -> Result<Value, Stop> {
        chat::read(&self.scene, &self.who, run).await
    }

    pub(super) async fn ended(&self, run: &str) -> Result<Value, Stop> {
        chat::ended(&self.scene, &self.who, run).await
    }
}

fn same(task: &str, run: &str) -> bool {
    uuid_of(task).is_some() && uuid_of(task) == uuid_of(run)
}

fn ack_of(message: &FromHub) -> Option<(String, bool)> {
    if let FromHub::ResultAck(ack) = message { Some((ack.request_id.clone(), ack.stored)) } else { None }
}

fn cancel_of(message: &FromHub) -> Option<(String, String)> {
    if let FromHub::CancelTask(cancel) = message { Some((cancel.request_id.clone(), cancel.reason.clone())) } else { None }
}

async fn who_may_not_enter(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    // A gRPC client always sends some metadata, so which of the two words comes without a key is the hub's reading of it.
    for (shown, words) in [(KeyShown::None, &["missing metadata", "missing api key"][..]), (KeyShown::Wrong, &["invalid api key"])] {
        let beat = stage.door.heartbeat("nobody", shown).await?.map(drop);
        let stream = match stage.door.stream(ToHub::Register(stage.about(1)), shown).await? {
            Err(status) => Err(status),
            Ok(_) => Ok(()),
        };
        for (method, refused) in [("Heartbeat", beat), ("TaskStream", stream)] {
            let Err(status) = refused else { return Err(Stop::Failed(format!("{method} with the key {shown:?} was let in"))) };
            ensure!(status.code() == Code::Unauthenticated, "{method} with the key {shown:?} ended with {:?}", status.code());
            ensure!(words.contains(&status.message()), "{method} with the key {shown:?} says `{}`, not one of {words:?}", status.message());
        }
    }
    Ok(())
}

async fn the_first_message_is_a_registration(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let first = ToHub::TaskResponse(TaskResponse {
        request_id: uuid::Uuid::new_v4().to_string(),
        worker_id: "x".into(),
        ..TaskResponse::default()
    });
    let opened = stage.door.stream(first, KeyShown::Right).await?;
    let mut session = opened.map_err(|status| Stop::Failed(format!("the stream was refused: {status}")))?;
    match session.next(SOON).await? {
        Came::Message(FromHub::RegisterAck(ack)) => {
            ensure!(!ack.accepted && ack.message == "first message must be RegisterWorker", "the answer is {ack:?}");
        }
        other => return Err(Stop::Failed(format!("the answer to a first message that is no registration is {other:?}"))),
    }
    let end = session.next(SOON).await?;
    ensure!(matches!(end, Came::End), "the stream goes on with {end:?}");
    Ok(())
}

async fn one_session_a_name(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let about = stage.about(1);
    let (first, ack) = stage.door.apply(about.clone()).await?;
    ensure!(ack.accepted && ack.message == "registered", "a registration was answered by {ack:?}");
    let (_second, ack) = stage.door.apply(about.clone()).await?;
    ensure!(
        !ack.accepted && ack.message == "worker_id already registered",
        "a second registration of the same name was answered by {ack:?}"
    );
    drop(first);
    until("the name is free after its stream ended", SOON, || async { Ok(stage.door.apply(about.clone()).await?.1.accepted) }).await
}

async fn places_of_a_worker(scene: Scene) -> Outcome {
    let judged = [(2, 2), (0, 4), (-3, 4)].map(|(told, places)| a_worker_with(scene.clone(), told, places));
    futures::future::try_join_all(judged).await.map(drop)
}

async fn a_worker_with(scene: Scene, told: i32, places: usize) -> Outcome {
    let stage = Stage::set(scene).await?;
    let mut worker = stage.door.register(stage.about(told)).await?;
    for number in 0..=places {
        stage.say(&format!("run {number}")).await?;
    }
    let mut tasks = Vec::new();
    for _ in 0..places {
        tasks.push(worker.task().await?);
    }
    worker.no_task(&format!("with max_concurrent {told} and {places} tasks")).await?;
    worker.answer(&tasks.remove(0), "done").await?;
    tasks.push(worker.task().await?);
    for task in &tasks {
        worker.answer(task, "done").await?;
    }
    for task in &tasks {
        stage.ended(&task.request_id).await?;
    }
    Ok(())
}

async fn the_first_protocol(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let provider = stage.unserved().await?;
    let about = RegisterWorker {
        worker_id: stage.about(4).worker_id,
        max_concurrent: 4,
        supported_providers: vec![provider.to_owned()],
        ..RegisterWorker::default()
    };
    let mut worker = stage.door.register(about).await?;
    let config = json!({ "llm_config": { "provider": provider, "model": "m" } });
    let mut runs = Vec::new();
    for text in ["to be canceled", "to be answered"] {
        let agent = agent_with(&stage.scene, &stage.who, "first protocol", config.clone()).await?;
        runs.push(chat::say(&stage.scene, &stage.who, &agent.id, text).await?);
    }
    let (canceled, finished) = (runs[0].clone(), runs[1].clone());
    let tasks = [worker.task().await?, worker.task().await?];
    chat::cancel(&stage.scene, &stage.who, &canceled).await?.expect(200)?;
    let task = tasks
        .iter()
        .find(|task| same(&task.request_id, &finished))
        .ok_or_else(|| Stop::Failed("the second run was not given out".into()))?;
    let plain = TaskResponse { lease_id: String::new(), ..worker.result(task, "by the first protocol") };
    worker.say(ToHub::TaskResponse(plain)).await?;
    let run = stage.ended(&finished).await?;
    ensure!(run["status"] == "completed" && run["output"] == "by the first protocol", "the run ended as {run}");
    worker.no_task("nothing waits").await?;
    let newer: Vec<_> =
        worker.kept.iter().filter(|message| !matches!(message, FromHub::RegisterAck(_) | FromHub::TaskRequest(_))).collect();
    ensure!(newer.is_empty(), "a worker of protocol 1 was sent {newer:?}");
    Ok(())
}

async fn what_a_task_carries(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let mut worker = stage.worker().await?;
    let run = stage.say("What is said, with \u{e9} and \u{1f600}").await?;
    let task = worker.task().await?;
    ensure!(same(&task.request_id, &run), "request_id is {}, the run is {run}", task.request_id);
    ensure!(task.user_message == "What is said, with \u{e9} and \u{1f600}", "user_message is `{}`", task.user_message);
    ensure!(task.system_prompt == format!("Prompt of {}.", stage.mark), "system_prompt is `{}`", task.system_prompt);
    for (name, text) in [
        ("llm_config_json", &task.llm_config_json),
        ("memory_context_json", &task.memory_context_json),
        ("memory_config_json", &task.memory_config_json),
    ] {
        let value: Value = serde_json::from_str(text).map_err(|_| Stop::Failed(format!("{name} is no JSON: {text}")))?;
        ensure!(value.is_object(), "{name} is no object: {text}");
    }
    worker.answer(&task, "x").await?;
    stage.ended(&run).await.map(drop)
}

async fn the_provider_decides(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let other = RegisterWorker { supported_providers: vec![OTHERS[1].to_owned()], ..stage.about(4) };
    let mut other = stage.door.register(other).await?;
    let run = stage.say("x").await?;
    other.no_task("it declared another provider").await?;
    let waiting = stage.run(&run).await?;
    ensure!(waiting["status"] == "queued", "without a worker for its provider the run is {}", waiting["status"]);
    let mut worker = stage.worker().await?;
    let task = worker.task().await?;
    ensure!(same(&task.request_id, &run), "the waiting run is {run}, given out was {}", task.request_id);
    worker.answer(&task, "late").await?;
    let ended = stage.ended(&run).await?;
    ensure!(ended["output"] == "late", "the run ended as {ended}");
    Ok(())
}

async fn a_result_ends_the_run(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let mut worker = stage.worker().await?;
    for (input, output, together) in [(11, 5, 99), (0, 0, 42)] {
        let run = stage.say("x").await?;
        let task = worker.task().await?;
        let result =
            TaskResponse { input_tokens: input, output_tokens: output, tokens_used: together, ..worker.result(&task, "the answer") };
        worker.say(ToHub::TaskResponse(result)).await?;
        let ended = stage.ended(&run).await?;
        ensure!(ended["status"] == "completed" && ended["output"] == "the answer", "the run ended as {ended}");
        let told = (ended["input_tokens"].as_u64(), ended["output_tokens"].as_u64());
        let sum = told.0.unwrap_or(0) + told.1.unwrap_or(0);
        if input + output > 0 {
            ensure!(told == (Some(input), Some(output)), "with input_tokens {input} and output_tokens {output} the run has {told:?}");
        } else {
            ensure!(Some(sum) == u64::try_from(together).ok(), "with tokens_used {together} alone the run has {told:?}");
        }
    }
    Ok(())
}

async fn a_failed_task(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let mut worker = stage.worker().await?;
    let secret = format!("secret-of-{}", stage.mark);
    for (message, code, wanted) in [
        (secret.as_str(), "", None),
        (&secret, "no_such_code", Some("worker_error")),
        ("", "provider_rate_limited", Some("provider_rate_limited")),
    ] {
        let run = stage.say("x").await?;
        let task = worker.task().await?;
        let result = TaskResponse { error_message: message.to_owned(), error_code: code.to_owned(), ..worker.result(&task, "") };
        worker.say(ToHub::TaskResponse(result)).await?;
        let events = chat::events(&stage.scene, &stage.who, &run).await?;
        let ended = stage.run(&run).await?;
        ensure!(ended["status"] == "failed", "with error_message `{message}` and error_code `{code}` the run ended as {ended}");
        if let Some(wanted) = wanted {
            ensure!(ended["error"]["code"] == wanted, "the error_code `{code}` became {}", ended["error"]["code"]);
        }
        let shown = format!("{ended}{events:?}");
        ensure!(!shown.contains(&secret), "the text of error_message is shown: {shown}");
    }
    let (run, mut second) = (stage.say("given back").await?, stage.worker().await?);
    let (first_task, giver) = tokio::select! {
        task = worker.task() => (task?, true),
        task = second.task() => (task?, false),
    };
    let (giver, taker) = if giver { (&mut worker, &mut second) } else { (&mut second, &mut worker) };
    let back = TaskResponse { error_code: "worker_busy".into(), retryable: true, ..giver.result(&first_task, "") };
    giver.say(ToHub::TaskResponse(back)).await?;
    let task = taker.task().await?;
    ensure!(same(&task.request_id, &run), "another run than the one given back came: {}", task.request_id);
    taker.answer(&task, "by the other one").await?;
    let ended = stage.ended(&run).await?;
    ensure!(ended["output"] == "by the other one", "the run that was given back ended as {ended}");
    Ok(())
}

async fn what_is_not_held_is_not_touched(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let mut holder = stage.worker().await?;
    let run = stage.say("x").await?;
    let task = holder.task().await?;
    let path = format!("/api/v1/runs/{run}/events?deltas=true");
    let mut live = stage.scene.call(Method::GET, &path).bearer(&stage.who.access).open().await?;
    let mut stranger = stage.worker().await?;
    let (request_id, lease_id) = (task.request_id.clone(), task.lease_id.clone());
    stranger
        .say(ToHub::TaskDelta(TaskDelta { request_id: request_id.clone(), lease_id: lease_id.clone(), text: "foreign".into() }))
        .await?;
    let step = TaskEvent { request_id, lease_id, r#type: "tool.call".into(), payload_json: json!({ "name": "foreign" }).to_string() };
    stranger.say(ToHub::TaskEvent(step)).await?;
    stranger.answer(&task, "foreign").await?;
    let (id, stored) = stranger.wait("result_ack", SOON, ack_of).await?;
    ensure!(same(&id, &run) && !stored, "the result of a stranger was answered by stored = {stored} for {id}");
    let now = stage.run(&run).await?;
    ensure!(now["status"] == "running", "after a stranger's result the run is {}", now["status"]);
    holder.answer(&task, "own").await?;
    let frames = live.read_to_end(SOON).await?;
    let foreign = frames.iter().find(|frame| frame.data.iter().any(|line| line.contains("foreign")));
    ensure!(foreign.is_none(), "the watcher saw {foreign:?}");
    let ended = stage.run(&run).await?;
    ensure!(ended["output"] == "own", "the run ended as {ended}");
    Ok(())
}

async fn deltas_and_steps(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let mut worker = stage.worker().await?;
    let run = stage.say("x").await?;
    let path = format!("/api/v1/runs/{run}/events?deltas=true");
    let mut live = stage.scene.call(Method::GET, &path).bearer(&stage.who.access).open().await?;
    let task = worker.task().await?;
    let (request_id, lease_id) = (task.request_id.clone(), task.lease_id.clone());
    let event = |kind: &str| TaskEvent {
        request_id: request_id.clone(),
        lease_id: lease_id.clone(),
        r#type: kind.to_owned(),
        payload_json: json!({ "name": "lookup" }).to_string(),
    };
    // The watcher has to be there before the piece comes, for pieces are not kept.
    live.next_event(SOON).await?;
    worker.say(ToHub::TaskDelta(TaskDelta { request_id: request_id.clone(), lease_id: lease_id.clone(), text: "a piece".into() })).await?;
    let mut seen = false;
    while let Some(frame) = live.next_event(SOON).await? {
        if frame.json()["text"] == "a piece" {
            seen = true;
            break;
        }
        ensure!(frame.event != ["run.completed"], "the run ended before its piece came");
    }
    live.note();
    ensure!(seen, "the piece did not come while the run went on");
    ensure!(stage.run(&run).await?["status"] == "running", "the run is not running when its piece comes");
    worker.say(ToHub::TaskEvent(event("tool.call"))).await?;
    for own in ["run.completed", "run.failed", "run.started"] {
        worker.say(ToHub::TaskEvent(event(own))).await?;
    }
    worker.answer(&task, "a piece of the whole").await?;
    let events = chat::events(&stage.scene, &stage.who, &run).await?;
    let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    ensure!(count("tool.call") == 1, "the log has {} steps of the type tool.call: {events:?}", count("tool.call"));
    ensure!(
        (count("run.completed"), count("run.failed"), count("run.started")) == (1, 0, 1),
        "a worker wrote the run's own states: {events:?}"
    );
    Ok(())
}

async fn a_lost_worker(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let run = stage.say("x").await?;
    for attempt in 1..=3 {
        let mut worker = stage.worker().await?;
        let task = worker.task().await?;
        ensure!(same(&task.request_id, &run), "the run {run} came back as {}", task.request_id);
        ensure!(task.attempt == attempt, "the attempt is {}, not {attempt}", task.attempt);
    }
    let ended = stage.ended(&run).await?;
    ensure!(ended["status"] == "failed" && ended["error"]["code"] == "worker_lost", "after the third loss the run is {ended}");
    Ok(())
}

async fn used_tokens(stage: &Stage) -> Result<u64, Stop> {
    let quota = stage.scene.get(&stage.who, "/api/v1/governance/quota").await?;
    quota.expect(200)?;
    quota
        .at("/data/tokens_used_today")
        .as_u64()
        .ok_or_else(|| Stop::Failed(format!("{}: no tokens_used_today in {}", quota.what, quota.json)))
}

async fn a_result_counts_once(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let mut worker = stage.worker().await?;
    let (twice, late) = (stage.say("twice").await?, stage.say("late").await?);
    let tasks = [worker.task().await?, worker.task().await?];
    let task_of =
        |run: &str| tasks.iter().find(|task| same(&task.request_id, run)).ok_or_else(|| Stop::Failed(format!("{run} was not given out")));
    let result = |task: &_, text: &str| TaskResponse { input_tokens: 20, output_tokens: 10, ..worker.result(task, text) };
    let (first, second) = (result(task_of(&twice)?, "first"), result(task_of(&twice)?, "second"));
    let after_the_end = result(task_of(&late)?, "too late");
    worker.say(ToHub::TaskResponse(first)).await?;
    worker.say(ToHub::TaskResponse(second)).await?;
    chat::cancel(&stage.scene, &stage.who, &late).await?.expect(200)?;
    worker.say(ToHub::TaskResponse(after_the_end.clone())).await?;
    worker.say(ToHub::TaskResponse(after_the_end)).await?;
    for _ in 0..4 {
        worker.wait("result_ack", SOON, ack_of).await?;
    }
    // Which of two results that come together counts is the hub's business, as long as it is one of them.
    for (run, status, texts) in [(&twice, "completed", &["first", "second"][..]), (&late, "canceled", &[])] {
        let ended = stage.ended(run).await?;
        let right = ended["output"].as_str().map_or(texts.is_empty(), |text| texts.contains(&text));
        ensure!(ended["status"] == status && right, "the run ended as {ended}");
        let events = chat::events(&stage.scene, &stage.who, run).await?;
        let last =
            events.iter().filter(|event| ["run.completed", "run.failed", "run.canceled"].iter().any(|kind| event["type"] == *kind)).count();
        ensure!(last == 1, "the run has {last} final events: {events:?}");
    }
    // What a canceled run has cost may be charged, since it was spent; never twice.
    let used = used_tokens(&stage).await?;
    ensure!(used == 30 || used == 60, "two runs of 30 tokens, of which one was canceled, were charged {used}");
    Ok(())
}

async fn a_stopped_task(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let mut worker = stage.worker().await?;
    let canceled = stage.say("to be canceled").await?;
    worker.task().await?;
    chat::cancel(&stage.scene, &stage.who, &canceled).await?.expect(200)?;
    let (id, reason) = worker.wait("cancel_task", SOON, cancel_of).await?;
    ensure!(same(&id, &canceled) && reason == "canceled", "cancel_task says `{reason}` for {id}");
    let agent = stage.agent().await?;
    let begun = chat::begin(&stage.scene, &stage.who, &agent.id, json!({ "timeout_ms": 1000 })).await?;
    begun.expect(202)?;
    let slow = begun.some_text("/data/id")?;
    worker.task().await?;
    let (id, reason) = worker.wait("cancel_task", SOON, cancel_of).await?;
    ensure!(same(&id, &slow) && reason == "timeout", "cancel_task says `{reason}` for {id}");
    let ended = stage.ended(&slow).await?;
    ensure!(ended["status"] == "failed" && ended["error"]["code"] == "timeout", "the run whose time is over is {ended}");
    Ok(())
}

async fn a_stored_result(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let mut worker = stage.worker().await?;
    let run = stage.say("x").await?;
    let task = worker.task().await?;
    worker.answer(&task, "stored").await?;
    let (id, stored) = worker.wait("result_ack", SOON, ack_of).await?;
    let now = stage.run(&run).await?;
    ensure!(same(&id, &run) && stored, "result_ack says stored = {stored} for {id}");
    ensure!(now["status"] == "completed", "when the result was confirmed, the run was {}", now["status"]);
    Ok(())
}

async fn signs_of_life(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    let worker = stage.worker().await?;
    let door = &stage.door;
    let beat = |id: String| async move {
        let answer = door.heartbeat(&id, KeyShown::Right).await?;
        answer.map_err(|status| Stop::Failed(format!("Heartbeat of {id} ended with {status}")))
    };
    let id = worker.worker_id.clone();
    ensure!(beat(id.clone()).await?, "the heartbeat of a registered worker is answered by false");
    ensure!(!beat(format!("{id}-unknown")).await?, "the heartbeat of an unknown name is answered by true");
    drop(worker);
    until("the heartbeat of a worker that has gone is answered by false", Duration::from_secs(10), || async {
        Ok(!beat(id.clone()).await?)
    })
    .await
}

async fn calls_of_models(scene: Scene) -> Outcome {
    let stage = Stage::set(scene).await?;
    // A provider of nobody else's, so that the calls come here alone.
    let provider = stage.mark.clone();
    let named = format!("{provider}/small");
    let about = RegisterWorker {
        supported_providers: vec![provider.clone()],
        models: vec![named.clone()],
        named_models: vec![named.clone()],
        ..stage.about(4)
    };
    let mut without = stage.door.register(RegisterWorker { max_model_calls: 0, ..about.clone() }).await?;
    let with = RegisterWorker { worker_id: format!("{}-m", about.worker_id), max_model_calls: 1, ..about };
    let mut worker = stage.door.register(with).await?;
    let offered = stage.scene.get(&stage.who, "/v1/models").await?;
    offered.expect(200)?;
    let own = offered.list("/models")?.iter().filter_map(|model| model["model_id"].as_str()).find(|id| id.contains(&stage.mark));
    let Some(own) = own else {
        return Err(Stop::NotRun(format!(
            "the hub does not offer the models of connected workers: {} does not list {named}",
            offered.what
        )));
    };
    let body = super::models::chat(own, "Hello");
    let calls = futures::future::join(
        super::models::invoke(&stage.scene, &stage.who, &body),
        super::models::invoke(&stage.scene, &stage.who, &body),
    );
    let watch = async move {
        let asked = |message: &FromHub| if let FromHub::ModelRequest(asked) = message { Some(asked.request_id.clone()) } else { None };
        worker.wait("model_request", SOON, asked).await?;
        let second = match worker.next(Duration::from_millis(800)).await? {
            Came::Message(FromHub::ModelRequest(second)) => Some(second.request_id),
            _ => None,
        };
        ensure!(second.is_none(), "a worker with one place for calls of models was sent two");
        without.no_task("no run was made").await?;
        let sent = without.kept.iter().find(|message| matches!(message, FromHub::ModelRequest(_)));
        ensure!(sent.is_none(), "a worker without places for calls of models was sent {sent:?}");
        drop(worker);
        Ok(())
    };
    let ((first, second), watched) = futures::future::join(calls, watch).await;
    watched?;
    for answer in [first?, second?] {
        ensure!(answer.status >= 400, "{}: a call whose only worker has gone was answered by {}", answer.what, answer.status);
    }
    Ok(())
}
