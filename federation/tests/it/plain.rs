//! Plain nodes that misbehave. What a good one does is shown with a real hub in `node/tests/it/plain_peers.rs`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use aiox_app::{
    AgentRef, Asked, Bounds, NewRun, PeerBook,
    peers::{PlainCaller, PlainMade},
};
use aiox_core::{Caller, Error, run::Priority};
use aiox_federation::plain::PlainClient;
use aiox_model::v1::{event::Event, run::RunOptions};
use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};

use crate::mesh_hub::{MeshHub, Site};

const TENANT: &str = "tnt_demo";

/// A node whose agents each misbehave in their own way.
#[derive(Clone, Default)]
struct Node {
    /// Requests that went where none may go.
    astray: Arc<AtomicUsize>,
    /// Event streams that were opened.
    streams: Arc<AtomicUsize>,
}

impl Node {
    async fn start(&self) -> String {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let router = Router::new()
            .route("/v1/agents/{agent}/runs", post(runs))
            .route("/v1/runs/{run}/events", get(events))
            .route("/astray", get(astray).post(astray))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        format!("http://{address}")
    }
}

async fn astray(State(node): State<Node>) -> StatusCode {
    node.astray.fetch_add(1, Ordering::SeqCst);
    StatusCode::OK
}

async fn runs(Path(agent): Path<String>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let run = |members: Value| (StatusCode::CREATED, Json(json!({ "run": members }))).into_response();
    match agent.as_str() {
        "redirects" => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/astray")]).into_response(),
        "elsewhere" => run(json!({ "run_id": "run_1", "events_url": "http://127.0.0.1:1/astray" })),
        "endless" => run(json!({ "run_id": "run_1", "text": "x".repeat(2 * 1024 * 1024) })),
        "nameless" => run(json!({ "run_id": "../../admin" })),
        "busy" => {
            let body = json!({ "error": { "code": "quota_exceeded", "message": "internal secret" } });
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")], Json(body)).into_response()
        }
        _ => {
            let told = |name: &str| headers.get(name).is_some_and(|value| !value.is_empty());
            let identity = headers["x-tenant-id"] == TENANT && told("x-principal-id") && told("traceparent") && told("idempotency-key");
            let secrets = told("authorization") || told("x-api-key") || told("cookie");
            let whole = body["input"]["text"] == "hello" && body["tooling"]["tool_allowlist"] == json!([]) && body["context"].is_object();
            assert!(identity && !secrets && whole, "{headers:?} {body}");
            run(json!({ "run_id": "run_good", "status": "running" }))
        }
    }
}

/// The first stream breaks off; the second knows no cursor.
async fn events(State(node): State<Node>, Path(run): Path<String>) -> Response {
    let event = |sequence: u64, kind: &str, tenant: &str, run: &str| {
        json!({ "event": { "event_id": format!("evt_{sequence}"), "sequence": sequence, "time": "2026-01-01T00:00:00Z", "type": kind,
            "tenant_id": tenant, "agent_id": "agt_1", "run_id": run, "step_id": null, "payload": {} } })
        .to_string()
    };
    let data = match node.streams.fetch_add(1, Ordering::SeqCst) {
        0 => vec![
            event(1, "agentos.run.created", TENANT, &run),
            json!({ "heartbeat": 1 }).to_string(),
            "hb".to_owned(),
            event(2, "agentos.run.completed", "tnt_other", &run),
            event(2, "agentos.run.completed", TENANT, "run_other"),
        ],
        _ => vec![
            event(1, "agentos.run.created", TENANT, &run),
            event(2, "agentos.model.requested", TENANT, &run),
            event(3, "agentos.run.completed", TENANT, &run),
            event(4, "agentos.run.created", TENANT, &run),
        ],
    };
    let text: String = data.iter().map(|data| format!("event: agentos.event\ndata: {data}\n\n")).collect();
    ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], text).into_response()
}

fn hello() -> NewRun {
    NewRun {
        agent: AgentRef::Handle("writer".into()),
        input: "hello".into(),
        conversation: None,
        idempotency_key: None,
        reply: None,
        priority: Priority::Normal,
        timeout_ms: None,
        bounds: Bounds::default(),
        asked: Some(Asked { options: RunOptions::default(), body: json!({ "forward": {} }), session: None }),
    }
}

async fn forward(hub: &MeshHub, book: &PeerBook, caller: &Caller, agent: &str) -> Result<PlainMade, Error> {
    let new = hello();
    let made = hub.runs.forward_plain(caller, TENANT, book, ("stk_plain", agent), &new);
    timeout(std::time::Duration::from_secs(30), made).await.unwrap()
}

#[tokio::test]
async fn a_plain_node_is_believed_for_its_own_runs_alone() {
    let hub = MeshHub::start(Site::new("hub-a.example").await).await;
    let alice = hub.user("alice").await;
    let node = Node::default();
    let base = node.start().await;
    let book = hub.peers.clone().with_plain(Arc::new(PlainClient::new().unwrap()));
    assert!(hub.peers.let_in_insecurely("stk_plain", Some(&base)).await.is_err(), "without the wire there are no plain peers");
    book.let_in_insecurely("stk_plain", Some(&base)).await.unwrap();

    for (agent, code) in [
        ("redirects", "dependency_unavailable"),
        ("elsewhere", "dependency_unavailable"),
        ("endless", "dependency_unavailable"),
        ("nameless", "dependency_unavailable"),
        ("busy", "quota_exceeded"),
    ] {
        let error = forward(&hub, &book, &alice, agent).await.unwrap_err();
        assert_eq!(error.code(), code, "{agent}");
        assert!(!error.chain().contains("secret"), "{agent}: {}", error.chain());
        if let Error::Limited { retry_after, .. } = error {
            assert_eq!(retry_after.as_secs(), 7);
        }
    }
    assert!(matches!(forward(&hub, &book, &alice, "..").await, Err(Error::NotFound("agent"))));

    let made = forward(&hub, &book, &alice, "good").await.unwrap();
    assert_eq!((made.run.as_str(), made.replayed), ("run_good", false));
    let bob = hub.user("bob").await;
    assert!(book.plain_run(&bob, "run_good").await.unwrap().is_none(), "another principal");
    let run = book.plain_run(&alice, "run_good").await.unwrap().unwrap();
    let events = book.follow_plain(run, PlainCaller::of(&alice, TENANT), 0).await.unwrap().unwrap();
    let read = timeout(std::time::Duration::from_secs(30), events.map(Result::unwrap).collect::<Vec<Event>>()).await.unwrap();
    let of: Vec<_> = read.iter().map(|event| (event.sequence, event.kind.as_str(), event.run_id.as_str())).collect();
    let kinds = ["agentos.run.created", "agentos.model.requested", "agentos.run.completed"];
    assert_eq!(of, [(1, kinds[0], "run_good"), (2, kinds[1], "run_good"), (3, kinds[2], "run_good")], "its own, each once, to its end");
    assert!(read.iter().all(|event| event.tenant_id == TENANT && event.trace.traceparent.len() == 55));
    assert_eq!(node.astray.load(Ordering::SeqCst), 0, "no redirect is followed");
}
