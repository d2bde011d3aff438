//! Reads an event stream (WHATWG HTML section 9.2.6), the part of it that hubs send each other.

/// Longest single message, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;

/// One message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) event: String,
    pub(crate) data: String,
}

/// A message that is too long or not UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Cuts a stream of bytes into messages, however the bytes are split.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    message: Message,
    any_data: bool,
}

impl Parser {
    /// Takes more bytes and gives the messages that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Message>, Malformed> {
        let mut done = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.line.len() + piece.len() + self.message.data.len() > MAX_MESSAGE {
                return Err(Malformed);
            }
            self.line.extend_from_slice(piece);
            if pieces.peek().is_some() {
                done.extend(self.end_of_line()?);
            }
        }
        Ok(done)
    }

    fn end_of_line(&mut self) -> Result<Option<Message>, Malformed> {
        let line = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&line).map_err(|_| Malformed)?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            return Ok(std::mem::take(&mut self.any_data).then_some(message));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.message.event = value.to_owned(),
            "data" => {
                if std::mem::replace(&mut self.any_data, true) {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            // `id` repeats the sequence inside the data; `retry` and comments carry nothing that is needed.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        "retry: 1000\n\n: heartbeat\n\nid: 1\nevent: event\ndata: {\"a\":1}\n\nevent: delta\r\ndata: ä\r\ndata: b\r\n\r\nevent: none\n\n";

    fn message(event: &str, data: &str) -> Message {
        Message { event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn messages_are_the_same_however_the_bytes_are_cut() {
        let expected = [message("event", "{\"a\":1}"), message("delta", "ä\nb")];
        for cut in 0..=STREAM.len() {
            let mut parser = Parser::default();
            let (head, tail) = STREAM.as_bytes().split_at(cut);
            let mut messages = parser.feed(head).unwrap();
            messages.extend(parser.feed(tail).unwrap());
            assert_eq!(messages, expected, "cut at {cut}");
        }
    }

    #[test]
    fn the_published_streams_are_read_as_they_say() {
        let vectors: serde_json::Value = serde_json::from_str(include_str!("../../spec/vectors/streams.json")).unwrap();
        let cases = vectors["reading"].as_array().unwrap();
        for case in cases {
            let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap().to_owned();
            let stream = text(case, "stream");
            let expected = case["messages"].as_array().unwrap().iter();
            let expected: Vec<_> = expected.map(|one| Message { event: text(one, "event"), data: text(one, "data") }).collect();
            for cut in 0..=stream.len() {
                let mut parser = Parser::default();
                let (head, tail) = stream.as_bytes().split_at(cut);
                let mut messages = parser.feed(head).unwrap();
                messages.extend(parser.feed(tail).unwrap());
                assert_eq!(messages, expected, "{}, cut at {cut}", case["name"]);
            }
        }
        assert!(cases.len() >= 10);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'a'; MAX_MESSAGE / 2];
        assert_eq!(parser.feed(&piece), Ok(vec![]));
        assert_eq!(parser.feed(&piece), Ok(vec![]));
        assert_eq!(parser.feed(&piece), Err(Malformed));
    }
}
