//! What goes over streams: server-sent events (WHATWG HTML section 9.2) with ASCII-only JSON.

use std::{convert::Infallible, time::Duration};

use aiox_core::ports::Signal;
use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::Stream;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;

/// A comment after so much silence, so that no proxy on the way takes the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client waits before it comes back.
const RETRY: Duration = Duration::from_secs(2);

/// JSON in one line of ASCII: proxies and line readers that do not know UTF-8 (or take U+2028 for a line end) cannot break it.
pub(crate) fn ascii(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a frame could not be written");
        "null".into()
    });
    if text.is_ascii() {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + text.len() / 2);
    for c in text.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                use std::fmt::Write as _;
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// An event without a number.
pub(crate) fn plain(name: &str, value: &impl Serialize) -> Event {
    Event::default().event(name).data(ascii(value))
}

/// The event of a signal: durable ones carry their sequence as id, live text carries none.
pub(crate) fn signal(signal: &Signal) -> Event {
    match signal {
        Signal::Event(event) => plain("run.event", event).id(event.sequence.to_string()),
        Signal::Delta(delta) => plain("run.delta", delta),
    }
}

/// What every stream begins with.
pub(crate) fn opening() -> Event {
    Event::default().retry(RETRY)
}

/// The response of a stream. It is read only as fast as the client takes it.
pub(crate) fn respond(stream: impl Stream<Item = Event> + Send + 'static) -> Response {
    use futures::StreamExt as _;
    let mut response =
        Sse::new(stream.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("hb")).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    // Proxies of the nginx kind hold responses back otherwise.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_is_one_ascii_line_and_means_the_same(text: String) {
            let line = ascii(&text);
            prop_assert!(line.is_ascii() && !line.contains('\n') && !line.contains('\r'));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
