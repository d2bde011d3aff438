//! Cases of `spec/agents.md`: agents, their names, who may use them.

use reqwest::Method;
use serde_json::{Value, json};

use super::common::{agent_with, body_of};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    exchange::{Answer, has_members},
    scene::Scene,
    world::{Account, echo_agent},
};

cases! {
    "AGT-001" => the_list_below_v1,
    "AGT-002" => three_names_of_one_agent,
    "AGT-003" => missing_deleted_and_forbidden_look_alike,
    "AGT-004" => made_below_api_v1_shown_below_v1,
    "AGT-005" => an_agent_is_made,
    "AGT-006" => bounds_of_an_agent,
    "AGT-007" => configuration_is_judged,
    "AGT-008" => a_change_changes_what_is_given,
    "AGT-009" => versions_are_compared,
    "AGT-010" => deleted_and_restored,
    "AGT-011" => handles_are_never_used_again,
    "AGT-012" => anothers_agent_in_the_tenant,
    "AGT-013" => no_chat_with_what_one_may_not_use,
    "AGT-014" => grants_act_at_once,
    "AGT-015" => prompts_are_the_owners,
    "AGT-016" => names_that_are_none,
    "AGT-017" => pages,
}

const MISSING: &str = "00000000-0000-7000-8000-000000000000";

async fn the_list_below_v1(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let answer = scene.get(&alice, "/v1/agents").await?;
    answer.expect(200)?;
    answer.members("", &["agents", "correlation_id"], Some(&[]))?;
    let one = scene.get(&alice, &format!("/v1/agents/{}", agent.id)).await?;
    let id = one.some_text("/agent/agent_id")?;
    let listed = answer.list("/agents")?;
    for found in listed {
        has_members(
            "an agent",
            found,
            &["agent_id", "tenant_id", "name", "version", "status", "created_at", "updated_at"],
            Some(&["description"]),
        )?;
        let status = found["status"].as_str().unwrap_or_default();
        ensure!(["active", "inactive", "deprecated"].contains(&status), "an agent has the status `{status}`");
    }
    ensure!(listed.iter().any(|found| found["agent_id"] == json!(id)), "the caller's agent {id} is not in the list");
    Ok(())
}

async fn three_names_of_one_agent(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let handle = format!("conf-{}-names", scene.world.mark);
    let agent = agent_with(&scene, &alice, "names", json!({ "handle": handle })).await?;
    let by_uuid = scene.get(&alice, &format!("/v1/agents/{}", agent.id)).await?;
    by_uuid.expect(200)?;
    by_uuid.members("", &["agent", "correlation_id"], Some(&[]))?;
    let id = by_uuid.some_text("/agent/agent_id")?;
    for name in [id.as_str(), handle.as_str()] {
        let answer = scene.get(&alice, &format!("/v1/agents/{name}")).await?;
        answer.expect(200)?;
        answer.equals("/agent/agent_id", &json!(id))?;
    }
    Ok(())
}

/// A body without what differs from request to request.
fn without_ids(answer: &Answer) -> Value {
    let mut json = answer.json.clone();
    if let Some(members) = json.as_object_mut() {
        members.remove("correlation_id");
    }
    json
}

fn alike(answers: &[Answer], status: u16) -> Outcome {
    for answer in answers {
        answer.expect(status)?;
        ensure!(
            without_ids(answer) == without_ids(&answers[0]),
            "{} differs from {}: {} and {}",
            answer.what,
            answers[0].what,
            answer.json,
            answers[0].json
        );
    }
    Ok(())
}

async fn missing_deleted_and_forbidden_look_alike(scene: Scene) -> Outcome {
    let bob = scene.world.bob().await?;
    let private = scene.world.agent().await?;
    let deleted = agent_with(&scene, &bob, "deleted", json!({})).await?;
    scene.call(Method::DELETE, &format!("/api/v1/agents/{}", deleted.id)).bearer(&bob.access).send().await?.expect(200)?;
    let (mut read, mut made) = (Vec::new(), Vec::new());
    for id in [MISSING, &deleted.id, &private.id] {
        read.push(scene.get(&bob, &format!("/v1/agents/{id}")).await?);
        made.push(scene.post(&bob, &format!("/v1/agents/{id}/runs"), &json!({ "input": "x" })).await?);
    }
    alike(&read, 404)?;
    alike(&made, 404)?;
    read[0].refused(404, "not_found")
}

async fn made_below_api_v1_shown_below_v1(scene: Scene) -> Outcome {
    let (alice, agent) = (scene.world.alice().await?, scene.world.agent().await?);
    let answer = scene.get(&alice, &format!("/v1/agents/{}", agent.id)).await?;
    answer.expect(200)?;
    answer.equals("/agent/name", &agent.body["name"])?;
    let id = answer.some_text("/agent/agent_id")?;
    ensure!(id.starts_with("agt_"), "agent_id is `{id}`");
    let old = scene.get(&alice, &format!("/api/v1/agents/{id}")).await?;
    old.equals("/data/id", &json!(agent.id))
}

async fn an_agent_is_made(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let body = json!({ "name": "Conformance bare", "system_prompt": "Be brief.", "description": "bare" });
    let answer = scene.post(&alice, "/api/v1/agents", &body).await?;
    answer.expect(201)?;
    let id = answer.some_text("/data/id")?;
    scene.world.remember(&scene.world.options.target, &alice, &format!("/api/v1/agents/{id}"));
    let jid = answer.some_text("/data/jid")?;
    ensure!(jid.starts_with(&format!("agent-{id}@agents.")), "the address of {id} is {jid}");
    for (pointer, wanted) in [
        ("/data/profile/name", json!("Conformance bare")),
        ("/data/profile/description", json!("bare")),
        ("/data/profile/system_prompt", json!("Be brief.")),
        ("/data/profile/encrypted", json!(true)),
        ("/data/visibility", json!("private")),
    ] {
        answer.equals(pointer, &wanted)?;
    }
    for pointer in ["/data/llm_config", "/data/capabilities", "/data/memory_config", "/data/governance"] {
        answer.equals(pointer, &json!({}))?;
    }
    for pointer in ["/data/owner_user_id", "/data/created_at", "/data/updated_at"] {
        answer.some_text(pointer)?;
    }
    Ok(())
}

async fn bounds_of_an_agent(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let made =
        |name: Value, prompt: Value, description: Value| json!({ "name": name, "system_prompt": prompt, "description": description });
    for (body, member) in [
        (json!({ "system_prompt": "x" }), "name"),
        (made(json!(""), json!("x"), json!("")), "name"),
        (made(json!("n".repeat(256)), json!("x"), json!("")), "name"),
        (json!({ "name": "x" }), "system_prompt"),
        (made(json!("x"), json!(""), json!("")), "system_prompt"),
        (made(json!("x"), json!("x"), json!("d".repeat(1001))), "description"),
    ] {
        let answer = scene.post(&alice, "/api/v1/agents", &body).await?;
        answer.refused(400, "invalid_request")?;
        ensure!(answer.text("/error").contains(member), "{}: the text does not name `{member}`: {}", answer.what, answer.at("/error"));
    }
    let large = made(json!("x"), json!("p".repeat(65_537)), json!(""));
    scene.post(&alice, "/api/v1/agents", &large).await?.refused(413, "too_large")
}

async fn configuration_is_judged(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for (more, place) in [
        (json!({ "llm_config": null }), "llm_config"),
        (json!({ "memory_config": "x" }), "memory_config"),
        (json!({ "governance": [] }), "governance"),
        (json!({ "llm_config": { "temperature": "hot" } }), "llm_config.temperature"),
        (json!({ "llm_config": { "temperature": 99 } }), "llm_config.temperature"),
        (json!({ "memory_config": { "max_short_term_msgs": -1 } }), "memory_config.max_short_term_msgs"),
    ] {
        let mut body = echo_agent("Conformance wrong", "private");
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        let answer = scene.post(&alice, "/api/v1/agents", &body).await?;
        answer.refused(400, "invalid_request")?;
        ensure!(
            answer.text("/error").starts_with(place),
            "{}: the text for {more} does not begin with `{place}`: {}",
            answer.what,
            answer.at("/error")
        );
    }
    let agent = agent_with(
        &scene,
        &alice,
        "unknown",
        json!({ "llm_config": { "provider": "echo", "model": "echo", "x_unknown": { "kept": [1, 2] } } }),
    )
    .await?;
    let answer = scene.get(&alice, &format!("/api/v1/agents/{}", agent.id)).await?;
    answer.equals("/data/llm_config/x_unknown", &json!({ "kept": [1, 2] }))
}

async fn put(scene: &Scene, who: &Account, agent: &str, body: &Value) -> Result<Answer, Stop> {
    scene.call(Method::PUT, &format!("/api/v1/agents/{agent}")).bearer(&who.access).json(body).send().await
}

async fn a_change_changes_what_is_given(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let agent = agent_with(&scene, &alice, "change", json!({ "memory_config": { "enabled": true, "max_short_term_msgs": 7 } })).await?;
    let before = scene.get(&alice, &format!("/api/v1/agents/{}", agent.id)).await?;
    let after = put(&scene, &alice, &agent.id, &json!({ "description": "changed", "memory_config": { "enabled": true } })).await?;
    after.expect(200)?;
    after.equals("/data/profile/description", &json!("changed"))?;
    after.equals("/data/memory_config", &json!({ "enabled": true }))?;
    for pointer in
        ["/data/profile/name", "/data/profile/system_prompt", "/data/llm_config", "/data/visibility", "/data/created_at", "/data/jid"]
    {
        after.equals(pointer, before.at(pointer))?;
    }
    Ok(())
}

async fn versions_are_compared(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let agent = agent_with(&scene, &alice, "version", json!({})).await?;
    let read = scene.get(&alice, &format!("/api/v1/agents/{}", agent.id)).await?;
    let Some(version) = read.at("/data/version").as_u64() else {
        return Err(Stop::Failed(format!("`version` is {}", read.at("/data/version"))));
    };
    put(&scene, &alice, &agent.id, &json!({ "description": "x", "version": version + 41 })).await?.refused(409, "version_conflict")?;
    let bodies: Vec<Value> = (0..10).map(|n| json!({ "description": format!("n{n}"), "version": version })).collect();
    let answers = futures::future::try_join_all(bodies.iter().map(|body| put(&scene, &alice, &agent.id, body))).await?;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    ensure!(won == 1, "{won} of 10 parallel changes of one version were accepted");
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        lost.refused(409, "version_conflict")?;
    }
    Ok(())
}

async fn deleted_and_restored(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let agent = agent_with(&scene, &alice, "restore", json!({})).await?;
    let path = format!("/api/v1/agents/{}", agent.id);
    let before = scene.get(&alice, &path).await?;
    scene.call(Method::DELETE, &path).bearer(&alice.access).send().await?.expect(200)?;
    scene.get(&alice, &path).await?.refused(404, "not_found")?;
    scene.get(&alice, &format!("/v1/agents/{}", agent.id)).await?.refused(404, "not_found")?;
    for list in ["/api/v1/agents?page_size=100", "/v1/agents"] {
        let listed = scene.get(&alice, list).await?;
        ensure!(!body_of(&listed).contains(&agent.id), "{}: the deleted agent is listed", listed.what);
    }
    scene.post(&alice, &format!("{path}/restore"), &json!({})).await?.expect(200)?;
    let after = scene.get(&alice, &path).await?;
    after.expect(200)?;
    for pointer in ["/data/profile", "/data/jid", "/data/llm_config", "/data/visibility"] {
        after.equals(pointer, before.at(pointer))?;
    }
    Ok(())
}

async fn handles_are_never_used_again(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let handle = format!("conf-{}-once", scene.world.mark);
    let agent = agent_with(&scene, &alice, "handle", json!({ "handle": handle })).await?;
    let mut body = echo_agent("Conformance second", "private");
    body["handle"] = json!(handle);
    scene.post(&alice, "/api/v1/agents", &body).await?.refused(409, "handle_taken")?;
    scene.call(Method::DELETE, &format!("/api/v1/agents/{}", agent.id)).bearer(&alice.access).send().await?.expect(200)?;
    scene.post(&alice, "/api/v1/agents", &body).await?.refused(409, "handle_taken")
}

async fn anothers_agent_in_the_tenant(scene: Scene) -> Outcome {
    let (bob, agent) = (scene.world.bob().await?, scene.world.agent().await?);
    let path = format!("/api/v1/agents/{}", agent.id);
    let call = |method: Method, path: &str| scene.call(method, path).bearer(&bob.access);
    let refused = [
        call(Method::GET, &path).send().await?,
        call(Method::PUT, &path).json(&json!({ "description": "x" })).send().await?,
        call(Method::DELETE, &path).send().await?,
        call(Method::GET, &format!("{path}/grants")).send().await?,
        call(Method::GET, &format!("{path}/audit")).send().await?,
    ];
    for answer in refused {
        answer.expect(403)?;
        answer.equals("/error", &json!("access denied: ownership mismatch"))?;
    }
    let missing = call(Method::GET, &format!("/api/v1/agents/{MISSING}")).send().await?;
    missing.expect(404)?;
    missing.equals("/error", &json!("agent not found"))
}

async fn no_chat_with_what_one_may_not_use(scene: Scene) -> Outcome {
    let (bob, agent) = (scene.world.bob().await?, scene.world.agent().await?);
    let chat = |id: String| {
        let scene = scene.clone();
        let bob = bob.clone();
        async move { scene.post(&bob, &format!("/api/v1/agents/{id}/chat"), &json!({ "message": "x", "detach": true })).await }
    };
    let answers = [chat(MISSING.to_owned()).await?, chat(agent.id).await?];
    alike(&answers, 404)?;
    answers[0].refused(404, "not_found")
}

async fn grants_act_at_once(scene: Scene) -> Outcome {
    let (alice, bob) = (scene.world.alice().await?, scene.world.bob().await?);
    let agent = agent_with(&scene, &alice, "grants", json!({ "visibility": "shared" })).await?;
    let me = scene.get(&bob, "/api/v1/me").await?.some_text("/data/id")?;
    let grants = format!("/api/v1/agents/{}/grants", agent.id);
    let run = format!("/v1/agents/{}/runs", agent.id);
    scene.post(&bob, &run, &json!({ "input": "x" })).await?.refused(404, "not_found")?;
    let body = json!({ "kind": "user", "grantee": me });
    let grant = scene.post(&alice, &grants, &body).await?;
    grant.expect(201)?;
    scene.post(&bob, &run, &json!({ "input": "x" })).await?.expect(201)?;
    scene.post(&alice, &grants, &body).await?.refused(409, "grant_exists")?;
    let id = grant.some_text("/data/id")?;
    scene.call(Method::DELETE, &format!("{grants}/{id}")).bearer(&alice.access).send().await?.expect(200)?;
    scene.post(&bob, &run, &json!({ "input": "x" })).await?.refused(404, "not_found")
}

async fn prompts_are_the_owners(scene: Scene) -> Outcome {
    let (alice, bob) = (scene.world.alice().await?, scene.world.bob().await?);
    let secret = format!("prompt-secret-{}", scene.world.mark);
    let agent = agent_with(
        &scene,
        &alice,
        "prompt",
        json!({ "visibility": "tenant", "system_prompt": secret, "governance": { "allowed_domains": [], "x_note": secret } }),
    )
    .await?;
    let run = super::common::make_run(&scene, &bob, &agent.id, json!({ "input": "what do you know?" })).await?;
    super::common::ended(&scene, &bob, &run).await?;
    let answers = [
        scene.get(&bob, &format!("/v1/agents/{}", agent.id)).await?,
        scene.get(&bob, "/v1/agents").await?,
        scene.get(&bob, "/api/v1/mesh/agents").await?,
        scene.get(&bob, &format!("/api/v1/agents/{}", agent.id)).await?,
        scene.get(&bob, &format!("/v1/runs/{run}/events")).await?,
        scene.get(&bob, &format!("/api/v1/runs/{run}")).await?,
    ];
    for answer in answers {
        ensure!(!body_of(&answer).contains(&secret), "{}: a user sees the prompt or the configuration", answer.what);
    }
    Ok(())
}

async fn names_that_are_none(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for bad in ["%20", "a%20b", "agt_tooshort", "%00"] {
        let answer = scene.get(&alice, &format!("/api/v1/agents/{bad}")).await?;
        answer.refused(400, "invalid_request")?;
        answer.equals("/error", &json!("invalid agent ID"))?;
    }
    Ok(())
}

async fn pages(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    scene.world.agent().await?;
    for (query, page, size) in [
        ("", 1, 20),
        ("?page=0&page_size=0", 1, 20),
        ("?page=x&page_size=101", 1, 20),
        ("?page=2&page_size=5", 2, 5),
        ("?limit=3&offset=3", 2, 3),
        ("?page=9999&page_size=100", 9999, 100),
    ] {
        let answer = scene.get(&alice, &format!("/api/v1/agents{query}")).await?;
        answer.expect(200)?;
        answer.equals("/page", &json!(page))?;
        answer.equals("/page_size", &json!(size))?;
        ensure!(answer.at("/total_count").is_u64(), "{}: `total_count` is {}", answer.what, answer.at("/total_count"));
        let listed = answer.list("/data")?.len();
        ensure!(listed <= size, "{}: {listed} items on a page of {size}", answer.what);
        ensure!(page < 9999 || listed == 0, "{}: items past the end", answer.what);
    }
    Ok(())
}
