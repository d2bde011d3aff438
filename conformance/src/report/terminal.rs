//! Text for a terminal.

use std::fmt::Write as _;

use super::{Report, Verdict};

/// What is no pass, each with the requirement's words, what was expected, and the exchanges; then the sum.
#[must_use]
pub fn terminal(report: &Report) -> String {
    let mut out = String::new();
    for one in report.judged.iter().filter(|one| matches!(one.verdict, Verdict::Fail | Verdict::Error) || one.breaks()) {
        let word = match one.verdict {
            Verdict::Pass => "UNEXPECTED PASS",
            Verdict::Error => "HARNESS ERROR",
            _ if one.expected.is_some() => "expected failure",
            _ if one.breaks() => "FAIL",
            _ => "fails a SHOULD",
        };
        let _ = writeln!(out, "{} {word}\n  requirement: {}", one.id, one.text);
        if let Some(reason) = &one.reason {
            let _ = writeln!(out, "  {reason}");
        }
        if let Some(last) = one.exchanges.last() {
            let _ =
                writeln!(out, "  last request: {}\n    {}\n  answer: {}\n    {}", last.request, last.request_body, last.status, last.body);
        }
        out.push('\n');
    }
    let not_run: Vec<_> = report.judged.iter().filter(|one| one.verdict == Verdict::NotRun).collect();
    if !not_run.is_empty() {
        out.push_str("Not run:\n");
        for one in not_run {
            let _ = writeln!(out, "  {} {}", one.id, one.reason.as_deref().unwrap_or_default());
        }
        out.push('\n');
    }
    let second: Vec<_> = report.judged.iter().filter(|one| one.verdict == Verdict::Pass && one.first_look.is_some()).collect();
    if !second.is_empty() {
        out.push_str("Passed at the second look, alone:\n");
        for one in second {
            let _ = writeln!(out, "  {} at first: {}", one.id, one.first_look.as_deref().unwrap_or_default());
        }
        out.push('\n');
    }
    if !report.left.is_empty() {
        let _ = writeln!(out, "Left behind:\n  {}\n", report.left.join("\n  "));
    }
    out.push_str(&report.summary());
    out.push('\n');
    out
}
