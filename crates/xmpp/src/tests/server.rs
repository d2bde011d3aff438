//! A server of XEP-0114 for tests: does what it is told, and nothing by itself except answering pings when asked to.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use xmpp_parsers::{component::Handshake, minidom::Element};

use crate::{link::NS_STREAM, stanza::NS_COMPONENT};

/// Longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const SECRET: &str = "a secret of the test";

pub(super) struct Server {
    listener: TcpListener,
}

/// One accepted component.
pub(super) struct Peer {
    socket: TcpStream,
    buffer: String,
    /// Answer the link's and the relay's pings while waiting for something else.
    pub(super) pong: bool,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }
    pub(super) async fn at(address: std::net::SocketAddr) -> Self {
        Self { listener: TcpListener::bind(address).await.unwrap() }
    }
    pub(super) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }
    /// Accepts a connection, without a word.
    pub(super) async fn accept_silent(&self) -> TcpStream {
        timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap().0
    }
    /// Accepts a connection and sends the stream header.
    pub(super) async fn accept_stream(&self) -> Peer {
        let mut peer = Peer { socket: self.accept_silent().await, buffer: String::new(), pong: true };
        peer.until("to='agents.hub-a.example'>").await;
        peer.write(&format!("<?xml version='1.0'?><stream:stream xmlns='{NS_COMPONENT}' xmlns:stream='{NS_STREAM}' id='stream-1'>")).await;
        peer
    }
    /// Accepts a component that knows the secret.
    pub(super) async fn accept(&self) -> Peer {
        let mut peer = self.accept_stream().await;
        let proof = Handshake::try_from(peer.next().await).unwrap();
        assert_eq!(proof, Handshake::from_stream_id_and_password("stream-1".into(), SECRET));
        peer.write("<handshake/>").await;
        peer
    }
}

impl Peer {
    pub(super) async fn write(&mut self, xml: &str) {
        self.socket.write_all(xml.as_bytes()).await.unwrap();
    }

    /// Reads until `mark` has come; returns what came with it.
    pub(super) async fn until(&mut self, mark: &str) -> String {
        loop {
            if let Some(at) = self.buffer.find(mark) {
                let rest = self.buffer.split_off(at + mark.len());
                return std::mem::replace(&mut self.buffer, rest);
            }
            assert!(self.fill().await, "the component hung up before {mark}: {}", self.buffer);
        }
    }

    async fn fill(&mut self) -> bool {
        let mut bytes = vec![0; 65536];
        let count = timeout(PATIENCE, self.socket.read(&mut bytes))
            .await
            .unwrap_or_else(|_| panic!("nothing more came: {}", self.buffer))
            .unwrap_or(0);
        self.buffer.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        count > 0
    }

    /// The next element, pings answered on the way if so wished. `None`: the stream was closed.
    pub(super) async fn next_or_end(&mut self) -> Option<Element> {
        loop {
            if self.buffer.starts_with("</stream:stream>") {
                return None;
            }
            if let Some(end) = complete(&self.buffer) {
                let rest = self.buffer.split_off(end);
                let element: Element = std::mem::replace(&mut self.buffer, rest).parse().unwrap();
                if self.pong && element.has_child("ping", "urn:xmpp:ping") && element.attr::<str>("to") == Some("hub-a.example") {
                    self.answer_ping(&element).await;
                    continue;
                }
                return Some(element);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    pub(super) async fn answer_ping(&mut self, ping: &Element) {
        let id = ping.attr::<str>("id").unwrap();
        self.write(&format!("<iq type='result' from='hub-a.example' to='agents.hub-a.example' id='{id}'/>")).await;
    }

    /// Answers pings, and expects nothing else, until something has happened.
    pub(super) async fn serve_until(&mut self, done: impl Future<Output = ()>) {
        tokio::select! {
            () = done => {}
            other = self.next_or_end() => panic!("unexpected: {other:?}"),
        }
    }

    /// Like [`Self::serve_until`], for a first message: the door asks its device what it can do.
    pub(super) async fn serve_until_quiet(&mut self, done: impl Future<Output = ()>) {
        tokio::pin!(done);
        loop {
            tokio::select! {
                () = &mut done => return,
                other = self.next_or_end() => assert_eq!(other.map(|query| query.name().to_owned()).as_deref(), Some("iq")),
            }
        }
    }

    pub(super) async fn next(&mut self) -> Element {
        self.next_or_end().await.expect("the stream was closed")
    }

    /// The next element that is neither a presence nor a disco query of the door.
    pub(super) async fn next_relevant(&mut self) -> Element {
        loop {
            let element = self.next().await;
            let query = element.name() == "iq" && element.attr::<str>("type") == Some("get");
            if element.name() != "presence" && !query {
                return element;
            }
        }
    }

    pub(super) async fn message(&mut self, id: &str, body: &str) {
        self.write(&format!(
            "<message from='u@hub-a.example/dino' to='bot@agents.hub-a.example' type='chat' id='{id}'><body>{body}</body></message>"
        ))
        .await;
    }
}

/// The length of the first element, if all of it is there. Elements of the door have no comments and no CDATA.
fn complete(text: &str) -> Option<usize> {
    let options = rxml::Options { max_token_length: 1 << 20, ..rxml::Options::default() };
    let mut reader = rxml::Reader::with_options(text.as_bytes(), options);
    let (mut depth, mut length) = (0usize, 0usize);
    while let Ok(Some(event)) = reader.read() {
        length += event.metrics().len();
        match event {
            rxml::Event::StartElement(..) => depth += 1,
            rxml::Event::EndElement(_) => {
                depth -= 1;
                if depth == 0 {
                    return Some(length);
                }
            }
            _ => {}
        }
    }
    None
}
