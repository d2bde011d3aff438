//! One connection: opening it, reading it, keeping it alive, closing it.

use std::time::Duration;

use rxml::AsyncRawReader;
use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use xmpp_parsers::{component::Handshake, minidom::Element};

use super::{
    LinkError, LinkOptions, MAX_TOKEN_BYTES, NS_STREAM,
    assemble::Assembler,
    inbound::{Inbound, Kind, Stanza},
    io::{Outbound, write_loop},
};
use crate::{
    confirm,
    stanza::{self, NS_COMPONENT},
};

/// Stanzas read but not yet taken. When it is full the socket is not read, and the server waits.
const INBOUND: usize = 64;
/// How long the server may take to close its half after we closed ours.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

type Reader = AsyncRawReader<BufReader<OwnedReadHalf>>;

/// A connection after its handshake.
pub(crate) struct Opened {
    reader: Reader,
    assembler: Assembler,
    writer: OwnedWriteHalf,
}

/// What serves one connection.
pub(crate) struct Session {
    /// Stanzas and refusals, in the order they came. Ends with the connection.
    pub(crate) inbound: mpsc::Receiver<Inbound>,
    pub(crate) outbound: Outbound,
    /// Ids of answered confirmation pings.
    pub(crate) pongs: mpsc::Receiver<String>,
    /// Ends the connection as broken: used when a confirmation does not come.
    pub(crate) broken: CancellationToken,
}

/// Connects and shakes hands.
pub(super) async fn open(options: &LinkOptions) -> Result<Opened, LinkError> {
    let connected = timeout(options.open_timeout, connect(&options.address)).await;
    let socket = connected.map_err(|_| LinkError::Timeout("connecting"))??;
    socket.set_nodelay(true).map_err(LinkError::Connect)?;
    timeout(options.open_timeout, handshake(socket, options)).await.map_err(|_| LinkError::Timeout("shaking hands"))?
}

async fn connect(address: &str) -> Result<TcpStream, LinkError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for candidate in tokio::net::lookup_host(address).await.map_err(LinkError::Connect)? {
        if !candidate.ip().is_loopback() {
            return Err(LinkError::NotLoopback(candidate));
        }
        match TcpStream::connect(candidate).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(LinkError::Connect(last))
}

async fn handshake(socket: TcpStream, options: &LinkOptions) -> Result<Opened, LinkError> {
    let (read, mut writer) = socket.into_split();
    let limits = rxml::Options { max_token_length: MAX_TOKEN_BYTES, ..rxml::Options::default() };
    let mut reader = Reader::with_options(BufReader::with_capacity(64 * 1024, read), limits);
    let header = format!("<?xml version='1.0'?><stream:stream xmlns='{NS_COMPONENT}' xmlns:stream='{NS_STREAM}' to='{}'>", options.domain);
    writer.write_all(header.as_bytes()).await.map_err(LinkError::Io)?;
    let mut assembler = Assembler::default();
    let stream_id = match next(&mut reader, &mut assembler).await? {
        Inbound::Opened(id) => id.ok_or(LinkError::Protocol("no stream id"))?,
        _ => return Err(LinkError::Protocol("no stream header")),
    };
    let proof = Handshake::from_stream_id_and_password(stream_id, options.secret.expose_secret());
    let mut bytes = Vec::new();
    Element::from(proof).write_to(&mut bytes).map_err(|_| LinkError::Protocol("no handshake can be made"))?;
    writer.write_all(&bytes).await.map_err(LinkError::Io)?;

    match next(&mut reader, &mut assembler).await? {
        Inbound::Other { name, namespace } if name == "handshake" && namespace == NS_COMPONENT => Ok(Opened { reader, assembler, writer }),
        Inbound::StreamError(condition) => Err(LinkError::stream(condition)),
        Inbound::Closed => Err(LinkError::Closed),
        _ => Err(LinkError::Protocol("something else than a handshake")),
    }
}

async fn next(reader: &mut Reader, assembler: &mut Assembler) -> Result<Inbound, LinkError> {
    loop {
        let event = reader.read().await.map_err(LinkError::Io)?.ok_or(LinkError::Closed)?;
        if let Some(inbound) = assembler.take(event) {
            return Ok(inbound);
        }
    }
}

/// Runs the connection until it ends or `serve` is done with it.
pub(super) async fn run<F, Fut>(opened: Opened, options: &LinkOptions, serve: F) -> LinkError
where
    F: Fn(Session) -> Fut,
    Fut: Future<Output = ()>,
{
    let (outbound, queue) = Outbound::channel();
    let (inbound_sender, inbound) = mpsc::channel(INBOUND);
    let (pong_sender, pongs) = mpsc::channel(16);
    let (closing, broken) = (CancellationToken::new(), CancellationToken::new());

    let mut writing = tokio::spawn(write_loop(opened.writer, queue, options.dead_after, closing.clone()));
    let reading = ReadLoop {
        reader: opened.reader,
        assembler: opened.assembler,
        inbound: inbound_sender,
        pongs: pong_sender,
        outbound: outbound.clone(),
        domain: options.domain.clone(),
        server: options.server_domain.clone(),
        ping_after: options.ping_after,
        dead_after: options.dead_after,
    };
    let stop_reading = CancellationToken::new();
    let mut reading = tokio::spawn({
        let (stop, broken) = (stop_reading.clone(), broken.clone());
        async move {
            tokio::select! {
                error = reading.run() => error,
                () = stop.cancelled() => LinkError::Shutdown,
                () = broken.cancelled() => LinkError::Timeout("confirming what we sent"),
            }
        }
    });

    let serving = serve(Session { inbound, outbound, pongs, broken });
    tokio::pin!(serving);
    let crashed = |_| LinkError::Protocol("the reader stopped");
    tokio::select! {
        // The reader ended: `serve` sees the end of `inbound` and returns. Nobody may wait for a writer that takes nothing.
        ended = &mut reading => {
            writing.abort();
            serving.await;
            ended.unwrap_or_else(crashed)
        }
        written = &mut writing => {
            stop_reading.cancel();
            serving.await;
            match written {
                Ok(Err(error)) => error,
                _ => LinkError::Protocol("the writer stopped"),
            }
        }
        () = &mut serving => {
            closing.cancel();
            let goodbye = async { let _ = (&mut writing).await; (&mut reading).await };
            let ended = timeout(CLOSE_WAIT, goodbye).await;
            writing.abort();
            reading.abort();
            ended.map_or(LinkError::Closed, |ended| ended.unwrap_or_else(crashed))
        }
    }
}

struct ReadLoop {
    reader: Reader,
    assembler: Assembler,
    inbound: mpsc::Sender<Inbound>,
    pongs: mpsc::Sender<String>,
    outbound: Outbound,
    domain: String,
    server: String,
    ping_after: Duration,
    dead_after: Duration,
}

impl ReadLoop {
    async fn run(mut self) -> LinkError {
        let mut deadline = Instant::now() + self.ping_after;
        let mut pinged = false;
        loop {
            // Both the XML reader and the assembler keep their state, so losing a race loses nothing.
            let event = tokio::select! {
                biased;
                event = self.reader.read() => event,
                () = sleep_until(deadline) => {
                    if pinged {
                        return LinkError::Timeout("answering a ping");
                    }
                    pinged = true;
                    deadline = Instant::now() + self.dead_after;
                    let ping = stanza::ping(&self.domain, &self.server, "alive");
                    let _ = self.outbound.try_send(&ping);
                    continue;
                }
            };
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => return LinkError::Closed,
                Err(error) => return LinkError::Io(error),
            };
            match self.assembler.take(event) {
                None => {}
                Some(Inbound::StreamError(condition)) => return LinkError::stream(condition),
                Some(Inbound::Closed | Inbound::Opened(_)) => return LinkError::Closed,
                Some(Inbound::Other { name, namespace }) => tracing::debug!(name, namespace, "ignored what is no stanza"),
                Some(Inbound::Stanza(stanza)) if self.is_pong(&stanza) => {
                    let _ = self.pongs.try_send(stanza.id.unwrap_or_default());
                }
                Some(inbound) => {
                    // Fails when nobody serves this connection any more: the rest is read only to see its end.
                    let _ = self.inbound.send(inbound).await;
                }
            }
            // Also after waiting for a full queue: that silence was ours, not the server's.
            pinged = false;
            deadline = Instant::now() + self.ping_after;
        }
    }

    /// An answer of our own server to a ping of this link. Answers are taken even when they are errors: an error too was
    /// written after everything before the ping had been handled.
    fn is_pong(&self, stanza: &Stanza) -> bool {
        stanza.kind == Kind::Iq
            && matches!(stanza.type_.as_deref(), Some("result" | "error"))
            && stanza.from.as_str() == self.server
            && stanza.id.as_deref().is_some_and(|id| id == "alive" || confirm::is_ping_id(id))
    }
}
