//! Mutants that change what reaches the hub, or answer in its place.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Ask, Memory, Mutant, Reply, by_both, by_request};

pub(super) const MUTANTS: &[Mutant] = &[
    by_request("the idempotency key is ignored", "IDM-001", |ask, _| {
        if ask.makes_run() {
            without_key(ask);
        }
        None
    }),
    by_both("the key counts for every agent and principal", "IDM-003", key_for_all, remember_by_key),
    by_request("of parallel requests with one key every 25th makes a run", "IDM-004", |ask, memory| {
        if ask.makes_run() && !ask.header("idempotency-key").is_empty() {
            memory.count += 1;
            if memory.count % 25 == 0 {
                without_key(ask);
            }
        }
        None
    }),
    by_both(
        "the same key with another body gets the first answer",
        "IDM-002",
        |_, _| None,
        |ask, reply, memory| {
            remember_by_key(ask, reply, memory);
            if ask.makes_run()
                && reply.status == 409
                && let Some(first) = memory.answers.get(&ask.header("idempotency-key"))
            {
                *reply = Reply { status: 200, ..first.clone() };
            }
        },
    ),
    by_request("long keys are cut", "IDM-005", |ask, _| {
        if ask.makes_run() {
            ask.edit(|body| {
                if let Some(key) = body.get("idempotency_key").and_then(Value::as_str).filter(|key| key.len() > 256) {
                    let cut = key[..256].to_owned();
                    body["idempotency_key"] = json!(cut);
                }
            });
        }
        None
    }),
    by_request("bodies are compared letter by letter", "IDM-006", |ask, _| {
        if ask.makes_run() && !ask.header("idempotency-key").is_empty() {
            let key = format!("{}-{}", ask.header("idempotency-key"), ask.body.len());
            ask.set("idempotency-key", &key);
        }
        None
    }),
    by_request("trace context is dropped", "COR-004", |ask, _| {
        ask.drop_header("traceparent");
        None
    }),
    by_request("a bad traceparent is refused", "COR-005", |ask, _| {
        let bad = ask.header("traceparent");
        let refused = !bad.is_empty()
            && (bad.len() != 55 || bad.contains("-0000000000000000-") || bad.contains("-00000000000000000000000000000000-"));
        refused.then(|| v1_error(400, "invalid_request", "bad traceparent"))
    }),
    by_request("a text as input is refused", "RUN-006", |ask, _| {
        (ask.makes_run() && ask.json()["input"].is_string()).then(|| v1_error(400, "invalid_request", "input must be an object"))
    }),
    by_request("an empty input is taken", "RUN-008", |ask, _| {
        if ask.makes_run() {
            ask.edit(|body| {
                if body["input"] == json!("") {
                    body["input"] = json!("x");
                }
            });
        }
        None
    }),
    by_request("a timeout of 0 is taken", "RUN-008", |ask, _| {
        if ask.makes_run() {
            ask.edit(|body| {
                if body["run_options"]["timeout_ms"] == json!(0) {
                    body["run_options"]["timeout_ms"] = json!(1000);
                }
            });
        }
        None
    }),
    by_request("dry_run calls the provider", "RUN-010", |ask, _| {
        if ask.makes_run() {
            ask.edit(|body| {
                if body["run_options"]["dry_run"] == json!(true) {
                    body["run_options"]["dry_run"] = json!(false);
                }
            });
        }
        None
    }),
    by_request("a cancel is answered and not done", "RUN-014", |ask, _| {
        ask.is("POST", "/v1/runs/*:cancel").then(|| {
            Reply::new(200, &json!({ "run": { "status": "canceled", "completed_at": "2026-01-01T00:00:00Z" }, "correlation_id": "x" }))
        })
    }),
    by_request("the cursor is lost", "STR-015", |ask, _| {
        if ask.path.ends_with("/events") {
            ask.query.clear();
            ask.drop_header("last-event-id");
        }
        None
    }),
    by_request("Last-Event-ID wins over the query", "STR-016", |ask, _| {
        if ask.path.ends_with("/events") && !ask.header("last-event-id").is_empty() {
            ask.query.clear();
        }
        None
    }),
    by_request("a cursor that is no number is taken for 0", "STR-017", |ask, _| {
        if ask.path.ends_with("/events") && ask.query.strip_prefix("after_sequence=").is_some_and(|cursor| cursor.parse::<u64>().is_err()) {
            ask.query.clear();
        }
        None
    }),
    by_request("another tenant in the header is ignored", "TEN-002", |ask, _| {
        if !ask.header("authorization").is_empty() {
            ask.drop_header("x-tenant-id");
        }
        None
    }),
    by_request("a leaked tenant: services read the runs of accounts", "TEN-006", |ask, memory| {
        borrow_token(ask, memory, |ask, own| ask.path.starts_with("/v1/runs/") && own != ask.token());
        None
    }),
    by_request("alg none is accepted", "TEN-014", |ask, memory| {
        borrow_token(ask, memory, |ask, _| header_of(&ask.token())["alg"] == json!("none"));
        None
    }),
    by_request("signatures of access tokens are not verified", "TEN-014", |ask, memory| {
        borrow_token(ask, memory, |ask, own| {
            let token = ask.token();
            let claims = |token: &str| token.split('.').nth(1).map(str::to_owned);
            header_of(&token) == header_of(own) && claims(&token).is_some() && claims(&token) != claims(own)
        });
        None
    }),
    by_request("a bad credential falls back to the header identity", "TEN-015", |ask, _| {
        if !ask.header("x-principal-id").is_empty() {
            ask.drop_header("authorization");
            ask.drop_header("x-api-key");
        }
        None
    }),
    by_request("X-Scopes adds scopes", "TEN-019", |ask, memory| {
        borrow_token(ask, memory, |ask, _| !ask.header("x-scopes").is_empty());
        None
    }),
    by_both(
        "a used refresh token works again",
        "TEN-023",
        |ask, memory| again(ask, memory, "/api/v1/auth/refresh"),
        |ask, reply, memory| {
            if ask.is("POST", "/api/v1/auth/refresh") && reply.status == 200 {
                memory.answers.insert(String::from_utf8_lossy(&ask.body).into_owned(), reply.clone());
            }
        },
    ),
    by_request("logging out is answered and not done", "TEN-025", |ask, _| {
        ask.is("POST", "/api/v1/auth/logout").then(|| Reply::new(200, &json!({ "message": "logged out successfully" })))
    }),
    by_request("a revoked key goes on working", "TEN-026", |ask, _| {
        ask.is("DELETE", "/api/v1/keys/*").then(|| Reply::new(200, &json!({ "message": "key revoked successfully" })))
    }),
    by_request("long names are cut", "AGT-006", |ask, _| {
        if ask.is("POST", "/api/v1/agents") {
            ask.edit(|body| {
                if let Some(name) = body["name"].as_str().filter(|name| name.len() > 255) {
                    let cut = name[..255].to_owned();
                    body["name"] = json!(cut);
                }
            });
        }
        None
    }),
    by_request("a change empties what is not given", "AGT-008", |ask, _| {
        if ask.is("PUT", "/api/v1/agents/*") {
            ask.edit(|body| {
                if body.get("llm_config").is_none() {
                    body["llm_config"] = json!({});
                }
            });
        }
        None
    }),
    by_request("versions are not compared", "AGT-009", |ask, _| {
        if ask.is("PUT", "/api/v1/agents/*") {
            ask.edit(|body| {
                body.as_object_mut().map(|members| members.remove("version"));
            });
        }
        None
    }),
    by_request("a delete is answered and not done", "AGT-010", |ask, _| {
        ask.is("DELETE", "/api/v1/agents/*").then(|| Reply::new(200, &json!({ "message": "agent deleted successfully" })))
    }),
    by_request("a revoked grant goes on working", "AGT-014", |ask, _| {
        ask.is("DELETE", "/api/v1/agents/*/grants/*").then(|| Reply::new(200, &json!({ "message": "grant revoked successfully" })))
    }),
    by_request("runs of others can be read", "RUN-025", |ask, memory| {
        borrow_token(ask, memory, |ask, own| ask.is("GET", "/api/v1/runs/*") && own != ask.token());
        None
    }),
    by_request("an unknown model is replaced in silence", "MOD-007", |ask, _| {
        if ask.is("POST", "/v1/models:invoke") {
            ask.edit(|body| {
                let unknown = body["request"]["model_ref"].as_str().is_some_and(|model| model.contains("no-such-model"));
                if unknown {
                    body["request"]["model_ref"] = json!("tier:fast");
                }
            });
        }
        None
    }),
    by_request("a body over the bound is cut off and taken", "ERR-008", |ask, _| {
        (ask.body.len() > 1_048_576).then(|| Reply::new(201, &json!({})))
    }),
];

fn without_key(ask: &mut Ask) {
    ask.drop_header("idempotency-key");
    ask.edit(|body| {
        body.as_object_mut().map(|members| members.remove("idempotency_key"));
    });
}

fn key_for_all(ask: &mut Ask, memory: &mut Memory) -> Option<Reply> {
    let key = ask.header("idempotency-key");
    let first = memory.answers.get(&key).filter(|_| ask.makes_run() && !key.is_empty())?;
    Some(Reply { status: 200, ..first.clone() })
}

fn remember_by_key(ask: &Ask, reply: &mut Reply, memory: &mut Memory) {
    if ask.makes_run() && reply.status == 201 {
        memory.answers.entry(ask.header("idempotency-key")).or_insert_with(|| reply.clone());
    }
}

fn again(ask: &Ask, memory: &Memory, path: &str) -> Option<Reply> {
    if ask.path != path {
        return None;
    }
    memory.answers.get(&String::from_utf8_lossy(&ask.body).into_owned()).cloned()
}

fn header_of(token: &str) -> Value {
    let part = token.split('.').next().unwrap_or_default();
    BASE64_URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Puts the token of another account into requests that the mutant lets through with it.
fn borrow_token(ask: &mut Ask, memory: &mut Memory, wanted: impl Fn(&Ask, &str) -> bool) {
    let Some(own) = memory.texts.get("token").cloned() else { return };
    if wanted(ask, &own) {
        ask.set("authorization", &format!("Bearer {own}"));
    }
}

fn v1_error(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, &json!({ "error": { "code": code, "message": message, "retryable": false }, "correlation_id": "x" }))
}
