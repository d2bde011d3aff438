//! Which of the written replies the server has taken.
//!
//! XEP-0114 acknowledges nothing: a stanza in a socket buffer is lost when the server dies. So a ping to the server's own domain
//! (XEP-0199) follows each batch. The server handles the stream in order, so its answer, result or error, says that it has
//! handled everything before the ping; only then are those replies marked as sent. What has no answer when the
//! connection ends is still due in the outbox and goes out again, with the same stanza id, on the next one.

use std::collections::VecDeque;

const PREFIX: &str = "confirm-";

/// Whether an IQ id belongs to a confirmation ping.
pub(crate) fn is_ping_id(id: &str) -> bool {
    id.starts_with(PREFIX)
}

/// Written but unconfirmed replies of one connection.
#[derive(Debug)]
pub(crate) struct Unconfirmed<T> {
    connection: uuid::Uuid,
    last: u64,
    batches: VecDeque<(u64, Vec<T>)>,
}

impl<T> Unconfirmed<T> {
    /// For a new connection. Late answers to pings of an earlier one do not count: their ids differ.
    pub(crate) fn new() -> Self {
        Self { connection: uuid::Uuid::new_v4(), last: 0, batches: VecDeque::new() }
    }

    /// Notes a written batch; returns the id of the ping that must be written next.
    pub(crate) fn wrote(&mut self, batch: Vec<T>) -> String {
        self.last += 1;
        self.batches.push_back((self.last, batch));
        format!("{PREFIX}{}-{}", self.connection.simple(), self.last)
    }

    /// An answer came: everything written before that ping is confirmed and returned.
    pub(crate) fn answered(&mut self, id: &str) -> Vec<T> {
        let number = id
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'))
            .filter(|(connection, _)| *connection == self.connection.simple().to_string())
            .and_then(|(_, number)| number.parse::<u64>().ok());
        let Some(number) = number else { return Vec::new() };
        let mut confirmed = Vec::new();
        while self.batches.front().is_some_and(|(at, _)| *at <= number) {
            confirmed.extend(self.batches.pop_front().map(|(_, batch)| batch).unwrap_or_default());
        }
        confirmed
    }

    /// Whether nothing waits for an answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_confirms_everything_before_its_ping_and_nothing_after() {
        let mut unconfirmed = Unconfirmed::new();
        let _first = unconfirmed.wrote(vec![1, 2]);
        let second = unconfirmed.wrote(vec![3]);
        let third = unconfirmed.wrote(vec![4]);
        assert_eq!(unconfirmed.answered(&second), [1, 2, 3]);
        assert!(!unconfirmed.is_empty());
        assert_eq!(unconfirmed.answered(&second), [0; 0]);
        assert_eq!(unconfirmed.answered(&third), [4]);
        assert!(unconfirmed.is_empty());
    }

    #[test]
    fn answers_of_another_connection_and_nonsense_confirm_nothing() {
        let mut old = Unconfirmed::new();
        let late = old.wrote(vec![1]);
        let mut new = Unconfirmed::new();
        let current = new.wrote(vec![1]);
        for id in [late.as_str(), "confirm-", "confirm-x-1", "confirm-x", "alive", "", "confirm-18446744073709551616-1"] {
            assert_eq!(new.answered(id), [0; 0], "{id}");
        }
        assert!(is_ping_id(&current));
        assert_eq!(new.answered(&current), [1]);
    }
}
