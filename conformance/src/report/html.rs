//! One page that needs nothing else.

use std::fmt::Write as _;

use super::Report;

/// Makes a text safe inside HTML and XML.
pub(super) fn escaped(text: &str) -> String {
    text.chars()
        // XML 1.0 has no other control characters.
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                c => out.push(c),
            }
            out
        })
}

/// The report as a page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut rows = String::new();
    for one in &report.judged {
        let mut detail = String::new();
        if let Some(reason) = &one.reason {
            let _ = write!(detail, "<p>{}</p>", escaped(reason));
        }
        for exchange in &one.exchanges {
            let text = format!("{}\n{}\n→ {}\n{}", exchange.request, exchange.request_body, exchange.status, exchange.body);
            let _ = write!(detail, "<pre>{}</pre>", escaped(&text));
        }
        let verdict = one.verdict.as_str();
        let _ = writeln!(
            rows,
            "<details class=\"{verdict}\"><summary><b>{}</b> <i>{verdict}</i> {}</summary>{detail}</details>",
            one.id,
            escaped(&one.text)
        );
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>AIOX conformance</title><style>\
         :root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         details{{border-left:4px solid gray;margin:.3rem 0;padding:.2rem .7rem}}.pass{{border-color:#2a2}}.fail{{border-color:#c22}}.error{{border-color:#c80}}\
         pre{{overflow:auto;padding:.5rem;border:1px solid #8885}}</style><h1>AIOX conformance</h1><p>{}</p>\n{rows}</html>\n",
        escaped(&report.summary())
    )
}
