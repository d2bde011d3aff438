//! Runs that only say what would be done. They are never offered to a worker.

use aiox_core::{Error, Result};
use aiox_model::run::{Run, RunStatus};
use aiox_store::{Advance, Ending, runs};
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
        self.log.add(Advance { ending: Some(ending), ..Advance::new(run, at) }, vec![("run.completed", payload)]).await?;
        let row = runs::by_id(&mut self.store.read().await?, run).await?.ok_or(Error::NotFound("run"))?;
        Ok(view(row))
    }
}
