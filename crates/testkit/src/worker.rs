//! Workers without a connection.

use aiox_app::{TaskOutcome, WorkerInfo};

/// A worker that serves the provider `echo`.
#[must_use]
pub fn worker_info(id: &str, slots: u32) -> WorkerInfo {
    WorkerInfo { worker_id: id.into(), max_concurrent: slots, providers: vec!["echo".into()], protocol: 2, ..WorkerInfo::default() }
}

/// An answer.
#[must_use]
pub fn answer(text: &str) -> TaskOutcome {
    TaskOutcome { text: text.into(), model_used: "echo/1".into(), input_tokens: 3, output_tokens: 5, ..TaskOutcome::default() }
}
