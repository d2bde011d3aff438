//! The requirements of the specification, as `spec/requirements.json` has them.

use std::{fmt, str::FromStr, sync::LazyLock};

use serde::{Deserialize, Serialize};

/// Every requirement as data, which a test holds against the chapters.
const REQUIREMENTS: &str = include_str!("../../spec/requirements.json");
const UNCOVERED: &str = include_str!("../../spec/uncovered.txt");

/// How much a requirement obliges (RFC 2119).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// A hub that fails it does not conform.
    Must,
    /// A failure is told and breaks nothing.
    Should,
}

/// Which hubs a requirement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// `RUN-012`.
    pub id: String,
    /// MUST or SHOULD.
    pub level: Level,
    /// Whom it obliges.
    pub profile: Profile,
    /// Whether it obliges only hubs whose operator switched on what it is about: elsewhere it is not run, and nothing is missing.
    pub conditional: bool,
    /// The sentence.
    pub text: String,
    /// Where it comes from.
    #[serde(rename = "source")]
    pub sources: Vec<String>,
    /// `conformance`, `inspection`, or `test <path>::<name>`.
    pub check: String,
}

/// Every requirement of the specification, in its order.
pub fn requirements() -> &'static [Requirement] {
    static ALL: LazyLock<Vec<Requirement>> = LazyLock::new(|| serde_json::from_str(REQUIREMENTS).unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_requirement_is_read() {
        let all: Vec<Requirement> = serde_json::from_str(REQUIREMENTS).unwrap();
        assert!(all.len() > 200, "only {} requirements were found", all.len());
        assert_eq!(requirements(), all);
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
