//! Failures that are known: a file of ids, one a line, each with a reason.

use std::collections::BTreeMap;

use crate::requirement::requirements;

/// Requirements that a hub is known to fail. A listed one that passes is a failure too, so that the list stays true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected(BTreeMap<String, String>);

/// A line of the file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ExpectedError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl Expected {
    /// Reads `ID reason` lines; empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// A line without a reason, an unknown id, or an id that is listed twice.
    pub fn parse(text: &str) -> Result<Self, ExpectedError> {
        let mut all = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let bad = |problem: String| ExpectedError { line: line_number, problem };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, reason) = line.split_once(char::is_whitespace).ok_or_else(|| bad(format!("`{line}` has no reason")))?;
            if !requirements().iter().any(|one| one.id == id) {
                return Err(bad(format!("`{id}` is no requirement of this specification")));
            }
            if all.insert(id.to_owned(), reason.trim().to_owned()).is_some() {
                return Err(bad(format!("`{id}` is listed twice")));
            }
        }
        Ok(Self(all))
    }

    /// Why a requirement is expected to fail.
    #[must_use]
    pub fn reason(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_needs_a_known_id_and_a_reason() {
        let good = Expected::parse("# known\n\nRUN-001 not there yet\n").unwrap();
        assert_eq!(good.reason("RUN-001"), Some("not there yet"));
        assert_eq!(good.reason("RUN-002"), None);
        for (text, line) in [("RUN-001", 1), ("\nNOP-999 x", 2), ("RUN-001 a\nRUN-001 b", 2)] {
            assert_eq!(Expected::parse(text).unwrap_err().line, line, "{text}");
        }
    }

    #[test]
    fn what_is_not_run_against_the_pair_has_a_reason_and_is_judged_elsewhere() {
        let with = |results: &str, verdict: &str| -> Vec<String> {
            let lines = results.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines.filter(|line| line["verdict"] == verdict).map(|line| line["id"].as_str().unwrap().to_owned()).collect()
        };
        let excused: Vec<String> = Expected::parse(include_str!("../not-run.txt")).unwrap().0.into_keys().collect();
        assert_eq!(with(include_str!("../results.jsonl"), "not_run"), excused, "conformance/not-run.txt and results.jsonl");
        assert_eq!(
            with(include_str!("../production-results.jsonl"), "pass"),
            excused,
            "conformance/not-run.txt and production-results.jsonl"
        );
    }
}
