//! Cases of `spec/idempotency.md`: the same request twice.

use reqwest::Method;
use serde_json::json;

use super::common::{agent_with, waiting_agent};
use crate::{
    case::{Outcome, cases, ensure},
    exchange::Answer,
    scene::{Call, Scene},
    world::Account,
};

cases! {
    "IDM-001" => the_second_is_the_first,
    "IDM-002" => another_body_is_refused,
    "IDM-003" => another_agent_or_principal_is_independent,
    "IDM-004" => of_fifty_at_once_one_is_made,
    "IDM-005" => bad_keys,
    "IDM-006" => the_same_body_in_other_letters,
    "IDM-009" => chats_have_keys_too,
    "IDM-010" => tenants_have_keys_too,
}

fn run(scene: &Scene, who: &Account, agent: &str) -> Call {
    scene.call(Method::POST, &format!("/v1/agents/{agent}/runs")).bearer(&who.access)
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == "true"
}

fn key(scene: &Scene, name: &str) -> String {
    format!("{}-{name}-{}", scene.world.mark, uuid::Uuid::new_v4().simple())
}

async fn the_second_is_the_first(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    for in_body in [false, true] {
        let key = key(&scene, "twice");
        let mut body = json!({ "input": "twice" });
        if in_body {
            body["idempotency_key"] = json!(key);
        }
        let call = || {
            let call = run(&scene, &caller, &agent.id).json(&body);
            if in_body { call } else { call.header("idempotency-key", &key) }
        };
        let first = call().send().await?;
        first.expect(201)?;
        ensure!(!replayed(&first), "{}: the first answer says that it is a replay", first.what);
        let second = call().send().await?;
        second.expect(200)?;
        ensure!(replayed(&second), "{}: the second answer has no `Idempotency-Replayed: true`", second.what);
        second.equals("/run/run_id", first.at("/run/run_id"))?;
    }
    Ok(())
}

async fn another_body_is_refused(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let key = key(&scene, "other");
    run(&scene, &caller, &agent.id).header("idempotency-key", &key).json(&json!({ "input": "one" })).send().await?.expect(201)?;
    let other = run(&scene, &caller, &agent.id).header("idempotency-key", &key).json(&json!({ "input": "two" })).send().await?;
    other.refused(409, "conflict")
}

async fn another_agent_or_principal_is_independent(scene: Scene) -> Outcome {
    let (alice, bob) = (scene.world.alice().await?, scene.world.bob().await?);
    let (one, two) =
        (agent_with(&scene, &alice, "one", json!({ "visibility": "tenant" })).await?, agent_with(&scene, &alice, "two", json!({})).await?);
    let key = key(&scene, "scope");
    let send =
        |who: Account, agent: String| run(&scene, &who, &agent).header("idempotency-key", &key).json(&json!({ "input": "x" })).send();
    let first = send(alice.clone(), one.id.clone()).await?;
    let (agent, principal) = (send(alice, two.id).await?, send(bob, one.id).await?);
    for other in [agent, principal] {
        other.expect(201)?;
        ensure!(other.at("/run/run_id") != first.at("/run/run_id"), "{}: it got the run of another agent or principal", other.what);
    }
    Ok(())
}

async fn of_fifty_at_once_one_is_made(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let key = key(&scene, "fifty");
    let sent =
        (0..50).map(|_| run(&scene, &caller, &agent.id).header("idempotency-key", &key).json(&json!({ "input": "fifty" })).send_once());
    let answers: Vec<Answer> = futures::future::try_join_all(sent).await?;
    let (made, again) = (answers.iter().filter(|one| one.status == 201).count(), answers.iter().filter(|one| one.status == 200).count());
    ensure!((made, again) == (1, 49), "of 50 parallel requests {made} answered 201 and {again} answered 200, expected 1 and 49");
    for answer in &answers {
        answer.equals("/run/run_id", answers[0].at("/run/run_id"))?;
    }
    Ok(())
}

async fn bad_keys(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    for bad in [String::new(), "k".repeat(257)] {
        let body = json!({ "input": "x", "idempotency_key": bad });
        run(&scene, &caller, &agent.id).json(&body).send().await?.refused(400, "invalid_request")?;
    }
    let (one, two) = (key(&scene, "one"), key(&scene, "two"));
    let both = |header: &str, body: &str| {
        run(&scene, &caller, &agent.id).header("idempotency-key", header).json(&json!({ "input": "x", "idempotency_key": body })).send()
    };
    both(&one, &two).await?.refused(400, "invalid_request")?;
    both(&one, &one).await?.expect(201)
}

async fn the_same_body_in_other_letters(scene: Scene) -> Outcome {
    let (caller, agent) = scene.world.caller().await?;
    let key = key(&scene, "letters");
    let send = |body: &'static str| run(&scene, &caller, &agent.id).header("idempotency-key", &key).raw(body).send();
    send(r#"{"input":{"type":"text","text":"x"},"run_options":{"timeout_ms":9000,"priority":"low"}}"#).await?.expect(201)?;
    send("{ \"run_options\" : {\"priority\":\"low\", \"timeout_ms\": 9000},\n \"input\": {\"text\":\"x\",\"type\":\"text\"} }")
        .await?
        .expect(200)
}

async fn chats_have_keys_too(scene: Scene) -> Outcome {
    let (caller, _) = scene.world.caller().await?;
    let agent = waiting_agent(&scene, &caller).await?;
    let key = key(&scene, "chat");
    let send = |message: &str| {
        let call = scene.call(Method::POST, &format!("/api/v1/agents/{}/chat", agent.id)).bearer(&caller.access);
        call.header("idempotency-key", &key).json(&json!({ "message": message, "detach": true })).send()
    };
    let first = send("one").await?;
    first.expect(202)?;
    let second = send("one").await?;
    ensure!(second.header("idempotent-replayed") == "true", "{}: no `Idempotent-Replayed: true`", second.what);
    second.equals("/data/id", first.at("/data/id"))?;
    send("two").await?.refused(409, "idempotency_conflict")?;
    let run = first.some_text("/data/id")?;
    scene.post(&caller, &format!("/api/v1/runs/{run}/cancel"), &json!({})).await?.expect(200)
}

async fn tenants_have_keys_too(scene: Scene) -> Outcome {
    let admin = scene.world.admin().await?;
    let key = key(&scene, "tenant");
    let body = json!({ "tenant": { "name": format!("Conformance {}", key) } });
    let send = || scene.call(Method::POST, "/v1/admin/tenants").bearer(&admin.access).header("idempotency-key", &key).json(&body).send();
    let first = send().await?;
    first.expect(201)?;
    let id = first.some_text("/tenant/tenant_id")?;
    scene.world.remember_tenant(&admin, &id);
    let second = send().await?;
    if second.status == 201 {
        scene.world.remember_tenant(&admin, second.text("/tenant/tenant_id"));
    }
    ensure!(replayed(&second), "{}: no `Idempotency-Replayed: true`", second.what);
    second.equals("/tenant/tenant_id", &json!(id))
}
