//! Server-sent events, read byte by byte so that a case can judge the wire (WHATWG HTML, section 9.2).

use serde_json::Value;

/// One frame: the lines between two blank lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frame {
    /// Every `event:` line.
    pub(crate) event: Vec<String>,
    /// Every `id:` line.
    pub(crate) id: Vec<String>,
    /// Every `data:` line.
    pub(crate) data: Vec<String>,
    /// Every comment.
    pub(crate) comments: Vec<String>,
    /// Every other line.
    pub(crate) other: Vec<String>,
}
impl Frame {
    /// The JSON of the one data line.
    pub(crate) fn json(&self) -> Value {
        self.data.first().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null)
    }
    /// Whether it carries anything but comments.
    pub(crate) const fn is_event(&self) -> bool {
        !self.data.is_empty() || !self.event.is_empty() || !self.id.is_empty()
    }
}

/// Cuts a growing text into frames.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    rest: Vec<u8>,
}
impl Cutter {
    /// More bytes; the frames that are whole now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.rest.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let text: Vec<u8> = self.rest.drain(..end + 2).collect();
            frames.push(frame(&String::from_utf8_lossy(&text)));
        }
        frames
    }
}

fn frame(text: &str) -> Frame {
    let mut frame = Frame::default();
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "" => frame.comments.push(value),
            "event" => frame.event.push(value),
            "id" => frame.id.push(value),
            "data" => frame.data.push(value),
            _ => frame.other.push(line.to_owned()),
        }
    }
    frame
}

/// What came on a WebSocket.
#[derive(Debug)]
pub(crate) enum SocketFrame {
    /// Text.
    Text(String),
    /// The hub closed with this code.
    Close(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let text = ": hb\n\nevent: agentos.event\nid: 1\ndata: {\"event\":{}}\n\nretry: 5\n\n";
        let whole = Cutter::default().push(text.as_bytes());
        assert_eq!((whole.len(), whole[0].comments.len(), whole[1].id[0].as_str()), (3, 1, "1"));
        assert!(!whole[0].is_event() && whole[1].is_event());
        for at in 0..text.len() {
            let mut cutter = Cutter::default();
            let mut parts = cutter.push(&text.as_bytes()[..at]);
            parts.extend(cutter.push(&text.as_bytes()[at..]));
            assert_eq!(parts, whole, "cut at {at}");
        }
    }
}
