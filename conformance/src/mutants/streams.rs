//! Mutants that change event streams.

use serde_json::{Value, json};

use super::{Ask, CONTROL, Mutant, by_answer, by_frame};

/// Changes the JSON of the `data:` line of a frame of `/v1`.
fn edited(frame: &str, change: impl Fn(&mut Value)) -> String {
    let line = |line: &str| match line.strip_prefix("data:").and_then(|data| serde_json::from_str::<Value>(data.trim()).ok()) {
        Some(mut data) => {
            change(&mut data);
            format!("data: {data}")
        }
        None => line.to_owned(),
    };
    frame.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn events(ask: &Ask) -> bool {
    ask.path.starts_with("/v1/runs/") && ask.path.ends_with("/events")
}

fn is_event(frame: &str) -> bool {
    frame.lines().any(|line| line.starts_with("data:"))
}

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant { name: "streams do not end", breaks: "STR-013", endless: true, ..CONTROL },
    by_answer("a stream too many is refused without a time", "STR-020", |ask, reply, _| {
        if events(ask) && reply.status == 429 {
            reply.headers.remove("retry-after");
        }
    }),
    by_answer("a stream too many is a request too many", "STR-020", |ask, reply, _| {
        if ask.path.starts_with("/api/v1/runs/") && reply.status == 429 {
            reply.edit(|body| body["code"] = json!("rate_limited"));
        }
    }),
    by_frame("calls of tools that no list allows are told as done", "POL-005", |ask, frame, _, _| {
        let done = |data: &mut Value| {
            if data["event"]["type"] == "agentos.tool.call.completed" {
                data["event"]["payload"]["status"] = json!("ok");
            }
        };
        if events(ask) { vec![edited(&frame, done)] } else { vec![frame] }
    }),
    by_frame("a tool runs that no list allows", "POL-005", |ask, frame, number, _| {
        if events(ask) && number == 1 && is_event(&frame) {
            let ran = edited(&frame, |data| {
                data["event"]["type"] = json!("agentos.tool.call.completed");
                data["event"]["payload"] = json!({ "tool": "tool.echo", "status": "ok" });
            });
            vec![frame, ran]
        } else {
            vec![frame]
        }
    }),
    by_frame("a gap in the sequence", "STR-001", |ask, frame, number, _| if events(ask) && number == 2 { vec![] } else { vec![frame] }),
    by_frame("an event comes twice", "STR-001", |ask, frame, number, _| {
        if events(ask) && number == 1 && is_event(&frame) { vec![frame.clone(), frame] } else { vec![frame] }
    }),
    by_frame("there is no final event", "STR-002", |ask, frame, _, _| {
        if events(ask) && frame.contains("agentos.run.completed") { vec![] } else { vec![frame] }
    }),
    by_frame("event ids change from read to read", "STR-003", |ask, frame, _, memory| {
        memory.count += 1;
        let id = format!("evt_{:026}", memory.count);
        if events(ask) { vec![edited(&frame, |data| data["event"]["event_id"] = json!(id))] } else { vec![frame] }
    }),
    by_frame("step_id is null", "STR-004", |ask, frame, _, _| {
        if events(ask) { vec![edited(&frame, |data| data["event"]["step_id"] = Value::Null)] } else { vec![frame] }
    }),
    by_frame("events have no span", "STR-004", |ask, frame, _, _| {
        let without = |data: &mut Value| {
            data["event"]["trace"].as_object_mut().map(|trace| trace.remove("span_id"));
        };
        if events(ask) { vec![edited(&frame, without)] } else { vec![frame] }
    }),
    by_frame("the created event does not say queued", "STR-005", |ask, frame, number, _| {
        if events(ask) && number == 1 && is_event(&frame) {
            vec![edited(&frame, |data| data["event"]["payload"] = json!({}))]
        } else {
            vec![frame]
        }
    }),
    by_frame("model.completed is missing", "STR-006", |ask, frame, _, _| {
        if events(ask) && frame.contains("agentos.model.completed") { vec![] } else { vec![frame] }
    }),
    by_frame("the JSON is spread over two lines", "STR-008", |ask, frame, _, _| {
        if events(ask) && is_event(&frame) { vec![frame.replacen("data: {", "data: {\ndata: ", 1)] } else { vec![frame] }
    }),
    by_frame("the id is not the sequence", "STR-008", |ask, frame, _, _| {
        if events(ask) {
            vec![frame.lines().map(|line| if line.starts_with("id:") { "id: 0" } else { line }).collect::<Vec<_>>().join("\n")]
        } else {
            vec![frame]
        }
    }),
    by_frame("a snapshot comes first", "STR-009", |ask, frame, number, _| {
        if events(ask) && number == 1 && is_event(&frame) {
            vec!["event: snapshot\ndata: {\"status\":\"running\"}".into(), frame]
        } else {
            vec![frame]
        }
    }),
    by_frame("letters are not escaped", "STR-010", |ask, frame, _, _| {
        // Parsing and writing again leaves them as they are.
        if events(ask) { vec![edited(&frame, |_| {})] } else { vec![frame] }
    }),
    by_frame("heartbeats are data", "STR-011", |ask, frame, _, _| {
        if events(ask) && frame.starts_with(':') { vec!["data: {\"heartbeat\":true}".into()] } else { vec![frame] }
    }),
    by_frame("a stream without a cursor begins with the second event", "STR-014", |ask, frame, number, _| {
        if events(ask) && ask.query.is_empty() && number == 1 && is_event(&frame) { vec![] } else { vec![frame] }
    }),
    by_frame("the first event of a live run is held back", "STR-012", |ask, frame, number, _| {
        if events(ask) && number == 1 && is_event(&frame) { vec![] } else { vec![frame] }
    }),
    by_frame("the second reader of a run misses an event", "STR-018", |ask, frame, number, memory| {
        memory.count += usize::from(events(ask) && number == 1 && is_event(&frame));
        if events(ask) && number == 1 && memory.count == 2 { vec![] } else { vec![frame] }
    }),
    by_frame("pieces of an answer are lost", "WRK-011", |ask, frame, _, _| {
        if ask.path.starts_with("/api/v1/runs/") && frame.contains("run.delta") { vec![] } else { vec![frame] }
    }),
    by_frame("events of a peer's run are numbered anew", "FED-041", |ask, frame, _, _| {
        let other = |data: &mut Value| {
            if data["sequence"] == json!(3) {
                data["sequence"] = json!(4);
            }
        };
        if ask.path.starts_with("/api/v1/runs/") { vec![edited(&frame, other)] } else { vec![frame] }
    }),
    by_frame("the last chunk is not followed by [DONE]", "MOD-014", |ask, frame, _, _| {
        if ask.path.ends_with("/chat/completions") && frame.contains("[DONE]") { vec![] } else { vec![frame] }
    }),
    by_frame("chunks have ids of their own", "MOD-014", |ask, frame, number, _| {
        let id = format!("chatcmpl-{number}");
        if ask.path.ends_with("/chat/completions") { vec![edited(&frame, |data| data["id"] = json!(id))] } else { vec![frame] }
    }),
    by_frame("deltas below /api/v1 have an id", "STR-021", |ask, frame, _, _| {
        if ask.path.starts_with("/api/v1/runs/") && frame.contains("run.delta") { vec![format!("id: 1\n{frame}")] } else { vec![frame] }
    }),
    by_frame("frames of /api/v1 are called message", "STR-021", |ask, frame, _, _| {
        if ask.path.starts_with("/api/v1/runs/") {
            vec![frame.replace("event: run.event", "event: message").replace("event:run.event", "event: message")]
        } else {
            vec![frame]
        }
    }),
    by_frame("a streamed chat is not accepted first", "STR-022", |ask, frame, number, _| {
        if ask.path.ends_with("/chat") && number == 1 { vec![] } else { vec![frame] }
    }),
    by_frame("the done of a streamed chat lacks the answer", "STR-022", |ask, frame, _, _| {
        let without = |data: &mut Value| {
            data.as_object_mut().map(|data| data.remove("response"));
        };
        if ask.path.ends_with("/chat") && frame.contains("done") { vec![edited(&frame, without)] } else { vec![frame] }
    }),
];
