//! A provider double: an HTTP server that says exactly the scripted bytes, when it is told to.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What the double does after a request.
#[derive(Clone)]
pub enum Step {
    /// Writes a part of the body.
    Say(String),
    /// Ends the body properly.
    Finish,
    /// Drops the connection in the middle.
    Cut,
    /// Waits until the test opens the gate.
    AwaitGate,
    /// Waits until the client is gone, and reports it.
    AwaitClose,
}

/// A request as it came.
pub struct Seen {
    pub head: String,
    pub body: serde_json::Value,
}

/// A running double. It answers every request with the same script.
pub struct Double {
    pub url: String,
    pub seen: mpsc::Receiver<Seen>,
    /// One message for each connection that the client closed while it was awaited.
    pub closed: mpsc::Receiver<()>,
    gate: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Double {
    /// A double that answers `200` with the script as its body.
    pub async fn streaming(content_type: &'static str, script: Vec<Step>) -> Self {
        Self::start("200 OK", content_type, script).await
    }

    /// A double that answers an error.
    pub async fn failing(status: &'static str, body: &str) -> Self {
        let script = vec![Step::Say(body.to_owned()), Step::Finish];
        Self::start(status, "application/json", script).await
    }

    async fn start(status: &'static str, content_type: &'static str, script: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (seen_in, seen) = mpsc::channel(64);
        let (closed_in, closed) = mpsc::channel(64);
        let (gate, gate_seen) = watch::channel(false);
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let answering = Answering {
                    status,
                    content_type,
                    script: script.clone(),
                    seen: seen_in.clone(),
                    closed: closed_in.clone(),
                    gate: gate_seen.clone(),
                };
                tokio::spawn(answering.answer(socket));
            }
        });
        Self { url, seen, closed, gate, server }
    }

    /// Lets the scripts that wait at the gate go on.
    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// The next request.
    pub async fn request(&mut self) -> Seen {
        within(self.seen.recv()).await.unwrap()
    }
}

/// Fails the test instead of hanging it.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

struct Answering {
    status: &'static str,
    content_type: &'static str,
    script: Vec<Step>,
    seen: mpsc::Sender<Seen>,
    closed: mpsc::Sender<()>,
    gate: watch::Receiver<bool>,
}

impl Answering {
    async fn answer(mut self, mut socket: TcpStream) {
        let Some(request) = read_request(&mut socket).await else {
            return;
        };
        let _ = self.seen.send(request).await;
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            self.status, self.content_type
        );
        if socket.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        for step in self.script {
            match step {
                Step::Say(text) => {
                    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
                    if socket.write_all(chunk.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Step::Finish => {
                    let _ = socket.write_all(b"0\r\n\r\n").await;
                }
                Step::Cut => return,
                Step::AwaitGate => {
                    let _ = self.gate.wait_for(|open| *open).await;
                }
                Step::AwaitClose => {
                    let mut rest = [0; 64];
                    while matches!(socket.read(&mut rest).await, Ok(n) if n > 0) {}
                    let _ = self.closed.send(()).await;
                    return;
                }
            }
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length: usize =
        head.lines().find_map(|line| line.strip_prefix("content-length:")).and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = serde_json::from_slice(&bytes[end..end + length]).unwrap_or_default();
    Some(Seen { head, body })
}
