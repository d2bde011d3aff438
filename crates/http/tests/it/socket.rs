//! Chat over a WebSocket.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::hub::Hub;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(hub: &Hub, id: &str, query: &str, header: Option<&str>) -> Socket {
    let mut request = format!("ws://{}/api/v1/agents/{id}/chat/ws{query}", hub.address).into_client_request().unwrap();
    if let Some(header) = header {
        request.headers_mut().insert("authorization", header.parse().unwrap());
    }
    connect_async(request).await.unwrap().0
}

/// Frames until one of the given type.
async fn until(socket: &mut Socket, kind: &str) -> Vec<Value> {
    let mut frames = Vec::new();
    loop {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            let frame: Value = serde_json::from_str(&text).unwrap();
            let last = frame["type"] == kind;
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }
}

#[tokio::test]
async fn bad_credentials_close_with_4401() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    for (query, header) in [("", None), ("?token=garbage", None), ("", Some("Bearer garbage"))] {
        let mut socket = connect(&hub, &id, query, header).await;
        match socket.next().await.unwrap().unwrap() {
            Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 4401),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn texts_and_objects_are_answered_in_order_and_errors_do_not_end_the_talk() {
    let hub = Hub::start().await;
    let token = hub.user("alice").await;
    let id = hub.agent(&token, "A").await;
    let _worker = hub.echo();
    let mut socket = connect(&hub, &id, &format!("?token={token}"), None).await;
    socket.send(Message::text("hello there")).await.unwrap();
    socket.send(Message::text(json!({ "message": "second" }).to_string())).await.unwrap();
    let frames = until(&mut socket, "done").await;
    assert_eq!(frames[0]["type"], "accepted");
    assert_eq!(frames.last().unwrap()["response"], "hello there");
    assert_eq!(frames.last().unwrap()["run_id"], frames[0]["run_id"]);
    assert_eq!(until(&mut socket, "done").await.last().unwrap()["response"], "second");
    socket.send(Message::text("{\"message\": 5}")).await.unwrap();
    let error = until(&mut socket, "error").await;
    assert_eq!(error.last().unwrap()["error"], "message: must be a text");
    let mut by_header = connect(&hub, &id, "", Some(&format!("bearer {token}"))).await;
    by_header.send(Message::text("third")).await.unwrap();
    assert_eq!(until(&mut by_header, "done").await.last().unwrap()["response"], "third");
}
