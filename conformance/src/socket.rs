//! A WebSocket client (RFC 6455) for the chat of `/api/v1`.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{case::Stop, scene::Scene};

/// What came.
#[derive(Debug)]
pub(crate) enum Frame {
    /// Text.
    Text(String),
    /// The hub closed with this code.
    Close(u16),
}

/// An open socket.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    path: String,
}

impl Socket {
    /// Opens it, with a token in the query where there is one.
    pub(crate) async fn open(scene: &Scene, path: &str, token: Option<&str>) -> Result<Self, Stop> {
        let bad = |error: &dyn std::fmt::Display| Stop::Harness(format!("WebSocket {path}: {error}"));
        let mut url = scene.world.options.target.join(path).map_err(|error| bad(&error))?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        if url.set_scheme(scheme).is_err() {
            return Err(bad(&"the URL has no such scheme"));
        }
        if let Some(token) = token {
            url.query_pairs_mut().append_pair("token", token);
        }
        let request = url.as_str().into_client_request().map_err(|error| bad(&error))?;
        let opened = tokio::time::timeout(Duration::from_secs(15), connect_async(request)).await;
        match opened {
            Ok(Ok((stream, _))) => Ok(Self { stream, path: path.to_owned() }),
            Ok(Err(error)) => Err(Stop::Failed(format!("WebSocket {path}: it does not open: {error}"))),
            Err(_) => Err(bad(&"no answer within 15 s")),
        }
    }

    /// Sends a text frame.
    pub(crate) async fn say(&mut self, text: &str) -> Result<(), Stop> {
        let sent = self.stream.send(Message::text(text)).await;
        sent.map_err(|error| Stop::Failed(format!("WebSocket {}: it takes no text: {error}", self.path)))
    }

    /// The next text or close; `None` when the connection ended without a close or nothing came.
    pub(crate) async fn next(&mut self, within: Duration) -> Result<Option<Frame>, Stop> {
        let work = async {
            while let Some(message) = self.stream.next().await {
                match message {
                    Ok(Message::Text(text)) => return Some(Frame::Text(text.as_str().to_owned())),
                    Ok(Message::Close(frame)) => return Some(Frame::Close(frame.map_or(1005, |frame| frame.code.into()))),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
            None
        };
        Ok(tokio::time::timeout(within, work).await.unwrap_or(None))
    }

    /// The next text frame as JSON.
    pub(crate) async fn text(&mut self, within: Duration) -> Result<Value, Stop> {
        match self.next(within).await? {
            Some(Frame::Text(text)) => {
                serde_json::from_str(&text).map_err(|_| Stop::Failed(format!("WebSocket {}: a frame is no JSON: {text}", self.path)))
            }
            other => Err(Stop::Failed(format!("WebSocket {}: expected a text frame within {within:?}, got {other:?}", self.path))),
        }
    }
}
