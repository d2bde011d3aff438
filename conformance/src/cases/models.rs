//! Cases of `spec/models.md`: the model gateway and the OpenAI-compatible endpoints.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use super::common::END;
use crate::{
    case::{Outcome, Stop, cases, ensure},
    exchange::{Answer, has_members},
    scene::Scene,
    world::{Account, Tenant},
};

cases! {
    "MOD-001" => the_catalogue,
    "MOD-002" => what_is_listed_is_taken,
    "MOD-003" => a_chat_is_invoked,
    "MOD-004" => usage_adds_up,
    "MOD-005" => the_route_is_told,
    "MOD-006" => texts_are_embedded,
    "MOD-007" => an_unknown_model,
    "MOD-008" => entitlements,
    "MOD-009" => wrong_requests,
    "MOD-010" => tokens_of_a_request,
    "MOD-011" => the_built_in_model_is_deterministic,
    "MOD-013" => a_completion,
    "MOD-014" => a_streamed_completion,
    "MOD-015" => openai_embeddings,
    "MOD-016" => openai_models,
    "MOD-017" => openai_errors,
    "MOD-018" => policy_acts_on_every_shape,
    "MOD-019" => parameters_without_effect,
}

const COMPLETIONS: [&str; 2] = ["/v1/chat/completions", "/openai/v1/chat/completions"];
const EMBEDDINGS: [&str; 2] = ["/v1/embeddings", "/openai/v1/embeddings"];

async fn catalogue(scene: &Scene, who: &Account) -> Result<Vec<Value>, Stop> {
    let answer = scene.get(who, "/v1/models").await?;
    answer.expect(200)?;
    Ok(answer.list("/models")?.clone())
}

/// The built-in model that can do this.
pub(super) async fn built_in(scene: &Scene, who: &Account, operation: &str) -> Result<String, Stop> {
    let all = catalogue(scene, who).await?;
    let can = |model: &&Value| {
        model["provider"] == json!("echo") && model["capabilities"].as_array().is_some_and(|list| list.contains(&json!(operation)))
    };
    let found = all.iter().find(can).and_then(|model| model["model_id"].as_str());
    found.map(str::to_owned).ok_or_else(|| Stop::NotRun(format!("the hub has no built-in model (provider `echo`) for {operation}")))
}

pub(super) fn chat(model: &str, text: &str) -> Value {
    json!({ "request": {
        "request_id": "req_conformance",
        "operation": "chat",
        "model_ref": model,
        "input": { "messages": [{ "role": "user", "content": text }] },
    } })
}

fn embed(model: &str, texts: &Value, format: &str) -> Value {
    json!({ "request": {
        "request_id": "req_conformance",
        "operation": "embed",
        "model_ref": model,
        "input": { "texts": texts, "encoding_format": format },
    } })
}

pub(super) async fn invoke(scene: &Scene, who: &Account, body: &Value) -> Result<Answer, Stop> {
    scene.post(who, "/v1/models:invoke", body).await
}

async fn the_catalogue(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let answer = scene.get(&alice, "/v1/models").await?;
    answer.expect(200)?;
    answer.members("", &["models"], Some(&[]))?;
    for model in answer.list("/models")? {
        has_members("a model", model, &["model_id", "provider", "capabilities"], Some(&["max_output_tokens", "context_window_tokens"]))?;
        let capabilities = model["capabilities"].as_array().cloned().unwrap_or_default();
        let known = capabilities.iter().all(|one| one == "chat" || one == "embed");
        ensure!(!capabilities.is_empty() && known, "the capabilities of {} are {}", model["model_id"], model["capabilities"]);
    }
    Ok(())
}

async fn what_is_listed_is_taken(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for model in catalogue(&scene, &alice).await? {
        // Others cost money, and may be away.
        if model["provider"] != json!("echo") {
            continue;
        }
        let id = model["model_id"].as_str().unwrap_or_default();
        for operation in model["capabilities"].as_array().into_iter().flatten() {
            let body = if operation == "chat" { chat(id, "x") } else { embed(id, &json!(["x"]), "float") };
            invoke(&scene, &alice, &body).await?.expect(200)?;
        }
    }
    Ok(())
}

async fn a_chat_is_invoked(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let answer = invoke(&scene, &alice, &chat(&model, "hello gateway")).await?;
    answer.expect(200)?;
    answer.members("", &["response", "correlation_id"], Some(&["traceparent"]))?;
    answer.members("/response", &["request_id", "status", "output", "usage", "latency_ms", "policy_outcome", "route"], None)?;
    for (pointer, wanted) in [
        ("/response/request_id", "req_conformance"),
        ("/response/status", "ok"),
        ("/response/output/type", "chat"),
        ("/response/output/message/role", "assistant"),
    ] {
        answer.equals(pointer, &json!(wanted))?;
    }
    answer.members("/response/output", &["type", "message"], Some(&["tool_calls"]))?;
    answer.members("/response/policy_outcome", &["decision", "reasons", "redactions"], Some(&[]))?;
    ensure!(
        answer.text("/response/output/message/content").contains("hello gateway"),
        "the built-in model said {}",
        answer.at("/response/output")
    );
    Ok(())
}

async fn usage_adds_up(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let answer = invoke(&scene, &alice, &chat(&model, "count these words")).await?;
    answer.expect(200)?;
    answer.members("/response/usage", &["input_tokens", "output_tokens", "total_tokens"], Some(&[]))?;
    let number = |name: &str| answer.at(&format!("/response/usage/{name}")).as_u64();
    let (Some(input), Some(output), Some(total)) = (number("input_tokens"), number("output_tokens"), number("total_tokens")) else {
        return Err(Stop::Failed(format!("usage is {}", answer.at("/response/usage"))));
    };
    ensure!(input + output == total, "usage is {}", answer.at("/response/usage"));
    Ok(())
}

async fn the_route_is_told(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let answer = invoke(&scene, &alice, &chat(&model, "x")).await?;
    answer.expect(200)?;
    for name in ["backend", "model", "node"] {
        answer.some_text(&format!("/response/route/{name}"))?;
    }
    ensure!(answer.at("/response/route/fallback_used").is_boolean(), "the route is {}", answer.at("/response/route"));
    ensure!(
        answer.at("/response/route/fallback_used") == &json!(true) || answer.text("/response/route/model") == model,
        "the route of {model} is {}",
        answer.at("/response/route")
    );
    let tier = invoke(&scene, &alice, &chat("tier:fast", "x")).await?;
    ensure!(tier.status == 200 || tier.status == 403 || tier.status == 503, "{}: a tier was answered by {}", tier.what, tier.status);
    Ok(())
}

async fn texts_are_embedded(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "embed").await?;
    let texts = json!(["one", "two", "one"]);
    let answer = invoke(&scene, &alice, &embed(&model, &texts, "float")).await?;
    answer.expect(200)?;
    answer.equals("/response/output/type", &json!("embedding"))?;
    answer.members("/response/output", &["type", "embeddings"], Some(&[]))?;
    let entries = answer.list("/response/output/embeddings")?.clone();
    ensure!(entries.len() == 3, "3 texts gave {} entries", entries.len());
    let vectors: Vec<Vec<f64>> =
        entries.iter().map(|entry| entry["vector"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()).collect();
    for (index, entry) in entries.iter().enumerate() {
        ensure!(entry["index"] == json!(index), "entry {index} has the index {}", entry["index"]);
        ensure!(
            !vectors[index].is_empty() && vectors[index].len() == vectors[0].len(),
            "vectors have the lengths {:?}",
            vectors.iter().map(Vec::len).collect::<Vec<_>>()
        );
    }
    ensure!(vectors[0] == vectors[2] && vectors[0] != vectors[1], "equal texts have different vectors, or different texts equal ones");
    let packed = invoke(&scene, &alice, &embed(&model, &texts, "base64")).await?;
    packed.expect(200)?;
    let text = packed.some_text("/response/output/embeddings/0/vector")?;
    let bytes = BASE64_STANDARD.decode(&text).map_err(|_| Stop::Failed(format!("the vector is no base64: {text}")))?;
    let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
    let close = numbers.len() == vectors[0].len() && numbers.iter().zip(&vectors[0]).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5);
    ensure!(close, "the base64 vector holds other numbers than the float one");
    Ok(())
}

async fn an_unknown_model(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    for model in ["conformance-no-such-model", "tier:conformance"] {
        invoke(&scene, &alice, &chat(model, "x")).await?.refused(404, "model_not_found")?;
    }
    Ok(())
}

/// A tenant of this case's own with these members, and its service as an account.
async fn tenant_with(scene: &Scene, name: &str, change: Value) -> Result<(Tenant, Account), Stop> {
    let admin = scene.world.admin().await?;
    let tenant = scene.world.make_tenant(name).await?;
    let call = scene.call(Method::PATCH, &format!("/v1/admin/tenants/{}", tenant.id)).bearer(&admin.access);
    call.json(&json!({ "tenant": change })).send().await?.expect(200)?;
    let service = tenant.account();
    Ok((tenant, service))
}

async fn entitlements(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    for (name, change) in [
        ("denied", json!({ "policy": { "denied_models": [model] } })),
        ("both", json!({ "policy": { "allowed_models": [model], "denied_models": [model] } })),
        ("elsewhere", json!({ "entitlements": { "model_backends_allowed": ["conformance-none"] } })),
    ] {
        let (_, service) = tenant_with(&scene, name, change).await?;
        let answer = invoke(&scene, &service, &chat(&model, "x")).await?;
        answer.refused(403, "policy_blocked")?;
        ensure!(!answer.list("/error/details/reasons")?.is_empty(), "{}: `details.reasons` is empty", answer.what);
        let listed = catalogue(&scene, &service).await?;
        ensure!(!listed.iter().any(|one| one["model_id"] == json!(model)), "a model that is refused ({name}) is in the list");
    }
    Ok(())
}

async fn wrong_requests(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let without = |name: &str| {
        let mut body = chat(&model, "x");
        if let Some(request) = body["request"].as_object_mut() {
            request.remove(name);
        }
        body
    };
    let with = |name: &str, value: Value| {
        let mut body = chat(&model, "x");
        body["request"][name] = value;
        body
    };
    for body in [
        without("operation"),
        without("model_ref"),
        without("input"),
        with("input", json!({ "messages": [] })),
        with("operation", json!("sing")),
        with("input", json!({ "texts": ["x"] })),
        embed(&model, &json!([]), "float"),
        json!({}),
    ] {
        let answer = invoke(&scene, &alice, &body).await?;
        if answer.status != 400 || answer.code() != "invalid_request" {
            return Err(Stop::Failed(format!("{body}: expected 400 `invalid_request`, got {} with {}", answer.status, answer.json)));
        }
    }
    Ok(())
}

async fn tokens_of_a_request(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let (_, service) = tenant_with(&scene, "per-request", json!({ "quotas": { "models": { "max_tokens_per_request": 50 } } })).await?;
    let mut body = chat(&model, "x");
    body["request"]["generation"] = json!({ "max_output_tokens": 5000 });
    let answer = invoke(&scene, &service, &body).await?;
    if answer.status == 200 {
        ensure!(
            !answer.list("/response/policy_outcome/reasons")?.is_empty(),
            "{}: clamped without a reason: {}",
            answer.what,
            answer.at("/response/policy_outcome")
        );
        return Ok(());
    }
    answer.refused(400, "invalid_request")
}

async fn the_built_in_model_is_deterministic(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let (one, two) = (invoke(&scene, &alice, &chat(&model, "same")).await?, invoke(&scene, &alice, &chat(&model, "same")).await?);
    two.equals("/response/output", one.at("/response/output"))?;
    let named = format!("{} {}", one.text("/response/route/backend"), one.text("/response/route/model"));
    ensure!(named.contains("echo") || named.contains("builtin"), "the route does not name the model as built in: {named}");
    Ok(())
}

fn completion(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }] })
}

async fn a_completion(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    for path in COMPLETIONS {
        let answer = scene.post(&alice, path, &completion(&model, "hello openai")).await?;
        answer.expect(200)?;
        answer.members("", &["id", "object", "created", "model", "choices", "usage"], None)?;
        answer.equals("/object", &json!("chat.completion"))?;
        ensure!(answer.at("/created").is_u64(), "`created` is {}", answer.at("/created"));
        answer.members("/choices/0", &["index", "message", "finish_reason"], None)?;
        answer.equals("/choices/0/message/role", &json!("assistant"))?;
        ensure!(answer.text("/choices/0/message/content").contains("hello openai"), "the message is {}", answer.at("/choices/0/message"));
        for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            ensure!(answer.at(&format!("/usage/{name}")).is_u64(), "usage is {}", answer.at("/usage"));
        }
    }
    Ok(())
}

async fn a_streamed_completion(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    for path in COMPLETIONS {
        let whole = scene.post(&alice, path, &completion(&model, "one two three four")).await?;
        let mut body = completion(&model, "one two three four");
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
        let mut live = scene.call(Method::POST, path).bearer(&alice.access).json(&body).open().await?;
        ensure!(live.status == 200, "{}: status {}", live.what, live.status);
        let frames = live.read_to_end(END).await?;
        ensure!(frames.last().is_some_and(|frame| frame.data == ["[DONE]"]), "the last frame is {:?}", frames.last());
        let chunks: Vec<Value> = frames[..frames.len() - 1].iter().map(crate::stream::Frame::json).collect();
        let id = chunks.first().map(|chunk| chunk["id"].clone()).unwrap_or_default();
        for chunk in &chunks {
            ensure!(chunk["object"] == json!("chat.completion.chunk") && chunk["id"] == id, "a chunk is {chunk}");
        }
        let joined: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        ensure!(
            json!(joined) == *whole.at("/choices/0/message/content"),
            "the joined deltas `{joined}` differ from {}",
            whole.at("/choices/0/message/content")
        );
        let (with_choice, last): (Vec<&Value>, Vec<&Value>) =
            chunks.iter().partition(|chunk| chunk["choices"].as_array().is_some_and(|list| !list.is_empty()));
        ensure!(
            with_choice.last().is_some_and(|chunk| chunk["choices"][0]["finish_reason"].is_string()),
            "the last chunk of the choice has no finish_reason"
        );
        ensure!(last.len() == 1 && last[0]["usage"]["total_tokens"].is_u64(), "there is no chunk of usage before [DONE]: {last:?}");
    }
    Ok(())
}

async fn openai_embeddings(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "embed").await?;
    for path in EMBEDDINGS {
        for (input, wanted) in [(json!("one"), 1), (json!(["one", "two"]), 2)] {
            let answer = scene.post(&alice, path, &json!({ "model": model, "input": input })).await?;
            answer.expect(200)?;
            answer.equals("/object", &json!("list"))?;
            let data = answer.list("/data")?;
            ensure!(data.len() == wanted, "{}: {} entries for {input}", answer.what, data.len());
            for (index, entry) in data.iter().enumerate() {
                let fine = entry["object"] == json!("embedding")
                    && entry["index"] == json!(index)
                    && entry["embedding"].as_array().is_some_and(|v| !v.is_empty());
                ensure!(fine, "{}: an entry is not an embedding with its index", answer.what);
            }
            for name in ["prompt_tokens", "total_tokens"] {
                ensure!(answer.at(&format!("/usage/{name}")).is_u64(), "usage is {}", answer.at("/usage"));
            }
        }
    }
    Ok(())
}

async fn openai_models(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let answer = scene.get(&alice, "/openai/v1/models").await?;
    answer.expect(200)?;
    answer.equals("/object", &json!("list"))?;
    let data = answer.list("/data")?;
    for model in data {
        has_members("a model", model, &["id", "object", "created", "owned_by"], None)?;
        ensure!(model["object"] == json!("model"), "a model is {model}");
    }
    for model in catalogue(&scene, &alice).await? {
        ensure!(data.iter().any(|one| one["id"] == model["model_id"]), "{} is not in the list", model["model_id"]);
    }
    Ok(())
}

async fn openai_errors(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let mut answers = Vec::new();
    for path in COMPLETIONS {
        answers.push((scene.post(&alice, path, &completion("conformance-none", "x")).await?, 404, "model_not_found"));
        answers.push((scene.post(&alice, path, &json!({ "model": model })).await?, 400, "invalid_request"));
        answers.push((
            scene.post(&alice, path, &json!({ "messages": [{ "role": "user", "content": "x" }] })).await?,
            400,
            "invalid_request",
        ));
        answers.push((scene.call(Method::POST, path).json(&completion(&model, "x")).send().await?, 401, "unauthorized"));
    }
    for path in EMBEDDINGS {
        answers.push((scene.post(&alice, path, &json!({ "model": "conformance-none", "input": "x" })).await?, 404, "model_not_found"));
        answers.push((scene.post(&alice, path, &json!({ "model": model })).await?, 400, "invalid_request"));
    }
    answers.push((scene.call(Method::GET, "/openai/v1/models").send().await?, 401, "unauthorized"));
    for (answer, status, code) in answers {
        answer.refused(status, code)?;
        for pointer in ["/error/message", "/error/code"] {
            answer.some_text(pointer)?;
        }
    }
    Ok(())
}

async fn policy_acts_on_every_shape(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let (_, service) = tenant_with(&scene, "shapes", json!({ "policy": { "denied_models": [model] } })).await?;
    for path in COMPLETIONS {
        scene.post(&service, path, &completion(&model, "x")).await?.refused(403, "policy_blocked")?;
        let masked = scene.post(&alice, path, &completion(&model, "write to jane.roe@mail.example now")).await?;
        masked.expect(200)?;
        ensure!(
            !super::common::body_of(&masked).contains("jane.roe@mail.example"),
            "{}: an address of the input reached the backend",
            masked.what
        );
    }
    Ok(())
}

async fn parameters_without_effect(scene: Scene) -> Outcome {
    let alice = scene.world.alice().await?;
    let model = built_in(&scene, &alice, "chat").await?;
    let mut body = completion(&model, "x");
    body["logit_bias"] = json!({ "50256": -100 });
    body["n"] = json!(3);
    let answer = scene.post(&alice, COMPLETIONS[1], &body).await?;
    answer.expect(400)?;
    let text = super::common::body_of(&answer);
    ensure!(
        text.contains("logit_bias") || text.contains("\"n\"") || text.contains("`n`"),
        "{}: the refusal names no parameter: {text}",
        answer.what
    );
    Ok(())
}
