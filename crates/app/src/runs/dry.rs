//! Runs that only say what would be done. They are never offered to a worker.

use aiox_core::{Error, Result, ports::Signal};
use aiox_model::{
    RunId,
    run::{Run, RunEvent, RunStatus},
};
use aiox_store::{Advance, Ending, NewEvent, runs};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Runs, view::view};

/// Whether the first event of a run says that it is to be dry.
pub(crate) fn is_dry(first_event: &str) -> bool {
    serde_json::from_str::<Value>(first_event).is_ok_and(|payload| payload["run_options"]["dry_run"] == true)
}

impl Runs {
    /// Completes a dry run.
    pub(super) async fn end_dry(&self, run: Uuid, plan: String) -> Result<Run> {
        let at = self.clock.now();
        let usage = json!({ "input_tokens": 0, "output_tokens": 0 });
        let payload = json!({ "status": "completed", "output": { "type": "text", "text": plan }, "usage": usage, "model": null });
        let event = NewEvent { id: self.ids.uuid(), kind: "run.completed".into(), payload: payload.to_string(), at, sequence: None };
        let ending = Ending {
            status: RunStatus::Completed,
            output: Some(plan),
            error: None,
            model_used: None,
            input_tokens: 0,
            output_tokens: 0,
            message: self.ids.uuid(),
            reply: None,
        };
        let advance = Advance { run, at, event: event.clone(), status: None, worker: None, attempts: 0, ending: Some(ending), audit: None };
        if let Some(sequence) = self.journal.advance(advance).await? {
            let event = RunEvent { id: event.id, run_id: run, sequence, kind: event.kind, time: at, payload };
            self.events.publish(RunId(run), Signal::Event(event)).await;
        }
        let row = runs::by_id(&mut self.store.read().await?, run).await?.ok_or(Error::NotFound("run"))?;
        Ok(view(row))
    }
}
