//! The version of a document that changes: `info.version` (Semantic Versioning 2.0.0) against that of the baseline. Between two releases
//! it is already the version of the next one, so that whatever only adds needs no further change.

use std::fmt;

use serde_json::Value;

use crate::openapi::compatible;

/// How far a document is from its baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing changed.
    Nothing,
    /// Words and examples alone.
    Words,
    /// What clients rely on is still there, and there is more.
    Additive,
    /// Something that clients rely on is gone.
    Breaking,
}

/// A version as its three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u64; 3]);

impl Version {
    fn of(document: &Value) -> Option<Self> {
        let text = document["info"]["version"].as_str()?;
        let numbers: Vec<u64> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        numbers.try_into().ok().map(Self)
    }

    /// The lowest version that the next release may have with this change.
    const fn after(self, change: Change) -> Self {
        let Self([major, minor, _]) = self;
        Self(match change {
            Change::Nothing | Change::Words | Change::Additive => [major, minor + 1, 0],
            Change::Breaking => [major + 1, 0, 0],
        })
    }
}
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// What kind of change it is from the old document to the new one; their versions do not count.
#[must_use]
pub fn change(old: &Value, new: &Value) -> Change {
    let (old, new) = (without_version(old), without_version(new));
    if old == new {
        Change::Nothing
    } else if without_words(&old, false) == without_words(&new, false) {
        Change::Words
    } else if compatible(&old, &new).is_empty() {
        Change::Additive
    } else {
        Change::Breaking
    }
}

/// What is wrong with the version of a document, if its baseline is the old one.
#[must_use]
pub fn problem(old: &Value, new: &Value) -> Option<String> {
    let (Some(before), Some(now)) = (Version::of(old), Version::of(new)) else {
        return Some("info.version is not three numbers with dots between them".into());
    };
    let change = change(old, new);
    let wanted = before.after(change);
    (now < wanted)
        .then(|| format!("the baseline has {before} and the change is {change:?}, so info.version is at least {wanted} and not {now}"))
}

fn without_version(document: &Value) -> Value {
    let mut document = document.clone();
    if let Some(info) = document["info"].as_object_mut() {
        info.shift_remove("version");
    }
    document
}

/// `named`: the members of this object are names that somebody gave, and no keywords.
fn without_words(value: &Value, named: bool) -> Value {
    const WORDS: [&str; 5] = ["description", "summary", "example", "examples", "title"];
    const NAMED: [&str; 4] = ["properties", "patternProperties", "schemas", "$defs"];
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, _)| named || !WORDS.contains(&name.as_str()));
            Value::Object(
                kept.map(|(name, value)| (name.clone(), without_words(value, !named && NAMED.contains(&name.as_str())))).collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| without_words(item, false)).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(version: &str) -> Value {
        json!({
            "info": { "version": version, "title": "x" },
            "paths": { "/a": { "get": { "operationId": "get_a", "summary": "Read", "responses": { "200": { "description": "It." } } } } },
            "components": { "schemas": { "A": { "type": "object", "properties": { "title": { "type": "string" } } } } }
        })
    }

    fn changed(version: &str, pointer: &str, value: Value) -> Value {
        let mut document = document(version);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.into(), value);
        document
    }

    #[test]
    fn each_change_needs_its_number() {
        let words = |version: &str| changed(version, "/paths/~1a/get/summary", json!("Read it"));
        let more = |version: &str| changed(version, "/paths/~1a/put", json!({ "operationId": "put_a", "responses": {} }));
        // A member that is called like a keyword of words is a member all the same.
        let member = |version: &str| changed(version, "/components/schemas/A/properties/title", json!({ "type": "integer" }));
        let less = |version: &str| changed(version, "/paths", json!({}));
        let old = document("1.2.3");
        for (made, wanted, enough, short) in [
            (words as fn(&str) -> Value, Change::Words, ["1.3.0", "2.0.0"], ["1.2.3", "1.2.4"]),
            (more, Change::Additive, ["1.3.0", "2.0.0"], ["1.2.3", "1.2.9"]),
            (member, Change::Additive, ["1.3.0", "2.0.0"], ["1.2.3", "1.2.9"]),
            (less, Change::Breaking, ["2.0.0", "3.1.0"], ["1.2.3", "1.9.9"]),
        ] {
            assert_eq!(change(&old, &made("1.2.3")), wanted);
            for version in enough {
                assert_eq!(problem(&old, &made(version)), None, "{wanted:?} {version}");
            }
            for version in short {
                assert!(problem(&old, &made(version)).is_some(), "{wanted:?} {version}");
            }
        }
    }

    #[test]
    fn behind_a_release_the_version_is_that_of_the_next_one() {
        let old = document("1.2.3");
        assert_eq!(problem(&old, &document("1.3.0")), None);
        assert!(problem(&old, &old).is_some());
        assert!(problem(&old, &document("1.2.2")).is_some());
        for bad in ["1.2", "v1.2.3", "1.2.3.4", ""] {
            assert!(problem(&old, &document(bad)).is_some(), "{bad}");
        }
    }
}
