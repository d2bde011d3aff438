//! Cases of `spec/errors.md`: error bodies, statuses and codes; correlation.

use reqwest::Method;
use serde_json::{Value, json};

use super::common::{body_of, first_event, make_run};
use crate::{
    case::{Outcome, cases, ensure},
    exchange::{Answer, shown},
    scene::Scene,
};

cases! {
    "ERR-001" => the_body_of_v1_is_closed,
    "ERR-002" => the_body_of_api_v1,
    "ERR-003" => codes_have_their_status,
    "ERR-004" => unknown_paths_and_methods,
    "ERR-005" => issues_name_the_member,
    "ERR-006" => no_json,
    "ERR-007" => a_wrong_member_is_named,
    "ERR-008" => bodies_are_bounded,
    "ERR-009" => a_429_says_when @ last,
    "ERR-010" => a_401_challenges,
    "ERR-013" => problems_of_the_peer_listener,
    "COR-001" => the_correlation_id,
    "COR-002" => the_request_id,
    "COR-003" => strange_ids_are_not_echoed,
    "COR-004" => a_trace_goes_on,
    "COR-005" => a_bad_trace_is_ignored,
    "COR-006" => the_correlation_id_is_at_top_level,
}

/// Some refusals below `/v1`, each with the status that it has to have.
async fn refusals(scene: &Scene) -> Result<Vec<(Answer, u16)>, crate::Stop> {
    let (caller, agent) = scene.world.caller().await?;
    let runs = format!("/v1/agents/{}/runs", agent.id);
    let call = |method: Method, path: &str| scene.call(method, path).bearer(&caller.access);
    Ok(vec![
        (call(Method::GET, "/v1/runs/run_00000000000000000000000000").send().await?, 404),
        (call(Method::GET, "/v1/agents/agt_00000000000000000000000000").send().await?, 404),
        (call(Method::GET, "/v1/nothing-of-this-name").send().await?, 404),
        (call(Method::PATCH, "/v1/agents").send().await?, 405),
        (call(Method::POST, &runs).raw("{").send().await?, 400),
        (call(Method::POST, &runs).json(&json!({})).send().await?, 400),
        (call(Method::POST, &runs).json(&json!({ "input": 7 })).send().await?, 400),
        (scene.call(Method::GET, "/v1/agents").send().await?, 401),
        (scene.call(Method::GET, "/v1/agents").bearer("no-credential").send().await?, 401),
    ])
}

fn closed(answer: &Answer) -> Outcome {
    ensure!(
        answer.header("content-type").starts_with("application/json"),
        "{}: the content type is `{}`",
        answer.what,
        answer.header("content-type")
    );
    answer.members("", &["error", "correlation_id"], Some(&[]))?;
    answer.members("/error", &["code", "message", "retryable"], Some(&["details"]))?;
    for pointer in ["/error/code", "/error/message", "/correlation_id"] {
        answer.some_text(pointer)?;
    }
    ensure!(answer.at("/error/retryable").is_boolean(), "{}: `retryable` is no boolean: {}", answer.what, answer.json);
    let details = answer.at("/error/details");
    ensure!(details.is_object() || answer.json.pointer("/error/details").is_none(), "{}: `details` is no object: {details}", answer.what);
    Ok(())
}

async fn the_body_of_v1_is_closed(scene: Scene) -> Outcome {
    for (answer, status) in refusals(&scene).await? {
        answer.expect(status)?;
        closed(&answer)?;
    }
    Ok(())
}

async fn the_body_of_api_v1(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let call = |method: Method, path: &str| scene.call(method, path).bearer(&alice.access);
    let refused = [
        (call(Method::GET, "/api/v1/agents/00000000-0000-7000-8000-000000000000").send().await?, 404),
        (call(Method::GET, "/api/v1/nothing-of-this-name").send().await?, 404),
        (call(Method::PATCH, "/api/v1/me").send().await?, 405),
        (call(Method::POST, "/api/v1/agents").raw("{").send().await?, 400),
        (call(Method::POST, "/api/v1/agents").json(&json!({})).send().await?, 400),
        (scene.call(Method::GET, "/api/v1/me").send().await?, 401),
        (call(Method::GET, "/api/v1/admin/users").send().await?, 403),
    ];
    for (answer, status) in refused {
        answer.expect(status)?;
        ensure!(
            answer.header("content-type").starts_with("application/json"),
            "{}: the content type is `{}`",
            answer.what,
            answer.header("content-type")
        );
        for pointer in ["/error", "/code", "/correlation_id"] {
            answer.some_text(pointer)?;
        }
        ensure!(answer.at("/retryable").is_boolean(), "{}: `retryable` is no boolean: {}", answer.what, answer.json);
    }
    Ok(())
}

/// Statuses and `retryable` of the codes below `/v1`.
const CODES: [(&str, u16, Option<bool>); 16] = [
    ("invalid_request", 400, Some(false)),
    ("invalid_json", 400, Some(false)),
    ("tenant_mismatch", 400, Some(false)),
    ("unauthorized", 401, Some(false)),
    ("forbidden", 403, Some(false)),
    ("tenant_unknown", 403, Some(false)),
    ("policy_blocked", 403, Some(false)),
    ("not_found", 404, Some(false)),
    ("peer_not_found", 404, Some(false)),
    ("model_not_found", 404, Some(false)),
    ("method_not_allowed", 405, Some(false)),
    ("conflict", 409, Some(false)),
    ("invalid_state_transition", 409, Some(false)),
    ("rate_limited", 429, Some(true)),
    ("quota_exceeded", 429, None),
    ("internal_error", 500, Some(false)),
];

async fn codes_have_their_status(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "codes" })).await?;
    super::common::ended(&scene, &caller, &run).await?;
    let mut answers: Vec<(Answer, &str)> = Vec::new();
    for (answer, status) in refusals(&scene).await? {
        let wanted = match status {
            401 => "unauthorized",
            404 => "not_found",
            405 => "method_not_allowed",
            _ if body_of(&answer).contains("invalid_json") => "invalid_json",
            _ => "invalid_request",
        };
        answers.push((answer, wanted));
    }
    let again = scene.call(Method::POST, &format!("/v1/runs/{run}:cancel")).bearer(&caller.access).send().await?;
    answers.push((again, "invalid_state_transition"));
    let elsewhere =
        scene.call(Method::GET, "/v1/agents").bearer(&caller.access).header("x-tenant-id", "tnt_00000000000000000000000000").send().await?;
    answers.push((elsewhere, "tenant_mismatch"));
    for (answer, wanted) in answers {
        let (_, status, retryable) = CODES.into_iter().find(|(code, ..)| *code == wanted).unwrap_or((wanted, 0, None));
        answer.refused(status, wanted)?;
        if let Some(retryable) = retryable {
            answer.equals("/error/retryable", &Value::from(retryable))?;
        }
    }
    Ok(())
}

async fn unknown_paths_and_methods(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for path in ["/v1/nothing-of-this-name", "/api/v1/nothing-of-this-name"] {
        scene.get(&alice, path).await?.refused(404, "not_found")?;
    }
    for path in ["/v1/agents", "/api/v1/me"] {
        let answer = scene.call(Method::PATCH, path).bearer(&alice.access).json(&json!({})).send().await?;
        answer.refused(405, "method_not_allowed")?;
        ensure!(answer.header("allow").contains("GET"), "{}: `Allow` is `{}` and does not name GET", answer.what, answer.header("allow"));
    }
    Ok(())
}

async fn issues_name_the_member(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let path = format!("/v1/agents/{}/runs", agent.id);
    for (body, member) in [
        (json!({}), "input"),
        (json!({ "input": 7 }), "input"),
        (json!({ "input": "x", "run_options": { "timeout_ms": "soon" } }), "timeout_ms"),
        (json!({ "input": "x", "run_options": { "priority": "urgent" } }), "priority"),
    ] {
        let answer = scene.post(&caller, &path, &body).await?;
        answer.refused(400, "invalid_request")?;
        let issues = answer.list("/error/details/issues")?;
        ensure!(!issues.is_empty(), "{}: `details.issues` is empty", answer.what);
        for issue in issues {
            for name in ["path", "message", "code"] {
                ensure!(issue[name].is_string(), "{}: an issue without the text `{name}`: {issue}", answer.what);
            }
        }
        let named = issues.iter().any(|issue| issue["path"].as_str().is_some_and(|path| path.contains(member)));
        ensure!(named, "{}: no issue names `{member}` for {body}: {}", answer.what, answer.json);
    }
    Ok(())
}

async fn no_json(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    for body in ["{", "", "not json", "{\"input\":\"x\"} trailing", "\u{feff}{}"] {
        let answer = scene.call(Method::POST, &format!("/v1/agents/{}/runs", agent.id)).bearer(&caller.access).raw(body).send().await?;
        answer.refused(400, "invalid_json")?;
        let answer = scene.call(Method::POST, "/api/v1/agents").bearer(&caller.access).raw(body).send().await?;
        answer.refused(400, "invalid_request")?;
        answer.equals("/error", &json!("bad request"))?;
    }
    Ok(())
}

async fn a_wrong_member_is_named(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for (body, start) in [
        (json!({ "system_prompt": "x" }), "name"),
        (json!({ "name": "x" }), "system_prompt"),
        (json!({ "name": ["s3cret-value"], "system_prompt": "x" }), "name"),
        (json!({ "name": "x", "system_prompt": "x", "llm_config": { "temperature": "s3cret-value" } }), "llm_config.temperature"),
    ] {
        let answer = scene.post(&alice, "/api/v1/agents", &body).await?;
        answer.refused(400, "invalid_request")?;
        let text = answer.text("/error");
        ensure!(text.starts_with(&format!("{start}: ")), "{}: the text for {body} does not begin with `{start}: `: {text}", answer.what);
        ensure!(!body_of(&answer).contains("s3cret-value"), "{}: the answer repeats the value that was given: {text}", answer.what);
    }
    Ok(())
}

async fn bodies_are_bounded(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let large = json!({ "input": "x".repeat(1_100_000), "name": "x" }).to_string();
    for (path, code) in [(format!("/v1/agents/{}/runs", agent.id), "invalid_request"), ("/api/v1/agents".to_owned(), "too_large")] {
        let call = scene.call(Method::POST, &path).bearer(&caller.access);
        call.clone().raw(large.clone()).send().await?.refused(413, code)?;
        call.chunked(large.clone()).send().await?.refused(413, code)?;
        scene.get(&caller, "/v1/agents").await?.expect(200)?;
    }
    Ok(())
}

async fn a_429_says_when(scene: Scene) -> Outcome {
    // Sign-in is limited for everybody; a client of its own, so that nobody else is.
    let client = scene.world.other_address(&scene.world.options.target)?;
    let body = json!({ "email": "nobody@conformance.example", "password": "wrong-password" });
    for _ in 0..40 {
        let answer = scene.call(Method::POST, "/api/v1/auth/login").from(client.clone()).json(&body).send().await?;
        if answer.status == 429 {
            let wait: u64 = answer.header("retry-after").parse().unwrap_or(0);
            ensure!(wait >= 1, "{}: `Retry-After` is `{}`", answer.what, answer.header("retry-after"));
            return answer.equals("/retryable", &json!(true));
        }
    }
    Err(crate::Stop::Failed("40 attempts to sign in were all served: expected a 429".into()))
}

async fn a_401_challenges(scene: Scene) -> Outcome {
    for path in ["/v1/agents", "/api/v1/me", "/v1/runs/run_00000000000000000000000000"] {
        for answer in [scene.call(Method::GET, path).send().await?, scene.call(Method::GET, path).bearer("wrong").send().await?] {
            answer.expect(401)?;
            let challenge = answer.header("www-authenticate");
            ensure!(challenge.starts_with("Bearer"), "{}: `WWW-Authenticate` is `{challenge}`", answer.what);
        }
    }
    Ok(())
}

async fn problems_of_the_peer_listener(scene: Scene) -> Outcome {
    super::federation::problems(scene).await
}

async fn the_correlation_id(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let (one, two) = (format!("c-{}", scene.world.mark), format!("r-{}", scene.world.mark));
    let call = || scene.call(Method::GET, "/v1/agents").bearer(&alice.access);
    for (answer, wanted) in [
        (call().header("x-correlation-id", &one).header("x-request-id", &two).send().await?, &one),
        (call().header("x-request-id", &two).send().await?, &two),
    ] {
        answer.expect(200)?;
        ensure!(
            answer.header("x-correlation-id") == wanted,
            "{}: `X-Correlation-Id` is `{}`, expected `{wanted}`",
            answer.what,
            answer.header("x-correlation-id")
        );
        answer.equals("/correlation_id", &json!(wanted))?;
    }
    let (a, b) = (call().send().await?, call().send().await?);
    let (a, b) = (a.some_text("/correlation_id")?, b.some_text("/correlation_id")?);
    ensure!(a != b, "two requests have the generated correlation id `{a}`");
    Ok(())
}

async fn the_request_id(scene: Scene) -> Outcome {
    let given = format!("req-{}", scene.world.mark);
    for path in ["/v1/health", "/health/live", "/v1/nothing-of-this-name", "/api/v1/me"] {
        let answer = scene.call(Method::GET, path).header("x-request-id", &given).send().await?;
        ensure!(
            answer.header("x-request-id") == given,
            "{}: `X-Request-Id` is `{}`, expected `{given}`",
            answer.what,
            answer.header("x-request-id")
        );
    }
    let answer = scene.call(Method::GET, "/v1/health").send().await?;
    ensure!(answer.header("x-request-id").starts_with("req_"), "{}: the generated id is `{}`", answer.what, answer.header("x-request-id"));
    let answer = scene.call(Method::GET, "/api/v1/me").send().await?;
    ensure!(
        uuid::Uuid::parse_str(answer.header("x-request-id")).is_ok(),
        "{}: the generated id is `{}`",
        answer.what,
        answer.header("x-request-id")
    );
    Ok(())
}

async fn strange_ids_are_not_echoed(scene: Scene) -> Outcome {
    let long = "x".repeat(129);
    for name in ["x-correlation-id", "x-request-id"] {
        for value in ["two words".as_bytes(), "caf\u{e9}".as_bytes(), long.as_bytes()] {
            let answer = scene.call(Method::GET, "/v1/health").header_bytes(name, value).send().await?;
            answer.expect(200)?;
            let echoed = answer.headers.values().any(|found| found.as_bytes() == value)
                || answer.bytes.windows(value.len()).any(|part| part == value);
            ensure!(!echoed, "{}: `{name}: {}` is echoed", answer.what, shown(value));
        }
    }
    Ok(())
}

async fn a_trace_goes_on(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let trace = uuid::Uuid::new_v4().simple().to_string();
    let call = scene.call(Method::POST, &format!("/v1/agents/{}/runs", agent.id)).bearer(&caller.access);
    let answer = call.header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")).json(&json!({ "input": "trace" })).send().await?;
    answer.expect(201)?;
    let event = first_event(&scene, &caller, answer.text("/run/run_id")).await?;
    let found = event["trace"]["traceparent"].as_str().unwrap_or_default();
    ensure!(found.split('-').nth(1) == Some(trace.as_str()), "the event's traceparent is `{found}`, expected the trace id {trace}");
    Ok(())
}

async fn a_bad_trace_is_ignored(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    for bad in
        ["nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"]
    {
        let call = scene.call(Method::POST, &format!("/v1/agents/{}/runs", agent.id)).bearer(&caller.access);
        let answer = call.header("traceparent", bad).json(&json!({ "input": "trace" })).send().await?;
        answer.expect(201)?;
        let event = first_event(&scene, &caller, answer.text("/run/run_id")).await?;
        let found = event["trace"]["traceparent"].as_str().unwrap_or_default();
        let parts: Vec<&str> = found.split('-').collect();
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit()) && text.bytes().any(|b| b != b'0')
        };
        let valid = parts.len() == 4 && hex(parts[1], 32) && hex(parts[2], 16);
        ensure!(valid && found != bad, "after `traceparent: {bad}` the event's traceparent is `{found}`");
    }
    Ok(())
}

async fn the_correlation_id_is_at_top_level(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let run = scene.post(&caller, &format!("/v1/agents/{}/runs", agent.id), &json!({ "input": "where" })).await?;
    run.expect(201)?;
    let id = run.some_text("/run/run_id")?;
    let read = scene.get(&caller, &format!("/v1/runs/{id}")).await?;
    let (agents, one) = (scene.get(&caller, "/v1/agents").await?, scene.get(&caller, &format!("/v1/agents/{}", agent.id)).await?);
    for (answer, inside) in [(run, "/run"), (read, "/run"), (agents, "/agents/0"), (one, "/agent")] {
        answer.some_text("/correlation_id")?;
        ensure!(answer.at(inside).get("correlation_id").is_none(), "{}: `correlation_id` is inside of {inside}", answer.what);
    }
    Ok(())
}
