//! What is committed is what the code says.

use aiox_specgen::{generated, tree};

#[test]
fn the_committed_documents_are_those_of_the_code() {
    let (wanted, there) = (generated(), tree::committed().unwrap());
    let mut differences = Vec::new();
    for (path, text) in &wanted {
        match there.get(path) {
            None => differences.push(format!("{path} is missing")),
            Some(old) if old != text => differences.push(format!("{path}: {}", first_difference(old, text))),
            Some(_) => {}
        }
    }
    differences.extend(there.keys().filter(|path| !wanted.contains_key(*path)).map(|path| format!("{path} is no longer published")));
    assert!(
        differences.is_empty(),
        "rule: generated documents are committed as the code says.\n{}\nRun `make spec` (cargo run -p xtask -- spec), read the diff, commit it.",
        differences.join("\n")
    );
}

fn first_difference(old: &str, new: &str) -> String {
    let place = old.lines().zip(new.lines()).position(|(old, new)| old != new);
    let line = place.unwrap_or_else(|| old.lines().count().min(new.lines().count()));
    format!(
        "line {}: committed {:?}, the code says {:?}",
        line + 1,
        old.lines().nth(line).unwrap_or(""),
        new.lines().nth(line).unwrap_or("")
    )
}

#[test]
fn two_makings_are_the_same_text() {
    assert_eq!(generated(), generated());
}
