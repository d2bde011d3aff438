//! The XMPP server that a hub's component connects to (XEP-0114), as far as a load needs one.
//!
//! It checks the handshake, answers every iq in the name of whoever was asked, and hands everything
//! else to a listener. One component at a time: a further connection waits until the first has ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rxml::AsyncReader;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::stanza::{Assembler, Incoming, MAX_TOKEN_BYTES, NS_COMPONENT, NS_STREAM, Stanza, escape, iq_result, proof};

/// Stanzas that wait to be written; at the bound the senders wait.
const QUEUE: usize = 4096;
/// Stanzas that go out in one write.
const BATCH: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes each stanza that is not an iq request.
pub(crate) type Listener = Arc<dyn Fn(&Stanza) + Send + Sync>;

/// The writing half of a stream.
pub(crate) type Sender = mpsc::Sender<Vec<u8>>;

/// A running server; dropped, it stops.
pub(crate) struct ComponentServer {
    address: SocketAddr,
    link: watch::Receiver<Option<Sender>>,
    _task: AbortOnDropHandle<()>,
}

impl ComponentServer {
    /// Listens on a loopback port (0: any free one) for a component that knows `secret`.
    pub(crate) async fn start(port: u16, secret: &str, listener: Listener) -> Result<Self> {
        let socket = TcpListener::bind(("127.0.0.1", port)).await;
        let socket = socket.with_context(|| format!("component port {port}"))?;
        let address = socket.local_addr()?;
        let (link_sender, link) = watch::channel(None);
        let secret = secret.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                if let Err(error) = serve(stream, &secret, &listener, &link_sender).await {
                    crate::say(&format!("component link: {error:#}"));
                }
                link_sender.send_replace(None);
            }
        });
        Ok(Self { address, link, _task: AbortOnDropHandle::new(task) })
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits for a component and returns the way to it.
    pub(crate) async fn connected(&self, within: Duration) -> Result<Sender> {
        let mut link = self.link.clone();
        let found = timeout(within, link.wait_for(Option::is_some)).await;
        let found = found.map_err(|_| anyhow!("no component connected within {within:?}"))??;
        found.clone().context("the component went away")
    }
}

async fn serve(stream: TcpStream, secret: &str, listener: &Listener, link: &watch::Sender<Option<Sender>>) -> Result<()> {
    let mut stream = Stream::new(stream)?;
    let opened = timeout(HANDSHAKE_TIMEOUT, accept(&mut stream, secret)).await;
    opened.map_err(|_| anyhow!("no handshake within {HANDSHAKE_TIMEOUT:?}"))??;
    let Stream { mut reader, writer } = stream;
    let (sender, queue) = mpsc::channel(QUEUE);
    let _writing = AbortOnDropHandle::new(tokio::spawn(write_loop(writer, queue)));
    link.send_replace(Some(sender.clone()));
    loop {
        match reader.next().await? {
            Incoming::Stanza(iq) if iq.name == "iq" && matches!(iq.kind.as_str(), "get" | "set") => {
                sender.send(iq_result(&iq)).await?;
            }
            Incoming::Stanza(stanza) => listener(&stanza),
            Incoming::Other(name) => bail!("the component ended the stream: {name}"),
            Incoming::Closed => return Ok(()),
            Incoming::Opened { .. } | Incoming::Handshake(_) => {}
        }
    }
}

/// The server's side of the handshake (XEP-0114 section 3).
async fn accept(stream: &mut Stream, secret: &str) -> Result<()> {
    let Incoming::Opened { to, .. } = stream.reader.next().await? else {
        bail!("no stream header");
    };
    let id = uuid::Uuid::new_v4().simple().to_string();
    let header =
        format!("<?xml version='1.0'?><stream:stream xmlns='{NS_COMPONENT}' xmlns:stream='{NS_STREAM}' from='{}' id='{id}'>", escape(&to));
    stream.writer.write_all(header.as_bytes()).await?;
    let Incoming::Handshake(shown) = stream.reader.next().await? else {
        bail!("no handshake");
    };
    if !shown.trim().eq_ignore_ascii_case(&proof(&id, secret)) {
        let refusal = "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                       </stream:error></stream:stream>";
        stream.writer.write_all(refusal.as_bytes()).await?;
        stream.writer.shutdown().await?;
        bail!("the component for {to} does not know the secret");
    }
    stream.writer.write_all(b"<handshake/>").await?;
    Ok(())
}

/// The reading half of a stream. Not cancel-safe: each has a task of its own.
pub(crate) struct StreamReader {
    reader: AsyncReader<BufReader<OwnedReadHalf>>,
    assembler: Assembler,
}

impl StreamReader {
    /// The next thing that is complete. The end of the connection is the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Incoming> {
        while let Some(event) = self.reader.read().await? {
            if let Some(incoming) = self.assembler.take(event) {
                return Ok(incoming);
            }
        }
        Ok(Incoming::Closed)
    }
}

/// Both halves of a connection.
pub(crate) struct Stream {
    pub(crate) reader: StreamReader,
    pub(crate) writer: OwnedWriteHalf,
}

impl Stream {
    pub(crate) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let (read, writer) = stream.into_split();
        let options = rxml::Options { max_token_length: MAX_TOKEN_BYTES, ..rxml::Options::default() };
        let reader = AsyncReader::with_options(BufReader::with_capacity(64 * 1024, read), options);
        Ok(Self { reader: StreamReader { reader, assembler: Assembler::default() }, writer })
    }
}

/// Writes what is queued, many stanzas at once, until the queue or the connection ends.
pub(crate) async fn write_loop(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    let mut stanzas = Vec::with_capacity(BATCH);
    let mut bytes = Vec::with_capacity(64 * 1024);
    while queue.recv_many(&mut stanzas, BATCH).await > 0 {
        bytes.clear();
        stanzas.drain(..).for_each(|stanza| bytes.extend_from_slice(&stanza));
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_component_with_the_secret_is_let_in_and_its_pings_are_answered() {
        let (seen_sender, mut seen) = mpsc::unbounded_channel();
        let listener: Listener = Arc::new(move |stanza: &Stanza| {
            let _ = seen_sender.send(stanza.clone());
        });
        let server = ComponentServer::start(0, "s3cret", listener).await.unwrap();
        let mut component = echo::open(server.port(), "agents.hub-a.example", "s3cret").await.unwrap();
        server.connected(PATIENCE).await.unwrap();
        let ping = "<iq type='get' id='alive' from='agents.hub-a.example' to='hub-a.example'>\
                    <ping xmlns='urn:xmpp:ping'/></iq>\
                    <message from='a@agents.hub-a.example' to='u@hub-a.example'><body>hi</body></message>";
        component.writer.write_all(ping.as_bytes()).await.unwrap();
        let Incoming::Stanza(pong) = component.reader.next().await.unwrap() else { panic!("no stanza") };
        assert_eq!((pong.kind.as_str(), pong.id.as_str(), pong.from.as_str()), ("result", "alive", "hub-a.example"));
        assert_eq!(seen.recv().await.unwrap().text_of("body"), Some("hi"));
    }

    #[tokio::test]
    async fn a_component_without_the_secret_is_refused_and_the_next_one_served() {
        let server = ComponentServer::start(0, "s3cret", Arc::new(|_: &Stanza| {})).await.unwrap();
        let refused = echo::open(server.port(), "agents.hub-a.example", "guess").await;
        assert!(refused.err().unwrap().to_string().contains("not-authorized"));
        let component = echo::open(server.port(), "agents.hub-a.example", "s3cret").await.unwrap();
        let link = server.connected(PATIENCE).await.unwrap();
        drop(component);
        link.closed().await;
    }
}
