//! A WebSocket client (RFC 6455) for the chat of `/api/v1`.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

pub(crate) use crate::stream::SocketFrame as Frame;
use crate::{case::Stop, scene::Scene, tamper::OnSocket};

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// An open socket.
pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Wire>>,
    path: String,
    change: Option<OnSocket>,
}

impl Socket {
    /// Opens it, with a token in the query where there is one.
    pub(crate) async fn open(scene: &Scene, path: &str, token: Option<&str>) -> Result<Self, Stop> {
        let bad = |error: &dyn std::fmt::Display| Stop::Harness(format!("WebSocket {path}: {error}"));
        // Not through a mutant's proxy, which passes no sockets on: what it breaks is broken here.
        let mut url = scene.world.home.join(path).map_err(|error| bad(&error))?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        if url.set_scheme(scheme).is_err() {
            return Err(bad(&"the URL has no such scheme"));
        }
        if let Some(token) = token {
            url.query_pairs_mut().append_pair("token", token);
        }
        let request = url.as_str().into_client_request().map_err(|error| bad(&error))?;
        let opened = tokio::time::timeout(Duration::from_secs(15), async {
            let wire = wire(&url, scene.world.options.ca.as_deref()).await.map_err(|error| bad(&error))?;
            client_async(request, wire).await.map_err(|error| Stop::Failed(format!("WebSocket {path}: it does not open: {error}")))
        })
        .await;
        match opened {
            Ok(Ok((stream, _))) => Ok(Self { stream, path: path.to_owned(), change: scene.world.tamper.doors.socket }),
            Ok(Err(stop)) => Err(stop),
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
                let mut frame = match message {
                    Ok(Message::Text(text)) => Frame::Text(text.as_str().to_owned()),
                    Ok(Message::Close(frame)) => Frame::Close(frame.map_or(1005, |frame| frame.code.into())),
                    Ok(_) => continue,
                    Err(_) => return None,
                };
                if self.change.is_none_or(|change| change(&mut frame)) {
                    return Some(frame);
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

/// A connection to the URL's host, in TLS where the scheme asks for it.
async fn wire(url: &reqwest::Url, ca: Option<&[u8]>) -> std::io::Result<Box<dyn Wire>> {
    let bad = |text: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, text.to_owned());
    let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(80));
    let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    if url.scheme() == "ws" {
        return Ok(Box::new(tcp));
    }
    let mut roots = RootCertStore::empty();
    for authority in ca.into_iter().flat_map(CertificateDer::pem_slice_iter) {
        let authority = authority.map_err(|_| bad("the authority is no PEM certificate"))?;
        roots.add(authority).map_err(|_| bad("the authority is no certificate"))?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host).map_err(|_| bad("the host is no name"))?;
    Ok(Box::new(TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await?))
}
