//! Every error code that the sources can send is in `spec/errors.md`, and every code in `spec/errors.md` is sent by some source.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What speaks to clients, peers and workers. Load harness, test support and tasks are not part of it.
const SOURCES: [&str; 5] = ["crates", "certs", "federation", "node", "worker"];

fn sources(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !["tests", "testkit", "probe", "target"].contains(&name) {
                sources(&path, out);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            out.push(path);
        }
    }
}

/// The file without its tests (they close it) and without comments.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    lines.join("\n")
}

/// The string literal at the start of `text`.
fn literal(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split('"').next()
}

fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Constructors whose first argument is a code, always as a literal.
const CONSTRUCTORS: [&str; 6] =
    ["Error::conflict(", "Error::forbidden(", "Error::unavailable(", "Self::conflict(", "Self::forbidden(", "Self::unavailable("];
/// What a literal code may stand behind. After the last three comes another argument first.
const PLACES: [&str; 6] = ["code: ", "retry(", "refused(", "problem(StatusCode::", "wait(StatusCode::", "verdict(Verdict::Refused"];
/// Files with a list of codes of the form `Self::Name => "code"`.
const LISTS: [&str; 4] =
    ["crates/app/src/gateway/failure.rs", "crates/core/src/error.rs", "federation/src/envelope.rs", "worker/src/failure.rs"];

/// Codes with the first place that sends each.
fn sent() -> BTreeMap<String, String> {
    let mut files = Vec::new();
    for directory in SOURCES {
        sources(&root().join(directory), &mut files);
    }
    let mut codes = BTreeMap::new();
    for path in files {
        let place = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let text = code_of(&path);
        let mut add = |code: &str| {
            codes.entry(code.to_owned()).or_insert_with(|| place.clone());
        };
        for constructor in CONSTRUCTORS {
            for (at, _) in text.match_indices(constructor) {
                let rest = &text[at + constructor.len()..];
                let found = literal(rest);
                assert!(found.is_some(), "{place}: {constructor} needs a literal code");
                add(found.unwrap());
            }
        }
        for before in PLACES {
            for (at, _) in text.match_indices(before) {
                let rest = &text[at + before.len()..];
                // The status or verdict comes first: the code is behind the comma.
                let rest = if before.contains("::") { rest.split_once(',').map_or("", |(_, rest)| rest) } else { rest };
                if let Some(found) = literal(rest).filter(|found| is_code(found)) {
                    add(found);
                }
            }
        }
        // Failures of the REST door itself.
        for (at, _) in text.match_indices("plain(StatusCode::") {
            if let Some(found) = text[at..].split_once(',').and_then(|(_, rest)| literal(rest)) {
                add(found);
            }
        }
        if LISTS.contains(&place.as_str()) {
            for line in text.lines().filter(|line| line.trim_start().starts_with("Self::")) {
                if let Some(found) = line.split_once("=> ").and_then(|(_, rest)| literal(rest)).filter(|found| is_code(found)) {
                    add(found);
                }
            }
        }
    }
    codes
}

/// The first column of the tables: one code in backticks.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("spec/errors.md")).unwrap();
    let first = |line: &str| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned());
    text.lines().filter_map(first).collect()
}

#[test]
fn every_code_is_documented_and_nothing_else_is() {
    let (sent, documented) = (sent(), documented());
    let mut wrong: Vec<String> =
        sent.iter().filter(|(code, _)| !documented.contains(*code)).map(|(code, place)| format!("{code}, of {place}")).collect();
    wrong.extend(documented.iter().filter(|code| !sent.contains_key(*code)).map(|code| format!("{code}, which no source sends")));
    assert!(wrong.is_empty(), "rule: every error code stands in spec/errors.md, and no other.\n{}", wrong.join("\n"));
}

/// Without this a change of the sources' form would make the test above pass for nothing.
#[test]
fn codes_of_every_kind_are_found() {
    let sent = sent();
    for code in [
        "invalid_request",
        "handle_taken",
        "signup_closed",
        "dependency_unavailable",
        "quota_exceeded",
        "worker_lost",
        "provider_timeout",
        "bad_signature",
        "insufficient_scope",
        "order",
        "too_many_streams",
        "wait_timeout",
        "version_mismatch",
    ] {
        assert!(sent.contains_key(code), "{code}");
    }
}
