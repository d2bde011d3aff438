//! The requirements of the specification as data, read from its chapters by the grammar of `spec/README.md`. The conformance suite, and
//! whoever writes another one, reads `spec/requirements.json`.

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

/// Every requirement, in the order of the specification: `id`, `level`, `profile`, `conditional`, `text`, `source` (a list) and `check`.
#[must_use]
pub fn requirements() -> Value {
    CHAPTERS.iter().flat_map(|chapter| paragraphs(chapter)).filter_map(read).collect()
}

/// The paragraphs of a chapter that begin like a requirement.
fn paragraphs(chapter: &str) -> impl Iterator<Item = &str> {
    chapter.split("\n\n").map(str::trim).filter(|text| text.strip_prefix("**").and_then(|rest| rest.get(..7)).is_some_and(is_id))
}

fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 7 && bytes[..3].iter().all(u8::is_ascii_uppercase) && bytes[3] == b'-' && bytes[4..].iter().all(u8::is_ascii_digit)
}

/// A paragraph that keeps to the grammar.
fn read(paragraph: &str) -> Option<Value> {
    let (id, rest) = paragraph.strip_prefix("**")?.split_once("** (")?;
    let (kind, rest) = rest.split_once(") — ")?;
    let kind: Vec<&str> = kind.split(", ").collect();
    let (text, source) = rest.rsplit_once("\nSource: ")?;
    let (sources, check) = source.strip_suffix('.')?.rsplit_once(". Check: ")?;
    let (level, profile, conditional) = match kind[..] {
        [level, profile] => (level, profile, false),
        [level, profile, "conditional"] => (level, profile, true),
        _ => return None,
    };
    let known = ["MUST", "SHOULD"].contains(&level)
        && ["core", "models", "federation", "xmpp"].contains(&profile)
        && (["conformance", "inspection"].contains(&check) || check.starts_with("test "));
    let sources: Vec<&str> = sources.split("; ").collect();
    (known && is_id(id)).then(|| {
        json!({
            "id": id, "level": level, "profile": profile, "conditional": conditional, "text": text.replace('\n', " "), "source": sources,
            "check": check
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_paragraph_that_looks_like_a_requirement_is_one() {
        for chapter in CHAPTERS {
            for paragraph in paragraphs(chapter) {
                assert!(read(paragraph).is_some(), "it does not keep to the grammar of spec/README.md:\n{paragraph}");
            }
            // Whatever looks like a requirement has to be a paragraph of its own.
            let looks = |line: &&str| line.strip_prefix("**").and_then(|rest| rest.get(..7)).is_some_and(is_id);
            assert_eq!(chapter.lines().filter(looks).count(), paragraphs(chapter).count(), "{}", &chapter[..40]);
        }
        assert!(requirements().as_array().unwrap().len() > 200);
    }

    #[test]
    fn the_words_of_a_requirement_are_those_of_its_level() {
        for one in requirements().as_array().unwrap() {
            let text = one["text"].as_str().unwrap();
            let (must, should) = (text.contains("MUST"), text.contains("SHOULD"));
            assert!(
                if one["level"] == "MUST" { must && !should } else { should && !must },
                "{}: its words are not of its level",
                one["id"]
            );
        }
    }

    #[test]
    fn a_requirement_has_its_parts() {
        let text = "**ABC-012** (MUST, core) — A thing\nMUST be.\nSource: A §1; RFC 1. Check: test a/b.rs::c.";
        let wanted = json!({
            "id": "ABC-012", "level": "MUST", "profile": "core", "conditional": false, "text": "A thing MUST be.", "source": ["A §1", "RFC 1"],
            "check": "test a/b.rs::c"
        });
        assert_eq!(read(text), Some(wanted));
        assert_eq!(read(&text.replace("core", "core, conditional")).unwrap()["conditional"], true);
        for (part, wrong) in
            [("MUST, core", "MAY, core"), ("core", "gold"), ("core", "core, sometimes"), ("test a", "guess a"), ("012", "12")]
        {
            assert_eq!(read(&text.replacen(part, wrong, 1)), None, "{wrong}");
        }
    }
}
