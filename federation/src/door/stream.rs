//! `GET /fed/v1/runs/{id}/events`: numbered events from any position, then the live run until its end (federation section 12).

use std::{convert::Infallible, sync::Arc, time::Duration};

use aiox_model::{RunId, federation::Problem};
use axum::{
    Extension,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{StreamExt, stream::unfold};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{DELTA, EVENT, Shared, failed, not_found, problem, wait};
use crate::{
    documented::{PeerHidden, Peered},
    ports::FeedItem,
    tls::PeerIdentity,
    token::Operation,
};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// Frames that wait for a slow reader, beside what the transport buffers.
const FRAMES: usize = 32;
const RECONNECT: Duration = Duration::from_secs(1);

/// From where to read.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// Sequence of the last event that was seen; absent = from the beginning.
    after: Option<u64>,
    /// Begin the live text with what there is of it, in one piece; absent = from now on.
    #[serde(default)]
    #[param(required = false)]
    so_far: bool,
}

/// Follow a run that the peer sent
///
/// Server-sent events: numbered events (`event: event`, data a `RunEvent`, `id` its sequence) from the given position, then the live run until its end. Live text is `event: delta`
/// with a `RunDelta`, without an `id`. A comment comes every 15 seconds. The query wins over `Last-Event-ID`. The token needs the scope `stream`.
#[utoipa::path(
    get,
    path = "/fed/v1/runs/{id}/events",
    tag = "federation",
    operation_id = "follow_peer_run",
    security(("request_token" = [])),
    params(("id" = String, Path, description = "The run, the same id at both hubs."), After, ("Last-Event-ID" = Option<u64>, Header, description = "Sequence of the last event that was seen.")),
    responses(
        (status = 200, description = "The events.", body = String, content_type = "text/event-stream"),
        (status = 204, description = "The run has ended and nothing comes after the given position."),
        (status = 401, description = "The token is missing or refused, or the peer is not active. No body; `WWW-Authenticate: Bearer`."),
        Peered,
        PeerHidden,
        (status = 400, description = "`Last-Event-ID` is no number (`invalid_request`).", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests (`rate_limited`), or too many streams of the peer are open (`too_many_streams`).", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds to wait before the same request can succeed.")))
    )
)]
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    identity: Option<Extension<PeerIdentity>>,
    headers: HeaderMap,
    run: Result<Path<RunId>, PathRejection>,
    query: Result<Query<After>, QueryRejection>,
) -> Response {
    let who = match shared.authenticate(identity, &headers, Operation::Stream).await {
        Ok(who) => who,
        Err(response) => return response,
    };
    if let Err(response) = shared.permit(&who, |operations| operations.stream, "federation.stream").await {
        return response;
    }
    let (Ok(Path(run)), Ok(Query(After { after, so_far }))) = (run, query) else { return not_found() };
    let header = headers.get("last-event-id").map(|value| value.to_str().ok().and_then(|text| text.parse::<u64>().ok()));
    let after = match (after, header) {
        (Some(after), _) | (None, Some(Some(after))) => after,
        (None, Some(None)) => return problem(StatusCode::BAD_REQUEST, "invalid_request"),
        (None, None) => 0,
    };
    let Some(place) = shared.stream_place(&who.peer) else { return wait(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", 5) };
    let mut feed = match shared.door.feed.open(&who.identity.node, run, after, so_far).await {
        Ok(Some(feed)) => feed,
        Ok(None) => return StatusCode::NO_CONTENT.into_response(),
        Err(error) => return failed(&error),
    };
    let (frames, reader) = mpsc::channel(FRAMES);
    let stall = shared.door.stall;
    tokio::spawn(async move {
        let _place = place;
        let mut next = Some(Event::default().retry(RECONNECT));
        loop {
            if let Some(event) = next.take()
                && frames.send_timeout(event, stall).await.is_err()
            {
                // Gone, or too slow: it resumes from the last number it has.
                tracing::info!(%run, "event stream cut: its reader does not read");
                return;
            }
            let item = tokio::select! { () = frames.closed() => return, item = feed.next() => item };
            match item.map(|item| item.map(|item| frame(&item))) {
                Some(Ok(event)) => next = event,
                Some(Err(error)) => return tracing::warn!(%run, error = %error.chain(), "event stream cut"),
                None => return,
            }
        }
    });
    let body = unfold(reader, |mut reader| async move { reader.recv().await.map(|event| (Ok::<_, Infallible>(event), reader)) });
    Sse::new(body).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response()
}

fn frame(item: &FeedItem) -> Option<Event> {
    let framed = match item {
        FeedItem::Event(event) => Event::default().id(event.sequence.to_string()).event(EVENT).json_data(event),
        FeedItem::Delta(delta) => Event::default().event(DELTA).json_data(delta),
    };
    framed.inspect_err(|error| tracing::error!(%error, "an event could not be written")).ok()
}
