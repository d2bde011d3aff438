//! A component that answers every message with its own text: what the harness is tried on.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::component::{Stream, StreamReader, write_loop};
use crate::stanza::{Incoming, NS_CHAT_STATES, NS_COMPONENT, NS_RECEIPTS, NS_STREAM, Stanza, escape, proof};

/// What the component does wrong on purpose. 0: never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Each so many-th message gets no answer.
    pub(crate) lose_each: u64,
    /// Each so many-th message gets two.
    pub(crate) repeat_each: u64,
    /// Each so many-th message gets an error.
    pub(crate) refuse_each: u64,
}

/// Connects as a component and shakes hands.
pub(crate) async fn open(port: u16, domain: &str, secret: &str) -> Result<Stream> {
    let mut stream = Stream::new(TcpStream::connect(("127.0.0.1", port)).await?)?;
    let header = format!("<?xml version='1.0'?><stream:stream xmlns='{NS_COMPONENT}' xmlns:stream='{NS_STREAM}' to='{}'>", escape(domain));
    stream.writer.write_all(header.as_bytes()).await?;
    let Incoming::Opened { id, .. } = stream.reader.next().await? else { bail!("no stream header") };
    let handshake = format!("<handshake>{}</handshake>", proof(&id, secret));
    stream.writer.write_all(handshake.as_bytes()).await?;
    match stream.reader.next().await? {
        Incoming::Handshake(_) => Ok(stream),
        Incoming::Other(name) => bail!("the server refused: {name}"),
        other => bail!("no handshake: {other:?}"),
    }
}

/// A running echo component; dropped, it stops.
pub(crate) struct Echo(#[expect(dead_code, reason = "held for its drop")] AbortOnDropHandle<()>);

/// Starts an echo component at a server's port.
pub(crate) async fn start(port: u16, secret: &str, faults: Faults) -> Result<Echo> {
    let stream = open(port, "agents.hub-a.example", secret).await?;
    let (out, queue) = mpsc::channel(1024);
    let reader = stream.reader;
    let task = tokio::spawn(async move {
        let writing = write_loop(stream.writer, queue);
        let ((), served) = tokio::join!(writing, serve(reader, out, faults));
        if let Err(error) = served {
            crate::say(&format!("echo component: {error:#}"));
        }
    });
    Ok(Echo(AbortOnDropHandle::new(task)))
}

async fn serve(mut reader: StreamReader, out: mpsc::Sender<Vec<u8>>, faults: Faults) -> Result<()> {
    let mut count = 0_u64;
    // `count` is never 0, so `each` 0 never hits.
    let hit = |count: u64, each: u64| count.is_multiple_of(each);
    loop {
        let message = match reader.next().await? {
            Incoming::Stanza(stanza) if stanza.name == "message" => stanza,
            Incoming::Closed => return Ok(()),
            _ => continue,
        };
        count += 1;
        let state = format!("<composing xmlns='{NS_CHAT_STATES}'/>");
        out.send(reply(&message, "chat", &state)).await.context("closed")?;
        if message.child("request", NS_RECEIPTS).is_some() {
            let receipt = format!("<received xmlns='{NS_RECEIPTS}' id='{}'/>", escape(&message.id));
            out.send(reply(&message, "chat", &receipt)).await.context("closed")?;
        }
        if hit(count, faults.lose_each) {
            continue;
        }
        if hit(count, faults.refuse_each) {
            let error = "<error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
            out.send(reply(&message, "error", error)).await.context("closed")?;
            continue;
        }
        let body = message.text_of("body").unwrap_or_default();
        let body = format!("<body>echo: {}</body>", escape(body));
        let answer = reply(&message, "chat", &body);
        if hit(count, faults.repeat_each) {
            out.send(answer.clone()).await.context("closed")?;
        }
        out.send(answer).await.context("closed")?;
    }
}

fn reply(to: &Stanza, kind: &str, children: &str) -> Vec<u8> {
    let bare = to.from.split_once('/').map_or(to.from.as_str(), |(bare, _)| bare);
    let id = if kind == "error" { to.id.clone() } else { uuid::Uuid::new_v4().to_string() };
    format!(
        "<message type='{kind}' id='{}' from='{}/echo' to='{}'>{children}<thread>{}</thread></message>",
        escape(&id),
        escape(&to.to),
        escape(bare),
        escape(to.text_of("thread").unwrap_or_default())
    )
    .into_bytes()
}

/// Time that a component has to connect.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);
