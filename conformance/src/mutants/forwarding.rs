//! Mutants of federation as programs use it.

use serde_json::json;

use super::{Mutant, Reply, by_answer, by_frame, by_request};

const FORWARD: &str = "/v1/federation/runs:forward";
const INGEST: &str = "/v1/federation/events:ingest";

pub(super) const MUTANTS: &[Mutant] = &[
    by_answer("the health of federation names another service", "FED-042", |ask, reply, _| {
        if ask.is("GET", "/v1/federation/health") {
            reply.edit(|body| body["service"] = json!("agent-orchestrator"));
        }
    }),
    by_answer("peers have no health", "FED-043", |ask, reply, _| {
        if ask.is("GET", "/v1/federation/peers") {
            reply.edit(|body| {
                for peer in body["peers"].as_array_mut().into_iter().flatten() {
                    peer["health"] = json!(null);
                }
            });
        }
    }),
    by_answer("capabilities have no limits", "FED-043", |ask, reply, _| {
        reply.edit_at("/capabilities", |members| drop(ask.is("GET", "/v1/peer/capabilities").then(|| members.remove("limits"))));
    }),
    by_answer("a forwarded run has no events_url", "FED-044", |ask, reply, _| {
        if ask.is("POST", FORWARD) {
            reply.edit_at("/forwarded", |members| drop(members.remove("remote_events_url")));
        }
    }),
    by_frame("events of a forwarded run are numbered anew", "FED-044", |ask, frame, number, _| {
        let forwarded = ask.path.starts_with("/v1/federation/runs/") && number == 2;
        if forwarded { vec![frame.replace("\"sequence\":2", "\"sequence\":1")] } else { vec![frame] }
    }),
    by_answer("an unknown peer is an unknown path", "FED-045", |ask, reply, _| {
        if ask.is("POST", FORWARD) && reply.status == 404 {
            reply.edit_at("/error", |error| drop(error.insert("code".into(), json!("not_found"))));
        }
    }),
    by_answer("missing capabilities are not named", "FED-045", |ask, reply, _| {
        if ask.is("POST", FORWARD) && reply.status == 409 {
            reply.edit_at("/error", |error| drop(error.remove("details")));
        }
    }),
    by_answer("a peer that is away is an internal error", "FED-046", |ask, reply, _| {
        if ask.is("POST", FORWARD) && reply.status == 503 {
            reply.status = 500;
        }
    }),
    by_answer("wrapped events are rejected", "FED-047", |ask, reply, _| {
        if ask.is("POST", INGEST) && !ask.json()["events"][0]["event"].is_null() {
            reply.edit(|body| *body = json!({ "accepted": 0, "rejected": 2, "correlation_id": body["correlation_id"] }));
        }
    }),
    by_answer("rejected events are counted as accepted", "FED-048", |ask, reply, _| {
        if ask.is("POST", INGEST) {
            reply.edit(|body| {
                let all = body["accepted"].as_u64().unwrap_or(0) + body["rejected"].as_u64().unwrap_or(0);
                (body["accepted"], body["rejected"]) = (json!(all), json!(0));
            });
        }
    }),
    by_request("events are ingested without duplicates being looked for", "FED-048", |ask, memory| {
        memory.count += usize::from(ask.is("POST", INGEST));
        (ask.is("POST", INGEST) && memory.count == 2)
            .then(|| Reply::new(200, &json!({ "accepted": 2, "rejected": 0, "correlation_id": "x" })))
    }),
    by_frame("ingested events come as they came", "FED-049", |ask, frame, number, memory| {
        if !ask.path.ends_with("/events") || !frame.contains("data:") {
            return vec![frame];
        }
        match number {
            1 => {
                memory.texts.insert("first".into(), frame);
                Vec::new()
            }
            2 => vec![frame, memory.texts.remove("first").unwrap_or_default()],
            _ => vec![frame],
        }
    }),
];
