//! The OpenAI-compatible endpoints as a client sees them. What OpenAI's own client makes of them is in `tests/e2e`.

use aiox_model::{
    RunId, Ts,
    run::{RunDelta, RunEvent},
};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    hub::{Answer, Hub},
    model_worker::connect,
};

const CHAT: &str = "/openai/v1/chat/completions";
const RESPONSES: &str = "/openai/v1/responses";

fn ask(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }] })
}

fn with(mut body: Value, members: Value) -> Value {
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

/// The `data:` of every event.
async fn stream(hub: &Hub, path: &str, token: &str, body: Value) -> (http::HeaderMap, Vec<String>) {
    let response = hub.call(Method::POST, path).bearer_auth(token).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    (headers, text.lines().filter_map(|line| line.strip_prefix("data: ").map(str::to_owned)).collect())
}

fn chunks(data: &[String]) -> Vec<Value> {
    data.iter().filter(|line| *line != "[DONE]").map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text_of(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_chat_is_answered_whole_and_in_chunks_alike() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let _worker = connect(&hub.dispatch);
    for path in [CHAT, "/v1/chat/completions"] {
        let whole = hub.post(path, &token, ask("main", "a b c")).await;
        assert_eq!(whole.status, 200, "{:?}", whole.body);
        assert_eq!(whole.body["object"], "chat.completion");
        assert_eq!(
            whole.body["choices"],
            json!([{ "index": 0, "message": { "role": "assistant", "content": "paid: a b c", "refusal": null }, "logprobs": null, "finish_reason": "stop" }])
        );
        assert_eq!(whole.body["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 }));
        assert_eq!(whole.headers["x-aiox-route"], "main via paid at hub-a.example; tier=premium; named by the request");
        assert_eq!(whole.headers["x-aiox-cost-usd"], "0.000007");
        assert_eq!(whole.headers["x-aiox-policy"], "allowed");

        let streamed = with(ask("tier:premium", "a b c"), json!({ "stream": true, "stream_options": { "include_usage": true } }));
        let (headers, data) = stream(&hub, path, &token, streamed).await;
        assert_eq!(headers["x-aiox-fallback"], "true");
        assert_eq!(data.last().unwrap(), "[DONE]");
        let all = chunks(&data);
        assert!(
            all.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == all[0]["id"] && chunk["model"] == "main")
        );
        assert_eq!(text_of(&all), "paid: a b c");
        assert_eq!(all[0]["choices"][0]["delta"]["role"], "assistant");
        let (last, before) = (&all[all.len() - 1], &all[all.len() - 2]);
        assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(7)));
        assert_eq!(before["choices"][0]["finish_reason"], "stop");
    }
    assert_eq!(hub.post(CHAT, &token, ask("main", "cut")).await.body["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn tools_are_asked_for_and_their_results_taken() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let worker = connect(&hub.dispatch);
    let tools = json!({ "tools": [{ "type": "function", "function": { "name": "clock", "parameters": { "type": "object" } } }], "tool_choice": "auto" });
    let asked = hub.post(CHAT, &token, with(ask("main", "call clock"), tools.clone())).await;
    let choice = &asked.body["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
    let call = json!({ "id": "call_1", "type": "function", "function": { "name": "clock", "arguments": "{\"zone\":\"UTC\"}" } });
    assert_eq!(choice["message"]["tool_calls"], json!([call]));
    let (_, data) = stream(&hub, CHAT, &token, with(with(ask("main", "call clock"), tools.clone()), json!({ "stream": true }))).await;
    let found = chunks(&data).into_iter().find_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array().cloned()).unwrap();
    assert_eq!((&found[0]["index"], &found[0]["function"]["name"]), (&json!(0), &json!("clock")));
    let messages = json!({ "messages": [
        { "role": "user", "content": "call clock" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "call_1", "content": "noon" },
    ] });
    let answered = hub.post(CHAT, &token, with(with(ask("main", ""), tools), messages)).await;
    assert_eq!(answered.body["choices"][0]["message"]["content"], "paid: noon");
    let aiox_app::gateway::call::Input::Chat { messages, .. } = worker.asked.all().pop().unwrap().input else { panic!("no chat") };
    assert_eq!(messages[2].tool_call_id.as_deref(), Some("call_1"));
    assert_eq!(messages[1].tool_calls[0].name, "clock");
}

#[tokio::test]
async fn every_parameter_has_an_effect_or_is_refused_by_its_name() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let worker = connect(&hub.dispatch);
    let full = json!({ "temperature": 0.5, "top_p": 0.9, "max_completion_tokens": 50, "stop": ["x"], "n": 1, "seed": null });
    assert_eq!(hub.post(CHAT, &token, with(ask("main", "hi"), full)).await.status, 200);
    let aiox_app::gateway::call::Input::Chat { generation, .. } = worker.asked.all().pop().unwrap().input else { panic!("no chat") };
    assert_eq!((generation.temperature, generation.top_p, generation.max_output_tokens), (Some(0.5), Some(0.9), Some(50)));
    assert_eq!(generation.stop, ["x"]);
    let agent = hub.agent(&token, "helper").await;
    for (path, model, members, param) in [
        (CHAT, "main", json!({ "seed": 7 }), "seed"),
        (CHAT, "main", json!({ "n": 2 }), "n"),
        (CHAT, "main", json!({ "logit_bias": {} }), "logit_bias"),
        (CHAT, "main", json!({ "temperature": 3 }), "temperature"),
        (CHAT, "main", json!({ "temperature": "hot" }), "temperature"),
        (CHAT, "main", json!({ "max_tokens": 5, "max_completion_tokens": 6 }), "max_tokens"),
        (CHAT, "main", json!({ "stream_options": { "include_usage": true } }), "stream_options"),
        (CHAT, "main", json!({ "messages": [] }), "messages"),
        (CHAT, "main", json!({ "messages": [{ "role": "god", "content": "x" }] }), "messages[0].role"),
        (CHAT, "main", json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }), "messages[0].content[0].type"),
        (CHAT, "main", json!({ "tool_choice": "required" }), "tool_choice"),
        (CHAT, "main", json!({ "tools": [{ "type": "function", "function": { "name": "a b" } }] }), "tools[0].name"),
        (CHAT, agent.as_str(), json!({ "temperature": 0.5 }), "temperature"),
        (CHAT, agent.as_str(), json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] }), "tools"),
        (CHAT, agent.as_str(), json!({ "messages": [{ "role": "assistant", "content": "x" }] }), "messages"),
        (RESPONSES, "main", json!({ "input": "x", "background": true }), "background"),
        (RESPONSES, "main", json!({ "input": 5 }), "input"),
        (RESPONSES, agent.as_str(), json!({ "input": "x", "instructions": "be rude" }), "instructions"),
        ("/openai/v1/embeddings", "echo", json!({ "input": [1, 2] }), "input"),
        ("/openai/v1/embeddings", "echo", json!({ "input": "x", "user": "u" }), "user"),
        ("/openai/v1/embeddings", "echo", json!({ "input": "x", "encoding_format": "hex" }), "encoding_format"),
        ("/openai/v1/embeddings", "echo", json!({ "input": "x", "dimensions": 5000 }), "dimensions"),
    ] {
        let base = if path == CHAT { ask(model, "hi") } else { json!({ "model": model }) };
        let refused = hub.post(path, &token, with(base, members.clone())).await;
        assert_eq!((refused.status, &refused.body["error"]["param"]), (400, &json!(param)), "{path} {members}: {:?}", refused.body);
        assert_eq!(
            (&refused.body["error"]["type"], &refused.body["error"]["code"]),
            (&json!("invalid_request_error"), &json!("invalid_request"))
        );
    }
}

#[tokio::test]
async fn errors_have_openais_shape() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let _worker = connect(&hub.dispatch);
    let error = |answer: &Answer| (answer.status, answer.body["error"]["type"].clone(), answer.body["error"]["code"].clone());
    let nobody = Answer::of(hub.call(Method::POST, CHAT).json(&ask("main", "x")).send().await.unwrap()).await;
    assert_eq!(error(&nobody), (401, json!("authentication_error"), json!("unauthorized")));
    let unknown = hub.post(CHAT, &token, ask("gpt-none", "x")).await;
    assert_eq!(error(&unknown), (404, json!("invalid_request_error"), json!("model_not_found")));
    assert_eq!(unknown.body["error"]["param"], "model");
    let missing = hub.post(CHAT, &token, json!({ "model": "main" })).await;
    assert_eq!((error(&missing).0, &missing.body["error"]["param"]), (400, &json!("messages")));
    let down = hub.post(CHAT, &token, ask("absent", "x")).await;
    assert_eq!(error(&down), (503, json!("server_error"), json!("dependency_unavailable")));
    let method = hub.get(CHAT, &token).await;
    assert_eq!(error(&method), (405, json!("invalid_request_error"), json!("method_not_allowed")));
    let route = hub.get("/openai/v1/nothing", &token).await;
    assert_eq!(error(&route), (404, json!("invalid_request_error"), json!("not_found")));
    let (_, data) = stream(&hub, CHAT, &token, with(ask("main", "die"), json!({ "stream": true }))).await;
    let last: Value = serde_json::from_str(data.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "dependency_unavailable", "a stream that breaks off says so, and is not [DONE]");
    let plain = hub.post(CHAT, &token, ask("main", "die")).await;
    assert_eq!(plain.status, 503);
}

#[tokio::test]
async fn embeddings_are_made_of_one_text_and_of_many() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let _worker = connect(&hub.dispatch);
    for path in ["/v1/embeddings", "/openai/v1/embeddings"] {
        let one = hub.post(path, &token, json!({ "model": "echo", "input": "four" })).await;
        assert_eq!(
            one.body,
            json!({ "object": "list", "data": [{ "object": "embedding", "index": 0, "embedding": [4.0, 1.0] }], "model": "echo",
                    "usage": { "prompt_tokens": 3, "total_tokens": 3 } })
        );
        assert_eq!(one.headers["x-aiox-cost-usd"], "0.000000");
        let many = hub.post(path, &token, json!({ "model": "tier:fast", "input": ["a", "bb"], "encoding_format": "base64" })).await;
        assert_eq!(many.body["data"][1]["embedding"], "AAAAQAAAgD8=");
    }
}

#[tokio::test]
async fn a_chat_with_an_agent_is_a_run() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let agent = hub.agent(&token, "helper").await;
    let _session = hub.echo();
    let list = hub.get("/openai/v1/models", &token).await;
    let ids: Vec<&str> = list.body["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    let address = format!("agent:agent-{agent}@agents.hub-a.example");
    assert!(ids.contains(&"echo") && ids.contains(&address.as_str()), "{ids:?}");

    for model in [agent.as_str(), &address, &address[6..], &format!("agent:{agent}")] {
        let whole = hub.post(CHAT, &token, ask(model, "how are you")).await;
        assert_eq!(whole.status, 200, "{model}: {:?}", whole.body);
        assert_eq!((&whole.body["model"], &whole.body["choices"][0]["message"]["content"]), (&json!(model), &json!("how are you")));
        assert_eq!(whole.body["usage"]["total_tokens"], 7);
        let run = hub.get(&format!("/api/v1/runs/{}", whole.headers["x-aiox-run-id"].to_str().unwrap()), &token).await;
        assert_eq!(run.body["data"]["status"], "completed");
    }
    let streamed = with(ask(&agent, "one two three"), json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let (_, data) = stream(&hub, CHAT, &token, streamed).await;
    let all = chunks(&data);
    assert_eq!(text_of(&all), "one two three");
    assert_eq!((data.last().unwrap().as_str(), &all.last().unwrap()["usage"]["total_tokens"]), ("[DONE]", &json!(7)));
    let masked = hub.post(CHAT, &token, ask(&agent, "to ann@mail.example")).await;
    assert_eq!(masked.body["choices"][0]["message"]["content"], "to [email]");
    assert_eq!(masked.headers["x-aiox-policy"], "redacted; pii:email");
    assert_eq!(hub.post(CHAT, &token, ask(&agent, "tell of nightfall")).await.status, 403);
    let history = hub.get(&format!("/api/v1/agents/{agent}/history"), &token).await;
    assert_eq!(history.body["total_count"], 12, "six runs, each with a question and an answer");

    let failed = hub.post(CHAT, &token, ask(&agent, "fail provider_unavailable")).await;
    assert_eq!((failed.status, &failed.body["error"]["code"]), (502, &json!("dependency_unavailable")));
    let stranger = hub.user("bob").await;
    let hidden = hub.post(CHAT, &stranger, ask(&agent, "hi")).await;
    assert_eq!((hidden.status, &hidden.body["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn a_response_is_kept_and_continued() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let worker = connect(&hub.dispatch);
    let said = |answer: &Answer| answer.body["output"][0]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    let first =
        hub.post(RESPONSES, &token, json!({ "model": "main", "input": "one", "instructions": "be brief", "metadata": { "k": "v" } })).await;
    assert_eq!((first.status, &first.body["status"], said(&first).as_str()), (200, &json!("completed"), "paid: one"), "{:?}", first.body);
    assert_eq!((&first.body["metadata"], &first.body["usage"]["total_tokens"]), (&json!({ "k": "v" }), &json!(7)));
    let id = first.body["id"].as_str().unwrap().to_owned();
    assert_eq!(hub.get(&format!("{RESPONSES}/{id}"), &token).await.body, first.body);

    let second = hub
        .post(RESPONSES, &token, json!({ "model": "main", "input": [{ "role": "user", "content": "two" }], "previous_response_id": id }))
        .await;
    assert_eq!((said(&second).as_str(), &second.body["previous_response_id"]), ("paid: two", &json!(id)));
    let aiox_app::gateway::call::Input::Chat { messages, .. } = worker.asked.all().pop().unwrap().input else { panic!("no chat") };
    let all: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(all, ["one", "paid: one", "two"], "instructions are not continued");

    let forgotten = hub.post(RESPONSES, &token, json!({ "model": "main", "input": "x", "store": false })).await;
    let gone = forgotten.body["id"].as_str().unwrap();
    assert_eq!(hub.get(&format!("{RESPONSES}/{gone}"), &token).await.status, 404);
    for (previous, who) in [(gone, &token), ("resp_none", &token), (id.as_str(), &hub.user("bob").await)] {
        let refused = hub.post(RESPONSES, who, json!({ "model": "main", "input": "x", "previous_response_id": previous })).await;
        assert_eq!((refused.status, &refused.body["error"]["code"]), (404, &json!("not_found")), "{previous}");
    }
    let deleted = hub.call(Method::DELETE, &format!("{RESPONSES}/{id}")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(Answer::of(deleted).await.body, json!({ "id": id, "object": "response", "deleted": true }));
    assert_eq!(hub.get(&format!("{RESPONSES}/{id}"), &token).await.status, 404);

    let cut = hub.post(RESPONSES, &token, json!({ "model": "main", "input": "cut" })).await;
    assert_eq!((&cut.body["status"], &cut.body["incomplete_details"]["reason"]), (&json!("incomplete"), &json!("max_output_tokens")));
}

#[tokio::test]
async fn a_response_streams_as_typed_numbered_events() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let _worker = connect(&hub.dispatch);
    let (_, data) = stream(&hub, RESPONSES, &token, json!({ "model": "main", "input": "a b", "stream": true })).await;
    let events = chunks(&data);
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let kinds: Vec<&str> =
        events.iter().map(|event| event["type"].as_str().unwrap()).filter(|kind| *kind != "response.output_text.delta").collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    let text: String =
        events.iter().filter(|event| event["type"] == "response.output_text.delta").filter_map(|event| event["delta"].as_str()).collect();
    let whole = &events.last().unwrap()["response"];
    assert_eq!((text.as_str(), &whole["output"][0]["content"][0]["text"]), ("paid: a b", &json!("paid: a b")));
    assert_eq!(hub.get(&format!("{RESPONSES}/{}", whole["id"].as_str().unwrap()), &token).await.body, *whole);

    let tools = json!([{ "type": "function", "name": "clock", "parameters": { "type": "object" } }]);
    let (_, data) =
        stream(&hub, RESPONSES, &token, json!({ "model": "main", "input": "call clock", "tools": tools, "stream": true })).await;
    let events = chunks(&data);
    let done = events.iter().find(|event| event["type"] == "response.function_call_arguments.done").unwrap();
    assert_eq!((&done["name"], &done["arguments"], &done["output_index"]), (&json!("clock"), &json!("{\"zone\":\"UTC\"}"), &json!(0)));
    let first = &events.last().unwrap()["response"];
    let output = json!([{ "type": "function_call_output", "call_id": "call_1", "output": "noon" }]);
    let next = json!({ "model": "main", "previous_response_id": first["id"], "input": output, "tools": tools });
    assert_eq!(hub.post(RESPONSES, &token, next).await.body["output"][0]["content"][0]["text"], "paid: noon");
    let (_, data) = stream(&hub, RESPONSES, &token, json!({ "model": "main", "input": "die", "stream": true })).await;
    assert_eq!(chunks(&data).last().unwrap()["type"], "response.failed");
}

/// Reads the texts of a streamed answer as they come.
struct Texts {
    response: reqwest::Response,
    unread: String,
}
impl Texts {
    async fn open(hub: &Hub, path: &str, token: &str, body: Value) -> Self {
        let response = hub.call(Method::POST, path).bearer_auth(token).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, unread: String::new() }
    }

    fn run(&self) -> RunId {
        RunId(self.response.headers()["x-aiox-run-id"].to_str().unwrap().parse().unwrap())
    }

    /// The next text; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            while let Some((frame, rest)) = self.unread.split_once("\n\n") {
                let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).map(serde_json::from_str::<Value>);
                self.unread = rest.to_owned();
                let Some(Ok(data)) = data else { continue };
                let text = data["choices"][0]["delta"]["content"].as_str();
                let text = text.or_else(|| data["delta"].as_str().filter(|_| data["type"] == "response.output_text.delta"));
                if let Some(text) = text.filter(|text| !text.is_empty()) {
                    return Some(text.to_owned());
                }
            }
            self.unread.push_str(std::str::from_utf8(&self.response.chunk().await.unwrap()?).unwrap());
        }
    }
}

/// Plays the peer hub that executes a run.
struct Peer<'a> {
    hub: &'a Hub,
    run: RunId,
    sequence: u64,
}
impl Peer<'_> {
    async fn event(&mut self, kind: &str, payload: Value) {
        self.sequence += 1;
        let time = Ts::from_seconds(1_772_452_830);
        let event = RunEvent { id: Uuid::now_v7(), run_id: self.run.uuid(), sequence: self.sequence, kind: kind.to_owned(), time, payload };
        self.hub.federated.mirror("hub-b.example", event).await.unwrap();
    }

    async fn say(&self, text: &str, offset: Option<u64>) {
        self.hub.federated.mirror_delta(RunDelta { run_id: self.run.uuid(), text: text.to_owned(), offset }).await;
    }

    async fn end(&mut self, text: &str) {
        let usage = json!({ "input_tokens": 1, "output_tokens": 2 });
        self.event("run.completed", json!({ "output": { "type": "text", "text": text }, "usage": usage, "model": "echo/1" })).await;
    }
}

#[tokio::test]
async fn an_answer_of_a_peers_agent_is_streamed_as_it_grows() {
    let hub = Hub::start().await;
    hub.befriend("hub-b.example").await;
    let token = hub.user("ann").await;
    let chat = with(ask("writer@agents.hub-b.example", "go"), json!({ "stream": true }));
    let response = json!({ "model": "agent:writer@agents.hub-b.example", "input": "go", "stream": true });
    for (path, body) in [(CHAT, chat), (RESPONSES, response)] {
        let mut texts = Texts::open(&hub, path, &token, body).await;
        let mut peer = Peer { hub: &hub, run: texts.run(), sequence: 1 };
        peer.event("run.started", json!({ "status": "running" })).await;
        peer.say("süß ", Some(0)).await;
        assert_eq!(texts.next().await.unwrap(), "süß ", "before the answer is whole");
        // The stream to the peer was cut: it begins again with the text so far.
        peer.say("süß und ", Some(0)).await;
        assert_eq!(texts.next().await.unwrap(), "und ");
        peer.say("gut", Some(10)).await;
        assert_eq!(texts.next().await.unwrap(), "gut");
        peer.end("süß und gut").await;
        assert_eq!(texts.next().await, None, "{path}");
    }
}

#[tokio::test]
async fn an_answer_of_a_peer_with_a_hole_or_without_places_ends_whole() {
    let hub = Hub::start().await;
    hub.befriend("hub-b.example").await;
    let token = hub.user("ann").await;
    let body = with(ask("writer@agents.hub-b.example", "go"), json!({ "stream": true }));
    let ways = [
        // An older hub does not tell where its text belongs.
        (vec![("two ", None), ("three", None)], vec!["one two three"]),
        (vec![("one ", Some(0)), ("three", Some(8))], vec!["one ", "two three"]),
        (vec![("two ", Some(4)), ("three", Some(8))], vec!["one two three"]),
    ];
    for (said, expected) in ways {
        let mut texts = Texts::open(&hub, CHAT, &token, body.clone()).await;
        let mut peer = Peer { hub: &hub, run: texts.run(), sequence: 1 };
        peer.event("run.started", json!({ "status": "running" })).await;
        for (text, offset) in said {
            peer.say(text, offset).await;
        }
        peer.end("one two three").await;
        let mut all = Vec::new();
        while let Some(text) = texts.next().await {
            all.push(text);
        }
        assert_eq!(all, expected);
    }
}

#[tokio::test]
async fn a_response_of_an_agent_continues_its_conversation() {
    let hub = Hub::start().await;
    let token = hub.user("ann").await;
    let (agent, other) = (hub.agent(&token, "helper").await, hub.agent(&token, "another").await);
    let _session = hub.echo();
    let _worker = connect(&hub.dispatch);
    let first = hub.post(RESPONSES, &token, json!({ "model": agent, "input": "one" })).await;
    assert_eq!(first.body["output"][0]["content"][0]["text"], "one", "{:?}", first.body);
    let id = first.body["id"].as_str().unwrap();
    let (_, data) =
        stream(&hub, RESPONSES, &token, json!({ "model": agent, "input": "two", "previous_response_id": id, "stream": true })).await;
    assert_eq!(chunks(&data).last().unwrap()["response"]["output"][0]["content"][0]["text"], "two");
    let history = hub.get(&format!("/api/v1/agents/{agent}/history"), &token).await;
    assert_eq!(history.body["total_count"], 4);
    for model in [other.as_str(), "main"] {
        let refused = hub.post(RESPONSES, &token, json!({ "model": model, "input": "x", "previous_response_id": id })).await;
        assert_eq!((refused.status, &refused.body["error"]["param"]), (400, &json!("previous_response_id")), "{model}");
    }
}
