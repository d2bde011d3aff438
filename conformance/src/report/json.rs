//! JSON: the whole report, and one line a requirement for a file that is committed.

use serde_json::json as object;

use super::Report;

/// The whole report with its exchanges.
#[must_use]
pub fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}

/// One object a line, sorted by id, without anything that differs between two equal runs.
#[must_use]
pub fn lines(report: &Report) -> String {
    let line = |one: &super::Judgement| {
        let mut line = object!({ "id": one.id, "level": one.level, "profile": one.profile, "verdict": one.verdict });
        if let Some(expected) = &one.expected {
            line["expected"] = object!(expected);
        }
        format!("{line}\n")
    };
    report.judged.iter().map(line).collect()
}
