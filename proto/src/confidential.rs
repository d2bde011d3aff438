//! `Debug` of the messages that carry prompts and answers: names and sizes only, so that a log line
//! with a message in it tells nothing that somebody said.

use std::fmt;

use crate::worker::v1::{MemoryEntry, TaskDelta, TaskEvent, TaskRequest, TaskResponse};

impl fmt::Debug for TaskRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskRequest")
            .field("request_id", &self.request_id)
            .field("agent_id", &self.agent_id)
            .field("attempt", &self.attempt)
            .field("provider", &self.provider)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TaskResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskResponse")
            .field("request_id", &self.request_id)
            .field("worker_id", &self.worker_id)
            .field("duration_ms", &self.duration_ms)
            .field("error_code", &self.error_code)
            .field("finish_reason", &self.finish_reason)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEntry").field("memory_type", &self.memory_type).finish_non_exhaustive()
    }
}

impl fmt::Debug for TaskDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskDelta").field("request_id", &self.request_id).field("bytes", &self.text.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for TaskEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskEvent").field("request_id", &self.request_id).field("type", &self.r#type).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::v1::{ServerMessage, server_message::Payload};

    #[test]
    fn a_task_in_a_log_line_does_not_tell_what_was_said() {
        let message = ServerMessage {
            payload: Some(Payload::TaskRequest(Box::new(TaskRequest {
                request_id: "run_1".into(),
                user_message: "canary-user".into(),
                system_prompt: "canary-prompt".into(),
                memory_context_json: "canary-memory".into(),
                ..TaskRequest::default()
            }))),
        };
        let text = format!("{message:?}");
        assert!(text.contains("run_1"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
