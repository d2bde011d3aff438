//! The contract of a provider, on each wire.

use std::time::Duration;

use aiox_worker::failure::{ErrorCode, Failure};
use aiox_worker::provider::{ChatRequest, FinishReason, Message, ProviderEvent, Role, Tool, ToolCall, ToolChoice, Usage, provider};
use aiox_worker::{ProviderConfig, ProviderKind};
use futures::StreamExt;
use serde_json::json;

use crate::double::{Double, Step, within};

const KEY: &str = "key-of-the-test";
const WIRES: [ProviderKind; 3] = [ProviderKind::OpenAi, ProviderKind::Anthropic, ProviderKind::Ollama];

fn crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn config(kind: ProviderKind, url: &str) -> ProviderConfig {
    ProviderConfig { base_url: Some(url.to_owned()), api_key: Some(KEY.into()), ..ProviderConfig::new(kind) }
}

fn request() -> ChatRequest {
    ChatRequest {
        model: "model-high".into(),
        system: "be kind".into(),
        messages: vec![Message::new(Role::Assistant, "earlier"), Message::new(Role::User, "hello")],
        tools: vec![Tool {
            name: "clock".into(),
            description: "tells the time".into(),
            parameters: json!({"type":"object","properties":{"zone":{"type":"string"}}}),
        }],
        tool_choice: ToolChoice::Auto,
        temperature: Some(0.5),
        top_p: None,
        max_tokens: 33,
        stop: Vec::new(),
    }
}

/// Everything a provider says, and how it ended.
struct Said {
    text: String,
    deltas: usize,
    calls: Vec<ToolCall>,
    usage: Option<Usage>,
    end: Result<FinishReason, Failure>,
}

async fn ask(config: &ProviderConfig) -> Said {
    crypto();
    let mut said =
        Said { text: String::new(), deltas: 0, calls: Vec::new(), usage: None, end: Err(Failure::new(ErrorCode::WorkerError, "no end")) };
    let mut events = provider(config).unwrap().chat(request());
    while let Some(event) = within(events.next()).await {
        match event {
            Ok(ProviderEvent::TextDelta(text)) => {
                said.deltas += 1;
                said.text.push_str(&text);
            }
            Ok(ProviderEvent::ToolCall(call)) => said.calls.push(call),
            Ok(ProviderEvent::Usage(usage)) => said.usage = Some(usage),
            Ok(ProviderEvent::Done(reason)) => said.end = Ok(reason),
            Err(failure) => {
                said.end = Err(failure);
                break;
            }
        }
    }
    said
}

fn content_type(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Ollama => "application/x-ndjson",
        _ => "text/event-stream",
    }
}

/// The wire form of an answer's beginning, in which two pieces of text come.
fn opening(kind: ProviderKind, first: &str, second: &str) -> Vec<Step> {
    let lines = match kind {
        ProviderKind::OpenAi => [first, second]
            .iter()
            .map(|text| {
                let chunk = json!({"id":"c","object":"chat.completion.chunk","choices":[
                    {"index":0,"delta":{"role":"assistant","content":text},"finish_reason":null}]});
                format!("data: {chunk}\n\n")
            })
            .collect::<Vec<_>>(),
        ProviderKind::Anthropic => {
            let start = json!({"type":"message_start","message":{"id":"m","role":"assistant",
                "content":[],"usage":{"input_tokens":11,"output_tokens":1}}});
            let block = json!({"type":"content_block_start","index":0,
                "content_block":{"type":"text","text":""}});
            let mut lines =
                vec![format!("event: message_start\ndata: {start}\n\n"), format!("event: content_block_start\ndata: {block}\n\n")];
            lines.extend([first, second].iter().map(|text| {
                let delta = json!({"type":"content_block_delta","index":0,
                    "delta":{"type":"text_delta","text":text}});
                format!("event: content_block_delta\ndata: {delta}\n\n")
            }));
            lines
        }
        _ => [first, second]
            .iter()
            .map(|text| {
                let line = json!({"model":"m","message":{"role":"assistant","content":text},"done":false});
                format!("{line}\n")
            })
            .collect(),
    };
    lines.into_iter().map(Step::Say).collect()
}

/// The wire form of an answer's end.
fn ending(kind: ProviderKind, length: bool) -> Vec<Step> {
    let lines = match kind {
        ProviderKind::OpenAi => {
            let reason = if length { "length" } else { "stop" };
            let last = json!({"choices":[{"index":0,"delta":{},"finish_reason":reason}]});
            let usage = json!({"choices":[],
                "usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}});
            vec![format!("data: {last}\n\n"), format!("data: {usage}\n\n"), "data: [DONE]\n\n".to_owned()]
        }
        ProviderKind::Anthropic => {
            let reason = if length { "max_tokens" } else { "end_turn" };
            let delta = json!({"type":"message_delta","delta":{"stop_reason":reason},
                "usage":{"output_tokens":7}});
            vec![
                "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n".to_owned(),
                format!("event: message_delta\ndata: {delta}\n\n"),
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned(),
            ]
        }
        _ => {
            let reason = if length { "length" } else { "stop" };
            let last = json!({"model":"m","message":{"role":"assistant","content":""},"done":true,
                "done_reason":reason,"prompt_eval_count":11,"eval_count":7});
            vec![format!("{last}\n")]
        }
    };
    lines.into_iter().map(Step::Say).chain([Step::Finish]).collect()
}

#[tokio::test]
async fn text_streams_with_its_usage() {
    for kind in WIRES {
        for length in [false, true] {
            let mut script = opening(kind, "Grüße, ", "wörld");
            script.extend(ending(kind, length));
            let double = Double::streaming(content_type(kind), script).await;
            let said = ask(&config(kind, &double.url)).await;
            assert_eq!(said.text, "Grüße, wörld", "{kind:?}");
            assert_eq!(said.deltas, 2, "{kind:?}");
            let wanted = if length { FinishReason::Length } else { FinishReason::Stop };
            assert_eq!(said.end, Ok(wanted), "{kind:?}");
            let usage = Usage { input_tokens: 11, output_tokens: 7 };
            assert_eq!(said.usage, Some(usage), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn the_request_carries_everything_and_the_key() {
    for kind in WIRES {
        let mut script = opening(kind, "a", "b");
        script.extend(ending(kind, false));
        let mut double = Double::streaming(content_type(kind), script).await;
        ask(&config(kind, &double.url)).await;
        let seen = double.request().await;
        let path = match kind {
            ProviderKind::OpenAi => "post /chat/completions ",
            ProviderKind::Anthropic => "post /messages ",
            _ => "post /api/chat ",
        };
        assert!(seen.head.starts_with(path), "{kind:?}: {}", seen.head);
        let key = match kind {
            ProviderKind::Anthropic => format!("x-api-key: {KEY}"),
            _ => format!("authorization: bearer {KEY}"),
        };
        assert!(seen.head.contains(&key), "{kind:?}: {}", seen.head);
        let body = &seen.body;
        assert_eq!(body["model"], "model-high", "{kind:?}");
        assert_eq!(body["stream"], true);
        let text = body.to_string();
        for part in ["be kind", "earlier", "hello", "clock", "zone"] {
            assert!(text.contains(part), "{kind:?} lacks {part}: {text}");
        }
        let limit = match kind {
            ProviderKind::Ollama => &body["options"]["num_predict"],
            _ => &body["max_tokens"],
        };
        assert_eq!(*limit, 33, "{kind:?}");
    }
}

#[tokio::test]
async fn a_local_server_needs_no_key() {
    for kind in [ProviderKind::OpenAi, ProviderKind::Ollama] {
        let mut script = opening(kind, "a", "b");
        script.extend(ending(kind, false));
        let mut double = Double::streaming(content_type(kind), script).await;
        // Both writings of a base URL are common.
        let mut config = config(kind, double.url.trim_end_matches('/'));
        config.api_key = None;
        assert_eq!(ask(&config).await.text, "ab", "{kind:?}");
        let seen = double.request().await;
        assert!(!seen.head.contains("authorization"), "{}", seen.head);
    }
}

#[tokio::test]
async fn a_wanted_tool_call_is_an_event() {
    let parts = |kind| match kind {
        ProviderKind::OpenAi => {
            let first = json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1",
                "type":"function","function":{"name":"clock","arguments":"{\"zo"}}]},"finish_reason":null}]});
            let second = json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,
                "function":{"arguments":"ne\":\"UTC\"}"}}]},"finish_reason":null}]});
            let last = json!({"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]});
            vec![format!("data: {first}\n\n"), format!("data: {second}\n\n"), format!("data: {last}\n\n"), "data: [DONE]\n\n".into()]
        }
        ProviderKind::Anthropic => {
            let block = json!({"type":"content_block_start","index":0,
                "content_block":{"type":"tool_use","id":"call_1","name":"clock","input":{}}});
            let delta = json!({"type":"content_block_delta","index":0,
                "delta":{"type":"input_json_delta","partial_json":"{\"zone\":\"UTC\"}"}});
            let last = json!({"type":"message_delta","delta":{"stop_reason":"tool_use"},
                "usage":{"output_tokens":7}});
            vec![
                format!("event: content_block_start\ndata: {block}\n\n"),
                format!("event: content_block_delta\ndata: {delta}\n\n"),
                "event: content_block_stop\ndata: {\"type\":\"content_block_stop\"}\n\n".into(),
                format!("event: message_delta\ndata: {last}\n\n"),
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".into(),
            ]
        }
        _ => {
            let call = json!({"message":{"role":"assistant","content":"","tool_calls":[
                {"function":{"name":"clock","arguments":{"zone":"UTC"}}}]},"done":false});
            let last = json!({"message":{"content":""},"done":true,"done_reason":"stop"});
            vec![format!("{call}\n"), format!("{last}\n")]
        }
    };
    for kind in WIRES {
        let mut script: Vec<_> = parts(kind).into_iter().map(Step::Say).collect();
        script.push(Step::Finish);
        let double = Double::streaming(content_type(kind), script).await;
        let said = ask(&config(kind, &double.url)).await;
        assert_eq!(said.calls.len(), 1, "{kind:?}");
        assert_eq!(said.calls[0].name, "clock", "{kind:?}");
        assert_eq!(said.calls[0].arguments, json!({"zone":"UTC"}), "{kind:?}");
        assert!(!said.calls[0].id.is_empty());
        assert_eq!(said.end, Ok(FinishReason::ToolCalls), "{kind:?}");
    }
}

#[tokio::test]
async fn an_error_answer_has_its_code_and_its_text_stays_here() {
    let cases = [
        ("401 Unauthorized", "{}", ErrorCode::ProviderUnauthorized),
        ("404 Not Found", "{}", ErrorCode::ModelNotFound),
        ("429 Too Many Requests", "{}", ErrorCode::ProviderRateLimited),
        ("500 Internal Server Error", "{}", ErrorCode::ProviderUnavailable),
        ("529 Overloaded", "{}", ErrorCode::ProviderUnavailable),
        ("400 Bad Request", r#"{"error":{"code":"context_length_exceeded"}}"#, ErrorCode::ContextTooLong),
        ("400 Bad Request", "{}", ErrorCode::ProviderError),
        // Nobody follows a redirect with a key in hand.
        ("307 Temporary Redirect", "{}", ErrorCode::ProviderError),
    ];
    for kind in WIRES {
        for (status, body, code) in cases {
            let body = format!("{body} canary {KEY}");
            let double = Double::failing(status, &body).await;
            let failure = ask(&config(kind, &double.url)).await.end.unwrap_err();
            assert_eq!(failure.code, code, "{kind:?} {status}");
            assert_eq!(failure.to_string(), code.as_str());
            assert!(!format!("{failure:?}").contains("canary"));
            assert!(failure.detail.contains("canary"), "{}", failure.detail);
            assert!(!failure.detail.contains(KEY), "{}", failure.detail);
        }
    }
}

#[tokio::test]
async fn an_error_in_the_middle_has_its_code() {
    let cases = [
        (ProviderKind::OpenAi, "data: {\"error\":{\"type\":\"server_error\",\"message\":\"m\"}}\n\n", ErrorCode::ProviderUnavailable),
        (
            ProviderKind::Anthropic,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
            ErrorCode::ProviderUnavailable,
        ),
        (ProviderKind::Ollama, "{\"error\":\"model runner has unexpectedly stopped\"}\n", ErrorCode::ProviderUnavailable),
    ];
    for (kind, line, code) in cases {
        let mut script = opening(kind, "a", "b");
        script.extend([Step::Say(line.into()), Step::Finish]);
        let double = Double::streaming(content_type(kind), script).await;
        let said = ask(&config(kind, &double.url)).await;
        assert_eq!(said.end.unwrap_err().code, code, "{kind:?}");
    }
}

#[tokio::test]
async fn a_cut_answer_is_a_failure_and_never_a_short_answer() {
    for kind in WIRES {
        for end in [Step::Cut, Step::Finish] {
            let mut script = opening(kind, "half of ", "an answer");
            script.push(end);
            let double = Double::streaming(content_type(kind), script).await;
            let said = ask(&config(kind, &double.url)).await;
            let failure = said.end.unwrap_err();
            assert_eq!(failure.code, ErrorCode::ProviderUnavailable, "{kind:?}");
            assert!(failure.code.retryable());
        }
    }
}

#[tokio::test]
async fn dropping_the_answer_closes_the_connection() {
    crypto();
    for kind in WIRES {
        let mut script = opening(kind, "first ", "second");
        script.push(Step::AwaitClose);
        let mut double = Double::streaming(content_type(kind), script).await;
        let mut events = provider(&config(kind, &double.url)).unwrap().chat(request());
        let first = within(events.next()).await.unwrap().unwrap();
        assert!(first == ProviderEvent::TextDelta("first ".into()), "{kind:?}");
        drop(events);
        within(double.closed.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_provider_is_a_timeout() {
    for kind in WIRES {
        let mut script = opening(kind, "first ", "second");
        script.push(Step::AwaitClose);
        let double = Double::streaming(content_type(kind), script).await;
        let mut config = config(kind, &double.url);
        config.timeout = Duration::from_millis(200);
        let said = ask(&config).await;
        assert_eq!(said.text, "first second");
        assert_eq!(said.end.unwrap_err().code, ErrorCode::ProviderTimeout, "{kind:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    // A port that was free a moment ago.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    for kind in WIRES {
        let failure = ask(&config(kind, &url)).await.end.unwrap_err();
        assert_eq!(failure.code, ErrorCode::ProviderUnavailable, "{kind:?}");
    }
}

#[tokio::test]
async fn a_model_is_known_only_at_the_vendors_own_address() {
    crypto();
    for kind in WIRES {
        let mut config = config(kind, "http://localhost:1/");
        let named = |config: &ProviderConfig| {
            let provider = provider(config).unwrap();
            provider.default_model().map(str::to_owned)
        };
        assert_eq!(named(&config), None, "{kind:?}");
        config.base_url = None;
        assert_eq!(named(&config).is_some(), kind != ProviderKind::Ollama);
        config.default_model = Some("mine".into());
        assert_eq!(named(&config).as_deref(), Some("mine"));
    }
}
