//! Cases of `spec/policy.md`: content policy, tools, governance, quotas and budgets.

use aiox_proto::worker::v1::{RegisterWorker, TaskEvent, TaskRequest, worker_message::Payload as ToHub};
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    common::{agent_with, body_of, ended, follow, make_run, until},
    models::{built_in, chat, invoke},
    workers::Stage,
};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    exchange::Answer,
    scene::Scene,
    worker::Session,
    world::{Account, Agent, Tenant, echo_agent},
};

cases! {
    "POL-001" => a_harmless_text,
    "POL-002" => addresses_and_numbers,
    "POL-003" => a_check_without_text,
    "POL-004" => masked_before_the_backend,
    "POL-005" => tools_need_a_list,
    "POL-007" => concurrent_runs,
    "POL-008" => slots_come_back,
    "POL-009" => the_rate_of_runs,
    "POL-010" => the_budget_of_tokens,
    "POL-011" => a_change_acts_at_once,
    "POL-012" => an_allowance_is_exact,
    "POL-013" => the_allowance_is_shown,
    "POL-014" => the_allowance_is_ones_own,
    "POL-015" => a_blocked_agent,
    "POL-016" => domains_and_providers,
}

fn check(text: &Value) -> Value {
    json!({ "policy_check": { "request_id": "req_conformance", "content": { "type": "text", "text": text }, "ruleset": "default" } })
}

async fn a_harmless_text(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let mut results = Vec::new();
    for path in ["/v1/policy:check", "/v1/policy/check", "/v1/policy:check"] {
        let answer = scene.post(&alice, path, &check(&json!("The weather is fine."))).await?;
        answer.expect(200)?;
        answer.members("", &["policy_result"], Some(&[]))?;
        answer.members("/policy_result", &["request_id", "decision", "reasons", "redactions"], Some(&[]))?;
        answer.equals("/policy_result/request_id", &json!("req_conformance"))?;
        answer.equals("/policy_result/decision", &json!("allowed"))?;
        answer.equals("/policy_result/reasons", &json!([]))?;
        answer.equals("/policy_result/redactions", &json!([]))?;
        results.push(answer.json);
    }
    ensure!(results.iter().all(|one| *one == results[0]), "equal checks have different results: {results:?}");
    Ok(())
}

async fn addresses_and_numbers(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for secret in ["jane.roe@mail.example", "+1 202-555-0147"] {
        let answer = scene.post(&alice, "/v1/policy:check", &check(&json!(format!("Reach me at {secret}, please.")))).await?;
        answer.expect(200)?;
        answer.equals("/policy_result/decision", &json!("redacted"))?;
        ensure!(!answer.list("/policy_result/redactions")?.is_empty(), "{}: no redactions", answer.what);
        ensure!(!body_of(&answer).contains(secret), "{}: the answer holds {secret}", answer.what);
    }
    Ok(())
}

async fn a_check_without_text(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for body in [
        json!({}),
        json!({ "policy_check": {} }),
        json!({ "policy_check": { "request_id": "x", "content": { "type": "text" }, "ruleset": "default" } }),
        check(&json!(7)),
        check(&json!(["x"])),
    ] {
        scene.post(&alice, "/v1/policy:check", &body).await?.refused(400, "invalid_request")?;
    }
    Ok(())
}

async fn masked_before_the_backend(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    for secret in ["jane.roe@mail.example", "+1 202-555-0147"] {
        let answer = invoke(&scene, &alice, &chat(&model, &format!("Reach me at {secret}, please."))).await?;
        answer.expect(200)?;
        answer.equals("/response/policy_outcome/decision", &json!("redacted"))?;
        ensure!(!body_of(&answer).contains(secret), "{}: the backend saw {secret}", answer.what);
    }
    Ok(())
}

async fn tools_need_a_list(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "call tool.echo {\"x\":1}" })).await?;
    ended(&scene, &caller, &run).await?;
    let events: Vec<Value> = follow(&scene, &caller, &run, "").await?.iter().map(|frame| frame.json()["event"].clone()).collect();
    for event in events.iter().filter(|event| event["type"] == json!("agentos.tool.call.completed")) {
        ensure!(event["payload"]["status"] == json!("error"), "a tool ran without a list that allows it: {event}");
    }
    let stage = Stage::set(scene.clone()).await?;
    let agent = stage.agent_of(json!({ "look-up": {}, "search": {} })).await?;
    let tools = ["look-up", "search"];
    let about = RegisterWorker { tools: tools.map(str::to_owned).to_vec(), ..stage.about(1) };
    let mut worker = stage.door.register(about).await?;
    for (tooling, allowed) in [
        (json!({}), &[][..]),
        (json!({ "tool_allowlist": [] }), &[]),
        (json!({ "tool_allowlist": ["look-up"] }), &["look-up"]),
        (json!({ "tools": ["search"] }), &["search"]),
    ] {
        let run = make_run(&scene, &stage.who, &agent.id, json!({ "input": "x", "tooling": tooling })).await?;
        let task = worker.task().await?;
        let offered = names_of(&task.tools_json)?;
        ensure!(offered == *allowed, "with the tooling {tooling} the task has the tools {offered:?}, not {allowed:?}");
        for tool in tools {
            call_of(&worker, &task, tool).await?;
        }
        worker.answer(&task, "done").await?;
        let events: Vec<Value> = follow(&scene, &stage.who, &run, "").await?.iter().map(|frame| frame.json()["event"].clone()).collect();
        for tool in tools {
            let ends: Vec<&Value> = events
                .iter()
                .filter(|event| event["type"] == "agentos.tool.call.completed" && event["payload"]["tool_id"] == tool)
                .map(|event| &event["payload"]["status"])
                .collect();
            let wanted = if allowed.contains(&tool) { "ok" } else { "error" };
            ensure!(ends == [wanted], "with the tooling {tooling} the call of {tool} completed as {ends:?}, not {wanted}: {events:?}");
        }
    }
    Ok(())
}

/// Names of the tools that a task has.
fn names_of(tools: &str) -> Result<Vec<String>, Stop> {
    let all: Vec<Value> = serde_json::from_str(if tools.is_empty() { "[]" } else { tools })
        .map_err(|_| Stop::Failed(format!("tools_json is no list, as worker.v1 has it: {tools}")))?;
    Ok(all.iter().map(|tool| tool["name"].as_str().unwrap_or_default().to_owned()).collect())
}

/// Lets a worker call a tool and have its result.
async fn call_of(worker: &Session, task: &TaskRequest, tool: &str) -> Outcome {
    let id = format!("call-{tool}");
    for (kind, payload) in [
        ("tool.call", json!({ "tool_call_id": id, "name": tool, "arguments": {} })),
        ("tool.result", json!({ "tool_call_id": id, "output": { "found": 1 }, "duration_ms": 1 })),
    ] {
        let event = TaskEvent {
            request_id: task.request_id.clone(),
            lease_id: task.lease_id.clone(),
            r#type: kind.to_owned(),
            payload_json: payload.to_string(),
        };
        worker.say(ToHub::TaskEvent(event)).await?;
    }
    Ok(())
}

/// A tenant with these quotas, and an echo agent in it.
async fn limited(scene: &Scene, name: &str, quotas: Value) -> Result<(Tenant, Account, Agent), Stop> {
    let admin = scene.world.admin().await?;
    let tenant = scene.world.make_tenant(name).await?;
    patch(scene, &admin, &tenant, quotas).await?;
    let service = tenant.account();
    let target = scene.world.options.target.clone();
    let agent = scene.world.make_agent_of(&target, &service, echo_agent(&format!("Conformance {name}"), "tenant")).await?;
    Ok((tenant, service, agent))
}

async fn patch(scene: &Scene, admin: &Account, tenant: &Tenant, quotas: Value) -> Outcome {
    let call = scene.call(Method::PATCH, &format!("/v1/admin/tenants/{}", tenant.id)).bearer(&admin.access);
    call.json(&json!({ "tenant": { "quotas": quotas } })).send().await?.expect(200)
}

async fn try_run(scene: &Scene, who: &Account, agent: &str) -> Result<Answer, Stop> {
    let call = scene.call(Method::POST, &format!("/v1/agents/{agent}/runs")).bearer(&who.access);
    call.json(&json!({ "input": "x" })).send_once().await
}

/// An agent of the tenant whose runs wait for ever.
async fn waits(scene: &Scene, service: &Account) -> Result<Agent, Stop> {
    super::common::waiting_agent(scene, service).await
}

async fn concurrent_runs(scene: Scene) -> Outcome {
    let quotas = json!({ "runs": { "max_concurrent_runs": 3, "run_create_qps": 1000, "run_create_burst": 1000 } });
    let (_, service, _) = limited(&scene, "concurrent", quotas).await?;
    let agent = waits(&scene, &service).await?;
    let mut runs = Vec::new();
    for _ in 0..3 {
        let made = try_run(&scene, &service, &agent.id).await?;
        made.expect(201)?;
        runs.push(made.some_text("/run/run_id")?);
    }
    let over = try_run(&scene, &service, &agent.id).await?;
    over.refused(429, "quota_exceeded")?;
    over.equals("/error/retryable", &json!(true))?;
    ensure!(!over.header("retry-after").is_empty(), "{}: 429 without `Retry-After`", over.what);
    for run in runs {
        scene.post(&service, &format!("/v1/runs/{run}:cancel"), &json!({})).await?.expect(200)?;
    }
    let after = try_run(&scene, &service, &agent.id).await?;
    after.expect(201)?;
    let run = after.some_text("/run/run_id")?;
    scene.post(&service, &format!("/v1/runs/{run}:cancel"), &json!({})).await?.expect(200)
}

async fn slots_come_back(scene: Scene) -> Outcome {
    let quotas = json!({ "runs": { "max_concurrent_runs": 3, "run_create_qps": 1000, "run_create_burst": 1000 } });
    let (_, service, agent) = limited(&scene, "slots", quotas).await?;
    for number in 0..12 {
        until(&format!("run {number} of 12 is accepted"), super::common::END, || async {
            let made = try_run(&scene, &service, &agent.id).await?;
            if made.status == 429 {
                return Ok(false);
            }
            made.expect(201)?;
            Ok(true)
        })
        .await?;
    }
    Ok(())
}

async fn the_rate_of_runs(scene: Scene) -> Outcome {
    let quotas = json!({ "runs": { "max_concurrent_runs": 1000, "run_create_qps": 1, "run_create_burst": 2 } });
    let (_, service, agent) = limited(&scene, "rate", quotas).await?;
    let made = try_join_all((0..8).map(|_| try_run(&scene, &service, &agent.id))).await?;
    let (accepted, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(|answer| answer.status == 201);
    ensure!(accepted.len() >= 2, "{} of 8 runs at once were accepted with a burst of 2", accepted.len());
    let Some(refused) = refused.first() else {
        return Err(Stop::Failed("8 runs at once were accepted with a rate of 1 and a burst of 2".into()));
    };
    refused.refused(429, "rate_limited")?;
    refused.equals("/error/retryable", &json!(true))?;
    let wait: u64 = refused.header("retry-after").parse().unwrap_or(0);
    ensure!((1..=60).contains(&wait), "`Retry-After` is `{}`", refused.header("retry-after"));
    tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
    try_run(&scene, &service, &agent.id).await?.expect(201)
}

async fn the_budget_of_tokens(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let quotas = json!({ "models": { "token_budget": { "window": "day", "max_tokens": 40 } } });
    let (tenant, service, _) = limited(&scene, "budget", quotas).await?;
    let mut body = chat(&model, "one two three four five six seven eight nine ten");
    body["request"]["generation"] = json!({ "max_output_tokens": 15 });
    for _ in 0..12 {
        let answer = invoke(&scene, &service, &body).await?;
        if answer.status == 200 {
            continue;
        }
        answer.refused(429, "quota_exceeded")?;
        answer.equals("/error/retryable", &json!(false))?;
        answer.members("/error/details", &["tenant_id", "limit", "used", "window"], None)?;
        return answer.equals("/error/details/tenant_id", &json!(tenant.id));
    }
    Err(Stop::Failed("12 calls were accepted with a budget of 40 tokens".into()))
}

async fn a_change_acts_at_once(scene: Scene) -> Outcome {
    let admin = scene.world.admin().await?;
    let wide = json!({ "runs": { "max_concurrent_runs": 1000, "run_create_qps": 1000, "run_create_burst": 1000 } });
    let (one, first, agent) = limited(&scene, "change-one", wide.clone()).await?;
    let (_, second, other) = limited(&scene, "change-two", wide).await?;
    try_run(&scene, &first, &agent.id).await?.expect(201)?;
    patch(&scene, &admin, &one, json!({ "runs": { "max_concurrent_runs": 0 } })).await?;
    try_run(&scene, &first, &agent.id).await?.refused(429, "quota_exceeded")?;
    try_run(&scene, &second, &other.id).await?.expect(201)
}

async fn an_allowance_is_exact(scene: Scene) -> Outcome {
    let admin = scene.world.admin().await?;
    let carol = scene.world.register("allowance").await?;
    let id = scene.get(&carol, "/api/v1/me").await?.some_text("/data/id")?;
    let change = json!({ "quota": { "requests_day": 5 } });
    let changed = scene.call(Method::PATCH, &format!("/api/v1/admin/users/{id}")).bearer(&admin.access).json(&change).send().await?;
    if changed.status != 200 {
        return Err(Stop::NotRun(format!("the administrator may not change an allowance: {}", changed.status)));
    }
    let agent = agent_with(&scene, &carol, "allowance", json!({})).await?;
    let path = format!("/api/v1/agents/{}/chat", agent.id);
    let sent = (0..20).map(|n| {
        let body = json!({ "message": format!("n{n}"), "detach": true });
        let (scene, carol, path) = (scene.clone(), carol.clone(), path.clone());
        async move { scene.post(&carol, &path, &body).await }
    });
    let answers = try_join_all(sent).await?;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    ensure!(accepted == 5, "of 20 parallel messages with 5 left {accepted} were accepted");
    for over in answers.iter().filter(|answer| answer.status != 202) {
        over.refused(429, "quota_exceeded")?;
        ensure!(over.text("/error").starts_with("Quota exceeded:"), "the text is {}", over.at("/error"));
        let wait: u64 = over.header("retry-after").parse().unwrap_or(0);
        ensure!((1..=86_400).contains(&wait), "`Retry-After` is `{}`", over.header("retry-after"));
    }
    Ok(())
}

async fn quota(scene: &Scene, who: &Account) -> Result<Answer, Stop> {
    let answer = scene.get(who, "/api/v1/governance/quota").await?;
    answer.expect(200)?;
    Ok(answer)
}

async fn the_allowance_is_shown(scene: Scene) -> Outcome {
    let carol = scene.world.register("shown").await?;
    let agent = agent_with(&scene, &carol, "shown", json!({})).await?;
    let names =
        ["tokens_used_today", "tokens_limit_day", "requests_today", "requests_limit_day", "tokens_used_minute", "tokens_limit_minute"];
    let before = quota(&scene, &carol).await?;
    for name in names {
        ensure!(before.at(&format!("/data/{name}")).is_u64(), "`{name}` is {}", before.at(&format!("/data/{name}")));
    }
    let chat = scene.post(&carol, &format!("/api/v1/agents/{}/chat", agent.id), &json!({ "message": "count me" })).await?;
    chat.expect(200)?;
    let tokens = chat.at("/data/tokens_used").as_u64().unwrap_or_default();
    let after = quota(&scene, &carol).await?;
    let number = |answer: &Answer, name: &str| answer.at(&format!("/data/{name}")).as_u64().unwrap_or_default();
    ensure!(
        number(&after, "requests_today") == number(&before, "requests_today") + 1,
        "`requests_today` went from {} to {}",
        number(&before, "requests_today"),
        number(&after, "requests_today")
    );
    ensure!(
        number(&after, "tokens_used_today") == number(&before, "tokens_used_today") + tokens,
        "`tokens_used_today` went from {} to {} for {tokens} tokens",
        number(&before, "tokens_used_today"),
        number(&after, "tokens_used_today")
    );
    Ok(())
}

async fn the_allowance_is_ones_own(scene: Scene) -> Outcome {
    let (carol, dave) = (scene.world.register("own").await?, scene.world.register("own").await?);
    let agent = agent_with(&scene, &carol, "own", json!({})).await?;
    let before = quota(&scene, &dave).await?;
    scene.post(&carol, &format!("/api/v1/agents/{}/chat", agent.id), &json!({ "message": "x" })).await?.expect(200)?;
    scene.post(&dave, &format!("/api/v1/agents/{}/chat", agent.id), &json!({ "message": "x" })).await?.refused(404, "not_found")?;
    let after = quota(&scene, &dave).await?;
    after.equals("/data", before.at("/data"))
}

async fn a_blocked_agent(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let agent = agent_with(&scene, &alice, "blocked", json!({ "governance": { "blocked": true } })).await?;
    let chat =
        || async { scene.post(&alice, &format!("/api/v1/agents/{}/chat", agent.id), &json!({ "message": "x", "detach": true })).await };
    chat().await?.refused(403, "agent_blocked")?;
    try_run(&scene, &alice, &agent.id).await?.refused(403, "policy_blocked")?;
    let runs = scene.get(&alice, &format!("/api/v1/agents/{}/executions", agent.id)).await?;
    runs.equals("/total_count", &json!(0))?;
    let path = format!("/api/v1/agents/{}", agent.id);
    scene.call(Method::PUT, &path).bearer(&alice.access).json(&json!({ "governance": { "blocked": false } })).send().await?.expect(200)?;
    chat().await?.expect(202)
}

async fn domains_and_providers(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let domain = scene.world.agent().await?.jid.split_once("@agents.").map(|(_, domain)| domain.to_owned()).unwrap_or_default();
    for (governance, status, code) in [
        (json!({ "allowed_domains": ["elsewhere.example"] }), 403, "domain_not_allowed"),
        (json!({ "allowed_domains": [domain.to_uppercase()] }), 202, ""),
        (json!({ "allowed_providers": ["conformance-none"] }), 403, "provider_not_allowed"),
        (json!({ "allowed_providers": ["ECHO"] }), 202, ""),
    ] {
        let agent = agent_with(&scene, &alice, "governed", json!({ "governance": governance })).await?;
        let answer = scene.post(&alice, &format!("/api/v1/agents/{}/chat", agent.id), &json!({ "message": "x", "detach": true })).await?;
        ensure!(
            answer.status == status && answer.code() == code,
            "{governance}: expected {status} `{code}`, got {} `{}`",
            answer.status,
            answer.code()
        );
    }
    Ok(())
}
