//! `Debug` of the messages that carry prompts and answers: names and sizes only, so that a log line
//! with a message in it tells nothing that somebody said.

use std::fmt;

use crate::worker::v1::{
    IssueTokenResponse, MemoryEntry, ModelDelta, ModelMessage, ModelRequest, ModelResponse, ModelTool, ModelToolCall, ModelVector,
    TaskDelta, TaskEvent, TaskRequest, TaskResponse,
};

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

impl fmt::Debug for ModelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelRequest")
            .field("request_id", &self.request_id)
            .field("operation", &self.operation)
            .field("provider", &self.provider)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ModelMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelMessage").field("role", &self.role).finish_non_exhaustive()
    }
}

impl fmt::Debug for ModelTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelTool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for ModelToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelToolCall").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for ModelDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelDelta").field("request_id", &self.request_id).field("bytes", &self.text.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ModelResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelResponse")
            .field("request_id", &self.request_id)
            .field("finish_reason", &self.finish_reason)
            .field("error_code", &self.error_code)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ModelVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelVector").field("length", &self.values.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for IssueTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssueTokenResponse").field("expires_in_ms", &self.expires_in_ms).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::v1::{ServerMessage, server_message::Payload};

    #[test]
    fn a_token_does_not_show() {
        let token = IssueTokenResponse { token: "canary-token".into(), expires_in_ms: 1 };
        assert!(!format!("{token:?}").contains("canary"));
    }

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

    #[test]
    fn a_model_call_in_a_log_line_does_not_tell_what_was_said() {
        let canary = || "canary".to_owned();
        let call = ModelToolCall { id: "c1".into(), name: "clock".into(), arguments_json: canary() };
        let request = ModelRequest {
            request_id: "req_1".into(),
            messages: vec![ModelMessage {
                role: "user".into(),
                content: canary(),
                tool_calls: vec![call.clone()],
                ..ModelMessage::default()
            }],
            texts: vec![canary()],
            stop: vec![canary()],
            ..ModelRequest::default()
        };
        let response = ModelResponse { request_id: "req_1".into(), text: canary(), tool_calls: vec![call], ..ModelResponse::default() };
        let delta = ModelDelta { request_id: "req_1".into(), text: canary() };
        let text = format!("{request:?} {:?} {response:?} {delta:?}", request.messages);
        assert!(text.contains("req_1"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
