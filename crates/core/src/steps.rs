//! What the log of a run has begun and not ended: a step, its call of a model, its calls of tools.
//!
//! A step is one attempt of a worker at the run. What it has begun is ended in the log before the step is, and the step before the
//! run, so that a reader never waits for the second half of a pair.

use aiox_model::run::RunEvent;
use serde_json::{Value, json};

use crate::agentos;

/// What a step asks a model for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The provider, in lower case.
    pub provider: &'a str,
    /// The model, if the agent names one.
    pub model: Option<&'a str>,
    /// Messages of the conversation that the worker gets, the question with them.
    pub messages: usize,
    /// Whether the step may call tools.
    pub has_tools: bool,
}

/// How a step ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End<'a> {
    /// With an answer, or with an error of the worker.
    Answered {
        /// Whether there is an answer.
        ok: bool,
        /// The model that answered, as the worker names it.
        model: Option<&'a str>,
        /// Tokens of the prompt and of the answer.
        tokens: (u64, u64),
        /// Milliseconds that the worker took, as it says.
        duration_ms: u64,
    },
    /// The run was canceled.
    Canceled,
    /// The run goes to another worker; an event `run.retried` follows, which ends the step.
    #[default]
    Retried,
}

/// What a log has begun and not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Open {
    /// The attempt whose step is open.
    attempt: Option<u64>,
    /// What was asked of the model that has not answered.
    model: Option<Value>,
    /// Ids and tools of the calls that have not ended.
    tools: Vec<(String, String)>,
    /// Answers of the model and calls of tools of the open step.
    steps: u64,
}

impl Open {
    /// What this log has begun and not ended.
    #[must_use]
    pub fn of<'a>(log: impl IntoIterator<Item = &'a RunEvent>) -> Self {
        let mut open = Self::default();
        for event in log {
            open.see(event);
        }
        open
    }

    fn see(&mut self, event: &RunEvent) {
        let payload = &event.payload;
        match event.kind.as_str() {
            "run.started" => *self = Self { attempt: Some(payload["attempt"].as_u64().unwrap_or(1)), ..Self::default() },
            "model.requested" => {
                self.model = Some(payload.clone());
                self.steps += 1;
            }
            "model.completed" => self.model = None,
            "tool.call" => {
                let (id, tool) = agentos::tool_called(event.id, payload);
                self.called(id, tool);
            }
            "tool.result" => drop(self.returned(payload["tool_call_id"].as_str().unwrap_or_default())),
            "step.completed" | "run.retried" => *self = Self::default(),
            _ => {}
        }
    }

    /// Begins a step with its call of a model: the payload of its event `model.requested`.
    pub fn begin(&mut self, attempt: u32, asked: &Asked<'_>) -> Value {
        let requested = json!({
            "attempt": attempt,
            "provider": asked.provider,
            "model": asked.model,
            "messages": asked.messages,
            "has_tools": asked.has_tools,
        });
        *self = Self { attempt: Some(attempt.into()), model: Some(requested.clone()), tools: Vec::new(), steps: 1 };
        requested
    }

    /// The attempt whose step is open.
    #[must_use]
    pub const fn attempt(&self) -> Option<u64> {
        self.attempt
    }

    /// Whether nothing is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attempt.is_none() && self.model.is_none() && self.tools.is_empty()
    }

    /// Answers of the model and calls of tools that the open step has made.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether a call with this id waits for its result.
    #[must_use]
    pub fn waits(&self, id: &str) -> bool {
        self.tools.iter().any(|(open, _)| open == id)
    }

    /// Notes a call of a tool.
    pub fn called(&mut self, id: String, tool: String) {
        self.tools.push((id, tool));
        self.steps += 1;
    }

    /// Notes the result of a call: its tool. `None`: no such call waits.
    pub fn returned(&mut self, id: &str) -> Option<String> {
        let at = self.tools.iter().position(|(open, _)| open == id)?;
        Some(self.tools.remove(at).1)
    }

    /// Types and payloads of the events that end what is open, in order.
    #[must_use]
    pub fn close(self, end: End<'_>) -> Vec<(&'static str, Value)> {
        let mut events: Vec<_> = self.tools.into_iter().map(|(id, tool)| ("tool.result", unfinished(self.attempt, &id, &tool))).collect();
        if let Some(asked) = self.model {
            events.push(("model.completed", completed(&asked, end)));
        }
        let status = match end {
            End::Answered { ok: true, .. } => "completed",
            End::Answered { ok: false, .. } => "failed",
            End::Canceled => "canceled",
            End::Retried => return events,
        };
        if let Some(attempt) = self.attempt {
            events.push(("step.completed", json!({ "attempt": attempt, "status": status })));
        }
        events
    }
}

/// The result of a call of a tool that nobody waits for any more.
fn unfinished(attempt: Option<u64>, id: &str, tool: &str) -> Value {
    let error = json!({ "code": "unfinished", "message": "the step ended before the tool did" });
    json!({ "attempt": attempt, "tool_call_id": id, "tool_id": tool, "status": "error", "error": error })
}

fn completed(asked: &Value, end: End<'_>) -> Value {
    let (ok, model, tokens, duration) = match end {
        End::Answered { ok, model, tokens, duration_ms } => (ok, model, tokens, duration_ms),
        End::Canceled | End::Retried => (false, None, (0, 0), 0),
    };
    json!({
        "attempt": asked["attempt"],
        "provider": asked["provider"],
        "model": asked["model"],
        "status": if ok { "ok" } else { "error" },
        "usage": { "input_tokens": tokens.0, "output_tokens": tokens.1 },
        "duration_ms": duration,
        "answered_by": model,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiox_model::Ts;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn event(kind: &str, payload: Value) -> RunEvent {
        RunEvent { id: Uuid::from_u128(7), run_id: Uuid::nil(), sequence: 1, kind: kind.into(), time: Ts::from_micros(0), payload }
    }
    const ASKED: Asked<'_> = Asked { provider: "echo", model: Some("echo"), messages: 2, has_tools: true };
    const OK: End<'_> = End::Answered { ok: true, model: Some("echo/1"), tokens: (2, 3), duration_ms: 9 };

    #[test]
    fn a_step_ends_with_all_that_it_began() {
        let mut open = Open::default();
        assert!(open.is_empty() && open.clone().close(OK).is_empty());
        let requested = open.begin(2, &ASKED);
        open.called("tcall_1".into(), "clock".into());
        open.called("tcall_2".into(), "clock".into());
        assert_eq!((open.steps(), open.waits("tcall_1"), open.waits("tcall_3")), (3, true, false));
        assert_eq!((open.returned("tcall_1").as_deref(), open.returned("tcall_1")), (Some("clock"), None));
        let events = open.clone().close(OK);
        let kinds: Vec<_> = events.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, ["tool.result", "model.completed", "step.completed"]);
        assert_eq!((&events[0].1["tool_call_id"], &events[0].1["status"]), (&json!("tcall_2"), &json!("error")));
        assert_eq!((&events[1].1["status"], &events[1].1["provider"]), (&json!("ok"), &requested["provider"]));
        assert_eq!(events[2].1, json!({ "attempt": 2, "status": "completed" }));
        for (end, model, step) in [
            (End::Answered { ok: false, model: None, tokens: (0, 0), duration_ms: 0 }, "error", Some("failed")),
            (End::Canceled, "error", Some("canceled")),
            (End::Retried, "error", None),
        ] {
            let events = open.clone().close(end);
            assert_eq!(events[1].1["status"], json!(model));
            assert_eq!(events.get(2).and_then(|(_, payload)| payload["status"].as_str()), step);
        }
    }

    #[test]
    fn a_log_of_before_has_a_step_alone() {
        let open =
            Open::of(&[event("run.created", json!({})), event("run.started", json!({ "attempt": 1 })), event("tool.call", json!({}))]);
        let kinds: Vec<_> = open.close(OK).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["tool.result", "step.completed"]);
    }

    proptest! {
        /// Whatever a log has begun, with its closing events it has ended.
        #[test]
        fn what_is_closed_is_empty(kinds in proptest::collection::vec(0usize..6, 0..20), canceled: bool) {
            let mut log = Vec::new();
            for (index, kind) in kinds.into_iter().enumerate() {
                let id = json!({ "tool_call_id": format!("tcall_{}", index % 3), "tool_id": "clock", "attempt": 1 });
                let kind = ["run.started", "model.requested", "model.completed", "tool.call", "tool.result", "run.retried"][kind];
                log.push(event(kind, id));
            }
            let open = Open::of(&log);
            let closed = open.close(if canceled { End::Canceled } else { OK });
            log.extend(closed.into_iter().map(|(kind, payload)| event(kind, payload)));
            prop_assert!(Open::of(&log).is_empty());
        }
    }
}
