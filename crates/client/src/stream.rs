//! Server-sent events of a hub, as typed frames.

use aiox_model::{
    body::ErrorBody,
    run::{ChatReply, RunDelta, RunEvent},
};
use futures::Stream;
use reqwest::Response;

use crate::{Error, LARGEST, Result};

/// What a stream of a hub carries.
#[derive(Debug, Clone)]
pub enum Frame {
    /// A durable event; its sequence is where [`crate::Client::follow`] resumes.
    Event(RunEvent),
    /// A live piece of the answer. After an event `run.retried` the answer begins anew.
    Delta(RunDelta),
    /// The whole answer: the end of a streamed chat.
    Done(ChatReply),
}

/// What the end of a stream must be, so that a stream that was cut is not taken for a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// [`Frame::Done`].
    Done,
    /// Anything.
    Any,
}

/// Reads a response to its end. An `error` event of the hub is the last item, as an error.
pub(crate) fn frames(mut response: Response, ending: Ending) -> impl Stream<Item = Result<Frame>> + Send {
    async_stream::stream! {
        let mut reader = Reader::default();
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    if ending == Ending::Done {
                        yield Err(Error::Answer("the stream ended before the answer"));
                    }
                    return;
                }
                Err(error) => { yield Err(error.into()); return }
            };
            for event in reader.push(&chunk) {
                match frame(&event) {
                    Ok(Some(frame)) => {
                        let last = ending == Ending::Done && matches!(frame, Frame::Done(_));
                        yield Ok(frame);
                        if last {
                            return;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => { yield Err(error); return }
                }
            }
            if reader.rest.len() > LARGEST {
                yield Err(Error::Answer("an event is too large"));
                return;
            }
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    name: String,
    data: String,
}

/// Cuts bytes into events (WHATWG HTML section 9.2.6), as far as hubs use them.
#[derive(Default)]
struct Reader {
    rest: Vec<u8>,
    current: Sent,
}

impl Reader {
    fn push(&mut self, chunk: &[u8]) -> Vec<Sent> {
        self.rest.extend_from_slice(chunk);
        let mut events = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[begin..begin + length]).trim_end_matches('\r').to_owned();
            begin += length + 1;
            if line.is_empty() {
                let event = std::mem::take(&mut self.current);
                if !event.data.is_empty() {
                    events.push(event);
                }
                continue;
            }
            // A line that begins with a colon is a comment: its field name is empty.
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.current.name),
                "data" => {
                    if !self.current.data.is_empty() {
                        self.current.data.push('\n');
                    }
                    self.current.data.push_str(value);
                }
                _ => {}
            }
        }
        self.rest.drain(..begin);
        events
    }
}

fn frame(event: &Sent) -> Result<Option<Frame>> {
    let bad = |_| Error::Answer("an event is not as it should be");
    Ok(Some(match event.name.as_str() {
        "run.event" => Frame::Event(serde_json::from_str(&event.data).map_err(bad)?),
        "run.delta" => Frame::Delta(serde_json::from_str(&event.data).map_err(bad)?),
        "done" => Frame::Done(serde_json::from_str(&event.data).map_err(bad)?),
        "error" => {
            let body: ErrorBody = serde_json::from_str(&event.data).map_err(bad)?;
            return Err(Error::of_body(200, body, None));
        }
        // Newer hubs may send more.
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "retry: 2000\n\n: heartbeat\n\nevent: run.delta\nid: 1\ndata: {\"a\":\ndata: 1}\n\nevent: done\r\ndata:x\r\n\r\ndata: cut";

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let whole = Reader::default().push(TEXT.as_bytes());
        assert_eq!(whole, [Sent { name: "run.delta".into(), data: "{\"a\":\n1}".into() }, Sent { name: "done".into(), data: "x".into() },]);
        for size in 1..TEXT.len() {
            let mut reader = Reader::default();
            let cut: Vec<Sent> = TEXT.as_bytes().chunks(size).flat_map(|chunk| reader.push(chunk)).collect();
            assert_eq!(cut, whole, "{size}");
        }
    }

    #[test]
    #[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    fn the_published_streams_are_read_as_they_say() {
        let vectors: serde_json::Value = serde_json::from_str(include_str!("../../../spec/vectors/streams.json")).unwrap();
        let cases = vectors["reading"].as_array().unwrap();
        for case in cases {
            let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap().to_owned();
            let expected = case["messages"].as_array().unwrap().iter();
            let expected: Vec<_> = expected.map(|one| Sent { name: text(one, "event"), data: text(one, "data") }).collect();
            for size in [1, 2, 3, 7, usize::MAX] {
                let mut reader = Reader::default();
                let stream = text(case, "stream");
                let read: Vec<Sent> = stream.as_bytes().chunks(size).flat_map(|chunk| reader.push(chunk)).collect();
                assert_eq!(read, expected, "{} in pieces of {size}", case["name"]);
            }
        }
        assert!(cases.len() >= 10);
    }
}
