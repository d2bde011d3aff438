//! Mutants of models, content policy, allowances and metrics.

use reqwest::header::HeaderValue;
use serde_json::json;

use super::{Ask, Mutant, Reply, by_answer};

const INVOKE: &str = "/v1/models:invoke";

fn completion(ask: &Ask) -> bool {
    ask.path.ends_with("/chat/completions")
}

/// Takes what was refused with this status.
fn take(reply: &mut Reply, refused: u16) {
    if reply.status == refused {
        *reply = Reply::new(200, &json!({}));
    }
}

pub(super) const MUTANTS: &[Mutant] = &[
    by_answer("a model is listed that is not there", "MOD-002", |ask, reply, _| {
        if ask.is("GET", "/v1/models") {
            reply.edit(|body| {
                let more = json!({ "model_id": "echo-of-nobody", "provider": "echo", "capabilities": ["chat"] });
                body["models"].as_array_mut().into_iter().for_each(|models| models.push(more.clone()));
            });
        }
    }),
    by_answer("too many tokens are cut without a word", "MOD-010", |ask, reply, _| {
        if ask.is("POST", INVOKE) && !ask.json()["request"]["generation"]["max_output_tokens"].is_null() {
            *reply = Reply::new(200, &json!({ "response": { "policy_outcome": { "reasons": [] } } }));
        }
    }),
    by_answer("the built-in model throws dice", "MOD-011", |ask, reply, memory| {
        if ask.is("POST", INVOKE) {
            memory.count += 1;
            let text = format!("answer {}", memory.count);
            reply.edit_at("/response/output/message", |message| drop(message.insert("content".into(), json!(text))));
        }
    }),
    by_answer("vectors in OpenAI's shape have no number", "MOD-015", |ask, reply, _| {
        if ask.path.ends_with("/embeddings") {
            reply.edit_at("/data/0", |vector| drop(vector.remove("index")));
        }
    }),
    by_answer("models in OpenAI's shape have no owner", "MOD-016", |ask, reply, _| {
        if ask.is("GET", "/openai/v1/models") {
            reply.edit_at("/data/0", |model| drop(model.remove("owned_by")));
        }
    }),
    by_answer("a model that nobody knows completes", "MOD-017", |ask, reply, _| {
        if completion(ask) {
            take(reply, 404);
        }
    }),
    by_answer("policy does not act on completions", "MOD-018", |ask, reply, _| {
        if completion(ask) {
            take(reply, 403);
        }
    }),
    by_answer("parameters without effect are taken", "MOD-019", |ask, reply, _| {
        if completion(ask) {
            take(reply, 400);
        }
    }),
    by_answer("a check without a text is allowed", "POL-003", |ask, reply, _| {
        if ask.is("POST", "/v1/policy:check") {
            take(reply, 400);
        }
    }),
    by_answer("of messages at once one too many is accepted", "POL-012", |ask, reply, memory| {
        if ask.is("POST", "/api/v1/agents/*/chat") && reply.status == 429 {
            memory.count += 1;
            if memory.count == 1 {
                *reply = Reply::new(202, &json!({ "data": { "id": "x", "status": "queued" } }));
            }
        }
    }),
    by_answer("messages of others are charged", "POL-014", |ask, reply, memory| {
        if ask.is("GET", "/api/v1/governance/quota") {
            memory.count += 1;
            let used = memory.count;
            reply.edit_at("/data", |quota| drop(quota.insert("requests_today".into(), json!(used))));
        }
    }),
    by_answer("a result is charged twice", "WRK-013", |ask, reply, _| {
        if ask.is("GET", "/api/v1/governance/quota") {
            reply.edit_at("/data", |quota| drop(quota.insert("tokens_used_today".into(), json!(90))));
        }
    }),
    by_answer("paths of clients are labels", "OPS-007", |ask, reply, memory| {
        memory.texts.insert(ask.path.clone(), String::new());
        if ask.is("GET", "/metrics") && reply.status == 200 {
            for path in memory.texts.keys() {
                reply.body.extend(format!("aiox_http_requests_total{{path=\"{path}\"}} 1\n").into_bytes());
            }
        }
    }),
    by_answer("sign-in has no limit", "SEC-003", |ask, reply, _| {
        if ask.is("POST", "/api/v1/auth/login") && reply.status == 429 {
            reply.status = 401;
        }
    }),
    by_answer("the limit of sign-in does not say when", "SEC-003", |ask, reply, _| {
        if ask.is("POST", "/api/v1/auth/login") {
            reply.headers.remove("retry-after");
        }
    }),
    by_answer("a hostile body is a server error", "SEC-004", |ask, reply, _| {
        if ask.body.len() > 9_000 && reply.status == 400 {
            reply.status = 500;
        }
    }),
    by_answer("credentials are allowed beside any origin", "SEC-002", |_, reply, _| {
        reply.headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        reply.headers.insert("access-control-allow-credentials", HeaderValue::from_static("true"));
    }),
];
