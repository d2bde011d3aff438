//! Chat over a WebSocket (RFC 6455).
//!
//! In: a text frame, plain or `{"message": …}`. Out: `{"type": "accepted" | "event" | "delta" | "done" | "error", …}`. Messages are
//! answered one after the other; a few may wait. Bad credentials close the socket with 4401.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use aiox_core::{Caller, Door, ports::Signal};
use aiox_model::{RunId, body::ErrorBody, run::ChatRequest};
use axum::{
    Extension,
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use futures::{StreamExt as _, stream::BoxStream};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, chat};
use crate::{
    auth,
    bound::Streams,
    context::Facts,
    documented::{Any, Invalid},
    error::{Failure, Result},
    frames,
    read::{Asked, Place, parse},
};

/// A message of 64 KiB in JSON, every character escaped.
const FRAME: usize = 512 * 1024;
/// Messages that wait while one is answered; a further one is refused.
const WAITING: usize = 8;
const PING: Duration = Duration::from_secs(25);
/// A client that has not even answered pings for so long is gone.
const SILENCE: Duration = Duration::from_secs(80);
const UNAUTHORIZED: u16 = 4401;

/// The credential of clients that cannot set headers.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Token {
    /// An access token or an API key. Never logged.
    token: Option<String>,
}

/// Talk to an agent over a WebSocket
///
/// RFC 6455. In: a text frame with a message, plain, or a `ChatRequest`. Messages are answered one after the other; 8 may wait.
///
/// Out: text frames with `type`. `accepted` `{run_id, conversation_id}`; `event` `{event}` with a `RunEvent`; `delta` `{run_id, text}`; `done` with the members of a `ChatReply`; `error` with
/// the members of an `ErrorBody`. The hub pings every 25 seconds and closes after 80 seconds of silence. Without a valid credential the socket is opened and closed with 4401.
#[utoipa::path(
    get,
    path = "/api/v1/agents/{agent}/chat/ws",
    tag = "chat",
    operation_id = "open_chat",
    security(("bearer" = ["runs:create"]), ("api_key" = ["runs:create"]), ()),
    params(("agent" = String, Path, description = "Any name of the agent: its UUID, its prefixed id (`agt_…`), its handle, or its address, also of an agent of a peer hub."), Token),
    responses(
        (status = 101, description = "The socket is open."),
        Invalid,
        Any,
        (status = 429, description = "Too many streams of the caller are open (`too_many_streams`).", body = ErrorBody, headers(("Retry-After" = u64, description = "Seconds to wait before the same request can succeed.")))
    )
)]
pub(super) async fn open(
    State(app): State<App>,
    Extension(streams): Extension<Arc<Streams>>,
    facts: Facts,
    Place(agent): Place<String>,
    Asked(query): Asked<Token>,
    headers: HeaderMap,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    let upgrade = upgrade.map_err(|_| Failure::BadRequest)?.max_message_size(FRAME).max_frame_size(FRAME);
    // Browsers cannot set headers on a WebSocket, hence the query; it is never logged.
    let credential = auth::credential(&headers).map(str::to_owned).or(query.token);
    let caller = match credential {
        Some(credential) => app.accounts.authenticate(&credential, facts.origin(), Door::Rest).await.map_err(Failure::from),
        None => Err(Failure::NoCredential),
    };
    let caller = match caller {
        Err(failure) if failure.shown().status.is_server_error() => return Err(failure),
        other => other.ok(),
    };
    let place = caller.as_ref().map(|caller| streams.enter(caller)).transpose()?;
    Ok(upgrade.on_upgrade(move |mut socket| async move {
        let _place = place;
        let Some(caller) = caller else {
            let frame = CloseFrame { code: UNAUTHORIZED, reason: "unauthorized".into() };
            let _ = socket.send(Message::Close(Some(frame))).await;
            return;
        };
        let mut talk = Talk { app, caller, agent, waiting: VecDeque::new(), current: None };
        // A broken connection is no fault of the hub: the runs go on and can be read by their ids.
        let _ = talk.serve(&mut socket).await;
    }))
}

struct Talk {
    app: App,
    caller: Caller,
    agent: String,
    waiting: VecDeque<String>,
    current: Option<(RunId, BoxStream<'static, aiox_core::Result<Signal>>)>,
}

impl Talk {
    async fn serve(&mut self, socket: &mut WebSocket) -> std::result::Result<(), axum::Error> {
        let mut ping = tokio::time::interval(PING);
        let mut heard = tokio::time::Instant::now();
        loop {
            if self.current.is_none()
                && let Some(text) = self.waiting.pop_front()
            {
                let frame = self.begin(&text).await;
                say(socket, &frame).await?;
                continue;
            }
            tokio::select! {
                signal = next(&mut self.current) => {
                    let frame = self.step(signal).await;
                    say(socket, &frame).await?;
                }
                received = socket.recv() => {
                    heard = tokio::time::Instant::now();
                    match received {
                        None => return Ok(()),
                        Some(Err(error)) => return Err(error),
                        Some(Ok(Message::Close(_))) => return Ok(()),
                        Some(Ok(Message::Text(text))) if self.waiting.len() < WAITING => self.waiting.push_back(text.to_string()),
                        Some(Ok(Message::Text(_))) => {
                            say(socket, &json!({ "type": "error", "error": "too many messages wait", "code": "rate_limited", "retryable": true })).await?;
                        }
                        Some(Ok(Message::Binary(_))) => say(socket, &self.failed(&Failure::BadRequest)).await?,
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    }
                }
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Ok(());
                    }
                    socket.send(Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    async fn begin(&mut self, text: &str) -> Value {
        match self.submit(text).await {
            Ok(run) => {
                let id = RunId(run.id);
                self.current = Some((id, self.app.runs.follow(id, 0, true).boxed()));
                json!({ "type": "accepted", "run_id": run.id, "conversation_id": run.conversation_id })
            }
            Err(failure) => self.failed(&failure),
        }
    }

    async fn submit(&mut self, text: &str) -> Result<aiox_model::run::Run> {
        let request: ChatRequest = if text.trim_start().starts_with('{') {
            parse(text.as_bytes())?
        } else {
            ChatRequest { message: text.to_owned(), conversation_id: None, stream: true, timeout_ms: None, priority: None, detach: false }
        };
        Ok(chat::submit(&self.app, &self.caller, &self.agent, request, None).await?.run)
    }

    /// The frame of what has just happened to the current run.
    async fn step(&mut self, signal: Option<aiox_core::Result<Signal>>) -> Value {
        let Some((run, _)) = &self.current else { return Value::Null };
        let run = *run;
        match signal {
            Some(Ok(Signal::Event(event))) => json!({ "type": "event", "event": event }),
            Some(Ok(Signal::Delta(delta))) => json!({ "type": "delta", "run_id": delta.run_id, "text": delta.text }),
            Some(Err(error)) => {
                self.current = None;
                self.failed(&error.into())
            }
            None => {
                self.current = None;
                match self.app.runs.get(&self.caller, run).await.map_err(Failure::from).and_then(chat::reply) {
                    Ok(reply) => tagged("done", &reply),
                    Err(failure) => self.failed(&failure),
                }
            }
        }
    }

    fn failed(&self, failure: &Failure) -> Value {
        tagged("error", &failure.shown().body(&self.caller.trace.to_string()))
    }
}

/// The next signal of the current run; nothing for ever when there is none.
async fn next(current: &mut Option<(RunId, BoxStream<'static, aiox_core::Result<Signal>>)>) -> Option<aiox_core::Result<Signal>> {
    match current {
        Some((_, signals)) => signals.next().await,
        None => std::future::pending().await,
    }
}

fn tagged(kind: &str, value: &impl serde::Serialize) -> Value {
    let mut frame = json!({ "type": kind });
    if let (Some(frame), Ok(Value::Object(members))) = (frame.as_object_mut(), serde_json::to_value(value)) {
        frame.extend(members);
    }
    frame
}

async fn say(socket: &mut WebSocket, frame: &Value) -> std::result::Result<(), axum::Error> {
    socket.send(Message::Text(frames::ascii(frame).into())).await
}
