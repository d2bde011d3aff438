//! Mutants of tenants, credentials, accounts, and of agents as their users see them.

use reqwest::Method;
use serde_json::json;

use super::{Ask, Mutant, Reply, by_answer, by_request};

fn registers(ask: &Ask) -> bool {
    ask.is("POST", "/api/v1/auth/register")
}

fn tenants(ask: &Ask) -> bool {
    ask.is("POST", "/v1/admin/tenants")
}

fn unauthorized() -> Reply {
    let error = json!({ "code": "unauthorized", "message": "unauthorized", "retryable": false });
    Reply::new(401, &json!({ "error": error, "correlation_id": "x" }))
}

pub(super) const MUTANTS: &[Mutant] = &[
    by_answer("a request without a tenant is forbidden", "TEN-003", |ask, reply, _| {
        if ask.is("GET", "/v1/agents") && reply.status == 400 {
            reply.status = 403;
        }
    }),
    by_answer("an unknown tenant is forbidden like anything", "TEN-004", |ask, reply, _| {
        if ask.is("GET", "/v1/agents") && reply.status == 403 {
            reply.edit_at("/error", |error| drop(error.insert("code".into(), json!("forbidden"))));
        }
    }),
    by_request("a bare tenant is refused", "TEN-007", |ask, _| {
        let error = json!({ "code": "invalid_request", "message": "tenant is missing", "retryable": false });
        (tenants(ask) && !ask.json()["name"].is_null()).then(|| Reply::new(400, &json!({ "error": error, "correlation_id": "x" })))
    }),
    by_answer("a new tenant is not in the list", "TEN-007", |ask, reply, _| {
        if ask.is("GET", "/v1/admin/tenants") {
            reply.edit(|body| body["tenants"] = json!([]));
        }
    }),
    by_answer("a tenant can be made twice", "TEN-008", |ask, reply, _| {
        if tenants(ask) && reply.status == 409 {
            reply.status = 201;
        }
    }),
    by_request("schemes are compared letter by letter", "TEN-012", |ask, _| {
        ask.header("authorization").starts_with("BEARER ").then(unauthorized)
    }),
    by_request("keys do not count below /v1", "TEN-013", |ask, _| {
        let key = !ask.token().is_empty() && !ask.token().contains('.');
        (ask.path.starts_with("/v1/") && key).then(unauthorized)
    }),
    by_answer("a header identity is served in production", "TEN-017", |ask, reply, _| {
        if ask.is("GET", "/v1/agents") && !ask.header("x-principal-id").is_empty() && reply.status == 401 {
            *reply = Reply::new(200, &json!({ "agents": [], "correlation_id": "x" }));
        }
    }),
    by_answer("a header identity in production is forbidden", "TEN-017", |ask, reply, _| {
        if ask.is("GET", "/v1/agents") && !ask.header("x-principal-id").is_empty() && reply.status == 401 {
            reply.edit_at("/error", |error| drop(error.insert("code".into(), json!("forbidden"))));
        }
    }),
    by_answer("a header identity administers", "TEN-016", |ask, reply, _| {
        if ask.is("GET", "/v1/admin/tenants") && ask.header("authorization").is_empty() {
            *reply = Reply::new(200, &json!({ "tenants": [] }));
        }
    }),
    by_answer("X-Scopes opens the administration", "TEN-018", |ask, reply, _| {
        if ask.path.starts_with("/v1/admin/") && ask.header("x-scopes") == "tenants:admin" {
            *reply = Reply::new(200, &json!({ "tenants": [] }));
        }
    }),
    by_answer("passwords of any length are taken", "TEN-020", |ask, reply, _| {
        if registers(ask) && reply.status == 400 {
            reply.status = 201;
        }
    }),
    by_answer("a new account has no refresh token", "TEN-020", |ask, reply, _| {
        if registers(ask) {
            reply.edit_at("/data", |data| drop(data.remove("refresh_token")));
        }
    }),
    by_answer("addresses are compared letter by letter", "TEN-021", |ask, reply, _| {
        if registers(ask) && reply.status == 409 {
            reply.status = 201;
        }
    }),
    by_answer("a stolen refresh token harms nobody", "TEN-024", |ask, reply, _| {
        if ask.is("GET", "/api/v1/me") && reply.status == 401 {
            reply.status = 200;
        }
    }),
    by_answer("an agent has another name below /v1", "AGT-004", |ask, reply, _| {
        if ask.is("GET", "/v1/agents/*") {
            reply.edit_at("/agent", |agent| drop(agent.insert("name".into(), json!("somebody"))));
        }
    }),
    by_answer("any configuration is taken", "AGT-007", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents") && reply.status == 400 {
            reply.status = 201;
        }
    }),
    by_answer("unknown members of a configuration are lost", "AGT-007", |ask, reply, _| {
        if ask.is("GET", "/api/v1/agents/*") {
            reply.edit_at("/data/llm_config", |config| drop(config.remove("x_unknown")));
        }
    }),
    by_answer("handles are used again", "AGT-011", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents") && reply.status == 409 {
            reply.status = 201;
        }
    }),
    by_answer("another's agent can be deleted", "AGT-012", |ask, reply, _| {
        if ask.method == Method::DELETE && reply.status == 403 {
            reply.status = 200;
        }
    }),
    by_answer("an agent that is not for the caller is forbidden to talk to", "AGT-013", |ask, reply, memory| {
        if ask.is("POST", "/api/v1/agents/*/chat") && reply.status == 404 {
            memory.count += 1;
            if memory.count == 2 {
                reply.status = 403;
            }
        }
    }),
    by_answer("what can be no name is a missing agent", "AGT-016", |ask, reply, _| {
        if ask.is("GET", "/api/v1/agents/*") && reply.status == 400 {
            reply.status = 404;
        }
    }),
    by_answer("runs of a conversation begin at once", "RUN-018", |ask, reply, _| {
        if ask.is("GET", "/v1/runs/*") {
            reply.edit_at("/run", |run| drop(run.insert("started_at".into(), json!("2026-01-01T00:00:00.000000Z"))));
        }
    }),
    by_answer("a run for a peer that is away is called running", "FED-035", |ask, reply, _| {
        if ask.is("GET", "/api/v1/runs/*") {
            reply.edit_at("/data", |run| {
                if run.get("status") == Some(&json!("queued")) {
                    run.insert("status".into(), json!("running"));
                }
            });
        }
    }),
];
