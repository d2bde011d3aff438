//! JUnit XML, as CI systems read it.

use std::fmt::Write as _;

use super::{Report, Verdict};
use crate::report::html::escaped;

/// One test case a requirement; a failed MUST is a failure, a harness error is an error, all that was not judged is skipped.
#[must_use]
pub fn junit(report: &Report) -> String {
    let broken = report.judged.iter().filter(|one| one.breaks()).count();
    let skipped = report.count(Verdict::NotRun) + report.count(Verdict::Uncovered);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuite name=\"aiox-conformance {}\" hostname=\"{}\" tests=\"{}\" failures=\"{broken}\" errors=\"{}\" skipped=\"{skipped}\" time=\"{:.3}\">",
        escaped(&report.suite),
        escaped(&report.target),
        report.judged.len(),
        report.count(Verdict::Error),
        report.took.as_secs_f64(),
    );
    for one in &report.judged {
        let _ = write!(out, "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"", one.profile, one.id, one.took.as_secs_f64());
        let reason = escaped(one.reason.as_deref().unwrap_or_default());
        let body = match one.verdict {
            _ if one.breaks() && one.verdict == Verdict::Pass => {
                Some(format!("<failure message=\"an expected failure passed\">{}</failure>", escaped(&one.text)))
            }
            Verdict::Fail if one.breaks() => {
                let mut detail = one.text.clone();
                for exchange in &one.exchanges {
                    let _ =
                        write!(detail, "\n\n{}\n{}\n-> {}\n{}", exchange.request, exchange.request_body, exchange.status, exchange.body);
                }
                Some(format!("<failure message=\"{reason}\">{}</failure>", escaped(&detail)))
            }
            Verdict::Fail => Some(format!("<skipped message=\"{reason}\"/>")),
            Verdict::Error => Some(format!("<error message=\"{reason}\">{}</error>", escaped(&one.text))),
            Verdict::NotRun | Verdict::Uncovered => Some(format!("<skipped message=\"{reason}\"/>")),
            Verdict::Pass => None,
        };
        let _ = match body {
            Some(body) => writeln!(out, ">{body}</testcase>"),
            None => writeln!(out, "/>"),
        };
    }
    out.push_str("</testsuite>\n");
    out
}
