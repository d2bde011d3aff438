//! Mutants of limits, records, tenants, workers' results and operation.

use serde_json::json;

use super::{Ask, Mutant, Reply, by_answer, by_frame, by_request};

fn audited(ask: &Ask) -> bool {
    ask.is("GET", "/v1/admin/audit")
}

/// Gives every sample of a metric this value.
fn each_line(ask: &Ask, reply: &mut Reply, metric: &str, value: &str) {
    if ask.is("GET", "/metrics") && reply.status == 200 {
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let line = |line: &str| match line.rsplit_once(' ') {
            Some((sample, _)) if sample.starts_with(metric) => format!("{sample} {value}\n"),
            _ => format!("{line}\n"),
        };
        reply.body = text.lines().map(line).collect::<String>().into_bytes();
    }
}

pub(super) const MUTANTS: &[Mutant] = &[
    by_answer("a waiting call that gives up is an internal error", "RUN-023", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents/*/chat") && reply.status == 504 {
            reply.status = 500;
        }
    }),
    by_answer("a waiting call that gives up does not name its run", "RUN-023", |ask, reply, _| {
        if reply.status == 504 {
            reply.edit_at("", |body| drop(ask.is("POST", "/api/v1/agents/*/chat").then(|| body.remove("run_id"))));
        }
    }),
    by_answer("a failed run is answered by 200", "RUN-024", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents/*/chat") && reply.status == 409 {
            reply.status = 200;
        }
    }),
    by_answer("messages have no bound", "RUN-021", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents/*/chat") && reply.status == 413 {
            reply.status = 200;
        }
    }),
    by_answer("prices of tokens are lost", "WRK-008", |ask, reply, _| {
        if ask.is("GET", "/api/v1/runs/*") {
            reply.edit_at("/data", |run| drop(run.insert("input_tokens".into(), json!(0))));
        }
    }),
    by_answer("the text of a worker's error is shown", "WRK-009", |ask, reply, _| {
        if ask.is("GET", "/api/v1/runs/*") {
            reply.edit_at("/data/error", |error| drop(error.insert("code".into(), json!("no_such_code"))));
        }
    }),
    by_answer("a lost run is called an internal error", "WRK-012", |ask, reply, _| {
        if ask.is("GET", "/api/v1/runs/*") {
            reply.edit_at("/data/error", |error| drop(error.insert("code".into(), json!("internal_error"))));
        }
    }),
    by_answer("a result is confirmed before it is stored", "WRK-015", |ask, reply, _| {
        if ask.is("GET", "/api/v1/runs/*") {
            reply.edit_at("/data", |run| drop(run.insert("status".into(), json!("running"))));
        }
    }),
    by_answer("a full tenant may not come again", "POL-007", |ask, reply, _| {
        if ask.makes_run() && reply.status == 429 {
            reply.edit_at("/error", |error| drop(error.insert("retryable".into(), json!(false))));
        }
    }),
    by_answer("too fast is called an exhausted quota", "POL-009", |ask, reply, _| {
        if ask.makes_run() && reply.status == 429 {
            reply.edit_at("/error", |error| drop(error.insert("code".into(), json!("quota_exceeded"))));
        }
    }),
    by_answer("an exhausted budget does not say how much", "POL-010", |ask, reply, _| {
        if ask.is("POST", "/v1/models:invoke") && reply.status == 429 {
            reply.edit_at("/error", |error| drop(error.remove("details")));
        }
    }),
    by_request("a change of quotas acts later", "POL-011", |ask, _| {
        let closed = ask.json()["tenant"]["quotas"]["runs"]["max_concurrent_runs"] == json!(0);
        (ask.method == reqwest::Method::PATCH && closed).then(|| Reply::new(200, &json!({ "tenant": {}, "correlation_id": "x" })))
    }),
    by_answer("the allowance is not shown", "POL-013", |ask, reply, _| {
        if ask.is("GET", "/api/v1/governance/quota") {
            reply.edit_at("/data", |quota| drop(quota.insert("requests_today".into(), json!(0))));
        }
    }),
    by_answer("a blocked agent answers", "POL-015", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents/*/chat") && reply.status == 403 {
            *reply = Reply::new(202, &json!({ "data": { "id": "x", "status": "queued" } }));
        }
    }),
    by_answer("any domain may talk to an agent", "POL-016", |ask, reply, _| {
        if ask.is("POST", "/api/v1/agents/*/chat") && reply.status == 403 {
            reply.status = 202;
        }
    }),
    by_answer("a model that is denied is listed", "MOD-008", |ask, reply, _| {
        if ask.is("GET", "/v1/models") {
            reply.edit(|body| {
                body["models"].as_array_mut().into_iter().for_each(|models| {
                    models.push(json!({ "model_id": "echo", "provider": "echo", "capabilities": ["chat", "embed"] }));
                });
            });
        }
    }),
    by_answer("records do not name the caller's correlation id", "SEC-009", |ask, reply, _| {
        if audited(ask) {
            reply.edit(|body| {
                for record in body["records"].as_array_mut().into_iter().flatten() {
                    record["correlation_id"] = json!("corr_x");
                }
            });
        }
    }),
    by_answer("records name whom the body names", "SEC-010", |ask, reply, _| {
        if audited(ask) {
            reply.edit(|body| {
                for record in body["records"].as_array_mut().into_iter().flatten() {
                    record["principal_id"] = json!("usr_somebody_else");
                }
            });
        }
    }),
    by_answer("a tenant sees the records of others", "SEC-011", |ask, reply, _| {
        if audited(ask) {
            reply.edit(|body| {
                body["records"].as_array_mut().into_iter().for_each(|records| records.push(json!({ "tenant_id": "tnt_other" })));
            });
        }
    }),
    by_answer("records are not chained", "SEC-012", |ask, reply, _| {
        if audited(ask) {
            reply.edit(|body| {
                for record in body["records"].as_array_mut().into_iter().flatten() {
                    record.as_object_mut().map(|record| record.remove("prev_hash"));
                }
            });
        }
    }),
    by_request("a tenant's idempotency key is ignored", "IDM-010", |ask, _| {
        if ask.path.starts_with("/v1/admin/tenants") {
            ask.drop_header("idempotency-key");
        }
        None
    }),
    by_request("a disabled tenant goes on", "TEN-005", |ask, _| {
        let tenant = json!({ "tenant": { "status": "disabled" }, "correlation_id": "x" });
        ask.is("POST", "/v1/admin/tenants/*:disable").then(|| Reply::new(200, &tenant))
    }),
    by_request("a rotated token goes on working", "TEN-009", |ask, _| {
        let token = json!({ "token": { "secret": "another" }, "correlation_id": "x" });
        ask.is("POST", "/v1/admin/tenants/*/tokens/*:rotate").then(|| Reply::new(200, &token))
    }),
    by_answer("the demo tenant has no agents", "TEN-010", |ask, reply, _| {
        if ask.is("GET", "/v1/agents/agt_demo") {
            reply.status = 404;
        }
    }),
    by_answer("administration below /api/v1 is open", "TEN-027", |ask, reply, _| {
        if ask.path.starts_with("/api/v1/admin/") && reply.status == 403 {
            reply.status = 200;
        }
    }),
    by_answer("an account is shown without its id", "OPS-008", |ask, reply, _| {
        if ask.is("GET", "/api/v1/me") {
            reply.edit_at("/data", |me| drop(me.remove("id")));
        }
    }),
    by_answer("a status that no document has", "OPS-008", |ask, reply, _| {
        if ask.is("GET", "/v1/models") {
            reply.status = 207;
        }
    }),
    by_request("a slot is gone with its run", "POL-008", |ask, memory| {
        memory.count += usize::from(ask.makes_run());
        let full = json!({ "code": "concurrency_exceeded", "message": "all slots are taken", "retryable": true });
        (ask.makes_run() && memory.count > 3).then(|| Reply::new(429, &json!({ "error": full, "correlation_id": "x" })))
    }),
    by_answer("one port has a model less", "OPS-009", |ask, reply, _| {
        if ask.is("GET", "/v1/models") {
            reply.edit(|body| body["models"].as_array_mut().into_iter().for_each(|models| drop(models.pop())));
        }
    }),
    by_frame("one port has other events", "OPS-009", |ask, frame, number, _| {
        if ask.path.starts_with("/v1/runs/") && number == 1 { vec![frame.replace("queued", "waiting")] } else { vec![frame] }
    }),
    by_answer("no worker is counted", "OPS-006", |ask, reply, _| each_line(ask, reply, "aiox_worker_pool_connected", "0")),
    by_answer("completed runs are not counted", "OPS-006", |ask, reply, _| each_line(ask, reply, "aiox_tasks_completed_total", "7")),
    by_answer("metrics are open to all accounts", "OPS-005", |ask, reply, _| {
        if ask.is("GET", "/metrics") && reply.status == 403 {
            reply.status = 200;
        }
    }),
    by_answer("readiness does not name the database", "OPS-002", |ask, reply, _| {
        if ask.is("GET", "/health/ready") {
            reply.edit_at("/data", |data| drop(data.remove("database")));
        }
    }),
];
