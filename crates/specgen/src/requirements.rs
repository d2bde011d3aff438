//! The requirements of the specification as data, read from its chapters by the grammar of `spec/README.md`.
//!
//! The conformance suite reads the chapters for itself: it shares nothing with what it judges.

use serde_json::{Value, json};

/// The chapters, in the order of the specification.
const CHAPTERS: [&str; 13] = [
    include_str!("../../../spec/tenancy.md"),
    include_str!("../../../spec/errors.md"),
    include_str!("../../../spec/idempotency.md"),
    include_str!("../../../spec/agents.md"),
    include_str!("../../../spec/runs.md"),
    include_str!("../../../spec/streams.md"),
    include_str!("../../../spec/models.md"),
    include_str!("../../../spec/policy.md"),
    include_str!("../../../spec/workers.md"),
    include_str!("../../../spec/federation.md"),
    include_str!("../../../spec/xmpp.md"),
    include_str!("../../../spec/security.md"),
    include_str!("../../../spec/operations.md"),
];

/// Every requirement, in the order of the specification: `id`, `level`, `profile`, `text`, `source` (a list) and `check`.
#[must_use]
pub fn requirements() -> Value {
    CHAPTERS.iter().flat_map(|chapter| chapter.split("\n\n")).filter_map(|paragraph| read(paragraph.trim())).collect()
}

/// A paragraph that is a requirement.
fn read(paragraph: &str) -> Option<Value> {
    let (id, rest) = paragraph.strip_prefix("**")?.split_once("** (")?;
    let (kind, rest) = rest.split_once(") — ")?;
    let (level, profile) = kind.split_once(", ")?;
    let (text, source) = rest.rsplit_once("\nSource: ")?;
    let (sources, check) = source.strip_suffix('.')?.rsplit_once(". Check: ")?;
    let sources: Vec<&str> = sources.split("; ").collect();
    Some(json!({
        "id": id, "level": level, "profile": profile, "text": text.replace('\n', " "), "source": sources, "check": check
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_paragraph_that_looks_like_a_requirement_is_read() {
        let all = requirements();
        let looks = |line: &&str| line.starts_with("**") && line.as_bytes().get(5) == Some(&b'-') && line.get(9..12) == Some("** ");
        let wanted: usize = CHAPTERS.iter().map(|chapter| chapter.lines().filter(looks).count()).sum();
        assert!(wanted > 200);
        assert_eq!(all.as_array().unwrap().len(), wanted);
    }

    #[test]
    fn a_requirement_has_its_parts() {
        let text = "**ABC-012** (MUST, core) — A thing\nMUST be.\nSource: A §1; RFC 1. Check: test a/b.rs::c.";
        let wanted = json!({
            "id": "ABC-012", "level": "MUST", "profile": "core", "text": "A thing MUST be.", "source": ["A §1", "RFC 1"],
            "check": "test a/b.rs::c"
        });
        assert_eq!(read(text), Some(wanted));
        assert_eq!(read("**Lenient in, strict out.** (not one) — of them"), None);
    }
}
