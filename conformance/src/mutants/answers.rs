//! Mutants that change answers.

use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::{Ask, Mutant, Reply, by_answer};

fn v1_failed(ask: &Ask, reply: &Reply) -> bool {
    ask.path.starts_with("/v1/") && reply.status >= 400
}

fn api_failed(ask: &Ask, reply: &Reply) -> bool {
    ask.path.starts_with("/api/v1/") && reply.status >= 400
}

/// Changes every text of a JSON value.
fn each_text(value: &mut Value, change: &impl Fn(&str, &str) -> Option<String>, name: &str) {
    match value {
        Value::String(text) => {
            if let Some(changed) = change(name, text) {
                *text = changed;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, change, name)),
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.clone();
                each_text(value, change, &name);
            }
        }
        _ => {}
    }
}

pub(super) const MUTANTS: &[Mutant] = &[
    by_answer("errors of /v1 have one more member", "ERR-001", |ask, reply, _| {
        if v1_failed(ask, reply) {
            reply.edit(|body| body["status"] = json!("error"));
        }
    }),
    by_answer("errors of /v1 lack the correlation id", "ERR-001", |ask, reply, _| {
        if v1_failed(ask, reply) {
            reply.edit_at("", |body| drop(body.remove("correlation_id")));
        }
    }),
    by_answer("errors of /api/v1 do not say whether to retry", "ERR-002", |ask, reply, _| {
        if api_failed(ask, reply) {
            reply.edit_at("", |body| drop(body.remove("retryable")));
        }
    }),
    by_answer("errors of /api/v1 are plain text", "ERR-002", |ask, reply, _| {
        if api_failed(ask, reply) {
            reply.set("content-type", "text/plain");
        }
    }),
    by_answer("a missing run is 400", "ERR-003", |ask, reply, _| {
        if v1_failed(ask, reply) && reply.status == 404 {
            reply.status = 400;
        }
    }),
    by_answer("a wrong request is called retryable", "ERR-003", |ask, reply, _| {
        if v1_failed(ask, reply) && reply.status == 400 {
            reply.edit_at("/error", |error| drop(error.insert("retryable".into(), json!(true))));
        }
    }),
    by_answer("an error code is renamed", "ERR-003", |ask, reply, _| {
        if v1_failed(ask, reply) {
            reply.edit_at("/error", |error| {
                if error.get("code") == Some(&json!("not_found")) {
                    error.insert("code".into(), json!("missing"));
                }
            });
        }
    }),
    by_answer("an unknown path is answered by a page", "ERR-004", |ask, reply, _| {
        if reply.status == 404 && ask.path.contains("nothing-of-this-name") {
            reply.body = b"<html>not found</html>".to_vec();
            reply.set("content-type", "text/html");
        }
    }),
    by_answer("405 without Allow", "ERR-004", |_, reply, _| drop(reply.headers.remove("allow"))),
    by_answer("no issues", "ERR-005", |ask, reply, _| {
        if v1_failed(ask, reply) {
            reply.edit_at("/error", |error| drop(error.remove("details")));
        }
    }),
    by_answer("no JSON is an invalid request like any other", "ERR-006", |ask, reply, _| {
        if v1_failed(ask, reply) {
            reply.edit_at("/error", |error| {
                if error.get("code") == Some(&json!("invalid_json")) {
                    error.insert("code".into(), json!("invalid_request"));
                }
            });
        }
    }),
    by_answer("errors repeat the value that was given", "ERR-007", |ask, reply, _| {
        if api_failed(ask, reply) && reply.status == 400 {
            let given = String::from_utf8_lossy(&ask.body).into_owned();
            reply.edit(|body| {
                let text = format!("{}: {given}", body["error"].as_str().unwrap_or_default());
                body["error"] = json!(text);
            });
        }
    }),
    by_answer("429 does not say when", "ERR-009", |_, reply, _| drop(reply.headers.remove("retry-after"))),
    by_answer("401 without a challenge", "ERR-010", |_, reply, _| drop(reply.headers.remove("www-authenticate"))),
    by_answer("the correlation id is not the caller's", "COR-001", |ask, reply, _| {
        if ask.path.starts_with("/v1/") {
            reply.set("x-correlation-id", "corr_00000000000000000000000000");
        }
    }),
    by_answer("every request has one correlation id", "COR-001", |ask, reply, _| {
        if ask.path.starts_with("/v1/") && ask.header("x-correlation-id").is_empty() && ask.header("x-request-id").is_empty() {
            reply.edit(|body| body["correlation_id"] = json!("corr_00000000000000000000000000"));
        }
    }),
    by_answer("no request id", "COR-002", |_, reply, _| drop(reply.headers.remove("x-request-id"))),
    by_answer("request ids of any kind are echoed", "COR-003", |ask, reply, _| {
        if let Some(given) = ask.headers.get("x-request-id") {
            reply.headers.insert("x-request-id", given.clone());
        }
    }),
    by_answer("the correlation id is inside the run", "COR-006", |ask, reply, _| {
        if ask.path.starts_with("/v1/") {
            reply.edit_at("/run", |run| drop(run.insert("correlation_id".into(), json!("corr_x"))));
        }
    }),
    by_answer("a replay answers 201", "IDM-001", |ask, reply, _| {
        if ask.makes_run() && reply.status == 200 {
            reply.status = 201;
        }
    }),
    by_answer("a replay does not say so", "IDM-001", |_, reply, _| drop(reply.headers.remove("idempotency-replayed"))),
    by_answer("a replayed chat does not say so", "IDM-009", |_, reply, _| drop(reply.headers.remove("idempotent-replayed"))),
    by_answer("the list of agents redirects", "AGT-001", |ask, reply, _| {
        if ask.is("GET", "/v1/agents") {
            reply.status = 301;
            reply.set("location", "/v1/agents/");
        }
    }),
    by_answer("agents have one more member", "AGT-001", |ask, reply, _| {
        if ask.is("GET", "/v1/agents") {
            reply.edit(|body| each_agent(body, |agent| agent["owner"] = json!("usr_x")));
        }
    }),
    by_answer("agents have a state that nobody knows", "AGT-001", |ask, reply, _| {
        if ask.is("GET", "/v1/agents") {
            reply.edit(|body| each_agent(body, |agent| agent["status"] = json!("enabled")));
        }
    }),
    by_answer("handles are no names", "AGT-002", |ask, reply, _| {
        if ask.is("GET", "/v1/agents/conf-*") {
            *reply = Reply::new(
                404,
                &json!({ "error": { "code": "not_found", "message": "not found", "retryable": false }, "correlation_id": "x" }),
            );
        }
    }),
    by_answer("a forbidden agent is told apart from a missing one", "AGT-003", |ask, reply, memory| {
        if ask.is("POST", "/api/v1/agents") && reply.status == 201 {
            let id = reply.json()["data"]["id"].as_str().unwrap_or_default().to_owned();
            memory.texts.insert(id, String::new());
        }
        let known = ask.path.split('/').any(|part| memory.texts.contains_key(part));
        if known && v1_failed(ask, reply) && reply.status == 404 {
            reply.edit_at("/error", |error| drop(error.insert("message".into(), json!("this agent is not for you"))));
        }
    }),
    by_answer("an agent has the address of another one", "AGT-005", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents") {
            reply.edit_at("/data", |agent| drop(agent.insert("jid".into(), json!("agent-0@agents.hub-a.example"))));
        }
    }),
    by_answer("a description is lost", "AGT-005", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents") {
            reply.edit_at("/data/profile", |profile| drop(profile.insert("description".into(), json!(""))));
        }
    }),
    by_answer("prompts are shown to users", "AGT-015", |ask, reply, memory| {
        if ask.is("POST", "/api/v1/agents") {
            let prompt = ask.json()["system_prompt"].as_str().unwrap_or_default().to_owned();
            memory.texts.insert("prompt".into(), prompt);
        }
        if ask.is("GET", "/v1/agents/*") {
            let prompt = memory.texts.get("prompt").cloned().unwrap_or_default();
            reply.edit_at("/agent", |agent| drop(agent.insert("description".into(), json!(prompt))));
        }
    }),
    by_answer("an empty page is null", "AGT-017", |ask, reply, _| {
        if ask.is("GET", "/api/v1/agents") {
            reply.edit(|body| {
                if body["data"] == json!([]) {
                    body["data"] = Value::Null;
                }
            });
        }
    }),
    by_answer("a run is made with 200", "RUN-001", |ask, reply, _| {
        if ask.makes_run() && reply.status == 201 {
            reply.status = 200;
        }
    }),
    by_answer("a run does not say where its events are", "RUN-001", |ask, reply, _| {
        if ask.makes_run() {
            reply.edit_at("/run", |run| drop(run.remove("events_url")));
        }
    }),
    by_answer("what is absent is null", "RUN-002", |ask, reply, _| {
        if ask.path.starts_with("/v1/") {
            reply.edit_at("/run", |run| {
                run.entry("started_at").or_insert(Value::Null);
            });
        }
    }),
    by_answer("a new run cannot be read at once", "RUN-003", |ask, reply, memory| {
        if ask.is("GET", "/v1/runs/*") && memory.texts.insert(ask.path.clone(), String::new()).is_none() {
            reply.status = 404;
        }
    }),
    by_answer("another default of max_steps", "RUN-005", |ask, reply, _| {
        if ask.makes_run() {
            reply.edit_at("/run/run_options", |options| drop(options.insert("max_steps".into(), json!(8))));
        }
    }),
    by_answer("unknown members come back", "RUN-007", |ask, reply, _| {
        if ask.makes_run() && ask.json().get("x_strange").is_some() {
            reply.edit_at("/run", |run| drop(run.insert("x_strange".into(), json!(1))));
        }
    }),
    by_answer("a missing run is an empty one", "RUN-011", |ask, reply, _| {
        if ask.is("GET", "/v1/runs/*") && reply.status == 404 {
            *reply = Reply::new(200, &json!({ "run": {}, "correlation_id": "x" }));
        }
    }),
    by_answer("a state that nobody knows", "RUN-012", |ask, reply, _| {
        if ask.is("GET", "/v1/runs/*") {
            reply.edit_at("/run", |run| {
                if run.get("status") == Some(&json!("completed")) {
                    run.insert("status".into(), json!("succeeded"));
                }
            });
        }
    }),
    by_answer("a completed run has no output", "RUN-013", |ask, reply, _| {
        if ask.is("GET", "/v1/runs/*") {
            reply.edit_at("/run", |run| drop(run.insert("output".into(), Value::Null)));
        }
    }),
    by_answer("a cancel is only taken", "RUN-014", |ask, reply, _| {
        if ask.is("POST", "/v1/runs/*:cancel") && reply.status == 200 {
            reply.status = 202;
        }
    }),
    by_answer("a second cancel succeeds", "RUN-015", |ask, reply, _| {
        if ask.is("POST", "/v1/runs/*:cancel") && reply.status == 409 {
            *reply = Reply::new(200, &json!({ "run": { "status": "canceled" }, "correlation_id": "x" }));
        }
    }),
    by_answer("a timeout is called an internal error", "RUN-016", |ask, reply, _| {
        if ask.is("GET", "/v1/runs/*") {
            reply.edit_at("/run/error", |error| drop(error.insert("code".into(), json!("internal_error"))));
        }
    }),
    by_answer("a run has another id on the other surface", "RUN-019", |ask, reply, _| {
        if ask.is("GET", "/api/v1/runs/*") {
            reply.edit_at("/data", |run| drop(run.insert("id".into(), json!("00000000-0000-7000-8000-000000000000"))));
        }
    }),
    by_answer("a chat does not name its run", "RUN-020", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents/*/chat") {
            reply.edit_at("/data", |data| drop(data.remove("run_id")));
        }
    }),
    by_answer("a detached chat has no Location", "RUN-022", |_, reply, _| drop(reply.headers.remove("location"))),
    by_answer("history is backwards", "RUN-026", |ask, reply, _| {
        if ask.is("GET", "/api/v1/agents/*/history") {
            reply.edit(|body| {
                if let Some(list) = body["data"].as_array_mut() {
                    list.reverse();
                }
            });
        }
    }),
    by_answer("streams have no charset", "STR-007", |ask, reply, _| {
        if ask.path.ends_with("/events") && reply.status == 200 {
            reply.set("content-type", "text/event-stream");
        }
    }),
    by_answer("streams may be kept by caches", "STR-007", |ask, reply, _| {
        if ask.path.ends_with("/events") {
            reply.headers.remove("cache-control");
        }
    }),
    by_answer("past the end is an empty answer with 200", "STR-017", |ask, reply, _| {
        if ask.path.ends_with("/events") && reply.status == 204 {
            reply.status = 200;
        }
    }),
    by_answer("answers do not name the tenant", "TEN-001", |_, reply, _| drop(reply.headers.remove("x-tenant-id"))),
    by_answer("without a credential protected things look missing", "TEN-011", |_, reply, _| {
        if reply.status == 401 {
            reply.status = 404;
        }
    }),
    by_answer("a failed login tells whether the account exists", "TEN-022", |ask, reply, _| {
        if ask.is("POST", "/api/v1/auth/login")
            && reply.status == 401
            && ask.json()["email"].as_str().is_some_and(|email| email.starts_with("nobody-"))
        {
            reply.edit(|body| body["error"] = json!("no such account"));
        }
    }),
    by_answer("secrets of keys are listed", "TEN-026", |ask, reply, memory| {
        if ask.is("POST", "/api/v1/keys") {
            let secret = reply.json()["data"]["secret"].as_str().unwrap_or_default().to_owned();
            memory.texts.insert("secret".into(), secret);
        }
        if ask.is("GET", "/api/v1/keys") {
            let secret = memory.texts.get("secret").cloned().unwrap_or_default();
            reply.edit(|body| body["data"][0]["secret"] = json!(secret));
        }
    }),
    by_answer("ids below /v1 are UUIDs", "TEN-028", |ask, reply, _| {
        if ask.is("GET", "/v1/runs/*") {
            reply.edit_at("/run", |run| drop(run.insert("run_id".into(), json!("00000000-0000-7000-8000-000000000000"))));
        }
    }),
    by_answer("times have an offset", "TEN-029", |_, reply, _| {
        reply.edit(|body| {
            each_text(body, &|name, text| (name.ends_with("_at") && text.ends_with('Z')).then(|| text.replace('Z', "+00:00")), "");
        });
    }),
    by_answer("models have one more member", "MOD-001", |ask, reply, _| {
        if ask.is("GET", "/v1/models") {
            reply.edit(|body| {
                for model in body["models"].as_array_mut().into_iter().flatten() {
                    model["price"] = json!(1);
                }
            });
        }
    }),
    by_answer("the answer has another request id", "MOD-003", |ask, reply, _| {
        if ask.is("POST", "/v1/models:invoke") {
            reply.edit_at("/response", |response| drop(response.insert("request_id".into(), json!("req_other"))));
        }
    }),
    by_answer("usage does not add up", "MOD-004", |ask, reply, _| {
        if ask.is("POST", "/v1/models:invoke") {
            reply.edit_at("/response/usage", |usage| drop(usage.insert("total_tokens".into(), json!(1))));
        }
    }),
    by_answer("usage tells a cost", "MOD-004", |ask, reply, _| {
        if ask.is("POST", "/v1/models:invoke") {
            reply.edit_at("/response/usage", |usage| drop(usage.insert("cost_usd".into(), json!(0.1))));
        }
    }),
    by_answer("the route does not tell of a fallback", "MOD-005", |ask, reply, _| {
        if ask.is("POST", "/v1/models:invoke") {
            reply.edit_at("/response/route", |route| drop(route.remove("fallback_used")));
        }
    }),
    by_answer("vectors are in another order", "MOD-006", |ask, reply, _| {
        if ask.is("POST", "/v1/models:invoke") {
            reply.edit(|body| {
                if let Some(list) = body["response"]["output"]["embeddings"].as_array_mut() {
                    list.reverse();
                }
            });
        }
    }),
    by_answer("a wrong model request is a server error", "MOD-009", |ask, reply, _| {
        if ask.is("POST", "/v1/models:invoke") && reply.status == 400 {
            reply.status = 500;
        }
    }),
    by_answer("a completion is called something else", "MOD-013", |_, reply, _| {
        reply.edit(|body| {
            if body["object"] == json!("chat.completion") {
                body["object"] = json!("text_completion");
            }
        });
    }),
    by_answer("a check has one more member", "POL-001", |_, reply, _| {
        reply.edit_at("/policy_result", |result| drop(result.insert("score".into(), json!(0.5))));
    }),
    by_answer("addresses are not found", "POL-002", |_, reply, _| {
        reply.edit_at("/policy_result", |result| drop(result.insert("decision".into(), json!("allowed"))));
    }),
    by_answer("an answer holds what was masked", "POL-004", |ask, reply, _| {
        if ask.is("POST", "/v1/models:invoke") {
            let given = ask.json()["request"]["input"]["messages"][0]["content"].clone();
            reply.edit_at("/response/output/message", |message| drop(message.insert("content".into(), given)));
        }
    }),
    by_answer("nosniff is missing on errors", "SEC-001", |_, reply, _| {
        if reply.status >= 400 {
            reply.headers.remove("x-content-type-options");
        }
    }),
    by_answer("every origin is allowed", "SEC-002", |ask, reply, _| {
        if let Ok(origin) = HeaderValue::from_str(&ask.header("origin")) {
            reply.headers.insert("access-control-allow-origin", origin);
        }
    }),
    by_answer("tokens come back in errors", "SEC-008", |ask, reply, _| {
        if reply.status == 401 {
            let token = ask.token();
            reply.edit_at("/error", |error| drop(error.insert("message".into(), json!(token))));
        }
    }),
    by_answer("alive says something else", "OPS-001", |ask, reply, _| {
        if ask.is("GET", "/health/live") {
            reply.edit(|body| body["data"]["status"] = json!("ok"));
        }
    }),
    by_answer("health does not name its version", "OPS-004", |ask, reply, _| {
        if ask.is("GET", "/v1/health") {
            reply.edit_at("", |body| drop(body.remove("version")));
        }
    }),
    by_answer("the trust document is not signed", "FED-002", |ask, reply, _| {
        if ask.path == "/.well-known/aiox-federation.json" {
            reply.edit(|body| body["signature"] = json!("e30..AAAA"));
        }
    }),
    by_answer("the trust document is valid for a month", "FED-003", |ask, reply, _| {
        if ask.path == "/.well-known/aiox-federation.json" {
            reply.edit(|body| body["not_after"] = json!("2099-01-01T00:00:00Z"));
        }
    }),
];

fn each_agent(body: &mut Value, change: impl Fn(&mut Value)) {
    for agent in body["agents"].as_array_mut().into_iter().flatten() {
        change(agent);
    }
}
