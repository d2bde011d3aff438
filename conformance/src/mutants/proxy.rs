//! A reverse proxy on loopback that breaks one thing.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::{Client, Url, header};
use tokio::{net::TcpListener, task::AbortHandle};

use super::{Ask, Memory, Mutant, Reply};
use crate::world::World;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A running proxy; it ends when it is dropped.
pub(super) struct Proxy {
    pub(super) url: Url,
    task: AbortHandle,
}
impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Inner {
    home: Arc<World>,
    mutant: &'static Mutant,
    memory: Mutex<Memory>,
    /// One client an address: the hub limits by address, and is not to see all cases as one client.
    clients: Mutex<HashMap<IpAddr, Client>>,
}

impl Proxy {
    pub(super) async fn start(home: &Arc<World>, mutant: &'static Mutant) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let url = Url::parse(&format!("http://{address}")).map_err(std::io::Error::other)?;
        let memory = Mutex::new(known(home).await);
        let inner = Arc::new(Inner { home: home.clone(), mutant, memory, clients: Mutex::default() });
        let task = tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let inner = inner.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| serve(inner.clone(), from, request));
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                        tracing::debug!(%error, "a connection of the proxy ended");
                    }
                });
            }
        });
        Ok(Self { url, task: task.abort_handle() })
    }
}

async fn serve(inner: Arc<Inner>, from: SocketAddr, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(match pass(&inner, from, request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, "the proxy could not pass a request on");
            let body = Full::new(Bytes::from(error.to_string())).map_err(|never| match never {}).boxed_unsync();
            let mut response = Response::new(body);
            *response.status_mut() = hyper::StatusCode::BAD_GATEWAY;
            response
        }
    })
}

/// What a mutant knows from the start: the credential of the account that owns the shared agent (`token`).
async fn known(home: &Arc<World>) -> Memory {
    let mut memory = Memory::default();
    if let Ok(alice) = home.alice().await {
        memory.texts.insert("token".into(), alice.access);
    }
    memory
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn pass(inner: &Arc<Inner>, from: SocketAddr, request: Request<Incoming>) -> Result<Response<Body>, Failed> {
    let (parts, body) = request.into_parts();
    let chunked = !parts.headers.contains_key(header::CONTENT_LENGTH) && parts.headers.contains_key(header::TRANSFER_ENCODING);
    let mut ask = Ask {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: body.collect().await?.to_bytes().to_vec(),
    };
    for name in [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        ask.headers.remove(name);
    }
    let own = inner.mutant.request.and_then(|change| inner.memory.lock().ok().and_then(|mut memory| change(&mut ask, &mut memory)));
    if let Some(reply) = own {
        return whole(reply);
    }
    let answer = inner.send(from.ip(), &ask, chunked).await?;
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        headers.remove(name);
    }
    let streamed = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let mut reply = Reply { status: status.as_u16(), headers, body: Vec::new() };
    if !streamed {
        reply.body = answer.bytes().await?.to_vec();
        inner.change(&ask, &mut reply);
        return whole(reply);
    }
    inner.change(&ask, &mut reply);
    let frames = frames(inner.clone(), ask, answer);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status)?;
    *response.headers_mut() = reply.headers;
    Ok(response)
}

impl Inner {
    fn change(&self, ask: &Ask, reply: &mut Reply) {
        if let (Some(change), Ok(mut memory)) = (self.mutant.answer, self.memory.lock()) {
            change(ask, reply, &mut memory);
        }
    }

    async fn send(&self, from: IpAddr, ask: &Ask, chunked: bool) -> Result<reqwest::Response, Failed> {
        let client = self.client(from)?;
        let query = if ask.query.is_empty() { String::new() } else { format!("?{}", ask.query) };
        let url = self.home.options.target.join(&format!("{}{query}", ask.path))?;
        let request = client.request(ask.method.clone(), url).headers(ask.headers.clone());
        let request = if chunked {
            let parts: Vec<std::io::Result<Vec<u8>>> = ask.body.chunks(16 * 1024).map(|part| Ok(part.to_vec())).collect();
            request.body(reqwest::Body::wrap_stream(futures::stream::iter(parts)))
        } else if ask.body.is_empty() {
            request
        } else {
            request.body(ask.body.clone())
        };
        Ok(request.send().await?)
    }

    fn client(&self, from: IpAddr) -> Result<Client, Failed> {
        if from == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            return Ok(self.home.common.clone());
        }
        let mut clients = self.clients.lock().map_err(|_| "a lock was poisoned")?;
        if let Some(client) = clients.get(&from) {
            return Ok(client.clone());
        }
        let client = crate::world::client(Some(from), self.home.options.ca.as_deref())?;
        clients.insert(from, client.clone());
        Ok(client)
    }
}

fn whole(reply: Reply) -> Result<Response<Body>, Failed> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status)?;
    *response.headers_mut() = reply.headers;
    Ok(response)
}

/// The stream frame by frame, each as the mutant wants it.
fn frames(inner: Arc<Inner>, ask: Ask, answer: reqwest::Response) -> impl futures::Stream<Item = std::io::Result<Frame<Bytes>>> + Send {
    let start = (inner, ask, answer.bytes_stream().boxed(), Vec::<u8>::new(), 0usize);
    futures::stream::unfold(start, |(inner, ask, mut stream, mut rest, mut number)| async move {
        let part = match stream.next().await {
            Some(part) => part,
            None if inner.mutant.endless => std::future::pending().await,
            None => return None,
        };
        let bytes = match part {
            Ok(bytes) => bytes,
            Err(error) => return Some((Err(std::io::Error::other(error)), (inner, ask, stream, rest, number))),
        };
        let Some(change) = inner.mutant.frame else { return Some((Ok(Frame::data(bytes)), (inner, ask, stream, rest, number))) };
        rest.extend_from_slice(&bytes);
        let mut out = Vec::new();
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = rest.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&frame[..end]).into_owned();
            let event = text.lines().any(|line| line.starts_with("data:"));
            number += usize::from(event);
            let changed = inner.memory.lock().map(|mut memory| change(&ask, text, number, &mut memory)).unwrap_or_default();
            for frame in changed {
                out.extend_from_slice(frame.as_bytes());
                out.extend_from_slice(b"\n\n");
            }
        }
        Some((Ok(Frame::data(Bytes::from(out))), (inner, ask, stream, rest, number)))
    })
}
