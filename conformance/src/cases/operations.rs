//! Cases of `spec/operations.md`: health, metrics, documents.

use reqwest::Method;
use serde_json::{Value, json};

use super::common::{body_of, ended, make_run, until};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    scene::Scene,
};

cases! {
    "OPS-001" => alive,
    "OPS-002" => ready,
    "OPS-004" => health_below_v1,
    "OPS-005" => metrics_are_guarded,
    "OPS-006" => metrics_move,
    "OPS-007" => labels_are_the_hubs,
    "OPS-008" => answers_validate @ last,
    "OPS-009" => every_port_alike,
}

async fn alive(scene: Scene) -> Outcome {
    let answer = scene.call(Method::GET, "/health/live").send().await?;
    answer.expect(200)?;
    answer.equals("", &json!({ "data": { "status": "alive" } }))
}

async fn ready(scene: Scene) -> Outcome {
    for path in ["/health", "/health/ready"] {
        let answer = scene.call(Method::GET, path).send().await?;
        answer.expect(200)?;
        answer.members("/data", &["status", "database", "nats", "workers", "redis", "xmpp"], None)?;
        ensure!(["healthy", "degraded"].contains(&answer.text("/data/status")), "`status` is {}", answer.at("/data/status"));
        ensure!(
            answer.text("/data/workers") != "no workers connected" || answer.text("/data/status") == "degraded",
            "without a worker the hub is {}",
            answer.at("/data/status")
        );
    }
    Ok(())
}

async fn health_below_v1(scene: Scene) -> Outcome {
    let answer = scene.call(Method::GET, "/v1/health").send().await?;
    answer.expect(200)?;
    answer.members("", &["status", "service", "version"], Some(&[]))?;
    answer.equals("/status", &json!("ok"))?;
    ensure!(
        ["agent-orchestrator", "model-policy", "federation"].contains(&answer.text("/service")),
        "`service` is {}",
        answer.at("/service")
    );
    scene.call(Method::GET, "/healthz").send().await?.expect(200)?;
    let ready = scene.call(Method::GET, "/readyz").send().await?;
    ready.expect(200)?;
    ensure!(body_of(&ready).contains("database"), "{}: the list of dependencies does not name the database: {}", ready.what, ready.json);
    Ok(())
}

async fn metrics_are_guarded(scene: Scene) -> Outcome {
    let open = scene.call(Method::GET, "/metrics").send().await?;
    if open.status == 200 {
        return Err(Stop::NotRun("the operator opened the metrics".into()));
    }
    open.expect(401)?;
    scene.get(&scene.world.alice().await?, "/metrics").await?.expect(403)?;
    let text = scene.get(&scene.world.admin().await?, "/metrics").await?;
    text.expect(200)?;
    ensure!(text.header("content-type").starts_with("text/plain"), "the content type is {}", text.header("content-type"));
    ensure!(body_of(&text).contains("# TYPE"), "{}: no Prometheus text", text.what);
    Ok(())
}

async fn metrics(scene: &Scene) -> Result<String, Stop> {
    let answer = scene.call(Method::GET, "/metrics").send().await?;
    let answer = if answer.status == 200 { answer } else { scene.get(&scene.world.admin().await?, "/metrics").await? };
    answer.expect(200)?;
    Ok(body_of(&answer))
}

/// The sum over all samples of a metric whose labels hold a text.
fn sum(text: &str, name: &str, label: &str) -> f64 {
    text.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

async fn metrics_move(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let before = metrics(&scene).await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "metrics" })).await?;
    ended(&scene, &caller, &run).await?;
    for (name, label) in [
        ("aiox_http_requests_total", ""),
        ("aiox_tasks_dispatched_total", ""),
        ("aiox_tasks_completed_total", "status=\"completed\""),
        ("aiox_tokens_used_total", ""),
    ] {
        until(&format!("{name} rises"), super::common::END, || async {
            Ok(sum(&metrics(&scene).await?, name, label) > sum(&before, name, label))
        })
        .await?;
    }
    ensure!(
        sum(&before, "aiox_worker_pool_connected", "") >= 1.0,
        "`aiox_worker_pool_connected` is {}",
        sum(&before, "aiox_worker_pool_connected", "")
    );
    Ok(())
}

async fn labels_are_the_hubs(scene: Scene) -> Outcome {
    let mark = format!("label{}", scene.world.mark);
    for number in 0..50 {
        scene.call(Method::GET, &format!("/v1/{mark}{number}")).send().await?;
    }
    for letter in ["A", "B", "C", "D", "E"] {
        let method =
            Method::from_bytes(format!("{}{letter}", mark.to_uppercase()).as_bytes()).map_err(|error| Stop::Harness(error.to_string()))?;
        scene.call(method, "/v1/agents").send().await?;
    }
    let text = metrics(&scene).await?;
    let found: Vec<&str> = text.lines().filter(|line| line.to_lowercase().contains(&mark)).collect();
    ensure!(found.is_empty(), "clients made labels: {:?}", found.first());
    Ok(())
}

async fn answers_validate(scene: Scene) -> Outcome {
    let Some(documents) = scene.world.documents.get() else { return Err(Stop::Harness("there is no document to validate with".into())) };
    // Whatever else was asked for: these are always there.
    let alice = scene.world.alice().await?;
    for path in ["/v1/agents", "/v1/models", "/v1/runs/run_00000000000000000000000000", "/api/v1/me", "/api/v1/agents", "/api/v1/keys"] {
        scene.get(&alice, path).await?;
    }
    let (checked, breaches) = documents.found();
    ensure!(checked > 0, "no answer of this judgement is described");
    ensure!(
        breaches.is_empty(),
        "of {checked} answers some do not validate against the document, in {} ways: {}",
        breaches.len(),
        breaches[..breaches.len().min(8)].join("; ")
    );
    Ok(())
}

async fn every_port_alike(scene: Scene) -> Outcome {
    let others = scene.world.options.other_ports.clone();
    if others.is_empty() {
        return Err(Stop::NotRun("no other client-facing port of the hub was given (--also)".into()));
    }
    let (caller, agent) = scene.world.caller().await?;
    let run = make_run(&scene, &caller, &agent.id, json!({ "input": "ports" })).await?;
    ended(&scene, &caller, &run).await?;
    let without = |value: &Value| {
        let mut value = value.clone();
        value.as_object_mut().map(|members| members.remove("correlation_id"));
        value
    };
    for other in others {
        let run = format!("/v1/runs/{run}");
        for path in ["/v1/agents", "/v1/models", &run, "/v1/nothing-of-this-name"] {
            let one = scene.get(&caller, path).await?;
            let two = scene.call_at(&other, Method::GET, path).bearer(&caller.access).send().await?;
            two.expect(one.status)?;
            ensure!(without(&one.json) == without(&two.json), "{path} answers differently at {other}: {} and {}", one.json, two.json);
        }
        let path = format!("{run}/events");
        let one = scene.call(Method::GET, &path).bearer(&caller.access).open().await?.read_to_end(super::common::END).await?;
        let two = scene.call_at(&other, Method::GET, &path).bearer(&caller.access).open().await?.read_to_end(super::common::END).await?;
        ensure!(one == two, "{path} has other events at {other}: {one:?} and {two:?}");
        scene.call_at(&other, Method::GET, "/v1/agents").send().await?.refused(401, "unauthorized")?;
        scene.call_at(&other, Method::GET, "/v1/health").send().await?.equals("/status", &json!("ok"))?;
    }
    Ok(())
}
