//! The events of a run as they happen, resumable at every one of them.

use std::sync::Arc;

use aiox_core::Error;
use aiox_model::body::ErrorBody;
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{App, run_id};
use crate::{
    auth::Signed,
    bound::Streams,
    documented::{Gated, Invalid, NotFound},
    error::Result,
    frames,
    read::{Asked, Place},
};

/// From where to read, and what.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// Sequence of the last event that was seen; absent = from the beginning.
    #[param(value_type = Option<u32>)]
    after: Option<String>,
    /// The same as `after`.
    #[param(value_type = Option<u32>)]
    after_sequence: Option<String>,
    /// The same as `after`.
    #[param(value_type = Option<u32>)]
    from_sequence: Option<String>,
    /// `true` or `1`: live text too.
    deltas: Option<String>,
}

/// Where the reader has been: the header wins, because a browser that comes back keeps the query it first came with.
fn cursor(from: &From, headers: &HeaderMap) -> Result<u64> {
    let header = headers.get("last-event-id").map(|value| ("Last-Event-ID", value.to_str().unwrap_or("?").to_owned()));
    let query = [("after", &from.after), ("after_sequence", &from.after_sequence), ("from_sequence", &from.from_sequence)];
    let given = header.or_else(|| query.into_iter().find_map(|(name, value)| value.clone().map(|value| (name, value))));
    match given {
        None => Ok(0),
        Some((_, text)) if text.is_empty() => Ok(0),
        Some((name, text)) => text
            .parse()
            .ok()
            .filter(|cursor| *cursor <= u64::from(u32::MAX))
            .ok_or_else(|| Error::invalid(name, "must be the sequence of an event").into()),
    }
}

/// Follow a run
///
/// Server-sent events: every numbered event of the run from the given position on, then the live run until its end. `event: run.event` has a `RunEvent` as data and its sequence
/// as `id`; with `deltas=true` there is also `event: run.delta` with a `RunDelta`, without an `id`, because live text is never replayed. A comment comes every 15 seconds. The stream
/// ends after the event that ends the run.
///
/// To resume, give the last sequence that was seen: `Last-Event-ID`, or `after` in the query. The header wins.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/events",
    tag = "runs",
    operation_id = "follow_run",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(("run" = String, Path, description = "The run: its UUID or its prefixed id (`run_…`)."), From, ("Last-Event-ID" = Option<u64>, Header, description = "Sequence of the last event that was seen; wins over the query.")),
    responses(
        (status = 200, description = "The events.", body = String, content_type = "text/event-stream"),
        (status = 204, description = "The run has ended and nothing comes after the given position: do not come back."),
        Gated,
        Invalid,
        NotFound,
        (status = 429, description = "Too many requests (`rate_limited`), or too many streams of the caller are open (`too_many_streams`).", body = ErrorBody, headers(("Retry-After" = u64, description = "Seconds to wait before the same request can succeed.")))
    )
)]
pub(super) async fn follow(
    State(app): State<App>,
    Extension(streams): Extension<Arc<Streams>>,
    Signed(caller): Signed,
    Place(run): Place<String>,
    Asked(from): Asked<From>,
    headers: HeaderMap,
) -> Result<Response> {
    let run = run_id(&run)?;
    let after = cursor(&from, &headers)?;
    let deltas = matches!(from.deltas.as_deref(), Some("true" | "1"));
    // The event of the cursor and the one after it. Another caller's run is not found here.
    let (status, events) = app.runs.events(&caller, run, after.saturating_sub(1), 2).await?;
    if after > 0 && events.first().is_none_or(|event| event.sequence != after) {
        return Err(Error::invalid("Last-Event-ID", "this run has no such event").into());
    }
    if status.is_final() && events.last().is_none_or(|event| event.sequence <= after) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = streams.enter(&caller)?;
    let signals = app.runs.follow(run, after, deltas);
    let stream = futures::stream::once(async { frames::opening() }).chain(signals.scan(place, |_, signal| {
        // A stream that ends without the final event is resumed by its reader.
        let event = signal.inspect_err(|error| tracing::error!(error = error.chain(), "a run can no longer be followed")).ok();
        std::future::ready(event.map(|signal| frames::signal(&signal)))
    }));
    Ok(frames::respond(stream))
}
