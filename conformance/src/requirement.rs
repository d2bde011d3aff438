//! The requirements, read from the chapters of the specification by the grammar of `spec/README.md`.

use std::{fmt, str::FromStr, sync::LazyLock};

use serde::Serialize;

/// The chapters, in the order of the specification.
const CHAPTERS: [&str; 13] = [
    include_str!("../../spec/tenancy.md"),
    include_str!("../../spec/errors.md"),
    include_str!("../../spec/idempotency.md"),
    include_str!("../../spec/agents.md"),
    include_str!("../../spec/runs.md"),
    include_str!("../../spec/streams.md"),
    include_str!("../../spec/models.md"),
    include_str!("../../spec/policy.md"),
    include_str!("../../spec/workers.md"),
    include_str!("../../spec/federation.md"),
    include_str!("../../spec/xmpp.md"),
    include_str!("../../spec/security.md"),
    include_str!("../../spec/operations.md"),
];
const UNCOVERED: &str = include_str!("../../spec/uncovered.txt");

/// How much a requirement obliges (RFC 2119).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// A hub that fails it does not conform.
    Must,
    /// A failure is told and breaks nothing.
    Should,
}

/// Which hubs a requirement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Every hub.
    Core,
    /// Hubs with a model gateway.
    Models,
    /// Hubs with peers.
    Federation,
    /// Hubs whose agents are XMPP contacts.
    Xmpp,
}
impl Profile {
    /// Every profile.
    pub const ALL: [Self; 4] = [Self::Core, Self::Models, Self::Federation, Self::Xmpp];
    /// The word of the specification and of the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Models => "models",
            Self::Federation => "federation",
            Self::Xmpp => "xmpp",
        }
    }
}
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl FromStr for Profile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| format!("`{text}` is none of core, models, federation, xmpp"))
    }
}

/// One numbered requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// `RUN-012`.
    pub id: String,
    /// MUST or SHOULD.
    pub level: Level,
    /// Whom it obliges.
    pub profile: Profile,
    /// The sentence.
    pub text: String,
    /// Where it comes from.
    pub sources: Vec<String>,
    /// `conformance`, `inspection`, or `test <path>::<name>`.
    pub check: String,
}

/// Every requirement of the specification, in its order.
pub fn requirements() -> &'static [Requirement] {
    static ALL: LazyLock<Vec<Requirement>> = LazyLock::new(|| CHAPTERS.iter().flat_map(|text| read(text)).filter_map(Result::ok).collect());
    &ALL
}

/// The ids of requirements that no case judges, each with its reason.
pub fn uncovered() -> impl Iterator<Item = (&'static str, &'static str)> {
    UNCOVERED.lines().filter_map(|line| line.split_once(' ')).filter(|(id, _)| is_id(id))
}

fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 7 && bytes[..3].iter().all(u8::is_ascii_uppercase) && bytes[3] == b'-' && bytes[4..].iter().all(u8::is_ascii_digit)
}

/// The paragraphs of a chapter that begin like a requirement; those that do not keep to the grammar come back as text.
fn read(chapter: &str) -> Vec<Result<Requirement, String>> {
    let paragraphs = chapter.split("\n\n").map(str::trim);
    paragraphs.filter(|text| text.strip_prefix("**").and_then(|rest| rest.get(..7)).is_some_and(is_id)).map(paragraph).collect()
}

fn paragraph(text: &str) -> Result<Requirement, String> {
    let bad = || text.to_owned();
    let (id, rest) = text.strip_prefix("**").and_then(|rest| rest.split_once("** (")).ok_or_else(bad)?;
    let (kind, rest) = rest.split_once(") — ").ok_or_else(bad)?;
    let (level, profile) = kind.split_once(", ").ok_or_else(bad)?;
    let (sentence, source) = rest.rsplit_once("\nSource: ").ok_or_else(bad)?;
    let (sources, check) = source.strip_suffix('.').and_then(|source| source.rsplit_once(". Check: ")).ok_or_else(bad)?;
    let level = match level {
        "MUST" => Level::Must,
        "SHOULD" => Level::Should,
        _ => return Err(bad()),
    };
    let profile = profile.parse().map_err(|_| bad())?;
    if !is_id(id) || !(check == "conformance" || check == "inspection" || check.starts_with("test ")) {
        return Err(bad());
    }
    Ok(Requirement {
        id: id.to_owned(),
        level,
        profile,
        text: sentence.replace('\n', " "),
        sources: sources.split("; ").map(str::to_owned).collect(),
        check: check.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_requirement_keeps_to_the_grammar() {
        let all: Vec<_> = CHAPTERS.iter().flat_map(|text| read(text)).collect();
        assert!(all.len() > 200, "only {} requirements were found", all.len());
        for one in &all {
            let one = one.as_ref().unwrap();
            let (must, should) = (one.text.contains("MUST"), one.text.contains("SHOULD"));
            assert!(if one.level == Level::Must { must && !should } else { should && !must }, "{}: its words are not of its level", one.id);
        }
        // Whatever looks like a requirement has to be one.
        for chapter in CHAPTERS {
            let looks = chapter.lines().filter(|line| line.strip_prefix("**").and_then(|rest| rest.get(..7)).is_some_and(is_id)).count();
            assert_eq!(looks, read(chapter).len(), "a requirement is not a paragraph of its own: {}", &chapter[..40]);
        }
    }

    #[test]
    fn ids_are_unique() {
        let mut seen = BTreeSet::new();
        for one in requirements() {
            assert!(seen.insert(&one.id), "{} is there twice", one.id);
        }
    }

    #[test]
    fn what_no_case_judges_is_listed_with_a_reason_and_nothing_else_is() {
        let listed: BTreeSet<&str> = uncovered().map(|(id, _)| id).collect();
        assert_eq!(listed.len(), uncovered().count(), "an id is listed twice");
        assert!(uncovered().all(|(_, reason)| reason.len() > 10), "a reason is missing");
        let wanted: BTreeSet<&str> = requirements().iter().filter(|one| one.check != "conformance").map(|one| one.id.as_str()).collect();
        assert_eq!(listed, wanted, "spec/uncovered.txt and the `Check:` of the chapters differ");
    }

    #[test]
    fn tests_that_the_chapters_name_exist() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for one in requirements() {
            let Some(test) = one.check.strip_prefix("test ") else { continue };
            let (path, name) = test.split_once("::").unwrap();
            let source = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            // A test of both databases is named by a macro.
            let there = ["fn", "def"].iter().any(|word| source.contains(&format!("{word} {name}(")))
                || source.contains(&format!("both_dbs!({name},"));
            assert!(there, "{}: {path} has no {name}", one.id);
        }
    }
}
