//! The writing half: a bounded queue of serialised stanzas and the task that empties it.

use std::time::Duration;

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use xmpp_parsers::minidom::Element;

use super::LinkError;

/// Stanzas waiting to be written. When it is full, senders wait; the write deadline ends a link that takes nothing.
const QUEUE: usize = 1024;
/// Largest stanza that is sent. Servers close the link for larger ones (256 KiB is the smallest limit met in practice).
const MAX_BYTES: usize = 240 * 1024;
/// Stanzas that go out in one write.
const BATCH: usize = 64;

/// A stanza that was not handed over to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the link is down")]
    Down,
    #[error("the stanza cannot be written as XML or is too large")]
    Unserialisable,
}

/// Sends on one connection. Useless, but harmless, after that connection has ended.
#[derive(Debug, Clone)]
pub(crate) struct Outbound(mpsc::Sender<Vec<u8>>);

impl Outbound {
    pub(super) fn channel() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Queues one stanza, after all that were queued before it.
    pub(crate) async fn send(&self, element: &Element) -> Result<(), SendError> {
        let bytes = serialise(element)?;
        self.0.send(bytes).await.map_err(|_| SendError::Down)
    }

    /// Queues one stanza unless the queue is full.
    pub(crate) fn try_send(&self, element: &Element) -> Result<(), SendError> {
        let bytes = serialise(element)?;
        self.0.try_send(bytes).map_err(|_| SendError::Down)
    }
}

fn serialise(element: &Element) -> Result<Vec<u8>, SendError> {
    let mut bytes = Vec::with_capacity(512);
    element.write_to(&mut bytes).map_err(|_| SendError::Unserialisable)?;
    if bytes.len() > MAX_BYTES {
        return Err(SendError::Unserialisable);
    }
    Ok(bytes)
}

/// Writes what is queued until `closing`, then the rest of the queue and the end of the stream.
pub(super) async fn write_loop<W: AsyncWrite + Unpin>(
    mut socket: W,
    mut queue: mpsc::Receiver<Vec<u8>>,
    deadline: Duration,
    closing: CancellationToken,
) -> Result<(), LinkError> {
    let mut stanzas = Vec::with_capacity(BATCH);
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let open = tokio::select! {
            biased;
            count = queue.recv_many(&mut stanzas, BATCH) => count > 0,
            () = closing.cancelled() => false,
        };
        if !open {
            break;
        }
        write(&mut socket, &mut buffer, &mut stanzas, deadline).await?;
    }
    queue.close();
    while queue.recv_many(&mut stanzas, BATCH).await > 0 {
        write(&mut socket, &mut buffer, &mut stanzas, deadline).await?;
    }
    stanzas.push(b"</stream:stream>".to_vec());
    write(&mut socket, &mut buffer, &mut stanzas, deadline).await?;
    socket.shutdown().await.map_err(LinkError::Io)
}

async fn write<W: AsyncWrite + Unpin>(
    socket: &mut W,
    buffer: &mut Vec<u8>,
    stanzas: &mut Vec<Vec<u8>>,
    deadline: Duration,
) -> Result<(), LinkError> {
    buffer.clear();
    for stanza in stanzas.drain(..) {
        buffer.extend_from_slice(&stanza);
    }
    let written = async {
        socket.write_all(buffer).await?;
        socket.flush().await
    };
    timeout(deadline, written).await.map_err(|_| LinkError::Timeout("taking what we write"))?.map_err(LinkError::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_a_stanza_over_the_limit_is_not_sent() {
        let mut element = Element::bare("message", crate::stanza::NS_COMPONENT);
        element.append_text("a < b & c");
        let text = String::from_utf8(serialise(&element).unwrap()).unwrap();
        assert!(text.contains("a &lt; b &amp; c"), "{text}");
        element.append_text("x".repeat(MAX_BYTES));
        assert_eq!(serialise(&element), Err(SendError::Unserialisable));
    }

    #[tokio::test]
    async fn what_was_queued_before_closing_is_written_and_then_the_end() {
        let (outbound, queue) = Outbound::channel();
        let closing = CancellationToken::new();
        for _ in 0..200 {
            outbound.send(&Element::bare("x", "urn:x")).await.unwrap();
        }
        closing.cancel();
        let mut out = Vec::new();
        write_loop(&mut out, queue, Duration::from_secs(1), closing).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("urn:x").count(), 200);
        assert!(text.ends_with("</stream:stream>"));
        assert_eq!(outbound.send(&Element::bare("x", "urn:x")).await, Err(SendError::Down));
    }
}
