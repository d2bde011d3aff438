//! A model server that answers when the test lets it.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// The model server.
pub struct Provider {
    pub url: String,
    /// One message for each question.
    pub asked: mpsc::UnboundedReceiver<()>,
    gate: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (asking, asked) = mpsc::unbounded_channel();
        let (gate, open) = watch::channel(false);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, asking.clone(), open.clone()));
            }
        });
        Self { url, asked, gate, server }
    }

    /// From now on every question is answered, those that wait too.
    pub fn answer(&self) {
        self.gate.send_replace(true);
    }
}

async fn answer(mut stream: TcpStream, asking: mpsc::UnboundedSender<()>, mut open: watch::Receiver<bool>) {
    let mut request = Vec::new();
    while !whole(&request) {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let _ = asking.send(());
    if open.wait_for(|open| *open).await.is_err() {
        return;
    }
    let body = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"late answer\"}}]}\n\n\
         data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n\
         data: [DONE]\n\n";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Whether a request has arrived with its body.
fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0_usize)
}
