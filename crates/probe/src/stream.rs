//! An XML stream over a byte stream (RFC 6120 section 4).

use rxml::{Event, Parse as _, WithOptions as _, error::EndOrError};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};

use crate::{
    error::{Cause, condition_and_text},
    names,
    xml::{Element, Tree, XmlError},
};

/// The largest stanza that is read, in bytes as sent. More than servers pass on by default.
pub const MAX_STANZA_BYTES: usize = 1024 * 1024;

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Stream<S> {
    io: S,
    parser: rxml::Parser,
    chunk: Box<[u8]>,
    /// The part of `chunk` that the parser has not seen.
    unread: std::ops::Range<usize>,
    /// Bytes of the stanza that is being read.
    used: usize,
    tree: Tree,
    open: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, parser: parser(), chunk: vec![0; CHUNK].into(), unread: 0..0, used: 0, tree: Tree::default(), open: false }
    }

    /// Sends a stream header and reads the server's, and the features (RFC 6120 section 4.3).
    pub(crate) async fn start(&mut self, domain: &str, deadline: Instant) -> Result<Element, Cause> {
        self.parser = parser();
        (self.tree, self.open, self.used) = (Tree::default(), false, 0);
        let attributes = Element::new("", "x").with_attr("to", domain).to_xml("")?;
        let to = attributes.trim_start_matches("<x").trim_end_matches("/>");
        let (client, stream) = (names::CLIENT, names::STREAM);
        self.send(&format!("<?xml version='1.0'?><stream:stream xmlns='{client}' xmlns:stream='{stream}' version='1.0'{to}>"), deadline)
            .await?;
        let features = self.element(deadline).await?;
        if !features.is("features", names::STREAM) {
            return Err(Cause::Protocol("no stream features"));
        }
        Ok(features)
    }

    pub(crate) async fn send(&mut self, text: &str, deadline: Instant) -> Result<(), Cause> {
        let write = async {
            self.io.write_all(text.as_bytes()).await?;
            self.io.flush().await
        };
        timeout_at(deadline, write).await.map_err(|_| Cause::Timeout)?.map_err(Cause::Io)
    }

    /// The next whole element below the stream. Nothing is lost when the deadline passes first.
    pub(crate) async fn element(&mut self, deadline: Instant) -> Result<Element, Cause> {
        let element = timeout_at(deadline, self.read()).await.map_err(|_| Cause::Timeout)??;
        if element.is("error", names::STREAM) {
            let (condition, text) = condition_and_text(&element, names::STREAM_ERRORS);
            return Err(Cause::Stream { condition: condition.unwrap_or_else(|| "undefined-condition".to_owned()), text });
        }
        Ok(element)
    }

    async fn read(&mut self) -> Result<Element, Cause> {
        loop {
            // One byte can be several events, so the parser is asked until it has none.
            while let Some(event) = self.parse()? {
                if let Some(element) = self.take(event)? {
                    return Ok(element);
                }
            }
            match self.io.read(&mut self.chunk).await {
                // Peers that do not say goodbye in TLS are common; a stanza cut in two is not taken for a whole one either way.
                Ok(0) => return Err(Cause::Closed),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(Cause::Closed),
                Err(error) => return Err(Cause::Io(error)),
                Ok(length) => self.unread = 0..length,
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Event>, Cause> {
        let mut rest = self.chunk.get(self.unread.clone()).unwrap_or_default();
        let event = self.parser.parse(&mut rest, false);
        let start = self.unread.end - rest.len();
        self.used += start - self.unread.start;
        self.unread.start = start;
        if self.used > MAX_STANZA_BYTES {
            return Err(Cause::TooLarge);
        }
        match event {
            Ok(Some(event)) => Ok(Some(event)),
            Ok(None) => Err(Cause::Closed),
            Err(EndOrError::NeedMoreData) => Ok(None),
            Err(EndOrError::Error(error)) => Err(XmlError::Syntax(error).into()),
        }
    }

    fn take(&mut self, event: Event) -> Result<Option<Element>, Cause> {
        match event {
            Event::StartElement(_, (ns, name), _) if !self.open => {
                if ns.as_str() != names::STREAM || name != "stream" {
                    return Err(Cause::Protocol("no stream header"));
                }
                (self.open, self.used) = (true, 0);
                Ok(None)
            }
            Event::EndElement(_) if self.tree.is_empty() => Err(Cause::Closed),
            event => {
                let done = self.tree.take(event)?;
                if self.tree.is_empty() {
                    self.used = 0;
                }
                Ok(done)
            }
        }
    }

    /// The byte stream, to go on with TLS on it.
    pub(crate) fn into_io(self) -> Result<S, Cause> {
        // What came behind the consent would count as protected without being so (RFC 6120 section 5.4.3.3).
        if self.unread.is_empty() { Ok(self.io) } else { Err(Cause::Protocol("bytes before TLS")) }
    }

    /// Ends the stream and waits for the server to end it too.
    pub(crate) async fn finish(mut self, deadline: Instant) -> Result<(), Cause> {
        self.send("</stream:stream>", deadline).await?;
        loop {
            match self.element(deadline).await {
                Ok(_) => {}
                Err(Cause::Closed) => break,
                Err(cause) => return Err(cause),
            }
        }
        // The server may be gone already, which is as good.
        let _ = timeout_at(deadline, self.io.shutdown()).await;
        Ok(())
    }
}

fn parser() -> rxml::Parser {
    rxml::Parser::with_options(rxml::Options { max_token_length: MAX_STANZA_BYTES, ..rxml::Options::default() })
}
