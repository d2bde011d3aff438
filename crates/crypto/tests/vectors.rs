//! The published vectors of canonical JSON (`spec/vectors/canonical.json`) hold.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aiox_crypto::jws::{canonical, read_strict, sha256};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../spec/vectors/canonical.json")).unwrap()
}

fn cases<'a>(vectors: &'a Value, list: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    vectors[list].as_array().unwrap().iter().map(|case| (case["name"].as_str().unwrap(), case))
}

/// As text: another spelling that means the same is another canonical form.
fn canonical_text(input: &str) -> Option<String> {
    let bytes = canonical(&read_strict(input.as_bytes()).ok()?).ok()?;
    Some(String::from_utf8(bytes).unwrap())
}

#[test]
fn every_document_has_its_one_canonical_form() {
    let vectors = vectors();
    let mut wrong = Vec::new();
    for (name, case) in cases(&vectors, "canonical") {
        let (input, output) = (case["input"].as_str().unwrap(), case["output"].as_str().unwrap());
        let found = canonical_text(input);
        if found.as_deref() != Some(output) {
            wrong.push(format!("{name}: {found:?} instead of {output:?}"));
            continue;
        }
        assert_eq!(sha256(output.as_bytes()), case["sha256"].as_str().unwrap(), "{name}");
        assert_eq!(canonical_text(output).as_deref(), Some(output), "{name}: the canonical form is its own");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cases(&vectors, "canonical").count() > 40);
}

#[test]
fn what_readers_may_read_differently_is_refused() {
    let vectors = vectors();
    let taken: Vec<_> = cases(&vectors, "refused").filter(|(_, case)| canonical_text(case["input"].as_str().unwrap()).is_some()).collect();
    assert!(taken.is_empty(), "{taken:#?}");
    assert!(cases(&vectors, "refused").count() > 20);
}
