//! Cases of `spec/streams.md`: events, server-sent events, resumption.

use std::{collections::BTreeSet, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    common::{END, ended, follow, make_run, waiting_agent},
    workers::Stage,
};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    exchange::has_members,
    scene::{Live, Scene},
    stream::Frame,
    world::Account,
};

cases! {
    "STR-001" => sequences_have_no_gap,
    "STR-002" => first_and_last,
    "STR-003" => two_reads_are_equal,
    "STR-004" => the_envelope,
    "STR-005" => payloads,
    "STR-006" => model_events_come_in_pairs,
    "STR-007" => headers_of_a_stream,
    "STR-008" => one_line_of_each,
    "STR-009" => nothing_but_events,
    "STR-010" => every_byte_is_ascii,
    "STR-011" => comments_while_it_waits @ slow,
    "STR-012" => events_come_at_once,
    "STR-013" => the_stream_is_closed,
    "STR-014" => without_a_cursor_from_the_first,
    "STR-015" => resumed_at_every_event,
    "STR-016" => three_names_of_the_cursor,
    "STR-017" => past_the_end,
    "STR-018" => two_readers,
    "STR-020" => open_streams_are_bounded @ late,
    "STR-021" => events_below_api_v1,
    "STR-022" => a_streamed_chat,
}

/// A text with letters outside of ASCII and with separators of lines.
const STRANGE: &str = "caf\u{e9} \u{2028}\u{2029}\u{85} \u{1f600} \n end";

async fn finished(scene: &Scene, text: &str) -> Result<(Account, String), Stop> {
    let (caller, agent) = scene.world.caller().await?;
    let run = make_run(scene, &caller, &agent.id, json!({ "input": text })).await?;
    ended(scene, &caller, &run).await?;
    Ok((caller, run))
}

fn events(frames: &[Frame]) -> Vec<Value> {
    frames.iter().map(|frame| frame.json()["event"].clone()).collect()
}

async fn open(scene: &Scene, who: &Account, run: &str, query: &str) -> Result<Live, Stop> {
    scene.call(Method::GET, &format!("/v1/runs/{run}/events{query}")).bearer(&who.access).open().await
}

async fn sequences_have_no_gap(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "numbers").await?;
    let events = events(&follow(&scene, &caller, &run, "").await?);
    ensure!(!events.is_empty(), "a finished run has no events");
    for (index, event) in events.iter().enumerate() {
        ensure!(event["sequence"] == json!(index + 1), "event {} of the stream has the sequence {}", index + 1, event["sequence"]);
    }
    let ids: BTreeSet<&str> = events.iter().filter_map(|event| event["event_id"].as_str()).collect();
    ensure!(ids.len() == events.len(), "two events of a run have one id");
    Ok(())
}

const FINAL: [&str; 3] = ["agentos.run.completed", "agentos.run.failed", "agentos.run.canceled"];

async fn first_and_last(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "ends").await?;
    let events = events(&follow(&scene, &caller, &run, "").await?);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    ensure!(kinds.first() == Some(&"agentos.run.created"), "the first event is {:?}", kinds.first());
    let finals: Vec<_> = kinds.iter().filter(|kind| FINAL.contains(kind)).collect();
    ensure!(finals.len() == 1 && kinds.last() == finals.first().copied(), "the events {kinds:?} do not have one final event, the last");
    let status = scene.get(&caller, &format!("/v1/runs/{run}")).await?;
    let wanted = format!("agentos.run.{}", status.text("/run/status"));
    ensure!(kinds.last() == Some(&wanted.as_str()), "the run is {}, its last event {:?}", status.at("/run/status"), kinds.last());
    Ok(())
}

async fn two_reads_are_equal(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, STRANGE).await?;
    let lines = |frames: Vec<Frame>| -> Vec<String> { frames.into_iter().flat_map(|frame| frame.data).collect() };
    let (one, two) = (lines(follow(&scene, &caller, &run, "").await?), lines(follow(&scene, &caller, &run, "").await?));
    ensure!(one == two, "two reads of a finished run differ:\n{one:?}\n{two:?}");
    Ok(())
}

async fn the_envelope(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "envelope").await?;
    for frame in follow(&scene, &caller, &run, "").await? {
        let whole = frame.json();
        has_members("an event", &whole, &["event"], Some(&[]))?;
        let event = &whole["event"];
        has_members(
            "an event",
            event,
            &["event_id", "sequence", "time", "type", "tenant_id", "agent_id", "run_id", "trace", "payload"],
            None,
        )?;
        has_members("trace", &event["trace"], &["traceparent", "span_id"], None)?;
        ensure!(event["run_id"] == json!(run), "an event of the run {run} has the run_id {}", event["run_id"]);
        ensure!(event.get("step_id").is_none_or(Value::is_string), "`step_id` is {}", event["step_id"]);
        for name in ["event_id", "time", "type", "tenant_id", "agent_id"] {
            ensure!(event[name].as_str().is_some_and(|text| !text.is_empty()), "`{name}` is {}", event[name]);
        }
    }
    Ok(())
}

/// Members of the payload, by type.
const PAYLOADS: [(&str, &[&str]); 8] = [
    ("agentos.run.created", &["status"]),
    ("agentos.run.step.started", &["step_kind", "name"]),
    ("agentos.run.step.completed", &["status"]),
    ("agentos.model.requested", &["model_ref", "operation"]),
    ("agentos.model.completed", &["model_ref", "operation", "status", "usage"]),
    ("agentos.run.completed", &["status", "output"]),
    ("agentos.run.failed", &["status", "error"]),
    ("agentos.run.canceled", &["status"]),
];

async fn payloads(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "payloads").await?;
    let agent = waiting_agent(&scene, &caller).await?;
    let canceled = make_run(&scene, &caller, &agent.id, json!({ "input": "x" })).await?;
    scene.post(&caller, &format!("/v1/runs/{canceled}:cancel"), &json!({})).await?.expect(200)?;
    for run in [run, canceled] {
        for event in events(&follow(&scene, &caller, &run, "").await?) {
            let kind = event["type"].as_str().unwrap_or_default();
            let Some((_, members)) = PAYLOADS.iter().find(|(known, _)| *known == kind) else { continue };
            has_members(kind, &event["payload"], members, None)?;
            if kind == "agentos.run.created" {
                ensure!(event["payload"]["status"] == json!("queued"), "the status of {kind} is {}", event["payload"]["status"]);
            }
        }
    }
    Ok(())
}

async fn model_events_come_in_pairs(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "model").await?;
    let events = events(&follow(&scene, &caller, &run, "").await?);
    let at = |kind: &str| events.iter().position(|event| event["type"] == json!(kind));
    let (asked, answered) = (at("agentos.model.requested"), at("agentos.model.completed"));
    ensure!(asked.is_some() && asked < answered, "model.requested is at {asked:?}, model.completed at {answered:?}");
    ensure!(answered < Some(events.len() - 1), "model.completed is the last event");
    Ok(())
}

async fn headers_of_a_stream(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "headers").await?;
    let call = scene
        .call(Method::GET, &format!("/v1/runs/{run}/events"))
        .bearer(&caller.access)
        .header("accept-encoding", "gzip, br, zstd, deflate");
    let mut live = call.open().await?;
    ensure!(live.status == 200, "{}: status {}", live.what, live.status);
    let header = |name: &str| live.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_lowercase();
    ensure!(header("content-type").replace(' ', "") == "text/event-stream;charset=utf-8", "`Content-Type` is `{}`", header("content-type"));
    ensure!(header("cache-control").contains("no-cache"), "`Cache-Control` is `{}`", header("cache-control"));
    ensure!(header("content-encoding").is_empty(), "`Content-Encoding` is `{}`", header("content-encoding"));
    live.read_to_end(END).await.map(drop)
}

async fn one_line_of_each(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, STRANGE).await?;
    for frame in follow(&scene, &caller, &run, "").await? {
        ensure!(
            frame.event.len() == 1 && frame.id.len() == 1 && frame.data.len() == 1,
            "a frame does not have one line of each: {frame:?}"
        );
        let sequence = frame.json()["event"]["sequence"].as_u64();
        ensure!(sequence.is_some() && frame.id[0].parse().ok() == sequence, "`id:` is `{}` for {}", frame.id[0], frame.data[0]);
    }
    Ok(())
}

async fn nothing_but_events(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    for query in ["", "?deltas=true"] {
        let run = make_run(&scene, &caller, &agent.id, json!({ "input": "one two three four" })).await?;
        for frame in follow(&scene, &caller, &run, query).await? {
            let is_event = frame.json()["event"].is_object();
            let is_delta = !query.is_empty() && frame.id.is_empty();
            ensure!(is_event || is_delta, "a frame with `{query}` is neither an event nor a delta without an id: {frame:?}");
            ensure!(is_event || !frame.data.is_empty(), "a frame without data: {frame:?}");
        }
    }
    Ok(())
}

async fn every_byte_is_ascii(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, STRANGE).await?;
    let mut live = open(&scene, &caller, &run, "").await?;
    live.read_to_end(END).await?;
    ensure!(live.raw.is_ascii(), "{}: the stream has bytes outside of ASCII", live.what);
    let output = scene.get(&caller, &format!("/v1/runs/{run}")).await?;
    ensure!(output.text("/run/output/text").contains("caf\u{e9}"), "the output of the run lost a letter: {}", output.at("/run/output"));
    Ok(())
}

async fn comments_while_it_waits(scene: Scene) -> Outcome {
    let (caller, _) = scene.world.caller().await?;
    let agent = waiting_agent(&scene, &caller).await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "x" })).await?;
    let mut live = open(&scene, &caller, &run, "").await?;
    let first = live.next_event(Duration::from_secs(5)).await?;
    ensure!(first.is_some(), "{}: no first event", live.what);
    let mut comment = false;
    while let Some(frame) = live.next(Duration::from_secs(17)).await? {
        if !frame.comments.is_empty() {
            comment = true;
            break;
        }
        ensure!(frame.data.is_empty() || frame.json()["event"].is_object(), "{}: a frame that is no event: {frame:?}", live.what);
    }
    live.note();
    ensure!(comment, "{}: no comment line within 17 s", live.what);
    scene.post(&caller, &format!("/v1/runs/{run}:cancel"), &json!({})).await?.expect(200)
}

async fn events_come_at_once(scene: Scene) -> Outcome {
    let (caller, _) = scene.world.caller().await?;
    let agent = waiting_agent(&scene, &caller).await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "x" })).await?;
    let mut live = open(&scene, &caller, &run, "").await?;
    ensure!(live.next_event(Duration::from_secs(1)).await?.is_some(), "{}: the first event did not come within 1 s", live.what);
    scene.post(&caller, &format!("/v1/runs/{run}:cancel"), &json!({})).await?.expect(200)?;
    let last = live.next_event(Duration::from_secs(1)).await?;
    live.note();
    ensure!(last.is_some(), "{}: the final event did not come within 1 s of the cancel", live.what);
    Ok(())
}

async fn the_stream_is_closed(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "closed").await?;
    open(&scene, &caller, &run, "").await?.read_to_end(Duration::from_secs(10)).await.map(drop)
}

async fn without_a_cursor_from_the_first(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "again").await?;
    let events = events(&follow(&scene, &caller, &run, "").await?);
    ensure!(events.first().is_some_and(|event| event["sequence"] == json!(1)), "the first event of a finished run is {:?}", events.first());
    Ok(())
}

async fn resumed_at_every_event(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, STRANGE).await?;
    let whole = follow(&scene, &caller, &run, "").await?;
    for cut in 1..whole.len() {
        let rest = follow(&scene, &caller, &run, &format!("?after_sequence={cut}")).await?;
        ensure!(rest == whole[cut..], "resumed after {cut} the stream differs from the uncut one: {rest:?}");
    }
    Ok(())
}

async fn three_names_of_the_cursor(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "names").await?;
    let whole = follow(&scene, &caller, &run, "").await?;
    ensure!(whole.len() > 2, "the run has {} events only", whole.len());
    let by = |query: &'static str, header: Option<&'static str>| {
        let call = scene.call(Method::GET, &format!("/v1/runs/{run}/events{query}")).bearer(&caller.access);
        let call = if let Some(header) = header { call.header("last-event-id", header) } else { call };
        async move { call.open().await?.read_to_end(END).await }
    };
    for (query, header, skipped) in [
        ("?after_sequence=1", None, 1),
        ("?from_sequence=1", None, 1),
        ("", Some("1"), 1),
        ("?after_sequence=2&from_sequence=1", None, 2),
        ("?after_sequence=2", Some("1"), 2),
        ("?from_sequence=2", Some("1"), 2),
    ] {
        let rest = by(query, header).await?;
        ensure!(
            rest == whole[skipped..],
            "with `{query}` and Last-Event-ID {header:?} the stream does not begin after {skipped}: {rest:?}"
        );
    }
    Ok(())
}

async fn past_the_end(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "past").await?;
    let last = follow(&scene, &caller, &run, "").await?.len();
    for cursor in [last, last + 1, last + 1000] {
        let answer = scene.get(&caller, &format!("/v1/runs/{run}/events?after_sequence={cursor}")).await?;
        answer.expect(204)?;
        ensure!(answer.bytes.is_empty(), "{}: 204 with a body", answer.what);
    }
    for bad in ["-1", "x", "1.5"] {
        scene.get(&caller, &format!("/v1/runs/{run}/events?after_sequence={bad}")).await?.refused(400, "invalid_request")?;
    }
    Ok(())
}

async fn two_readers(scene: Scene) -> Outcome {
    let (caller, _) = scene.world.caller().await?;
    let agent = waiting_agent(&scene, &caller).await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "x" })).await?;
    let (mut one, mut two, three) =
        (open(&scene, &caller, &run, "").await?, open(&scene, &caller, &run, "").await?, open(&scene, &caller, &run, "").await?);
    drop(three);
    scene.post(&caller, &format!("/v1/runs/{run}:cancel"), &json!({})).await?.expect(200)?;
    let (one, two) = (one.read_to_end(END).await?, two.read_to_end(END).await?);
    ensure!(one == two && !one.is_empty(), "two readers saw different events: {one:?} and {two:?}");
    Ok(())
}

async fn open_streams_are_bounded(scene: Scene) -> Outcome {
    let carol = scene.world.register("streams").await?;
    let agent = waiting_agent(&scene, &carol).await?;
    let run = make_run(&scene, &carol, &agent.id, json!({ "input": "x" })).await?;
    let (mut streams, mut refused) = (Vec::new(), None);
    for _ in 0..600 {
        let live = open(&scene, &carol, &run, "").await?;
        if live.status == 429 {
            refused = Some(live);
            break;
        }
        ensure!(live.status == 200, "{}: status {}", live.what, live.status);
        streams.push(live);
    }
    let Some(refused) = refused else { return Err(Stop::Failed(format!("{} streams of one principal are open at once", streams.len()))) };
    ensure!(refused.headers.contains_key("retry-after"), "{}: 429 without `Retry-After`", refused.what);
    let old = scene.call(Method::GET, &format!("/api/v1/runs/{run}/events")).bearer(&carol.access).send_once().await?;
    old.refused(429, "too_many_streams")?;
    drop(streams);
    super::common::until("after all streams were closed a new one opens", Duration::from_secs(10), || async {
        Ok(open(&scene, &carol, &run, "").await?.status == 200)
    })
    .await?;
    scene.post(&carol, &format!("/v1/runs/{run}:cancel"), &json!({})).await?.expect(200)
}

async fn events_below_api_v1(scene: Scene) -> Outcome {
    let (caller, run) = finished(&scene, "one two three").await?;
    let path = format!("/api/v1/runs/{run}/events");
    let frames = scene.call(Method::GET, &path).bearer(&caller.access).open().await?.read_to_end(END).await?;
    for (index, frame) in frames.iter().enumerate() {
        ensure!(frame.event == ["run.event"], "a frame without deltas is {:?}", frame.event);
        has_members("a frame", &frame.json(), &["id", "run_id", "sequence", "type", "time", "payload"], None)?;
        ensure!(frame.json()["sequence"] == json!(index + 1), "frame {} has the sequence {}", index + 1, frame.json()["sequence"]);
    }
    let last = frames.len();
    let with = |cursor: String| scene.call(Method::GET, &path).bearer(&caller.access).header("last-event-id", &cursor).send();
    with(last.to_string()).await?.expect(204)?;
    with((last + 1).to_string()).await?.refused(400, "invalid_request")?;
    with("x".into()).await?.refused(400, "invalid_request")?;
    if scene.world.options.worker.is_none() {
        return deltas_of_an_echo(&scene).await;
    }
    // A worker of the suite's own says its piece when somebody watches.
    let stage = Stage::set(scene).await?;
    let delta = stage.delta().await?;
    ensure!(delta.event == ["run.delta"] && delta.id.is_empty(), "a piece of an answer came as {delta:?}");
    Ok(())
}

/// Without a worker of the suite's own the pieces may be over before the stream is open; those that come are judged.
async fn deltas_of_an_echo(scene: &Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let body = json!({ "message": "one two three", "detach": true });
    let run = scene.post(&caller, &format!("/api/v1/agents/{}/chat", agent.id), &body).await?.some_text("/data/id")?;
    let path = format!("/api/v1/runs/{run}/events?deltas=true");
    let frames = scene.call(Method::GET, &path).bearer(&caller.access).open().await?.read_to_end(END).await?;
    for frame in frames.iter().filter(|frame| frame.event == ["run.delta"]) {
        ensure!(frame.id.is_empty(), "a delta has an id: {frame:?}");
    }
    Ok(())
}

async fn a_streamed_chat(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let body = json!({ "message": "one two three four five", "stream": true });
    let call = scene.call(Method::POST, &format!("/api/v1/agents/{}/chat", agent.id)).bearer(&caller.access).json(&body);
    let frames = call.open().await?.read_to_end(END).await?;
    let kinds: Vec<&str> = frames.iter().filter_map(|frame| frame.event.first().map(String::as_str)).collect();
    ensure!(kinds.first() == Some(&"accepted"), "the first event is {:?}", kinds.first());
    ensure!(frames[0].json()["run_id"].is_string(), "`accepted` has no run_id: {:?}", frames[0]);
    ensure!(kinds.last() == Some(&"done"), "the last event is {:?}", kinds.last());
    let done = frames[frames.len() - 1].json();
    has_members("done", &done, &["request_id", "run_id", "conversation_id", "response", "model_used", "tokens_used", "duration_ms"], None)?;
    let start = kinds.iter().rposition(|kind| *kind == "run.retried").unwrap_or(0);
    let joined: String = frames[start..]
        .iter()
        .filter(|frame| frame.event == ["run.delta"])
        .filter_map(|frame| frame.json()["text"].as_str().map(str::to_owned))
        .collect();
    ensure!(
        done["response"].as_str().is_some_and(|text| text.contains(&joined)),
        "the joined deltas `{joined}` are no part of {}",
        done["response"]
    );
    Ok(())
}
