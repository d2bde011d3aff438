//! The events of a run as server-sent events, resumable at every one of them.

use std::sync::Arc;

use aiox_app::Detail;
use aiox_core::{Caller, Error, agentos, ports::Signal};
use aiox_model::{
    RunId,
    run::RunEvent,
    v1::event::{Delta, DeltaText, EventEnvelope},
};
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response, sse::Event},
};
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{gate::Tenant, runs::run_id};
use crate::{
    HttpState,
    auth::Signed,
    bound::{self, Streams},
    documented::{V1Gated, V1Invalid, V1NotFound},
    error::Result,
    frames,
    read::{Asked, Place},
    state::App,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Where to begin, and what to send.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// Sequence of the last event that the reader has; the stream begins with the next one. Absent = from the first event.
    #[param(value_type = Option<u64>, minimum = 0)]
    after_sequence: Option<String>,
    /// The same.
    #[param(value_type = Option<u64>, minimum = 0)]
    from_sequence: Option<String>,
    /// `true`: live text too, as frames `agentos.delta` without an id.
    #[param(value_type = Option<bool>)]
    deltas: Option<String>,
}

impl From {
    /// The first present of `after_sequence`, `from_sequence` and `Last-Event-ID`.
    pub(super) fn cursor(&self, headers: &HeaderMap) -> Result<u64> {
        let header = || headers.get("last-event-id").map(|value| ("Last-Event-ID", value.to_str().unwrap_or("?").to_owned()));
        let query = [("after_sequence", &self.after_sequence), ("from_sequence", &self.from_sequence)];
        let given = query.into_iter().find_map(|(name, value)| Some((name, value.clone()?))).or_else(header);
        let Some((name, text)) = given else { return Ok(0) };
        let number = text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        // A larger one is past every event.
        let number = number.map(|number| number.min(u64::from(u32::MAX)));
        number.ok_or_else(|| Error::invalid(name, "must be a whole number of 0 or more").into())
    }

    pub(super) fn deltas(&self) -> bool {
        matches!(self.deltas.as_deref(), Some("true" | "1"))
    }
}

/// Follow the events of a run
///
/// Server-sent events (WHATWG HTML section 9.2): first what has been, from sequence 1 or after the cursor, then what happens, until the
/// final event, after which the hub closes the stream. Each event is a frame `agentos.event` whose `id` is the sequence and whose one
/// `data` line is an event envelope in ASCII. A comment comes at least every 15 s. A reader that was cut off comes back with the last
/// sequence that it has; the cursor that counts is the first present of `after_sequence`, `from_sequence` and `Last-Event-ID`. A
/// cursor at or past the final event is answered with 204. Events that are no longer kept are told by an event `agentos.stream.gap`.
#[utoipa::path(
    get,
    path = "/v1/runs/{run_id}/events",
    tag = "runs",
    operation_id = "follow_v1_run",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(
        ("run_id" = String, Path, description = "The run: `run_…` or UUID."),
        From,
        ("Last-Event-ID" = Option<u64>, Header, description = "As `after_sequence`, which wins."),
    ),
    responses(
        (status = 200, description = "The events.", body = EventEnvelope, content_type = "text/event-stream"),
        (status = 204, description = "The run has ended, and the reader has its last event."),
        V1Gated, V1Invalid, V1NotFound
    )
)]
pub(super) async fn follow(
    State(app): State<App>,
    Extension(streams): Extension<Arc<Streams>>,
    Signed(caller): Signed,
    Tenant(tenant): Tenant,
    Place(run): Place<String>,
    Asked(from): Asked<From>,
    headers: HeaderMap,
) -> Result<Response> {
    // Another caller's run is not found, whatever the cursor.
    let detail = app.runs.detail(&caller, run_id(&run)?).await?;
    stream(&app, &streams, &caller, &tenant, &detail, &from, &headers)
}

/// The stream of a run that the caller may read.
pub(super) fn stream(
    app: &HttpState,
    streams: &Arc<Streams>,
    caller: &Caller,
    tenant: &str,
    detail: &Detail,
    from: &From,
    headers: &HeaderMap,
) -> Result<Response> {
    let after = from.cursor(headers)?;
    if detail.run.status.is_final() && after >= detail.last {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = streams.enter(caller)?;
    let signals = app.runs.follow(RunId(detail.run.id), after, from.deltas());
    Ok(frames::respond(shown(detail.subject(tenant), after, signals, place)))
}

fn shown(
    of: agentos::Subject,
    mut after: u64,
    signals: impl Stream<Item = aiox_core::Result<Signal>> + Send + 'static,
    place: bound::Place,
) -> impl Stream<Item = Event> + Send + 'static {
    async_stream::stream! {
        let _place = place;
        let mut signals = std::pin::pin!(signals);
        while let Some(signal) = signals.next().await {
            match signal {
                Ok(Signal::Event(event)) => {
                    if event.sequence > after + 1 {
                        yield gap(&of, after, &event);
                    }
                    after = event.sequence;
                    yield frame(&agentos::event(&of, &event));
                }
                Ok(Signal::Delta(delta)) => {
                    let text = DeltaText { run_id: RunId(delta.run_id).to_string(), text: delta.text };
                    yield Event::default().event("agentos.delta").data(frames::ascii(&Delta { delta: text }));
                }
                // A stream that ends without the final event is resumed by its reader.
                Err(error) => {
                    tracing::error!(error = error.chain(), "a run can no longer be followed");
                    return;
                }
            }
        }
    }
}

fn gap(of: &agentos::Subject, after: u64, next: &RunEvent) -> Event {
    frame(&agentos::gap(of, after, next))
}

/// The frame of an event: name, id and one line of data.
pub(super) fn frame(event: &aiox_model::v1::event::Event) -> Event {
    let data = frames::ascii(&EventEnvelope { event: event.clone() });
    Event::default().event("agentos.event").id(event.sequence.to_string()).data(data)
}
