//! The log of a run as `/v1` shows it: the same events, with the names and shapes of the published contract.
//!
//! Everything here follows from what is stored, so that two reads give the same bytes, on every hub that holds the run.

use aiox_model::{
    EventId, RunId, StepId, TraceId,
    run::RunEvent,
    v1::event::{Event, Trace},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The run that events belong to, as the reader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The reader's tenant, as it is written on the wire.
    pub tenant: String,
    /// The agent, as it is written on the wire.
    pub agent: String,
    /// The run.
    pub run: RunId,
    /// Its trace.
    pub trace: TraceId,
}

/// An event as `/v1` sends it.
#[must_use]
pub fn event(of: &Subject, event: &RunEvent) -> Event {
    let (kind, payload) = shown(event);
    let step = attempt(event).map(|attempt| step(of.run, attempt).to_string());
    Event {
        event_id: EventId(event.id).to_string(),
        sequence: event.sequence,
        time: event.time,
        kind,
        tenant_id: of.tenant.clone(),
        agent_id: of.agent.clone(),
        run_id: of.run.to_string(),
        step_id: step,
        trace: trace(of.trace, event.id),
        payload,
    }
}

/// Stands for events that are no longer kept, up to the one before `next`.
#[must_use]
pub fn gap(of: &Subject, after: u64, next: &RunEvent) -> Event {
    let missing = RunEvent {
        // Made of the run and the place, so that it is the same at every read.
        id: Uuid::from_u128(of.run.uuid().as_u128().wrapping_add(u128::from(next.sequence) << 64)),
        run_id: of.run.uuid(),
        sequence: next.sequence - 1,
        kind: "stream.gap".into(),
        time: next.time,
        payload: json!({ "first_missing": after + 1, "last_missing": next.sequence - 1 }),
    };
    event(of, &missing)
}

/// `traceparent` of a trace and the span that a UUID stands for.
#[must_use]
pub fn trace(trace: TraceId, span: Uuid) -> Trace {
    // The low half of a UUID of version 4, 7 or 8 is never zero.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let span_id = format!("{:016x}", (span.as_u128() as u64).max(1));
    Trace { traceparent: format!("00-{:032x}-{span_id}-01", trace.uuid().as_u128().max(1)), span_id }
}

/// The trace id of a `traceparent` (W3C Trace Context section 3.2). `None`: it is malformed or all zero, and to be ignored.
#[must_use]
pub fn parse_traceparent(text: &str) -> Option<TraceId> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let known = version == "00" && parts.next().is_none();
    if !hex(version, 2) || version == "ff" || !(known || version != "00") || !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
    u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
    Some(TraceId(Uuid::from_u128(trace)))
}

/// Most bytes of an id that another program gives.
const LONGEST_ID: usize = 255;

/// An event as another program sends it, in its canonical form: bare or in its envelope, for a reader of `tenant`. `trace` stands in where
/// it has none. `None`: it has no id, run, sequence, time or type.
#[must_use]
pub fn read(given: &Value, tenant: &str, or_trace: impl FnOnce() -> Trace) -> Option<Event> {
    let given = given.get("event").filter(|inner| inner.is_object()).unwrap_or(given);
    let text = |name: &str| given[name].as_str().filter(|text| (1..=LONGEST_ID).contains(&text.len())).map(str::to_owned);
    let traceparent = given["trace"]["traceparent"].as_str().filter(|text| parse_traceparent(text).is_some());
    let trace = match traceparent {
        Some(traceparent) => {
            let span = given["trace"]["span_id"].as_str().or_else(|| traceparent.split('-').nth(2)).unwrap_or_default();
            Trace { traceparent: traceparent.to_owned(), span_id: span.to_owned() }
        }
        None => or_trace(),
    };
    Some(Event {
        event_id: text("event_id")?,
        sequence: given["sequence"].as_u64().filter(|sequence| *sequence > 0)?,
        time: given["time"].as_str()?.parse().ok()?,
        kind: text("type")?,
        tenant_id: tenant.to_owned(),
        agent_id: text("agent_id").unwrap_or_default(),
        run_id: text("run_id")?,
        step_id: text("step_id"),
        trace,
        payload: given["payload"].as_object().cloned().unwrap_or_default(),
    })
}

/// Whether nothing comes after an event in its run.
#[must_use]
pub fn is_final(event: &Event) -> bool {
    matches!(event.kind.as_str(), "agentos.run.completed" | "agentos.run.failed" | "agentos.run.canceled")
}

/// The step that an attempt is.
fn step(run: RunId, attempt: u64) -> StepId {
    StepId(Uuid::from_u128(run.uuid().as_u128().wrapping_add(u128::from(attempt))))
}

/// The attempt that an event belongs to, if it belongs to one.
fn attempt(event: &RunEvent) -> Option<u64> {
    match event.kind.as_str() {
        "run.started" | "run.retried" => Some(event.payload["attempt"].as_u64().unwrap_or(1)),
        _ => event.payload["attempt"].as_u64(),
    }
}

fn shown(event: &RunEvent) -> (String, Map<String, Value>) {
    let from = &event.payload;
    let (kind, payload) = match event.kind.as_str() {
        "run.created" => ("agentos.run.created", json!({ "status": "queued" })),
        "run.started" => ("agentos.run.step.started", json!({ "step_kind": "model", "name": "answer" })),
        "run.retried" => ("agentos.run.step.completed", json!({ "status": "retried" })),
        "step.completed" => ("agentos.run.step.completed", json!({ "status": from["status"] })),
        "model.requested" => ("agentos.model.requested", model_requested(from)),
        "model.completed" => ("agentos.model.completed", model_completed(from)),
        "tool.call" => ("agentos.tool.call.requested", tool_call(event)),
        "tool.result" => ("agentos.tool.call.completed", tool_result(from)),
        "run.completed" => ("agentos.run.completed", json!({ "status": "completed", "output": output(from["output"]["text"].as_str()) })),
        "run.failed" => ("agentos.run.failed", json!({ "status": "failed", "error": failed(&from["error"]) })),
        "run.canceled" => {
            let mut payload = json!({ "status": "canceled" });
            if let Some(reason) = from["reason"].as_str() {
                payload["reason"] = reason.into();
            }
            ("agentos.run.canceled", payload)
        }
        other => return (format!("agentos.{other}"), from.as_object().cloned().unwrap_or_default()),
    };
    (kind.to_owned(), payload.as_object().cloned().unwrap_or_default())
}

/// The members of an answer.
fn output(text: Option<&str>) -> Value {
    json!({ "type": "text", "text": text.unwrap_or_default(), "artifacts": [] })
}

/// What the agent asks its provider for: the model that it names, or the provider's own choice.
fn model_ref(from: &Value) -> Value {
    match (from["provider"].as_str(), from["model"].as_str()) {
        (Some(provider), Some(model)) => format!("{provider}/{model}").into(),
        (Some(provider), None) => provider.into(),
        (None, model) => model.unwrap_or_default().into(),
    }
}

fn model_requested(from: &Value) -> Value {
    json!({
        "model_ref": model_ref(from),
        "operation": "chat",
        "requirements": {},
        "input_summary": { "messages": from["messages"].as_u64().unwrap_or(1), "has_tools": from["has_tools"] == true },
    })
}

fn model_completed(from: &Value) -> Value {
    let tokens = |name: &str| from["usage"][name].as_u64().unwrap_or(0);
    let (input, output) = (tokens("input_tokens"), tokens("output_tokens"));
    let model = [&from["answered_by"], &from["model"]].into_iter().find_map(Value::as_str).unwrap_or_default();
    json!({
        "model_ref": model_ref(from),
        "operation": "chat",
        "status": from["status"],
        "usage": { "input_tokens": input, "output_tokens": output, "total_tokens": input.saturating_add(output) },
        "latency_ms": from["duration_ms"].as_u64().unwrap_or(0),
        "policy_outcome": { "decision": "allowed", "reasons": [], "redactions": [] },
        "route": { "backend": from["provider"].as_str().unwrap_or_default(), "model": model, "fallback_used": false },
    })
}

/// The first of these members that has a value.
fn first(from: &Value, names: &[&str]) -> Option<Value> {
    names.iter().find_map(|name| from.get(name).filter(|value| !value.is_null()).cloned())
}

fn text(from: &Value, names: &[&str]) -> Option<String> {
    first(from, names)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The id of a call of a tool, if its worker gave it one.
#[must_use]
pub fn tool_call_id(payload: &Value) -> Option<String> {
    text(payload, &["tool_call_id", "call_id", "id"])
}

/// Id and tool of an event `tool.call`. Workers name a tool by `tool_id` or `name`; a call without an id has one made of its event's.
#[must_use]
pub fn tool_called(event: Uuid, payload: &Value) -> (String, String) {
    let id = tool_call_id(payload).unwrap_or_else(|| format!("tcall_{}", &EventId(event).to_string()[4..]));
    (id, text(payload, &["tool_id", "name"]).unwrap_or_else(|| "unknown".into()))
}

/// Workers name a tool by `name` and its arguments by `arguments`.
fn tool_call(event: &RunEvent) -> Value {
    let from = &event.payload;
    let (id, tool) = tool_called(event.id, from);
    json!({
        "tool_call_id": id,
        "tool_id": tool,
        "input": first(from, &["input", "arguments"]).unwrap_or_else(|| json!({})),
        "timeout_ms": first(from, &["timeout_ms", "timeout"]).unwrap_or_else(|| 0.into()),
    })
}

fn tool_result(from: &Value) -> Value {
    json!({
        "tool_call_id": from["tool_call_id"],
        "tool_id": from["tool_id"],
        "status": from["status"],
        "output": from["output"],
        "duration_ms": from["duration_ms"].as_u64().unwrap_or(0),
        "error": from["error"],
    })
}

fn failed(error: &Value) -> Value {
    let (code, details) = cause(error["code"].as_str().unwrap_or("internal_error"));
    json!({
        "code": code,
        "message": error["message"].as_str().unwrap_or_default(),
        "retryable": error["retryable"].as_bool().unwrap_or(false),
        "details": details,
    })
}

/// The code of a failed run on `/v1`, and its details. What the run needed and could not reach has one code there.
#[must_use]
pub fn cause(code: &str) -> (&str, Map<String, Value>) {
    match code {
        "provider_unavailable" | "provider_not_configured" | "unknown_provider" => {
            let mut details = Map::new();
            details.insert("cause".into(), code.into());
            ("dependency_unavailable", details)
        }
        other => (other, Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_model::Ts;
    use proptest::prelude::*;

    fn of() -> Subject {
        Subject {
            tenant: "tnt_demo".into(),
            agent: "agt_demo".into(),
            run: RunId(Uuid::from_u128(0x0190_f5fe_7c00_7000_8000_0000_0000_0001)),
            trace: TraceId(Uuid::from_u128(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736)),
        }
    }
    fn stored(sequence: u64, kind: &str, payload: Value) -> RunEvent {
        let id = Uuid::from_u128(0x0190_f5fe_7c00_7000_8000_0000_0000_00f0 + u128::from(sequence));
        RunEvent { id, run_id: of().run.uuid(), sequence, kind: kind.into(), time: Ts::from_micros(0), payload }
    }
    fn read(kind: &str, payload: Value) -> (String, Value, Option<String>) {
        let event = event(&of(), &stored(1, kind, payload));
        (event.kind, Value::Object(event.payload), event.step_id)
    }

    #[test]
    fn every_kind_has_its_name_and_members() {
        let (kind, payload, step) = read("run.created", json!({ "status": "queued", "door": "v1", "agent_jid": "x" }));
        assert_eq!((kind.as_str(), payload, step), ("agentos.run.created", json!({ "status": "queued" }), None));
        let (kind, payload, started) = read("run.started", json!({ "status": "running", "worker_id": "w", "attempt": 2 }));
        assert_eq!((kind.as_str(), payload), ("agentos.run.step.started", json!({ "step_kind": "model", "name": "answer" })));
        let (kind, payload, retried) = read("run.retried", json!({ "reason": "worker_lost", "attempt": 2 }));
        assert_eq!((kind.as_str(), payload), ("agentos.run.step.completed", json!({ "status": "retried" })));
        assert_eq!(started, retried);
        assert!(started.as_ref().unwrap().starts_with("stp_"));
        let (kind, payload, step) =
            read("run.completed", json!({ "status": "completed", "output": { "type": "text", "text": "hi" }, "usage": {} }));
        let output = json!({ "type": "text", "text": "hi", "artifacts": [] });
        assert_eq!((kind.as_str(), payload, step), ("agentos.run.completed", json!({ "status": "completed", "output": output }), None));
        let (_, payload, _) = read("run.failed", json!({ "error": { "code": "provider_unavailable", "message": "m", "retryable": true } }));
        let error =
            json!({ "code": "dependency_unavailable", "message": "m", "retryable": true, "details": { "cause": "provider_unavailable" } });
        assert_eq!(payload, json!({ "status": "failed", "error": error }));
        let (kind, payload, _) = read("tool.call", json!({ "name": "clock" }));
        assert_eq!((kind.as_str(), &payload["tool_id"], &payload["input"]), ("agentos.tool.call.requested", &json!("clock"), &json!({})));
        assert!(payload["tool_call_id"].as_str().unwrap().starts_with("tcall_"));
        let asked = json!({ "attempt": 2, "provider": "openai", "model": "gpt", "messages": 3, "has_tools": true });
        let (kind, payload, step) = read("model.requested", asked);
        assert_eq!((kind.as_str(), step), ("agentos.model.requested", started.clone()));
        let summary = json!({ "messages": 3, "has_tools": true });
        let shown = json!({ "model_ref": "openai/gpt", "operation": "chat", "requirements": {}, "input_summary": summary });
        assert_eq!(payload, shown);
        let answered = json!({ "attempt": 2, "provider": "echo", "model": null, "status": "ok", "usage": { "input_tokens": 2, "output_tokens": 3 },
            "duration_ms": 9, "answered_by": "echo-1" });
        let (kind, payload, _) = read("model.completed", answered);
        let route = json!({ "backend": "echo", "model": "echo-1", "fallback_used": false });
        let outcome = json!({ "decision": "allowed", "reasons": [], "redactions": [] });
        let usage = json!({ "input_tokens": 2, "output_tokens": 3, "total_tokens": 5 });
        let shown = json!({ "model_ref": "echo", "operation": "chat", "status": "ok", "usage": usage, "latency_ms": 9,
            "policy_outcome": outcome, "route": route });
        assert_eq!((kind.as_str(), payload), ("agentos.model.completed", shown));
        let (kind, payload, _) = read("tool.result", json!({ "tool_call_id": "tcall_1", "tool_id": "clock", "status": "ok", "output": 5 }));
        let shown = json!({ "tool_call_id": "tcall_1", "tool_id": "clock", "status": "ok", "output": 5, "duration_ms": 0, "error": null });
        assert_eq!((kind.as_str(), payload), ("agentos.tool.call.completed", shown));
        let (kind, payload, step) = read("step.completed", json!({ "attempt": 2, "status": "completed" }));
        assert_eq!((kind.as_str(), payload, step), ("agentos.run.step.completed", json!({ "status": "completed" }), started));
        let (kind, payload, _) = read("run.canceled", json!({ "status": "canceled" }));
        assert_eq!((kind.as_str(), payload), ("agentos.run.canceled", json!({ "status": "canceled" })));
        let (kind, payload, _) = read("later", json!({ "a": 1 }));
        assert_eq!((kind.as_str(), payload), ("agentos.later", json!({ "a": 1 })));
    }

    #[test]
    fn what_was_dropped_is_told_with_its_place() {
        let gap = gap(&of(), 3, &stored(9, "run.completed", json!({})));
        assert_eq!((gap.sequence, gap.kind.as_str()), (8, "agentos.stream.gap"));
        assert_eq!(Value::Object(gap.payload), json!({ "first_missing": 4, "last_missing": 8 }));
    }

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parse_traceparent(good), Some(of().trace));
        assert_eq!(parse_traceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later"), Some(of().trace));
        for bad in [
            "",
            "x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_continues_the_trace_and_no_text_panics(bits in 1u128.., text: String) {
            let id = TraceId(Uuid::from_u128(bits));
            prop_assert_eq!(parse_traceparent(&trace(id, Uuid::from_u128(bits)).traceparent), Some(id));
            let _ = parse_traceparent(&text);
        }
    }
}
